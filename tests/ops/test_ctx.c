#include "ops/rig.h"

#include "support/test.h"

#include <string.h>

TEST(tensors_come_from_the_arena_and_carry_data)
{
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        float back[6] = {0};
        static const float values[] = {1, 2, 3, 4, 5, 6};
        sky_tensor x;
        sky_tensor y;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        CHECK_OK(sky_ctx_tensor(&r.ctx, &x, SKY_F32, 2, (int64_t[]){2, 3}));
        CHECK_OK(sky_ctx_tensor(&r.ctx, &y, SKY_F32, 1, (int64_t[]){6}));
        EXPECT(!sky_ctx_planning(&r.ctx) && x.num_dims == 2 && x.shape[1] == 3 && x.data != y.data);
        CHECK_OK(sky_ctx_upload(&r.ctx, &x, values));
        CHECK_OK(sky_ctx_copy(&r.ctx, &y, &x));
        CHECK_OK(sky_ctx_zero(&r.ctx, &x));
        CHECK_OK(sky_ctx_sync(&r.ctx));
        CHECK_OK(sky_ctx_download(&r.ctx, back, &y));
        EXPECT(memcmp(back, values, sizeof back) == 0);
        CHECK_OK(sky_ctx_download(&r.ctx, back, &x));
        EXPECT(back[0] == 0.0F && back[5] == 0.0F);
        rig_close(&r);
    }
}

TEST(contexts_refuse)
{
    rig r;
    sky_tensor x;
    sky_tensor y;
    CHECK(rig_open(&r, test_backend_at(0), 0, 1024));
    CHECK_OK(sky_ctx_tensor(&r.ctx, &x, SKY_F32, 1, (int64_t[]){6}));
    y = x;
    y.shape[0] = 5;
    CHECK_STATUS(sky_ctx_copy(&r.ctx, &y, &x), SKY_ERR_SHAPE);
    y.dtype = SKY_BF16;
    CHECK_STATUS(sky_ctx_copy(&r.ctx, &y, &x), SKY_ERR_DTYPE);
    y = x;
    y.data = (float *)x.data + 1;
    CHECK_STATUS(sky_ctx_copy(&r.ctx, &y, &x), SKY_ERR_INTERNAL);
    CHECK_STATUS(sky_ctx_tensor(&r.ctx, &y, SKY_F32, 1, (int64_t[]){-1}), SKY_ERR_SHAPE);
    CHECK_STATUS(sky_ctx_tensor(&r.ctx, &y, SKY_F32, 2, (int64_t[]){INT64_MAX, 3}), SKY_ERR_SHAPE);
    CHECK_STATUS(sky_ctx_tensor(&r.ctx, &y, SKY_F32, SKY_MAX_DIMS + 1, (int64_t[]){1, 1, 1, 1, 1, 1, 1}),
                 SKY_ERR_SHAPE);
    CHECK_STATUS(sky_ctx_tensor(&r.ctx, &y, (sky_dtype)99, 1, (int64_t[]){1}), SKY_ERR_DTYPE);
    CHECK_STATUS(sky_ctx_tensor(&r.ctx, &y, SKY_F32, 1, (int64_t[]){1024}), SKY_ERR_NOMEM);
    EXPECT(strstr(sky_message(), "[1024] f32: activation arena") != NULL);
    EXPECT(y.data == (float *)x.data + 1); /* untouched by the failures */
    rig_close(&r);
}

TEST(planning_counts_and_touches_nothing)
{
    rig r;
    sky_tensor x;
    sky_tensor y;
    CHECK(rig_open(&r, test_backend_at(0), 0, 0));
    CHECK_OK(sky_ctx_tensor(&r.ctx, &x, SKY_F32, 2, (int64_t[]){64, 64}));
    CHECK_OK(sky_ctx_tensor(&r.ctx, &y, SKY_F32, 2, (int64_t[]){64, 64}));
    EXPECT(sky_ctx_planning(&r.ctx));
    CHECK_OK(sky_ctx_upload(&r.ctx, &x, NULL));
    CHECK_OK(sky_ctx_download(&r.ctx, NULL, &x));
    CHECK_OK(sky_ctx_copy(&r.ctx, &y, &x));
    CHECK_OK(sky_ctx_zero(&r.ctx, &x));
    CHECK_OK(sky_ctx_sync(&r.ctx));
    /* weights need not be loaded to plan; shapes are checked all the same */
    const size_t before = r.arena.used_bytes;
    CHECK_OK(sky_linear(&r.ctx, &(sky_linear_args){.y = y, .x = x, .weight = SKY_TENSOR(NULL, SKY_F32, 64, 64)}));
    EXPECT(r.arena.used_bytes == before);
    EXPECT(r.arena.peak_bytes == before + 64 * sizeof(double)); /* the reference's scratch: one row of the weight */
    CHECK_STATUS(sky_linear(&r.ctx, &(sky_linear_args){.y = y, .x = x, .weight = SKY_TENSOR(NULL, SKY_F32, 64, 63)}),
                 SKY_ERR_SHAPE);
    rig_close(&r);
}

TEST(scratch_that_does_not_fit_is_said)
{
    static float memory[3][4096];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, 256));
    const sky_linear_args args = {.y = SKY_TENSOR(memory[0], SKY_F32, 1, 1),
                                  .x = SKY_TENSOR(memory[1], SKY_F32, 1, 4096),
                                  .weight = SKY_TENSOR(memory[2], SKY_F32, 1, 4096)};
    CHECK_STATUS(sky_linear(&r.ctx, &args), SKY_ERR_NOMEM);
    EXPECT(strstr(sky_message(), "linear: scratch: activation arena: 32768 bytes") == sky_message());
    EXPECT(r.arena.used_bytes == 0);
    r.ctx.arena = NULL;
    CHECK_STATUS(sky_linear(&r.ctx, &args), SKY_ERR_INTERNAL);
    rig_close(&r);
}

TEST(an_op_that_a_backend_lacks_is_named)
{
    static float memory[2][4];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, 256));
    sky_backend poorer = *r.ctx.backend;
    poorer.name = "poorer";
    poorer.convert = NULL;
    const sky_backend *whole = r.ctx.backend;
    r.ctx.backend = &poorer;
    CHECK_STATUS(
        sky_convert(&r.ctx, &(sky_convert_args){SKY_TENSOR(memory[0], SKY_F32, 4), SKY_TENSOR(memory[1], SKY_F32, 4)}),
        SKY_ERR_UNSUPPORTED);
    EXPECT(strcmp(sky_message(), "backend poorer has no convert") == 0);
    r.ctx.backend = whole;
    rig_close(&r);
}

TEST_MAIN
