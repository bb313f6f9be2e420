/*
 * precision_emulate.h - a CPU backend with departures from the 8-bit contract that the library does not offer
 *
 * Queries and keys with scales over other groups of tokens, weights whose scales have the least squared error, and layers that
 * stay in bf16. The table is the CPU backend's but for attention_8bit, linear_8bit and the ops that write codes, and can be used
 * wherever that can.
 */
#ifndef SKY_BENCH_PRECISION_EMULATE_H
#define SKY_BENCH_PRECISION_EMULATE_H

#include "base/threads.h"
#include "ops/backend.h"
#include "weights/checkpoint.h"

/* A layer under the contract is recognised by its scales. It gets other codes and scales, or stays in bf16. */
typedef struct emulated_layer {
    int64_t rows, cols;
    sky_dtype format;
    float *contract_scale; /* [rows] */
    uint8_t *codes;        /* [rows, cols] */
    float *scale;          /* [rows] */
    uint16_t *plain;       /* [rows, cols] bf16; then codes and scale are NULL */
} emulated_layer;

/* Which layers stay in bf16. */
typedef struct emulated_plain {
    unsigned parts; /* bit i: part i of sky_is_block_linear() in every block */
    int64_t first_blocks, last_blocks;
} emulated_plain;

static inline bool emulated_is_plain(const emulated_plain *plain, int64_t num_blocks, int64_t block, int part)
{
    return (plain->parts >> part & 1U) != 0 || block < plain->first_blocks || block >= num_blocks - plain->last_blocks;
}

typedef struct emulator {
    sky_backend table; /* first: ops find the rest through ctx->backend */
    const sky_backend *cpu;
    sky_threads *threads;
    /* Tokens that share a scale, 0: as the contract has it; heads have scales of their own in any case. */
    int64_t q_group, k_group;
    float *q_scale, *k_scale; /* [groups, heads] */
    int64_t max_scales;       /* room of each */
    /* Layers with other weights; none: as the contract has it. */
    emulated_layer *layers;
    int64_t num_layers;
    double contract_squares, least_squares; /* of all their weights: what either's codes leave */
    /* Layers in bf16 read what the codes were made of, which is kept from one quantising op to the next. */
    bool has_plain;
    float *values;           /* [rows, cols] */
    uint16_t *rounded;       /* the same as bf16 */
    size_t values_len;       /* room of each, elements */
    const void *value_codes; /* where their codes are */
} emulator;

/* max_scales: tokens times heads, at most. */
sky_status emulator_create(int num_threads, int64_t max_scales, emulator **out);
void emulator_destroy(emulator **e);

/* All block linears of a published checkpoint, in the format e4m3 or i8; replaces what was there. */
sky_status emulator_requantize(emulator *e, const sky_checkpoint *checkpoint, sky_dtype format);

/* The layers of a published checkpoint that stay in bf16, all others being the contract's; replaces what was there. */
sky_status emulator_keep_plain(emulator *e, const sky_checkpoint *checkpoint, sky_dtype format, int64_t num_blocks,
                               const emulated_plain *plain);

/* Bytes that the model's weights take more for that. */
int64_t emulator_plain_bytes(const emulator *e);

void emulator_forget_layers(emulator *e);

#endif
