/*
 * bench/scaling_traffic.h - what a rank sends, as closed formulas
 *
 * docs/parallel.md, "How much": written from the rules there, not from the code that sends, and held against what that
 * code counts. A message is an entry of an exchange that is not empty.
 */
#ifndef SKY_BENCH_SCALING_TRAFFIC_H
#define SKY_BENCH_SCALING_TRAFFIC_H

#include "parallel/group.h"
#include "parallel/layout.h"

#include <stdbool.h>
#include <stdint.h>

/* A step of the denoising loop: all guidance branches, and the exchange of their velocities. */
typedef struct step_shape {
    sky_rank_layout layout;
    bool fast_ring;
    int64_t num_tokens, num_heads, head_dim, num_layers;
    int64_t patch_len;     /* f32 numbers that the head gives for a token */
    int64_t latents_bytes; /* a branch's velocity */
    bool attention_8bit;
    int64_t compute_bytes; /* of a number in the compute type */
} step_shape;

sky_traffic traffic_of_step(const step_shape *s, int rank);

/* Shares of one rank; for counting operations. */
int64_t step_tokens(const step_shape *s, int rank);       /* own */
int64_t step_block_tokens(const step_shape *s, int rank); /* queries of its attention */
int64_t step_heads(const step_shape *s, int rank);

/* Decoding a whole video, and bringing its frames to rank 0. num_ranks: those with a strip. */
typedef struct decode_shape {
    int num_ranks;
    int64_t latent_frames, latent_rows, latent_cols;
    int64_t width; /* of the VAE's narrowest stage */
    int64_t compute_bytes;
} decode_shape;

sky_traffic traffic_of_decode(const decode_shape *s, int rank);

/* Both against sums made by hand. Errors: INTERNAL. */
sky_status traffic_verify(void);

#endif
