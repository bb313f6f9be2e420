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

/* The format's definition in f64; the sign apart. */
static double e4m3_magnitude(unsigned code)
{
    const int exponent = (int)(code >> 3 & 15U);
    const double fraction = (double)(code & 7U) / 8.0;
    return exponent == 0 ? ldexp(fraction, -6) : ldexp(1.0 + fraction, exponent - 7);
}

TEST(every_e4m3_has_its_value_and_survives_the_round_trip)
{
    for (unsigned code = 0; code < 256; code++) {
        test_parameters("code=0x%02x", code);
        const float x = sky_e4m3_to_f32((uint8_t)code);
        CHECK((signbit(x) != 0) == (code >= 128));
        if ((code & 0x7fU) == 0x7fU) {
            CHECK(isnan(x) && sky_f32_to_e4m3(x) == 0x7fU);
        } else {
            CHECK(fabs((double)x) == e4m3_magnitude(code));
            CHECK(sky_f32_to_e4m3(x) == code);
        }
    }
    CHECK(sky_e4m3_to_f32(0x7eU) == 448.0F && sky_e4m3_to_f32(0x01U) == 0x1p-9F && sky_e4m3_to_f32(0x08U) == 0x1p-6F);
}

/* Half way between every two neighbours, subnormal ones too, and the numbers next to it. */
TEST(e4m3_rounds_to_nearest_even)
{
    for (unsigned code = 0; code < 0x7eU; code++) {
        test_parameters("between 0x%02x and 0x%02x", code, code + 1);
        const float half = (float)((e4m3_magnitude(code) + e4m3_magnitude(code + 1)) / 2.0);
        const unsigned even = code + (code & 1U);
        CHECK(sky_f32_to_e4m3(half) == even && sky_f32_to_e4m3(-half) == (even | 0x80U));
        CHECK(sky_f32_to_e4m3(nextafterf(half, 0.0F)) == code);
        CHECK(sky_f32_to_e4m3(-nextafterf(half, 0.0F)) == (code | 0x80U));
        CHECK(sky_f32_to_e4m3(nextafterf(half, 1000.0F)) == code + 1);
        CHECK(sky_f32_to_e4m3(-nextafterf(half, 1000.0F)) == ((code + 1) | 0x80U));
    }
}

/* Every 251st number up to infinity: the nearest code by search. */
TEST(e4m3_is_the_nearest_of_all)
{
    unsigned low = 0;
    for (uint32_t bits = 0; bits < 0x7f800000U; bits += 251U) {
        float x;
        memcpy(&x, &bits, sizeof x);
        while (low < 0x7dU && e4m3_magnitude(low + 1) <= (double)x) {
            low++;
        }
        const double down = (double)x - e4m3_magnitude(low);
        const double up = e4m3_magnitude(low + 1) - (double)x;
        const unsigned want = down < up || (down == up && (low & 1U) == 0) ? low : low + 1;
        if (sky_f32_to_e4m3(x) != want) {
            test_fail(__FILE__, __LINE__, "%a: got 0x%02x, want 0x%02x", (double)x, sky_f32_to_e4m3(x), want);
            return;
        }
    }
}

TEST(e4m3_saturates_and_keeps_nan)
{
    static const float large[] = {448.0F, 449.0F, 463.9F, 464.0F, 480.0F, 1e30F, 3.4e38F, INFINITY};
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        CHECK(sky_f32_to_e4m3(large[i]) == 0x7eU && sky_f32_to_e4m3(-large[i]) == 0xfeU);
    }
    CHECK(sky_f32_to_e4m3(NAN) == 0x7fU && sky_f32_to_e4m3(-NAN) == 0x7fU);
    CHECK(sky_f32_to_e4m3(0.0F) == 0x00U && sky_f32_to_e4m3(-0.0F) == 0x80U && sky_f32_to_e4m3(1e-45F) == 0x00U);
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
