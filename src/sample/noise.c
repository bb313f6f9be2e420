#include "sample/noise.h"

#include "sample/noise_rules.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    H100_MULTIPROCESSORS = 132, /* H200 too */
    MAX_MULTIPROCESSORS = 4096, /* far above any GPU; keeps a mistyped number from passing */
};

/* Beyond this a draw is a mistake: 2^40 floats are 4 TiB. */
static const int64_t max_count = (int64_t)1 << 40;

static sky_status refuse(const char *text)
{
    return sky_fail(SKY_ERR_USAGE, "random numbers '%s': want torch-cuda, torch-cuda:SMs (1 to %d) or torch-cpu", text,
                    MAX_MULTIPROCESSORS);
}

sky_status sky_rng_parse(const char *text, sky_rng *out)
{
    static const char cuda[] = "torch-cuda";

    if (strcmp(text, "torch-cpu") == 0) {
        *out = (sky_rng){.kind = SKY_RNG_TORCH_CPU};
        return SKY_OK;
    }
    if (strcmp(text, cuda) == 0) {
        *out = (sky_rng){.kind = SKY_RNG_TORCH_CUDA, .num_multiprocessors = H100_MULTIPROCESSORS};
        return SKY_OK;
    }
    if (strncmp(text, cuda, sizeof cuda - 1) != 0 || text[sizeof cuda - 1] != ':') {
        return refuse(text);
    }
    const char *digits = text + sizeof cuda;
    const size_t num_digits = strspn(digits, "0123456789");
    if (num_digits == 0 || num_digits > 4 || digits[num_digits] != '\0') {
        return refuse(text);
    }
    const int number = atoi(digits); /* at most four digits */
    if (number < 1 || number > MAX_MULTIPROCESSORS) {
        return refuse(text);
    }
    *out = (sky_rng){.kind = SKY_RNG_TORCH_CUDA, .num_multiprocessors = number};
    return SKY_OK;
}

sky_status sky_noise_fill(const sky_rng *rng, uint64_t seed, int draw, float *out, int64_t count)
{
    if (draw < 0 || count < 0 || count > max_count) {
        return sky_fail(SKY_ERR_USAGE,
                        "random numbers: draw %d of %" PRId64 " values: want a draw from 0 and 0 to 2^40 values", draw,
                        count);
    }
    if (rng->kind == SKY_RNG_TORCH_CUDA) {
        if (rng->num_multiprocessors < 1 || rng->num_multiprocessors > MAX_MULTIPROCESSORS) {
            return sky_fail(SKY_ERR_USAGE, "random numbers: %d multiprocessors: want 1 to %d", rng->num_multiprocessors,
                            MAX_MULTIPROCESSORS);
        }
        if (count > 0) {
            sky_noise_torch_cuda(rng->num_multiprocessors, seed, draw, out, count);
        }
        return SKY_OK;
    }
    if (rng->kind == SKY_RNG_TORCH_CPU) {
        if (count > 0) {
            sky_noise_torch_cpu(seed, draw, out, count);
        }
        return SKY_OK;
    }
    return sky_fail(SKY_ERR_USAGE, "random numbers: unknown rule %d", (int)rng->kind);
}
