/* Streams: pieces of any length, by any number of threads, give what reading at once gives, and fail as it does. */
#include "weights/stream.h"

#include "support/test.h"
#include "weights/build_files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Several chunks and a rest; rows of ROW. */
enum { ROWS = 4001, ROW = 97, COUNT = ROWS * ROW };

static const int threads[] = {1, 2, 5};
enum { NUM_THREADS = sizeof threads / sizeof threads[0] };

static float value_at(size_t i)
{
    return (float)i * 0.37F - 1000.0F;
}

typedef struct archive {
    bytes file;
    zip_layout zip;
    sky_source *source;
    const sky_source_tensor *tensor;
} archive;

static void open_archive(archive *a)
{
    sky_source_destroy(&a->source);
    SKY_ASSERT(open_torch(&a->file, a->file.len, &a->source) == SKY_OK);
    a->tensor = sky_source_find(a->source, "w");
}

static void create_archive(archive *a)
{
    const tensor_spec spec = {"w", "FloatStorage", "0", COUNT, 0, 2, {ROWS, ROW}, {ROW, 1}};
    bytes pickle = {0};
    bytes storage = {0};
    *a = (archive){.zip = {.style = ZIP_DESCRIPTOR}};
    build_pickle(&pickle, &spec, 1);
    for (size_t i = 0; i < COUNT; i++) {
        bytes_add(&storage, &(float){value_at(i)}, sizeof(float));
    }
    build_torch(&a->file, &a->zip, &pickle, &storage, 1);
    bytes_free(&pickle);
    bytes_free(&storage);
    open_archive(a);
}

static void free_archive(archive *a)
{
    sky_source_destroy(&a->source);
    bytes_free(&a->file);
}

/* Where element i is in the file. */
static float *place_of(const archive *a, size_t i)
{
    return (float *)(void *)(a->file.data + a->zip.data[2]) + i;
}

static void take_values(void *user, uint64_t first, uint64_t count, void *values)
{
    SKY_ASSERT(first % ROW == 0 && count % ROW == 0);
    memcpy((float *)user + first, values, count * sizeof(float));
}

/* Pieces of piece_rows rows into dst, by either way. */
static sky_status read_all(const archive *a, int num_threads, sky_dtype dtype, uint64_t piece_rows, bool take,
                           void *dst)
{
    sky_status st = SKY_OK;
    sky_readers *readers = NULL;
    sky_stream stream;
    SKY_TRY(sky_readers_create(num_threads, &readers));
    SKY_TRY_GOTO(sky_stream_begin(&stream, readers, a->source, a->tensor, dtype));
    for (uint64_t row = 0; row < ROWS; row += piece_rows) {
        const uint64_t rows = ROWS - row < piece_rows ? ROWS - row : piece_rows;
        SKY_TRY_GOTO(
            take ? sky_stream_take_next(&stream, rows * ROW, ROW, take_values, dst)
                 : sky_stream_next(&stream, rows * ROW, (unsigned char *)dst + row * ROW * sky_dtype_bytes(dtype)));
    }
    SKY_TRY_GOTO(sky_stream_end(&stream));
done:
    sky_readers_destroy(&readers);
    return st;
}

TEST(pieces_and_threads_give_what_reading_at_once_gives)
{
    static const uint64_t pieces[] = {ROWS, 1500, 7};
    archive a;
    create_archive(&a);
    float *values = malloc(COUNT * sizeof *values);
    uint16_t *want = malloc(COUNT * sizeof *want);
    uint16_t *narrow = malloc(COUNT * sizeof *narrow);
    SKY_ASSERT(values != NULL && want != NULL && narrow != NULL);
    CHECK_OK(sky_source_read(a.source, a.tensor, want, SKY_BF16));
    for (int i = 0; i < NUM_THREADS; i++) {
        for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++) {
            for (int take = 0; take < 2; take++) {
                test_parameters("%d threads, pieces of %d rows, %s", threads[i], (int)pieces[p], take ? "taken" : "");
                memset(values, 0, COUNT * sizeof *values);
                CHECK_OK(read_all(&a, threads[i], SKY_F32, pieces[p], take != 0, values));
                for (size_t j = 0; j < COUNT; j++) {
                    CHECK(values[j] == value_at(j));
                }
            }
            memset(narrow, 0, COUNT * sizeof *narrow);
            CHECK_OK(read_all(&a, threads[i], SKY_BF16, pieces[p], false, narrow));
            CHECK(memcmp(narrow, want, COUNT * sizeof *want) == 0);
        }
    }
    free(narrow);
    free(want);
    free(values);
    free_archive(&a);
}

TEST(the_first_bad_element_is_named_by_any_number_of_threads)
{
    archive a;
    create_archive(&a);
    float *values = malloc(COUNT * sizeof *values);
    SKY_ASSERT(values != NULL);
    *place_of(&a, COUNT - 1) = NAN;
    *place_of(&a, 200001) = INFINITY;
    *place_of(&a, 200000) = NAN;
    open_archive(&a);
    for (int i = 0; i < NUM_THREADS; i++) {
        test_parameters("%d threads", threads[i]);
        CHECK_STATUS(read_all(&a, threads[i], SKY_F32, ROWS, false, values), SKY_ERR_INPUT);
        CHECK(strstr(sky_message(), ": w: element 200000 is NaN") != NULL);
    }
    free(values);
    free_archive(&a);
}

/* One bit, in the first chunk, between two and in the last. */
TEST(a_wrong_checksum_shows_at_the_end)
{
    static const size_t places[] = {0, 131072, COUNT - 1};
    archive a;
    create_archive(&a);
    float *values = malloc(COUNT * sizeof *values);
    SKY_ASSERT(values != NULL);
    for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
        for (int i = 0; i < NUM_THREADS; i++) {
            test_parameters("element %d, %d threads", (int)places[p], threads[i]);
            *(unsigned char *)place_of(&a, places[p]) ^= 1;
            open_archive(&a);
            CHECK_STATUS(read_all(&a, threads[i], SKY_F32, 1500, false, values), SKY_ERR_INPUT);
            CHECK(strstr(sky_message(), ": w: the checksum") != NULL);
            *(unsigned char *)place_of(&a, places[p]) ^= 1;
        }
    }
    open_archive(&a);
    CHECK_OK(read_all(&a, 2, SKY_F32, 1500, false, values));
    free(values);
    free_archive(&a);
}

TEST(scratch_is_a_chunk_or_a_row)
{
    EXPECT(sky_stream_scratch_bytes(SKY_F32, SKY_F32, 0) == 0);
    const uint64_t raw = sky_stream_scratch_bytes(SKY_F32, SKY_BF16, 0);
    EXPECT(raw > 0 && sky_stream_scratch_bytes(SKY_F32, SKY_F32, 1) == raw);
    EXPECT(sky_stream_scratch_bytes(SKY_BF16, SKY_F32, 5120) <= 3 * raw);
    EXPECT(sky_stream_scratch_bytes(SKY_BF16, SKY_F32, 1 << 20) == (uint64_t)6 << 20);
}

TEST_MAIN
