#include "support/test.h"
#include "weights/build_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* archive/data.pkl, archive/version, archive/data/0: "w" = 6 floats, and "tail" = the last two of them */
typedef struct torch_case {
    bytes file;
    zip_layout zip;
} torch_case;

enum { PICKLE = 0, VERSION = 1, STORAGE = 2 };

static const float values[6] = {1.0F, -2.5F, 3.0F, 0.0F, 1e-3F, 65504.0F};
static const tensor_spec specs[] = {
    {"w", "FloatStorage", "0", 6, 0, 2, {2, 3}, {3, 1}},
    {"tail", "FloatStorage", "0", 6, 4, 1, {2}, {1}},
};

static torch_case make_case(zip_style style, bool zip64)
{
    torch_case c = {.zip = {.style = style, .zip64 = zip64}};
    bytes pickle = {0};
    bytes storage = {0};
    build_pickle(&pickle, specs, 2);
    bytes_add(&storage, values, sizeof values);
    build_torch(&c.file, &c.zip, &pickle, &storage, 1);
    bytes_free(&pickle);
    bytes_free(&storage);
    return c;
}

TEST(a_good_archive_gives_its_tensors)
{
    static const struct {
        zip_style style;
        bool zip64;
    } rows[] = {{ZIP_PLAIN, false},     {ZIP_PLAIN, true},        {ZIP_DESCRIPTOR, false},    {ZIP_DESCRIPTOR, true},
                {ZIP_DESCRIPTOR_12, 0}, {ZIP_DESCRIPTOR64, true}, {ZIP_DESCRIPTOR64_20, true}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        torch_case c = make_case(rows[i].style, rows[i].zip64);
        sky_source *source = NULL;
        float out[6] = {0};
        test_parameters("style=%d zip64=%d", (int)rows[i].style, rows[i].zip64);
        CHECK_OK(open_torch(&c.file, c.file.len, &source));
        CHECK(sky_source_count(source) == 2 && directory_is_sound(source, c.file.len));
        CHECK(sky_source_find(source, "w")->offset_bytes == c.zip.data[STORAGE]);
        CHECK_OK(sky_source_read(source, sky_source_find(source, "w"), out, SKY_F32));
        CHECK(memcmp(out, values, sizeof values) == 0);
        CHECK_OK(sky_source_read(source, sky_source_find(source, "tail"), out, SKY_F32));
        CHECK(memcmp(out, values + 4, 2 * sizeof values[0]) == 0);
        sky_source_destroy(&source);
        bytes_free(&c.file);
    }
}

static void expect_refused(const bytes *file, const char *says)
{
    CHECK_STATUS(open_torch(file, file->len, NULL), SKY_ERR_INPUT);
    if (strstr(sky_message(), says) == NULL) {
        test_fail(__FILE__, __LINE__, "want a message with '%s', got: %s", says, sky_message());
    }
}

/* ---- one number changed ---- */

enum place { LOCAL, CENTRAL, DATA, END, END64 };

static const struct patch {
    const char *label;
    enum place place;
    int member;
    int at; /* from the place */
    int num_bytes;
    uint64_t number;
    const char *says;
    zip_style style;
    bool zip64;
} patches[] = {
    {"deflate", CENTRAL, STORAGE, 10, 2, 8, "compressed"},
    {"deflate in the local header only", LOCAL, STORAGE, 8, 2, 8, "disagree"},
    {"encrypted", CENTRAL, STORAGE, 8, 2, 1, "flags"},
    {"strong encryption", CENTRAL, PICKLE, 8, 2, 0x41, "flags"},
    {"patched data", CENTRAL, PICKLE, 8, 2, 0x20, "flags"},
    {"hidden local headers", CENTRAL, PICKLE, 8, 2, 0x2000, "flags"},
    {"flags in the local header only", LOCAL, PICKLE, 6, 2, 1, "disagree"},
    {"descriptor in the local header only", LOCAL, PICKLE, 6, 2, 8, "disagree"},
    {"packed length differs", CENTRAL, STORAGE, 20, 4, 23, "two lengths"},
    {"length differs", CENTRAL, STORAGE, 24, 4, 25, "two lengths"},
    {"local length", LOCAL, STORAGE, 22, 4, 23, "disagree"},
    {"local packed length", LOCAL, STORAGE, 18, 4, 23, "disagree"},
    {"local CRC", LOCAL, PICKLE, 14, 4, 1, "disagree"},
    {"local CRC of a described member", LOCAL, PICKLE, 14, 4, 1, "disagree", ZIP_DESCRIPTOR},
    {"local length of a described member", LOCAL, STORAGE, 22, 4, 23, "disagree", ZIP_DESCRIPTOR},
    {"local name", LOCAL, STORAGE, 30, 1, 'b', "disagree"},
    {"local name length", LOCAL, STORAGE, 26, 2, 13, "disagree"},
    {"local extra length", LOCAL, STORAGE, 28, 2, 5, "extra field"},
    {"local extra length far away", LOCAL, STORAGE, 28, 2, 60000, "disagree"},
    {"local extra field", LOCAL, STORAGE, 30 + 14 + 2, 2, 9, "extra field"},
    {"local signature", LOCAL, STORAGE, 0, 4, 0x04034b51, "disagree"},
    {"time", CENTRAL, STORAGE, 12, 2, 1, "disagree"},
    {"pickle changed", DATA, PICKLE, 0, 1, 0x81, "checksum"},
    {"pickle changed at its end", DATA, PICKLE, 40, 1, 'x', "checksum"},
    {"overlap", CENTRAL, STORAGE, 42, 4, 10, "overlap"},
    {"same member twice", CENTRAL, VERSION, 42, 4, 0, "overlap"},
    {"first member not at 0", CENTRAL, PICKLE, 42, 4, 1, "begins at"},
    {"offset in the directory", CENTRAL, STORAGE, 42, 4, 700, ""},
    {"offset outside", CENTRAL, STORAGE, 42, 4, 0x7fffffff, ""},
    {"offset unknown", CENTRAL, STORAGE, 42, 4, 0xffffffff, "zip64 field"},
    {"a comment", CENTRAL, STORAGE, 32, 2, 1, "comment"},
    {"another part", CENTRAL, STORAGE, 34, 2, 1, "part"},
    {"name longer than the directory", CENTRAL, STORAGE, 28, 2, 60000, "longer than"},
    {"name one longer", CENTRAL, STORAGE, 28, 2, 15, "longer than"},
    {"name shorter", CENTRAL, STORAGE, 28, 2, 13, ""},
    {"extra longer than the directory", CENTRAL, STORAGE, 30, 2, 60000, "longer than"},
    {"central signature", CENTRAL, VERSION, 0, 4, 0x02014b51, "damaged"},
    {"descriptor signature", DATA, STORAGE, 24, 4, 0, "descriptor", ZIP_DESCRIPTOR},
    {"descriptor CRC", DATA, STORAGE, 28, 4, 0, "descriptor", ZIP_DESCRIPTOR},
    {"descriptor length", DATA, STORAGE, 32, 4, 23, "descriptor", ZIP_DESCRIPTOR},
    {"descriptor packed length", DATA, STORAGE, 36, 4, 23, "descriptor", ZIP_DESCRIPTOR},
    {"descriptor64 length", DATA, STORAGE, 36, 4, 1, "descriptor", ZIP_DESCRIPTOR64, true},
    {"end signature", END, 0, 0, 4, 0, "no end record"},
    {"end comment", END, 0, 20, 2, 1, "no end record"},
    {"number of this part", END, 0, 4, 2, 1, "several parts"},
    {"members of this part", END, 0, 8, 2, 2, "several parts"},
    {"directory shorter", END, 0, 12, 4, 100, "where it must"},
    {"directory elsewhere", END, 0, 16, 4, 0, "where it must"},
    {"directory outside", END, 0, 16, 4, 0x7fffffff, "where it must"},
    {"more members than the directory has room for", END, 0, 8, 4, 0x00ff00ff, "255 members are too many"},
    {"zip64 says more members", END64, 0, 24, 8, 4, "zip64 end record is damaged", ZIP_PLAIN, true},
    {"zip64 and end disagree", END, 0, 8, 4, 0x00020002, "disagree", ZIP_PLAIN, true},
    {"zip64 and end disagree on the length", END, 0, 12, 4, 1, "disagree", ZIP_PLAIN, true},
    {"zip64 and end disagree on the place", END, 0, 16, 4, 1, "disagree", ZIP_PLAIN, true},
    {"zip64 directory 2^63", END64, 0, 40, 8, UINT64_C(1) << 63, "", ZIP_PLAIN, true},
    {"zip64 place 2^64 - 1", END64, 0, 48, 8, UINT64_MAX, "where it must", ZIP_PLAIN, true},
    {"zip64 record length", END64, 0, 4, 8, 45, "zip64 end record is damaged", ZIP_PLAIN, true},
    {"zip64 signature", END64, 0, 0, 4, 0, "zip64 end record is damaged", ZIP_PLAIN, true},
    {"zip64 locator", END64, 0, 56 + 8, 8, 0, "zip64 locator", ZIP_PLAIN, true},
    {"zip64 locator 2^64 - 1", END64, 0, 56 + 8, 8, UINT64_MAX, "zip64 locator", ZIP_PLAIN, true},
    {"zip64 parts", END64, 0, 56 + 16, 4, 2, "zip64 locator", ZIP_PLAIN, true},
    {"zip64 length 2^63", CENTRAL, STORAGE, 46 + 14 + 4, 8, UINT64_C(1) << 63, "two lengths", ZIP_PLAIN, true},
    {"zip64 offset 2^64 - 1", CENTRAL, STORAGE, 46 + 14 + 20, 8, UINT64_MAX, "descriptor", ZIP_PLAIN, true},
    {"zip64 field too short", CENTRAL, STORAGE, 46 + 14 + 2, 2, 16, "too short", ZIP_PLAIN, true},
    {"zip64 field too long", CENTRAL, STORAGE, 46 + 14 + 2, 2, 25, "extra field", ZIP_PLAIN, true},
    {"zip64 field of another id", CENTRAL, STORAGE, 46 + 14, 2, 2, "zip64 field", ZIP_PLAIN, true},
    {"zip64 local length", LOCAL, STORAGE, 30 + 14 + 4, 8, 25, "disagree", ZIP_PLAIN, true},
};

static size_t position(const torch_case *c, const struct patch *p)
{
    switch (p->place) {
    case LOCAL:
        return c->zip.local[p->member] + (size_t)p->at;
    case CENTRAL:
        return c->zip.central[p->member] + (size_t)p->at;
    case DATA:
        return c->zip.data[p->member] + (size_t)p->at;
    case END:
        return c->zip.end + (size_t)p->at;
    default:
        return c->zip.end64 + (size_t)p->at;
    }
}

TEST(one_wrong_number_is_refused)
{
    for (size_t i = 0; i < sizeof patches / sizeof patches[0]; i++) {
        const struct patch *p = &patches[i];
        torch_case c = make_case(p->style, p->zip64);
        test_parameters("%s", p->label);
        bytes_set(&c.file, position(&c, p), p->number, p->num_bytes);
        expect_refused(&c.file, p->says);
        bytes_free(&c.file);
    }
}

/* Both headers say the same wrong thing. */
TEST(both_lengths_of_both_headers_may_not_reach_outside)
{
    static const uint64_t lens[] = {25, 1000, 0x7fffffff, 0xfffffffe};
    for (size_t i = 0; i < 4; i++) {
        torch_case c = make_case(ZIP_PLAIN, false);
        test_parameters("len=%llu", (unsigned long long)lens[i]);
        for (int field = 0; field < 2; field++) {
            bytes_set(&c.file, c.zip.local[STORAGE] + 18 + 4 * (size_t)field, lens[i], 4);
            bytes_set(&c.file, c.zip.central[STORAGE] + 20 + 4 * (size_t)field, lens[i], 4);
        }
        expect_refused(&c.file, "outside of");
        bytes_free(&c.file);
    }
}

/* ---- bytes added ---- */

TEST(bytes_that_belong_to_nothing_are_refused)
{
    for (int place = 0; place < 5; place++) {
        for (int style = ZIP_PLAIN; style <= ZIP_DESCRIPTOR; style++) {
            torch_case c = make_case((zip_style)style, place == 4);
            const size_t at[] = {0, c.zip.local[STORAGE], c.zip.directory, c.file.len, c.zip.end};
            char junk[16] = "PK junk";
            test_parameters("place=%d style=%d", place, style);
            bytes_insert(&c.file, at[place], junk, 16);
            if (place < 3) { /* as good as a forger can make it: what lies behind moves */
                const size_t end = c.zip.end + 16;
                bytes_set(&c.file, end + 16, c.zip.directory + 16, 4);
                for (int m = 0; m < 3; m++) {
                    if (c.zip.local[m] >= at[place]) {
                        bytes_set(&c.file, c.zip.central[m] + 16 + 42, c.zip.local[m] + 16, 4);
                    }
                }
            }
            expect_refused(&c.file, "");
            bytes_free(&c.file);
        }
    }
}

TEST(bytes_behind_the_last_record_of_the_directory_are_refused)
{
    torch_case c = make_case(ZIP_PLAIN, false);
    bytes_insert(&c.file, c.zip.end, "hidden", 6);
    bytes_set(&c.file, c.zip.end + 6 + 12, c.zip.end + 6 - c.zip.directory, 4);
    expect_refused(&c.file, "for its members");
    bytes_free(&c.file);
}

TEST(a_second_zip64_field_is_refused)
{
    torch_case c = make_case(ZIP_PLAIN, true);
    const size_t record = c.zip.central[STORAGE];
    const size_t end64 = c.zip.end64 + 4;
    bytes_insert(&c.file, record + 46 + 14 + 28, "\1\0\0\0", 4);
    bytes_set(&c.file, record + 30, 32, 2);
    bytes_set(&c.file, end64 + 40, end64 - c.zip.directory, 8);
    bytes_set(&c.file, end64 + 56 + 8, end64, 8);
    bytes_set(&c.file, c.zip.end + 4 + 12, end64 - c.zip.directory, 4);
    expect_refused(&c.file, "two zip64 fields");
    bytes_set(&c.file, record + 46 + 14 + 28, 2, 2); /* a field that nobody knows is fine */
    CHECK_OK(open_torch(&c.file, c.file.len, NULL));
    bytes_free(&c.file);
}

static void expect_archive(const char *const names[], const void *const data[], const size_t lens[], int count,
                           const char *says)
{
    bytes file = {0};
    zip_layout zip = {0};
    for (int i = 0; i < count; i++) {
        zip_add(&file, &zip, names[i], data[i], lens[i]);
    }
    zip_finish(&file, &zip);
    if (says == NULL) {
        EXPECT(open_torch(&file, file.len, NULL) == SKY_OK);
    } else {
        expect_refused(&file, says);
    }
    bytes_free(&file);
}

/* The good archive's pickle and storage, and one member more. */
static void expect_with_member(const char *name, const void *data, size_t len, const char *says)
{
    bytes pickle = {0};
    build_pickle(&pickle, specs, 2);
    test_parameters("with %s", name);
    expect_archive((const char *const[]){"archive/data.pkl", "archive/data/0", name},
                   (const void *const[]){pickle.data, values, data}, (size_t[]){pickle.len, sizeof values, len}, 3,
                   says);
    bytes_free(&pickle);
}

TEST(members_have_plain_unique_names_in_one_folder)
{
    static const char *const bad[][2] = {
        {"../archive/x", "plain relative path"},
        {"archive/../x", "plain relative path"},
        {"archive/data/..", "plain relative path"},
        {"archive/./x", "plain relative path"},
        {"archive//x", "plain relative path"},
        {"archive/x/", "plain relative path"},
        {"/archive/x", "plain relative path"},
        {"/etc/passwd", "plain relative path"},
        {"archive\\x", "a name with"},
        {"C:/archive/x", "a name with"},
        {"", "0 bytes"},
        {"archive/x\x01", "control character"},
        {"archive/x\xff", "UTF-8"},
        {"archive/data/0", "twice"},
        {"archive/data.pkl", "twice"},
        {"archive/code/data.pkl", "two members"},
        {"other/data.pkl", "two members"},
        {"other/version", "top folder"},
        {"version", "top folder"},
        {"archive2/version", "top folder"},
        {"archivist", "top folder"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect_with_member(bad[i][0], "x", 1, bad[i][1]);
    }
    expect_with_member("archive/code/x.py", "x", 1, NULL); /* small, and nobody looks at it */
}

TEST(byte_order_is_little)
{
    expect_with_member("archive/byteorder", "little", 6, NULL);
    expect_with_member("archive/byteorder", "big", 3, "byte order");
    expect_with_member("archive/byteorder", "", 0, "byte order");
    expect_with_member("archive/byteorder", "little endian", 13, "13 bytes");
}

TEST(large_members_that_nothing_uses_are_refused)
{
    char *large = calloc(1, 65537);
    expect_with_member("archive/data/1", large, 65537, "no tensor uses");
    expect_with_member("archive/data/1", large, 65536, NULL);
    expect_with_member("archive/x.so", large, 65537, "no tensor uses");
    expect_with_member("archive/.data/serialization_id", large, 65537, NULL);
    expect_with_member("archive/.data", large, 65537, "no tensor uses");
    expect_with_member("archive/.format_version", "1", 1, NULL);
    free(large);
}

TEST(the_pickle_is_in_the_one_top_folder)
{
    bytes pickle = {0};
    build_pickle(&pickle, specs, 2);
    const void *const data[] = {pickle.data, values};
    const size_t lens[] = {pickle.len, sizeof values};
    test_parameters("any folder name");
    expect_archive((const char *const[]){"Wan2.1_VAE/data.pkl", "Wan2.1_VAE/data/0"}, data, lens, 2, NULL);
    test_parameters("no folder");
    expect_archive((const char *const[]){"data.pkl", "data/0"}, data, lens, 2, "no member ends in");
    test_parameters("two folders deep");
    expect_archive((const char *const[]){"a/b/data.pkl", "a/b/data/0"}, data, lens, 2, "top folder");
    test_parameters("other name");
    expect_archive((const char *const[]){"archive/constants.pkl", "archive/data/0"}, data, lens, 2,
                   "no member ends in");
    test_parameters("storage missing");
    expect_archive((const char *const[]){"archive/data.pkl", "archive/data/1"}, data, lens, 2, "has not");
    test_parameters("storage short");
    expect_archive((const char *const[]){"archive/data.pkl", "archive/data/0"}, data,
                   (size_t[]){pickle.len, sizeof values - 4}, 2, "do not make");
    test_parameters("storage long");
    expect_archive((const char *const[]){"archive/data.pkl", "archive/data/0"},
                   (const void *const[]){pickle.data, "1234567890123456789012345678"}, (size_t[]){pickle.len, 28}, 2,
                   "do not make");
    test_parameters("no members");
    bytes file = {0};
    zip_layout zip = {0};
    zip_finish(&file, &zip);
    expect_refused(&file, "not a torch file");
    bytes_free(&file);
    bytes_free(&pickle);
}

TEST(one_storage_has_one_type)
{
    const tensor_spec two[] = {{"a", "FloatStorage", "0", 6, 0, 1, {6}, {1}},
                               {"b", "IntStorage", "0", 6, 0, 1, {6}, {1}}};
    bytes pickle = {0};
    build_pickle(&pickle, two, 2);
    expect_archive((const char *const[]){"a/data.pkl", "a/data/0"}, (const void *const[]){pickle.data, values},
                   (size_t[]){pickle.len, sizeof values}, 2, "two types");
    bytes_free(&pickle);
}

TEST(a_name_may_be_there_once)
{
    const tensor_spec two[] = {specs[0], specs[0]};
    bytes pickle = {0};
    build_pickle(&pickle, two, 2);
    expect_archive((const char *const[]){"a/data.pkl", "a/data/0"}, (const void *const[]){pickle.data, values},
                   (size_t[]){pickle.len, sizeof values}, 2, "is there twice");
    bytes_free(&pickle);
}

TEST(other_files_get_a_clear_answer)
{
    bytes file = {0};
    bytes_add(&file, "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15); /* torch before 1.6 */
    expect_refused(&file, "before torch 1.6");
    bytes_free(&file);
    bytes_text(&file, "\x7f"
                      "ELF and so on");
    expect_refused(&file, "not a torch file");
    file.len = 0;
    expect_refused(&file, "too few");
    bytes_free(&file);
}

/* ---- damage ---- */

TEST(a_file_cut_short_anywhere_is_refused)
{
    for (int style = ZIP_PLAIN; style <= ZIP_DESCRIPTOR; style++) {
        torch_case c = make_case((zip_style)style, style == ZIP_DESCRIPTOR);
        for (size_t len = 0; len < c.file.len; len++) {
            test_parameters("style=%d len=%zu of %zu", style, len, c.file.len);
            CHECK_STATUS(open_torch(&c.file, len, NULL), SKY_ERR_INPUT);
        }
        bytes_free(&c.file);
    }
}

/* Every bit of the file: refused when it is opened, refused when the tensor is read, or of no consequence. */
TEST(no_flipped_bit_is_read_as_a_weight)
{
    torch_case c = make_case(ZIP_DESCRIPTOR, true);
    size_t opened = 0;
    for (size_t bit = 0; bit < 8 * c.file.len; bit++) {
        sky_source *source = NULL;
        float out[6] = {0};
        test_parameters("bit=%zu", bit);
        c.file.data[bit / 8] ^= (unsigned char)(1U << bit % 8);
        const sky_status st = open_torch(&c.file, c.file.len, &source);
        c.file.data[bit / 8] ^= (unsigned char)(1U << bit % 8);
        CHECK(st == SKY_OK || st == SKY_ERR_INPUT);
        if (st != SKY_OK) {
            continue;
        }
        opened++;
        const sky_source_tensor *w = sky_source_find(source, "w");
        const sky_source_tensor *tail = sky_source_find(source, "tail");
        CHECK(sky_source_count(source) == 2 && w != NULL && tail != NULL && w->num_dims == 2 && w->shape[0] == 2);
        const bool in_storage = bit / 8 >= c.zip.data[STORAGE] && bit / 8 < c.zip.data[STORAGE] + sizeof values;
        for (int pass = 0; pass < 2; pass++) { /* the part of a storage, then the whole */
            const sky_status read = sky_source_read(source, pass == 0 ? tail : w, out, SKY_F32);
            CHECK(read == (in_storage ? SKY_ERR_INPUT : SKY_OK));
            CHECK(in_storage || memcmp(out, pass == 0 ? values + 4 : values, pass == 0 ? 8 : sizeof out) == 0);
        }
        sky_source_destroy(&source);
    }
    CHECK(opened < 8 * (sizeof values + 200)); /* storage, versions, attributes, padding */
    bytes_free(&c.file);
}

/* ---- more than 4 GiB: a storage of 4.5 GiB that is a hole on disk, and one behind it ---- */

TEST(an_archive_may_be_longer_than_4_gib)
{
    const uint64_t hole = UINT64_C(4608) << 20;
    const tensor_spec two[] = {{"zeros", "ByteStorage", "0", (int64_t)hole, 0, 1, {(int64_t)hole}, {1}},
                               {"w", "FloatStorage", "1", 6, 0, 1, {6}, {1}}};
    const char *path = test_temp_path("sparse.pth");
    bytes head = {0};
    bytes tail = {.base = 0};
    bytes pickle = {0};
    zip_layout zip = {.zip64 = true};
    build_pickle(&pickle, two, 2);
    zip_add(&head, &zip, "archive/data.pkl", pickle.data, pickle.len);
    zip_add(&head, &zip, "archive/data/0", NULL, 0);
    bytes_set(&head, zip.local[1] + 30 + 14 + 4, hole, 8);
    bytes_set(&head, zip.local[1] + 30 + 14 + 12, hole, 8);
    zip.lens[1] = hole;
    tail.base = head.len + hole;
    zip_add(&tail, &zip, "archive/data/1", values, sizeof values);
    zip.local[0] -= tail.base; /* zip_finish() adds it to all */
    zip.local[1] -= tail.base;
    zip_finish(&tail, &zip);

    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    CHECK(pwrite(fd, head.data, head.len, 0) == (ssize_t)head.len);
    const bool sparse = pwrite(fd, tail.data, tail.len, (off_t)tail.base) == (ssize_t)tail.len;
    close(fd);
    if (sparse) {
        sky_source *source = NULL;
        float out[6] = {0};
        CHECK_OK(sky_source_create(&source));
        CHECK_OK(sky_source_add_torch(source, path));
        CHECK(sky_source_find(source, "zeros")->len_bytes == hole);
        CHECK(sky_source_find(source, "w")->offset_bytes == tail.base + zip.data[2]);
        CHECK_OK(sky_source_read(source, sky_source_find(source, "w"), out, SKY_F32));
        CHECK(memcmp(out, values, sizeof values) == 0);
        sky_source_destroy(&source);
    } else {
        test_skip("this file system takes no files of more than 4 GiB");
    }
    unlink(path);
    bytes_free(&head);
    bytes_free(&tail);
    bytes_free(&pickle);
}

TEST_MAIN
