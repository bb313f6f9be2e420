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
    CHECK_STATUS(sky_convert(&r.ctx, &(sky_convert_args){.y = SKY_TENSOR(memory[0], SKY_F32, 4),
                                                         .x = SKY_TENSOR(memory[1], SKY_F32, 4)}),
                 SKY_ERR_UNSUPPORTED);
    EXPECT(strcmp(sky_message(), "backend poorer has no convert") == 0);
    r.ctx.backend = whole;
    rig_close(&r);
}

/* A backend whose add fails, and whose other functions count how often they are called. */
static int num_adds;
static int num_others;

static sky_status failing_add(sky_ctx *ctx, const sky_add_args *args, void *scratch)
{
    (void)ctx;
    (void)args;
    (void)scratch;
    return sky_fail(SKY_ERR_DEVICE, "the device went away, time %d", ++num_adds);
}

static sky_status counting_move(void *device, void *to, const void *from, size_t bytes)
{
    num_others++;
    return sky_backend_at(0)->copy(device, to, from, bytes);
}

static sky_status counting_zero(void *device, void *to, size_t bytes)
{
    num_others++;
    return sky_backend_at(0)->zero(device, to, bytes);
}

static sky_status counting_sync(void *device)
{
    (void)device;
    num_others++;
    return SKY_OK;
}

static sky_status counting_linear(sky_ctx *ctx, const sky_linear_args *args, void *scratch)
{
    num_others++;
    return sky_backend_at(0)->linear(ctx, args, scratch);
}

static sky_backend failing_backend(void)
{
    sky_backend backend = *sky_backend_at(0);
    backend.add = failing_add;
    backend.linear = counting_linear;
    backend.upload = counting_move;
    backend.download = counting_move;
    backend.copy = counting_move;
    backend.zero = counting_zero;
    backend.sync = counting_sync;
    num_adds = 0;
    num_others = 0;
    return backend;
}

/* All that a context offers, once. */
static sky_status use_everything(sky_ctx *ctx, float *host)
{
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor x;
    sky_tensor y;
    SKY_TRY(sky_ctx_tensor(ctx, &x, SKY_F32, 2, (int64_t[]){2, 2}));
    SKY_TRY(sky_ctx_tensor(ctx, &y, SKY_F32, 2, (int64_t[]){2, 2}));
    SKY_TRY(sky_ctx_upload(ctx, &x, host));
    SKY_TRY(sky_ctx_copy(ctx, &y, &x));
    SKY_TRY(sky_ctx_zero(ctx, &y));
    SKY_TRY(sky_linear(ctx, &(sky_linear_args){.y = y, .x = x, .weight = x}));
    SKY_TRY(sky_ctx_download(ctx, host, &y));
    SKY_TRY(sky_ctx_sync(ctx));
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

static sky_status add_four(sky_ctx *ctx)
{
    static float memory[2][4];
    const sky_tensor a = SKY_TENSOR(memory[1], SKY_F32, 4);
    return sky_add(ctx, &(sky_add_args){.y = SKY_TENSOR(memory[0], SKY_F32, 4), .a = a, .b = a});
}

TEST(a_held_failure_stops_the_work_and_is_returned_at_the_end)
{
    rig r;
    sky_held held;
    float host[4] = {1, 2, 3, 4};
    CHECK(rig_open(&r, test_backend_at(0), 0, 4096));
    const sky_backend *whole = r.ctx.backend;
    const sky_backend failing = failing_backend();
    r.ctx.backend = &failing;

    CHECK_STATUS(add_four(&r.ctx), SKY_ERR_DEVICE); /* without a hold, and nothing to release */
    EXPECT(sky_ctx_release(&r.ctx) == SKY_OK && !sky_ctx_failed(&r.ctx));

    sky_ctx_hold(&r.ctx, &held);
    CHECK_OK(use_everything(&r.ctx, host)); /* works as ever until something fails */
    EXPECT(num_others == 6 && host[0] == 5.0F && host[3] == 25.0F && !sky_ctx_failed(&r.ctx));
    CHECK_OK(add_four(&r.ctx));
    EXPECT(sky_ctx_failed(&r.ctx) && num_adds == 2);
    CHECK_OK(add_four(&r.ctx)); /* is not even tried, nor is anything else */
    CHECK_OK(use_everything(&r.ctx, host));
    EXPECT(num_adds == 2 && num_others == 6 && host[0] == 5.0F && r.arena.used_bytes == 0);
    EXPECT(sky_fail(SKY_ERR_IO, "something else") == SKY_ERR_IO);
    CHECK_STATUS(sky_ctx_release(&r.ctx), SKY_ERR_DEVICE);
    EXPECT(strcmp(sky_message(), "the device went away, time 2") == 0);

    EXPECT(!sky_ctx_failed(&r.ctx)); /* the hold is over: work and failures are what they were */
    CHECK_OK(use_everything(&r.ctx, host));
    EXPECT(num_others == 12);
    CHECK_STATUS(add_four(&r.ctx), SKY_ERR_DEVICE);
    sky_ctx_hold(&r.ctx, &held);
    EXPECT(!sky_ctx_failed(&r.ctx) && sky_ctx_release(&r.ctx) == SKY_OK);
    r.ctx.backend = whole;
    rig_close(&r);
}

TEST(mistakes_are_not_held_back)
{
    static float memory[3][64];
    rig r;
    sky_held held;
    sky_tensor x;
    CHECK(rig_open(&r, test_backend_at(0), 0, 256));
    const sky_backend *whole = r.ctx.backend;
    sky_backend failing = failing_backend();
    failing.convert = NULL;
    r.ctx.backend = &failing;
    const sky_tensor four = SKY_TENSOR(memory[0], SKY_F32, 4);
    const sky_tensor five = SKY_TENSOR(memory[1], SKY_F32, 5);
    const sky_linear_args large = {.y = SKY_TENSOR(memory[0], SKY_F32, 1, 1),
                                   .x = SKY_TENSOR(memory[1], SKY_F32, 1, 64),
                                   .weight = SKY_TENSOR(memory[2], SKY_F32, 1, 64)};
    sky_ctx_hold(&r.ctx, &held);
    for (int failed = 0; failed < 2; failed++) {
        CHECK_STATUS(sky_add(&r.ctx, &(sky_add_args){.y = four, .a = five, .b = five}), SKY_ERR_SHAPE);
        CHECK_STATUS(sky_convert(&r.ctx, &(sky_convert_args){.y = SKY_TENSOR(memory[2], SKY_F32, 5), .x = five}),
                     SKY_ERR_UNSUPPORTED);
        CHECK_STATUS(sky_ctx_copy(&r.ctx, &four, &five), SKY_ERR_SHAPE);
        CHECK_STATUS(sky_ctx_copy(&r.ctx, &SKY_TENSOR(memory[1] + 1, SKY_F32, 5), &five), SKY_ERR_INTERNAL);
        CHECK_STATUS(sky_ctx_tensor(&r.ctx, &x, SKY_F32, 1, (int64_t[]){65}), SKY_ERR_NOMEM);
        CHECK_STATUS(sky_linear(&r.ctx, &large), SKY_ERR_NOMEM);
        EXPECT(sky_ctx_failed(&r.ctx) == (failed != 0));
        CHECK_OK(add_four(&r.ctx));
    }
    CHECK_STATUS(sky_ctx_release(&r.ctx), SKY_ERR_DEVICE);
    r.ctx.backend = whole;
    rig_close(&r);
}

/* A backend whose linear takes up to two rows, with a row of scratch for each, and counts how often it is asked. */
static int num_plans;

static sky_status linear_of_two_rows(sky_ctx *ctx, const sky_linear_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    num_plans++;
    EXPECT(*scratch_bytes == 0);
    if (args->x.shape[0] > 2) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "linear: %lld rows, at most 2", (long long)args->x.shape[0]);
    }
    *scratch_bytes = (size_t)args->x.shape[0] * SKY_ARENA_ALIGNMENT_BYTES;
    return SKY_OK;
}

TEST(a_plan_refuses_when_planning_and_when_computing)
{
    static float memory[3][16];
    const sky_linear_args two = {.y = SKY_TENSOR(memory[0], SKY_F32, 2, 1),
                                 .x = SKY_TENSOR(memory[1], SKY_F32, 2, 4),
                                 .weight = SKY_TENSOR(memory[2], SKY_F32, 1, 4)};
    sky_linear_args three = two;
    three.y.shape[0] = 3;
    three.x.shape[0] = 3;
    for (int planning = 0; planning < 2; planning++) {
        rig r;
        sky_held held;
        test_parameters("planning=%d", planning);
        CHECK(rig_open(&r, test_backend_at(0), 0, planning ? 0 : 4096));
        const sky_backend *whole = r.ctx.backend;
        sky_backend choosy = failing_backend();
        choosy.linear_plan = linear_of_two_rows;
        num_plans = 0;
        r.ctx.backend = &choosy;
        CHECK_STATUS(sky_linear(&r.ctx, &three), SKY_ERR_UNSUPPORTED);
        EXPECT(strcmp(sky_message(), "linear: 3 rows, at most 2") == 0);
        EXPECT(num_plans == 1 && num_others == 0 && r.arena.peak_bytes == 0);
        CHECK_OK(sky_linear(&r.ctx, &two));
        CHECK_OK(sky_linear(&r.ctx, &two)); /* asked every time */
        EXPECT(num_plans == 3 && num_others == (planning ? 0 : 2) && r.arena.used_bytes == 0);
        EXPECT(r.arena.peak_bytes == (size_t)2 * SKY_ARENA_ALIGNMENT_BYTES);

        sky_ctx_hold(&r.ctx, &held); /* a rank that meets it alone passes by the others' exchanges */
        CHECK_OK(sky_linear(&r.ctx, &three));
        EXPECT(sky_ctx_failed(&r.ctx) && num_others == (planning ? 0 : 2));
        CHECK_STATUS(sky_ctx_release(&r.ctx), SKY_ERR_UNSUPPORTED);
        EXPECT(strcmp(sky_message(), "linear: 3 rows, at most 2") == 0);
        r.ctx.backend = whole;
        rig_close(&r);
    }
}

static sky_status no_move(void *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    (void)to;
    (void)from;
    return sky_fail(SKY_ERR_DEVICE, "%zu bytes did not move", bytes);
}

static sky_status no_zero(void *device, void *to, size_t bytes)
{
    return no_move(device, to, NULL, bytes);
}

static sky_status no_sync(void *device)
{
    (void)device;
    return sky_fail(SKY_ERR_DEVICE, "an earlier failure");
}

TEST(copies_and_the_sync_are_held_back_too)
{
    float host[2] = {0};
    rig r;
    sky_tensor x;
    sky_tensor y;
    CHECK(rig_open(&r, test_backend_at(0), 0, 1024));
    CHECK_OK(sky_ctx_tensor(&r.ctx, &x, SKY_F32, 1, (int64_t[]){2}));
    CHECK_OK(sky_ctx_tensor(&r.ctx, &y, SKY_F32, 1, (int64_t[]){2}));
    const sky_backend *whole = r.ctx.backend;
    sky_backend failing = *whole;
    failing.upload = no_move;
    failing.download = no_move;
    failing.copy = no_move;
    failing.zero = no_zero;
    failing.sync = no_sync;
    r.ctx.backend = &failing;
    for (int i = 0; i < 5; i++) {
        sky_held held;
        test_parameters("i=%d", i);
        sky_ctx_hold(&r.ctx, &held);
        EXPECT((i == 0   ? sky_ctx_upload(&r.ctx, &x, host)
                : i == 1 ? sky_ctx_download(&r.ctx, host, &x)
                : i == 2 ? sky_ctx_copy(&r.ctx, &y, &x)
                : i == 3 ? sky_ctx_zero(&r.ctx, &x)
                         : sky_ctx_sync(&r.ctx)) == SKY_OK);
        EXPECT(sky_ctx_release(&r.ctx) == SKY_ERR_DEVICE);
        EXPECT(strcmp(sky_message(), i == 4 ? "an earlier failure" : "8 bytes did not move") == 0);
    }
    r.ctx.backend = whole;
    rig_close(&r);
}

TEST(a_failure_from_elsewhere_can_be_kept)
{
    sky_ctx ctx = {0};
    sky_held held;
    CHECK_STATUS(sky_ctx_keep(&ctx, sky_fail(SKY_ERR_IO, "a disk")), SKY_ERR_IO);
    sky_ctx_hold(&ctx, &held);
    CHECK_OK(sky_ctx_keep(&ctx, SKY_OK));
    EXPECT(!sky_ctx_failed(&ctx));
    CHECK_OK(sky_ctx_keep(&ctx, sky_fail(SKY_ERR_IO, "a disk that is full")));
    CHECK_OK(sky_ctx_keep(&ctx, sky_fail(SKY_ERR_DEVICE, "a second thing")));
    CHECK_STATUS(sky_ctx_release(&ctx), SKY_ERR_IO);
    EXPECT(strcmp(sky_message(), "a disk that is full") == 0);
}

TEST_MAIN
