/* Rows of 8-bit codes on the host: the same bytes as the operation, and which tensors are quantised at all. */
#include "ops/backend.h"
#include "ops/ref/ref.h"
#include "support/test.h"
#include "weights/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 24, COLS = 331 };

/* Rows of many sizes; the first ones are zeros, the smallest numbers, the largest, and codes' halfway points. */
static void fill(float *x)
{
    uint32_t state = 12345;
    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t c = 0; c < COLS; c++) {
            state = state * 1664525U + 1013904223U;
            const float unit = (float)(state >> 8) * 0x1p-23F - 1.0F;
            float value = ldexpf(unit, (int)(r % 12) * 9 - 60);
            if (r == 0) {
                value = c % 2 == 0 ? 0.0F : -0.0F;
            } else if (r == 1) {
                value = unit * 1e-42F;
            } else if (r == 2) {
                value = unit * 3e38F;
            } else if (r == 3) { /* amax 448: the factor is 1, so these are values of e4m3 and points between them */
                value = c == 0 ? -448.0F : (float)(c - 160) * 0x1p-10F;
            } else if (r == 4) {
                value = c == 0 ? 127.0F : (float)(c - 165) * 0.5F;
            } else if (r == 5) { /* a spread of ten powers of ten */
                value = unit * powf(10.0F, (float)(c % 10) - 9.0F);
            }
            x[r * COLS + c] = value;
        }
    }
}

static void check_format(sky_dtype format, sky_ctx *ctx, float *x)
{
    static uint8_t codes[ROWS * COLS];
    static uint8_t want[ROWS * COLS];
    float scale[ROWS];
    float want_scale[ROWS];
    test_parameters("%s on %s", sky_dtype_name(format), ctx->backend->name);
    sky_quantize_host_rows(format, ROWS, COLS, x, codes, scale);
    CHECK_OK(sky_quantize_rows(ctx, &(sky_quantize_rows_args){.codes = SKY_TENSOR(want, format, ROWS, COLS),
                                                              .scale = SKY_TENSOR(want_scale, SKY_F32, ROWS),
                                                              .x = SKY_TENSOR(x, SKY_F32, ROWS, COLS)}));
    for (int64_t r = 0; r < ROWS; r++) {
        CHECK(scale[r] == want_scale[r] && scale[r] > 0.0F);
        for (int64_t c = 0; c < COLS; c++) {
            const int64_t i = r * COLS + c;
            if (codes[i] != want[i]) {
                test_fail(__FILE__, __LINE__, "row %d, column %d, value %.9g: want code %02x, got %02x", (int)r, (int)c,
                          (double)x[i], want[i], codes[i]);
                return;
            }
        }
    }
    for (int64_t c = 0; c < COLS; c++) {
        CHECK((codes[c] & 0x7f) == 0); /* zeros stay zeros */
    }
}

TEST(the_bytes_are_those_of_the_operation)
{
    static float x[ROWS * COLS];
    sky_ctx ref = {.backend = sky_backend_ref()};
    fill(x);
    check_format(SKY_F8_E4M3, &ref, x);
    check_format(SKY_I8, &ref, x);
}

TEST(codes_stand_for_the_nearest_values)
{
    const float x[8] = {448.0F, -448.0F, 1.0F, 1.0625F, 1.1875F, 0x1p-9F, 0x1p-10F, 3.0F * 0x1p-10F};
    const float want[8] = {448.0F, -448.0F, 1.0F, 1.0F, 1.25F, 0x1p-9F, 0.0F, 0x1p-8F};
    uint8_t codes[8];
    float scale;
    sky_quantize_host_rows(SKY_F8_E4M3, 1, 8, x, codes, &scale);
    CHECK(scale == 1.0F);
    for (int i = 0; i < 8; i++) {
        CHECK(sky_code_value(SKY_F8_E4M3, codes[i]) == want[i]);
    }
    const float y[8] = {-127.0F, 0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 126.4F, 0.0F};
    const float want_y[8] = {-127.0F, 0.0F, 2.0F, 2.0F, 0.0F, -2.0F, 126.0F, 0.0F};
    sky_quantize_host_rows(SKY_I8, 1, 8, y, codes, &scale);
    CHECK(scale == 1.0F);
    for (int i = 0; i < 8; i++) {
        CHECK(sky_code_value(SKY_I8, codes[i]) == want_y[i]);
    }
}

TEST(the_ten_linear_layers_of_a_block_are_quantised_and_nothing_else)
{
    static const char *const no[] = {"blocks.0.self_attn.q.bias",
                                     "blocks.0.self_attn.norm_q.weight",
                                     "blocks.0.cross_attn.k_img.weight",
                                     "blocks.0.ffn.1.weight",
                                     "blocks.0.ffn.0.weight.scale",
                                     "blocks.00.ffn.0.weight",
                                     "blocks..ffn.0.weight",
                                     "blocks.0.modulation",
                                     "xblocks.0.ffn.0.weight",
                                     "head.head.weight",
                                     "blocks.0.self_attn.weight",
                                     "blocks.1234567.ffn.0.weight",
                                     "text_embedding.0.weight",
                                     ""};
    for (int part = 0; part < SKY_BLOCK_LINEARS; part++) {
        char name[64];
        int64_t block = -1;
        int found = -1;
        snprintf(name, sizeof name, "blocks.39.%s.weight", sky_block_linear_name(part));
        CHECK(sky_is_block_linear(name, &block, &found) && block == 39 && found == part);
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        test_parameters("%s", no[i]);
        CHECK(!sky_is_block_linear(no[i], NULL, NULL));
    }
}

TEST(blocks_of_rows_fit_their_room)
{
    CHECK(sky_quantize_block_rows(1) == SKY_QUANTIZE_BLOCK_BYTES / 4);
    CHECK(sky_quantize_block_rows(5120) * 5120 * 4 <= SKY_QUANTIZE_BLOCK_BYTES);
    CHECK(sky_quantize_block_rows((int64_t)1 << 40) == 1);
}

TEST_MAIN
