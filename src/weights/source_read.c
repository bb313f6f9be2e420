/* Reading the values of a tensor: in pieces, checked on the way. */
#include "weights/source_impl.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { PIECE_BYTES = 4 << 20 };

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

static sky_status checksum_failed(void)
{
    return sky_fail(SKY_ERR_INPUT, "the checksum of its data is wrong (damaged file; copy or download it again)");
}

/* For tensors that are only a part of their storage: the whole storage's checksum, once. */
static sky_status check_range(const sky_source_file *file, int64_t index, unsigned char *piece)
{
    const sky_checked_range *r = &file->ranges[index];
    if (atomic_load(&file->range_ok[index])) {
        return SKY_OK;
    }
    uLong crc = 0;
    for (uint64_t done = 0; done < r->len_bytes;) {
        const size_t bytes = r->len_bytes - done < PIECE_BYTES ? (size_t)(r->len_bytes - done) : PIECE_BYTES;
        SKY_TRY(sky_file_read_at(file->fd, file->path, r->offset_bytes + done, piece, bytes));
        crc = crc32_z(crc, piece, bytes);
        done += bytes;
    }
    if (crc != r->crc32) {
        return checksum_failed();
    }
    atomic_store(&file->range_ok[index], true);
    return SKY_OK;
}

static bool is_floating(sky_dtype dtype)
{
    return dtype == SKY_F32 || dtype == SKY_BF16 || dtype == SKY_F16 || dtype == SKY_F64;
}

/*
 * The elements [first, first + count) of a tensor, piece by piece; `piece` is PIECE_BYTES of scratch. A checksum of a whole
 * range is checked before a part is read.
 */
static sky_status read_pieces(const sky_source_file *file, const sky_source_tensor *tensor, uint64_t first,
                              uint64_t count, unsigned char *dst, sky_dtype dst_dtype, unsigned char *piece)
{
    const size_t from_bytes = sky_dtype_bytes(tensor->dtype);
    const size_t to_bytes = sky_dtype_bytes(dst_dtype);
    const uint64_t offset_bytes = tensor->offset_bytes + first * from_bytes;
    const size_t piece_len = PIECE_BYTES / from_bytes;

    const int64_t range = count > 0 ? find_range(file, tensor->offset_bytes) : -1;
    SKY_ASSERT(count == 0 || range >= 0 || file->num_ranges == 0); /* a storage's bytes always have a checksum */
    const bool whole = range >= 0 && file->ranges[range].offset_bytes == tensor->offset_bytes &&
                       file->ranges[range].len_bytes == tensor->len_bytes && count * from_bytes == tensor->len_bytes;
    if (range >= 0 && !whole) {
        SKY_TRY(check_range(file, range, piece));
    }
    uLong crc = 0;
    for (uint64_t done = 0; done < count;) {
        const size_t len = count - done < piece_len ? (size_t)(count - done) : piece_len;
        unsigned char *to = dst + done * to_bytes;
        unsigned char *from = tensor->dtype == dst_dtype ? to : piece;
        SKY_TRY(sky_file_read_at(file->fd, file->path, offset_bytes + done * from_bytes, from, len * from_bytes));
        if (whole) {
            crc = crc32_z(crc, from, len * from_bytes);
        }
        if (from != to && !sky_dtype_convert(to, dst_dtype, from, tensor->dtype, len)) {
            return sky_fail(SKY_ERR_INTERNAL, "no conversion from %s to %s", sky_dtype_name(tensor->dtype),
                            sky_dtype_name(dst_dtype));
        }
        /* After the conversion: what the model would see. A finite value may be too large for the narrower type. */
        const size_t bad = find_not_finite(to, dst_dtype, len);
        if (bad < len) {
            return sky_fail(SKY_ERR_INPUT,
                            "element %llu is NaN or infinite as %s (damaged file? copy or download it again)",
                            (unsigned long long)(first + done + bad), sky_dtype_name(dst_dtype));
        }
        done += len;
    }
    if (whole && crc != file->ranges[range].crc32) {
        return checksum_failed();
    }
    return SKY_OK;
}

static sky_status read_part(const sky_source *source, const sky_source_tensor *tensor, uint64_t first, uint64_t count,
                            void *dst, sky_dtype dst_dtype)
{
    SKY_ASSERT(tensor->file >= 0 && tensor->file < source->num_files);
    const sky_source_file *file = &source->files[tensor->file];
    if (!is_floating(tensor->dtype)) {
        return sky_fail(SKY_ERR_DTYPE, "%s: %.200s: want floating numbers, found %s", file->path, tensor->name,
                        sky_dtype_name(tensor->dtype));
    }
    if (!is_floating(dst_dtype) || dst_dtype == SKY_F64) {
        return sky_fail(SKY_ERR_DTYPE, "%.200s: wanted as %s; only f32, bf16 and f16 are offered", tensor->name,
                        sky_dtype_name(dst_dtype));
    }
    unsigned char *piece = malloc(PIECE_BYTES);
    if (piece == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "%.200s: no memory for %d bytes", tensor->name, (int)PIECE_BYTES);
    }
    const sky_status st = read_pieces(file, tensor, first, count, dst, dst_dtype, piece);
    free(piece);
    return sky_fail_in(sky_fail_in(st, "%.200s", tensor->name), "%s", file->path);
}

sky_status sky_source_read(const sky_source *source, const sky_source_tensor *tensor, void *dst, sky_dtype dst_dtype)
{
    const size_t bytes = sky_dtype_bytes(tensor->dtype);
    return read_part(source, tensor, 0, bytes > 0 ? tensor->len_bytes / bytes : 0, dst, dst_dtype);
}

sky_status sky_source_read_part(const sky_source *source, const sky_source_tensor *tensor, uint64_t first,
                                uint64_t count, void *dst, sky_dtype dst_dtype)
{
    const uint64_t len = tensor->len_bytes / sky_dtype_bytes(tensor->dtype);
    SKY_ASSERT(first <= len && count <= len - first);
    return read_part(source, tensor, first, count, dst, dst_dtype);
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

static sky_status read_codes(const sky_source_file *file, const sky_source_tensor *tensor, unsigned char *dst)
{
    const int64_t range = find_range(file, tensor->offset_bytes);
    if ((tensor->dtype != SKY_F8_E4M3 && tensor->dtype != SKY_I8) || range < 0 ||
        file->ranges[range].offset_bytes != tensor->offset_bytes ||
        file->ranges[range].len_bytes != tensor->len_bytes) {
        return sky_fail(SKY_ERR_DTYPE, "want 8-bit codes of a converted folder, found %s",
                        sky_dtype_name(tensor->dtype));
    }
    uLong crc = 0;
    for (uint64_t done = 0; done < tensor->len_bytes;) {
        const uint64_t left = tensor->len_bytes - done;
        const size_t len = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        SKY_TRY(sky_file_read_at(file->fd, file->path, tensor->offset_bytes + done, dst + done, len));
        crc = crc32_z(crc, dst + done, len);
        const size_t bad = find_bad_code(dst + done, tensor->dtype, len);
        if (bad < len) {
            return sky_fail(SKY_ERR_INPUT, "element %llu is no code of %s (damaged file? copy or convert it again)",
                            (unsigned long long)(done + bad), sky_dtype_name(tensor->dtype));
        }
        done += len;
    }
    return crc == file->ranges[range].crc32 ? SKY_OK : checksum_failed();
}

sky_status sky_source_read_codes(const sky_source *source, const sky_source_tensor *tensor, void *dst)
{
    SKY_ASSERT(tensor->file >= 0 && tensor->file < source->num_files);
    const sky_source_file *file = &source->files[tensor->file];
    const sky_status st = read_codes(file, tensor, dst);
    return sky_fail_in(sky_fail_in(st, "%.200s", tensor->name), "%s", file->path);
}
