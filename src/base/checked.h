/*
 * base/checked.h - integer arithmetic that says when it would overflow
 *
 * Used wherever a number comes from a file: false means that the true result does not fit, and *out is not to be read.
 */
#ifndef SKY_BASE_CHECKED_H
#define SKY_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool sky_checked_add(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool sky_checked_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

#endif
