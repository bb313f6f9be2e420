/*
 * ops/cpu/attention_job.h - what attention and attention_8bit share
 *
 * A job is a head and a stretch of queries. For each tile of keys in order: the tile's keys and values are packed once,
 * then every piece of 64 queries takes its scores, makes weights of them (the part in which the ops differ), moves its
 * running maximum, denominator and sum, and adds the tile's share (online softmax: Milakov and Gimelshein 2018). A query's
 * sums run over the tiles in order and do not depend on which other queries share the job.
 */
#ifndef SKY_OPS_CPU_ATTENTION_JOB_H
#define SKY_OPS_CPU_ATTENTION_JOB_H

#include "ops/cpu/device.h"
#include "ops/cpu/rows.h"

enum { SKY_PIECE_QUERIES = SKY_ATTENTION_PIECE_ROWS };
_Static_assert(SKY_PIECE_QUERIES == (int)SKY_Q_GROUP_TOKENS, "a piece has one scale per head");

/* Queries [row, row + rows) of one head against keys [key, key + keys): a piece and a tile of their own. */
typedef struct sky_attention_piece {
    int64_t head, row, rows, key, keys;
    int64_t values_depth; /* keys, or more */
    float *scores;        /* [SKY_PIECE_QUERIES][tile_keys] products in, weights out */
    float *maxima;        /* [rows] */
    float *totals;        /* [rows] */
    float *sums;          /* [rows][padded_dim] */
    int64_t padded_dim;
} sky_attention_piece;

typedef struct sky_attention_job {
    const void *args;
    sky_tensor y, q, k, v, lse;
    int64_t tile_keys;  /* taken at a time: at most 256 */
    double weight_unit; /* what stands for a weight of 1 */
    /* Values of keys [key, key + keys) of one head, packed for the product to the depth returned; room holds a byte of each. */
    int64_t (*pack_values)(const struct sky_attention_job *job, int64_t head, int64_t key, int64_t keys, float *packed,
                           void *room);
    /* Products become weights, and the rows' running values move on: sky_move_on(). */
    void (*weigh)(const void *args, const sky_attention_piece *piece);
    /* One row of y from its sum and denominator. */
    void (*finish)(const void *args, int64_t head, const float *sum, float total, float *y, int64_t head_dim);

    /* filled in by attention_run */
    const sky_cpu_device *device;
    int64_t num_queries, num_keys, num_heads, head_dim;
    int64_t padded_dim;
    int64_t stretch; /* queries of a job: whole pieces */
    int64_t num_stretches;
} sky_attention_job;

/* The op's plan. Errors: UNSUPPORTED where a thread's memory is too small for the head dim. */
sky_status SKY_CPU(attention_fits)(const char *op, int64_t head_dim, int64_t tile_keys);

sky_status SKY_CPU(attention_run)(sky_ctx *ctx, sky_attention_job *job);

/* Row i after a tile whose largest score made the maximum `now`, and whose weights add up to total. */
static inline void sky_move_on(const sky_attention_piece *p, int64_t i, float now, float total)
{
    const float shrink = sky_exp(p->maxima[i] - now);
    p->totals[i] = sky_madd(p->totals[i], shrink, total);
    p->maxima[i] = now;
    if (shrink != 1.0F) {
        float *sum = p->sums + i * p->padded_dim;
        for (int64_t d = 0; d < p->padded_dim; d += SKY_CPU_LANES) {
            sky_vec_store(sum + d, sky_vec_load(sum + d) * sky_vec_all(shrink));
        }
    }
}

#endif
