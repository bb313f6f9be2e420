/*
 * model/rope.h - the table of rotations for the three-dimensional rotary embedding
 *
 * A head's D channels are D/2 pairs: the first D/2 - 2 (D/6) turn with the frame, the next D/6 with the row, the last
 * D/6 with the column of the token's patch (22, 21 and 21 pairs for D = 128). Pair j of an axis with n pairs turns by
 * position * 10000^(-j / n). Positions count from 0 in the model's input.
 */
#ifndef SKY_MODEL_ROPE_H
#define SKY_MODEL_ROPE_H

#include "base/status.h"

#include <stdint.h>

/* The grid of patches; tokens run frame by frame, row by row, column by column. */
typedef struct sky_grid {
    int64_t num_frames;
    int64_t num_rows;
    int64_t num_cols;
} sky_grid;

enum { SKY_ROPE_MAX_POSITIONS = 1024 }; /* of each axis, in the published model */

static inline int64_t sky_grid_tokens(const sky_grid *grid)
{
    return grid->num_frames * grid->num_rows * grid->num_cols;
}

/*
 * Fills freqs [num_tokens, head_dim / 2, 2] (cos, sin) for tokens first_token, first_token + 1, ...
 * Frequencies and angles are rounded to f32, as the published single-GPU path does.
 * Errors: SHAPE where an axis is longer than SKY_ROPE_MAX_POSITIONS, or head_dim is odd or below 6.
 * Source: Su et al. 2021; modules/transformer.py rope_params, rope_apply.
 */
sky_status sky_rope_fill(const sky_grid *grid, int64_t head_dim, int64_t first_token, int64_t num_tokens, float *freqs);

#endif
