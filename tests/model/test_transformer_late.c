/*
 * The transformer's pass on ranks with late devices and a group whose exchanges are queued on them (thread_group.h): the bytes
 * of one rank on the CPU backend, and no host wait from the first block to the last.
 */
#include "model/late_pass.h"
#include "parallel/thread_group.h"
#include "support/test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LONGEST_SECONDS = 240, MOST_RANKS = 4, NUM_PASSES = 2 };

typedef struct ranks_pass {
    late_pass_args args;
    late_pass_result *results; /* of each rank */
} ranks_pass;

static void body(sky_group *group, void *arg)
{
    ranks_pass *p = arg;
    late_pass(group, &p->args, &p->results[sky_group_rank(group)]);
}

static late_pass_result *new_results(int num)
{
    late_pass_result *r = calloc((size_t)num, sizeof *r);
    SKY_ASSERT(r != NULL);
    return r;
}

static void expect_no_wait(const late_pass_result *r, int rank)
{
    const int64_t outside = late_waits_sum(&r->block.outside);
    const int64_t inside = late_waits_sum(&r->block.inside);
    if (outside != 0 || inside != 0) {
        test_fail(__FILE__, __LINE__,
                  "rank %d: the host waited %d times between the ops of blocks, %d times in exchanges", rank,
                  (int)outside, (int)inside);
    }
}

/* sums_rows: linear_sums_rows (ops/backend.h) */
static void check_sums(late_arithmetic arithmetic, late_kind kind, int size, int ulysses_degree, int64_t sums_rows,
                       const late_pass_result *want)
{
    sky_backend backend = *late_backend(kind);
    backend.linear_sums_rows = sums_rows;
    ranks_pass p = {.args = {.backend = &backend,
                             .arithmetic = arithmetic,
                             .ulysses_degree = ulysses_degree,
                             .num_passes = NUM_PASSES},
                    .results = new_results(size)};
    test_parameters("%s, arithmetic %d, Ulysses %d x ring %d, sums of %d rows", p.args.backend->name, (int)arithmetic,
                    ulysses_degree, size / ulysses_degree, (int)sums_rows);
    thread_group_run(size, body, &p);
    for (int rank = 0; rank < size; rank++) {
        const late_pass_result *r = &p.results[rank];
        if (r->status != SKY_OK) {
            test_fail(__FILE__, __LINE__, "rank %d: %s", rank, r->message);
        } else if (memcmp(r->velocity, want->velocity, sizeof want->velocity) != 0) {
            test_fail(__FILE__, __LINE__, "rank %d: the velocity is not that of one rank", rank);
        }
        expect_no_wait(r, rank);
    }
    free(p.results);
}

static void check(late_arithmetic arithmetic, late_kind kind, int size, int ulysses_degree,
                  const late_pass_result *want)
{
    check_sums(arithmetic, kind, size, ulysses_degree, 0, want);
}

static late_pass_result *alone(const sky_backend *backend, late_arithmetic arithmetic)
{
    late_pass_result *r = new_results(1);
    late_pass(NULL, &(late_pass_args){.backend = backend, .arithmetic = arithmetic, .num_passes = NUM_PASSES}, r);
    if (r->status != SKY_OK) {
        test_fail(__FILE__, __LINE__, "alone: %s", r->message);
    }
    return r;
}

TEST(one_rank)
{
    alarm(LONGEST_SECONDS);
    for (int a = 0; a < LATE_NUM_ARITHMETICS; a++) {
        late_pass_result *want = alone(sky_backend_find("cpu"), (late_arithmetic)a);
        late_pass_result *got = alone(late_backend(LATE_APART), (late_arithmetic)a);
        test_parameters("arithmetic %d", a);
        EXPECT(memcmp(got->velocity, want->velocity, sizeof got->velocity) == 0);
        expect_no_wait(got, 0);
        free(want);
        free(got);
    }
}

TEST(ranks_whose_exchanges_are_queued)
{
    alarm(LONGEST_SECONDS);
    late_pass_result *want = alone(sky_backend_find("cpu"), LATE_FP8);
    for (int kind = 0; kind < LATE_NUM_KINDS; kind++) {
        check(LATE_FP8, (late_kind)kind, 2, 2, want);
        check(LATE_FP8, (late_kind)kind, 4, 2, want);
    }
    check(LATE_FP8, LATE_LAZY, 2, 1, want);
    check(LATE_FP8, LATE_EAGER, 3, 1, want);
    check(LATE_FP8, LATE_LAZY, 4, 4, want);
    free(want);
}

TEST(other_arithmetics)
{
    static const late_arithmetic arithmetics[] = {LATE_INT8, LATE_BF16};
    alarm(LONGEST_SECONDS);
    for (size_t i = 0; i < sizeof arithmetics / sizeof arithmetics[0]; i++) {
        late_pass_result *want = alone(sky_backend_find("cpu"), arithmetics[i]);
        check(arithmetics[i], LATE_LAZY, 4, 2, want);
        check(arithmetics[i], LATE_EAGER, 4, 2, want);
        free(want);
    }
}

/* Queries in pieces, on both sides of the keys' exchange; and keys, values and queries as sums in one piece. */
TEST(sums_between_linear_layers)
{
    alarm(LONGEST_SECONDS);
    late_pass_result *want = alone(sky_backend_find("cpu"), LATE_INT8);
    for (int kind = 0; kind < LATE_NUM_KINDS; kind++) {
        check_sums(LATE_INT8, (late_kind)kind, 2, 1, 128, want);
        check_sums(LATE_INT8, (late_kind)kind, 2, 2, 1024, want);
    }
    free(want);
}

TEST_MAIN
