/* What this machine can do, and what a step cannot go below for it. */
#include "model/text_encoder.h"
#include "ops/backend.h"
#include "scaling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double read_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t); /* cannot fail for these clocks */
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double scaling_processor_now(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

/* ---- what this machine can do ---- */

/* The best of a few large products on this rank's threads, by the time that they had processors: others may be using them. */
static sky_status measure_peak(bench *b)
{
    enum { M = 1024, N = 2048, K = 1024, RUNS = 20 };
    const size_t bytes = (size_t)(M * N + M * K + N * K) * sizeof(float);
    sky_ctx ctx = {.backend = b->backend, .device = b->device};
    void *memory = NULL;
    SKY_TRY(sky_fail_in(b->backend->alloc(b->device, bytes, &memory), "memory to measure with"));
    float *block = memory;
    sky_status st = b->backend->zero(b->device, block, bytes);
    for (int i = 0; i < RUNS && st == SKY_OK; i++) {
        const double start = scaling_processor_now();
        st = sky_linear(&ctx, &(sky_linear_args){.y = SKY_TENSOR(block, SKY_F32, M, N),
                                                 .x = SKY_TENSOR(block + M * N, SKY_F32, M, K),
                                                 .weight = SKY_TENSOR(block + M * N + M * K, SKY_F32, N, K)});
        SKY_KEEP_FIRST(st, sky_ctx_sync(&ctx));
        const double seconds = (scaling_processor_now() - start) / (double)b->options.threads;
        b->peak_flops = fmax(b->peak_flops, 2.0 * M * N * K / seconds);
    }
    b->backend->free(b->device, memory);
    return st;
}

static sky_status exchange_many(const bench *b, void *send, void *recv, size_t bytes, int runs, double *seconds)
{
    SKY_TRY(sky_group_barrier(b->world));
    const double start = read_clock(CLOCK_MONOTONIC);
    for (int i = 0; i < runs && b->rank < 2; i++) {
        const sky_exchange e = {
            .peer = 1 - b->rank, .send = send, .send_bytes = bytes, .recv = recv, .recv_bytes = bytes};
        SKY_TRY(sky_group_exchange_now(b->world, NULL, &e, 1));
    }
    *seconds = (read_clock(CLOCK_MONOTONIC) - start) / runs;
    return SKY_OK;
}

/*
 * Seconds of an exchange of so many bytes each way between ranks 0 and 1: on average over runs one behind the other, on the
 * rank that began first (the other may find some of it done), in the best of a few batches. Collective.
 */
static sky_status time_exchange(const bench *b, size_t bytes, int runs, double *best)
{
    enum { BATCHES = 5 };
    char *send = calloc(bytes, 1);
    char *recv = calloc(bytes, 1);
    double *seconds = calloc((size_t)b->size, sizeof *seconds);
    sky_status st = send != NULL && recv != NULL && seconds != NULL
                        ? SKY_OK
                        : sky_fail(SKY_ERR_NOMEM, "%zu bytes to measure with", bytes);
    st = sky_group_agree(b->world, st);
    if (st == SKY_OK) {
        memset(send, 1, bytes); /* memory that was never written is one page of zeros, and stays in the cache */
    }
    *best = INFINITY;
    for (int batch = 0; batch < BATCHES && st == SKY_OK; batch++) {
        double own = 0.0;
        st = exchange_many(b, send, recv, bytes, runs, &own);
        SKY_KEEP_FIRST(st, sky_group_all_gather(b->world, &own, sizeof own, seconds));
        *best = fmin(*best, fmax(seconds[0], seconds[1]));
    }
    free(seconds);
    free(recv);
    free(send);
    return st;
}

sky_status scaling_measure_machine(bench *b)
{
    const size_t large = (size_t)32 << 20;
    double seconds = 0.0;
    SKY_TRY(sky_group_agree(b->world, b->rank == 0 ? measure_peak(b) : SKY_OK));
    if (b->size > 1) {
        SKY_TRY(time_exchange(b, large, 3, &seconds));
        b->bandwidth = (double)large / seconds;
        SKY_TRY(time_exchange(b, 8, 100, &b->small_seconds));
    }
    return SKY_OK;
}

/* ---- what a step cannot go below ---- */

static double product(double tokens, double columns, double rows)
{
    return 2.0 * tokens * columns * rows;
}

/* Multiplications and additions of a rank in a step: linear layers, attention; keys and values of the text are made once. */
static double flops_of_rank(const bench *b, const step_shape *s, int rank)
{
    const double dim = (double)b->dims.dim;
    const double tokens = (double)step_tokens(s, rank);
    const double linears = 6.0 * product(tokens, dim, dim) + 2.0 * product(tokens, dim, (double)b->dims.ffn_dim);
    const double own_heads = (double)(step_heads(s, rank) * b->dims.head_dim);
    const double attention = 2.0 * product((double)step_block_tokens(s, rank), (double)s->num_tokens, own_heads) +
                             2.0 * product(tokens, SKY_TEXT_LEN, dim);
    const double ends = product(tokens, dim, 4.0 * (double)(b->dims.in_dim + b->dims.out_dim));
    return 2.0 / s->layout.cfg_degree * ((double)b->dims.num_layers * (linears + attention) + ends);
}

double scaling_least_compute(const bench *b, const layout_case *c, int size)
{
    double most = 0.0;
    double sum = 0.0;
    for (int rank = 0; rank < size; rank++) {
        const double flops = flops_of_rank(b, &c->shape, rank);
        most = fmax(most, flops);
        sum += flops;
    }
    const double ranks_with_cores = fmin(size, fmax(1.0, (double)b->cores / (double)b->options.threads));
    return fmax(most, sum / ranks_with_cores) / b->peak_flops;
}

double scaling_least_exchange(const bench *b, const layout_case *c)
{
    return b->bandwidth > 0.0 ? (double)c->step.largest.bytes / b->bandwidth : 0.0;
}
