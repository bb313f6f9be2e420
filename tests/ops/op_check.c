#include "ops/rig.h"
#include "ops/tolerance.h"

#include "support/compare.h"
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double sum_tolerance(const op_case *c, const test_backend *which)
{
    if (c->unit_tolerance > 0.0 && !sky_backend_find(which->backend)->host_memory) {
        return c->unit_tolerance;
    }
    return c->tolerance > 0.0 ? c->tolerance : test_sum_tolerance(c->sum_len);
}

/* What one element must be within: a rounding of its own, and the sum's error as a part of the largest element. */
static bool elements_close(const char *what, const op_case *c, const test_backend *which, sky_dtype dtype,
                           const float *got, const double *want, int64_t len)
{
    double largest = 0.0;
    double off_squared = 0.0;
    double want_squared = 0.0;
    for (int64_t i = 0; i < len; i++) {
        largest = fmax(largest, fabs(want[i]));
    }
    const int num_roundings = c->num_roundings > 0 ? c->num_roundings : 1;
    const double rounding = test_rounding_tolerance(dtype) * num_roundings;
    const double sum = sum_tolerance(c, which);
    int64_t num_off = 0;
    int64_t first = 0;
    double worst = 0.0;
    for (int64_t i = 0; i < len; i++) {
        const double d = fabs((double)got[i] - want[i]);
        off_squared += d * d;
        want_squared += want[i] * want[i];
        if (!(d <= rounding * fabs(want[i]) + sum * largest)) { /* NaN is off */
            first = num_off++ == 0 ? i : first;
            worst = isnan(d) ? NAN : fmax(worst, d);
        }
    }
    if (num_off > 0) {
        test_fail(__FILE__, __LINE__, "%s: first off at %lld: got %.9g, want %.9g; %lld of %lld off, by up to %.3g",
                  what, (long long)first, (double)got[first], want[first], (long long)num_off, (long long)len, worst);
        return false;
    }
    const double error = sqrt(off_squared) / (want_squared > 0.0 ? sqrt(want_squared) : 1.0);
    if (!(error <= rounding + sum)) {
        test_fail(__FILE__, __LINE__, "%s: relative error %.3g, tolerance %.3g", what, error, rounding + sum);
        return false;
    }
    return true;
}

static bool bytes_equal(const char *what, sky_dtype dtype, const float *got, const double *want, int64_t len)
{
    for (int64_t i = 0; i < len; i++) {
        const float w = dtype == SKY_BF16 ? sky_round_bf16((float)want[i]) : (float)want[i];
        const bool same = isnan(w) ? isnan(got[i]) : memcmp(&w, &got[i], sizeof w) == 0;
        if (!same) {
            test_fail(__FILE__, __LINE__, "%s: element %lld: got %.9g, want exactly %.9g", what, (long long)i,
                      (double)got[i], (double)w);
            return false;
        }
    }
    return true;
}

/* Bytes of scratch that a planning pass asks for; leaves outputs alone. */
static bool plan(const op_case *c, const test_backend *which, int64_t skew, size_t *peak_bytes)
{
    rig r;
    sky_tensor out;
    if (!rig_open(&r, which, skew, 0)) {
        return false;
    }
    bool ok = c->run(&r, c->params, &out) == SKY_OK;
    if (!ok) {
        test_fail(__FILE__, __LINE__, "%s, planning: %s", which->name, sky_message());
    }
    ok = ok && rig_check(&r);
    *peak_bytes = r.arena.peak_bytes;
    rig_close(&r);
    return ok;
}

/* Fills *want and *reference where they are NULL; the caller frees them. */
static bool check_one(const op_case *c, const test_backend *which, int64_t skew, double **want, float **reference)
{
    char what[96];
    snprintf(what, sizeof what, "%s, skew %d", which->name, (int)skew);
    size_t scratch_bytes = 0;
    rig r;
    sky_tensor out;
    if (!plan(c, which, skew, &scratch_bytes) ||
        !rig_open(&r, which, skew, scratch_bytes > 0 ? scratch_bytes : SKY_ARENA_ALIGNMENT_BYTES)) {
        return false;
    }
    const sky_status st = c->run(&r, c->params, &out);
    if (st != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s: %s: %s", what, sky_status_name(st), sky_message());
        rig_close(&r);
        return false;
    }
    const int64_t len = sky_tensor_len(&out);
    bool ok = r.ctx.backend->sync(r.ctx.device) == SKY_OK && rig_check(&r) && r.arena.used_bytes == 0;
    float *got = rig_read(&r, &out);
    if (*want == NULL) {
        *want = malloc((size_t)len * sizeof(double) + 1);
        SKY_ASSERT(*want != NULL);
        c->expect(c->params, *want);
    }
    ok = ok && (c->exact ? bytes_equal(what, out.dtype, got, *want, len)
                         : elements_close(what, c, which, out.dtype, got, *want, len));
    if (ok && *reference != NULL) {
        const double tolerance = c->exact ? 0.0
                                          : sum_tolerance(c, which) + test_rounding_tolerance(out.dtype) *
                                                                          (c->num_roundings > 0 ? c->num_roundings : 1);
        snprintf(what, sizeof what, "%s, skew %d, against the reference", which->name, (int)skew);
        ok = test_close(__FILE__, __LINE__, what, got, *reference, (size_t)len, tolerance);
    }
    if (*reference == NULL) {
        *reference = got; /* entry 0 of the backends comes first */
        got = NULL;
    }
    free(got);
    rig_close(&r);
    return ok;
}

void op_check(const op_case *c)
{
    enum { NUM_SKEWS = 2 };
    double *want = NULL;
    float *reference = NULL;
    const int num_parts = test_num_backends() * NUM_SKEWS;
    bool ok = test_parts_wanted(num_parts);
    for (int i = 0; i < num_parts; i++) {
        const bool wanted = test_part() || i == 0; /* what the others are compared with */
        if (ok && wanted) {
            ok = check_one(c, test_backend_at(i / NUM_SKEWS), i % NUM_SKEWS, &want, &reference);
        }
    }
    free(want);
    free(reference);
}
