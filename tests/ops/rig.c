#include "ops/rig.h"

#include "support/compare.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD_BYTES = 256, GUARD_FILL = 0xa5, POISON = 0xff };

bool rig_open(rig *r, const test_backend *which, int64_t skew, size_t arena_bytes)
{
    *r = (rig){.which = which, .skew = skew};
    r->ctx = (sky_ctx){.backend = sky_backend_find(which->backend), .arena = &r->arena};
    if (sky_device_open(r->ctx.backend, &which->options, &r->ctx.device) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s: no device: %s", which->name, sky_message());
        return false;
    }
    if (arena_bytes == 0) {
        sky_arena_init_planning(&r->arena);
        return true;
    }
    unsigned char guard[GUARD_BYTES];
    memset(guard, GUARD_FILL, sizeof guard);
    if (r->ctx.backend->alloc(r->ctx.device, arena_bytes + GUARD_BYTES, &r->arena_block) != SKY_OK ||
        r->ctx.backend->upload(r->ctx.device, (unsigned char *)r->arena_block + arena_bytes, guard, sizeof guard) !=
            SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s: no memory: %s", which->name, sky_message());
        rig_close(r);
        return false;
    }
    sky_arena_init(&r->arena, r->arena_block, arena_bytes);
    return true;
}

void rig_close(rig *r)
{
    for (int i = 0; i < r->num_buffers; i++) {
        r->ctx.backend->free(r->ctx.device, r->buffers[i].block);
        free(r->buffers[i].host);
    }
    if (r->arena_block != NULL) {
        r->ctx.backend->free(r->ctx.device, r->arena_block);
    }
    sky_device_close(r->ctx.backend, &r->ctx.device);
    *r = (rig){.which = r->which};
}

static size_t block_bytes(const rig_buffer *buffer)
{
    return buffer->body_bytes + 2 * (size_t)GUARD_BYTES;
}

static sky_tensor add_buffer(rig *r, sky_tensor t, bool output, const unsigned char *body)
{
    SKY_ASSERT(r->num_buffers < RIG_MAX_BUFFERS);
    rig_buffer *buffer = &r->buffers[r->num_buffers++];
    *buffer = (rig_buffer){.body_offset = (size_t)GUARD_BYTES + (size_t)r->skew * sky_dtype_bytes(t.dtype),
                           .body_bytes = sky_tensor_bytes(&t),
                           .output = output};
    buffer->host = malloc(block_bytes(buffer));
    void *block = NULL;
    SKY_ASSERT(buffer->host != NULL);
    SKY_ASSERT(r->ctx.backend->alloc(r->ctx.device, block_bytes(buffer), &block) == SKY_OK);
    buffer->block = block;
    memset(buffer->host, GUARD_FILL, block_bytes(buffer));
    if (body != NULL) {
        memcpy(buffer->host + buffer->body_offset, body, buffer->body_bytes);
    } else {
        memset(buffer->host + buffer->body_offset, POISON, buffer->body_bytes);
    }
    SKY_ASSERT(r->ctx.backend->upload(r->ctx.device, block, buffer->host, block_bytes(buffer)) == SKY_OK);
    t.data = buffer->block + buffer->body_offset;
    return t;
}

static sky_tensor describe(sky_dtype dtype, int num_dims, const int64_t *shape)
{
    sky_tensor t = {.dtype = dtype, .num_dims = num_dims};
    for (int i = 0; i < num_dims; i++) {
        t.shape[i] = shape[i];
    }
    return t;
}

double op_value(sky_dtype dtype, uint64_t seed, int64_t i)
{
    const float x = test_random(seed, (uint64_t)i);
    if (dtype == SKY_F8_E4M3) {
        return (double)sky_e4m3_to_f32(sky_f32_to_e4m3(100.0F * x));
    }
    if (dtype == SKY_I8) {
        return (double)fmaxf(-127.0F, fminf(127.0F, rintf(50.0F * x))) + 0.0; /* no -0 */
    }
    return (double)(dtype == SKY_BF16 ? sky_round_bf16(x) : x);
}

sky_tensor rig_values(rig *r, sky_dtype dtype, const float *values, int num_dims, const int64_t *shape)
{
    const sky_tensor t = describe(dtype, num_dims, shape);
    const int64_t len = sky_tensor_len(&t);
    unsigned char *body = malloc(sky_tensor_bytes(&t) + 1);
    SKY_ASSERT(body != NULL);
    for (int64_t i = 0; i < len; i++) {
        switch (dtype) {
        case SKY_F32:
            ((float *)(void *)body)[i] = values[i];
            break;
        case SKY_BF16:
            ((uint16_t *)(void *)body)[i] = sky_f32_to_bf16(values[i]);
            break;
        case SKY_I8:
            ((int8_t *)(void *)body)[i] = (int8_t)values[i];
            break;
        case SKY_F8_E4M3:
            body[i] = sky_f32_to_e4m3(values[i]);
            break;
        default:
            SKY_ASSERT(dtype == SKY_I32);
            ((int32_t *)(void *)body)[i] = (int32_t)values[i];
            break;
        }
    }
    const sky_tensor added = add_buffer(r, t, false, body);
    free(body);
    return added;
}

sky_tensor rig_input(rig *r, sky_dtype dtype, uint64_t seed, int num_dims, const int64_t *shape)
{
    const sky_tensor t = describe(dtype, num_dims, shape);
    const size_t len = (size_t)sky_tensor_len(&t);
    float *values = malloc(len * sizeof(float) + 1);
    SKY_ASSERT(values != NULL);
    for (size_t i = 0; i < len; i++) {
        values[i] = dtype == SKY_I32 ? test_random(seed, i) : (float)op_value(dtype, seed, (int64_t)i);
    }
    const sky_tensor added = rig_values(r, dtype, values, num_dims, shape);
    free(values);
    return added;
}

sky_tensor rig_bytes(rig *r, sky_dtype dtype, const void *bytes, int num_dims, const int64_t *shape)
{
    return add_buffer(r, describe(dtype, num_dims, shape), false, bytes);
}

int64_t rig_v_at(int64_t token, int64_t channel, int64_t channels)
{
    static const int64_t place[16] = {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};
    return (token / 128 * channels + channel) * 128 + token % 128 / 16 * 16 + place[token % 16];
}

sky_tensor rig_v_tiles(rig *r, const float *values, int64_t tokens, int64_t heads, int64_t dim)
{
    const int64_t shape[] = {(tokens + 127) / 128, heads, dim, 128};
    const int64_t channels = heads * dim;
    unsigned char *codes = calloc((size_t)(shape[0] * channels * 128) + 1, 1);
    SKY_ASSERT(codes != NULL);
    for (int64_t i = 0; i < tokens * channels; i++) {
        codes[rig_v_at(i / channels, i % channels, channels)] = sky_f32_to_e4m3(values[i]);
    }
    const sky_tensor t = rig_bytes(r, SKY_F8_E4M3, codes, 4, shape);
    free(codes);
    return t;
}

sky_tensor rig_v_input(rig *r, uint64_t seed, int64_t tokens, int64_t heads, int64_t dim)
{
    const int64_t len = tokens * heads * dim;
    float *values = malloc((size_t)len * sizeof *values + 1);
    SKY_ASSERT(values != NULL);
    for (int64_t i = 0; i < len; i++) {
        values[i] = (float)op_value(SKY_F8_E4M3, seed, i);
    }
    const sky_tensor t = rig_v_tiles(r, values, tokens, heads, dim);
    free(values);
    return t;
}

sky_tensor rig_output(rig *r, sky_dtype dtype, int num_dims, const int64_t *shape)
{
    return add_buffer(r, describe(dtype, num_dims, shape), true, NULL);
}

static rig_buffer *buffer_of(rig *r, const sky_tensor *t)
{
    for (int i = 0; i < r->num_buffers; i++) {
        if ((unsigned char *)t->data == r->buffers[i].block + r->buffers[i].body_offset) {
            return &r->buffers[i];
        }
    }
    SKY_ASSERT(!"a tensor of this rig");
    return NULL;
}

void rig_may_change(rig *r, const sky_tensor *x)
{
    buffer_of(r, x)->output = true;
}

/* Nothing written behind the scratch. */
static bool arena_guard_whole(rig *r)
{
    unsigned char guard[GUARD_BYTES];
    if (r->arena_block == NULL) {
        return true;
    }
    SKY_ASSERT(r->ctx.backend->download(r->ctx.device, guard, r->arena.base + r->arena.capacity_bytes, sizeof guard) ==
               SKY_OK);
    for (size_t i = 0; i < sizeof guard; i++) {
        if (guard[i] != GUARD_FILL) {
            test_fail(__FILE__, __LINE__, "%s: written %zu bytes behind its %zu bytes of scratch", r->which->name, i,
                      r->arena.capacity_bytes);
            return false;
        }
    }
    return true;
}

bool rig_check(rig *r)
{
    if (!arena_guard_whole(r)) {
        return false;
    }
    for (int i = 0; i < r->num_buffers; i++) {
        const rig_buffer *buffer = &r->buffers[i];
        unsigned char *now = malloc(block_bytes(buffer));
        SKY_ASSERT(now != NULL);
        SKY_ASSERT(r->ctx.backend->download(r->ctx.device, now, buffer->block, block_bytes(buffer)) == SKY_OK);
        if (buffer->output && !r->arena.planning) {
            memcpy(now + buffer->body_offset, buffer->host + buffer->body_offset, buffer->body_bytes);
        }
        size_t first = 0;
        while (first < block_bytes(buffer) && now[first] == buffer->host[first]) {
            first++;
        }
        free(now);
        if (first < block_bytes(buffer)) {
            test_fail(__FILE__, __LINE__, "%s, skew %d: buffer %d (%s) of %zu bytes changed at byte %td",
                      r->which->name, (int)r->skew, i, buffer->output ? "output" : "input", buffer->body_bytes,
                      (ptrdiff_t)first - (ptrdiff_t)buffer->body_offset);
            return false;
        }
    }
    return true;
}

unsigned char *rig_read_bytes(rig *r, const sky_tensor *t)
{
    const size_t bytes = sky_tensor_bytes(t);
    unsigned char *out = malloc(bytes + 1);
    SKY_ASSERT(out != NULL);
    SKY_ASSERT(bytes == 0 || r->ctx.backend->download(r->ctx.device, out, t->data, bytes) == SKY_OK);
    return out;
}

float *rig_read(rig *r, const sky_tensor *t)
{
    const int64_t len = sky_tensor_len(t);
    unsigned char *bytes = rig_read_bytes(r, t);
    float *out = malloc((size_t)len * sizeof(float) + 1);
    SKY_ASSERT(out != NULL);
    for (int64_t i = 0; i < len; i++) {
        switch (t->dtype) {
        case SKY_F32:
            out[i] = ((const float *)(const void *)bytes)[i];
            break;
        case SKY_BF16:
            out[i] = sky_bf16_to_f32(((const uint16_t *)(const void *)bytes)[i]);
            break;
        case SKY_I32: /* of large ones the first digits */
            out[i] = (float)((const int32_t *)(const void *)bytes)[i];
            break;
        case SKY_I64: /* of large ones the first digits */
            out[i] = (float)((const int64_t *)(const void *)bytes)[i];
            break;
        case SKY_I8:
            out[i] = ((const int8_t *)(const void *)bytes)[i];
            break;
        case SKY_F8_E4M3:
            out[i] = sky_e4m3_to_f32(bytes[i]);
            break;
        default:
            SKY_ASSERT(t->dtype == SKY_U8);
            out[i] = bytes[i];
            break;
        }
    }
    free(bytes);
    return out;
}
