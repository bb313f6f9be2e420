#include "base/threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

typedef struct worker {
    sky_threads *pool;
    pthread_t handle;
    int index;
} worker;

struct sky_threads {
    int num_threads;
    int num_started; /* workers running, without the caller */
    pthread_mutex_t mutex;
    pthread_cond_t work_ready;
    pthread_cond_t work_done;
    uint64_t generation; /* of loops; a worker joins each once at most */
    bool open;           /* whether the loop of this generation can still be joined */
    int num_inside;      /* workers that have joined it and not left */
    bool stopping;

    sky_threads_body body;
    void *arg;
    int64_t count;
    atomic_int_fast64_t next;
    worker workers[];
};

static void run_pieces(sky_threads *pool, int thread)
{
    for (;;) {
        const int64_t index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (index >= pool->count) {
            return;
        }
        pool->body(pool->arg, index, thread);
    }
}

static void *worker_main(void *arg)
{
    worker *self = arg;
    sky_threads *pool = self->pool;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (!pool->stopping && pool->generation == seen) {
            pthread_cond_wait(&pool->work_ready, &pool->mutex);
        }
        if (pool->stopping) {
            break;
        }
        seen = pool->generation;
        if (!pool->open) {
            continue; /* woke up after the others had done everything */
        }
        pool->num_inside++;
        pthread_mutex_unlock(&pool->mutex);
        run_pieces(pool, self->index);
        pthread_mutex_lock(&pool->mutex);
        if (--pool->num_inside == 0) {
            pthread_cond_signal(&pool->work_done);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

sky_status sky_threads_create(int num_threads, sky_threads **out)
{
    SKY_ASSERT(num_threads >= 1);
    sky_threads *pool = calloc(1, sizeof *pool + (size_t)(num_threads - 1) * sizeof pool->workers[0]);
    if (pool == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "thread pool of %d", num_threads);
    }
    pool->num_threads = num_threads;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work_ready, NULL);
    pthread_cond_init(&pool->work_done, NULL);
    for (int i = 0; i < num_threads - 1; i++) {
        pool->workers[i] = (worker){.pool = pool, .index = i + 1};
        if (pthread_create(&pool->workers[i].handle, NULL, worker_main, &pool->workers[i]) != 0) {
            sky_threads_destroy(&pool);
            return sky_fail(SKY_ERR_INTERNAL, "thread %d of %d does not start", i + 1, num_threads);
        }
        pool->num_started++;
    }
    *out = pool;
    return SKY_OK;
}

void sky_threads_destroy(sky_threads **threads)
{
    sky_threads *pool = *threads;
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work_ready);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->num_started; i++) {
        pthread_join(pool->workers[i].handle, NULL);
    }
    pthread_cond_destroy(&pool->work_done);
    pthread_cond_destroy(&pool->work_ready);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
    *threads = NULL;
}

int sky_threads_count(const sky_threads *threads)
{
    return threads == NULL ? 1 : threads->num_threads;
}

void sky_threads_for(sky_threads *threads, int64_t count, sky_threads_body body, void *arg)
{
    if (threads == NULL || threads->num_started == 0 || count <= 1) {
        for (int64_t i = 0; i < count; i++) {
            body(arg, i, 0);
        }
        return;
    }
    pthread_mutex_lock(&threads->mutex);
    threads->body = body;
    threads->arg = arg;
    threads->count = count;
    atomic_store_explicit(&threads->next, 0, memory_order_relaxed);
    threads->open = true;
    threads->generation++;
    pthread_cond_broadcast(&threads->work_ready);
    pthread_mutex_unlock(&threads->mutex);

    run_pieces(threads, 0);

    /* No piece is left: wait for the workers that run one, not for those that have not woken up. */
    pthread_mutex_lock(&threads->mutex);
    threads->open = false;
    while (threads->num_inside > 0) {
        pthread_cond_wait(&threads->work_done, &threads->mutex);
    }
    pthread_mutex_unlock(&threads->mutex);
}
