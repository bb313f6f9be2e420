#include "model/rope.h"

#include <inttypes.h>
#include <math.h>

static float *fill_axis(float *out, int64_t position, int64_t num_pairs)
{
    const float dim = (float)(2 * num_pairs);
    for (int64_t j = 0; j < num_pairs; j++) {
        const float frequency = 1.0F / powf(10000.0F, (float)(2 * j) / dim);
        const float angle = (float)position * frequency;
        *out++ = cosf(angle);
        *out++ = sinf(angle);
    }
    return out;
}

sky_status sky_rope_fill(const sky_grid *grid, int64_t head_dim, int64_t first_token, int64_t num_tokens, float *freqs)
{
    if (head_dim < 6 || head_dim % 2 != 0) {
        return sky_fail(SKY_ERR_SHAPE, "rope: head dim %" PRId64 ", want an even number of at least 6", head_dim);
    }
    if (grid->num_frames > SKY_ROPE_MAX_POSITIONS || grid->num_rows > SKY_ROPE_MAX_POSITIONS ||
        grid->num_cols > SKY_ROPE_MAX_POSITIONS) {
        return sky_fail(SKY_ERR_SHAPE,
                        "rope: grid %" PRId64 " x %" PRId64 " x %" PRId64 ", want at most %d on each axis",
                        grid->num_frames, grid->num_rows, grid->num_cols, SKY_ROPE_MAX_POSITIONS);
    }
    SKY_ASSERT(first_token >= 0 && first_token + num_tokens <= sky_grid_tokens(grid));
    const int64_t side_pairs = head_dim / 6;
    const int64_t time_pairs = head_dim / 2 - 2 * side_pairs;
    const int64_t frame_tokens = grid->num_rows * grid->num_cols;
    float *out = freqs;
    for (int64_t n = first_token; n < first_token + num_tokens; n++) {
        out = fill_axis(out, n / frame_tokens, time_pairs);
        out = fill_axis(out, n % frame_tokens / grid->num_cols, side_pairs);
        out = fill_axis(out, n % grid->num_cols, side_pairs);
    }
    return SKY_OK;
}
