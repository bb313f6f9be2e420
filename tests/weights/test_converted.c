/* Converted folders that are damaged, incomplete, of another version, or hostile: noticed, every one. */
#include "base/file.h"
#include "support/test.h"
#include "weights/convert_files.h"
#include "weights/shard.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHARD_1 "shard-00001-of-00002.h5"
#define SHARD_2 "shard-00002-of-00002.h5"
#define LINEAR  "blocks.0.self_attn.q.weight"

/* The folder that all cases damage copies of: the small model on two shards. */
static const char *sound_folder(void)
{
    static const char *folder;
    if (folder == NULL) {
        folder = converted_folder("sound", DIFFUSERS, SKY_F8_E4M3, 2);
    }
    return folder;
}

static void expect_refused(const char *folder, const char *message)
{
    uint32_t digest = 0;
    const sky_status st = read_converted(folder, &digest);
    if (st != SKY_ERR_INPUT || strstr(sky_message(), message) == NULL) {
        test_fail(__FILE__, __LINE__, "want a refusal with \"%s\", got %s: %s", message, sky_status_name(st),
                  st == SKY_OK ? "" : sky_message());
    }
}

/* ---- damage ---- */

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 17;
}

/* A byte of a shard that is no tensor's, where `metadata`; otherwise any. */
static uint64_t draw_byte(const sky_manifest *m, int shard, bool metadata, uint64_t *state)
{
    const sky_manifest_shard *s = &m->shards[shard];
    for (;;) {
        const uint64_t at = next_random(state) % s->len_bytes;
        bool of_tensor = false;
        for (int64_t i = 0; i < s->count && !of_tensor; i++) {
            const sky_manifest_tensor *t = &m->tensors[s->first + i];
            of_tensor = at >= t->offset_bytes && at - t->offset_bytes < t->len_bytes;
        }
        if (!metadata || !of_tensor) {
            return at;
        }
    }
}

/* Flips a bit, reads everything, flips it back. Noticed: refused; harmless: the same values. */
static void flip_and_read(const char *folder, const char *name, uint64_t at, int bit, uint32_t want, int *noticed)
{
    uint32_t digest = 0;
    const char *path = file_in(folder, name);
    flip_bit(path, at, bit);
    const sky_status st = read_converted(folder, &digest);
    flip_bit(path, at, bit);
    if (st != SKY_ERR_INPUT && (st != SKY_OK || digest != want)) {
        test_fail(__FILE__, __LINE__, "%s, byte %llu, bit %d: %s", name, (unsigned long long)at, bit,
                  st == SKY_OK ? "read without an error, but different" : sky_message());
    }
    *noticed += st == SKY_ERR_INPUT;
}

/* 400 flips anywhere in the shards, 300 in what HDF5 wrote, 300 in the manifest and 40 in the other files. */
TEST(no_flipped_bit_goes_unnoticed)
{
    enum { ANYWHERE = 400, METADATA = 300, MANIFEST = 300, FILES = 40, ALL = ANYWHERE + METADATA + MANIFEST + FILES };
    sky_manifest m = {0};
    uint64_t state = 2024;
    uint32_t want = 0;
    int noticed = 0;
    struct stat info;
    const char *folder = copied_folder("flips", sound_folder());
    CHECK_OK(read_converted(folder, &want));
    CHECK_OK(sky_manifest_load(folder, SKY_MANIFEST_NAME, &m));
    CHECK(stat(file_in(folder, SKY_MANIFEST_NAME), &info) == 0);
    for (int i = 0; i < ALL && !test_failed(); i++) {
        const int bit = (int)(next_random(&state) % 8);
        if (i < ANYWHERE + METADATA) {
            const int shard = (int)(next_random(&state) % 2);
            flip_and_read(folder, m.shards[shard].name, draw_byte(&m, shard, i >= ANYWHERE, &state), bit, want,
                          &noticed);
        } else if (i < ANYWHERE + METADATA + MANIFEST) {
            flip_and_read(folder, SKY_MANIFEST_NAME, next_random(&state) % (uint64_t)info.st_size, bit, want, &noticed);
        } else {
            const sky_manifest_file *file = &m.files[i % m.num_files];
            flip_and_read(folder, file->name, next_random(&state) % file->len_bytes, bit, want, &noticed);
        }
    }
    sky_manifest_release(&m);
    test_parameters("%d of %d noticed", noticed, (int)ALL);
    CHECK(noticed == ALL);
}

TEST(a_file_cut_short_or_longer_is_refused)
{
    static const char *const names[] = {SHARD_1, SHARD_2, "manifest.json", "config.json",
                                        "google/umt5-xxl/tokenizer.json"};
    const char *folder = copied_folder("cut", sound_folder());
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        unsigned char *data = NULL;
        const char *path = file_in(folder, names[n]);
        const size_t len = load_bytes(path, &data);
        for (size_t i = 0; i < 40; i++) { /* the last bytes one by one, then shorter and shorter */
            const size_t cut = i < 20 ? len - 1 - i : len * (40 - i) / 21;
            test_parameters("%s, %zu of %zu bytes", names[n], cut, len);
            save_bytes(path, data, cut < len ? cut : 0);
            expect_refused(folder, names[n]);
        }
        data = realloc(data, len + 1);
        CHECK(data != NULL);
        data[len] = '\n';
        test_parameters("%s, one byte more", names[n]);
        save_bytes(path, data, len + 1);
        expect_refused(folder, names[n]);
        save_bytes(path, data, len);
        free(data);
    }
    uint32_t digest = 0;
    CHECK_OK(read_converted(folder, &digest));
}

TEST(incomplete_folders_are_refused)
{
    const char *folder = copied_folder("without", sound_folder());
    CHECK(unlink(file_in(folder, SHARD_2)) == 0);
    expect_refused(folder, "shard-00002-of-00002.h5: is missing");
    folder = copied_folder("without", sound_folder());
    CHECK(unlink(file_in(folder, "config.json")) == 0);
    expect_refused(folder, "config.json: is missing");
    CHECK(unlink(file_in(folder, SKY_MANIFEST_NAME)) == 0);
    expect_refused(folder, "without manifest.json: the conversion or the copy was not finished");
}

/* A shard of the same length and the same names, but of another model or another format. */
TEST(shards_of_different_conversions_do_not_mix)
{
    const char *other = converted_folder("int8", DIFFUSERS, SKY_I8, 2);
    const char *folder = copied_folder("mixed", sound_folder());
    unsigned char *data = NULL;
    const size_t len = load_bytes(file_in(other, SHARD_1), &data);
    save_bytes(file_in(folder, SHARD_1), data, len);
    free(data);
    expect_refused(folder, SHARD_1);
}

TEST(other_versions_are_told_apart)
{
    const char *folder = copied_folder("older", sound_folder());
    edit_manifest(folder, "\"version\": 1", "\"version\": 0");
    expect_refused(folder, "format version 0, this program reads version 1: convert the original again");
    folder = copied_folder("newer", sound_folder());
    edit_manifest(folder, "\"version\": 1", "\"version\": 2");
    expect_refused(folder, "or use a newer skyreels-mpi");
}

/* ---- manifests that lie, with right checksums ---- */

TEST(manifests_that_lie_are_refused)
{
    static const struct {
        const char *from, *to, *message;
    } rows[] = {
        {"skyreels-mpi weights", "something else", "\"format\": want"},
        {"\"version\": 1", "\"version\": \"1\"", "\"version\""},
        {"\"precision\": \"fp8\"", "\"precision\": \"fp4\"", "want fp8 or int8"},
        {"\"precision\": \"fp8\"", "\"precision\": \"int8\"", "want [rows, cols] of i8"},
        {"\"original\": \"diffusers-t2v\"", "\"original\": \"\\u001b[2J\"", "control character"},
        {"\"original\": \"diffusers-t2v\"", "\"original\": \"x\", \"original\": \"y\"", "JSON"},
        {"\"name\": \"config.json\"", "\"name\": \"../config.json\"", "has no place in a converted folder"},
        {"\"name\": \"config.json\"", "\"name\": \"/etc/passwd\"", "has no place in a converted folder"},
        {"\"name\": \"config.json\"", "\"name\": \"google/umt5-xxl/../../config.json\"", "has no place"},
        {"\"name\": \"config.json\"", "\"name\": \"google/umt5-xxl/.hidden\"", "has no place"},
        {"\"name\": \"config.json\"", "\"name\": \"vae/config.json\"", "is there twice"},
        {"tokenizer.json\"", "tokenizer_.json\"", "is missing"},
        {SHARD_1, "../" SHARD_1, "want the name shard-00001-of-00002.h5"},
        {SHARD_1, SHARD_2, "want the name shard-00001-of-00002.h5"},
        {"\"component\": \"transformer\"", "\"component\": \"clip\"", "want transformer, text_encoder or vae"},
        {"\"dtype\": \"bf16\"", "\"dtype\": \"i64\"", "want f32, bf16, f16, e4m3 or i8"},
        {"\"dtype\": \"bf16\"", "\"dtype\": \"f32\"", "its shape and dtype do not make"},
        {"\"shape\": [256]", "\"shape\": [0]", "want whole numbers from 1"},
        {"\"shape\": [256]", "\"shape\": [-256]", "want whole numbers from 1"},
        {"\"shape\": [256]", "\"shape\": [256.0]", "want whole numbers from 1"},
        {"\"shape\": [256]", "\"shape\": [9007199254740993]", "want whole numbers from 1"},
        {"\"shape\": [256]", "\"shape\": [4503599627370496, 4503599627370496]", "its shape and dtype do not make"},
        {"\"shape\": [256]", "\"shape\": [256, 1, 1, 1, 1, 1, 1]", "want a list \"shape\""},
        {"\"offset\": ", "\"offset\": 9007199254740992, \"x\": ", "reaches beyond the end"},
        {"\"offset\": ", "\"offset\": 70000, \"x\": ", "overlap"},
        {"\"name\": \"blocks.0.cross_attn.k.weight.scale\"", "\"name\": \"blocks.0.cross_attn.k.weight.scales\"",
         "want one f32 for each of its 256 rows"},
        {"\"shape\": [256, 256]", "\"shape\": [512, 128]", "want one f32 for each of its 512 rows"},
        {"\"shape\": [256, 256]", "\"shape\": [65536]", "want [rows, cols] of e4m3"},
        {"\"name\": \"blocks.0.cross_attn.k.bias\"", "\"name\": \"blocks.0.cross_attn.q.bias\"", "is there twice"},
        {"\"name\": \"blocks.0.cross_attn.k.bias\"", "\"name\": \"a/b\"", "is no name of a tensor"},
        {"\"name\": \"blocks.0.cross_attn.k.bias\"", "\"name\": \".\"", "is no name of a tensor"},
        {"\"name\": \"blocks.0.cross_attn.k.bias\"", "\"name\": \"model.diffusion_model.x\"", "is no name"},
        {"\"name\": \"blocks.0.cross_attn.k.bias\"", "\"name\": \"\"", "want 1 to 4096"},
        {"\"metadata_crc32\": \"", "\"metadata_crc32\": \"x", "eight hexadecimal digits"},
        {"\"metadata_crc32\": \"", "\"metadata_crc32\": \"00000000\", \"x\": \"", "the checksum of its metadata"},
        {"\"files\"", "\"file\"", "want a list \"files\""},
        {"\"shards\"", "\"shard\"", "want a list \"shards\""},
        {"\"tensors\"", "\"tensor\"", "want a list \"tensors\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *folder = copied_folder("lies", sound_folder());
        test_parameters("%s -> %s", rows[i].from, rows[i].to);
        edit_manifest(folder, rows[i].from, rows[i].to);
        expect_refused(folder, rows[i].message);
    }
}

/* ---- shards that lie, with right checksums ---- */

/* Changes the first shard through HDF5 and makes lengths and checksums of the manifest right again. */
typedef bool (*change)(hid_t file, hid_t group);

/* What HDF5 makes of the folder's first shard. */
static sky_status check_description(const char *folder)
{
    sky_manifest m = {0};
    int fd = -1;
    uint64_t len = 0;
    const char *path = file_in(folder, SHARD_1);
    SKY_ASSERT(sky_manifest_load(folder, SKY_MANIFEST_NAME, &m) == SKY_OK);
    SKY_ASSERT(sky_file_open(path, &fd, &len) == SKY_OK);
    const sky_status st = sky_shard_check_description(fd, path, &m.shards[0], &m.tensors[m.shards[0].first]);
    sky_file_close(&fd);
    sky_manifest_release(&m);
    return st;
}

/* The folder loads as the sound one does: by its manifest, whatever its shards' HDF5 part says. */
static void expect_loads(const char *folder)
{
    uint32_t want = 0;
    uint32_t digest = 0;
    CHECK_OK(read_converted(sound_folder(), &want));
    CHECK_OK(read_converted(folder, &digest));
    EXPECT(digest == want);
}

static void expect_description_refused(const char *folder, const char *message)
{
    CHECK_STATUS(check_description(folder), SKY_ERR_INPUT);
    if (strstr(sky_message(), message) == NULL) {
        test_fail(__FILE__, __LINE__, "want \"%s\" in \"%s\"", message, sky_message());
    }
}

static void expect_changed_refused(const char *what, change how, const char *message)
{
    const char *folder = copied_folder("changed", sound_folder());
    test_parameters("%s", what);
    const hid_t file = H5Fopen(file_in(folder, SHARD_1), H5F_ACC_RDWR, H5P_DEFAULT);
    const hid_t group = H5Gopen2(file, "transformer", H5P_DEFAULT);
    CHECK(group >= 0);
    const bool done = how(file, group);
    CHECK(H5Gclose(group) >= 0 && H5Fclose(file) >= 0);
    CHECK(done);
    make_checksums_right(folder, 0);
    expect_description_refused(folder, message);
    expect_loads(folder);
}

static bool more_in_the_root(hid_t file, hid_t group)
{
    (void)group;
    return H5Gclose(H5Gcreate2(file, "more", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)) >= 0;
}

static bool more_in_the_group(hid_t file, hid_t group)
{
    (void)file;
    return H5Lcreate_hard(group, LINEAR, group, "more", H5P_DEFAULT, H5P_DEFAULT) >= 0;
}

static bool soft_link(hid_t file, hid_t group)
{
    (void)file;
    return H5Lmove(group, LINEAR, group, "moved", H5P_DEFAULT, H5P_DEFAULT) >= 0 &&
           H5Lcreate_soft("moved", group, LINEAR, H5P_DEFAULT, H5P_DEFAULT) >= 0;
}

static bool soft_link_to_itself(hid_t file, hid_t group)
{
    (void)file;
    return H5Ldelete(group, LINEAR, H5P_DEFAULT) >= 0 &&
           H5Lcreate_soft(LINEAR, group, LINEAR, H5P_DEFAULT, H5P_DEFAULT) >= 0;
}

static bool external_link(hid_t file, hid_t group)
{
    (void)file;
    return H5Ldelete(group, LINEAR, H5P_DEFAULT) >= 0 &&
           H5Lcreate_external("/etc/passwd", "/x", group, LINEAR, H5P_DEFAULT, H5P_DEFAULT) >= 0;
}

static bool group_is_a_soft_link(hid_t file, hid_t group)
{
    (void)group;
    return H5Lmove(file, "transformer", file, "moved", H5P_DEFAULT, H5P_DEFAULT) >= 0 &&
           H5Lcreate_soft("moved", file, "transformer", H5P_DEFAULT, H5P_DEFAULT) >= 0;
}

static bool group_in_its_place(hid_t file, hid_t group)
{
    (void)file;
    return H5Ldelete(group, LINEAR, H5P_DEFAULT) >= 0 &&
           H5Gclose(H5Gcreate2(group, LINEAR, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)) >= 0;
}

/* A dataset of this kind in the place of LINEAR; made first, so that it does not get the same place in the file. */
static bool other_dataset(hid_t group, hid_t type, int num_dims, const hsize_t *dims, hid_t properties)
{
    const hid_t space = H5Screate_simple(num_dims, dims, NULL);
    const hid_t dataset = H5Dcreate2(group, "new", type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    const bool done = dataset >= 0 && H5Dclose(dataset) >= 0 && H5Ldelete(group, LINEAR, H5P_DEFAULT) >= 0 &&
                      H5Lmove(group, "new", group, LINEAR, H5P_DEFAULT, H5P_DEFAULT) >= 0;
    H5Sclose(space);
    if (properties != H5P_DEFAULT) {
        H5Pclose(properties);
    }
    return done;
}

static const hsize_t right_dims[2] = {256, 256};

static bool external_storage(hid_t file, hid_t group)
{
    const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    (void)file;
    return H5Pset_external(p, "/etc/passwd", 0, 256 * 256) >= 0 && other_dataset(group, H5T_STD_U8LE, 2, right_dims, p);
}

static bool chunked(hid_t file, hid_t group)
{
    const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    (void)file;
    return H5Pset_chunk(p, 2, right_dims) >= 0 && other_dataset(group, H5T_STD_U8LE, 2, right_dims, p);
}

static bool filtered(hid_t file, hid_t group)
{
    const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    (void)file;
    return H5Pset_chunk(p, 2, right_dims) >= 0 && H5Pset_fletcher32(p) >= 0 &&
           other_dataset(group, H5T_STD_U8LE, 2, right_dims, p);
}

static bool virtual_layout(hid_t file, hid_t group)
{
    const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    const hid_t space = H5Screate_simple(2, right_dims, NULL);
    (void)file;
    const bool set = H5Pset_virtual(p, space, "/etc/passwd", "x", space) >= 0;
    H5Sclose(space);
    return set && other_dataset(group, H5T_STD_U8LE, 2, right_dims, p);
}

static bool compact(hid_t file, hid_t group)
{
    const hsize_t dims[2] = {16, 16};
    const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    (void)file;
    return H5Pset_layout(p, H5D_COMPACT) >= 0 && other_dataset(group, H5T_STD_U8LE, 2, dims, p);
}

static bool other_type(hid_t file, hid_t group)
{
    (void)file;
    return other_dataset(group, H5T_STD_I8LE, 2, right_dims, H5P_DEFAULT);
}

static bool other_shape(hid_t file, hid_t group)
{
    const hsize_t dims[2] = {128, 512};
    (void)file;
    return other_dataset(group, H5T_STD_U8LE, 2, dims, H5P_DEFAULT);
}

static bool shape_bomb(hid_t file, hid_t group)
{
    const hsize_t dims[2] = {(hsize_t)1 << 40, (hsize_t)1 << 20};
    (void)file;
    return other_dataset(group, H5T_STD_U8LE, 2, dims, H5P_DEFAULT);
}

static bool other_place(hid_t file, hid_t group)
{
    const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    (void)file;
    return H5Pset_alloc_time(p, H5D_ALLOC_TIME_EARLY) >= 0 && other_dataset(group, H5T_STD_U8LE, 2, right_dims, p);
}

static bool put_attribute(hid_t group, const char *name, hid_t type, const void *value)
{
    const hid_t dataset = H5Dopen2(group, LINEAR, H5P_DEFAULT);
    const hid_t space = H5Screate(H5S_SCALAR);
    bool done = H5Adelete(dataset, name) >= 0;
    if (value != NULL) {
        const hid_t attribute = H5Acreate2(dataset, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
        done = done && H5Awrite(attribute, type, value) >= 0 && H5Aclose(attribute) >= 0;
    }
    H5Sclose(space);
    return H5Dclose(dataset) >= 0 && done;
}

static bool text_attribute(hid_t group, const char *name, const char *value)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    const bool done = H5Tset_size(type, strlen(value) + 1) >= 0 && put_attribute(group, name, type, value);
    H5Tclose(type);
    return done;
}

static bool other_dtype(hid_t file, hid_t group)
{
    (void)file;
    return text_attribute(group, "dtype", "e5m2");
}

static bool other_crc(hid_t file, hid_t group)
{
    (void)file;
    return text_attribute(group, "crc32", "00000000");
}

static bool other_scale(hid_t file, hid_t group)
{
    (void)file;
    return text_attribute(group, "scale", "blocks.0.self_attn.k.weight.scale");
}

static bool no_dtype(hid_t file, hid_t group)
{
    (void)file;
    return put_attribute(group, "dtype", H5T_C_S1, NULL);
}

static bool dtype_is_a_number(hid_t file, hid_t group)
{
    const int number = 7;
    (void)file;
    return put_attribute(group, "dtype", H5T_NATIVE_INT, &number);
}

static bool dtype_of_variable_length(hid_t file, hid_t group)
{
    const char *value = "e4m3";
    const hid_t type = H5Tcopy(H5T_C_S1);
    (void)file;
    const bool done = H5Tset_size(type, H5T_VARIABLE) >= 0 && put_attribute(group, "dtype", type, &value);
    H5Tclose(type);
    return done;
}

TEST(shards_that_lie_are_refused)
{
    static const struct {
        const char *what;
        change how;
        const char *message;
    } rows[] = {
        {"another group", more_in_the_root, "entries in a group"},
        {"a second name", more_in_the_group, "entries in a group"},
        {"a soft link", soft_link, "entries in a group"},
        {"a soft link to itself", soft_link_to_itself, LINEAR ": is a link"},
        {"an external link", external_link, LINEAR ": is a link"},
        {"a group by a soft link", group_is_a_soft_link, "transformer: is a link"},
        {"a group for a dataset", group_in_its_place, "is no dataset"},
        {"external storage", external_storage, "without filters"},
        {"chunks", chunked, "without filters"},
        {"a filter", filtered, "without filters"},
        {"a virtual dataset", virtual_layout, "without filters"},
        {"a compact dataset", compact, "without filters"},
        {"another type", other_type, "its type is not"},
        {"another shape", other_shape, "its shape is not"},
        {"a shape of 2^60", shape_bomb, "its shape is not"},
        {"another place", other_place, "its place in the file is not"},
        {"another dtype", other_dtype, "attribute \"dtype\""},
        {"another checksum", other_crc, "attribute \"crc32\""},
        {"another scale", other_scale, "attribute \"scale\""},
        {"no dtype", no_dtype, "attribute \"dtype\""},
        {"a number as dtype", dtype_is_a_number, "attribute \"dtype\""},
        {"a dtype of variable length", dtype_of_variable_length, "attribute \"dtype\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        expect_changed_refused(rows[i].what, rows[i].how, rows[i].message);
    }
}

/* The harness itself: opened for writing and closed again, nothing changed, it still loads. */
TEST(a_shard_that_is_only_touched_still_loads)
{
    const char *folder = copied_folder("touched", sound_folder());
    const hid_t file = H5Fopen(file_in(folder, SHARD_1), H5F_ACC_RDWR, H5P_DEFAULT);
    CHECK(file >= 0 && H5Fclose(file) >= 0);
    make_checksums_right(folder, 0);
    CHECK_OK(check_description(folder));
    expect_loads(folder);
}

/* The checksum that HDF5 has behind its headers: Jenkins' lookup3. */
static uint32_t rotated(uint32_t x, int bits)
{
    return x << bits | x >> (32 - bits);
}

static uint32_t lookup3(const unsigned char *data, size_t len)
{
    uint32_t a = 0xdeadbeefU + (uint32_t)len;
    uint32_t b = a;
    uint32_t c = a;
    uint32_t w[3] = {0};
    for (; len > 12; len -= 12, data += 12) {
        memcpy(w, data, 12);
        a += w[0], b += w[1], c += w[2];
        a = (a - c) ^ rotated(c, 4), c += b;
        b = (b - a) ^ rotated(a, 6), a += c;
        c = (c - b) ^ rotated(b, 8), b += a;
        a = (a - c) ^ rotated(c, 16), c += b;
        b = (b - a) ^ rotated(a, 19), a += c;
        c = (c - b) ^ rotated(b, 4), b += a;
    }
    memset(w, 0, sizeof w);
    memcpy(w, data, len);
    a += w[0], b += w[1], c += w[2];
    c = (c ^ b) - rotated(b, 14), a = (a ^ c) - rotated(c, 11), b = (b ^ a) - rotated(a, 25);
    c = (c ^ b) - rotated(b, 16), a = (a ^ c) - rotated(c, 4), b = (b ^ a) - rotated(a, 14);
    return (c ^ b) - rotated(b, 24);
}

/* Changes a byte of some header in HDF5's part, with HDF5's own checksum and the manifest's made right again. */
static bool change_header(unsigned char *data, size_t len, uint64_t *state)
{
    const size_t from = (size_t)(next_random(state) % 20000);
    for (size_t at = from; at < len - 1000; at++) {
        if (memcmp(data + at, "OHDR\2", 5) != 0) {
            continue;
        }
        for (size_t end = at + 8; end < at + 600; end++) {
            uint32_t sum = 0;
            memcpy(&sum, data + end, 4);
            if (lookup3(data + at, end - at) == sum) {
                const size_t which = at + 5 + (size_t)(next_random(state) % (end - at - 5));
                static const unsigned char values[] = {0, 1, 2, 8, 0x7f, 0x80, 0xff};
                data[which] = values[next_random(state) % sizeof values];
                sum = lookup3(data + at, end - at);
                memcpy(data + end, &sum, 4);
                return true;
            }
        }
    }
    return false;
}

/*
 * What the library makes of hostile headers, crashes among it, stays in the process that looks; loading does not look. (Of
 * 2,847 such files 123 ended the program when loading opened them by HDF5.)
 */
TEST(headers_that_crash_hdf5_harm_nobody)
{
    uint64_t state = 7;
    int changed = 0;
    unsigned char *sound = NULL;
    const size_t len = load_bytes(file_in(sound_folder(), SHARD_1), &sound);
    unsigned char *data = malloc(len);
    SKY_ASSERT(data != NULL);
    for (int i = 0; i < 30; i++) {
        const char *folder = copied_folder("headers", sound_folder());
        memcpy(data, sound, len);
        changed += change_header(data, len, &state);
        save_bytes(file_in(folder, SHARD_1), data, len);
        make_checksums_right(folder, 0);
        test_parameters("i=%d", i);
        const sky_status st = check_description(folder);
        EXPECT(st == SKY_OK || st == SKY_ERR_INPUT);
        expect_loads(folder);
    }
    CHECK(changed > 15);
    free(data);
    free(sound);
}

/* A file of the right checksums that is no HDF5 at all. */
TEST(a_shard_that_is_no_hdf5_is_told)
{
    unsigned char *data = NULL;
    const char *folder = copied_folder("text", sound_folder());
    const size_t len = load_bytes(file_in(folder, SHARD_1), &data);
    memset(data, 'x', 4096); /* the superblock */
    save_bytes(file_in(folder, SHARD_1), data, len);
    free(data);
    make_checksums_right(folder, 0);
    expect_description_refused(folder, "HDF5: opening the file");
    expect_loads(folder);
}

/* ---- values that mean nothing ---- */

/* Overwrites element 3 of a tensor. */
static void set_value(const char *folder, const char *name, uint64_t element_bytes, const void *value)
{
    sky_manifest m = {0};
    unsigned char *data = NULL;
    CHECK_OK(sky_manifest_load(folder, SKY_MANIFEST_NAME, &m));
    int64_t i = 0;
    while (strcmp(m.tensors[i].name, name) != 0) {
        i++;
        SKY_ASSERT(i < m.num_tensors);
    }
    const char *path = file_in(folder, m.shards[i >= m.shards[1].first].name);
    const size_t len = load_bytes(path, &data);
    memcpy(data + m.tensors[i].offset_bytes + 3 * element_bytes, value, element_bytes);
    save_bytes(path, data, len);
    free(data);
    sky_manifest_release(&m);
}

TEST(codes_and_scales_that_mean_no_number_are_refused)
{
    /* The checksum is wrong as well, but is known at a tensor's end only: the message tells which check it was. */
    const char *folder = copied_folder("values", sound_folder());
    set_value(folder, LINEAR, 1, &(uint8_t){0xff});
    expect_refused(folder, LINEAR ": element 3 is no code of e4m3");
    folder = copied_folder("values", sound_folder());
    set_value(folder, LINEAR ".scale", 4, &(uint32_t){0x7f800000U});
    expect_refused(folder, LINEAR ".scale: element 3 is NaN or infinite");
}

/* ---- writing ---- */

TEST(a_shard_on_a_full_disk_is_an_error)
{
    sky_manifest_tensor tensors[2] = {
        {.name = (char[]){"a"}, .dtype = SKY_BF16, .num_dims = 1, .shape = {4 << 20}, .len_bytes = 8 << 20},
        {.name = (char[]){"b"}, .dtype = SKY_F32, .num_dims = 0, .len_bytes = 4}};
    sky_shard_writer *writer = NULL;
    const char *disk = test_temp_path("disk");
    CHECK(mkdir(disk, 0777) == 0);
    if (mount("tmpfs", disk, "tmpfs", 0, "size=1m") != 0) {
        test_skip("cannot mount a small file system here");
        return;
    }
    const sky_status st = sky_shard_create(file_in(disk, "large.h5"), SKY_I8, tensors, 2, &writer);
    const bool says = strstr(sky_message(), "the disk is full") != NULL;
    FILE *filler = fopen(file_in(disk, "filler"), "wb");
    for (int i = 0; i < 2 << 20 && filler != NULL && fputc(0, filler) != EOF; i++) {
    }
    const bool full = filler != NULL && ferror(filler) != 0 && fclose(filler) != 1;
    const sky_status second = sky_shard_create(file_in(disk, "small.h5"), SKY_I8, tensors + 1, 1, &writer);
    umount(disk);
    CHECK(st == SKY_ERR_IO && says && writer == NULL);
    CHECK(full && second == SKY_ERR_IO);
}

TEST(a_shard_is_not_written_over_another_file)
{
    sky_manifest_tensor tensor = {.name = (char[]){"b"}, .dtype = SKY_F32, .len_bytes = 4};
    sky_shard_writer *writer = NULL;
    const char *path = test_temp_path("there.h5");
    save_bytes(path, "text", 4);
    CHECK_STATUS(sky_shard_create(path, SKY_I8, &tensor, 1, &writer), SKY_ERR_IO);
    unsigned char *data = NULL;
    CHECK(load_bytes(path, &data) == 4 && memcmp(data, "text", 4) == 0);
    free(data);
}

TEST_MAIN
