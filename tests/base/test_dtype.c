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

TEST_MAIN
