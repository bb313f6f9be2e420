#include "weights/torch_zip.h"

#include "base/checked.h"
#include "base/file.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* APPNOTE.TXT 6.3: signatures, lengths of the fixed parts and flag bits */
enum {
    LOCAL_SIGNATURE = 0x04034b50,
    CENTRAL_SIGNATURE = 0x02014b50,
    DESCRIPTOR_SIGNATURE = 0x08074b50,
    END_SIGNATURE = 0x06054b50,
    END64_SIGNATURE = 0x06064b50,
    LOCATOR64_SIGNATURE = 0x07064b50,
    LOCAL_BYTES = 30,
    CENTRAL_BYTES = 46,
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR64_BYTES = 20,
    MAX_DESCRIPTOR_BYTES = 24,
    EXTRA_ZIP64 = 0x0001,
    FLAG_DESCRIPTOR = 1 << 3,
    FLAG_UTF8 = 1 << 11,
    MAX_MEMBERS = 1 << 18,
    MAX_SHOWN_BYTES = 200,
};
#define UNKNOWN_32 UINT32_C(0xffffffff)

static uint16_t u16(const unsigned char *p)
{
    return (uint16_t)sky_little_endian(p, 2);
}

static uint32_t u32(const unsigned char *p)
{
    return (uint32_t)sky_little_endian(p, 4);
}

static uint64_t u64(const unsigned char *p)
{
    return sky_little_endian(p, 8);
}

typedef struct zip_end {
    uint64_t num_members;
    uint64_t directory_bytes;
    uint64_t directory_offset_bytes;
    uint64_t offset_bytes; /* where the end records begin, that is, the central directory must end */
} zip_end;

/* The zip64 end record, and whether the short one before the end of the file agrees with it. */
static sky_status read_end64(int fd, const char *path, uint64_t end_offset, const unsigned char *locator, zip_end *end)
{
    unsigned char record[END64_BYTES];
    if (end_offset < LOCATOR64_BYTES + END64_BYTES || u32(locator + 4) != 0 || u32(locator + 16) != 1 ||
        u64(locator + 8) != end_offset - LOCATOR64_BYTES - END64_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "zip: the zip64 locator does not point at the record before it");
    }
    const uint64_t offset = end_offset - LOCATOR64_BYTES - END64_BYTES;
    SKY_TRY(sky_file_read_at(fd, path, offset, record, sizeof record));
    if (u32(record) != END64_SIGNATURE || u64(record + 4) != END64_BYTES - 12 || u32(record + 16) != 0 ||
        u32(record + 20) != 0 || u64(record + 24) != u64(record + 32)) {
        return sky_fail(SKY_ERR_INPUT, "zip: the zip64 end record is damaged");
    }
    const zip_end wide = {u64(record + 32), u64(record + 40), u64(record + 48), offset};
    if ((end->num_members != UINT16_MAX && end->num_members != wide.num_members) ||
        (end->directory_bytes != UNKNOWN_32 && end->directory_bytes != wide.directory_bytes) ||
        (end->directory_offset_bytes != UNKNOWN_32 && end->directory_offset_bytes != wide.directory_offset_bytes)) {
        return sky_fail(SKY_ERR_INPUT, "zip: the end record and the zip64 end record disagree");
    }
    *end = wide;
    return SKY_OK;
}

static sky_status read_end(int fd, const char *path, uint64_t len, zip_end *end)
{
    unsigned char tail[LOCATOR64_BYTES + END_BYTES] = {0};
    if (len < END_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "zip: %llu bytes are too few", (unsigned long long)len);
    }
    const size_t tail_bytes = len < sizeof tail ? (size_t)len : sizeof tail;
    unsigned char *record = tail + LOCATOR64_BYTES;
    SKY_TRY(sky_file_read_at(fd, path, len - tail_bytes, tail + sizeof tail - tail_bytes, tail_bytes));
    if (u32(record) != END_SIGNATURE || u16(record + 20) != 0) {
        return sky_fail(
            SKY_ERR_INPUT,
            "zip: no end record in the last %d bytes (cut short, or something was added; copy or download it again)",
            (int)END_BYTES);
    }
    if (u16(record + 4) != 0 || u16(record + 6) != 0 || u16(record + 8) != u16(record + 10)) {
        return sky_fail(SKY_ERR_INPUT, "zip: archives of several parts are not read");
    }
    *end = (zip_end){u16(record + 10), u32(record + 12), u32(record + 16), len - END_BYTES};
    if (u32(tail) == LOCATOR64_SIGNATURE) {
        SKY_TRY(read_end64(fd, path, len - END_BYTES, tail, end));
    }
    uint64_t directory_end = 0;
    if (!sky_checked_add(end->directory_offset_bytes, end->directory_bytes, &directory_end) ||
        directory_end != end->offset_bytes || end->directory_bytes > SKY_MAX_HEADER_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "zip: the central directory (%llu bytes at %llu) does not end where it must",
                        (unsigned long long)end->directory_bytes, (unsigned long long)end->directory_offset_bytes);
    }
    if (end->num_members > MAX_MEMBERS || end->num_members > end->directory_bytes / CENTRAL_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "zip: %llu members are too many", (unsigned long long)end->num_members);
    }
    return SKY_OK;
}

/*
 * Replaces those of the (at most three) values that are "unknown" by the zip64 extra field's, in the order given.
 * Errors: INPUT where the extra fields are damaged or hold no such values.
 */
static sky_status apply_zip64(const unsigned char *extra, size_t len, uint64_t **values, size_t num_values)
{
    bool found = false;
    while (len >= 4) {
        const uint16_t id = u16(extra);
        const size_t field_len = u16(extra + 2);
        if (field_len > len - 4) {
            return sky_fail(SKY_ERR_INPUT, "zip: an extra field is longer than its room");
        }
        if (id == EXTRA_ZIP64) {
            const unsigned char *p = extra + 4;
            size_t left = field_len;
            if (found) {
                return sky_fail(SKY_ERR_INPUT, "zip: two zip64 fields for one member");
            }
            found = true;
            for (size_t i = 0; i < num_values; i++) {
                if (*values[i] != UNKNOWN_32) {
                    continue;
                }
                if (left < 8) {
                    return sky_fail(SKY_ERR_INPUT, "zip: a zip64 field is too short");
                }
                *values[i] = u64(p);
                p += 8;
                left -= 8;
            }
        }
        extra += 4 + field_len;
        len -= 4 + field_len;
    }
    for (size_t i = 0; i < num_values; i++) {
        if (!found && *values[i] == UNKNOWN_32) {
            return sky_fail(SKY_ERR_INPUT, "zip: a length that the zip64 field should hold is not there");
        }
    }
    return len == 0 ? SKY_OK : sky_fail(SKY_ERR_INPUT, "zip: bytes behind the extra fields");
}

int sky_zip_shown(const sky_zip_member *member)
{
    return member->name_len < MAX_SHOWN_BYTES ? (int)member->name_len : MAX_SHOWN_BYTES;
}

/* A plain relative path, so that it means the same on every system. */
static sky_status check_path(const sky_zip_member *m)
{
    const char *name = m->name;
    const size_t len = m->name_len;
    SKY_TRY(sky_check_name("zip member", name, len));
    for (size_t start = 0, i = 0; i <= len; i++) {
        if (i < len && (name[i] == '\\' || name[i] == ':')) {
            return sky_fail(SKY_ERR_INPUT, "zip: %.*s: a name with '%c'", sky_zip_shown(m), name, name[i]);
        }
        if (i < len && name[i] != '/') {
            continue;
        }
        const size_t part = i - start;
        if (part == 0 || (part == 1 && name[start] == '.') || (part == 2 && memcmp(name + start, "..", 2) == 0)) {
            return sky_fail(SKY_ERR_INPUT, "zip: %.*s: a name that is no plain relative path", sky_zip_shown(m), name);
        }
        start = i + 1;
    }
    return SKY_OK;
}

/* One record of the central directory; *used becomes its length. */
static sky_status parse_central(const unsigned char *p, size_t left, sky_zip_member *m, size_t *used)
{
    if (left < CENTRAL_BYTES || u32(p) != CENTRAL_SIGNATURE) {
        return sky_fail(SKY_ERR_INPUT, "zip: a record of the central directory is damaged");
    }
    const size_t name_len = u16(p + 28);
    const size_t extra_len = u16(p + 30);
    if (name_len + extra_len > left - CENTRAL_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "zip: a record of the central directory is longer than its room");
    }
    uint64_t packed_bytes = u32(p + 20);
    *m = (sky_zip_member){.name = (const char *)p + CENTRAL_BYTES,
                          .name_len = (uint32_t)name_len,
                          .crc32 = u32(p + 16),
                          .len_bytes = u32(p + 24),
                          .header_offset_bytes = u32(p + 42),
                          .dos_time = u32(p + 12),
                          .flags = u16(p + 8),
                          .dtype = -1};
    SKY_TRY(check_path(m));
    uint64_t *wide[] = {&m->len_bytes, &packed_bytes, &m->header_offset_bytes};
    SKY_TRY(apply_zip64(p + CENTRAL_BYTES + name_len, extra_len, wide, 3));
    const int shown = sky_zip_shown(m);
    if (u16(p + 10) != 0) {
        return sky_fail(SKY_ERR_INPUT,
                        "zip: %.*s is compressed (method %d), which torch.save() does not do; save it "
                        "again with torch.save()",
                        shown, m->name, u16(p + 10));
    }
    if ((m->flags & ~(FLAG_DESCRIPTOR | FLAG_UTF8)) != 0) {
        return sky_fail(SKY_ERR_INPUT, "zip: %.*s has flags 0x%04x (encrypted or unknown)", shown, m->name, m->flags);
    }
    if (packed_bytes != m->len_bytes) {
        return sky_fail(SKY_ERR_INPUT, "zip: %.*s is stored but its two lengths differ", shown, m->name);
    }
    if (u16(p + 32) != 0 || u16(p + 34) != 0) {
        return sky_fail(SKY_ERR_INPUT, "zip: %.*s has a comment or lies in another part", shown, m->name);
    }
    *used = CENTRAL_BYTES + name_len + extra_len;
    return SKY_OK;
}

/* The local header says what the central directory says, but for what a data descriptor leaves open. */
static sky_status check_local(int fd, const char *path, uint64_t end_bytes, unsigned char *scratch, sky_zip_member *m)
{
    const int shown = sky_zip_shown(m);
    unsigned char p[LOCAL_BYTES];
    if (end_bytes < LOCAL_BYTES || m->header_offset_bytes > end_bytes - LOCAL_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "zip: %.*s begins outside of the members' part", shown, m->name);
    }
    SKY_TRY(sky_file_read_at(fd, path, m->header_offset_bytes, p, sizeof p));
    const size_t name_len = u16(p + 26);
    const size_t extra_len = u16(p + 28);
    const uint64_t left = end_bytes - LOCAL_BYTES - m->header_offset_bytes;
    if (u32(p) != LOCAL_SIGNATURE || name_len != m->name_len || u16(p + 6) != m->flags || u16(p + 8) != 0 ||
        u32(p + 10) != m->dos_time || name_len + extra_len > left) {
        return sky_fail(SKY_ERR_INPUT, "zip: %.*s: local header and central directory disagree", shown, m->name);
    }
    SKY_TRY(sky_file_read_at(fd, path, m->header_offset_bytes + LOCAL_BYTES, scratch, name_len + extra_len));
    uint64_t packed_bytes = u32(p + 18);
    uint64_t len_bytes = u32(p + 22);
    uint64_t *wide[] = {&len_bytes, &packed_bytes};
    SKY_TRY(apply_zip64(scratch + name_len, extra_len, wide, 2));
    const bool open = (m->flags & FLAG_DESCRIPTOR) != 0;
    if (memcmp(scratch, m->name, name_len) != 0 || (u32(p + 14) != m->crc32 && !(open && u32(p + 14) == 0)) ||
        (packed_bytes != m->len_bytes && !(open && packed_bytes == 0)) ||
        (len_bytes != m->len_bytes && !(open && len_bytes == 0))) {
        return sky_fail(SKY_ERR_INPUT, "zip: %.*s: local header and central directory disagree", shown, m->name);
    }
    m->data_offset_bytes = m->header_offset_bytes + LOCAL_BYTES + name_len + extra_len;
    if (m->len_bytes > end_bytes - m->data_offset_bytes) {
        return sky_fail(SKY_ERR_INPUT, "zip: %.*s: %llu bytes at %llu end outside of the members' part", shown, m->name,
                        (unsigned long long)m->len_bytes, (unsigned long long)m->data_offset_bytes);
    }
    return SKY_OK;
}

/* What lies between a member's data and the next member: nothing, or its descriptor with the same values once more. */
static sky_status check_gap(int fd, const char *path, const sky_zip_member *m, uint64_t gap)
{
    const bool open = (m->flags & FLAG_DESCRIPTOR) != 0;
    if (gap == 0 && (!open || m->len_bytes == 0)) {
        return SKY_OK;
    }
    unsigned char bytes[MAX_DESCRIPTOR_BYTES];
    const unsigned char *p = bytes;
    bool ok = open && (gap == 12 || gap == 16 || gap == 20 || gap == 24);
    if (ok) {
        SKY_TRY(sky_file_read_at(fd, path, m->data_offset_bytes + m->len_bytes, bytes, (size_t)gap));
        if (gap == 16 || gap == 24) {
            ok = u32(p) == DESCRIPTOR_SIGNATURE;
            p += 4;
        }
        ok = ok && u32(p) == m->crc32;
        if (gap >= 20) {
            ok = ok && u64(p + 4) == m->len_bytes && u64(p + 12) == m->len_bytes;
        } else {
            ok = ok && u32(p + 4) == m->len_bytes && u32(p + 8) == m->len_bytes;
        }
    }
    return ok ? SKY_OK
              : sky_fail(SKY_ERR_INPUT, "zip: %.*s: %llu bytes behind it are not its data descriptor", sky_zip_shown(m),
                         m->name, (unsigned long long)gap);
}

static int by_offset(const void *a, const void *b)
{
    const sky_zip_member *x = a;
    const sky_zip_member *y = b;
    return (x->header_offset_bytes > y->header_offset_bytes) - (x->header_offset_bytes < y->header_offset_bytes);
}

static int compare_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
    const int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static int by_name(const void *a, const void *b)
{
    const sky_zip_member *x = a;
    const sky_zip_member *y = b;
    return compare_names(x->name, x->name_len, y->name, y->name_len);
}

/* Members fill [0, end_bytes) without overlap and without room for anything else. Leaves them in name order. */
static sky_status check_members(int fd, const char *path, uint64_t end_bytes, unsigned char *scratch, sky_zip *zip)
{
    uint64_t next = 0;
    qsort(zip->members, (size_t)zip->num_members, sizeof zip->members[0], by_offset);
    for (uint64_t i = 0; i < zip->num_members; i++) {
        sky_zip_member *m = &zip->members[i];
        if (i > 0 ? m->header_offset_bytes < next : m->header_offset_bytes != 0) {
            return sky_fail(SKY_ERR_INPUT, "zip: %.*s begins at %llu, want %llu (members overlap, or bytes are hidden)",
                            sky_zip_shown(m), m->name, (unsigned long long)m->header_offset_bytes,
                            (unsigned long long)next);
        }
        if (i > 0) {
            SKY_TRY(check_gap(fd, path, m - 1, m->header_offset_bytes - next));
        }
        SKY_TRY(check_local(fd, path, end_bytes, scratch, m));
        next = m->data_offset_bytes + m->len_bytes;
    }
    if (zip->num_members > 0) {
        SKY_TRY(check_gap(fd, path, &zip->members[zip->num_members - 1], end_bytes - next));
    }
    qsort(zip->members, (size_t)zip->num_members, sizeof zip->members[0], by_name);
    for (uint64_t i = 1; i < zip->num_members; i++) {
        const sky_zip_member *m = &zip->members[i];
        if (by_name(m - 1, m) == 0) {
            return sky_fail(SKY_ERR_INPUT, "zip: %.*s is there twice", sky_zip_shown(m), m->name);
        }
    }
    return SKY_OK;
}

sky_status sky_zip_open(int fd, const char *path, uint64_t len, sky_budget *budget, sky_zip *zip)
{
    enum { SCRATCH_BYTES = 2 * UINT16_MAX };
    sky_status st = SKY_OK;
    zip_end end = {0};
    void *block = NULL;
    void *scratch = NULL;
    *zip = (sky_zip){0};

    SKY_TRY(read_end(fd, path, len, &end));
    budget->left_bytes += 2 * end.directory_bytes;
    SKY_TRY_GOTO(sky_budget_alloc(budget, SCRATCH_BYTES, &scratch));
    SKY_TRY_GOTO(sky_budget_alloc(budget, end.directory_bytes, &block));
    zip->directory = block;
    SKY_TRY_GOTO(sky_budget_alloc(budget, end.num_members * sizeof zip->members[0], &block));
    zip->members = block;
    zip->num_members = end.num_members;
    SKY_TRY_GOTO(sky_file_read_at(fd, path, end.directory_offset_bytes, zip->directory, (size_t)end.directory_bytes));

    size_t at = 0;
    for (uint64_t i = 0; i < end.num_members; i++) {
        size_t used = 0;
        SKY_TRY_GOTO(parse_central(zip->directory + at, (size_t)end.directory_bytes - at, &zip->members[i], &used));
        at += used;
    }
    if (at != end.directory_bytes) {
        st = sky_fail(SKY_ERR_INPUT, "zip: the central directory has %zu bytes for its members, want %llu", at,
                      (unsigned long long)end.directory_bytes);
        goto done;
    }
    SKY_TRY_GOTO(check_members(fd, path, end.directory_offset_bytes, scratch, zip));
done:
    sky_budget_free(budget, scratch);
    if (st != SKY_OK) {
        sky_zip_close(zip, budget);
    }
    return st;
}

void sky_zip_close(sky_zip *zip, sky_budget *budget)
{
    sky_budget_free(budget, zip->members);
    sky_budget_free(budget, zip->directory);
    *zip = (sky_zip){0};
}

sky_zip_member *sky_zip_find(const sky_zip *zip, const char *name, size_t len)
{
    uint64_t low = 0;
    uint64_t high = zip->num_members;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        sky_zip_member *m = &zip->members[middle];
        const int order = compare_names(m->name, m->name_len, name, len);
        if (order == 0) {
            return m;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

sky_status sky_zip_read(int fd, const char *path, const sky_zip_member *member, void *dst)
{
    SKY_TRY(sky_file_read_at(fd, path, member->data_offset_bytes, dst, (size_t)member->len_bytes));
    if (crc32_z(0, dst, (size_t)member->len_bytes) != member->crc32) {
        return sky_fail(SKY_ERR_INPUT, "zip: %.*s: the checksum is wrong (damaged file; copy or download it again)",
                        sky_zip_shown(member), member->name);
    }
    return SKY_OK;
}
