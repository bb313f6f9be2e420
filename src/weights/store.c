#include "weights/store.h"

#include "ops/backend.h"
#include "weights/manifest.h"
#include "weights/quantize.h"
#include "weights/stream.h"
#include "weights/uploader.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is read and sent to the device at a time, at least a row. */
enum { PIECE_BYTES = 16 << 20 };

/* Where tensors without memory are said to be: far from what a planning arena hands out, and from NULL. */
#define PLANNED_BASE ((uintptr_t)1 << 62)

typedef struct kept_tensor {
    char *name; /* owned */
    sky_weight_request request;
    bool conv; /* asked for by sky_weights_get_conv */
    int group;
    sky_tensor tensor; /* in the store's block, or in one of its own */
} kept_tensor;

struct sky_weights {
    sky_ctx *ctx;
    const sky_checkpoint *checkpoint;
    sky_component component;
    sky_weights_options options;
    kept_tensor *kept;
    size_t num_kept, max_kept;
    int group; /* of what is asked for now */
    int max_group;
    uint64_t read_bytes;  /* of the file, each tensor once */
    uint64_t total_bytes; /* of the component's files */
    uint64_t held_bytes;
    bool planning;

    bool has_block;
    unsigned char *block; /* as large as was planned, or NULL: each tensor has its own */
    uint64_t block_bytes;

    sky_uploader uploader;
    sky_readers *readers;   /* NULL until something is read */
    uint64_t buffer_bytes;  /* the most so far, of each of the two buffers */
    uint64_t scratch_bytes; /* likewise, of each thread */
};

static int num_threads(const sky_weights *w)
{
    return w->options.num_threads > 0 ? w->options.num_threads : 1;
}

/* The block, and buffers, as large as the planning store found. */
static sky_status allocate(sky_weights *w, const sky_weights *planned)
{
    const sky_backend *backend = w->ctx->backend;
    void *block = NULL;
    SKY_ASSERT(planned->planning && planned->component == w->component);
    SKY_TRY(sky_fail_in(backend->alloc(w->ctx->device, planned->held_bytes, &block), "memory for the %s's weights",
                        sky_component_name(w->component)));
    w->has_block = true;
    w->block = block;
    w->block_bytes = planned->held_bytes;
    return sky_uploader_reserve(&w->uploader, planned->buffer_bytes);
}

sky_status sky_weights_create(sky_ctx *ctx, const sky_checkpoint *checkpoint, sky_component component,
                              const sky_weights_options *options, sky_weights **out)
{
    sky_weights *weights = calloc(1, sizeof *weights);
    if (weights == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "weight store: no memory");
    }
    weights->ctx = ctx;
    weights->checkpoint = checkpoint;
    weights->component = component;
    weights->options = options != NULL ? *options : (sky_weights_options){0};
    weights->total_bytes = sky_checkpoint_bytes(checkpoint, component);
    weights->planning = sky_ctx_planning(ctx);
    weights->uploader.ctx = ctx;
    const sky_weights *planned = weights->options.planned;
    weights->options.planned = NULL; /* borrowed for this call */
    const sky_status st = planned != NULL && !weights->planning ? allocate(weights, planned) : SKY_OK;
    if (st != SKY_OK) {
        sky_weights_destroy(&weights);
        return st;
    }
    *out = weights;
    return SKY_OK;
}

sky_status sky_weights_end_loading(sky_weights *weights)
{
    sky_readers_destroy(&weights->readers);
    return sky_uploader_release(&weights->uploader);
}

void sky_weights_destroy(sky_weights **weights)
{
    sky_weights *w = *weights;
    if (w == NULL) {
        return;
    }
    (void)sky_weights_end_loading(w);
    for (size_t i = 0; i < w->num_kept; i++) {
        if (!w->planning && !w->has_block) {
            w->ctx->backend->free(w->ctx->device, w->kept[i].tensor.data);
        }
        free(w->kept[i].name);
    }
    if (w->has_block) {
        w->ctx->backend->free(w->ctx->device, w->block);
    }
    free(w->kept);
    free(w);
    *weights = NULL;
}

/* ---- groups ---- */

void sky_weights_begin_group(sky_weights *weights, int group)
{
    SKY_ASSERT(group >= 0);
    weights->group = group;
    weights->max_group = group > weights->max_group ? group : weights->max_group;
}

sky_status sky_weights_use(sky_ctx *ctx, sky_weights *weights, int group)
{
    (void)ctx; /* everything is resident */
    if (group < 0 || group > weights->max_group) {
        return sky_fail(SKY_ERR_INTERNAL, "%s: group %d of its weights is wanted, it has 0 to %d",
                        sky_component_name(weights->component), group, weights->max_group);
    }
    return SKY_OK;
}

/* ---- requests ---- */

static bool same_request(const sky_weight_request *a, const sky_weight_request *b)
{
    if (a->dtype != b->dtype || a->round_bf16 != b->round_bf16 || a->num_dims != b->num_dims) {
        return false;
    }
    for (int i = 0; i < a->num_dims; i++) {
        if (a->shape[i] != b->shape[i]) {
            return false;
        }
    }
    return true;
}

/* The tensor that an equal request got before, or NULL. *read_before tells whether any request read this name. */
static const kept_tensor *find_kept(const sky_weights *weights, const char *name, const sky_weight_request *request,
                                    bool conv, bool *read_before)
{
    *read_before = false;
    for (size_t i = 0; i < weights->num_kept; i++) {
        const kept_tensor *kept = &weights->kept[i];
        if (strcmp(kept->name, name) == 0) {
            *read_before = true;
            if (kept->conv == conv && same_request(&kept->request, request)) {
                return kept;
            }
        }
    }
    return NULL;
}

static const char *shape_text(int num_dims, const int64_t *shape, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < num_dims && used < size; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i > 0 ? ", " : "", shape[i]);
    }
    if (used < size) {
        snprintf(text + used, size - used, "]");
    }
    return text;
}

static sky_status check_shape(const char *name, const sky_weight_request *request, bool conv)
{
    bool valid = request->num_dims >= 0 && request->num_dims <= SKY_MAX_DIMS &&
                 (!conv || request->num_dims == 4 || request->num_dims == 5);
    for (int i = 0; valid && i < request->num_dims; i++) {
        valid = request->shape[i] >= 1;
    }
    if (!valid) {
        return sky_fail(SKY_ERR_SHAPE, "%s: asked for in a shape that no %s has", name,
                        conv ? "convolution's weight" : "tensor");
    }
    return SKY_OK;
}

static sky_status check_request(const char *name, const sky_weight_request *request, bool conv)
{
    if (request->dtype != SKY_F32 && request->dtype != SKY_BF16) {
        return sky_fail(SKY_ERR_DTYPE, "%s: weights are kept in f32 or bf16, not in %s", name,
                        sky_dtype_name(request->dtype));
    }
    return check_shape(name, request, conv);
}

/* The folder's precision where it is converted. */
static const char *converted_to(const sky_weights *weights)
{
    const sky_dtype codes = sky_checkpoint_codes(weights->checkpoint);
    return codes == SKY_F8_E4M3 ? "fp8" : codes == SKY_I8 ? "int8" : NULL;
}

static bool is_code(sky_dtype dtype)
{
    return dtype == SKY_F8_E4M3 || dtype == SKY_I8;
}

static bool has_codes(const sky_weights *weights, const sky_source_tensor *source)
{
    return converted_to(weights) != NULL && is_code(source->dtype);
}

/* Types that mean weights by themselves; 8-bit codes of others (e4m3 with scales in some name or other) do not. */
static sky_status check_type(const sky_weights *weights, const char *name, const sky_source_tensor *source)
{
    const sky_dtype type = source->dtype;
    if (type == SKY_F32 || type == SKY_BF16 || type == SKY_F16 || type == SKY_F64 || has_codes(weights, source)) {
        return SKY_OK;
    }
    return sky_fail(SKY_ERR_INPUT,
                    "%s: want floating numbers of 16 or 32 bits, file has %s (take the checkpoint as published and let "
                    "skyreels-convert quantise it) (%s)",
                    name, sky_dtype_name(type), sky_checkpoint_file(weights->checkpoint, weights->component, source));
}

/* A converted folder has its linear layers' weights in one 8-bit format and in no other. */
static sky_status check_format(const sky_weights *weights, const char *name, const sky_source_tensor *source,
                               sky_dtype wanted)
{
    const char *precision = converted_to(weights);
    if (precision == NULL || source->dtype == wanted || (!is_code(source->dtype) && !is_code(wanted))) {
        return SKY_OK;
    }
    if (!is_code(source->dtype)) {
        if (weights->component != SKY_TRANSFORMER) {
            return SKY_OK; /* stored as it is published, so that it can be quantised here */
        }
        return sky_fail(SKY_ERR_MISMATCH, "%s: wanted in 8 bits, and this converted folder has it in %s (%s)", name,
                        sky_dtype_name(source->dtype), sky_checkpoint_path(weights->checkpoint));
    }
    return sky_fail(SKY_ERR_MISMATCH,
                    "%s: wanted as %s, but this folder is converted and has 8-bit codes for --precision %s only: use "
                    "that, or the original folder (%s)",
                    name, sky_dtype_name(wanted), precision, sky_checkpoint_path(weights->checkpoint));
}

static sky_status find_source(const sky_weights *weights, const char *name, const sky_weight_request *request,
                              const sky_source_tensor **out)
{
    const sky_source_tensor *source = sky_checkpoint_find(weights->checkpoint, weights->component, name);
    if (source == NULL) {
        return sky_fail(SKY_ERR_INPUT, "%s: the %s has no such tensor; looked in %s (%s)", name,
                        sky_component_name(weights->component), sky_checkpoint_path(weights->checkpoint),
                        sky_checkpoint_file(weights->checkpoint, weights->component, NULL));
    }
    bool same = source->num_dims == request->num_dims;
    for (int i = 0; same && i < source->num_dims; i++) {
        same = source->shape[i] == request->shape[i];
    }
    if (!same) {
        char want[160];
        char found[160];
        return sky_fail(SKY_ERR_MISMATCH, "%s: want %s, file has %s (%s)", name,
                        shape_text(request->num_dims, request->shape, want, sizeof want),
                        shape_text(source->num_dims, source->shape, found, sizeof found),
                        sky_checkpoint_file(weights->checkpoint, weights->component, source));
    }
    SKY_TRY(check_type(weights, name, source));
    SKY_TRY(check_format(weights, name, source, request->dtype));
    *out = source;
    return SKY_OK;
}

static sky_tensor device_shape(const sky_weight_request *request, bool conv)
{
    sky_tensor t = {.dtype = request->dtype, .num_dims = request->num_dims};
    const int64_t *shape = request->shape;
    if (conv) {
        const bool has_time = request->num_dims == 5;
        t.num_dims = 5;
        t.shape[0] = shape[0];
        t.shape[1] = has_time ? shape[2] : 1;
        t.shape[2] = shape[has_time ? 3 : 2];
        t.shape[3] = shape[has_time ? 4 : 3];
        t.shape[4] = shape[1];
    } else {
        memcpy(t.shape, shape, sizeof t.shape);
    }
    return t;
}

/* ---- memory ---- */

static uint64_t aligned(uint64_t bytes)
{
    const uint64_t alignment = SKY_ARENA_ALIGNMENT_BYTES;
    return (bytes + alignment - 1) / alignment * alignment;
}

/* Completes a tensor with memory, or with what stands for it when planning. */
static sky_status place(sky_weights *w, const char *name, sky_tensor *tensor)
{
    const uint64_t bytes = aligned(sky_tensor_bytes(tensor));
    if (w->planning) {
        tensor->data = (void *)(PLANNED_BASE + (uintptr_t)w->held_bytes);
    } else if (!w->has_block) {
        void *block = NULL;
        SKY_TRY(sky_fail_in(w->ctx->backend->alloc(w->ctx->device, sky_tensor_bytes(tensor), &block), "%s", name));
        tensor->data = block;
    } else if (bytes > w->block_bytes - w->held_bytes) {
        return sky_fail(SKY_ERR_INTERNAL,
                        "%s: %" PRIu64 " bytes are beyond the %" PRIu64 " that were planned for the %s", name, bytes,
                        w->block_bytes, sky_component_name(w->component));
    } else {
        tensor->data = w->block + w->held_bytes;
    }
    w->held_bytes += bytes;
    return SKY_OK;
}

/* What was placed last, after a failure. */
static void unplace(sky_weights *w, const sky_tensor *tensor)
{
    w->held_bytes -= aligned(sky_tensor_bytes(tensor));
    if (!w->planning && !w->has_block) {
        w->ctx->backend->free(w->ctx->device, tensor->data);
    }
}

static sky_status keep(sky_weights *weights, const char *name, const sky_weight_request *request, bool conv,
                       const sky_tensor *tensor)
{
    if (weights->num_kept == weights->max_kept) {
        const size_t max_kept = weights->max_kept == 0 ? 64 : 2 * weights->max_kept;
        kept_tensor *grown = realloc(weights->kept, max_kept * sizeof *grown);
        if (grown == NULL) {
            return sky_fail(SKY_ERR_NOMEM, "weight store: no memory for a list of %zu tensors", max_kept);
        }
        weights->kept = grown;
        weights->max_kept = max_kept;
    }
    char *copy = strdup(name);
    if (copy == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "weight store: no memory for a name");
    }
    weights->kept[weights->num_kept++] =
        (kept_tensor){.name = copy, .request = *request, .conv = conv, .group = weights->group, .tensor = *tensor};
    return SKY_OK;
}

/* ---- from file to device ---- */

typedef enum change {
    AS_READ, /* by the stream's conversion alone, straight to its place */
    WIDEN,   /* bf16 values into f32 */
    TURN,    /* [O, C, taps] -> [O, taps, C] */
    QUANTIZE,
    CHECK_SCALE
} change;

/* How a tensor passes from its file to the device. */
typedef struct passage {
    const sky_source_tensor *source;
    change change;
    sky_dtype read;          /* what the stream hands out */
    sky_dtype kept;          /* and what becomes of it */
    uint64_t row_len;        /* elements that are changed together */
    uint64_t channels, taps; /* TURN: of a row */
    bool round_bf16;         /* QUANTIZE: the values first */
    uint64_t piece_len;      /* elements at a time: whole rows */
    unsigned char *data;     /* on the device */
    float *scale;            /* QUANTIZE: on the device, one for each row */
    uint64_t first;          /* of the piece at hand */
    unsigned char *piece;    /* where its values go */
    float *piece_scale;      /* and its scales */
    atomic_int_fast64_t bad; /* CHECK_SCALE: first row without a scale; -1: none */
} passage;

static uint64_t passage_len(const passage *p)
{
    return p->source->len_bytes / sky_dtype_bytes(p->source->dtype);
}

static void set_piece(const sky_weights *w, passage *p)
{
    const uint64_t len = passage_len(p);
    const uint64_t piece_bytes = w->options.piece_bytes > 0 ? w->options.piece_bytes : PIECE_BYTES;
    const uint64_t most = piece_bytes / sky_dtype_bytes(p->kept) / p->row_len * p->row_len;
    p->piece_len = most > p->row_len ? most : p->row_len;
    p->piece_len = p->piece_len < len ? p->piece_len : len;
}

/* Bytes of a piece in a buffer: values, and scales. */
static int piece_bytes(const passage *p, uint64_t len, uint64_t bytes[2])
{
    bytes[0] = len * sky_dtype_bytes(p->kept);
    bytes[1] = len / p->row_len * sizeof(float);
    return p->change == QUANTIZE ? 2 : 1;
}

static void count_staging(sky_weights *w, const passage *p)
{
    uint64_t bytes[2];
    const int num_parts = piece_bytes(p, p->piece_len, bytes);
    const uint64_t buffer = sky_uploader_bytes(w->ctx, bytes, num_parts);
    const uint64_t scratch = sky_stream_scratch_bytes(p->source->dtype, p->read, p->change == AS_READ ? 0 : p->row_len);
    w->buffer_bytes = buffer > w->buffer_bytes ? buffer : w->buffer_bytes;
    w->scratch_bytes = scratch > w->scratch_bytes ? scratch : w->scratch_bytes;
}

static void widen(float *to, const uint16_t *from, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        to[i] = sky_bf16_to_f32(from[i]);
    }
}

/* Rows [channels, taps] -> [taps, channels]. */
#define DEFINE_TURN(name, to_type, from_type, convert)                                                    \
    static void name(to_type *to, const from_type *from, uint64_t rows, uint64_t channels, uint64_t taps) \
    {                                                                                                     \
        for (uint64_t r = 0; r < rows; r++, from += channels * taps) {                                    \
            for (uint64_t tap = 0; tap < taps; tap++) {                                                   \
                for (uint64_t c = 0; c < channels; c++) {                                                 \
                    *to++ = convert(from[c * taps + tap]);                                                \
                }                                                                                         \
            }                                                                                             \
        }                                                                                                 \
    }
DEFINE_TURN(turn_f32, float, float, )
DEFINE_TURN(turn_bf16, uint16_t, uint16_t, )
DEFINE_TURN(turn_widened, float, uint16_t, sky_bf16_to_f32)
#undef DEFINE_TURN

static void turn(const passage *p, void *to, const void *values, uint64_t rows)
{
    if (p->read == p->kept) {
        p->kept == SKY_F32 ? turn_f32(to, values, rows, p->channels, p->taps)
                           : turn_bf16(to, values, rows, p->channels, p->taps);
    } else {
        turn_widened(to, values, rows, p->channels, p->taps);
    }
}

static void check_scale(passage *p, const float *scale, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (!(scale[i] > 0.0F)) {
            int_fast64_t bad = atomic_load(&p->bad);
            while ((bad < 0 || bad > (int_fast64_t)(first + i)) &&
                   !atomic_compare_exchange_weak(&p->bad, &bad, (int_fast64_t)(first + i))) {
            }
            return;
        }
    }
}

/* A chunk of the piece at hand; by several threads. */
static void take(void *user, uint64_t first, uint64_t count, void *values)
{
    passage *p = user;
    const uint64_t at = first - p->first;
    void *to = p->piece + at * sky_dtype_bytes(p->kept);
    switch (p->change) {
    case WIDEN:
        widen(to, values, count);
        break;
    case TURN:
        turn(p, to, values, count / p->row_len);
        break;
    case QUANTIZE:
        for (uint64_t i = 0; p->round_bf16 && i < count; i++) {
            ((float *)values)[i] = sky_round_bf16(((const float *)values)[i]);
        }
        sky_quantize_host_rows(p->kept, (int64_t)(count / p->row_len), (int64_t)p->row_len, values, to,
                               p->piece_scale + at / p->row_len);
        break;
    default:
        check_scale(p, values, first, count);
        memcpy(to, values, count * sizeof(float));
    }
}

static sky_status pass_piece(sky_weights *w, passage *p, sky_stream *stream, uint64_t len)
{
    uint64_t bytes[2];
    const int num_parts = piece_bytes(p, len, bytes);
    sky_upload_part parts[2] = {{.to = p->data + p->first * sky_dtype_bytes(p->kept), .bytes = bytes[0]},
                                {.to = p->scale != NULL ? p->scale + p->first / p->row_len : NULL, .bytes = bytes[1]}};
    SKY_TRY(sky_uploader_begin(&w->uploader, parts, num_parts));
    p->piece = parts[0].host;
    p->piece_scale = parts[1].host;
    SKY_TRY(p->change == AS_READ ? sky_stream_next(stream, len, p->piece)
                                 : sky_stream_take_next(stream, len, p->row_len, take, p));
    return sky_uploader_end(&w->uploader, parts, num_parts);
}

/* All of it to p->data (and p->scale). */
static sky_status pass(sky_weights *w, passage *p)
{
    const sky_source *source = sky_checkpoint_source(w->checkpoint, w->component);
    const uint64_t len = passage_len(p);
    sky_stream stream;
    if (w->readers == NULL) {
        SKY_TRY(sky_readers_create(num_threads(w), &w->readers));
    }
    SKY_TRY(sky_stream_begin(&stream, w->readers, source, p->source, p->read));
    for (p->first = 0; p->first < len; p->first += p->piece_len) {
        SKY_TRY(pass_piece(w, p, &stream, len - p->first < p->piece_len ? len - p->first : p->piece_len));
    }
    return sky_stream_end(&stream);
}

static passage passage_of(const sky_weights *w, const sky_source_tensor *source, const sky_weight_request *request,
                          bool conv)
{
    passage p = {.source = source, .read = request->dtype, .kept = request->dtype, .row_len = 1, .bad = -1};
    if (request->dtype == SKY_F32 && request->round_bf16) {
        p.read = SKY_BF16;
        p.change = WIDEN;
    }
    if (conv) {
        p.change = TURN;
        p.channels = (uint64_t)request->shape[1];
        p.taps = 1;
        for (int i = 2; i < request->num_dims; i++) {
            p.taps *= (uint64_t)request->shape[i];
        }
        p.row_len = p.channels * p.taps;
    }
    set_piece(w, &p);
    return p;
}

static sky_status load(sky_weights *w, const char *name, const sky_weight_request *request, bool conv, passage *p,
                       sky_tensor *out)
{
    sky_tensor tensor = device_shape(request, conv);
    count_staging(w, p);
    SKY_TRY(place(w, name, &tensor));
    p->data = tensor.data;
    sky_status st = w->planning ? SKY_OK : pass(w, p);
    if (st == SKY_OK) {
        st = keep(w, name, request, conv, &tensor);
    }
    if (st != SKY_OK) {
        unplace(w, &tensor);
        return st;
    }
    *out = tensor;
    return SKY_OK;
}

static void tell_progress(const sky_weights *weights)
{
    if (weights->options.progress != NULL && !weights->planning) {
        weights->options.progress(weights->options.user, weights->read_bytes, weights->total_bytes);
    }
}

static sky_status get(sky_weights *weights, const char *name, const sky_weight_request *request, bool conv,
                      sky_tensor *out)
{
    SKY_TRY(check_request(name, request, conv));
    bool read_before;
    const kept_tensor *kept = find_kept(weights, name, request, conv, &read_before);
    if (kept != NULL) {
        *out = kept->tensor;
        return SKY_OK;
    }
    const sky_source_tensor *source = NULL;
    SKY_TRY(find_source(weights, name, request, &source));
    passage p = passage_of(weights, source, request, conv);
    SKY_TRY(load(weights, name, request, conv, &p, out));
    if (!read_before) {
        weights->read_bytes += source->len_bytes;
    }
    tell_progress(weights);
    return SKY_OK;
}

sky_status sky_weights_get(sky_weights *weights, const char *name, const sky_weight_request *request, sky_tensor *out)
{
    return get(weights, name, request, false, out);
}

sky_status sky_weights_get_conv(sky_weights *weights, const char *name, const sky_weight_request *request,
                                sky_tensor *out)
{
    return get(weights, name, request, true, out);
}

/* ---- 8 bits ---- */

/* Scales are kept by format: a published weight may be asked for in both. */
static void kept_scale_name(const char *name, sky_dtype format, char out[SKY_SCALE_NAME_BYTES + 8])
{
    snprintf(out, SKY_SCALE_NAME_BYTES + 8, "%s.scale %s", name, sky_dtype_name(format));
}

/* A converted folder's codes and scales, as they are. */
static sky_status load_codes(sky_weights *w, const char *name, const sky_source_tensor *source,
                             const sky_weight_request *codes_request, const sky_weight_request *scale_request,
                             sky_tensor *codes, sky_tensor *scale)
{
    char scale_name[SKY_SCALE_NAME_BYTES + 8];
    const sky_source_tensor *scale_source = sky_checkpoint_find_scale(w->checkpoint, w->component, name);
    SKY_ASSERT(scale_source != NULL &&
               scale_source->len_bytes == (uint64_t)scale_request->shape[0] * sizeof(float)); /* the manifest's rule */
    passage p = passage_of(w, scale_source, scale_request, false);
    p.change = CHECK_SCALE;
    kept_scale_name(name, codes_request->dtype, scale_name);
    SKY_TRY(load(w, scale_name, scale_request, false, &p, scale));
    const int64_t bad = (int64_t)atomic_load(&p.bad);
    if (bad >= 0) {
        return sky_fail(SKY_ERR_INPUT, "%s: the scale of row %" PRId64 " is not more than 0", name, bad);
    }
    passage q = passage_of(w, source, codes_request, false);
    return load(w, name, codes_request, false, &q, codes);
}

/* Codes and scales made of published values, a few rows at a time. */
static sky_status load_quantized(sky_weights *w, const char *name, const sky_source_tensor *source,
                                 const sky_weight_request *codes_request, const sky_weight_request *scale_request,
                                 sky_tensor *codes, sky_tensor *scale)
{
    char scale_name[SKY_SCALE_NAME_BYTES + 8];
    sky_tensor scale_tensor = device_shape(scale_request, false);
    passage p = {.source = source,
                 .change = QUANTIZE,
                 .read = SKY_F32,
                 .kept = codes_request->dtype,
                 .row_len = (uint64_t)codes_request->shape[1],
                 .round_bf16 = w->component == SKY_TEXT_ENCODER}; /* as sky_quantize_read_rows() does */
    set_piece(w, &p);
    kept_scale_name(name, codes_request->dtype, scale_name);
    SKY_TRY(place(w, scale_name, &scale_tensor));
    sky_status st = keep(w, scale_name, scale_request, false, &scale_tensor);
    if (st != SKY_OK) {
        unplace(w, &scale_tensor);
        return st;
    }
    p.scale = scale_tensor.data;
    SKY_TRY(load(w, name, codes_request, false, &p, codes));
    *scale = scale_tensor;
    return SKY_OK;
}

sky_status sky_weights_get_8bit(sky_weights *weights, const char *name, sky_dtype format, int64_t rows, int64_t cols,
                                sky_tensor *codes, sky_tensor *scale)
{
    const sky_weight_request codes_request = {.dtype = format, .num_dims = 2, .shape = {rows, cols}};
    const sky_weight_request scale_request = {.dtype = SKY_F32, .num_dims = 1, .shape = {rows}};
    char scale_name[SKY_SCALE_NAME_BYTES + 8];
    if (!is_code(format)) {
        return sky_fail(SKY_ERR_DTYPE, "%s: codes are e4m3 or i8, not %s", name, sky_dtype_name(format));
    }
    SKY_TRY(check_shape(name, &codes_request, false));
    kept_scale_name(name, format, scale_name);
    bool read_before;
    const kept_tensor *kept = find_kept(weights, name, &codes_request, false, &read_before);
    if (kept != NULL) {
        bool ignored;
        *codes = kept->tensor;
        *scale = find_kept(weights, scale_name, &scale_request, false, &ignored)->tensor;
        return SKY_OK;
    }
    const sky_source_tensor *source = NULL;
    SKY_TRY(find_source(weights, name, &codes_request, &source));
    SKY_TRY((has_codes(weights, source) ? load_codes : load_quantized)(weights, name, source, &codes_request,
                                                                       &scale_request, codes, scale));
    if (!read_before) {
        weights->read_bytes += source->len_bytes + (has_codes(weights, source) ? sky_tensor_bytes(scale) : 0);
    }
    tell_progress(weights);
    return SKY_OK;
}

bool sky_weights_shape(const sky_weights *weights, const char *name, int *num_dims, int64_t shape[SKY_MAX_DIMS])
{
    const sky_source_tensor *source = sky_checkpoint_find(weights->checkpoint, weights->component, name);
    if (source == NULL) {
        return false;
    }
    *num_dims = source->num_dims;
    memcpy(shape, source->shape, sizeof source->shape);
    return true;
}

sky_status sky_weights_need_shape(const sky_weights *weights, const char *name, int num_dims,
                                  int64_t shape[SKY_MAX_DIMS])
{
    int found_dims = 0;
    const char *component = sky_component_name(weights->component);
    if (!sky_weights_shape(weights, name, &found_dims, shape)) {
        return sky_fail(SKY_ERR_INPUT, "%s: %s is missing", component, name);
    }
    if (found_dims != num_dims) {
        return sky_fail(SKY_ERR_MISMATCH, "%s: %s: want %d dimensions, file has %d", component, name, num_dims,
                        found_dims);
    }
    return SKY_OK;
}

const json_t *sky_weights_config(const sky_weights *weights)
{
    return sky_checkpoint_config(weights->checkpoint, weights->component);
}

uint64_t sky_weights_bytes(const sky_weights *weights)
{
    return weights->held_bytes;
}

uint64_t sky_weights_group_bytes(const sky_weights *weights, int group)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < weights->num_kept; i++) {
        bytes += weights->kept[i].group == group ? aligned(sky_tensor_bytes(&weights->kept[i].tensor)) : 0;
    }
    return bytes;
}

uint64_t sky_weights_staging_bytes(const sky_weights *weights)
{
    return 2 * weights->buffer_bytes + (uint64_t)num_threads(weights) * weights->scratch_bytes;
}
