/*
 * support/compare.h - comparing arrays of numbers, and deterministic inputs
 */
#ifndef SKY_TESTS_SUPPORT_COMPARE_H
#define SKY_TESTS_SUPPORT_COMPARE_H

#include "base/tensor.h"

/*
 * |got - want|_2 / |want|_2 over count values; infinite where got has a NaN or infinity that want has not. A want of all
 * zeros gives |got|_2.
 */
double test_relative_error(const float *got, const float *want, size_t count);

/*
 * True when the relative error is at most tolerance; otherwise fails the case with `what`, the error, the first index
 * that is off by more than tolerance * max|want|, both values there, how many are off and by how much at most.
 */
bool test_close(const char *file, int line, const char *what, const float *got, const float *want, size_t count,
                double tolerance);
#define CHECK_CLOSE(what, got, want, count, tolerance)                            \
    do {                                                                          \
        if (!test_close(__FILE__, __LINE__, what, got, want, count, tolerance)) { \
            return;                                                               \
        }                                                                         \
    } while (0)

/* 10 log10(1 / mean squared error) of two uint8 videos on [0, 1]; infinite when they are equal. */
double test_psnr_u8(const unsigned char *a, const unsigned char *b, size_t count);

/* A value of about unit variance that depends on (seed, index) only, so any rank can make its own slice. */
float test_random(uint64_t seed, uint64_t index);
void test_fill_random(float *out, size_t count, uint64_t seed);

#endif
