#include "weights/convert_impl.h"

#include "base/utf8.h"

#include "weights/directory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Default shards hold at most this, which with HDF5's own part stays below 2 GiB. */
#define MOST_SHARD_BYTES (((uint64_t)2 << 30) - ((uint64_t)16 << 20))

enum { MAX_BLOCKS = 1000 };

void sky_convert_plan_release(convert_plan *plan)
{
    for (int64_t i = 0; i < plan->num_items; i++) {
        free(plan->items[i].name);
    }
    free(plan->items);
    *plan = (convert_plan){0};
}

/* ---- what becomes of a tensor ---- */

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t len = strlen(text);
    const size_t end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* Tensors of transformer and text encoder that stay as wide as they are published. */
static bool keeps_width(sky_component component, const char *name)
{
    static const char *const starts[] = {"patch_embedding.", "text_embedding.", "time_embedding.", "time_projection.",
                                         "fps_embedding.",   "fps_projection.", "img_emb."};
    if (component == SKY_VAE || strstr(name, "norm") != NULL || ends_with(name, "modulation")) {
        return true;
    }
    for (size_t i = 0; component == SKY_TRANSFORMER && i < sizeof starts / sizeof starts[0]; i++) {
        if (starts_with(name, starts[i])) {
            return true;
        }
    }
    return false;
}

static sky_dtype stored_dtype(sky_component component, const char *name, sky_dtype published)
{
    if (keeps_width(component, name)) {
        return published == SKY_F64 ? SKY_F32 : published;
    }
    return SKY_BF16;
}

static bool is_floating(sky_dtype dtype)
{
    return dtype == SKY_F32 || dtype == SKY_BF16 || dtype == SKY_F16 || dtype == SKY_F64;
}

static void leave_out(sky_convert_report *report, const char *name)
{
    if (report->num_left_out++ == 0) {
        snprintf(report->left_out, sizeof report->left_out, "%s", name);
        sky_utf8_make_printable(report->left_out);
    }
}

/* Whether `name` is the place of another tensor's scales. */
static bool is_scale_of_linear(const char *name)
{
    char linear[SKY_SCALE_NAME_BYTES];
    if (!ends_with(name, ".scale") || strlen(name) >= sizeof linear) {
        return false;
    }
    snprintf(linear, sizeof linear, "%.*s", (int)(strlen(name) - strlen(".scale")), name);
    return sky_is_block_linear(linear, NULL, NULL);
}

static sky_status add_item(convert_plan *plan, sky_component component, const char *name,
                           const sky_source_tensor *source, sky_convert_report *report)
{
    convert_item item = {.component = component, .source = source};
    item.quantized = component == SKY_TRANSFORMER && sky_is_block_linear(name, &item.block, &item.part);
    if (item.quantized && !is_floating(source->dtype)) {
        return sky_fail(SKY_ERR_INPUT, "%s: want floating numbers to quantise, found %s", name,
                        sky_dtype_name(source->dtype));
    }
    if (!is_floating(source->dtype) || source->len_bytes == 0 || strchr(name, '/') != NULL ||
        strlen(name) + strlen(".scale") > SKY_MAX_NAME_BYTES || is_scale_of_linear(name)) {
        leave_out(report, name);
        return SKY_OK;
    }
    const uint64_t count = source->len_bytes / sky_dtype_bytes(source->dtype);
    item.name = strdup(name);
    if (item.name == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for a name");
    }
    if (!item.quantized) {
        item.stored = stored_dtype(component, name, source->dtype);
        item.bytes = count * sky_dtype_bytes(item.stored);
    }
    sky_convert_part *part = &report->parts[component];
    part->num_parameters += count;
    part->original_bytes += source->len_bytes;
    part->num_tensors++;
    part->num_quantized += item.quantized;
    plan->source_bytes += source->len_bytes;
    plan->items[plan->num_items++] = item;
    return SKY_OK;
}

/* blocks.2 before blocks.10, as people count. */
static int by_component_and_name(const void *a, const void *b)
{
    const convert_item *x = a;
    const convert_item *y = b;
    if (x->component != y->component) {
        return (x->component > y->component) - (x->component < y->component);
    }
    return strverscmp(x->name, y->name);
}

static sky_status list_items(const sky_checkpoint *checkpoint, convert_plan *plan, sky_convert_report *report)
{
    int64_t total = 0;
    for (int c = 0; c < SKY_COMPONENT_COUNT; c++) {
        total += sky_checkpoint_count(checkpoint, (sky_component)c);
    }
    plan->items = calloc((size_t)total + 1, sizeof *plan->items);
    if (plan->items == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for %" PRId64 " tensors", total);
    }
    for (int c = 0; c < SKY_COMPONENT_COUNT; c++) {
        const sky_component component = (sky_component)c;
        for (int64_t i = 0; i < sky_checkpoint_count(checkpoint, component); i++) {
            const sky_source_tensor *source = sky_checkpoint_at(checkpoint, component, i);
            char name[SKY_MAX_NAME_BYTES + 1];
            if (sky_checkpoint_original_name(checkpoint, component, source, name, sizeof name)) {
                SKY_TRY(add_item(plan, component, name, source, report));
            } else {
                leave_out(report, source->name);
            }
        }
    }
    qsort(plan->items, (size_t)plan->num_items, sizeof plan->items[0], by_component_and_name);
    return SKY_OK;
}

/* ---- whether this is a transformer of the family ---- */

typedef struct block_dims {
    int64_t dim, ffn_dim;
} block_dims;

static sky_status check_linear(convert_item *item, block_dims *dims)
{
    const sky_source_tensor *t = item->source;
    if (t->num_dims != 2) {
        return sky_fail(SKY_ERR_MISMATCH, "%s: want two dimensions, file has %d", item->name, t->num_dims);
    }
    const bool is_ffn_0 = strcmp(sky_block_linear_name(item->part), "ffn.0") == 0;
    const bool is_ffn_2 = strcmp(sky_block_linear_name(item->part), "ffn.2") == 0;
    if (dims->dim == 0) {
        dims->dim = t->shape[is_ffn_2 ? 0 : 1];
    }
    if (dims->ffn_dim == 0 && (is_ffn_0 || is_ffn_2)) {
        dims->ffn_dim = t->shape[is_ffn_2 ? 1 : 0];
    }
    const int64_t rows = is_ffn_0 ? dims->ffn_dim : dims->dim;
    const int64_t cols = is_ffn_2 ? dims->ffn_dim : dims->dim;
    if (t->shape[0] != rows || t->shape[1] != cols) {
        return sky_fail(SKY_ERR_MISMATCH, "%s: want [%" PRId64 ", %" PRId64 "], file has [%" PRId64 ", %" PRId64 "]",
                        item->name, rows, cols, t->shape[0], t->shape[1]);
    }
    item->bytes = (uint64_t)rows * ((uint64_t)cols + sizeof(float));
    return SKY_OK;
}

static sky_status check_blocks(convert_plan *plan)
{
    uint16_t seen[MAX_BLOCKS] = {0};
    int64_t num_blocks = 0;
    block_dims dims = {0};
    for (int64_t i = 0; i < plan->num_items; i++) {
        convert_item *item = &plan->items[i];
        if (!item->quantized) {
            continue;
        }
        if (item->block >= MAX_BLOCKS) {
            return sky_fail(SKY_ERR_MISMATCH, "%s: more than %d blocks", item->name, (int)MAX_BLOCKS);
        }
        SKY_TRY(check_linear(item, &dims));
        seen[item->block] |= (uint16_t)(1U << item->part);
        num_blocks = item->block + 1 > num_blocks ? item->block + 1 : num_blocks;
    }
    if (num_blocks == 0) {
        return sky_fail(SKY_ERR_MISMATCH, "no transformer of this family: it has no blocks.0.self_attn.q.weight");
    }
    for (int64_t b = 0; b < num_blocks; b++) {
        for (int part = 0; part < SKY_BLOCK_LINEARS; part++) {
            if ((seen[b] & (1U << part)) == 0) {
                return sky_fail(SKY_ERR_MISMATCH,
                                "no transformer of this family, or not all of it: blocks.%" PRId64
                                ".%s.weight is missing",
                                b, sky_block_linear_name(part));
            }
        }
    }
    return SKY_OK;
}

/* ---- shards ---- */

static int default_shards(const convert_plan *plan)
{
    int shards = 1;
    uint64_t filled = 0;
    for (int64_t i = 0; i < plan->num_items; i++) {
        if (filled > 0 && plan->items[i].bytes > MOST_SHARD_BYTES - filled) {
            shards++;
            filled = 0;
        }
        filled += plan->items[i].bytes < MOST_SHARD_BYTES ? plan->items[i].bytes : MOST_SHARD_BYTES;
    }
    return shards;
}

/*
 * Whether shard number `index` of `num_shards`, which holds `filled` bytes, ends before item i. By default where it is
 * full; otherwise where it has its share of what was left when it began.
 */
static bool shard_is_full(const convert_plan *plan, int64_t i, int index, int num_shards, uint64_t filled,
                          uint64_t share, bool by_size)
{
    const int shards_left = num_shards - index - 1;
    const int64_t items_left = plan->num_items - i;
    const uint64_t bytes = plan->items[i].bytes;
    if (filled == 0 || shards_left == 0) {
        return false;
    }
    if (by_size) {
        return filled > MOST_SHARD_BYTES || bytes > MOST_SHARD_BYTES - filled;
    }
    return items_left <= shards_left || filled + bytes / 2 > share;
}

static sky_manifest_tensor *add_tensor(sky_manifest *m, const convert_item *item, bool scale)
{
    char name[SKY_SCALE_NAME_BYTES];
    sky_manifest_tensor *t = &m->tensors[m->num_tensors++];
    const sky_source_tensor *s = item->source;
    *t = (sky_manifest_tensor){.component = item->component};
    t->dtype = scale ? SKY_F32 : item->quantized ? m->codes : item->stored;
    t->num_dims = scale ? 1 : s->num_dims;
    memcpy(t->shape, s->shape, (size_t)t->num_dims * sizeof t->shape[0]);
    t->len_bytes = sky_dtype_bytes(t->dtype);
    for (int i = 0; i < t->num_dims; i++) {
        t->len_bytes *= (uint64_t)t->shape[i];
    }
    sky_scale_name(item->name, name);
    t->name = strdup(scale ? name : item->name);
    return t->name != NULL ? t : NULL;
}

static sky_status fill_shards(convert_plan *plan, bool by_size, sky_manifest *m)
{
    uint64_t bytes_left = 0;
    uint64_t filled = 0;
    uint64_t share = 0;
    int index = -1;
    for (int64_t i = 0; i < plan->num_items; i++) {
        bytes_left += plan->items[i].bytes;
    }
    for (int64_t i = 0; i < plan->num_items; i++) {
        convert_item *item = &plan->items[i];
        if (index < 0 || shard_is_full(plan, i, index, m->num_shards, filled, share, by_size)) {
            index++;
            share = bytes_left / (uint64_t)(m->num_shards - index);
            filled = 0;
            sky_shard_name(index, m->num_shards, m->shards[index].name);
            m->shards[index].first = m->num_tensors;
        }
        item->tensor = m->num_tensors;
        if (add_tensor(m, item, false) == NULL || (item->quantized && add_tensor(m, item, true) == NULL)) {
            return sky_fail(SKY_ERR_NOMEM, "no memory for a name");
        }
        m->shards[index].count = m->num_tensors - m->shards[index].first;
        filled += item->bytes;
        bytes_left -= item->bytes;
    }
    SKY_ASSERT(index == m->num_shards - 1);
    return SKY_OK;
}

static sky_status plan_shards(convert_plan *plan, int wanted, sky_manifest *m)
{
    const int shards = wanted > 0 ? wanted : default_shards(plan);
    if (shards > SKY_MAX_SHARDS || shards > plan->num_items) {
        return sky_fail(SKY_ERR_USAGE, "%d shards are too many: want at most %" PRId64, shards,
                        plan->num_items < SKY_MAX_SHARDS ? plan->num_items : (int64_t)SKY_MAX_SHARDS);
    }
    m->shards = calloc((size_t)shards, sizeof *m->shards);
    m->tensors = calloc((size_t)plan->num_items * 2, sizeof *m->tensors);
    if (m->shards == NULL || m->tensors == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for %" PRId64 " tensors", plan->num_items);
    }
    m->num_shards = shards;
    return fill_shards(plan, wanted == 0, m);
}

sky_status sky_convert_plan_make(const sky_checkpoint *checkpoint, const sky_convert_settings *settings,
                                 convert_plan *plan, sky_manifest *manifest, sky_convert_report *report)
{
    SKY_TRY(list_items(checkpoint, plan, report));
    SKY_TRY(check_blocks(plan));
    for (int64_t i = 0; i < plan->num_items; i++) {
        report->parts[plan->items[i].component].converted_bytes += plan->items[i].bytes;
    }
    return plan_shards(plan, settings->num_shards, manifest);
}
