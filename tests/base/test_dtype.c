#include "base/dtype.h"
#include "support/test.h"

#include <math.h>

TEST(every_f16_survives_the_round_trip)
{
    for (uint32_t bits = 0; bits < 0x10000U; bits++) {
        const float x = sky_f16_to_f32((uint16_t)bits);
        if (isnan(x)) {
            EXPECT(isnan(sky_f16_to_f32(sky_f32_to_f16(x))));
        } else {
            test_parameters("bits=0x%04x", bits);
            CHECK(sky_f32_to_f16(x) == bits);
        }
    }
}

TEST(f16_rounds_to_nearest_even)
{
    CHECK(sky_f32_to_f16(1.0F + 0x1p-11F) == 0x3c00U); /* half way, even below */
    CHECK(sky_f32_to_f16(1.0F + 0x3p-11F) == 0x3c02U); /* half way, even above */
    CHECK(sky_f32_to_f16(65520.0F) == 0x7c00U);
    CHECK(sky_f32_to_f16(65519.0F) == 0x7bffU);
    CHECK(sky_f32_to_f16(0x1p-25F) == 0x0000U);
    CHECK(sky_f32_to_f16(0x1.8p-25F) == 0x0001U);
    CHECK(sky_f32_to_f16(-0x1p-24F) == 0x8001U);
}

TEST(bf16_rounds_to_nearest_even_and_keeps_nan)
{
    CHECK(sky_f32_to_bf16(1.0F + 0x1p-8F) == 0x3f80U);
    CHECK(sky_f32_to_bf16(1.0F + 0x3p-8F) == 0x3f82U);
    CHECK(sky_f32_to_bf16(3.4e38F) == 0x7f80U);
    CHECK(isnan(sky_bf16_to_f32(sky_f32_to_bf16(NAN))));
    CHECK(isinf(sky_bf16_to_f32(sky_f32_to_bf16(-INFINITY))));
}

/* All pairs, unaligned, against the conversion of one value through f32. */
TEST(every_pair_converts)
{
    static const sky_dtype from_types[] = {SKY_F32, SKY_BF16, SKY_F16, SKY_F64};
    static const sky_dtype to_types[] = {SKY_F32, SKY_BF16, SKY_F16};
    static const float values[] = {0.0F, -1.0F, 0.33325195F, 1000.0F, -6.1035156e-5F, 3.140625F, 2.0F};
    enum { LEN = sizeof values / sizeof values[0] };
    for (size_t f = 0; f < 4; f++) {
        for (size_t t = 0; t < 3; t++) {
            unsigned char from[8 * LEN + 1];
            unsigned char to[4 * LEN + 1];
            test_parameters("%s to %s", sky_dtype_name(from_types[f]), sky_dtype_name(to_types[t]));
            for (size_t i = 0; i < LEN; i++) {
                const double wide = (double)values[i];
                if (from_types[f] == SKY_F64) {
                    memcpy(from + 1 + 8 * i, &wide, sizeof wide);
                } else {
                    CHECK(sky_dtype_convert(from + 1 + i * sky_dtype_bytes(from_types[f]), from_types[f], &values[i],
                                            SKY_F32, 1));
                }
            }
            CHECK(sky_dtype_convert(to + 1, to_types[t], from + 1, from_types[f], LEN));
            for (size_t i = 0; i < LEN; i++) {
                float source = values[i];
                float got = 0.0F;
                uint16_t bits;
                if (from_types[f] == SKY_BF16) {
                    source = sky_round_bf16(source);
                } else if (from_types[f] == SKY_F16) {
                    source = sky_f16_to_f32(sky_f32_to_f16(source));
                }
                memcpy(&bits, to + 1 + 2 * i, sizeof bits);
                if (to_types[t] == SKY_F32) {
                    memcpy(&got, to + 1 + 4 * i, sizeof got);
                    CHECK(got == source);
                } else {
                    CHECK(bits == (to_types[t] == SKY_BF16 ? sky_f32_to_bf16(source) : sky_f32_to_f16(source)));
                }
            }
        }
    }
    float x = 0.0F;
    CHECK(!sky_dtype_convert(&x, SKY_F64, &x, SKY_F32, 1) && !sky_dtype_convert(&x, SKY_F32, &x, SKY_I32, 1));
}

TEST_MAIN
