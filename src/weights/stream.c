#include "weights/stream.h"

#include "base/file.h"
#include "base/threads.h"
#include "weights/source_impl.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    CHUNK_BYTES = 512 << 10, /* of the file: large beside the cost of joining two checksums, small beside a cache */
    BATCH_CHUNKS = 256,      /* chunks that are shared out at a time */
    MESSAGE_BYTES = 512
};

struct sky_readers {
    int num_threads;
    sky_threads *threads; /* NULL: one */
    unsigned char *scratch;
    uint64_t scratch_bytes; /* of each thread */
};

sky_status sky_readers_create(int num_threads, sky_readers **out)
{
    sky_readers *readers = calloc(1, sizeof *readers);
    if (readers == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for readers");
    }
    readers->num_threads = num_threads;
    const sky_status st = num_threads > 1 ? sky_threads_create(num_threads, &readers->threads) : SKY_OK;
    if (st != SKY_OK) {
        free(readers);
        return st;
    }
    *out = readers;
    return SKY_OK;
}

void sky_readers_destroy(sky_readers **readers)
{
    if (*readers != NULL) {
        sky_threads_destroy(&(*readers)->threads);
        free((*readers)->scratch);
        free(*readers);
        *readers = NULL;
    }
}

static sky_status reserve(sky_readers *readers, uint64_t bytes)
{
    if (bytes <= readers->scratch_bytes) {
        return SKY_OK;
    }
    uint64_t all = 0;
    free(readers->scratch);
    readers->scratch_bytes = 0;
    readers->scratch = __builtin_mul_overflow(bytes, (uint64_t)readers->num_threads, &all) ? NULL : malloc(all);
    if (readers->scratch == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for %llu bytes a thread", (unsigned long long)bytes);
    }
    readers->scratch_bytes = bytes;
    return SKY_OK;
}

/* ---- what is not a number ---- */

/* Index of the first NaN or infinity among count f32, bf16 or f16 values; count where there is none. */
static size_t find_not_finite(const unsigned char *values, sky_dtype dtype, size_t count)
{
    const uint32_t mask32 = 0x7f800000U;
    const uint16_t mask16 = dtype == SKY_BF16 ? 0x7f80U : 0x7c00U;
    enum { BLOCK = 1024 };
    for (size_t start = 0; start < count; start += BLOCK) {
        const size_t end = count - start < BLOCK ? count : start + BLOCK;
        unsigned bad = 0; /* without a branch inside, so that it is vectorised */
        if (dtype == SKY_F32) {
            for (size_t i = start; i < end; i++) {
                uint32_t bits;
                memcpy(&bits, values + 4 * i, sizeof bits);
                bad |= (bits & mask32) == mask32;
            }
        } else {
            for (size_t i = start; i < end; i++) {
                uint16_t bits;
                memcpy(&bits, values + 2 * i, sizeof bits);
                bad |= (bits & mask16) == mask16;
            }
        }
        for (size_t i = start; bad != 0 && i < end; i++) {
            uint32_t bits = 0;
            memcpy(&bits, values + sky_dtype_bytes(dtype) * i, sky_dtype_bytes(dtype));
            const uint32_t mask = dtype == SKY_F32 ? mask32 : mask16;
            if ((bits & mask) == mask) {
                return i;
            }
        }
    }
    return count;
}

/* Index of the first code that means no number (e4m3: NaN; i8: -128, which has no positive twin); count where none. */
static size_t find_bad_code(const unsigned char *codes, sky_dtype dtype, size_t count)
{
    const unsigned mask = dtype == SKY_I8 ? 0xffU : 0x7fU;
    const unsigned bad_code = dtype == SKY_I8 ? 0x80U : 0x7fU;
    unsigned bad = 0;
    for (size_t i = 0; i < count; i++) {
        bad |= (codes[i] & mask) == bad_code;
    }
    for (size_t i = 0; bad != 0 && i < count; i++) {
        if ((codes[i] & mask) == bad_code) {
            return i;
        }
    }
    return count;
}

static bool is_code(sky_dtype dtype)
{
    return dtype == SKY_F8_E4M3 || dtype == SKY_I8;
}

/* What the model would see, so after the conversion: a finite value may be too large for the narrower type. */
static sky_status check_values(const unsigned char *values, sky_dtype dtype, uint64_t first, size_t count)
{
    const size_t bad = is_code(dtype) ? find_bad_code(values, dtype, count) : find_not_finite(values, dtype, count);
    if (bad == count) {
        return SKY_OK;
    }
    return sky_fail(SKY_ERR_INPUT,
                    is_code(dtype) ? "element %llu is no code of %s (damaged file? copy or convert it again)"
                                   : "element %llu is NaN or infinite as %s (damaged file? copy or download it again)",
                    (unsigned long long)(first + bad), sky_dtype_name(dtype));
}

/* ---- chunks ---- */

/* The failure of the chunk that comes first in the file, whichever thread saw which first. */
typedef struct failure {
    pthread_mutex_t mutex;
    sky_status status;
    int64_t index;
    char message[MESSAGE_BYTES];
} failure;

static void note_failure(failure *f, int64_t index, sky_status st)
{
    pthread_mutex_lock(&f->mutex);
    if (f->status == SKY_OK || index < f->index) {
        f->status = st;
        f->index = index;
        snprintf(f->message, sizeof f->message, "%s", sky_message());
    }
    pthread_mutex_unlock(&f->mutex);
}

/* Chunks of elements (or, to look at a checksum only, of bytes) that lie behind each other. */
typedef struct chunks {
    sky_readers *readers;
    const sky_source_file *file;
    uint64_t offset_bytes;  /* of the first one */
    uint64_t first;         /* element of the tensor, likewise */
    uint64_t count, length; /* elements in all, and of each chunk but the last */
    size_t from_bytes;      /* an element in the file */
    sky_dtype from, to;
    bool only_checksum, with_checksum;
    unsigned char *dst; /* of the first one; NULL: take */
    sky_stream_take take;
    void *user;
    uint32_t *crc32; /* [chunks] */
    failure failed;
} chunks;

static sky_status read_chunk(const chunks *c, int64_t index, int thread)
{
    const uint64_t at = (uint64_t)index * c->length;
    const size_t count = (size_t)(c->count - at < c->length ? c->count - at : c->length);
    const bool converts = c->from != c->to;
    unsigned char *scratch = c->readers->scratch + (uint64_t)thread * c->readers->scratch_bytes;
    unsigned char *to = c->dst != NULL ? c->dst + at * sky_dtype_bytes(c->to) : scratch;
    unsigned char *from = c->only_checksum || (converts && c->dst != NULL) ? scratch : to;
    if (converts && c->dst == NULL) {
        from = scratch + c->length * sky_dtype_bytes(c->to);
    }
    SKY_TRY(sky_file_read_at(c->file->fd, c->file->path, c->offset_bytes + at * c->from_bytes, from,
                             count * c->from_bytes));
    if (c->with_checksum) {
        c->crc32[index] = (uint32_t)crc32_z(0, from, count * c->from_bytes);
    }
    if (c->only_checksum) {
        return SKY_OK;
    }
    if (converts && !sky_dtype_convert(to, c->to, from, c->from, count)) {
        return sky_fail(SKY_ERR_INTERNAL, "no conversion from %s to %s", sky_dtype_name(c->from),
                        sky_dtype_name(c->to));
    }
    SKY_TRY(check_values(to, c->to, c->first + at, count));
    if (c->take != NULL) {
        c->take(c->user, c->first + at, count, to);
    }
    return SKY_OK;
}

static void run_chunk(void *arg, int64_t index, int thread)
{
    chunks *c = arg;
    const sky_status st = read_chunk(c, index, thread);
    if (st != SKY_OK) {
        note_failure(&c->failed, index, st);
    }
}

/* All of them; *crc32 goes on to their end where they have a checksum. */
static sky_status run_batch(chunks *c, uint32_t *crc)
{
    uint32_t crc_of[BATCH_CHUNKS];
    const int64_t num = (int64_t)((c->count + c->length - 1) / c->length);
    c->crc32 = crc_of;
    c->failed.status = SKY_OK;
    pthread_mutex_init(&c->failed.mutex, NULL);
    sky_threads_for(c->readers->threads, num, run_chunk, c);
    pthread_mutex_destroy(&c->failed.mutex);
    if (c->failed.status != SKY_OK) {
        return sky_fail(c->failed.status, "%s", c->failed.message);
    }
    for (int64_t i = 0; c->with_checksum && i < num; i++) {
        const uint64_t left = c->count - (uint64_t)i * c->length;
        const uint64_t count = left < c->length ? left : c->length;
        *crc = (uint32_t)crc32_combine(*crc, crc_of[i], (z_off_t)(count * c->from_bytes));
    }
    return SKY_OK;
}

static sky_status run_chunks(chunks *c, uint64_t count, uint32_t *crc)
{
    for (uint64_t done = 0; done < count; done += c->count) {
        const uint64_t most = BATCH_CHUNKS * c->length;
        c->count = count - done < most ? count - done : most;
        SKY_TRY(run_batch(c, crc));
        c->offset_bytes += c->count * c->from_bytes;
        c->first += c->count;
        c->dst = c->dst != NULL ? c->dst + c->count * sky_dtype_bytes(c->to) : NULL;
    }
    return SKY_OK;
}

/* ---- checksums ---- */

/* Index of the range that holds the byte at this offset; -1 where the format has none. */
static int64_t find_range(const sky_source_file *file, uint64_t offset)
{
    int64_t low = 0;
    int64_t high = file->num_ranges;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const sky_checked_range *r = &file->ranges[middle];
        if (offset < r->offset_bytes) {
            high = middle;
        } else if (offset - r->offset_bytes >= r->len_bytes) {
            low = middle + 1;
        } else {
            return middle;
        }
    }
    return -1;
}

static sky_status check_crc32(const sky_source_file *file, int64_t range, uint32_t crc)
{
    if (crc != file->ranges[range].crc32) {
        return sky_fail(SKY_ERR_INPUT, "the checksum of its data is wrong (damaged file; copy or download it again)");
    }
    atomic_store(&file->range_ok[range], true);
    return SKY_OK;
}

/* For what is only a part of the range: all of it, once. */
static sky_status check_range(sky_readers *readers, const sky_source_file *file, int64_t range)
{
    uint32_t crc = 0;
    const sky_checked_range *r = &file->ranges[range];
    chunks c = {.readers = readers,
                .file = file,
                .offset_bytes = r->offset_bytes,
                .length = CHUNK_BYTES,
                .from_bytes = 1,
                .only_checksum = true,
                .with_checksum = true};
    if (atomic_load(&file->range_ok[range])) {
        return SKY_OK;
    }
    SKY_TRY(reserve(readers, CHUNK_BYTES));
    SKY_TRY(run_chunks(&c, r->len_bytes, &crc));
    return check_crc32(file, range, crc);
}

/* ---- streams ---- */

static const sky_source_file *file_of(const sky_stream *s)
{
    return &s->source->files[s->tensor->file];
}

static sky_status in_place(const sky_stream *s, sky_status st)
{
    return sky_fail_in(sky_fail_in(st, "%.200s", s->tensor->name), "%s", file_of(s)->path);
}

static bool is_floating(sky_dtype dtype)
{
    return dtype == SKY_F32 || dtype == SKY_BF16 || dtype == SKY_F16 || dtype == SKY_F64;
}

static bool is_whole(const sky_source_file *file, int64_t range, const sky_source_tensor *tensor)
{
    return range >= 0 && file->ranges[range].offset_bytes == tensor->offset_bytes &&
           file->ranges[range].len_bytes == tensor->len_bytes;
}

static sky_status check_types(const sky_stream *s, int64_t range)
{
    const sky_source_tensor *t = s->tensor;
    if (is_code(s->dtype)) {
        if (t->dtype == s->dtype && is_whole(file_of(s), range, t)) {
            return SKY_OK;
        }
        return in_place(
            s, sky_fail(SKY_ERR_INPUT, "want 8-bit codes of a converted folder, found %s", sky_dtype_name(t->dtype)));
    }
    if (!is_floating(t->dtype)) {
        return in_place(s, sky_fail(SKY_ERR_INPUT, "want floating numbers, found %s", sky_dtype_name(t->dtype)));
    }
    if (!is_floating(s->dtype) || s->dtype == SKY_F64) {
        return in_place(
            s, sky_fail(SKY_ERR_DTYPE, "wanted as %s; only f32, bf16 and f16 are offered", sky_dtype_name(s->dtype)));
    }
    return SKY_OK;
}

static sky_status begin(sky_stream *s, bool all)
{
    SKY_ASSERT(s->tensor->file >= 0 && s->tensor->file < s->source->num_files);
    const sky_source_file *file = file_of(s);
    const int64_t range = s->tensor->len_bytes > 0 ? find_range(file, s->tensor->offset_bytes) : -1;
    SKY_TRY(check_types(s, range));
    /* a storage's bytes always have a checksum */
    SKY_ASSERT(s->tensor->len_bytes == 0 || range >= 0 || file->num_ranges == 0);
    if (all && is_whole(file, range, s->tensor)) {
        s->range = range;
    } else if (range >= 0) {
        return in_place(s, check_range(s->readers, file, range));
    }
    return SKY_OK;
}

sky_status sky_stream_begin(sky_stream *stream, sky_readers *readers, const sky_source *source,
                            const sky_source_tensor *tensor, sky_dtype dtype)
{
    *stream = (sky_stream){.readers = readers, .source = source, .tensor = tensor, .dtype = dtype, .range = -1};
    return begin(stream, true);
}

sky_status sky_stream_begin_part(sky_stream *stream, sky_readers *readers, const sky_source *source,
                                 const sky_source_tensor *tensor, sky_dtype dtype, uint64_t first)
{
    *stream = (sky_stream){
        .readers = readers, .source = source, .tensor = tensor, .dtype = dtype, .position = first, .range = -1};
    return begin(stream, false);
}

static uint64_t chunk_len(sky_dtype stored, uint64_t row_len)
{
    const uint64_t len = CHUNK_BYTES / sky_dtype_bytes(stored);
    return row_len <= 1 ? len : row_len >= len ? row_len : len / row_len * row_len;
}

uint64_t sky_stream_scratch_bytes(sky_dtype stored, sky_dtype dtype, uint64_t row_len)
{
    const uint64_t values = row_len > 0 ? sky_dtype_bytes(dtype) : 0;
    const uint64_t raw = stored != dtype ? sky_dtype_bytes(stored) : 0;
    return chunk_len(stored, row_len) * (values + raw);
}

static sky_status next(sky_stream *s, uint64_t count, uint64_t row_len, void *dst, sky_stream_take take, void *user)
{
    const sky_source_tensor *t = s->tensor;
    const size_t from_bytes = sky_dtype_bytes(t->dtype);
    SKY_ASSERT(s->position <= t->len_bytes / from_bytes && count <= t->len_bytes / from_bytes - s->position);
    chunks c = {.readers = s->readers,
                .file = file_of(s),
                .offset_bytes = t->offset_bytes + s->position * from_bytes,
                .first = s->position,
                .length = chunk_len(t->dtype, row_len),
                .from_bytes = from_bytes,
                .from = t->dtype,
                .to = s->dtype,
                .with_checksum = s->range >= 0,
                .dst = dst,
                .take = take,
                .user = user};
    SKY_TRY(in_place(s, reserve(s->readers, sky_stream_scratch_bytes(t->dtype, s->dtype, row_len))));
    SKY_TRY(in_place(s, run_chunks(&c, count, &s->crc32)));
    s->position += count;
    return SKY_OK;
}

sky_status sky_stream_next(sky_stream *stream, uint64_t count, void *dst)
{
    return next(stream, count, 0, dst, NULL, NULL);
}

sky_status sky_stream_take_next(sky_stream *stream, uint64_t count, uint64_t row_len, sky_stream_take take, void *user)
{
    SKY_ASSERT(row_len > 0 && count % row_len == 0 && stream->position % row_len == 0);
    return next(stream, count, row_len, NULL, take, user);
}

sky_status sky_stream_end(const sky_stream *stream)
{
    SKY_ASSERT(stream->position * sky_dtype_bytes(stream->tensor->dtype) == stream->tensor->len_bytes);
    return stream->range < 0 ? SKY_OK : in_place(stream, check_crc32(file_of(stream), stream->range, stream->crc32));
}
