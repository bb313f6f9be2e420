/*
 * fuzz/fuzz.h - what the fuzz targets share
 */
#ifndef SKY_TESTS_FUZZ_FUZZ_H
#define SKY_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run with the input kept; for what a reader promises of what it accepts. */
#define FUZZ_CHECK(cond)      \
    do {                      \
        if (!(cond)) {        \
            __builtin_trap(); \
        }                     \
    } while (0)

#endif
