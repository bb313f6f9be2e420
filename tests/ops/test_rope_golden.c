#include "ops/rig.h"

#include "support/compare.h"
#include "support/golden.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>

/* What the published model rotates, on a grid of 4 x 3 x 5: angles and frequencies in f32, 22, 21 and 21 pairs per axis. */
TEST(rope_of_the_published_model)
{
    enum { TOKENS = 60, HEADS = 2, DIM = 128, PAIRS = DIM / 2, ROWS = 3, COLS = 5 };
    static float freqs[TOKENS][PAIRS][2];
    golden_array x;
    golden_array y;
    for (int s = 0; s < TOKENS; s++) {
        const int position[] = {s / (ROWS * COLS), s / COLS % ROWS, s % COLS};
        for (int p = 0; p < PAIRS; p++) {
            const int axis = p < 22 ? 0 : p < 43 ? 1 : 2;
            const int j = p - (axis == 0 ? 0 : axis == 1 ? 22 : 43);
            const float frequency = 1.0F / powf(10000.0F, 2.0F * (float)j / (axis == 0 ? 44.0F : 42.0F));
            const float angle = (float)position[axis] * frequency;
            freqs[s][p][0] = cosf(angle);
            freqs[s][p][1] = sinf(angle);
        }
    }
    CHECK(golden_read_f32("rope.h5", "x", &x));
    CHECK(golden_read_f32("rope.h5", "y", &y));
    EXPECT(x.count == TOKENS * HEADS * DIM && y.count == x.count);
    for (int b = 0; b < test_num_backends() && !test_failed(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        const sky_rope_args args = {.y = RIG_OUTPUT(&r, SKY_F32, TOKENS, HEADS, DIM),
                                    .x = RIG_VALUES(&r, SKY_F32, x.data, TOKENS, HEADS, DIM),
                                    .freqs = RIG_VALUES(&r, SKY_F32, &freqs[0][0][0], TOKENS, PAIRS, 2)};
        EXPECT(sky_rope(&r.ctx, &args) == SKY_OK);
        float *got = rig_read(&r, &args.y);
        EXPECT(test_close(__FILE__, __LINE__, r.which->name, got, y.data, y.count, 1e-5));
        free(got);
        rig_close(&r);
    }
    golden_free(&x);
    golden_free(&y);
}

TEST_MAIN
