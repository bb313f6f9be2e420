/* sample/noise.h against torch's own numbers: tests/golden/rng_cpu.h5 and rng_cuda.h5 (an H200). */
#include "base/dtype.h"
#include "sample/noise.h"
#include "support/golden.h"
#include "support/test.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const uint64_t seeds[] = {0, 42, 1234567890123};
enum { NUM_SEEDS = sizeof seeds / sizeof seeds[0] };

static const double tolerance = 4e-6; /* torch's own differ by as much between processors */

typedef struct comparison {
    int64_t num_compared;
    int64_t num_steps_off; /* bf16 values that are one step off */
} comparison;

/* Compares want[i] with got[i * stride]. */
static bool compare(const float *got, int64_t stride, const golden_array *want, bool bf16, comparison *sum)
{
    const float *w = want->data;
    for (size_t i = 0; i < want->count; i++) {
        const float full = got[(int64_t)i * stride];
        const float g = bf16 ? sky_round_bf16(full) : full;
        sum->num_compared++;
        if (bf16 && g != w[i] && fabsf(g - w[i]) <= fabsf(w[i]) * 0x1p-7F) {
            sum->num_steps_off++;
        } else if (!(fabs((double)g - (double)w[i]) <= (bf16 ? 0.0 : tolerance))) {
            test_fail(__FILE__, __LINE__, "value %zu of every %" PRId64 ": got %.9g, want %.9g", i, stride, (double)g,
                      (double)w[i]);
            return false;
        }
    }
    return true;
}

static bool compare_dataset(const char *file, const char *name, const float *got, int64_t stride, bool bf16,
                            comparison *sum)
{
    golden_array want;
    if (!golden_read_f32(file, name, &want)) {
        return false;
    }
    const bool ok = compare(got, stride, &want, bf16, sum);
    golden_free(&want);
    return ok;
}

TEST(torch_cpu)
{
    static const struct {
        const char *shape;
        int64_t count;
    } shapes[] = {{"5", 5}, {"15", 15}, {"16", 16}, {"17", 17}, {"100", 100}, {"16x3x10x14", 6720}};
    static const char *const draws[] = {"first", "second"};
    const sky_rng rng = {.kind = SKY_RNG_TORCH_CPU};
    float got[6720];
    comparison sum = {0};
    for (int s = 0; s < NUM_SEEDS; s++) {
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            for (int draw = 0; draw < 2; draw++) {
                char name[128];
                snprintf(name, sizeof name, "seed%" PRIu64 "/%s/%s", seeds[s], shapes[i].shape, draws[draw]);
                test_parameters("%s", name);
                CHECK_OK(sky_noise_fill(&rng, seeds[s], draw, got, shapes[i].count));
                CHECK(compare_dataset("rng_cpu.h5", name, got, 1, false, &sum));
            }
        }
    }
    CHECK(sum.num_compared == (int64_t)NUM_SEEDS * 2 * (5 + 15 + 16 + 17 + 100 + 6720));
}

/* One of a few sizes: every value where stride is 0, else the first ones and every stride-th. */
typedef struct cuda_shape {
    const char *name;
    int64_t count;
    int stride;
    bool sums;
} cuda_shape;

static const cuda_shape cuda_shapes[] = {
    {"1", 1, 0, false},
    {"5", 5, 0, false},
    {"100", 100, 0, false},
    {"1023", 1023, 0, false},
    {"16x3x10x14", 6720, 0, false},
    {"16x9x12x20", 34560, 37, false},
    {"16x25x68x120", 3264000, 9973, true}, /* 540P, 97 frames */
    {"16x31x90x160", 7142400, 9973, true}, /* 720P, 121 frames */
};

/*
 * Sums over a whole draw, of which the datasets hold samples only. The values' errors are mostly random, so those of the
 * sum grow as the root of count; radii have a common error of a part of a float's last place, which squares keep.
 */
static bool compare_sums(const char *name, const float *got, int64_t count)
{
    double want = 0.0;
    double want_squares = 0.0;
    if (!golden_attr_double("rng_cuda.h5", name, "sum", &want) ||
        !golden_attr_double("rng_cuda.h5", name, "sum_of_squares", &want_squares)) {
        test_fail(__FILE__, __LINE__, "%s has no sums", name);
        return false;
    }
    double sum = 0.0;
    double squares = 0.0;
    for (int64_t i = 0; i < count; i++) {
        sum += (double)got[i];
        squares += (double)got[i] * (double)got[i];
    }
    const double room = 4.0 * tolerance * sqrt((double)count);
    const double room_squares = 5e-7 * want_squares;
    if (!(fabs(sum - want) <= room) || !(fabs(squares - want_squares) <= room_squares)) {
        test_fail(__FILE__, __LINE__, "sums: got %.9g and %.9g, want %.9g and %.9g within %.2g and %.2g", sum, squares,
                  want, want_squares, room, room_squares);
        return false;
    }
    return true;
}

static bool compare_cuda_draw(uint64_t seed, const cuda_shape *shape, int draw, float *got, comparison *bf16_sum)
{
    const sky_rng rng = {SKY_RNG_TORCH_CUDA, 132};
    if (sky_noise_fill(&rng, seed, draw, got, shape->count) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s", sky_message());
        return false;
    }
    comparison f32_sum = {0};
    for (int bf16 = 0; bf16 < 2; bf16++) {
        comparison *sum = bf16 != 0 ? bf16_sum : &f32_sum;
        char group[128];
        char name[160];
        snprintf(group, sizeof group, "seed%" PRIu64 "/%s/%s/call%d", seed, shape->name, bf16 != 0 ? "bf16" : "f32",
                 draw);
        test_parameters("%s", group);
        snprintf(name, sizeof name, "%s/%s", group, shape->stride == 0 ? "all" : "first");
        if (!compare_dataset("rng_cuda.h5", name, got, 1, bf16 != 0, sum)) {
            return false;
        }
        snprintf(name, sizeof name, "%s/every_%d", group, shape->stride);
        if (shape->stride != 0 && !compare_dataset("rng_cuda.h5", name, got, shape->stride, bf16 != 0, sum)) {
            return false;
        }
        if (shape->sums && bf16 == 0 && !compare_sums(group, got, shape->count)) {
            return false;
        }
    }
    return true;
}

TEST(torch_cuda)
{
    double multiprocessors = 0.0;
    CHECK(golden_attr_double("rng_cuda.h5", "/", "multiprocessors", &multiprocessors) && multiprocessors == 132.0);
    float *got = malloc(7142400 * sizeof *got);
    CHECK(got != NULL);
    comparison bf16 = {0};
    for (size_t i = 0; i < sizeof cuda_shapes / sizeof cuda_shapes[0]; i++) {
        /* Half of the large draws, which keeps the program below a second. */
        for (int s = 0; s < NUM_SEEDS; s++) {
            for (int draw = 0; draw < 2; draw++) {
                if (cuda_shapes[i].sums && (s + draw) % 2 != (int)i % 2) {
                    continue;
                }
                if (!compare_cuda_draw(seeds[s], &cuda_shapes[i], draw, got, &bf16)) {
                    free(got);
                    return;
                }
            }
        }
    }
    free(got);
    test_parameters("bf16: %" PRId64 " of %" PRId64 " values a step off", bf16.num_steps_off, bf16.num_compared);
    CHECK(bf16.num_compared > 50000 && bf16.num_steps_off * 1000 <= bf16.num_compared);
}

TEST_MAIN
