/* The late device and the group of threads: what the tests that run on them rely on. And failures that show late. */
#include "support/late.h"

#include "ops/ops.h"
#include "parallel/group_impl.h"
#include "support/test.h"
#include "thread_group.h"

#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LEN = 64, BYTES = LEN * sizeof(float), LONGEST_SECONDS = 60 };

typedef struct machine {
    const sky_backend *b;
    sky_ctx ctx;
    void *block[2];
    float *host;
} machine;

static bool open_machine(machine *m, late_kind kind)
{
    void *host = NULL;
    *m = (machine){.b = late_backend(kind), .ctx.backend = late_backend(kind)};
    const bool ok = sky_device_open(m->b, &(sky_device_options){.num_threads = 1}, &m->ctx.device) == SKY_OK &&
                    m->b->alloc(m->ctx.device, BYTES, &m->block[0]) == SKY_OK &&
                    m->b->alloc(m->ctx.device, BYTES, &m->block[1]) == SKY_OK &&
                    m->b->host_alloc(m->ctx.device, BYTES, &host) == SKY_OK;
    m->host = host;
    return ok;
}

static void close_machine(machine *m)
{
    m->b->free(m->ctx.device, m->block[0]);
    m->b->free(m->ctx.device, m->block[1]);
    m->b->host_free(m->ctx.device, m->host);
    sky_device_close(m->b, &m->ctx.device);
}

static sky_tensor tensor(const machine *m, int block)
{
    return SKY_TENSOR(m->block[block], SKY_F32, LEN);
}

static sky_status add(machine *m)
{
    return sky_add(&m->ctx, &(sky_add_args){.y = tensor(m, 1), .a = tensor(m, 0), .b = tensor(m, 0)});
}

TEST(nothing_runs_before_it_is_waited_for)
{
    machine m;
    CHECK(open_machine(&m, LATE_LAZY));
    const float *x = m.block[0];
    const float *y = m.block[1];
    const sky_tensor first = tensor(&m, 0);
    CHECK_OK(sky_ctx_zero(&m.ctx, &first));
    CHECK_OK(add(&m));
    EXPECT(isnan(x[0]) && isnan(y[LEN - 1]));
    CHECK_OK(sky_ctx_sync(&m.ctx));
    EXPECT(x[0] == 0 && y[LEN - 1] == 0);
    const late_counts c = late_device_counts(m.ctx.device);
    EXPECT(c.outside.syncs == 1 && late_waits_sum(&c.outside) == 1 && late_waits_sum(&c.inside) == 0);
    close_machine(&m);
}

/* COMPUTE is waited for; COPY, which nothing waits for, stays behind, unless it is eager. */
TEST(a_wait_runs_no_more_than_it_must)
{
    for (int kind = LATE_LAZY; kind <= LATE_EAGER; kind++) {
        machine m;
        sky_event *event = NULL;
        CHECK(open_machine(&m, (late_kind)kind));
        const float *x = m.block[0];
        const float *y = m.block[1];
        memset(m.host, 0, BYTES);
        const sky_tensor second = tensor(&m, 1);
        CHECK_OK(m.b->event_create(m.ctx.device, &event));
        CHECK_OK(m.b->upload_begin(m.ctx.device, SKY_QUEUE_COPY, m.block[0], m.host, BYTES));
        CHECK_OK(sky_ctx_zero(&m.ctx, &second));
        CHECK_OK(m.b->event_record(m.ctx.device, event, SKY_QUEUE_COMPUTE));
        CHECK_OK(sky_ctx_zero(&m.ctx, &second));
        CHECK_OK(m.b->event_sync(m.ctx.device, event));
        test_parameters("kind %d", kind);
        EXPECT(y[0] == 0 && isnan(x[0]) == (kind == LATE_LAZY));
        m.b->event_destroy(m.ctx.device, &event);
        close_machine(&m);
    }
}

/* An eager EXCHANGE goes ahead of a COMPUTE that it does not wait for, and not of one that it waits for. */
TEST(eager_queues)
{
    for (int waits = 0; waits <= 1; waits++) {
        machine m;
        sky_event *event = NULL;
        CHECK(open_machine(&m, LATE_EAGER));
        const sky_tensor first = tensor(&m, 0);
        m.host[0] = 5;
        CHECK_OK(m.b->event_create(m.ctx.device, &event));
        CHECK_OK(sky_ctx_zero(&m.ctx, &first));
        CHECK_OK(m.b->event_record(m.ctx.device, event, SKY_QUEUE_COMPUTE));
        CHECK_OK(waits ? m.b->event_wait(m.ctx.device, SKY_QUEUE_EXCHANGE, event) : SKY_OK);
        CHECK_OK(m.b->download_begin(m.ctx.device, SKY_QUEUE_EXCHANGE, m.host, m.block[0], BYTES));
        CHECK_OK(sky_ctx_sync(&m.ctx));
        EXPECT(waits ? m.host[0] == 0 : isnan(m.host[0]));
        m.b->event_destroy(m.ctx.device, &event);
        close_machine(&m);
    }
}

TEST(memory_apart_is_out_of_the_hosts_reach)
{
    machine m;
    int status = 0;
    CHECK(open_machine(&m, LATE_APART));
    const pid_t child = fork();
    if (child == 0) {
        _exit(*(volatile const char *)m.block[0] == 0 ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    EXPECT(WIFSIGNALED(status) || WEXITSTATUS(status) > 1); /* a sanitizer makes an exit of the signal */
    const sky_tensor first = tensor(&m, 0);
    float values[LEN];
    CHECK_OK(sky_ctx_zero(&m.ctx, &first));
    CHECK_OK(add(&m));
    const sky_tensor second = tensor(&m, 1);
    CHECK_OK(sky_ctx_download(&m.ctx, values, &second));
    EXPECT(values[0] == 0 && values[LEN - 1] == 0);
    EXPECT(m.b->upload_begin(m.ctx.device, SKY_QUEUE_COPY, m.block[0], values, BYTES) == SKY_ERR_INTERNAL);
    close_machine(&m);
}

TEST(a_failure_shows_late_and_stays)
{
    machine m;
    CHECK(open_machine(&m, LATE_LAZY));
    late_fail_next_op(m.ctx.device);
    CHECK_OK(add(&m));
    CHECK_OK(add(&m));
    CHECK_STATUS(sky_ctx_sync(&m.ctx), SKY_ERR_DEVICE);
    EXPECT(strstr(sky_message(), "add, on purpose") != NULL);
    CHECK_STATUS(add(&m), SKY_ERR_DEVICE);
    CHECK_STATUS(sky_ctx_sync(&m.ctx), SKY_ERR_DEVICE);
    close_machine(&m);
}

/* ---- failures of a device in an exchange ---- */

/* A group of as many ranks as a case says, whose exchanges wait for the device and send nothing. */
static sky_status waiting_begin(sky_group *group, sky_ctx *ctx, const sky_exchange *list, int n,
                                sky_group_exchange **out)
{
    (void)group;
    (void)list;
    (void)n;
    *out = NULL;
    return ctx->backend->sync(ctx->device);
}

static sky_status waiting_end(sky_group *group, sky_ctx *ctx, sky_group_exchange *exchange)
{
    (void)group;
    (void)ctx;
    (void)exchange;
    return SKY_OK;
}

static const sky_group_functions waiting_functions = {
    .name = "waiting", .exchange_begin = waiting_begin, .exchange_end = waiting_end};

TEST(a_failure_found_in_an_exchange_ends_the_job_where_there_are_others)
{
    for (int size = 1; size <= 2; size++) {
        machine m;
        sky_group group = {.functions = &waiting_functions, .size = size};
        CHECK(open_machine(&m, LATE_LAZY));
        test_parameters("%d rank(s)", size);
        late_fail_next_op(m.ctx.device);
        CHECK_OK(add(&m));
        CHECK_STATUS(sky_group_exchange_now(&group, &m.ctx, NULL, 0), size == 1 ? SKY_ERR_DEVICE : SKY_ERR_COMM);
        EXPECT(strstr(sky_message(), "add, on purpose") != NULL);
        close_machine(&m);
    }
}

/* What was held back before is told with it; alone, the rank goes on to hold. */
TEST(a_failure_found_in_an_exchange_while_another_is_held)
{
    for (int size = 1; size <= 2; size++) {
        machine m;
        sky_held held;
        sky_group group = {.functions = &waiting_functions, .size = size};
        CHECK(open_machine(&m, LATE_LAZY));
        test_parameters("%d rank(s)", size);
        late_fail_next_op(m.ctx.device);
        CHECK_OK(add(&m));
        sky_ctx_hold(&m.ctx, &held);
        CHECK_OK(sky_ctx_keep(&m.ctx, sky_fail(SKY_ERR_IO, "a disk that is full")));
        const sky_status st = sky_group_exchange_now(&group, &m.ctx, NULL, 0);
        EXPECT(st == (size == 1 ? SKY_OK : SKY_ERR_COMM));
        EXPECT(size == 1 || (strstr(sky_message(), "a disk that is full") != NULL &&
                             strstr(sky_message(), "add, on purpose") != NULL));
        EXPECT(sky_ctx_release(&m.ctx) == SKY_ERR_IO);
        close_machine(&m);
    }
}

static sky_status refused_copy(void *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    (void)to;
    (void)from;
    return sky_fail(SKY_ERR_DEVICE, "%zu bytes: the launch was refused", bytes);
}

/* A launch that is refused leaves the device sound: held back, and the exchange takes place. */
TEST(a_refused_copy_to_oneself_is_held)
{
    machine m;
    sky_held held;
    sky_group *self = NULL;
    CHECK(open_machine(&m, LATE_LAZY));
    sky_backend refusing = *m.b;
    refusing.copy = refused_copy;
    m.ctx.backend = &refusing;
    const sky_exchange e = {
        .peer = 0, .send = m.block[0], .send_bytes = BYTES, .recv = m.block[1], .recv_bytes = BYTES};
    CHECK_OK(sky_group_self_create(&self));
    for (int i = 0; i < SKY_GROUP_MAX_EXCHANGES + 1; i++) { /* none stays under way */
        CHECK_STATUS(sky_group_exchange_now(self, &m.ctx, &e, 1), SKY_ERR_DEVICE);
    }
    sky_ctx_hold(&m.ctx, &held);
    CHECK_OK(sky_group_exchange_now(self, &m.ctx, &e, 1));
    CHECK_STATUS(sky_ctx_release(&m.ctx), SKY_ERR_DEVICE);
    m.ctx.backend = m.b;
    sky_group_destroy(&self);
    close_machine(&m);
}

/* What a rank sends to itself is copied on the device, behind what was enqueued, and nobody waits. */
TEST(an_exchange_with_oneself)
{
    for (int kind = 0; kind < LATE_NUM_KINDS; kind++) {
        machine m;
        sky_group *self = NULL;
        float values[LEN];
        CHECK(open_machine(&m, (late_kind)kind));
        const sky_tensor first = tensor(&m, 0);
        const sky_tensor second = tensor(&m, 1);
        const sky_exchange e = {
            .peer = 0, .send = m.block[0], .send_bytes = BYTES, .recv = m.block[1], .recv_bytes = BYTES};
        CHECK_OK(sky_group_self_create(&self));
        CHECK_OK(sky_ctx_zero(&m.ctx, &first));
        CHECK_OK(sky_group_exchange_now(self, &m.ctx, &e, 1));
        const late_counts c = late_device_counts(m.ctx.device);
        EXPECT(late_waits_sum(&c.outside) == 0);
        CHECK_OK(sky_ctx_download(&m.ctx, values, &second));
        EXPECT(values[0] == 0 && values[LEN - 1] == 0);
        sky_group_destroy(&self);
        close_machine(&m);
    }
}

/* ---- the group of threads ---- */

enum { NUM_RANKS = 4 };

typedef struct shared {
    late_kind kind;
    bool ok[NUM_RANKS];
    int64_t waits[NUM_RANKS];
} shared;

static bool collectives(sky_group *group)
{
    const int rank = sky_group_rank(group);
    const int size = sky_group_size(group);
    int value = rank == 1 ? 77 : 0;
    int all[NUM_RANKS] = {0};
    bool ok = sky_group_broadcast(group, 1 % size, &value, sizeof value) == SKY_OK && (size == 1 || value == 77);
    ok = sky_group_all_gather(group, &rank, sizeof rank, all) == SKY_OK && ok;
    for (int i = 0; i < size; i++) {
        ok = ok && all[i] == i;
    }
    const sky_status st = rank == size - 1 ? sky_fail(SKY_ERR_IO, "a disk") : SKY_OK;
    ok = sky_group_agree(group, st) == SKY_ERR_IO && ok;
    return sky_group_agree(group, SKY_OK) == SKY_OK && sky_group_barrier(group) == SKY_OK && ok;
}

static bool host_exchange(sky_group *group)
{
    const int rank = sky_group_rank(group);
    const int size = sky_group_size(group);
    const int next = (rank + 1) % size;
    const int before = (rank + size - 1) % size;
    int from[2] = {100 * rank, 100 * rank + 1};
    int to[2] = {-1, -1};
    const sky_exchange list[] = {{.peer = next, .send = &from[0], .send_bytes = sizeof(int)},
                                 {.peer = next, .send = &from[1], .send_bytes = sizeof(int)},
                                 {.peer = before, .recv = &to[0], .recv_bytes = sizeof(int)},
                                 {.peer = before, .recv = &to[1], .recv_bytes = sizeof(int)}};
    return sky_group_exchange_now(group, NULL, list, 4) == SKY_OK && to[0] == 100 * before && to[1] == 100 * before + 1;
}

/* A number goes round the ring, and one is added at each rank. */
static bool round_the_ring(sky_group *group, machine *m)
{
    const int rank = sky_group_rank(group);
    const int size = sky_group_size(group);
    float values[LEN];
    const sky_tensor now = tensor(m, 0);
    const sky_tensor next = tensor(m, 1);
    for (int i = 0; i < LEN; i++) {
        values[i] = (float)(rank + 1);
    }
    bool ok = sky_ctx_upload(&m->ctx, &now, values) == SKY_OK;
    const late_counts before = late_device_counts(m->ctx.device);
    for (int step = 0; step < size; step++) {
        sky_group_exchange *exchange = NULL;
        const sky_exchange list[] = {
            {.peer = (rank + 1) % size, .send = now.data, .send_bytes = BYTES},
            {.peer = (rank + size - 1) % size, .recv = next.data, .recv_bytes = BYTES},
        };
        ok = sky_group_exchange_begin(group, &m->ctx, list, 2, &exchange) == SKY_OK && ok;
        ok = sky_group_exchange_end(group, &m->ctx, &exchange) == SKY_OK && ok;
        ok = sky_add(&m->ctx, &(sky_add_args){.y = now, .a = next, .b = next}) == SKY_OK && ok;
    }
    const late_counts after = late_device_counts(m->ctx.device);
    ok = late_waits_sum(&after.outside) == late_waits_sum(&before.outside) && ok;
    ok = sky_ctx_download(&m->ctx, values, &now) == SKY_OK && ok;
    return ok && values[LEN - 1] == (float)(rank + 1) * (float)(1 << size);
}

static void try_group(sky_group *group, void *arg)
{
    shared *s = arg;
    const int rank = sky_group_rank(group);
    machine m;
    sky_group *half = NULL;
    bool ok = open_machine(&m, s->kind) && collectives(group) && host_exchange(group) && round_the_ring(group, &m);
    ok = sky_group_split(group, rank % 2, -rank, &half) == SKY_OK && ok;
    ok = ok && sky_group_size(half) == 2 && sky_group_rank(half) == 1 - rank / 2 && collectives(half) &&
         host_exchange(half) && round_the_ring(half, &m);
    sky_group_destroy(&half);
    ok = sky_group_split(group, rank == 0 ? -1 : 0, 0, &half) == SKY_OK && (half == NULL) == (rank == 0) && ok;
    sky_group_destroy(&half);
    sky_group_forget_device(group);
    close_machine(&m);
    s->ok[rank] = ok;
}

TEST(a_group_of_threads)
{
    alarm(LONGEST_SECONDS);
    for (int kind = 0; kind < LATE_NUM_KINDS; kind++) {
        shared s = {.kind = (late_kind)kind};
        thread_group_run(NUM_RANKS, try_group, &s);
        for (int rank = 0; rank < NUM_RANKS; rank++) {
            test_parameters("kind %d, rank %d", kind, rank);
            EXPECT(s.ok[rank]);
        }
    }
}

TEST_MAIN
