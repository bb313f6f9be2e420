/* Reading a converted folder back: the codes are the nearest to the published weights, everything else is equal. */
#include "base/file.h"
#include "weights/convert_impl.h"
#include "weights/converted.h"
#include "weights/shard.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One tensor's codes and scales, as they came back. */
typedef struct read_back {
    uint8_t *codes;
    float *scale;
} read_back;

/*
 * Half of a step between codes, of values that are 1.0 for a code of 1: codes of e4m3 are 2^-3 of their power of two
 * apart, and 2^-9 below 2^-6; those of i8 one. A little more, since a product is rounded on the way.
 */
static double most_error(sky_dtype codes, double value)
{
    const double step = codes == SKY_I8 ? 1.0 : fmax(ldexp(1.0, ilogb(fmax(fabs(value), 0x1p-6)) - 3), 0x1p-9);
    return 0.5 * step * (1.0 + 1e-5);
}

static sky_status compare_row(const conversion *c, const float *want, const uint8_t *codes, double scale, int64_t cols,
                              sky_convert_error *error, double sums[2])
{
    for (int64_t i = 0; i < cols; i++) {
        const double w = want[i];
        const double back = (double)sky_code_value(c->manifest.codes, codes[i]) * scale;
        const double off = fabs(w - back);
        /* written so that NaN fails */
        if (!(off <= scale * most_error(c->manifest.codes, w / scale))) {
            return sky_fail(SKY_ERR_IO, "element %" PRId64 " of a row: %g came back as %g", i, w, back);
        }
        sums[0] += off * off;
        sums[1] += w * w;
        error->largest = off > error->largest ? off : error->largest;
    }
    return SKY_OK;
}

static sky_status compare_rows(conversion *c, const convert_item *item, const read_back *back, sky_convert_error *error)
{
    double sums[2] = {0.0, 0.0};
    const int64_t rows = item->source->shape[0];
    const int64_t cols = item->source->shape[1];
    const uint64_t row_bytes = item->source->len_bytes / (uint64_t)rows;
    const int64_t block = sky_quantize_block_rows(cols);
    for (int64_t first = 0; first < rows; first += block) {
        const int64_t some = rows - first < block ? rows - first : block;
        SKY_TRY(sky_quantize_read_rows(c->checkpoint, item->component, item->source, first, some, c->values));
        for (int64_t r = 0; r < some; r++) {
            SKY_TRY(sky_fail_in(compare_row(c, c->values + r * cols, back->codes + (first + r) * cols,
                                            (double)back->scale[first + r], cols, error, sums),
                                "%s: row %" PRId64, item->name, first + r));
        }
        SKY_TRY(sky_convert_tell(c, SKY_CONVERT_VERIFY, (uint64_t)some * row_bytes));
    }
    error->block = item->block;
    error->part = item->part;
    error->relative = sums[1] > 0.0 ? sqrt(sums[0] / sums[1]) : 0.0;
    return SKY_OK;
}

static sky_status verify_quantized(conversion *c, const convert_item *item, const sky_checkpoint *converted,
                                   const sky_source_tensor *codes)
{
    sky_status st = SKY_OK;
    const sky_source_tensor *scale = sky_checkpoint_find_scale(converted, item->component, item->name);
    SKY_ASSERT(scale != NULL); /* the manifest's rule */
    read_back back = {.codes = malloc((size_t)codes->len_bytes), .scale = malloc((size_t)scale->len_bytes)};
    if (back.codes == NULL || back.scale == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "%s: no memory for %" PRIu64 " bytes", item->name, codes->len_bytes);
        goto done;
    }
    SKY_TRY_GOTO(sky_checkpoint_read_codes(converted, item->component, codes, back.codes));
    SKY_TRY_GOTO(sky_checkpoint_read(converted, item->component, scale, back.scale, SKY_F32));
    SKY_TRY_GOTO(compare_rows(c, item, &back, &c->report->errors[c->report->num_errors]));
    c->report->num_errors++;
done:
    free(back.scale);
    free(back.codes);
    return st;
}

static sky_status verify_plain(conversion *c, const convert_item *item, const sky_checkpoint *converted,
                               const sky_source_tensor *stored)
{
    const size_t from_bytes = sky_dtype_bytes(item->source->dtype);
    const size_t to_bytes = sky_dtype_bytes(item->stored);
    const uint64_t count = item->source->len_bytes / from_bytes;
    const uint64_t piece = CONVERT_PIECE_BYTES / sizeof(float);
    for (uint64_t first = 0; first < count; first += piece) {
        const uint64_t some = count - first < piece ? count - first : piece;
        SKY_TRY(sky_checkpoint_read_part(c->checkpoint, item->component, item->source, first, some, c->pieces,
                                         item->stored));
        SKY_TRY(sky_checkpoint_read_part(converted, item->component, stored, first, some, c->values, item->stored));
        if (memcmp(c->pieces, c->values, (size_t)some * to_bytes) != 0) {
            return sky_fail(SKY_ERR_IO, "%s: came back different", item->name);
        }
        SKY_TRY(sky_convert_tell(c, SKY_CONVERT_VERIFY, some * from_bytes));
    }
    return SKY_OK;
}

static sky_status verify_items(conversion *c, const sky_checkpoint *converted)
{
    for (int64_t i = 0; i < c->plan.num_items; i++) {
        const convert_item *item = &c->plan.items[i];
        const sky_source_tensor *t = sky_checkpoint_find(converted, item->component, item->name);
        const sky_dtype want = item->quantized ? c->manifest.codes : item->stored;
        if (t == NULL || t->dtype != want || t->num_dims != item->source->num_dims ||
            memcmp(t->shape, item->source->shape, (size_t)t->num_dims * sizeof t->shape[0]) != 0) {
            return sky_fail(SKY_ERR_IO, "%s: did not come back", item->name);
        }
        SKY_TRY(item->quantized ? verify_quantized(c, item, converted, t) : verify_plain(c, item, converted, t));
    }
    return SKY_OK;
}

static int by_block_and_part(const void *a, const void *b)
{
    const sky_convert_error *x = a;
    const sky_convert_error *y = b;
    return x->block != y->block ? (x->block > y->block) - (x->block < y->block) : x->part - y->part;
}

/* That other readers of HDF5 find what the manifest says. */
static sky_status verify_descriptions(const conversion *c, const char *folder)
{
    const sky_manifest *m = &c->manifest;
    for (int i = 0; i < m->num_shards; i++) {
        char *path = NULL;
        int fd = -1;
        uint64_t len = 0;
        SKY_TRY(sky_path_join(folder, m->shards[i].name, &path));
        sky_status st = sky_file_open(path, &fd, &len);
        if (st == SKY_OK) {
            st = sky_shard_check_description(fd, path, &m->shards[i], &m->tensors[m->shards[i].first]);
        }
        sky_file_close(&fd);
        free(path);
        SKY_TRY(st);
    }
    return SKY_OK;
}

sky_status sky_convert_verify(conversion *c, const char *folder, const char *manifest_name)
{
    sky_checkpoint *converted = NULL;
    c->report->errors = calloc((size_t)c->plan.num_items + 1, sizeof *c->report->errors);
    if (c->report->errors == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for %" PRId64 " errors", c->plan.num_items);
    }
    sky_status st = verify_descriptions(c, folder);
    if (st == SKY_OK) {
        st = sky_checkpoint_open_converted(folder, manifest_name, &converted);
    }
    if (st == SKY_OK) {
        st = verify_items(c, converted);
        qsort(c->report->errors, (size_t)c->report->num_errors, sizeof c->report->errors[0], by_block_and_part);
    }
    sky_checkpoint_destroy(&converted);
    return sky_fail_in(st, "reading the converted model back");
}
