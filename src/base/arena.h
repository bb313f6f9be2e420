/*
 * base/arena.h - one block of memory handed out like a stack
 *
 * Activations live here. A first pass over the model in planning mode (base NULL) only counts; its peak is the size of
 * the block that the real pass then needs. Memory is not cleared.
 *
 *     sky_arena arena;
 *     sky_arena_init_planning(&arena);
 *     ... run the model once ...
 *     size_t bytes = arena.peak_bytes;
 *     sky_arena_init(&arena, block, bytes);
 */
#ifndef SKY_BASE_ARENA_H
#define SKY_BASE_ARENA_H

#include "base/status.h"
#include "base/tensor.h"

enum { SKY_ARENA_ALIGNMENT_BYTES = 256 };

typedef struct sky_arena {
    unsigned char *base; /* borrowed; NULL in planning mode */
    size_t capacity_bytes;
    size_t used_bytes;
    size_t peak_bytes;
    bool planning;
} sky_arena;

/* Uses block (aligned to SKY_ARENA_ALIGNMENT_BYTES, outlives the arena). */
void sky_arena_init(sky_arena *arena, void *block, size_t capacity_bytes);

/* Counts only. Pointers handed out are not NULL and must not be read or written. */
void sky_arena_init_planning(sky_arena *arena);

/* Errors: NOMEM where the block is full. */
sky_status sky_arena_alloc(sky_arena *arena, size_t bytes, void **out);

/* Completes t, whose dtype, num_dims and shape are set, with memory. */
sky_status sky_arena_tensor(sky_arena *arena, sky_tensor *t);

/* What is in use now; handing the mark back frees everything allocated since. */
size_t sky_arena_mark(const sky_arena *arena);
void sky_arena_release(sky_arena *arena, size_t mark);

#endif
