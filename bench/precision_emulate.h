/*
 * precision_emulate.h - a CPU backend with two departures from the 8-bit contract that the library does not offer
 *
 * Queries and keys with scales over other groups of tokens, and weights whose scales have the least squared error. The
 * table is the CPU backend's but for quantize_heads, attention_8bit and linear_8bit, and can be used wherever that can.
 */
#ifndef SKY_BENCH_PRECISION_EMULATE_H
#define SKY_BENCH_PRECISION_EMULATE_H

#include "base/threads.h"
#include "ops/backend.h"
#include "weights/checkpoint.h"

/* A layer's codes under the contract, by whose scales it is recognised, and those that it gets instead. */
typedef struct emulated_layer {
    int64_t rows, cols;
    sky_dtype format;
    float *contract_scale; /* [rows] */
    uint8_t *codes;        /* [rows, cols] */
    float *scale;          /* [rows] */
} emulated_layer;

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
} emulator;

/* max_scales: tokens times heads, at most. */
sky_status emulator_create(int num_threads, int64_t max_scales, emulator **out);
void emulator_destroy(emulator **e);

/* All block linears of a published checkpoint, in the format e4m3 or i8; replaces what was there. */
sky_status emulator_requantize(emulator *e, const sky_checkpoint *checkpoint, sky_dtype format);
void emulator_forget_layers(emulator *e);

#endif
