#include "support/test.h"
#include "weights/build_files.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

/* ---- the small models, against what torch and safetensors read (make_expected.py) ---- */

typedef struct expected_row {
    char file[256], name[256], dtype[16], shape[64];
    unsigned crc;
} expected_row;

static bool next_row(FILE *table, expected_row *row)
{
    char line[1024];
    if (fgets(line, sizeof line, table) == NULL) {
        return false;
    }
    row->shape[0] = '\0';
    return sscanf(line, "%255[^\t]\t%255[^\t]\t%15[^\t]\t%63[^\t]\t%x", row->file, row->name, row->dtype, row->shape,
                  &row->crc) == 5;
}

static void check_row(const sky_source *source, const expected_row *row)
{
    char shape[64] = "";
    const sky_source_tensor *t = sky_source_find(source, row->name);
    CHECK(t != NULL);
    for (int d = 0; d < t->num_dims; d++) {
        sprintf(shape + strlen(shape), "%s%lld", d > 0 ? "," : "", (long long)t->shape[d]);
    }
    CHECK(strcmp(shape, row->shape) == 0 && strcmp(sky_dtype_name(t->dtype), row->dtype) == 0);
    const size_t len = t->len_bytes / sky_dtype_bytes(t->dtype) * sizeof(float);
    float *values = malloc(len);
    const sky_status st = sky_source_read(source, t, values, SKY_F32);
    const unsigned crc = (unsigned)crc32_z(0, (const unsigned char *)values, len);
    free(values);
    CHECK_OK(st);
    CHECK(crc == row->crc);
}

TEST(every_tensor_of_the_small_models_has_the_values_that_torch_reads)
{
    FILE *table = fopen(SKY_TEST_WEIGHTS "/expected.tsv", "r");
    CHECK(table != NULL);
    expected_row row;
    char open_file[256] = "";
    sky_source *source = NULL;
    int64_t in_file = 0;
    int rows = 0;
    while (next_row(table, &row) && !test_failed()) {
        test_parameters("%s %s", row.file, row.name);
        if (strcmp(row.file, open_file) != 0) {
            char path[1024];
            EXPECT(source == NULL || sky_source_count(source) == in_file); /* no more than torch sees */
            sky_source_destroy(&source);
            CHECK_OK(sky_source_create(&source));
            snprintf(path, sizeof path, "%s/%s", SKY_TEST_MODELS, row.file);
            CHECK_OK(strstr(path, ".pth") != NULL ? sky_source_add_torch(source, path)
                                                  : sky_source_add_safetensors(source, path));
            snprintf(open_file, sizeof open_file, "%s", row.file);
            in_file = 0;
        }
        check_row(source, &row);
        in_file++;
        rows++;
    }
    EXPECT(rows == 705);
    sky_source_destroy(&source);
    fclose(table);
}

/* ---- values ---- */

static const char *const dtype_keys[] = {[SKY_F32] = "F32", [SKY_BF16] = "BF16", [SKY_F16] = "F16", [SKY_F64] = "F64"};

/* A tensor "x" of count values at an odd place of the file. */
static sky_source *source_of(sky_dtype dtype, const void *values, size_t count)
{
    char header[256];
    bytes file = {0};
    sky_source *source = NULL;
    const size_t len = count * sky_dtype_bytes(dtype);
    unsigned char *data = malloc(len + 1);
    data[0] = 0;
    memcpy(data + 1, values, len);
    snprintf(header, sizeof header,
             "{\"byte\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
             "\"x\":{\"dtype\":\"%s\",\"shape\":[%zu],\"data_offsets\":[1,%zu]}}",
             dtype_keys[dtype], count, len + 1);
    build_safetensors_values(&file, header, data, len + 1);
    SKY_ASSERT(open_safetensors(&file, file.len, &source) == SKY_OK);
    bytes_free(&file);
    free(data);
    return source;
}

static void encode(sky_dtype dtype, double value, void *out)
{
    const float narrow = (float)value;
    uint16_t bits = 0;
    switch (dtype) {
    case SKY_F64:
        memcpy(out, &value, sizeof value);
        return;
    case SKY_F32:
        memcpy(out, &narrow, sizeof narrow);
        return;
    default:
        bits = dtype == SKY_BF16 ? sky_f32_to_bf16(narrow) : sky_f32_to_f16(narrow);
        memcpy(out, &bits, sizeof bits);
    }
}

TEST(values_are_converted_and_not_finite_ones_refused_wherever_they_are)
{
    enum { COUNT = 2500 };
    static const size_t places[] = {0, 1, 1023, 1024, 2047, COUNT - 1};
    static const double bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    unsigned char values[COUNT * 8];
    unsigned char out[COUNT * 4];
    for (sky_dtype from = SKY_F32; from <= SKY_F64; from++) {
        const size_t size = sky_dtype_bytes(from);
        for (size_t i = 0; i < COUNT; i++) {
            encode(from, (double)i / 8 - 100, values + i * size);
        }
        for (sky_dtype to = SKY_F32; to <= SKY_F16; to++) {
            sky_source *source = source_of(from, values, COUNT);
            float first = 0;
            test_parameters("%s to %s", sky_dtype_name(from), sky_dtype_name(to));
            CHECK_OK(sky_source_read(source, sky_source_find(source, "x"), out, to));
            CHECK(sky_dtype_convert(&first, SKY_F32, out, to, 1) && first == -100.0F);
            sky_source_destroy(&source);
            for (size_t p = 0; p < 6; p++) {
                unsigned char saved[8];
                char element[32];
                unsigned char *at = values + places[p] * size;
                memcpy(saved, at, size);
                encode(from, bad[p % 4], at);
                source = source_of(from, values, COUNT);
                test_parameters("%s to %s, element %zu", sky_dtype_name(from), sky_dtype_name(to), places[p]);
                CHECK_STATUS(sky_source_read(source, sky_source_find(source, "x"), out, to), SKY_ERR_INPUT);
                snprintf(element, sizeof element, "x: element %zu is", places[p]);
                CHECK(strstr(sky_message(), element) != NULL);
                sky_source_destroy(&source);
                memcpy(at, saved, size);
            }
        }
    }
}

TEST(a_value_too_large_for_the_wanted_type_is_refused)
{
    const float large = 1e6F;
    uint16_t out = 0;
    sky_source *source = source_of(SKY_F32, &large, 1);
    CHECK_STATUS(sky_source_read(source, sky_source_find(source, "x"), &out, SKY_F16), SKY_ERR_INPUT);
    CHECK_OK(sky_source_read(source, sky_source_find(source, "x"), &out, SKY_BF16));
    CHECK_STATUS(sky_source_read(source, sky_source_find(source, "byte"), &out, SKY_F32), SKY_ERR_INPUT);
    CHECK_STATUS(sky_source_read(source, sky_source_find(source, "x"), &out, SKY_F64), SKY_ERR_DTYPE);
    CHECK_STATUS(sky_source_read(source, sky_source_find(source, "x"), &out, SKY_U8), SKY_ERR_DTYPE);
    sky_source_destroy(&source);
}

/* Among them 8-bit floats, whose NaN and scales nobody here would check. */
TEST(tensors_of_other_types_are_listed_but_not_read)
{
    static const char *const keys[] = {"I64", "I32", "I16", "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const sky_dtype dtype = (sky_dtype)(SKY_I64 + i);
        char header[128];
        bytes file = {0};
        sky_source *source = NULL;
        float out = 7;
        test_parameters("%s", keys[i]);
        snprintf(header, sizeof header, "{\"x\":{\"dtype\":\"%s\",\"shape\":[1],\"data_offsets\":[0,%zu]}}", keys[i],
                 sky_dtype_bytes(dtype));
        build_safetensors(&file, header, sky_dtype_bytes(dtype));
        CHECK_OK(open_safetensors(&file, file.len, &source));
        const sky_source_tensor *t = sky_source_find(source, "x");
        CHECK(t != NULL && t->dtype == dtype);
        CHECK_STATUS(sky_source_read(source, t, &out, SKY_F32), SKY_ERR_INPUT);
        CHECK(strstr(sky_message(), sky_dtype_name(dtype)) != NULL && out == 7);
        sky_source_destroy(&source);
        bytes_free(&file);
    }
}

TEST(long_tensors_are_read_in_pieces)
{
    enum { COUNT = 1200001 }; /* 4.8 MB: more than one piece, and not a whole number of them */
    float *values = malloc(COUNT * sizeof *values);
    uint16_t *out = malloc(COUNT * sizeof *out);
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = (float)(i % 251);
    }
    sky_source *source = source_of(SKY_F32, values, COUNT);
    CHECK_OK(sky_source_read(source, sky_source_find(source, "x"), out, SKY_BF16));
    for (size_t i = 0; i < COUNT; i++) {
        test_parameters("i=%zu", i);
        CHECK(sky_bf16_to_f32(out[i]) == values[i]);
    }
    sky_source_destroy(&source);
    values[COUNT - 1] = NAN;
    source = source_of(SKY_F32, values, COUNT);
    CHECK_STATUS(sky_source_read(source, sky_source_find(source, "x"), out, SKY_BF16), SKY_ERR_INPUT);
    CHECK(strstr(sky_message(), "element 1200000") != NULL);
    sky_source_destroy(&source);
    free(values);
    free(out);
}

/* A storage of two pieces: the checksum goes over all of it, also where only its first element is read. */
TEST(checksums_cover_the_whole_storage)
{
    enum { COUNT = 1200001 };
    const tensor_spec specs[] = {{"all", "FloatStorage", "0", COUNT, 0, 1, {COUNT}, {1}},
                                 {"one", "FloatStorage", "0", COUNT, 0, 0, {0}, {0}}};
    for (int damaged = 0; damaged < 2; damaged++) {
        float *values = calloc(COUNT, sizeof *values);
        bytes pickle = {0};
        bytes storage = {0};
        bytes file = {0};
        zip_layout zip = {.style = ZIP_DESCRIPTOR};
        sky_source *source = NULL;
        build_pickle(&pickle, specs, 2);
        bytes_add(&storage, values, COUNT * sizeof *values);
        build_torch(&file, &zip, &pickle, &storage, 1);
        file.data[zip.data[2] + storage.len - 1] ^= (unsigned char)damaged;
        CHECK_OK(open_torch(&file, file.len, &source));
        for (int pass = 0; pass < 2; pass++) { /* the second one may know the answer */
            for (int i = 0; i < 2; i++) {
                const sky_source_tensor *t = sky_source_find(source, specs[i].name);
                test_parameters("damaged=%d %s", damaged, specs[i].name);
                CHECK_STATUS(sky_source_read(source, t, values, SKY_F32), damaged ? SKY_ERR_INPUT : SKY_OK);
                CHECK(!damaged || strstr(sky_message(), "checksum") != NULL);
            }
        }
        sky_source_destroy(&source);
        bytes_free(&pickle);
        bytes_free(&storage);
        bytes_free(&file);
        free(values);
    }
}

typedef struct reader {
    const sky_source *source;
    const char *name;
    size_t count;
    sky_status st;
} reader;

static void *read_again(void *user)
{
    reader *r = user;
    float *values = malloc(r->count * sizeof *values);
    r->st = values != NULL ? SKY_OK : SKY_ERR_NOMEM;
    for (int i = 0; i < 8 && r->st == SKY_OK; i++) {
        memset(values, 0, r->count * sizeof *values);
        r->st = sky_source_read(r->source, sky_source_find(r->source, r->name), values, SKY_F32);
        for (size_t j = 0; j < r->count && r->st == SKY_OK; j++) {
            r->st = values[j] == 3.0F ? SKY_OK : SKY_ERR_INTERNAL;
        }
    }
    free(values);
    return NULL;
}

/* Views of one storage: what the threads share is whether its checksum has been seen to be right. */
TEST(several_threads_may_read_from_one_source)
{
    enum { COUNT = 20000, THREADS = 4 };
    const tensor_spec specs[] = {{"all", "FloatStorage", "0", COUNT, 0, 1, {COUNT}, {1}},
                                 {"half", "FloatStorage", "0", COUNT, COUNT / 2, 1, {COUNT / 2}, {1}}};
    bytes pickle = {0};
    bytes storage = {0};
    bytes file = {0};
    zip_layout zip = {.style = ZIP_DESCRIPTOR};
    sky_source *source = NULL;
    pthread_t threads[THREADS];
    reader readers[THREADS];
    build_pickle(&pickle, specs, 2);
    for (int i = 0; i < COUNT; i++) {
        bytes_add(&storage, &(float){3.0F}, sizeof(float));
    }
    build_torch(&file, &zip, &pickle, &storage, 1);
    CHECK_OK(open_torch(&file, file.len, &source));
    for (int i = 0; i < THREADS; i++) {
        readers[i] = (reader){.source = source, .name = i == 0 ? "all" : "half", .count = i == 0 ? COUNT : COUNT / 2};
        SKY_ASSERT(pthread_create(&threads[i], NULL, read_again, &readers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        SKY_ASSERT(pthread_join(threads[i], NULL) == 0);
        test_parameters("thread %d", i);
        EXPECT(readers[i].st == SKY_OK);
    }
    sky_source_destroy(&source);
    bytes_free(&pickle);
    bytes_free(&storage);
    bytes_free(&file);
}

/* ---- several files ---- */

static const char *new_folder(const char *name)
{
    const char *path = test_temp_path(name);
    SKY_ASSERT(mkdir(path, 0700) == 0);
    return path;
}

static void put(const char *folder, const char *name, const void *data, size_t len)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    bytes_save(&(bytes){.data = (unsigned char *)data, .len = len}, len, path);
}

/* A file that holds one byte under each of the names. */
static void put_tensors(const char *folder, const char *file_name, const char *const *names, size_t count)
{
    char header[1024] = "{";
    bytes file = {0};
    for (size_t i = 0; i < count; i++) {
        sprintf(header + strlen(header), "%s\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}",
                i > 0 ? "," : "", names[i], i, i + 1);
    }
    strcat(header, "}");
    build_safetensors(&file, header, count);
    put(folder, file_name, file.data, file.len);
    bytes_free(&file);
}

static sky_status add_folder(const char *folder, sky_source **out)
{
    sky_source *source = NULL;
    SKY_TRY(sky_source_create(&source));
    const sky_status st = sky_source_add_folder(source, folder);
    if (st == SKY_OK && out != NULL) {
        *out = source;
        return st;
    }
    sky_source_destroy(&source);
    return st;
}

TEST(a_folder_of_files_is_one_source_in_name_order)
{
    const char *folder = new_folder("several");
    sky_source *source = NULL;
    put_tensors(folder, "b.safetensors", (const char *const[]){"m", "a"}, 2);
    put_tensors(folder, "a.safetensors", (const char *const[]){"z", "b"}, 2);
    put(folder, ".hidden.safetensors", "x", 1);
    put(folder, "notes.txt", "x", 1);
    CHECK_OK(add_folder(folder, &source));
    CHECK(sky_source_count(source) == 4);
    for (int i = 0; i < 4; i++) {
        const char name[2] = {"abmz"[i], '\0'};
        CHECK(strcmp(sky_source_at(source, i)->name, name) == 0);
        CHECK(sky_source_find(source, name) == sky_source_at(source, i));
    }
    CHECK(sky_source_find(source, "b")->file == 0 && sky_source_find(source, "a")->file == 1);
    CHECK(strstr(sky_source_path(source, 1), "/b.safetensors") != NULL);
    CHECK(sky_source_find(source, "c") == NULL);

    /* one more file with a name that is there: refused, and the source is as it was */
    put_tensors(folder, "c.other", (const char *const[]){"new", "m"}, 2);
    char path[1024];
    snprintf(path, sizeof path, "%s/c.other", folder);
    CHECK_STATUS(sky_source_add_safetensors(source, path), SKY_ERR_INPUT);
    CHECK(strstr(sky_message(), "m: is there twice") != NULL && strstr(sky_message(), "b.safetensors") != NULL);
    CHECK(sky_source_count(source) == 4 && sky_source_find(source, "new") == NULL);
    CHECK(strcmp(sky_source_find(source, "m")->name, "m") == 0);
    sky_source_destroy(&source);
}

TEST(folders_without_weights_are_refused)
{
    CHECK_STATUS(add_folder(new_folder("nothing"), NULL), SKY_ERR_INPUT);
    CHECK_STATUS(add_folder(test_temp_path("not-there"), NULL), SKY_ERR_IO);
}

TEST(an_index_and_its_files_agree)
{
    static const struct {
        const char *label;
        const char *index;
        const char *says; /* NULL: accepted */
    } rows[] = {
        {"as it should be",
         "{\"metadata\":{},\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\","
         "\"c\":\"2.safetensors\"}}",
         NULL},
        {"a missing file",
         "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\",\"c\":\"2.safetensors\","
         "\"d\":\"3.safetensors\"}}",
         "3.safetensors, which is missing"},
        {"a tensor too many",
         "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\",\"c\":\"2.safetensors\","
         "\"d\":\"2.safetensors\"}}",
         "d: want it in"},
        {"a tensor too few", "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}", "does not name"},
        {"the wrong file", "{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"2.safetensors\",\"c\":\"2.safetensors\"}}",
         "a: want it in"},
        {"a path", "{\"weight_map\":{\"a\":\"../1.safetensors\"}}", "file in the same folder"},
        {"a number", "{\"weight_map\":{\"a\":1}}", "file in the same folder"},
        {"no map", "{\"weights\":{}}", "weight_map"},
        {"a list", "[]", "weight_map"},
        {"no JSON", "{", "JSON"},
    };
    const char *folder = new_folder("indexed");
    put_tensors(folder, "1.safetensors", (const char *const[]){"a"}, 1);
    put_tensors(folder, "2.safetensors", (const char *const[]){"b", "c"}, 2);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        test_parameters("%s", rows[i].label);
        put(folder, "model.safetensors.index.json", rows[i].index, strlen(rows[i].index));
        CHECK_STATUS(add_folder(folder, NULL), rows[i].says == NULL ? SKY_OK : SKY_ERR_INPUT);
        if (rows[i].says != NULL && strstr(sky_message(), rows[i].says) == NULL) {
            test_fail(__FILE__, __LINE__, "want a message with '%s', got: %s", rows[i].says, sky_message());
        }
    }
}

TEST_MAIN
