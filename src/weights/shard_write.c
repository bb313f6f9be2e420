#include "base/checked.h"
#include "base/file.h"
#include "weights/shard_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

enum { ALIGNMENT_BYTES = 4096, METADATA_BLOCK_BYTES = 64 << 10 };

struct sky_shard_writer {
    char *path;
    sky_manifest_tensor *tensors; /* borrowed */
    int64_t count;
    uint64_t *written_bytes; /* of each tensor */
    hid_t file;              /* HDF5's, in memory_fd */
    int memory_fd;           /* HDF5's part of the file, with holes where the tensors are */
    int fd;                  /* the file */
};

/* ---- HDF5 ---- */

/* Going up, the first entry is the cause. */
static herr_t take_reason(unsigned n, const H5E_error2_t *error, void *user)
{
    shard_quiet *quiet = user;
    if (n == 0 && error->desc != NULL) {
        snprintf(quiet->reason, sizeof quiet->reason, "%s", error->desc);
    }
    return 0;
}

/* HDF5 calls this after each failed call. */
static herr_t keep_reason(hid_t stack, void *user)
{
    shard_quiet *quiet = user;
    if (quiet->reason[0] == '\0') {
        (void)H5Ewalk2(stack, H5E_WALK_UPWARD, take_reason, quiet);
    }
    return 0;
}

void sky_shard_quiet_begin(shard_quiet *quiet)
{
    *quiet = (shard_quiet){0};
    (void)H5Eget_auto2(H5E_DEFAULT, &quiet->print, &quiet->user);
    (void)H5Eset_auto2(H5E_DEFAULT, keep_reason, quiet);
}

void sky_shard_quiet_end(const shard_quiet *quiet)
{
    (void)H5Eset_auto2(H5E_DEFAULT, quiet->print, quiet->user);
}

sky_status sky_shard_h5_fail(sky_status st, const char *action)
{
    H5E_auto2_t handler = NULL;
    void *user = NULL;
    char text[256] = "no reason given";
    if (H5Eget_auto2(H5E_DEFAULT, &handler, &user) >= 0 && handler == keep_reason) {
        const shard_quiet *quiet = user;
        snprintf(text, sizeof text, "%s", quiet->reason[0] != '\0' ? quiet->reason : "no reason given");
    }
    for (char *c = text; *c != '\0'; c++) { /* it may quote the file */
        if (*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
    return sky_fail(st, "HDF5: %s: %s", action, text);
}

hid_t sky_shard_file_type(sky_dtype dtype)
{
    switch (dtype) {
    case SKY_F32:
        return H5T_IEEE_F32LE;
    case SKY_BF16:
    case SKY_F16:
        return H5T_STD_U16LE;
    case SKY_I8:
        return H5T_STD_I8LE;
    default:
        return H5T_STD_U8LE;
    }
}

hid_t sky_shard_access(void)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 &&
        (H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) < 0 ||
         H5Pset_file_locking(access, false, true) < 0 || H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) < 0)) {
        H5Pclose(access);
        return H5I_INVALID_HID;
    }
    return access;
}

static bool put_text(hid_t object, const char *name, const char *text, size_t bytes)
{
    bool ok = false;
    const hid_t type = H5Tcopy(H5T_C_S1);
    const hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5I_INVALID_HID;
    if (type >= 0 && space >= 0 && H5Tset_size(type, bytes) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0) {
        attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
        ok = attribute >= 0 && H5Awrite(attribute, type, text) >= 0;
    }
    if (attribute >= 0) {
        ok = H5Aclose(attribute) >= 0 && ok;
    }
    if (space >= 0) {
        H5Sclose(space);
    }
    if (type >= 0) {
        H5Tclose(type);
    }
    return ok;
}

static bool put_number(hid_t object, const char *name, int number)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute =
        space >= 0 ? H5Acreate2(object, name, H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT) : H5I_INVALID_HID;
    bool ok = attribute >= 0 && H5Awrite(attribute, H5T_NATIVE_INT, &number) >= 0;
    if (attribute >= 0) {
        ok = H5Aclose(attribute) >= 0 && ok;
    }
    if (space >= 0) {
        H5Sclose(space);
    }
    return ok;
}

/* Attributes of a dataset; the checksum is a place holder of the right length until the bytes are known. */
static bool put_attributes(hid_t dataset, const sky_manifest_tensor *t)
{
    char scale[SKY_SCALE_NAME_BYTES];
    const char *dtype = sky_dtype_name(t->dtype);
    const bool coded = t->dtype == SKY_F8_E4M3 || t->dtype == SKY_I8;
    sky_scale_name(t->name, scale);
    return put_text(dataset, "dtype", dtype, strlen(dtype) + 1) &&
           put_text(dataset, "crc32", "00000000", SHARD_CRC_TEXT_BYTES) &&
           (!coded || put_text(dataset, "scale", scale, strlen(scale) + 1));
}

/* Contiguous, with its place given at once, not filled, and without the time of day: equal input makes equal files. */
static hid_t dataset_properties(void)
{
    const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    if (p >= 0 && (H5Pset_layout(p, H5D_CONTIGUOUS) < 0 || H5Pset_alloc_time(p, H5D_ALLOC_TIME_EARLY) < 0 ||
                   H5Pset_fill_time(p, H5D_FILL_TIME_NEVER) < 0 || H5Pset_obj_track_times(p, false) < 0)) {
        H5Pclose(p);
        return H5I_INVALID_HID;
    }
    return p;
}

static bool create_dataset(hid_t group, hid_t properties, sky_manifest_tensor *t)
{
    hsize_t dims[SKY_MAX_DIMS];
    bool ok = false;
    for (int i = 0; i < t->num_dims; i++) {
        dims[i] = (hsize_t)t->shape[i];
    }
    const hid_t space = t->num_dims == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(t->num_dims, dims, NULL);
    const hid_t dataset = space >= 0 ? H5Dcreate2(group, t->name, sky_shard_file_type(t->dtype), space, H5P_DEFAULT,
                                                  properties, H5P_DEFAULT)
                                     : H5I_INVALID_HID;
    if (dataset >= 0) {
        const haddr_t offset = H5Dget_offset(dataset);
        ok = offset != HADDR_UNDEF && put_attributes(dataset, t);
        t->offset_bytes = (uint64_t)offset;
        ok = H5Dclose(dataset) >= 0 && ok;
    }
    if (space >= 0) {
        H5Sclose(space);
    }
    return ok;
}

static hid_t create_untimed_group(hid_t file, const char *name)
{
    hid_t group = H5I_INVALID_HID;
    const hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    if (creation >= 0 && H5Pset_obj_track_times(creation, false) >= 0) {
        group = H5Gcreate2(file, name, H5P_DEFAULT, creation, H5P_DEFAULT);
    }
    if (creation >= 0) {
        H5Pclose(creation);
    }
    return group;
}

/* A group where the component has tensors here. */
static bool create_group(sky_shard_writer *w, hid_t properties, sky_component component)
{
    bool ok = true;
    hid_t group = H5I_INVALID_HID;
    for (int64_t i = 0; i < w->count && ok; i++) {
        if (w->tensors[i].component != component) {
            continue;
        }
        if (group < 0) {
            group = create_untimed_group(w->file, sky_component_group(component));
        }
        ok = group >= 0 && create_dataset(group, properties, &w->tensors[i]);
    }
    if (group >= 0) {
        ok = H5Gclose(group) >= 0 && ok;
    }
    return ok;
}

/* Whatever HDF5 writes from now on goes to another open file. */
static bool move_to(int fd, hid_t file)
{
    int *descriptor = NULL;
    return H5Fget_vfd_handle(file, H5P_DEFAULT, (void **)&descriptor) >= 0 && dup3(fd, *descriptor, O_CLOEXEC) >= 0;
}

static bool create_file(sky_shard_writer *w, sky_dtype codes)
{
    bool ok = false;
    const hid_t access = sky_shard_access();
    const hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    const hid_t properties = dataset_properties();
    if (access >= 0 && creation >= 0 && properties >= 0 &&
        H5Pset_alignment(access, ALIGNMENT_BYTES, ALIGNMENT_BYTES) >= 0 &&
        H5Pset_meta_block_size(access, METADATA_BLOCK_BYTES) >= 0 && H5Pset_obj_track_times(creation, false) >= 0) {
        w->file = H5Fcreate(w->path, H5F_ACC_TRUNC, creation, access); /* the empty one that we have made */
        ok = w->file >= 0 && move_to(w->memory_fd, w->file) &&
             put_text(w->file, "format", "skyreels-mpi weights", sizeof "skyreels-mpi weights") &&
             put_number(w->file, "version", SKY_MANIFEST_VERSION) &&
             put_text(w->file, "precision", sky_codes_name(codes), strlen(sky_codes_name(codes)) + 1);
        for (int i = 0; i < SKY_COMPONENT_COUNT && ok; i++) {
            ok = create_group(w, properties, (sky_component)i);
        }
        ok = ok && H5Fflush(w->file, H5F_SCOPE_LOCAL) >= 0;
    }
    if (properties >= 0) {
        H5Pclose(properties);
    }
    if (creation >= 0) {
        H5Pclose(creation);
    }
    if (access >= 0) {
        H5Pclose(access);
    }
    return ok;
}

/* ---- the file ---- */

static sky_status io_fail(const char *action)
{
    const int error = errno;
    char text[128];
    return sky_fail(SKY_ERR_IO, "%s: %s%s", action, strerror_r(error, text, sizeof text),
                    error == ENOSPC || error == EDQUOT ? " (the disk is full: free some space or choose another folder)"
                                                       : "");
}

/*
 * Takes the disk space now: a full disk is found before the work. File systems that cannot reserve find out while writing.
 */
static sky_status reserve(const sky_shard_writer *w, uint64_t bytes)
{
    int result;
    do {
        result = fallocate(w->fd, 0, 0, (off_t)bytes);
    } while (result != 0 && errno == EINTR);
    if (result == 0 || errno == EOPNOTSUPP || errno == ENOSYS) {
        return SKY_OK;
    }
    char action[96];
    snprintf(action, sizeof action, "reserving %" PRIu64 " MB", (bytes >> 20) + 1);
    return io_fail(action);
}

/* Before HDF5 has laid the file out: what it will take at most. */
static sky_status reserve_roughly(const sky_shard_writer *w)
{
    uint64_t bytes = 2 * METADATA_BLOCK_BYTES;
    for (int64_t i = 0; i < w->count; i++) {
        bytes += w->tensors[i].len_bytes + 2 * (uint64_t)ALIGNMENT_BYTES;
    }
    return reserve(w, bytes);
}

/* And afterwards, as H5Fcreate() empties the file again. */
static sky_status reserve_all(const sky_shard_writer *w)
{
    uint64_t end = 0;
    for (int64_t i = 0; i < w->count; i++) {
        const uint64_t tensor_end = w->tensors[i].offset_bytes + w->tensors[i].len_bytes;
        end = tensor_end > end ? tensor_end : end;
    }
    return reserve(w, end + 2 * METADATA_BLOCK_BYTES);
}

/*
 * HDF5 creates the file, but writes its part of it, some kilobytes, into memory, from where the bytes are copied. The library does not
 * stand a failing write well (it neither closes a file nor ends quietly, and a handle whose close failed is dead), so it
 * never meets a disk.
 */
static sky_status lay_out(sky_shard_writer *w, sky_dtype codes)
{
    shard_quiet quiet;
    sky_status st = SKY_OK;
    w->fd = open(w->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        return io_fail("cannot create the file");
    }
    SKY_TRY(reserve_roughly(w));
    w->memory_fd = memfd_create("shard", MFD_CLOEXEC);
    if (w->memory_fd < 0) {
        return io_fail("a file in memory for HDF5's part");
    }
    (void)H5dont_atexit(); /* it would stumble at the program's end over a file that was given up */
    sky_shard_quiet_begin(&quiet);
    if (!create_file(w, codes)) {
        st = sky_shard_h5_fail(SKY_ERR_IO, "creating the file");
    }
    sky_shard_quiet_end(&quiet);
    SKY_TRY(st);
    return reserve_all(w);
}

sky_status sky_shard_create(const char *path, sky_dtype codes, sky_manifest_tensor *tensors, int64_t count,
                            sky_shard_writer **out)
{
    sky_status st = SKY_OK;
    sky_shard_writer *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for a shard");
    }
    *w = (sky_shard_writer){.tensors = tensors, .count = count, .file = H5I_INVALID_HID, .memory_fd = -1, .fd = -1};
    w->path = strdup(path);
    w->written_bytes = calloc((size_t)count + 1, sizeof *w->written_bytes);
    if (w->path == NULL || w->written_bytes == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "no memory for a shard");
        goto done;
    }
    for (int64_t i = 0; i < count; i++) {
        tensors[i].crc32 = 0;
    }
    SKY_TRY_GOTO(lay_out(w, codes));
    *out = w;
    w = NULL;
done:
    sky_shard_destroy(&w);
    return sky_fail_in(st, "%s", path);
}

static sky_status write_at(const sky_shard_writer *w, uint64_t offset, const void *src, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        const ssize_t put = pwrite(w->fd, (const unsigned char *)src + done, bytes - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            errno = put < 0 ? errno : EIO;
            return io_fail("writing");
        }
        done += (size_t)put;
    }
    return SKY_OK;
}

sky_status sky_shard_write(sky_shard_writer *writer, int64_t index, const void *src, size_t bytes)
{
    SKY_ASSERT(index >= 0 && index < writer->count);
    sky_manifest_tensor *t = &writer->tensors[index];
    uint64_t *written = &writer->written_bytes[index];
    SKY_ASSERT(bytes <= t->len_bytes - *written);
    const sky_status st = write_at(writer, t->offset_bytes + *written, src, bytes);
    SKY_TRY(sky_fail_in(sky_fail_in(st, "%.200s", t->name), "%s", writer->path));
    t->crc32 = (uint32_t)crc32_z(t->crc32, src, bytes);
    *written += bytes;
    return SKY_OK;
}

static bool put_checksum(const sky_shard_writer *w, const sky_manifest_tensor *t)
{
    char path[SKY_SCALE_NAME_BYTES + 32];
    char text[SHARD_CRC_TEXT_BYTES];
    bool ok = false;
    snprintf(path, sizeof path, "/%s/%s", sky_component_group(t->component), t->name);
    snprintf(text, sizeof text, "%08" PRIx32, t->crc32);
    const hid_t dataset = H5Dopen2(w->file, path, H5P_DEFAULT);
    const hid_t attribute = dataset >= 0 ? H5Aopen(dataset, "crc32", H5P_DEFAULT) : H5I_INVALID_HID;
    const hid_t type = attribute >= 0 ? H5Aget_type(attribute) : H5I_INVALID_HID;
    if (type >= 0) {
        ok = H5Awrite(attribute, type, text) >= 0;
        H5Tclose(type);
    }
    if (attribute >= 0) {
        ok = H5Aclose(attribute) >= 0 && ok;
    }
    if (dataset >= 0) {
        ok = H5Dclose(dataset) >= 0 && ok;
    }
    return ok;
}

static bool put_checksums(const sky_shard_writer *w)
{
    for (int64_t i = 0; i < w->count; i++) {
        if (!put_checksum(w, &w->tensors[i])) {
            return false;
        }
    }
    return true;
}

static int by_offset(const void *a, const void *b)
{
    const uint64_t x = ((const sky_manifest_tensor *)a)->offset_bytes;
    const uint64_t y = ((const sky_manifest_tensor *)b)->offset_bytes;
    return (x > y) - (x < y);
}

static sky_status close_hdf5(sky_shard_writer *w)
{
    shard_quiet quiet;
    sky_status st = SKY_OK;
    sky_shard_quiet_begin(&quiet);
    /* Flushed first: where that fails the file is still open, for sky_shard_destroy(). A failed close leaves none. */
    if (!put_checksums(w) || H5Fflush(w->file, H5F_SCOPE_LOCAL) < 0) {
        st = sky_shard_h5_fail(SKY_ERR_IO, "completing the file");
    } else {
        st = H5Fclose(w->file) >= 0 ? SKY_OK : sky_shard_h5_fail(SKY_ERR_IO, "closing the file");
        w->file = H5I_INVALID_HID;
    }
    sky_shard_quiet_end(&quiet);
    return st;
}

static sky_status copy_metadata(const sky_shard_writer *w, uint64_t from, uint64_t to)
{
    sky_status st = SKY_OK;
    unsigned char *piece = malloc(METADATA_BLOCK_BYTES);
    if (piece == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for %d bytes", (int)METADATA_BLOCK_BYTES);
    }
    while (from < to && st == SKY_OK) {
        const size_t bytes = to - from < METADATA_BLOCK_BYTES ? (size_t)(to - from) : METADATA_BLOCK_BYTES;
        st = sky_file_read_at(w->memory_fd, "memory", from, piece, bytes);
        st = st == SKY_OK ? write_at(w, from, piece, bytes) : st;
        from += bytes;
    }
    free(piece);
    return st;
}

/* What lies between the tensors, which are in order of offset, and cuts what was reserved too much. */
static sky_status add_metadata(const sky_shard_writer *w, uint64_t len)
{
    uint64_t at = 0;
    for (int64_t i = 0; i < w->count; i++) {
        SKY_TRY(copy_metadata(w, at, w->tensors[i].offset_bytes));
        at = w->tensors[i].offset_bytes + w->tensors[i].len_bytes;
    }
    SKY_TRY(copy_metadata(w, at, len));
    return ftruncate(w->fd, (off_t)len) == 0 ? SKY_OK : io_fail("setting its length");
}

static sky_status finish(sky_shard_writer *w, sky_manifest_shard *shard)
{
    for (int64_t i = 0; i < w->count; i++) {
        SKY_ASSERT(w->written_bytes[i] == w->tensors[i].len_bytes);
    }
    SKY_TRY(close_hdf5(w));
    const off_t len = lseek(w->memory_fd, 0, SEEK_END);
    if (len < 0) {
        return io_fail("asking for its length");
    }
    shard->len_bytes = (uint64_t)len;
    qsort(w->tensors, (size_t)w->count, sizeof w->tensors[0], by_offset);
    SKY_TRY(add_metadata(w, shard->len_bytes));
    SKY_TRY(sky_shard_metadata_crc32(w->fd, w->path, shard->len_bytes, w->tensors, w->count, &shard->metadata_crc32));
    return fsync(w->fd) == 0 ? SKY_OK : io_fail("bringing it to the disk");
}

sky_status sky_shard_finish(sky_shard_writer *writer, sky_manifest_shard *shard)
{
    return sky_fail_in(finish(writer, shard), "%s", writer->path);
}

/*
 * Closes a file that is given up. HDF5 must be able to write what it still holds, or it never lets go of the file; where
 * even memory failed it is given a fresh one. Once: whether it succeeds or not, the handle is dead.
 */
static void abandon_file(hid_t file)
{
    shard_quiet quiet;
    sky_shard_quiet_begin(&quiet);
    int memory = memfd_create("shard", MFD_CLOEXEC);
    if (memory >= 0) {
        (void)move_to(memory, file);
    }
    sky_file_close(&memory);
    (void)H5Fclose(file);
    sky_shard_quiet_end(&quiet);
}

void sky_shard_destroy(sky_shard_writer **writer)
{
    sky_shard_writer *w = *writer;
    if (w == NULL) {
        return;
    }
    if (w->file >= 0) {
        abandon_file(w->file);
    }
    sky_file_close(&w->memory_fd);
    sky_file_close(&w->fd);
    free(w->written_bytes);
    free(w->path);
    free(w);
    *writer = NULL;
}
