/*
 * model/fixture.h - one component of a small checkpoint, loaded on a backend, with an arena
 */
#ifndef SKY_TESTS_MODEL_FIXTURE_H
#define SKY_TESTS_MODEL_FIXTURE_H

#include "model/observe.h"
#include "weights/store.h"

#define FIXTURE_ORIGINAL  SKY_TEST_MODELS "/shapes-t2v"
#define FIXTURE_DIFFUSERS SKY_TEST_MODELS "/diffusers-t2v"

typedef enum fixture_backend { FIXTURE_REF, FIXTURE_CPU, FIXTURE_NUM_BACKENDS } fixture_backend;

typedef struct fixture {
    sky_ctx ctx;
    sky_arena arena;
    void *block;
    sky_checkpoint *checkpoint;
    sky_weights *weights;
} fixture;

/* arena_bytes are filled with NaN, so that what is read must have been written. */
sky_status fixture_open(fixture *f, fixture_backend backend, const char *folder, sky_component component,
                        size_t arena_bytes);
void fixture_close(fixture *f);

/* "ref" or "cpu". */
const char *fixture_backend_name(fixture_backend backend);

/* A host tensor as f32, in new memory. */
float *fixture_to_f32(const sky_tensor *t);

#endif
