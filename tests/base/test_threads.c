#include "base/threads.h"
#include "support/test.h"

#include <stdatomic.h>
#include <string.h>

enum { MAX_PIECES = 1000, MAX_THREADS = 5 };

typedef struct counts {
    atomic_int runs[MAX_PIECES];
    atomic_int outside; /* calls with a thread number out of range */
    int num_threads;
} counts;

static void count(void *arg, int64_t index, int thread)
{
    counts *c = arg;
    atomic_fetch_add(&c->runs[index], 1);
    if (thread < 0 || thread >= c->num_threads) {
        atomic_fetch_add(&c->outside, 1);
    }
}

TEST(every_piece_runs_once)
{
    static const int lengths[] = {0, 1, 2, 3, 7, MAX_PIECES};
    static counts c;
    for (int num_threads = 1; num_threads <= MAX_THREADS; num_threads++) {
        sky_threads *threads = NULL;
        CHECK_OK(sky_threads_create(num_threads, &threads));
        CHECK(sky_threads_count(threads) == num_threads);
        /* Many short loops one after the other: a worker that wakes up late must not run a loop that is over. */
        for (int repeat = 0; repeat < 300; repeat++) {
            const int len = lengths[repeat % 6];
            memset(&c, 0, sizeof c);
            c.num_threads = num_threads;
            test_parameters("threads=%d pieces=%d repeat=%d", num_threads, len, repeat);
            sky_threads_for(threads, len, count, &c);
            for (int i = 0; i < MAX_PIECES; i++) {
                CHECK(atomic_load(&c.runs[i]) == (i < len));
            }
            CHECK(atomic_load(&c.outside) == 0);
        }
        sky_threads_destroy(&threads);
        CHECK(threads == NULL);
        sky_threads_destroy(&threads);
    }
}

TEST(no_pool_is_one_thread)
{
    static counts c;
    memset(&c, 0, sizeof c);
    c.num_threads = 1;
    CHECK(sky_threads_count(NULL) == 1);
    sky_threads_for(NULL, 3, count, &c);
    CHECK(c.runs[0] == 1 && c.runs[1] == 1 && c.runs[2] == 1 && c.runs[3] == 0 && c.outside == 0);
}

TEST_MAIN
