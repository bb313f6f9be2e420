#include "precision_emulate.h"

#include "ops/cpu/cpu.h"
#include "ops/cpu/vec.h"
#include "weights/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Attention is written for the head dim that every published model has, which is the length of a tile of keys too. */
enum { TILE = SKY_K_GROUP_TOKENS, STEP_TILES = SKY_P_STEP_KEYS / TILE, PIECE = 192, VECS = TILE / SKY_CPU_LANES };

/* ---- queries and keys with scales over other groups of tokens ---- */

/* The table is the emulator's own, which may be changed. */
static emulator *emulator_of(const sky_ctx *ctx)
{
    return (emulator *)(uintptr_t)ctx->backend;
}

/* The contract's own formula over other groups; the scales stay here. Keys are told from queries by their mean. */
static sky_status quantize_heads(sky_ctx *ctx, const sky_quantize_heads_args *args, void *scratch)
{
    const emulator *e = emulator_of(ctx);
    if (e->q_group == 0) {
        return e->cpu->quantize_heads(ctx, args, scratch);
    }
    const bool keys = sky_tensor_present(&args->mean);
    sky_quantize_heads_args own = *args;
    own.tokens_per_group = keys ? e->k_group : e->q_group;
    const int64_t groups = (args->x.shape[0] + own.tokens_per_group - 1) / own.tokens_per_group;
    if (groups * args->x.shape[1] > e->max_scales) {
        return sky_fail(SKY_ERR_INTERNAL, "room for %lld scales, want more", (long long)e->max_scales);
    }
    own.scale = SKY_TENSOR(keys ? e->k_scale : e->q_scale, SKY_F32, groups, args->x.shape[1]);
    return e->cpu->quantize_heads(ctx, &own, scratch);
}

typedef struct attention_job {
    const emulator *e;
    const sky_attention_8bit_args *args;
    int64_t num_queries, num_keys, num_heads;
    int64_t num_pieces;
} attention_job;

typedef struct attention_work {
    float keys[STEP_TILES][TILE * TILE];   /* [channel][key] */
    float values[STEP_TILES][TILE * TILE]; /* [key][channel] */
    float queries[PIECE * TILE];
    float scores[STEP_TILES][PIECE * TILE];
    float sums[PIECE * TILE];
    float maxima[PIECE], totals[PIECE];
} attention_work;

/* Two rows of c += a b, or = where `first`; b is [TILE, TILE]. */
static void product(const float *a, const float *b, float *c, bool first)
{
    sky_vec sum[2][VECS];
    for (int r = 0; r < 2; r++) {
        for (int i = 0; i < VECS; i++) {
            sum[r][i] = (sky_vec){0};
        }
    }
    for (int64_t k = 0; k < TILE; k++) {
        const sky_vec x = sky_vec_all(a[k]);
        const sky_vec y = sky_vec_all(a[TILE + k]);
        for (int i = 0; i < VECS; i++) {
            const sky_vec from = sky_vec_load(b + k * TILE + i * SKY_CPU_LANES);
            sum[0][i] = sky_vec_madd(x, from, sum[0][i]);
            sum[1][i] = sky_vec_madd(y, from, sum[1][i]);
        }
    }
    for (int r = 0; r < 2; r++) {
        for (int i = 0; i < VECS; i++) {
            float *to = c + r * TILE + i * SKY_CPU_LANES;
            sky_vec_store(to, first ? sum[r][i] : sky_vec_load(to) + sum[r][i]);
        }
    }
}

/* Rows [first, first + rows) of one head as floats, zeros behind; keys go [key, channel] -> [channel, key], values back. */
static void read_tile(const attention_job *job, int64_t head, int64_t first, int64_t rows, float *keys, float *values)
{
    const int64_t width = job->num_heads * TILE;
    const uint8_t *v = (const uint8_t *)job->args->v.data + (first / TILE * job->num_heads + head) * TILE * TILE;
    for (int64_t j = 0; j < TILE; j++) {
        const int64_t at = (first + j) * width + head * TILE;
        for (int64_t d = 0; d < TILE; d++) {
            keys[d * TILE + j] = j < rows ? (float)((const int8_t *)job->args->k.data)[at + d] : 0.0F;
            values[j * TILE + d] = sky_e4m3_value(v[d * SKY_V_TILE_TOKENS + sky_v_tile_position(j)]);
        }
    }
}

/* ops/attention_8bit.h, query i and one step of keys; every key has a scale of its own. */
static void softmax_step(attention_work *w, int64_t i, const float *scale, int64_t keys, float softmax_scale)
{
    float now = w->maxima[i];
    for (int64_t j = 0; j < STEP_TILES * TILE; j++) {
        float *s = w->scores[j / TILE] + i * TILE + j % TILE;
        *s = j < keys ? *s * scale[j] * softmax_scale : -__builtin_inff();
        now = *s > now ? *s : now;
    }
    sky_vec sum_p = {0};
    for (int64_t j = 0; j < STEP_TILES * TILE; j += SKY_CPU_LANES) {
        float *at = w->scores[j / TILE] + i * TILE + j % TILE;
        const sky_vec p = sky_vec_exp(sky_vec_load(at) - sky_vec_all(now));
        const sky_vec rounded = sky_vec_round_e4m3(p * sky_vec_all(448.0F));
        sum_p += rounded;
        sky_vec_store(at, rounded);
    }
    float step_total = 0.0F;
    for (int lane = 0; lane < SKY_CPU_LANES; lane++) {
        step_total += sum_p[lane];
    }
    const float shrink = sky_exp(w->maxima[i] - now);
    w->totals[i] = w->totals[i] * shrink + step_total;
    w->maxima[i] = now;
    for (int64_t d = 0; d < TILE; d++) {
        w->sums[i * TILE + d] *= shrink;
    }
}

static void write_piece(const attention_job *job, int64_t head, int64_t first, int64_t rows, const attention_work *w)
{
    const float *v_scale = (const float *)job->args->v_scale.data + head * TILE;
    const float *v_mean = job->args->v_mean.data;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = ((first + i) * job->num_heads + head) * TILE;
        for (int64_t d = 0; d < TILE; d++) {
            float y = w->sums[i * TILE + d] / w->totals[i] * v_scale[d];
            y += v_mean != NULL ? v_mean[head * TILE + d] : 0.0F;
            if (job->args->y.dtype == SKY_F32) {
                ((float *)job->args->y.data)[at + d] = y;
            } else {
                ((uint16_t *)job->args->y.data)[at + d] = sky_f32_to_bf16(y);
            }
        }
    }
}

static void attend_piece(void *arg, int64_t index, int thread)
{
    (void)thread;
    const attention_job *job = arg;
    const emulator *e = job->e;
    const int64_t head = index / job->num_pieces;
    const int64_t first = index % job->num_pieces * PIECE;
    const int64_t rows = job->num_queries - first < PIECE ? job->num_queries - first : PIECE;
    attention_work w;
    memset(&w, 0, sizeof w);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = ((first + i) * job->num_heads + head) * TILE;
        for (int64_t d = 0; d < TILE; d++) {
            w.queries[i * TILE + d] = (float)((const int8_t *)job->args->q.data)[at + d];
        }
        w.maxima[i] = -__builtin_inff();
    }
    for (int64_t key = 0; key < job->num_keys; key += STEP_TILES * TILE) {
        const int64_t keys = job->num_keys - key < STEP_TILES * TILE ? job->num_keys - key : STEP_TILES * TILE;
        for (int64_t t = 0; t * TILE < keys; t++) {
            const int64_t tile_keys = keys - t * TILE < TILE ? keys - t * TILE : TILE;
            read_tile(job, head, key + t * TILE, tile_keys, w.keys[t], w.values[t]);
            for (int64_t i = 0; i < rows; i += 2) {
                product(w.queries + i * TILE, w.keys[t], w.scores[t] + i * TILE, true);
            }
        }
        for (int64_t i = 0; i < rows; i++) {
            const float q = e->q_scale[(first + i) / e->q_group * job->num_heads + head];
            float scale[STEP_TILES * TILE];
            for (int64_t j = 0; j < keys; j++) {
                scale[j] = q * e->k_scale[(key + j) / e->k_group * job->num_heads + head];
            }
            softmax_step(&w, i, scale, keys, job->args->softmax_scale);
        }
        for (int64_t t = 0; t * TILE < keys; t++) {
            for (int64_t i = 0; i < rows; i += 2) {
                product(w.scores[t] + i * TILE, w.values[t], w.sums + i * TILE, false);
            }
        }
    }
    write_piece(job, head, first, rows, &w);
}

static sky_status attention_8bit(sky_ctx *ctx, const sky_attention_8bit_args *args, void *scratch)
{
    const emulator *e = emulator_of(ctx);
    if (e->q_group == 0) {
        return e->cpu->attention_8bit(ctx, args, scratch);
    }
    if (args->q.shape[2] != TILE) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "other groups of tokens are emulated for heads of %d, not %lld", TILE,
                        (long long)args->q.shape[2]);
    }
    attention_job job = {.e = e,
                         .args = args,
                         .num_queries = args->q.shape[0],
                         .num_keys = args->k.shape[0],
                         .num_heads = args->q.shape[1]};
    job.num_pieces = (job.num_queries + PIECE - 1) / PIECE;
    sky_threads_for(e->threads, job.num_heads * job.num_pieces, attend_piece, &job);
    return SKY_OK;
}

/* ---- what codes are made of, for layers in bf16 ---- */

/* A tensor for the values of codes [rows, cols]; NULL where nobody will ask for them. */
static sky_status keep_values(emulator *e, const sky_tensor *codes, sky_tensor *values)
{
    const size_t len = (size_t)sky_tensor_len(codes);
    if (len > e->values_len) {
        free(e->values);
        free(e->rounded);
        e->values = malloc(len * sizeof *e->values);
        e->rounded = malloc(len * sizeof *e->rounded);
        e->values_len = len;
        if (e->values == NULL || e->rounded == NULL) {
            e->values_len = 0;
            return sky_fail(SKY_ERR_NOMEM, "values of %zu codes", len);
        }
    }
    e->value_codes = codes->data;
    *values = SKY_TENSOR(e->values, SKY_F32, codes->shape[0], codes->shape[1]);
    return SKY_OK;
}

/* The op into f32, then its codes: which is what it means to write codes. */
#define WITH_VALUES(op)                                                                                  \
    static sky_status op(sky_ctx *ctx, const sky_##op##_args *args, void *scratch)                       \
    {                                                                                                    \
        emulator *e = emulator_of(ctx);                                                                  \
        if (!e->has_plain || !sky_tensor_present(&args->y_scale)) {                                      \
            return e->cpu->op(ctx, args, scratch);                                                       \
        }                                                                                                \
        sky_##op##_args own = *args;                                                                     \
        SKY_TRY(keep_values(e, &args->y, &own.y));                                                       \
        own.y_scale = (sky_tensor){0};                                                                   \
        SKY_TRY(e->cpu->op(ctx, &own, scratch));                                                         \
        return e->cpu->quantize_rows(                                                                    \
            ctx, &(sky_quantize_rows_args){.codes = args->y, .scale = args->y_scale, .x = own.y}, NULL); \
    }
WITH_VALUES(activation)
WITH_VALUES(layer_norm)
WITH_VALUES(layer_norm_modulate)
WITH_VALUES(residual_norm)

static sky_status quantize_rows(sky_ctx *ctx, const sky_quantize_rows_args *args, void *scratch)
{
    emulator *e = emulator_of(ctx);
    sky_tensor values;
    if (e->has_plain) {
        SKY_TRY(keep_values(e, &args->codes, &values));
        SKY_TRY(e->cpu->convert(ctx, &(sky_convert_args){.y = values, .x = args->x}, NULL));
    }
    return e->cpu->quantize_rows(ctx, args, scratch);
}

static sky_status plain_linear(sky_ctx *ctx, const sky_linear_8bit_args *args, const emulated_layer *l)
{
    emulator *e = emulator_of(ctx);
    const int64_t rows = args->x.shape[0];
    if (args->x.data != e->value_codes) {
        return sky_fail(SKY_ERR_INTERNAL, "codes whose values were not kept");
    }
    const sky_tensor x = SKY_TENSOR(e->rounded, SKY_BF16, rows, l->cols);
    SKY_TRY(
        e->cpu->convert(ctx, &(sky_convert_args){.y = x, .x = SKY_TENSOR(e->values, SKY_F32, rows, l->cols)}, NULL));
    return e->cpu->linear(
        ctx,
        &(sky_linear_args){
            .y = args->y, .x = x, .weight = SKY_TENSOR(l->plain, SKY_BF16, l->rows, l->cols), .bias = args->bias},
        NULL);
}

/* ---- layers with other weights ---- */

static const emulated_layer *find_layer(const emulator *e, const sky_linear_8bit_args *args)
{
    for (int64_t i = 0; i < e->num_layers; i++) {
        const emulated_layer *l = &e->layers[i];
        if (l->format == args->weight.dtype && l->rows == args->weight.shape[0] && l->cols == args->weight.shape[1] &&
            memcmp(l->contract_scale, args->weight_scale.data, (size_t)l->rows * sizeof(float)) == 0) {
            return l;
        }
    }
    return NULL;
}

static sky_status linear_8bit(sky_ctx *ctx, const sky_linear_8bit_args *args, void *scratch)
{
    const emulator *e = emulator_of(ctx);
    const emulated_layer *l = find_layer(e, args);
    sky_linear_8bit_args own = *args;
    if (l != NULL && l->plain != NULL) {
        return plain_linear(ctx, args, l);
    }
    if (l != NULL) {
        own.weight.data = l->codes;
        own.weight_scale.data = l->scale;
    } else if (e->num_layers > 0 && !e->has_plain) {
        return sky_fail(SKY_ERR_INTERNAL, "a linear layer whose weights were not quantised again");
    }
    return e->cpu->linear_8bit(ctx, &own, scratch);
}

/* ---- weights whose scales have the least squared error ---- */

/* Sum of squares of what codes with this scale leave of a row. */
static double row_error(sky_dtype format, const float *x, int64_t cols, float scale)
{
    const bool e4m3 = format == SKY_F8_E4M3;
    const sky_vec most = sky_vec_all(e4m3 ? 448.0F : 127.0F);
    const sky_vec shift = sky_vec_all(0x1.8p23F); /* adding it leaves no bits behind the point */
    const sky_vec factor = sky_vec_all(1.0F / scale);
    sky_vec sum = {0};
    for (int64_t c = 0; c < cols; c += SKY_CPU_LANES) {
        const sky_vec value = sky_vec_load(x + c);
        const sky_vec size = sky_vec_min(sky_vec_max(value, -value) * factor, most);
        const sky_vec code = e4m3 ? sky_vec_round_e4m3(size) : (size + shift) - shift;
        const sky_vec off = code * sky_vec_all(scale) - sky_vec_max(value, -value);
        sum = sky_vec_madd(off, off, sum);
    }
    double error = 0.0;
    for (int i = 0; i < SKY_CPU_LANES; i++) {
        error += (double)sum[i];
    }
    return error;
}

/* The best of 41 scales from 0.80 to 1.00 of the contract's. */
static float best_scale(emulator *e, sky_dtype format, const float *x, int64_t cols, float contract_scale)
{
    float best = contract_scale;
    double least = row_error(format, x, cols, best);
    e->contract_squares += least;
    for (int i = 0; i < 40; i++) {
        const float scale = contract_scale * (0.8F + 0.005F * (float)i);
        const double error = row_error(format, x, cols, scale);
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    e->least_squares += least;
    return best;
}

static uint8_t code_of(sky_dtype format, float x)
{
    if (format == SKY_F8_E4M3) {
        return sky_f32_to_e4m3(x);
    }
    return (uint8_t)(int8_t)rintf(fminf(fmaxf(x, -127.0F), 127.0F));
}

static sky_status requantize_layer(emulator *e, const sky_checkpoint *checkpoint, const sky_source_tensor *tensor,
                                   sky_dtype format, emulated_layer *l)
{
    *l = (emulated_layer){.rows = tensor->shape[0], .cols = tensor->shape[1], .format = format};
    if (l->cols % SKY_CPU_LANES != 0) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "%s: want columns in multiples of %d", tensor->name, SKY_CPU_LANES);
    }
    const size_t len = (size_t)(l->rows * l->cols);
    float *x = malloc(len * sizeof *x);
    l->contract_scale = malloc((size_t)l->rows * sizeof *l->contract_scale);
    l->scale = malloc((size_t)l->rows * sizeof *l->scale);
    l->codes = malloc(len);
    sky_status st = x != NULL && l->contract_scale != NULL && l->scale != NULL && l->codes != NULL
                        ? SKY_OK
                        : sky_fail(SKY_ERR_NOMEM, "%s", tensor->name);
    if (st == SKY_OK) {
        st = sky_quantize_read_rows(checkpoint, SKY_TRANSFORMER, tensor, 0, l->rows, x);
    }
    if (st == SKY_OK) {
        sky_quantize_host_rows(format, l->rows, l->cols, x, l->codes, l->contract_scale);
        for (int64_t r = 0; r < l->rows; r++) {
            const float *row = x + r * l->cols;
            l->scale[r] = best_scale(e, format, row, l->cols, l->contract_scale[r]);
            for (int64_t c = 0; c < l->cols; c++) {
                l->codes[r * l->cols + c] = code_of(format, row[c] / l->scale[r]);
            }
        }
    }
    free(x);
    return st;
}

sky_status emulator_requantize(emulator *e, const sky_checkpoint *checkpoint, sky_dtype format)
{
    const int64_t count = sky_checkpoint_count(checkpoint, SKY_TRANSFORMER);
    emulator_forget_layers(e);
    e->layers = calloc((size_t)count, sizeof *e->layers);
    if (e->layers == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "layers to quantise again");
    }
    for (int64_t i = 0; i < count; i++) {
        char name[256];
        const sky_source_tensor *tensor = sky_checkpoint_at(checkpoint, SKY_TRANSFORMER, i);
        if (sky_checkpoint_original_name(checkpoint, SKY_TRANSFORMER, tensor, name, sizeof name) &&
            sky_is_block_linear(name, NULL, NULL)) {
            SKY_TRY(requantize_layer(e, checkpoint, tensor, format, &e->layers[e->num_layers++]));
        }
    }
    return SKY_OK;
}

/* ---- layers in bf16 ---- */

static sky_status keep_layer(const sky_checkpoint *checkpoint, const sky_source_tensor *tensor, sky_dtype format,
                             emulated_layer *l)
{
    *l = (emulated_layer){.rows = tensor->shape[0], .cols = tensor->shape[1], .format = format};
    const size_t len = (size_t)(l->rows * l->cols);
    float *x = malloc(len * sizeof *x);
    uint8_t *codes = malloc(len);
    l->contract_scale = malloc((size_t)l->rows * sizeof *l->contract_scale);
    l->plain = malloc(len * sizeof *l->plain);
    sky_status st = x != NULL && codes != NULL && l->contract_scale != NULL && l->plain != NULL
                        ? SKY_OK
                        : sky_fail(SKY_ERR_NOMEM, "%s", tensor->name);
    if (st == SKY_OK) {
        st = sky_quantize_read_rows(checkpoint, SKY_TRANSFORMER, tensor, 0, l->rows, x);
    }
    if (st == SKY_OK) {
        sky_quantize_host_rows(format, l->rows, l->cols, x, codes, l->contract_scale);
        (void)sky_dtype_convert(l->plain, SKY_BF16, x, SKY_F32, len);
    }
    free(codes);
    free(x);
    return st;
}

sky_status emulator_keep_plain(emulator *e, const sky_checkpoint *checkpoint, sky_dtype format, int64_t num_blocks,
                               const emulated_plain *plain)
{
    const int64_t count = sky_checkpoint_count(checkpoint, SKY_TRANSFORMER);
    emulator_forget_layers(e);
    e->layers = calloc((size_t)count, sizeof *e->layers);
    if (e->layers == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "layers to keep");
    }
    for (int64_t i = 0; i < count; i++) {
        char name[256];
        int64_t block = 0;
        int part = 0;
        const sky_source_tensor *tensor = sky_checkpoint_at(checkpoint, SKY_TRANSFORMER, i);
        if (sky_checkpoint_original_name(checkpoint, SKY_TRANSFORMER, tensor, name, sizeof name) &&
            sky_is_block_linear(name, &block, &part) && emulated_is_plain(plain, num_blocks, block, part)) {
            SKY_TRY(keep_layer(checkpoint, tensor, format, &e->layers[e->num_layers++]));
        }
    }
    e->has_plain = e->num_layers > 0;
    return SKY_OK;
}

int64_t emulator_plain_bytes(const emulator *e)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < e->num_layers && e->has_plain; i++) {
        const emulated_layer *l = &e->layers[i];
        bytes += l->rows * l->cols - l->rows * (int64_t)sizeof(float); /* two bytes for one, and no scales */
    }
    return bytes;
}

void emulator_forget_layers(emulator *e)
{
    for (int64_t i = 0; i < e->num_layers; i++) {
        free(e->layers[i].plain);
        free(e->layers[i].contract_scale);
        free(e->layers[i].codes);
        free(e->layers[i].scale);
    }
    free(e->layers);
    e->layers = NULL;
    e->num_layers = 0;
    e->has_plain = false;
    e->contract_squares = e->least_squares = 0.0;
}

sky_status emulator_create(int num_threads, int64_t max_scales, emulator **out)
{
    emulator *e = calloc(1, sizeof *e);
    sky_status st = e != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "emulator");
    SKY_TRY(st);
    e->cpu = sky_backend_cpu();
    e->table = *e->cpu;
    e->table.quantize_heads = quantize_heads;
    e->table.attention_8bit = attention_8bit;
    e->table.linear_8bit = linear_8bit;
    e->table.activation = activation;
    e->table.layer_norm = layer_norm;
    e->table.layer_norm_modulate = layer_norm_modulate;
    e->table.residual_norm = residual_norm;
    e->table.quantize_rows = quantize_rows;
    e->max_scales = max_scales;
    e->q_scale = calloc((size_t)max_scales, sizeof *e->q_scale);
    e->k_scale = calloc((size_t)max_scales, sizeof *e->k_scale);
    st = e->q_scale != NULL && e->k_scale != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "emulator");
    if (st == SKY_OK) {
        st = sky_threads_create(num_threads, &e->threads);
    }
    if (st != SKY_OK) {
        emulator_destroy(&e);
        return st;
    }
    *out = e;
    return SKY_OK;
}

void emulator_destroy(emulator **emulator_)
{
    emulator *e = *emulator_;
    if (e == NULL) {
        return;
    }
    emulator_forget_layers(e);
    if (e->threads != NULL) {
        sky_threads_destroy(&e->threads);
    }
    free(e->values);
    free(e->rounded);
    free(e->q_scale);
    free(e->k_scale);
    free(e);
    *emulator_ = NULL;
}
