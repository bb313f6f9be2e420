/* Fingerprints of stages: what they depend on, what they do not, what is written, and the script that compares. */
#include "engine/fingerprint.h"
#include "parallel/partition.h"
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { ROW_BYTES = 24, NUM_ROWS = 540 };

/* A value of the model's, [NUM_ROWS, ROW_BYTES]. */
static void fill(unsigned char *data, size_t bytes)
{
    uint32_t state = 12345;
    for (size_t i = 0; i < bytes; i++) {
        state = state * 1664525 + 1013904223;
        data[i] = (unsigned char)(state >> 24);
    }
}

static sky_fingerprint *make(void)
{
    sky_fingerprint *fp = NULL;
    SKY_ASSERT(sky_fingerprint_create(1, &fp) == SKY_OK);
    return fp;
}

static sky_status see_rows(sky_fingerprint *fp, sky_engine_rows rows)
{
    const sky_engine_observer observer = sky_fingerprint_observer(fp, NULL);
    return observer.rows(observer.user, &rows);
}

/* The text of what one rank has seen; the caller frees it. */
static char *text_of(const sky_fingerprint *fp)
{
    char *text = NULL;
    sky_group *group = NULL;
    SKY_ASSERT(sky_group_self_create(&group) == SKY_OK);
    SKY_ASSERT(sky_fingerprint_text(fp, group, &text) == SKY_OK);
    sky_group_destroy(&group);
    return text;
}

/* The number of the only stage. */
static uint64_t only_number(const char *text)
{
    enum { TAIL_BYTES = 17 }; /* 16 digits and the end of the line */
    const size_t len = strlen(text);
    SKY_ASSERT(len > TAIL_BYTES);
    return strtoull(text + len - TAIL_BYTES, NULL, 16);
}

static uint64_t number_of_rows(sky_engine_rows rows)
{
    sky_fingerprint *fp = make();
    SKY_ASSERT(see_rows(fp, rows) == SKY_OK);
    char *text = text_of(fp);
    const uint64_t number = only_number(text);
    free(text);
    sky_fingerprint_destroy(&fp);
    return number;
}

static uint64_t number_of_frames(const uint8_t *data, int64_t len)
{
    sky_fingerprint *fp = make();
    const sky_engine_observer observer = sky_fingerprint_observer(fp, NULL);
    SKY_ASSERT(observer.frames(observer.user, data, len) == SKY_OK);
    char *text = text_of(fp);
    const uint64_t number = only_number(text);
    free(text);
    sky_fingerprint_destroy(&fp);
    return number;
}

static sky_engine_rows rows_of(const unsigned char *data, int64_t first, int64_t num)
{
    return (sky_engine_rows){.step = 3,
                             .branch = 1,
                             .name = "block_7",
                             .data = data + (size_t)first * ROW_BYTES,
                             .first_row = first,
                             .num_rows = num,
                             .row_bytes = ROW_BYTES};
}

/* However rows are dealt, ranks' numbers add up to that of one rank, in any order; ranks without rows add nothing. */
TEST(parts_add_up_to_the_whole)
{
    static const int64_t totals[] = {1, 105, 128, 129, 540};
    unsigned char data[NUM_ROWS * ROW_BYTES];
    fill(data, sizeof data);
    for (size_t t = 0; t < sizeof totals / sizeof totals[0]; t++) {
        const uint64_t whole = number_of_rows(rows_of(data, 0, totals[t]));
        for (int ranks = 1; ranks <= 5; ranks++) {
            uint64_t sum = 0;
            sky_fingerprint *one = make(); /* sees all the parts itself, the last first */
            test_parameters("%d rows on %d ranks", (int)totals[t], ranks);
            for (int rank = ranks - 1; rank >= 0; rank--) {
                const sky_span span = sky_partition_tokens(totals[t], ranks, rank);
                const sky_engine_rows part = rows_of(data, span.first, span.count);
                sum += number_of_rows(part);
                EXPECT(see_rows(one, part) == SKY_OK);
            }
            char *text = text_of(one);
            EXPECT(sum == whole && only_number(text) == whole);
            free(text);
            sky_fingerprint_destroy(&one);
        }
    }
}

TEST(every_bit_counts)
{
    unsigned char data[NUM_ROWS * ROW_BYTES];
    fill(data, sizeof data);
    const uint64_t rows = number_of_rows(rows_of(data, 0, 130)); /* a whole group and a short one */
    for (size_t bit = 0; bit < (size_t)130 * ROW_BYTES * 8; bit++) {
        data[bit / 8] ^= (unsigned char)(1U << bit % 8);
        if (number_of_rows(rows_of(data, 0, 130)) == rows) {
            test_fail(__FILE__, __LINE__, "bit %zu of rows does not count", bit);
            return;
        }
        data[bit / 8] ^= (unsigned char)(1U << bit % 8);
    }
    /* Lengths around those of words and lanes. */
    for (int64_t len = 1; len <= 70; len++) {
        const uint64_t frames = number_of_frames(data, len);
        for (int64_t bit = 0; bit < len * 8; bit++) {
            data[bit / 8] ^= (unsigned char)(1U << bit % 8);
            test_parameters("%d bytes, bit %d", (int)len, (int)bit);
            CHECK(number_of_frames(data, len) != frames);
            data[bit / 8] ^= (unsigned char)(1U << bit % 8);
        }
        CHECK(number_of_frames(data, len + 1) != frames);
    }
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Zeros of every length have numbers of their own: padding and lengths do not hide behind each other. */
TEST(lengths_of_zeros_differ)
{
    enum { NUM = 600 };
    static const unsigned char zeros[NUM];
    uint64_t numbers[NUM];
    for (int len = 0; len < NUM; len++) {
        numbers[len] = number_of_frames(zeros, len);
    }
    qsort(numbers, NUM, sizeof numbers[0], compare_numbers);
    for (int i = 1; i < NUM; i++) {
        CHECK(numbers[i] != numbers[i - 1]);
    }
}

static void swap_bytes(unsigned char *data, int64_t a, int64_t b, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char kept = data[(size_t)a + i];
        data[(size_t)a + i] = data[(size_t)b + i];
        data[(size_t)b + i] = kept;
    }
}

static void swap_rows(unsigned char *data, int64_t a, int64_t b, int64_t num)
{
    swap_bytes(data, a * ROW_BYTES, b * ROW_BYTES, (size_t)num * ROW_BYTES);
}

TEST(order_and_place_count)
{
    unsigned char data[NUM_ROWS * ROW_BYTES];
    fill(data, sizeof data);
    const sky_engine_rows all = rows_of(data, 0, NUM_ROWS);
    const uint64_t number = number_of_rows(all);
    EXPECT(number_of_rows(all) == number);
    for (int64_t row = 1; row < NUM_ROWS; row++) { /* within a group and across a border */
        swap_rows(data, row - 1, row, 1);
        test_parameters("rows %d and %d", (int)row - 1, (int)row);
        EXPECT(number_of_rows(all) != number);
        swap_rows(data, row - 1, row, 1);
    }
    swap_rows(data, 0, 128, 128);
    test_parameters("groups 0 and 1");
    EXPECT(number_of_rows(all) != number);
    swap_rows(data, 0, 128, 128);
    EXPECT(number_of_rows(all) == number);

    /* Words, and what lies 32 bytes apart (the hash takes it separately) as a whole. */
    enum { WORD = 8, LEN = 256 };
    const uint64_t frames = number_of_frames(data, LEN);
    for (int64_t word = 1; word < LEN / WORD; word++) {
        swap_bytes(data, 0, word * WORD, WORD);
        test_parameters("words 0 and %d", (int)word);
        EXPECT(number_of_frames(data, LEN) != frames);
        swap_bytes(data, 0, word * WORD, WORD);
    }
    for (int64_t lane = 1; lane < 4; lane++) {
        for (int64_t place = 0; place < LEN; place += 4 * WORD) {
            swap_bytes(data, place, place + lane * WORD, WORD);
        }
        test_parameters("lanes 0 and %d", (int)lane);
        EXPECT(number_of_frames(data, LEN) != frames);
        for (int64_t place = 0; place < LEN; place += 4 * WORD) {
            swap_bytes(data, place, place + lane * WORD, WORD);
        }
    }
    EXPECT(number_of_frames(data, LEN) == frames);
}

TEST(stage_and_shape_count)
{
    unsigned char data[NUM_ROWS * ROW_BYTES];
    fill(data, sizeof data);
    sky_engine_rows rows = rows_of(data, 0, NUM_ROWS);
    const uint64_t number = number_of_rows(rows);
    rows.step = 4;
    EXPECT(number_of_rows(rows) != number);
    rows.step = 3;
    rows.branch = 0;
    EXPECT(number_of_rows(rows) != number);
    rows.branch = 1;
    rows.name = "block_8";
    EXPECT(number_of_rows(rows) != number);
    rows.name = "block_7";
    EXPECT(number_of_rows(rows) == number);
    rows.num_rows--;
    EXPECT(number_of_rows(rows) != number);
}

static void see_everything(sky_fingerprint *fp, int64_t num_steps, int64_t num_blocks)
{
    static const float values[8] = {1};
    const sky_engine_observer observer = sky_fingerprint_observer(fp, NULL);
    unsigned char data[ROW_BYTES] = {0};
    EXPECT(observer.text(observer.user, 1, values, sizeof values) == SKY_OK);
    EXPECT(observer.text(observer.user, 0, values, sizeof values) == SKY_OK);
    EXPECT(observer.latents(observer.user, 0, values, 8) == SKY_OK);
    for (int step = 0; step < num_steps; step++) {
        for (int branch = 0; branch < 2; branch++) {
            sky_engine_rows rows = {
                .step = step, .branch = branch, .data = data, .num_rows = 1, .row_bytes = ROW_BYTES};
            char name[32];
            rows.name = "time_embedding";
            EXPECT(see_rows(fp, rows) == SKY_OK);
            rows.name = "patch_embedding";
            EXPECT(see_rows(fp, rows) == SKY_OK);
            for (int64_t block = 0; block < num_blocks; block++) {
                rows.name = name;
                snprintf(name, sizeof name, "block_%d_attn", (int)block);
                EXPECT(see_rows(fp, rows) == SKY_OK);
                snprintf(name, sizeof name, "block_%d", (int)block);
                EXPECT(see_rows(fp, rows) == SKY_OK);
            }
            EXPECT(observer.velocity(observer.user, step, branch, values, 8) == SKY_OK);
        }
        EXPECT(observer.latents(observer.user, step + 1, values, 8) == SKY_OK);
    }
    EXPECT(observer.frames(observer.user, (const uint8_t *)values, 8) == SKY_OK);
}

/* Names in order of computation, whatever was seen first; values of other names are left out. */
TEST(the_text_lists_stages_in_order)
{
    static const char *const names[] = {"skyreels-mpi fingerprints 1",
                                        "text prompt",
                                        "text negative prompt",
                                        "noise",
                                        "step 0 prompt patch_embedding",
                                        "step 0 prompt block_0",
                                        "step 0 prompt block_1",
                                        "step 0 prompt velocity",
                                        "step 0 negative prompt patch_embedding",
                                        "step 0 negative prompt block_0",
                                        "step 0 negative prompt block_1",
                                        "step 0 negative prompt velocity",
                                        "step 0 latents",
                                        "frames"};
    sky_fingerprint *fp = make();
    see_everything(fp, 1, 2);
    char *text = text_of(fp);
    char *line = text;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *end = strchr(line, '\n');
        CHECK(end != NULL);
        *end = '\0';
        char *gap = strstr(line, "  ");
        EXPECT((gap == NULL) == (i == 0) && (gap == NULL || strlen(gap) == 18));
        if (gap != NULL) {
            *gap = '\0';
        }
        test_parameters("line %d", (int)i + 1);
        if (strcmp(line, names[i]) != 0) {
            test_fail(__FILE__, __LINE__, "want \"%s\", got \"%s\"", names[i], line);
        }
        line = end + 1;
    }
    EXPECT(*line == '\0');
    free(text);
    sky_fingerprint_destroy(&fp);
}

/* Steps and blocks sort as numbers, and there may be more of them than memory was taken for. */
TEST(many_stages)
{
    sky_fingerprint *fp = make();
    see_everything(fp, 12, 60);
    char *text = text_of(fp);
    const char *const order[] = {"step 2 prompt block_9 ", "step 2 prompt block_10 ", "step 2 prompt block_59 ",
                                 "step 2 prompt velocity", "step 9 prompt block_0 ",  "step 10 prompt block_0 "};
    const char *place = text;
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        test_parameters("%s", order[i]);
        place = strstr(place, order[i]);
        CHECK(place != NULL);
    }
    int num_lines = 0;
    for (const char *p = text; *p != '\0'; p++) {
        num_lines += *p == '\n';
    }
    EXPECT(num_lines == 1 + 3 + 12 * (2 * 62 + 1) + 1);
    free(text);
    sky_fingerprint_destroy(&fp);
}

TEST(what_is_refused)
{
    unsigned char data[ROW_BYTES] = {0};
    sky_fingerprint *fp = make();
    sky_engine_rows rows = {.name = "block_0", .data = data, .first_row = 64, .num_rows = 1, .row_bytes = ROW_BYTES};
    CHECK_STATUS(see_rows(fp, rows), SKY_ERR_INTERNAL);
    EXPECT(strstr(sky_message(), "block_0") != NULL && strstr(sky_message(), "64") != NULL);
    rows.first_row = 0;
    rows.step = -1;
    CHECK_STATUS(see_rows(fp, rows), SKY_ERR_INTERNAL);
    /* A rank without rows: its share begins at the end, wherever that is. */
    rows = (sky_engine_rows){.name = "block_0", .first_row = 105, .row_bytes = ROW_BYTES};
    CHECK_OK(see_rows(fp, rows));
    sky_fingerprint_destroy(&fp);
    sky_fingerprint_destroy(&fp);
}

TEST(other_names_are_passed_over)
{
    static const char *const names[] = {
        "block_",        "block_7_attn",           "block_-1", "block_ 1",       "block_16777214",
        "blocks.7",      "block_9999999999999999", "Block_1",  "time_embedding", "",
        "text_embedding"};
    unsigned char data[ROW_BYTES] = {0};
    sky_fingerprint *fp = make();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        CHECK_OK(
            see_rows(fp, (sky_engine_rows){.name = names[i], .data = data, .num_rows = 1, .row_bytes = ROW_BYTES}));
    }
    char *text = text_of(fp);
    if (strcmp(text, "skyreels-mpi fingerprints 1\n") != 0) {
        test_fail(__FILE__, __LINE__, "got %s", text);
    }
    free(text);
    sky_fingerprint_destroy(&fp);
}

/* ---- files and the script that compares them ---- */

/* Writes what `change` leaves of a render's stages. */
static void write_stages(const char *path, void (*change)(sky_fingerprint *fp))
{
    sky_group *group = NULL;
    sky_output_file *file = NULL;
    sky_fingerprint *fp = make();
    CHECK_OK(sky_group_self_create(&group));
    change(fp);
    CHECK_OK(sky_output_file_create(path, &file));
    CHECK_OK(sky_fingerprint_write(fp, group, file));
    sky_output_file_destroy(&file);
    sky_fingerprint_destroy(&fp);
    sky_group_destroy(&group);
}

static void see_steps(sky_fingerprint *fp, int num_steps, int other_block)
{
    static const float noise[8] = {1};
    const sky_engine_observer observer = sky_fingerprint_observer(fp, NULL);
    EXPECT(observer.latents(observer.user, 0, noise, 8) == SKY_OK);
    for (int step = 0; step < num_steps; step++) {
        for (int block = 0; block < 3; block++) {
            char name[32];
            unsigned char data[ROW_BYTES] = {(unsigned char)(10 * step + block >= other_block)};
            snprintf(name, sizeof name, "block_%d", block);
            EXPECT(see_rows(fp,
                            (sky_engine_rows){
                                .step = step, .name = name, .data = data, .num_rows = 1, .row_bytes = ROW_BYTES}) ==
                   SKY_OK);
        }
    }
}

static void two_steps(sky_fingerprint *fp)
{
    see_steps(fp, 2, 1000);
}

static void three_steps(sky_fingerprint *fp)
{
    see_steps(fp, 3, 1000);
}

static void others_from_step_1_block_1(sky_fingerprint *fp)
{
    see_steps(fp, 2, 11);
}

/* As many stages, one of them another. */
static void other_stages(sky_fingerprint *fp)
{
    const sky_engine_observer observer = sky_fingerprint_observer(fp, NULL);
    unsigned char data[ROW_BYTES] = {0};
    see_steps(fp, 1, 1000);
    for (int block = 0; block < 2; block++) {
        EXPECT(see_rows(fp, (sky_engine_rows){.step = 1,
                                              .name = block == 0 ? "block_0" : "block_1",
                                              .data = data,
                                              .num_rows = 1,
                                              .row_bytes = ROW_BYTES}) == SKY_OK);
    }
    EXPECT(observer.frames(observer.user, data, ROW_BYTES) == SKY_OK);
}

/* Exit code of the script; what it says goes to `said`. */
static int compare(const char *a, const char *b, char *said, size_t size)
{
    char command[4096];
    snprintf(command, sizeof command, "'%s' '%s' '%s' 2>&1", SKY_TEST_COMPARE, a, b);
    FILE *pipe = popen(command, "r");
    SKY_ASSERT(pipe != NULL);
    const size_t len = fread(said, 1, size - 1, pipe);
    said[len] = '\0';
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    SKY_ASSERT(file != NULL && fputs(text, file) >= 0);
    fclose(file);
}

TEST(the_script_says_where_renders_part)
{
    char said[4096];
    const char *first = test_temp_path("first");
    const char *again = test_temp_path("again");
    const char *others = test_temp_path("others");
    const char *longer = test_temp_path("longer");
    const char *different = test_temp_path("different");
    const char *broken = test_temp_path("broken");
    write_stages(first, two_steps);
    write_stages(again, two_steps);
    write_stages(others, others_from_step_1_block_1);
    write_stages(longer, three_steps);
    write_stages(different, other_stages);

    EXPECT(compare(first, again, said, sizeof said) == 0);
    EXPECT(strcmp(said, "the same: 7 stages\n") == 0);

    EXPECT(compare(first, others, said, sizeof said) == 1);
    EXPECT(strstr(said, "different from \"step 1 prompt block_1\" on (stage 6 of 7; 2 differ)") != NULL);

    EXPECT(compare(first, longer, said, sizeof said) == 2);
    EXPECT(strstr(said, "7 stages") != NULL && strstr(said, "10") != NULL);
    EXPECT(compare(first, different, said, sizeof said) == 2);
    EXPECT(strstr(said, "step 1 prompt block_2") != NULL && strstr(said, "\"frames\"") != NULL);
    EXPECT(compare(first, test_temp_path("missing"), said, sizeof said) == 2);
    EXPECT(strstr(said, "missing cannot be read") != NULL);
    static const char *const texts[] = {"", "frames  0123456789abcdef\n", "skyreels-mpi fingerprints 1\n",
                                        "skyreels-mpi fingerprints 1\nframes  0123\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        write_text(broken, texts[i]);
        test_parameters("broken file %d", (int)i);
        EXPECT(compare(broken, broken, said, sizeof said) == 2);
        EXPECT(strstr(said, "broken") != NULL);
    }
}

TEST_MAIN
