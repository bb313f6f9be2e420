/* sample/noise.h against literal values: what torch is known to give, and values worked out from the rules. */
#include "sample/noise.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const sky_rng cuda132 = {SKY_RNG_TORCH_CUDA, 132};
static const sky_rng cpu = {.kind = SKY_RNG_TORCH_CPU};

static bool same_within(const float *got, const double *want, size_t count, double tolerance)
{
    for (size_t i = 0; i < count; i++) {
        if (!(fabs((double)got[i] - want[i]) <= tolerance)) {
            test_fail(__FILE__, __LINE__, "value %zu: got %.9g, want %.9g", i, (double)got[i], want[i]);
            return false;
        }
    }
    return true;
}

TEST(rng_names)
{
    static const struct {
        const char *text;
        sky_rng_kind kind;
        int num_multiprocessors;
    } good[] = {{"torch-cuda", SKY_RNG_TORCH_CUDA, 132},
                {"torch-cuda:108", SKY_RNG_TORCH_CUDA, 108},
                {"torch-cuda:1", SKY_RNG_TORCH_CUDA, 1},
                {"torch-cuda:4096", SKY_RNG_TORCH_CUDA, 4096},
                {"torch-cpu", SKY_RNG_TORCH_CPU, 0}};
    static const char *const bad[] = {"",
                                      "torch",
                                      "cuda",
                                      "torch-cuda:",
                                      "torch-cuda:0",
                                      "torch-cuda:4097",
                                      "torch-cuda:-1",
                                      "torch-cuda:+1",
                                      "torch-cuda: 1",
                                      "torch-cuda:1x",
                                      "torch-cuda:99999999999999999999",
                                      "torch-cudax",
                                      "torch-cpu:1",
                                      "torch-cp",
                                      "Torch-cuda"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        test_parameters("%s", good[i].text);
        sky_rng rng = {.kind = (sky_rng_kind)77};
        CHECK_OK(sky_rng_parse(good[i].text, &rng));
        CHECK(rng.kind == good[i].kind && rng.num_multiprocessors == good[i].num_multiprocessors);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        test_parameters("%s", bad[i]);
        sky_rng rng = {.kind = (sky_rng_kind)77};
        CHECK_STATUS(sky_rng_parse(bad[i], &rng), SKY_ERR_USAGE);
        CHECK(rng.kind == (sky_rng_kind)77);
        CHECK(strstr(sky_message(), "want torch-cuda") != NULL);
    }
}

TEST(noise_refuses)
{
    float out[2] = {7.0F, 7.0F};
    const sky_rng none = {SKY_RNG_TORCH_CUDA, 0};
    const sky_rng unknown = {(sky_rng_kind)9, 1};
    CHECK_STATUS(sky_noise_fill(&none, 0, 0, out, 2), SKY_ERR_USAGE);
    CHECK_STATUS(sky_noise_fill(&unknown, 0, 0, out, 2), SKY_ERR_USAGE);
    CHECK_STATUS(sky_noise_fill(&cpu, 0, -1, out, 2), SKY_ERR_USAGE);
    CHECK_STATUS(sky_noise_fill(&cpu, 0, 0, out, -1), SKY_ERR_USAGE);
    CHECK_STATUS(sky_noise_fill(&cuda132, 0, 0, out, ((int64_t)1 << 40) + 1), SKY_ERR_USAGE);
    CHECK_OK(sky_noise_fill(&cpu, 0, 0, out, 0));
    CHECK_OK(sky_noise_fill(&cuda132, 0, 0, out, 0));
    CHECK(out[0] == 7.0F && out[1] == 7.0F);
}

TEST(cuda_small)
{
    static const double want[12] = {-0.924662, -0.425344, -2.643846, 0.145184,  -0.120867, -0.579726,
                                    -0.622852, -0.328387, -1.074542, -0.363144, -1.671050, 2.265505};
    float got[12];
    CHECK_OK(sky_noise_fill(&cuda132, 0, 0, got, 12));
    CHECK(same_within(got, want, 12, 4e-6));
}

TEST(cuda_video_latents)
{
    enum { COUNT = 3264000 };
    static const struct {
        int index;
        double want;
    } rows[] = {{0, 0.194019},       {1, 2.161374},      {2, -0.172051},      {3, 0.849060},       {270335, -0.652003},
                {270336, -0.970190}, {540672, 1.923927}, {811008, -1.235621}, {1081344, 0.139138}, {3263999, 0.239832}};
    float *got = malloc(COUNT * sizeof *got);
    CHECK(got != NULL);
    const sky_status st = sky_noise_fill(&cuda132, 42, 0, got, COUNT);
    for (size_t i = 0; st == SKY_OK && i < sizeof rows / sizeof rows[0]; i++) {
        test_parameters("index=%d", rows[i].index);
        EXPECT(same_within(&got[rows[i].index], &rows[i].want, 1, 4e-6));
    }
    free(got);
    CHECK_OK(st);
}

/* Up to 221,184 values both GPUs run the same threads; beyond that an A100 starts over. */
TEST(cuda_depends_on_multiprocessors)
{
    enum { COUNT = 230000, A100_THREADS = 108 * 2048 };
    const sky_rng cuda108 = {SKY_RNG_TORCH_CUDA, 108};
    float *h100 = malloc(COUNT * sizeof *h100);
    float *a100 = malloc(COUNT * sizeof *a100);
    CHECK(h100 != NULL && a100 != NULL);
    sky_status st = sky_noise_fill(&cuda132, 5, 0, h100, COUNT);
    SKY_KEEP_FIRST(st, sky_noise_fill(&cuda108, 5, 0, a100, COUNT));
    EXPECT(memcmp(h100, a100, A100_THREADS * sizeof(float)) == 0);
    int num_equal = 0;
    for (int i = A100_THREADS; i < COUNT; i++) {
        num_equal += h100[i] == a100[i];
    }
    EXPECT(num_equal < 10);
    free(h100);
    free(a100);
    CHECK_OK(st);
}

/* Every value is written, none outside, for counts around each edge of the rule. */
TEST(cuda_edges)
{
    const sky_rng one = {SKY_RNG_TORCH_CUDA, 1}; /* 2,048 threads */
    static const int counts[] = {1, 255, 256, 257, 2047, 2048, 2049, 4096, 8191, 8192, 8193, 14337, 16384};
    float got[16384 + 1];
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        test_parameters("count=%d", counts[c]);
        for (int i = 0; i <= counts[c]; i++) {
            got[i] = NAN;
        }
        CHECK_OK(sky_noise_fill(&one, 3, 0, got, counts[c]));
        for (int i = 0; i < counts[c]; i++) {
            CHECK(isfinite(got[i]));
        }
        CHECK(isnan(got[counts[c]]));
    }
}

/* With 2,048 threads 8,192 values are one turn: the second draw starts where the first stopped. */
TEST(cuda_next_draw_goes_on)
{
    const sky_rng one = {SKY_RNG_TORCH_CUDA, 1};
    float *first = malloc(2 * 8192 * sizeof *first);
    float *second = malloc(8192 * sizeof *second);
    CHECK(first != NULL && second != NULL);
    sky_status st = sky_noise_fill(&one, 3, 0, first, 2 * 8192);
    SKY_KEEP_FIRST(st, sky_noise_fill(&one, 3, 1, second, 8192));
    EXPECT(memcmp(first + 8192, second, 8192 * sizeof *second) == 0);
    free(first);
    free(second);
    CHECK_OK(st);
}

TEST(cpu_blocks)
{
    static const double sixteen[16] = {-1.1258, -1.1524, -0.2506, -0.4339, 0.8487, 0.6920, -0.3160, -2.1152,
                                       0.3223,  -1.2633, 0.3500,  0.3081,  0.1198, 1.2377, 1.1168,  -0.2473};
    static const double twenty[20] = {-1.1258, -1.1524, -0.2506, -0.4339, 0.5988, -1.5551, -0.3414,
                                      1.8530,  0.4681,  -0.1577, 1.4437,  0.2660, 1.3894,  1.5863,
                                      0.9463,  -0.8437, 0.9318,  1.2590,  2.0050, 0.0537};
    float got[20];
    CHECK_OK(sky_noise_fill(&cpu, 0, 0, got, 16));
    CHECK(same_within(got, sixteen, 16, 5.1e-5)); /* the literals have four decimals */
    CHECK_OK(sky_noise_fill(&cpu, 0, 0, got, 20));
    CHECK(same_within(got, twenty, 20, 5.1e-5));
}

/* Below 16 values draws are cuts from one row of values, whatever their length: the cached sine is not lost. */
TEST(cpu_small_draws_go_on)
{
    float row[15];
    float part[5];
    CHECK_OK(sky_noise_fill(&cpu, 11, 0, row, 15));
    for (int draw = 0; draw < 3; draw++) {
        CHECK_OK(sky_noise_fill(&cpu, 11, draw, part, 5));
        CHECK(memcmp(part, row + 5 * draw, sizeof part) == 0);
    }
}

/* A draw of 17 takes 17 + 16 words; draws far away skip whole states of 624. Draws 16, 32, 48 start where a block of 16 does. */
TEST(cpu_draws_go_on)
{
    enum { COUNT = 17, WORDS = 33, LAST_DRAW = 48 };
    float row[LAST_DRAW * WORDS + 16];
    float part[COUNT];
    CHECK_OK(sky_noise_fill(&cpu, 11, 0, row, LAST_DRAW * WORDS + 16));
    for (int draw = 16; draw <= LAST_DRAW; draw += 16) {
        test_parameters("draw=%d", draw);
        CHECK_OK(sky_noise_fill(&cpu, 11, draw, part, COUNT));
        CHECK(part[0] == row[draw * WORDS]); /* the others are drawn anew */
    }
}

TEST(seeds)
{
    float a[20];
    float b[20];
    CHECK_OK(sky_noise_fill(&cuda132, 1, 0, a, 20));
    CHECK_OK(sky_noise_fill(&cuda132, 1 + (UINT64_C(1) << 32), 0, b, 20));
    CHECK(memcmp(a, b, sizeof a) != 0); /* Philox takes all 64 bits */
    CHECK_OK(sky_noise_fill(&cpu, 1, 0, a, 20));
    CHECK_OK(sky_noise_fill(&cpu, 1 + (UINT64_C(1) << 32), 0, b, 20));
    CHECK(memcmp(a, b, sizeof a) == 0); /* MT19937 the low 32 */
}

TEST_MAIN
