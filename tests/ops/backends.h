/*
 * ops/backends.h - the backends in this build, for the tests of ops
 *
 * A new backend gets one entry in backends.c and is then tested by everything here. Entry 0 is the reference.
 */
#ifndef SKY_TESTS_OPS_BACKENDS_H
#define SKY_TESTS_OPS_BACKENDS_H

#include "ops/backend.h"

typedef struct test_backend {
    const char *name; /* in messages */
    const sky_backend *(*backend)(void);
    sky_status (*device_create)(void **device);
    void (*device_destroy)(void **device); /* takes NULL, sets NULL */
} test_backend;

int test_num_backends(void);
const test_backend *test_backend_at(int index);

#endif
