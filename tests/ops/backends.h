/*
 * ops/backends.h - what the cases of ops run on: every backend of the build, and variants of them
 *
 * A new backend is tested by everything here without being named (ops/backend_list.c). Entry 0 is the reference.
 */
#ifndef SKY_TESTS_OPS_BACKENDS_H
#define SKY_TESTS_OPS_BACKENDS_H

#include "ops/backend.h"

typedef struct test_backend {
    const char *name;    /* in messages */
    const char *backend; /* in the list */
    sky_device_options options;
} test_backend;

int test_num_backends(void);
const test_backend *test_backend_at(int index);

#endif
