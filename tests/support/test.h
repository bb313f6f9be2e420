/*
 * support/test.h - a test program: cases, checks, one summary line
 *
 *     TEST(rms_norm_of_one_row) { CHECK(sky_rms_norm(...) == SKY_OK); }
 *     TEST_MAIN
 *
 * A case says nothing when it passes. A failed CHECK prints where and what and ends the case; EXPECT goes on. A case
 * that has failed ends with the command line that runs it alone. The last line is "# N passed, N failed, N skipped"; the
 * exit code is 0, 1, or 77 when everything was skipped.
 *
 *     unit-ops-norms [NAME ...] [--part N]      cases of that name, or with NAME in theirs; of them part N only
 */
#ifndef SKY_TESTS_SUPPORT_TEST_H
#define SKY_TESTS_SUPPORT_TEST_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef void (*test_body)(void);
void test_register(const char *name, test_body body);
int test_main(int argc, char **argv);

/* Marks the running case failed and prints "file:line: text" and the case's parameters. */
void test_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Ends the running case as skipped, with the reason. With SKY_REQUIRE_GPU=1 a skip that names a GPU is a failure. */
void test_skip(const char *reason);
bool test_failed(void);

/*
 * Begins a part of the running case that can run without the others (op_check: one op, parameters, backend, alignment). Parts
 * are numbered from 1; returns whether this one is to run. A failure names the part in its command line.
 */
bool test_part(void);

/* Whether --part selects one of the `count` parts that come next: what they share need not be made for none. */
bool test_parts_wanted(int count);

/* Parameters of the running case, printed with its failures: test_parameters("rows=%d cols=%d", rows, cols). */
void test_parameters(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A path in a folder made for this program, removed at its end; valid until the program ends. */
const char *test_temp_path(const char *name);

#define TEST(name)                                                 \
    static void test_##name(void);                                 \
    __attribute__((constructor)) static void register_##name(void) \
    {                                                              \
        test_register(#name, test_##name);                         \
    }                                                              \
    static void test_##name(void)

#define TEST_MAIN                     \
    int main(int argc, char **argv)   \
    {                                 \
        return test_main(argc, argv); \
    }

#define CHECK(cond)                                               \
    do {                                                          \
        if (!(cond)) {                                            \
            test_fail(__FILE__, __LINE__, "not true: %s", #cond); \
            return;                                               \
        }                                                         \
    } while (0)

#define EXPECT(cond)                                              \
    do {                                                          \
        if (!(cond)) {                                            \
            test_fail(__FILE__, __LINE__, "not true: %s", #cond); \
        }                                                         \
    } while (0)

/* A call that must succeed; prints its message when it does not. */
#define CHECK_OK(expr)                                                                                     \
    do {                                                                                                   \
        const sky_status check_st_ = (expr);                                                               \
        if (check_st_ != SKY_OK) {                                                                         \
            test_fail(__FILE__, __LINE__, "%s: %s: %s", #expr, sky_status_name(check_st_), sky_message()); \
            return;                                                                                        \
        }                                                                                                  \
    } while (0)

/* A call that must fail with this status. */
#define CHECK_STATUS(expr, want)                                                                    \
    do {                                                                                            \
        const sky_status check_st_ = (expr);                                                        \
        if (check_st_ != (want)) {                                                                  \
            test_fail(__FILE__, __LINE__, "%s: want %s, got %s (%s)", #expr, sky_status_name(want), \
                      sky_status_name(check_st_), sky_message());                                   \
            return;                                                                                 \
        }                                                                                           \
    } while (0)

#endif
