#include "model/fixture.h"

#include "ops/backend.h"
#include "ops/cpu/cpu.h"
#include "ops/ref/ref.h"

#include <stdlib.h>
#include <string.h>

const char *fixture_backend_name(fixture_backend backend)
{
    return backend == FIXTURE_REF ? "ref" : "cpu";
}

sky_status fixture_open(fixture *f, fixture_backend backend, const char *folder, sky_component component,
                        size_t arena_bytes)
{
    *f = (fixture){.ctx = {.backend = backend == FIXTURE_REF ? sky_backend_ref() : sky_backend_cpu()}};
    if (backend == FIXTURE_CPU) {
        SKY_TRY(sky_cpu_device_create(2, &f->ctx.device));
    }
    f->block = aligned_alloc(SKY_ARENA_ALIGNMENT_BYTES, arena_bytes);
    if (f->block == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "arena of %zu bytes", arena_bytes);
    }
    memset(f->block, 0xff, arena_bytes);
    sky_arena_init(&f->arena, f->block, arena_bytes);
    f->ctx.arena = &f->arena;
    SKY_TRY(sky_checkpoint_open(folder, &f->checkpoint));
    return sky_weights_create(&f->ctx, f->checkpoint, component, NULL, &f->weights);
}

void fixture_close(fixture *f)
{
    sky_weights_destroy(&f->weights);
    sky_checkpoint_destroy(&f->checkpoint);
    if (f->ctx.device != NULL) {
        sky_cpu_device_destroy(&f->ctx.device);
    }
    free(f->block);
    f->block = NULL;
}

float *fixture_to_f32(const sky_tensor *t)
{
    float *out = malloc((size_t)sky_tensor_len(t) * sizeof *out);
    SKY_ASSERT(out != NULL && sky_dtype_convert(out, SKY_F32, t->data, t->dtype, (size_t)sky_tensor_len(t)));
    return out;
}
