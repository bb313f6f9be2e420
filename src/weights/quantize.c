#include "weights/quantize.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const float least_amax = 1e-12F; /* a row of zeros gets codes of zero */

int64_t sky_quantize_block_rows(int64_t cols)
{
    const int64_t rows = SKY_QUANTIZE_BLOCK_BYTES / (int64_t)sizeof(float) / cols;
    return rows > 0 ? rows : 1;
}

static float row_amax(const float *x, int64_t cols)
{
    uint32_t most = 0; /* finite magnitudes are in the order of their bits; integers, so that it is vectorised */
    for (int64_t c = 0; c < cols; c++) {
        uint32_t bits;
        memcpy(&bits, &x[c], sizeof bits);
        bits &= 0x7fffffffU;
        most = bits > most ? bits : most;
    }
    float amax;
    memcpy(&amax, &most, sizeof amax);
    return amax > least_amax ? amax : least_amax;
}

void sky_quantize_host_rows(sky_dtype format, int64_t rows, int64_t cols, const float *x, uint8_t *codes, float *scale)
{
    SKY_ASSERT(format == SKY_F8_E4M3 || format == SKY_I8);
    const float most = format == SKY_F8_E4M3 ? 448.0F : 127.0F;
    for (int64_t r = 0; r < rows; r++) {
        const float *from = x + r * cols;
        uint8_t *to = codes + r * cols;
        const float amax = row_amax(from, cols);
        const float factor = 1.0F / amax * most; /* as ops/quantize_rows.h says: two roundings */
        scale[r] = amax / most;
        if (format == SKY_F8_E4M3) {
            for (int64_t c = 0; c < cols; c++) {
                to[c] = sky_f32_to_e4m3(from[c] * factor);
            }
        } else {
            const float shift = 0x1.8p23F; /* adding it leaves no bits behind the point: rounds to nearest even */
            for (int64_t c = 0; c < cols; c++) {
                to[c] = (uint8_t)(int8_t)(from[c] * factor + shift - shift);
            }
        }
    }
}

float sky_code_value(sky_dtype format, uint8_t code)
{
    return format == SKY_F8_E4M3 ? sky_e4m3_to_f32(code) : (float)(int8_t)code;
}

sky_status sky_quantize_read_rows(const sky_checkpoint *checkpoint, sky_component component,
                                  const sky_source_tensor *tensor, int64_t first, int64_t rows, float *values)
{
    SKY_ASSERT(tensor->num_dims == 2 && first >= 0 && rows <= tensor->shape[0] - first);
    const int64_t cols = tensor->shape[1];
    SKY_TRY(sky_checkpoint_read_part(checkpoint, component, tensor, (uint64_t)(first * cols), (uint64_t)(rows * cols),
                                     values, SKY_F32));
    if (component == SKY_TEXT_ENCODER) {
        for (int64_t i = 0; i < rows * cols; i++) {
            values[i] = sky_round_bf16(values[i]);
        }
    }
    return SKY_OK;
}

static const char *const part_names[SKY_BLOCK_LINEARS] = {
    "self_attn.q",  "self_attn.k",  "self_attn.v",  "self_attn.o", "cross_attn.q",
    "cross_attn.k", "cross_attn.v", "cross_attn.o", "ffn.0",       "ffn.2",
};

const char *sky_block_linear_name(int part)
{
    return part_names[part];
}

bool sky_is_block_linear(const char *name, int64_t *block, int *part)
{
    static const char start[] = "blocks.";
    if (strncmp(name, start, sizeof start - 1) != 0) {
        return false;
    }
    const char *digits = name + sizeof start - 1;
    const size_t len = strspn(digits, "0123456789");
    if (len == 0 || len > 6 || (len > 1 && digits[0] == '0') || digits[len] != '.') {
        return false;
    }
    int64_t number = 0;
    for (size_t i = 0; i < len; i++) {
        number = 10 * number + (digits[i] - '0');
    }
    for (int i = 0; i < SKY_BLOCK_LINEARS; i++) {
        const char *rest = digits + len + 1;
        const size_t part_len = strlen(part_names[i]);
        if (strncmp(rest, part_names[i], part_len) == 0 && strcmp(rest + part_len, ".weight") == 0) {
            if (block != NULL) {
                *block = number;
            }
            if (part != NULL) {
                *part = i;
            }
            return true;
        }
    }
    return false;
}
