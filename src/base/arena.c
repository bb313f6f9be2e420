#include "base/arena.h"

void sky_arena_init(sky_arena *arena, void *block, size_t capacity_bytes)
{
    SKY_ASSERT((uintptr_t)block % SKY_ARENA_ALIGNMENT_BYTES == 0);
    *arena = (sky_arena){.base = block, .capacity_bytes = capacity_bytes};
}

void sky_arena_init_planning(sky_arena *arena)
{
    *arena = (sky_arena){.capacity_bytes = SIZE_MAX / 2, .planning = true};
}

sky_status sky_arena_alloc(sky_arena *arena, size_t bytes, void **out)
{
    const size_t alignment = SKY_ARENA_ALIGNMENT_BYTES;
    if (bytes > SIZE_MAX / 4) {
        return sky_fail(SKY_ERR_NOMEM, "activation arena: a request of %zu bytes", bytes);
    }
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    if (rounded > arena->capacity_bytes - arena->used_bytes) {
        return sky_fail(SKY_ERR_NOMEM, "activation arena: %zu bytes wanted, %zu of %zu left", rounded,
                        arena->capacity_bytes - arena->used_bytes, arena->capacity_bytes);
    }
    /* In planning mode the offset itself, moved off NULL, stands for the pointer. */
    *out = arena->planning ? (void *)(uintptr_t)(arena->used_bytes + alignment)
                           : (void *)(arena->base + arena->used_bytes);
    arena->used_bytes += rounded;
    if (arena->used_bytes > arena->peak_bytes) {
        arena->peak_bytes = arena->used_bytes;
    }
    return SKY_OK;
}

sky_status sky_arena_tensor(sky_arena *arena, sky_tensor *t)
{
    return sky_arena_alloc(arena, sky_tensor_bytes(t), &t->data);
}

size_t sky_arena_mark(const sky_arena *arena)
{
    return arena->used_bytes;
}

void sky_arena_release(sky_arena *arena, size_t mark)
{
    SKY_ASSERT(mark <= arena->used_bytes);
    arena->used_bytes = mark;
}
