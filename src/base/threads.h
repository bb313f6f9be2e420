/*
 * base/threads.h - a pool of threads that shares out the pieces of a loop
 *
 * Pieces are claimed in any order by any thread, so a loop's result must not depend on who runs a piece.
 *
 *     sky_threads *threads = NULL;
 *     SKY_TRY(sky_threads_create(2, &threads));
 *     sky_threads_for(threads, num_rows, scale_row, &job);   // returns when all pieces are done
 *     sky_threads_destroy(&threads);
 */
#ifndef SKY_BASE_THREADS_H
#define SKY_BASE_THREADS_H

#include "base/status.h"

#include <stdint.h>

typedef struct sky_threads sky_threads;

/* index: piece, 0 <= index < count; thread: 0 <= thread < sky_threads_count(), for scratch that threads do not share. */
typedef void (*sky_threads_body)(void *arg, int64_t index, int thread);

/* num_threads counts the calling thread; at least 1. Errors: NOMEM, INTERNAL where a thread cannot be started. */
sky_status sky_threads_create(int num_threads, sky_threads **out);
void sky_threads_destroy(sky_threads **threads);

int sky_threads_count(const sky_threads *threads);

/* Runs body for every index below count. One loop at a time; a body must not start another. threads may be NULL (one). */
void sky_threads_for(sky_threads *threads, int64_t count, sky_threads_body body, void *arg);

#endif
