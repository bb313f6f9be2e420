/*
 * ops/quantize_heads.h - INT8 codes of queries or keys with one scale per head and group of tokens
 *
 *     v           = x[s, n, d] - mean[n, d]                                  (mean absent: x)
 *     a[g, n]     = max(max over the group's tokens and d of |v|, 1e-12)     g = s / tokens_per_group
 *     codes       = rint(v * (127 / a[g, n]))                                scale[g, n] = a[g, n] / 127
 *
 * 127 / a stands for (1 / a) * 127, as in quantize_rows.h. Everything in f32, rounded to nearest even.
 * Groups are counted from row 0; ranks hold whole groups (parallel partition). A NaN makes its group's scale NaN and the
 * group's codes 0.
 *
 * Shapes   x, codes [S, N, D]; mean [N, D] or absent; scale [ceil(S / tokens_per_group), N]; D at least 1, S may be 0;
 *          outputs overlap nothing. codes and scale lie in num_parts parts (head_parts.h)
 * Types    x f32 or bf16; mean f32; codes i8; scale f32. Every backend gives the same bytes.
 * Errors   SHAPE, DTYPE; SHAPE where tokens_per_group is below 1 or num_parts below 0
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   docs/numerics.md, the 8-bit contract (Q: 64 tokens, K: 128 tokens); Zhang et al. 2024 (SageAttention2), section 3.
 */
#ifndef SKY_OPS_QUANTIZE_HEADS_H
#define SKY_OPS_QUANTIZE_HEADS_H

#include "ops/ctx.h"
#include "ops/head_parts.h"

enum { SKY_Q_GROUP_TOKENS = 64, SKY_K_GROUP_TOKENS = 128 };

typedef struct sky_quantize_heads_args {
    sky_tensor codes; /* [S, N, D] i8  out */
    sky_tensor scale; /* [groups, N] f32  out */
    sky_tensor x;     /* [S, N, D] */
    sky_tensor mean;  /* [N, D] f32, optional */
    int64_t tokens_per_group;
    int num_parts; /* of codes and scale; 0: one */
} sky_quantize_heads_args;

sky_status sky_quantize_heads(sky_ctx *ctx, const sky_quantize_heads_args *args);

#endif
