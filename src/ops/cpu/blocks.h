/*
 * ops/cpu/blocks.h - tensors as runs of f32
 *
 * An op reads a run of elements of an f32 or bf16 tensor with sky_read() (f32: the tensor itself; bf16: widened into buf), computes into
 * sky_write_to() (f32: the tensor itself; bf16: buf), and ends with sky_write_end() (bf16: rounds buf into the tensor).
 */
#ifndef SKY_OPS_CPU_BLOCKS_H
#define SKY_OPS_CPU_BLOCKS_H

#include "base/tensor.h"
#include "ops/cpu/vec.h"

/* Elements of a run in pointwise ops (buffers on the stack), and of what one thread takes at a time. */
enum { SKY_BLOCK_LEN = 1024, SKY_CHUNK_LEN = 64 * SKY_BLOCK_LEN };

static inline int64_t sky_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t sky_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int64_t sky_div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Both inner loops are free of branches on purpose; to and from do not overlap. */
static inline void sky_widen(float *restrict to, const uint16_t *restrict from, int64_t len)
{
    for (int64_t i = 0; i < len; i++) {
        to[i] = sky_bits_float((uint32_t)from[i] << 16);
    }
}

static inline void sky_narrow(uint16_t *restrict to, const float *restrict from, int64_t len)
{
    for (int64_t i = 0; i < len; i++) {
        const uint32_t bits = sky_float_bits(from[i]);
        const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
        const uint32_t nan = (bits >> 16) | 0x40U;
        to[i] = (uint16_t)((bits & 0x7fffffffU) > 0x7f800000U ? nan : rounded);
    }
}

static inline void sky_widen_i8(float *restrict to, const int8_t *restrict from, int64_t len)
{
    for (int64_t i = 0; i < len; i++) {
        to[i] = (float)from[i];
    }
}

static inline void sky_widen_e4m3(float *restrict to, const uint8_t *restrict from, int64_t len)
{
    for (int64_t i = 0; i < len; i++) {
        to[i] = sky_e4m3_value(from[i]);
    }
}

/* From f32, bf16, i8 or e4m3. */
static inline void sky_widen_any(float *restrict to, const void *restrict from, sky_dtype dtype, int64_t len)
{
    if (dtype == SKY_F32) {
        memcpy(to, from, (size_t)len * sizeof *to);
    } else if (dtype == SKY_BF16) {
        sky_widen(to, from, len);
    } else if (dtype == SKY_I8) {
        sky_widen_i8(to, from, len);
    } else {
        sky_widen_e4m3(to, from, len);
    }
}

static inline const void *sky_at(const sky_tensor *t, int64_t index)
{
    return (const unsigned char *)t->data + (size_t)index * sky_dtype_bytes(t->dtype);
}

static inline const float *sky_read(const sky_tensor *t, int64_t index, int64_t len, float *buf)
{
    if (t->dtype == SKY_F32) {
        return (const float *)t->data + index;
    }
    sky_widen(buf, (const uint16_t *)t->data + index, len);
    return buf;
}

/* As sky_read(), but always a copy. */
static inline void sky_read_copy(float *to, const sky_tensor *t, int64_t index, int64_t len)
{
    if (t->dtype == SKY_F32) {
        memcpy(to, (const float *)t->data + index, (size_t)len * sizeof *to);
    } else {
        sky_widen(to, (const uint16_t *)t->data + index, len);
    }
}

static inline float *sky_write_to(const sky_tensor *t, int64_t index, float *buf)
{
    return t->dtype == SKY_F32 ? (float *)t->data + index : buf;
}

static inline void sky_write_end(const sky_tensor *t, int64_t index, int64_t len, const float *buf)
{
    if (t->dtype != SKY_F32) {
        sky_narrow((uint16_t *)t->data + index, buf, len);
    }
}

#endif
