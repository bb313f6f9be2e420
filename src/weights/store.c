#include "weights/store.h"

#include "ops/backend.h"
#include "weights/manifest.h"
#include "weights/quantize.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_LEN = 1 << 20 }; /* elements read and uploaded at a time */

/* Where tensors without memory are said to be: far from what a planning arena hands out, and from NULL. */
#define PLANNED_BASE ((uintptr_t)1 << 62)

typedef struct kept_tensor {
    char *name; /* owned */
    sky_weight_request request;
    bool conv;         /* asked for by sky_weights_get_conv */
    sky_tensor tensor; /* data is a block of the backend, owned */
} kept_tensor;

struct sky_weights {
    sky_ctx *ctx;
    const sky_checkpoint *checkpoint;
    sky_component component;
    sky_weights_progress progress;
    void *user;
    kept_tensor *kept;
    size_t num_kept, max_kept;
    uint64_t read_bytes;  /* of the file, each tensor once */
    uint64_t total_bytes; /* of the component's files */
    uint64_t held_bytes;
    uint64_t staging_bytes; /* host memory for one tensor, the most so far */
    bool planning;
};

sky_status sky_weights_create(sky_ctx *ctx, const sky_checkpoint *checkpoint, sky_component component,
                              sky_weights_progress progress, void *user, sky_weights **out)
{
    sky_weights *weights = calloc(1, sizeof *weights);
    if (weights == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "weight store: no memory");
    }
    weights->ctx = ctx;
    weights->checkpoint = checkpoint;
    weights->component = component;
    weights->progress = progress;
    weights->user = user;
    weights->total_bytes = sky_checkpoint_bytes(checkpoint, component);
    weights->planning = sky_ctx_planning(ctx);
    *out = weights;
    return SKY_OK;
}

void sky_weights_destroy(sky_weights **weights)
{
    sky_weights *w = *weights;
    if (w == NULL) {
        return;
    }
    for (size_t i = 0; i < w->num_kept; i++) {
        if (!w->planning) {
            w->ctx->backend->free(w->ctx->device, w->kept[i].tensor.data);
        }
        free(w->kept[i].name);
    }
    free(w->kept);
    free(w);
    *weights = NULL;
    /* Stages follow each other: what small tensors leave free in the heap would stay resident beside the next one's. */
    malloc_trim(0);
}

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

/* Elements [first, first + len) into host memory, in the type of the request. */
static sky_status read_host(const sky_weights *weights, const sky_source_tensor *source,
                            const sky_weight_request *request, size_t first, size_t len, unsigned char *host)
{
    if (request->dtype == SKY_BF16 || !request->round_bf16) {
        return sky_checkpoint_read_part(weights->checkpoint, weights->component, source, first, len, host,
                                        request->dtype);
    }
    /* bf16 values into the upper half, then widened in place from the front: value i is written over bytes up to
     * 4i + 3, the values still to be read begin at 2 len + 2 (i + 1), which is never before. */
    const unsigned char *narrow = host + 2 * len;
    SKY_TRY(sky_checkpoint_read_part(weights->checkpoint, weights->component, source, first, len, host + 2 * len,
                                     SKY_BF16));
    for (size_t i = 0; i < len; i++) {
        uint16_t bits;
        memcpy(&bits, narrow + 2 * i, sizeof bits);
        const float value = sky_bf16_to_f32(bits);
        memcpy(host + 4 * i, &value, sizeof value);
    }
    return SKY_OK;
}

/* [O, C, kT, kH, kW] -> [O, kT, kH, kW, C], taps = kT * kH * kW, elements of element_bytes (2 or 4). */
static void transpose_conv(unsigned char *to, const unsigned char *from, size_t outputs, size_t channels, size_t taps,
                           size_t element_bytes)
{
    for (size_t o = 0; o < outputs; o++) {
        for (size_t tap = 0; tap < taps; tap++) {
            for (size_t c = 0; c < channels; c++) {
                memcpy(to, from + ((o * channels + c) * taps + tap) * element_bytes, element_bytes);
                to += element_bytes;
            }
        }
    }
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
        (kept_tensor){.name = copy, .request = *request, .conv = conv, .tensor = *tensor};
    weights->held_bytes += sky_tensor_bytes(tensor);
    return SKY_OK;
}

static void count_staging(sky_weights *weights, uint64_t bytes)
{
    if (bytes > weights->staging_bytes) {
        weights->staging_bytes = bytes;
    }
}

/* In place of loading: a tensor of this shape without memory. */
static sky_status plan_tensor(sky_weights *weights, const char *name, const sky_weight_request *request, bool conv,
                              sky_tensor *out)
{
    sky_tensor tensor = device_shape(request, conv);
    tensor.data = (void *)(PLANNED_BASE + (uintptr_t)weights->held_bytes);
    SKY_TRY(keep(weights, name, request, conv, &tensor));
    *out = tensor;
    return SKY_OK;
}

static sky_status load(sky_weights *weights, const char *name, const sky_weight_request *request, bool conv,
                       const sky_source_tensor *source, sky_tensor *out)
{
    sky_status st = SKY_OK;
    const sky_backend *backend = weights->ctx->backend;
    void *device = weights->ctx->device;
    sky_tensor tensor = device_shape(request, conv);
    const size_t element_bytes = sky_dtype_bytes(tensor.dtype);
    const size_t len = (size_t)sky_tensor_len(&tensor);
    /* A convolution's weight is turned as a whole; anything else passes in pieces. */
    const size_t piece = conv || len < PIECE_LEN ? len : PIECE_LEN;
    count_staging(weights, (conv ? 2 : 1) * (uint64_t)piece * element_bytes);
    if (weights->planning) {
        return plan_tensor(weights, name, request, conv, out);
    }
    unsigned char *host = malloc(piece * element_bytes);
    unsigned char *turned = conv ? malloc(piece * element_bytes) : NULL;

    if (host == NULL || (conv && turned == NULL)) {
        st = sky_fail(SKY_ERR_NOMEM, "%s: no host memory for %zu bytes", name, piece * element_bytes);
        goto done;
    }
    st = backend->alloc(device, len * element_bytes, &tensor.data);
    if (st != SKY_OK) {
        tensor.data = NULL;
        sky_fail_in(st, "%s", name);
        goto done;
    }
    for (size_t first = 0; first < len; first += piece) {
        const size_t count = len - first < piece ? len - first : piece;
        SKY_TRY_GOTO(read_host(weights, source, request, first, count, host));
        if (conv) {
            const int64_t *shape = tensor.shape;
            transpose_conv(turned, host, (size_t)shape[0], (size_t)shape[4], (size_t)(shape[1] * shape[2] * shape[3]),
                           element_bytes);
        }
        SKY_TRY_GOTO(backend->upload(device, (unsigned char *)tensor.data + first * element_bytes, conv ? turned : host,
                                     count * element_bytes));
    }
    SKY_TRY_GOTO(keep(weights, name, request, conv, &tensor));
    *out = tensor;
    tensor.data = NULL;
done:
    if (tensor.data != NULL) {
        backend->free(device, tensor.data);
    }
    free(turned);
    free(host);
    return st;
}

static void tell_progress(const sky_weights *weights)
{
    if (weights->progress != NULL && !weights->planning) {
        weights->progress(weights->user, weights->read_bytes, weights->total_bytes);
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
    SKY_TRY(load(weights, name, request, conv, source, out));
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

/* Host memory of one weight in 8 bits. */
typedef struct host_codes {
    int64_t rows, cols;
    uint8_t *codes;
    float *scale;
} host_codes;

static sky_status read_codes(const sky_weights *weights, const char *name, const sky_source_tensor *source,
                             const host_codes *host)
{
    const sky_source_tensor *scale = sky_checkpoint_find_scale(weights->checkpoint, weights->component, name);
    SKY_ASSERT(scale != NULL && scale->len_bytes == (uint64_t)host->rows * sizeof(float)); /* the manifest's rule */
    SKY_TRY(sky_checkpoint_read_codes(weights->checkpoint, weights->component, source, host->codes));
    SKY_TRY(sky_checkpoint_read(weights->checkpoint, weights->component, scale, host->scale, SKY_F32));
    for (int64_t r = 0; r < host->rows; r++) {
        if (!(host->scale[r] > 0.0F)) {
            return sky_fail(SKY_ERR_INPUT, "%s: the scale of row %" PRId64 " is %g, want more than 0", name, r,
                            (double)host->scale[r]);
        }
    }
    return SKY_OK;
}

/* Rows of published values that are quantised at a time. */
static int64_t quantized_rows(const host_codes *host)
{
    const int64_t block = sky_quantize_block_rows(host->cols);
    return block < host->rows ? block : host->rows;
}

static sky_status quantize(const sky_weights *weights, const sky_source_tensor *source, sky_dtype format,
                           const host_codes *host)
{
    const int64_t most = quantized_rows(host);
    float *values = malloc((size_t)(most * host->cols) * sizeof *values);
    sky_status st = values != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "no host memory for %" PRId64 " rows", most);
    for (int64_t first = 0; first < host->rows && st == SKY_OK; first += most) {
        const int64_t rows = host->rows - first < most ? host->rows - first : most;
        st = sky_quantize_read_rows(weights->checkpoint, weights->component, source, first, rows, values);
        if (st == SKY_OK) {
            sky_quantize_host_rows(format, rows, host->cols, values, host->codes + first * host->cols,
                                   host->scale + first);
        }
    }
    free(values);
    return st;
}

/* Scales are kept by format: a published weight may be asked for in both. */
static void kept_scale_name(const char *name, sky_dtype format, char out[SKY_SCALE_NAME_BYTES + 8])
{
    snprintf(out, SKY_SCALE_NAME_BYTES + 8, "%s.scale %s", name, sky_dtype_name(format));
}

/* A block of the backend with these bytes, kept under name and request. */
static sky_status keep_bytes(sky_weights *weights, const char *name, const sky_weight_request *request,
                             const void *host, sky_tensor *out)
{
    const sky_backend *backend = weights->ctx->backend;
    void *device = weights->ctx->device;
    sky_tensor tensor = device_shape(request, false);
    const size_t bytes = sky_tensor_bytes(&tensor);
    void *block = NULL;
    SKY_TRY(sky_fail_in(backend->alloc(device, bytes, &block), "%s", name));
    tensor.data = block;
    sky_status st = backend->upload(device, block, host, bytes);
    if (st == SKY_OK) {
        st = keep(weights, name, request, false, &tensor);
    }
    if (st != SKY_OK) {
        backend->free(device, block);
        return st;
    }
    *out = tensor;
    return SKY_OK;
}

static sky_status load_8bit(sky_weights *weights, const char *name, const sky_source_tensor *source,
                            const sky_weight_request *codes_request, const sky_weight_request *scale_request,
                            sky_tensor *codes, sky_tensor *scale)
{
    sky_status st = SKY_OK;
    char scale_name[SKY_SCALE_NAME_BYTES + 8];
    host_codes host = {.rows = codes_request->shape[0], .cols = codes_request->shape[1]};
    const size_t count = (size_t)(host.rows * host.cols);
    const uint64_t quantized = has_codes(weights, source) ? 0 : (uint64_t)(quantized_rows(&host) * host.cols);
    kept_scale_name(name, codes_request->dtype, scale_name);
    count_staging(weights, count + (uint64_t)host.rows * sizeof *host.scale + quantized * sizeof(float));
    if (weights->planning) {
        SKY_TRY(plan_tensor(weights, scale_name, scale_request, false, scale));
        return plan_tensor(weights, name, codes_request, false, codes);
    }
    host.codes = malloc(count);
    host.scale = malloc((size_t)host.rows * sizeof *host.scale);
    if (host.codes == NULL || host.scale == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "%s: no host memory for %zu bytes", name, count);
        goto done;
    }
    SKY_TRY_GOTO(has_codes(weights, source) ? read_codes(weights, name, source, &host)
                                            : quantize(weights, source, codes_request->dtype, &host));
    SKY_TRY_GOTO(keep_bytes(weights, scale_name, scale_request, host.scale, scale));
    SKY_TRY_GOTO(keep_bytes(weights, name, codes_request, host.codes, codes));
done:
    free(host.scale);
    free(host.codes);
    return st;
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
    SKY_TRY(load_8bit(weights, name, source, &codes_request, &scale_request, codes, scale));
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

uint64_t sky_weights_staging_bytes(const sky_weights *weights)
{
    return weights->staging_bytes;
}
