#include "support/test.h"
#include "weights/build_files.h"
#include "weights/directory.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 }; /* its malloc() ends the program rather than to return NULL */
#else
enum { SANITIZED = 0 };
#endif

TEST(a_budget_counts_what_its_blocks_take)
{
    enum { BUDGET = 64 << 10 };
    void **blocks = calloc(BUDGET, sizeof *blocks);
    for (uint64_t len = 0; len <= 4096; len = 8 * len + 1) {
        sky_budget budget = {.left_bytes = BUDGET};
        size_t count = 0;
        uint64_t used = 0;
        test_parameters("len=%llu", (unsigned long long)len);
        sky_status st = SKY_OK;
        while (count < BUDGET && (st = sky_budget_alloc(&budget, len, &blocks[count])) == SKY_OK) {
            used += malloc_usable_size(blocks[count++]);
        }
        EXPECT(st == SKY_ERR_INPUT || len <= 1);
        EXPECT(used <= BUDGET && budget.left_bytes == BUDGET - used);
        EXPECT(len == 0 || count >= BUDGET / (len + 32)); /* and no more than that is lost */
        while (count > 0) {
            sky_budget_free(&budget, blocks[--count]);
        }
        EXPECT(budget.left_bytes == BUDGET);
    }
    sky_budget budget = {.left_bytes = UINT64_MAX};
    void *block = NULL;
    CHECK_STATUS(sky_budget_alloc(&budget, UINT64_MAX, &block), SKY_ERR_INPUT);
    CHECK(SANITIZED || sky_budget_alloc(&budget, UINT64_C(1) << 62, &block) == SKY_ERR_NOMEM);
    CHECK(block == NULL && budget.left_bytes == UINT64_MAX);
    sky_budget_free(&budget, NULL);
    free(blocks);
}

TEST(shapes_are_counted_or_refused)
{
    static const struct {
        int num_dims;
        int64_t shape[SKY_MAX_DIMS];
        bool ok;
        uint64_t count;
    } rows[] = {
        {0, {0}, true, 1},
        {2, {3, 5}, true, 15},
        {2, {3, 0}, true, 0},
        {1, {(int64_t)1 << 53}, true, UINT64_C(1) << 53},
        {2, {(int64_t)1 << 53, 1023}, true, (UINT64_C(1) << 53) * 1023},
        {2, {(int64_t)1 << 53, 1024}, false, 0}, /* 2^63 */
        {3, {4294967296, 4294967296, 1}, false, 0},
        {1, {((int64_t)1 << 53) + 1}, false, 0},
        {2, {0, -1}, false, 0},
        {2, {-2, -2}, false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t count = 0;
        test_parameters("row %zu", i);
        EXPECT(sky_shape_count(rows[i].num_dims, rows[i].shape, &count) == rows[i].ok);
        EXPECT(!rows[i].ok || count == rows[i].count);
    }
}

TEST(names_can_be_shown)
{
    static const struct {
        const char *name;
        bool ok;
    } rows[] = {
        {"blocks.0.ffn.0.weight", true},
        {"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x9a\x80", true},
        {"\x7f", false},
        {"a\nb", false},
        {"\xc2\x9b", false},         /* C1 */
        {"\xc2\xa0", true},          /* the first behind C1 */
        {"\xc1\xbf", false},         /* longer than needed */
        {"\xe0\x9f\xbf", false},     /* longer than needed */
        {"\xed\xa0\x80", false},     /* half of a surrogate pair */
        {"\xf4\x90\x80\x80", false}, /* beyond U+10FFFF */
        {"\xe2\x82", false},         /* cut */
        {"\x80", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        test_parameters("row %zu", i);
        EXPECT((sky_check_name("tensor", rows[i].name, strlen(rows[i].name)) == SKY_OK) == rows[i].ok);
    }
}

/* One tensor under many names, one letter each: what a torch file can ask for with the fewest bytes. */
static bytes many_names(int count)
{
    const tensor_spec w = {"w", "FloatStorage", "0", 1, 0, 0, {0}, {0}};
    bytes pickle = {0};
    bytes storage = {0};
    bytes file = {0};
    zip_layout zip = {.style = ZIP_DESCRIPTOR};
    bytes_text(&pickle, "\x80\x02}(");
    pickle_text(&pickle, "first");
    pickle_tensor(&pickle, &w);
    bytes_text(&pickle, "q");
    bytes_number(&pickle, 1, 1);
    for (int i = 0; i < count; i++) {
        pickle_text(&pickle, "w");
        bytes_text(&pickle, "h\1");
    }
    bytes_text(&pickle, "u.");
    bytes_number(&storage, 0, 4);
    build_torch(&file, &zip, &pickle, &storage, 1);
    bytes_free(&pickle);
    bytes_free(&storage);
    return file;
}

/* A limit that the kernel keeps: with this much more than the process has, the rule must refuse and not malloc(). */
TEST(reading_a_directory_stays_within_its_memory)
{
    if (SANITIZED) {
        test_skip("a sanitizer needs memory of its own");
        return;
    }
    for (int count = 50000; count <= 400000; count += 50000) {
        bytes file = many_names(count);
        test_parameters("count=%d, file of %zu bytes", count, file.len);
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            const rlim_t slack = 4 << 20; /* blocks of malloc() are rounded up to pages */
            unsigned long pages = 0;
            FILE *statm = fopen("/proc/self/statm", "r");
            if (statm == NULL || fscanf(statm, "%lu", &pages) != 1) {
                _exit(3);
            }
            fclose(statm);
            const rlim_t limit = pages * (rlim_t)sysconf(_SC_PAGESIZE) + SKY_BUDGET_BASE_BYTES + 2 * file.len + slack;
            if (setrlimit(RLIMIT_AS, &(struct rlimit){limit, limit}) != 0) {
                _exit(3);
            }
            const sky_status st = open_torch(&file, file.len, NULL);
            _exit(st != SKY_ERR_INPUT               ? 1
                  : strstr(sky_message(), "memory") ? 10 /* the budget */
                  : strstr(sky_message(), "twice")  ? 11 /* read to the end */
                                                    : 2);
        }
        int state = 0;
        CHECK(waitpid(child, &state, 0) == child && WIFEXITED(state));
        EXPECT(WEXITSTATUS(state) == 10 || WEXITSTATUS(state) == 11);
        EXPECT(count != 50000 || WEXITSTATUS(state) == 11);
        EXPECT(count != 400000 || WEXITSTATUS(state) == 10);
        bytes_free(&file);
    }
}

TEST_MAIN
