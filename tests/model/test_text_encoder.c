#include "model/text_encoder.h"

#include "model/fixture.h"
#include "support/compare.h"
#include "support/golden.h"
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 64 << 20 };

static const double golden_tolerance = 1e-4;

/* What the published expression gives: 16 (r > 0) + min(15, 8 + trunc(ln(d / 8) / ln(16) * 8)), in f32. */
static int bucket_by_formula(int64_t r)
{
    const int half = r > 0 ? 16 : 0;
    const int64_t d = r < 0 ? -r : r;
    if (d < 8) {
        return half + (int)d;
    }
    const int large = 8 + (int)(logf((float)d / 8.0F) / logf(16.0F) * 8.0F);
    return half + (large < 15 ? large : 15);
}

TEST(buckets_are_the_published_ones)
{
    for (int64_t r = -600; r <= 600; r++) {
        test_parameters("r=%d", (int)r);
        CHECK(sky_text_encoder_bucket(r) == bucket_by_formula(r));
    }
    CHECK(sky_text_encoder_bucket(0) == 0 && sky_text_encoder_bucket(-1) == 1 && sky_text_encoder_bucket(1) == 17);
    CHECK(sky_text_encoder_bucket(-91) == 15 && sky_text_encoder_bucket(91) == 31);
}

typedef struct blocks_seen {
    int num;
} blocks_seen;

static sky_status compare_block(void *user, sky_ctx *ctx, const char *name, const sky_tensor *value)
{
    (void)ctx;
    blocks_seen *seen = user;
    golden_array want = {0};
    char path[64];
    snprintf(path, sizeof path, "0/block_%d", seen->num++);
    if (!golden_read_f32("t5.h5", path, &want)) {
        return SKY_OK;
    }
    float *got = fixture_to_f32(value);
    EXPECT(want.count == (size_t)sky_tensor_len(value));
    (void)test_close(__FILE__, __LINE__, name, got, want.data, want.count, golden_tolerance);
    free(got);
    golden_free(&want);
    return SKY_OK;
}

static void check_text(fixture *f, const sky_text_encoder *encoder, const char *text)
{
    golden_array ids = {0};
    golden_array want = {0};
    char name[32];
    int32_t ids32[SKY_TEXT_LEN];
    float *out = calloc((size_t)(SKY_TEXT_LEN * sky_text_encoder_dim(encoder)), sizeof *out);
    blocks_seen seen = {0};
    const sky_observer observer = {.see = compare_block, .user = &seen};

    snprintf(name, sizeof name, "%s/ids", text);
    CHECK(golden_read_i64("t5.h5", name, &ids));
    snprintf(name, sizeof name, "%s/out", text);
    CHECK(golden_read_f32("t5.h5", name, &want));
    for (size_t i = 0; i < ids.count; i++) {
        ids32[i] = (int32_t)((int64_t *)ids.data)[i];
    }
    CHECK_OK(sky_text_encoder_encode(
        &f->ctx, encoder,
        &(sky_text_encode_args){.ids = ids32,
                                .num_ids = (int64_t)ids.count,
                                .out = SKY_TENSOR(out, SKY_F32, SKY_TEXT_LEN, sky_text_encoder_dim(encoder)),
                                .observer = strcmp(text, "0") == 0 ? &observer : NULL}));
    CHECK_CLOSE("out", out, want.data, want.count, golden_tolerance);
    for (size_t i = want.count; i < (size_t)(SKY_TEXT_LEN * sky_text_encoder_dim(encoder)); i++) {
        CHECK(out[i] == 0.0F);
    }
    EXPECT(seen.num == (strcmp(text, "0") == 0 ? 3 : 0));
    golden_free(&ids);
    golden_free(&want);
    free(out);
}

TEST(equals_the_published_encoder)
{
    for (int backend = 0; backend < FIXTURE_NUM_BACKENDS; backend++) {
        fixture f;
        sky_text_encoder *encoder = NULL;
        CHECK_OK(fixture_open(&f, backend, FIXTURE_ORIGINAL, SKY_TEXT_ENCODER, ARENA_BYTES));
        CHECK_OK(sky_text_encoder_create(&f.ctx, f.weights, SKY_F32, false, &encoder));
        for (char text[2] = "0"; text[0] < '4'; text[0]++) {
            test_parameters("%s text %s", fixture_backend_name(backend), text);
            check_text(&f, encoder, text);
        }
        sky_text_encoder_destroy(&encoder);
        fixture_close(&f);
    }
}

/* The golden table of block 0: [heads, 200 queries, every 25th of 200 keys]. */
TEST(bias_table_is_the_published_one)
{
    fixture f;
    golden_array want = {0};
    sky_tensor table = {0};
    CHECK_OK(fixture_open(&f, FIXTURE_REF, FIXTURE_ORIGINAL, SKY_TEXT_ENCODER, ARENA_BYTES));
    CHECK(golden_read_f32("t5.h5", "bias/0", &want));
    CHECK_OK(sky_weights_get(f.weights, "blocks.0.pos_embedding.embedding.weight",
                             &(sky_weight_request){.dtype = SKY_F32, .num_dims = 2, .shape = {32, want.shape[0]}},
                             &table));
    const float *values = want.data;
    for (int64_t head = 0; head < want.shape[0]; head++) {
        for (int64_t m = 0; m < want.shape[1]; m++) {
            for (int64_t n = 0; n < want.shape[2]; n++) {
                const int bucket = sky_text_encoder_bucket(25 * n - m);
                CHECK(((const float *)table.data)[bucket * want.shape[0] + head] == *values++);
            }
        }
    }
    golden_free(&want);
    fixture_close(&f);
}

TEST(bf16_stays_near_f32)
{
    const int32_t ids[] = {5, 300, 17, 990, 42, 1};
    enum { NUM_IDS = sizeof ids / sizeof ids[0] };
    float *outs[2] = {NULL, NULL};
    int64_t dim = 0;
    for (int i = 0; i < 2; i++) {
        fixture f;
        sky_text_encoder *encoder = NULL;
        const sky_dtype compute = i == 0 ? SKY_F32 : SKY_BF16;
        CHECK_OK(fixture_open(&f, FIXTURE_CPU, FIXTURE_ORIGINAL, SKY_TEXT_ENCODER, ARENA_BYTES));
        CHECK_OK(sky_text_encoder_create(&f.ctx, f.weights, compute, false, &encoder));
        dim = sky_text_encoder_dim(encoder);
        sky_tensor out = {0};
        CHECK_OK(sky_ctx_tensor(&f.ctx, &out, compute, 2, (int64_t[]){SKY_TEXT_LEN, dim}));
        CHECK_OK(sky_text_encoder_encode(&f.ctx, encoder,
                                         &(sky_text_encode_args){.ids = ids, .num_ids = NUM_IDS, .out = out}));
        outs[i] = fixture_to_f32(&out);
        sky_text_encoder_destroy(&encoder);
        fixture_close(&f);
    }
    const double error = test_relative_error(outs[1], outs[0], (size_t)(NUM_IDS * dim));
    test_parameters("error %.4f", error);
    EXPECT(error > 1e-4); /* it is another arithmetic */
    EXPECT(error < 0.02); /* three blocks of 2^-9 roundings */
    free(outs[0]);
    free(outs[1]);
}

/* Weights kept in e4m3, arithmetic as before: the error is that of the codes, 2^-4 at most a weight. */
TEST(fp8_storage_is_near_and_half_the_size)
{
    const int32_t ids[] = {5, 300, 17, 990, 42, 1};
    enum { NUM_IDS = sizeof ids / sizeof ids[0] };
    float *outs[2] = {NULL, NULL};
    uint64_t bytes[2];
    int64_t dim = 0;
    for (int i = 0; i < 2; i++) {
        fixture f;
        sky_text_encoder *encoder = NULL;
        sky_tensor out = {0};
        CHECK_OK(fixture_open(&f, FIXTURE_CPU, FIXTURE_ORIGINAL, SKY_TEXT_ENCODER, ARENA_BYTES));
        CHECK_OK(sky_text_encoder_create(&f.ctx, f.weights, SKY_BF16, i == 1, &encoder));
        bytes[i] = sky_weights_bytes(f.weights);
        dim = sky_text_encoder_dim(encoder);
        CHECK_OK(sky_ctx_tensor(&f.ctx, &out, SKY_BF16, 2, (int64_t[]){SKY_TEXT_LEN, dim}));
        CHECK_OK(sky_text_encoder_encode(&f.ctx, encoder,
                                         &(sky_text_encode_args){.ids = ids, .num_ids = NUM_IDS, .out = out}));
        outs[i] = fixture_to_f32(&out);
        sky_text_encoder_destroy(&encoder);
        fixture_close(&f);
    }
    const double error = test_relative_error(outs[1], outs[0], (size_t)(NUM_IDS * dim));
    test_parameters("error %.4f", error);
    EXPECT(error > 1e-3 && error < 0.06);
    EXPECT(bytes[1] < bytes[0] * 7 / 10); /* the embedding stays as it is */
    free(outs[0]);
    free(outs[1]);
}

TEST(ids_and_lengths_out_of_range_are_refused)
{
    fixture f;
    sky_text_encoder *encoder = NULL;
    CHECK_OK(fixture_open(&f, FIXTURE_REF, FIXTURE_DIFFUSERS, SKY_TEXT_ENCODER, ARENA_BYTES));
    CHECK_OK(sky_text_encoder_create(&f.ctx, f.weights, SKY_F32, false, &encoder));
    float *out = calloc((size_t)(SKY_TEXT_LEN * sky_text_encoder_dim(encoder)), sizeof *out);
    const int32_t too_large = (int32_t)sky_text_encoder_vocab_size(encoder);
    sky_text_encode_args args = {.ids = (int32_t[]){1},
                                 .num_ids = 1,
                                 .out = SKY_TENSOR(out, SKY_F32, SKY_TEXT_LEN, sky_text_encoder_dim(encoder))};
    CHECK_OK(sky_text_encoder_encode(&f.ctx, encoder, &args));
    args.ids = &too_large;
    CHECK_STATUS(sky_text_encoder_encode(&f.ctx, encoder, &args), SKY_ERR_USAGE);
    args.ids = (int32_t[]){-1};
    CHECK_STATUS(sky_text_encoder_encode(&f.ctx, encoder, &args), SKY_ERR_USAGE);
    args.num_ids = 0;
    CHECK_STATUS(sky_text_encoder_encode(&f.ctx, encoder, &args), SKY_ERR_USAGE);
    args.num_ids = SKY_TEXT_LEN + 1;
    CHECK_STATUS(sky_text_encoder_encode(&f.ctx, encoder, &args), SKY_ERR_USAGE);
    free(out);
    sky_text_encoder_destroy(&encoder);
    sky_text_encoder_destroy(&encoder);
    fixture_close(&f);
}

TEST_MAIN
