/* Checking a shard against its manifest: its bytes, which loading needs, and what HDF5 makes of them, which it does not. */
#include "base/file.h"
#include "weights/shard_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

enum { PIECE_BYTES = 1 << 20, MAX_CHILD_SECONDS = 120 };
#define MAX_METADATA_BYTES ((uint64_t)64 << 20)

static sky_status crc_of(int fd, const char *path, uint64_t from, uint64_t to, unsigned char *piece, uLong *crc)
{
    while (from < to) {
        const size_t bytes = to - from < PIECE_BYTES ? (size_t)(to - from) : PIECE_BYTES;
        SKY_TRY(sky_file_read_at(fd, path, from, piece, bytes));
        *crc = crc32_z(*crc, piece, bytes);
        from += bytes;
    }
    return SKY_OK;
}

sky_status sky_shard_metadata_crc32(int fd, const char *path, uint64_t len, const sky_manifest_tensor *tensors,
                                    int64_t count, uint32_t *out)
{
    sky_status st = SKY_OK;
    uint64_t at = 0;
    uint64_t metadata_bytes = len;
    uLong crc = 0;
    for (int64_t i = 0; i < count; i++) { /* disjoint and inside, so this stays above 0 */
        metadata_bytes -= tensors[i].len_bytes;
    }
    if (metadata_bytes > MAX_METADATA_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "%" PRIu64 " bytes belong to no tensor, want at most %" PRIu64, metadata_bytes,
                        MAX_METADATA_BYTES);
    }
    unsigned char *piece = malloc(PIECE_BYTES);
    if (piece == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for %d bytes", (int)PIECE_BYTES);
    }
    for (int64_t i = 0; i < count; i++) {
        SKY_TRY_GOTO(crc_of(fd, path, at, tensors[i].offset_bytes, piece, &crc));
        at = tensors[i].offset_bytes + tensors[i].len_bytes;
    }
    SKY_TRY_GOTO(crc_of(fd, path, at, len, piece, &crc));
    *out = (uint32_t)crc;
done:
    free(piece);
    return st;
}

/* ---- HDF5 ---- */

static sky_status differs(const sky_manifest_tensor *t, const char *what)
{
    return sky_fail(SKY_ERR_INPUT, "%.200s: its %s not what the manifest says", t->name, what);
}

static bool has_text(hid_t dataset, const char *name, const char *want)
{
    char text[SKY_SCALE_NAME_BYTES] = {0};
    bool same = false;
    const hid_t attribute = H5Aopen(dataset, name, H5P_DEFAULT);
    const hid_t type = attribute >= 0 ? H5Aget_type(attribute) : H5I_INVALID_HID;
    const hid_t space = attribute >= 0 ? H5Aget_space(attribute) : H5I_INVALID_HID;
    if (type >= 0 && space >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
        H5Tget_size(type) < sizeof text && H5Sget_simple_extent_npoints(space) == 1) {
        same = H5Aread(attribute, type, text) >= 0 && strcmp(text, want) == 0;
    }
    if (space >= 0) {
        H5Sclose(space);
    }
    if (type >= 0) {
        H5Tclose(type);
    }
    if (attribute >= 0) {
        H5Aclose(attribute);
    }
    return same;
}

static sky_status check_attributes(hid_t dataset, const sky_manifest_tensor *t)
{
    char crc[SHARD_CRC_TEXT_BYTES];
    char scale[SKY_SCALE_NAME_BYTES];
    snprintf(crc, sizeof crc, "%08" PRIx32, t->crc32);
    sky_scale_name(t->name, scale);
    if (!has_text(dataset, "dtype", sky_dtype_name(t->dtype))) {
        return differs(t, "attribute \"dtype\" is");
    }
    if (!has_text(dataset, "crc32", crc)) {
        return differs(t, "attribute \"crc32\" is");
    }
    if ((t->dtype == SKY_F8_E4M3 || t->dtype == SKY_I8) && !has_text(dataset, "scale", scale)) {
        return differs(t, "attribute \"scale\" is");
    }
    return SKY_OK;
}

static bool has_shape(hid_t dataset, const sky_manifest_tensor *t)
{
    hsize_t dims[H5S_MAX_RANK];
    const hid_t space = H5Dget_space(dataset);
    bool same = space >= 0 && H5Sget_simple_extent_ndims(space) == t->num_dims &&
                H5Sget_simple_extent_dims(space, dims, NULL) == t->num_dims;
    for (int i = 0; i < t->num_dims && same; i++) {
        same = dims[i] == (hsize_t)t->shape[i];
    }
    if (space >= 0) {
        H5Sclose(space);
    }
    return same;
}

static sky_status check_dataset(hid_t dataset, const sky_manifest_tensor *t)
{
    sky_status st = SKY_OK;
    const hid_t type = H5Dget_type(dataset);
    const hid_t properties = H5Dget_create_plist(dataset);
    if (type < 0 || properties < 0) {
        st = sky_shard_h5_fail(SKY_ERR_INPUT, t->name);
    } else if (H5Pget_layout(properties) != H5D_CONTIGUOUS || H5Pget_external_count(properties) != 0 ||
               H5Pget_nfilters(properties) != 0) {
        st = sky_fail(SKY_ERR_INPUT, "%.200s: want contiguous values in this file without filters", t->name);
    } else if (H5Tequal(type, sky_shard_file_type(t->dtype)) <= 0) {
        st = differs(t, "type is");
    } else if (!has_shape(dataset, t)) {
        st = differs(t, "shape is");
    } else if (H5Dget_offset(dataset) != (haddr_t)t->offset_bytes || H5Dget_storage_size(dataset) != t->len_bytes) {
        st = differs(t, "place in the file is");
    } else {
        st = check_attributes(dataset, t);
    }
    if (properties >= 0) {
        H5Pclose(properties);
    }
    if (type >= 0) {
        H5Tclose(type);
    }
    return st;
}

/* A link to an object in this very file: soft, external and user-defined links are refused before they are followed. */
static sky_status check_hard_link(hid_t group, const char *name)
{
    H5L_info_t link;
    if (H5Lget_info(group, name, &link, H5P_DEFAULT) < 0) {
        return sky_fail(SKY_ERR_INPUT, "%.200s: is missing from the file", name);
    }
    return link.type == H5L_TYPE_HARD ? SKY_OK : sky_fail(SKY_ERR_INPUT, "%.200s: is a link", name);
}

static sky_status check_tensor(hid_t group, const sky_manifest_tensor *t)
{
    SKY_TRY(check_hard_link(group, t->name));
    const hid_t object = H5Oopen(group, t->name, H5P_DEFAULT);
    if (object < 0) {
        return sky_shard_h5_fail(SKY_ERR_INPUT, t->name);
    }
    const sky_status st = H5Iget_type(object) == H5I_DATASET
                              ? check_dataset(object, t)
                              : sky_fail(SKY_ERR_INPUT, "%.200s: is no dataset", t->name);
    H5Oclose(object);
    return st;
}

/* Names come from the manifest, never from the file; that there are as many as the manifest has leaves no others. */
static sky_status check_count(hid_t group, int64_t want)
{
    H5G_info_t info;
    if (H5Gget_info(group, &info) < 0) {
        return sky_shard_h5_fail(SKY_ERR_INPUT, "a group");
    }
    return info.nlinks == (hsize_t)want ? SKY_OK
                                        : sky_fail(SKY_ERR_INPUT, "want %" PRId64 " entries in a group, found %" PRIu64,
                                                   want, (uint64_t)info.nlinks);
}

static sky_status check_group(hid_t file, sky_component component, const sky_manifest_tensor *tensors, int64_t count,
                              int64_t *num_groups)
{
    sky_status st = SKY_OK;
    const char *name = sky_component_group(component);
    int64_t members = 0;
    for (int64_t i = 0; i < count; i++) {
        members += tensors[i].component == component;
    }
    if (members == 0) {
        return SKY_OK;
    }
    ++*num_groups;
    SKY_TRY(check_hard_link(file, name));
    const hid_t group = H5Gopen2(file, name, H5P_DEFAULT);
    if (group < 0) {
        return sky_shard_h5_fail(SKY_ERR_INPUT, name);
    }
    SKY_TRY_GOTO(check_count(group, members));
    for (int64_t i = 0; i < count; i++) {
        if (tensors[i].component == component) {
            SKY_TRY_GOTO(check_tensor(group, &tensors[i]));
        }
    }
done:
    H5Gclose(group);
    return st;
}

static sky_status check_file(hid_t file, const sky_manifest_tensor *tensors, int64_t count)
{
    int64_t num_groups = 0;
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        SKY_TRY(check_group(file, (sky_component)i, tensors, count, &num_groups));
    }
    return check_count(file, num_groups);
}

static sky_status check_with_hdf5(int fd, const sky_manifest_tensor *tensors, int64_t count)
{
    char name[64];
    unsigned plugins = 0;
    sky_status st = SKY_OK;
    /* By descriptor: the very file whose bytes were checked, whatever has been given its name since. */
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    const hid_t access = sky_shard_access();
    const bool had_plugins = H5PLget_loading_state(&plugins) >= 0 && H5PLset_loading_state(0) >= 0;
    const hid_t file = access >= 0 ? H5Fopen(name, H5F_ACC_RDONLY, access) : H5I_INVALID_HID;
    if (file < 0) {
        st = sky_shard_h5_fail(SKY_ERR_INPUT, "opening the file");
    } else {
        st = check_file(file, tensors, count);
        H5Fclose(file);
    }
    if (had_plugins) {
        (void)H5PLset_loading_state(plugins);
    }
    if (access >= 0) {
        H5Pclose(access);
    }
    return st;
}

sky_status sky_shard_check(int fd, const char *path, uint64_t len, const sky_manifest_shard *shard,
                           const sky_manifest_tensor *tensors)
{
    uint32_t crc = 0;
    if (len != shard->len_bytes) {
        return sky_fail(SKY_ERR_INPUT, "%s: want %" PRIu64 " bytes, the file has %" PRIu64 " (copy it again)", path,
                        shard->len_bytes, len);
    }
    SKY_TRY(sky_fail_in(sky_shard_metadata_crc32(fd, path, len, tensors, shard->count, &crc), "%s", path));
    if (crc != shard->metadata_crc32) {
        return sky_fail(SKY_ERR_INPUT,
                        "%s: the checksum of its metadata is wrong (damaged file, or of another conversion; copy it "
                        "again)",
                        path);
    }
    return SKY_OK;
}

/* ---- a process of its own ---- */

/* What the child has found, as it comes through the pipe. */
typedef struct verdict {
    sky_status st;
    char message[512];
} verdict;

static _Noreturn void check_in_child(int fd, int out, const sky_manifest_shard *shard,
                                     const sky_manifest_tensor *tensors)
{
    static const struct rlimit cpu = {.rlim_cur = MAX_CHILD_SECONDS, .rlim_max = MAX_CHILD_SECONDS};
    static const struct rlimit no_core = {0, 0};
    verdict v = {.st = SKY_OK};
    shard_quiet quiet;
    (void)setrlimit(RLIMIT_CPU, &cpu);
    (void)setrlimit(RLIMIT_CORE, &no_core);
    sky_shard_quiet_begin(&quiet);
    v.st = check_with_hdf5(fd, tensors, shard->count);
    snprintf(v.message, sizeof v.message, "%s", v.st == SKY_OK ? "" : sky_message());
    (void)sky_file_write(out, "pipe", &v, sizeof v);
    _exit(0); /* nothing of this process's is flushed or removed twice */
}

static sky_status take_verdict(int in, pid_t child)
{
    verdict v = {.st = SKY_OK};
    size_t got = 0;
    int ended = 0;
    while (got < sizeof v) {
        const ssize_t some = read(in, (char *)&v + got, sizeof v - got);
        if (some == 0 || (some < 0 && errno != EINTR)) {
            break;
        }
        got += some > 0 ? (size_t)some : 0;
    }
    while (waitpid(child, &ended, 0) < 0 && errno == EINTR) {
    }
    if (got < sizeof v) {
        return sky_fail(SKY_ERR_INPUT, "the HDF5 library does not survive reading it (signal %d)",
                        WIFSIGNALED(ended) ? WTERMSIG(ended) : 0);
    }
    v.message[sizeof v.message - 1] = '\0';
    return v.st == SKY_OK ? SKY_OK : sky_fail(v.st, "%s", v.message);
}

static sky_status system_fail(const char *action)
{
    char text[128];
    return sky_fail(SKY_ERR_IO, "%s: %s", action, strerror_r(errno, text, sizeof text));
}

sky_status sky_shard_check_description(int fd, const char *path, const sky_manifest_shard *shard,
                                       const sky_manifest_tensor *tensors)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return sky_fail_in(system_fail("a pipe to a process that reads it"), "%s", path);
    }
    const pid_t child = fork();
    if (child == 0) {
        check_in_child(fd, ends[1], shard, tensors);
    }
    sky_status st = child < 0 ? system_fail("starting a process that reads it") : SKY_OK;
    close(ends[1]);
    if (st == SKY_OK) {
        st = take_verdict(ends[0], child);
    }
    close(ends[0]);
    return sky_fail_in(st, "%s", path);
}
