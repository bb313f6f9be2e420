#include "support/compare.h"

#include "support/test.h"

#include <math.h>

double test_relative_error(const float *got, const float *want, size_t count)
{
    double off = 0.0;
    double norm = 0.0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(got[i])) {
            if (isfinite(want[i]) || isnan(got[i]) != isnan(want[i])) {
                return INFINITY;
            }
            continue;
        }
        const double d = (double)got[i] - (double)want[i];
        off += d * d;
        norm += (double)want[i] * (double)want[i];
    }
    return norm > 0.0 ? sqrt(off / norm) : sqrt(off);
}

bool test_close(const char *file, int line, const char *what, const float *got, const float *want, size_t count,
                double tolerance)
{
    const double error = test_relative_error(got, want, count);
    if (error <= tolerance) { /* false for NaN */
        return true;
    }
    double largest = 0.0;
    for (size_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs((double)want[i]));
    }
    size_t num_off = 0;
    size_t first = 0;
    double worst = 0.0;
    for (size_t i = 0; i < count; i++) {
        const double d = fabs((double)got[i] - (double)want[i]);
        if (!(d <= tolerance * largest)) {
            first = num_off == 0 ? i : first;
            num_off++;
            worst = isnan(d) ? NAN : fmax(worst, d);
        }
    }
    test_fail(
        file, line,
        "%s: relative error %.3g, tolerance %.3g; first off at %zu: got %.9g, want %.9g; %zu of %zu off, by up to %.3g",
        what, error, tolerance, first, (double)got[first], (double)want[first], num_off, count, worst);
    return false;
}

double test_psnr_u8(const unsigned char *a, const unsigned char *b, size_t count)
{
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        const double d = ((double)a[i] - (double)b[i]) / 255.0;
        sum += d * d;
    }
    return sum == 0.0 ? INFINITY : 10.0 * log10((double)count / sum);
}

static uint64_t mix(uint64_t x) /* splitmix64 */
{
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

float test_random(uint64_t seed, uint64_t index)
{
    /* The sum of four uniforms: close enough to a normal, and the same everywhere. */
    uint64_t bits = mix(mix(seed) ^ index);
    double sum = 0.0;
    for (int i = 0; i < 4; i++) {
        sum += (double)(bits & 0xffffU) / 65536.0 - 0.5;
        bits >>= 16;
    }
    return (float)(sum * 1.7320508);
}

void test_fill_random(float *out, size_t count, uint64_t seed)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = test_random(seed, i);
    }
}
