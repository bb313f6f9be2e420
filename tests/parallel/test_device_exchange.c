/* Exchanges of device memory over MPI, on late devices: several under way, of any length, and devices that come and go. */
#include "mpi_main.h"
#include "ops/ops.h"
#include "support/late.h"
#include "support/test.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 3000, BYTES = MOST * sizeof(float), NUM_STEPS = 6 };

typedef struct machine {
    const sky_backend *b;
    sky_ctx ctx;
    void *block;
    sky_tensor mine, theirs[2];
} machine;

static bool open_machine(machine *m, const sky_backend *backend)
{
    *m = (machine){.b = backend, .ctx.backend = backend};
    if (sky_device_open(backend, &(sky_device_options){.num_threads = 1}, &m->ctx.device) != SKY_OK ||
        backend->alloc(m->ctx.device, 3 * BYTES, &m->block) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s: %s", backend->name, sky_message());
        return false;
    }
    unsigned char *at = m->block;
    m->mine = SKY_TENSOR(at, SKY_F32, MOST);
    m->theirs[0] = SKY_TENSOR(at + BYTES, SKY_F32, MOST);
    m->theirs[1] = SKY_TENSOR(at + 2 * (size_t)BYTES, SKY_F32, MOST);
    return true;
}

static void close_machine(machine *m)
{
    m->b->free(m->ctx.device, m->block);
    sky_device_close(m->b, &m->ctx.device);
}

static float first_value(int rank, int i)
{
    return (float)(rank + 1) * (float)(i % 7 + 1);
}

/*
 * In each step the first `len` values go to both neighbours in an exchange of its own, and mine becomes the sum of theirs; what
 * is computed on the host in the same way must be the same.
 */
static void run_steps(machine *m, sky_group *group)
{
    static float value[8][MOST];
    static float sum[8][MOST];
    static float got[MOST];
    const int rank = sky_group_rank(group);
    const int size = sky_group_size(group);
    SKY_ASSERT(size <= 8);
    for (int r = 0; r < size; r++) {
        for (int i = 0; i < MOST; i++) {
            value[r][i] = first_value(r, i);
        }
    }
    EXPECT(sky_ctx_upload(&m->ctx, &m->mine, value[rank]) == SKY_OK);
    for (int step = 0; step < NUM_STEPS; step++) {
        const int len = step % 2 == 0 ? 10 * (step + 1) : MOST - step; /* memory for them grows, and is used again */
        const size_t bytes = (size_t)len * sizeof(float);
        sky_group_exchange *under_way[2] = {NULL, NULL};
        for (int way = 0; way < 2; way++) {
            const int to = (rank + (way == 0 ? 1 : size - 1)) % size;
            const int from = (rank + (way == 0 ? size - 1 : 1)) % size;
            const sky_exchange list[] = {{.peer = to, .send = m->mine.data, .send_bytes = bytes},
                                         {.peer = from, .recv = m->theirs[way].data, .recv_bytes = bytes}};
            EXPECT(sky_group_exchange_begin(group, &m->ctx, list, 2, &under_way[way]) == SKY_OK);
        }
        EXPECT(sky_group_exchange_end(group, &m->ctx, &under_way[1]) == SKY_OK); /* in another order */
        EXPECT(sky_group_exchange_end(group, &m->ctx, &under_way[0]) == SKY_OK);
        const sky_tensor y = SKY_TENSOR(m->mine.data, SKY_F32, len);
        EXPECT(sky_add(&m->ctx, &(sky_add_args){.y = y,
                                                .a = SKY_TENSOR(m->theirs[0].data, SKY_F32, len),
                                                .b = SKY_TENSOR(m->theirs[1].data, SKY_F32, len)}) == SKY_OK);
        for (int r = 0; r < size; r++) {
            for (int i = 0; i < len; i++) {
                sum[r][i] = value[(r + size - 1) % size][i] + value[(r + 1) % size][i];
            }
        }
        for (int r = 0; r < size; r++) {
            memcpy(value[r], sum[r], bytes);
        }
    }
    EXPECT(sky_ctx_download(&m->ctx, got, &m->mine) == SKY_OK);
    EXPECT(memcmp(got, value[rank], sizeof got) == 0);
}

TEST(several_at_a_time)
{
    sky_group *world = mpi_test_world();
    for (int kind = -1; kind < LATE_NUM_KINDS; kind++) {
        machine m;
        const sky_backend *backend = kind < 0 ? sky_backend_find("cpu") : late_backend((late_kind)kind);
        test_parameters("%s", backend->name);
        CHECK(open_machine(&m, backend));
        run_steps(&m, world);
        run_steps(&m, mpi_test_world_in_pieces());
        sky_group_forget_device(world);
        sky_group_forget_device(mpi_test_world_in_pieces());
        close_machine(&m);
    }
}

/* What is still on its way from pinned memory when that is given back is waited for. */
TEST(a_device_is_forgotten_behind_an_exchange)
{
    sky_group *world = mpi_test_world();
    const int rank = sky_group_rank(world);
    const int size = sky_group_size(world);
    for (int kind = 0; kind < LATE_NUM_KINDS; kind++) {
        machine m;
        float *got = calloc(MOST, sizeof *got);
        SKY_ASSERT(got != NULL);
        test_parameters("%s", late_backend((late_kind)kind)->name);
        CHECK(open_machine(&m, late_backend((late_kind)kind)));
        EXPECT(sky_ctx_zero(&m.ctx, &m.mine) == SKY_OK);
        const sky_exchange list[] = {{.peer = (rank + 1) % size, .send = m.mine.data, .send_bytes = BYTES},
                                     {.peer = (rank + size - 1) % size, .recv = m.theirs[0].data, .recv_bytes = BYTES}};
        EXPECT(sky_group_exchange_now(world, &m.ctx, list, 2) == SKY_OK);
        sky_group_forget_device(world);
        EXPECT(sky_ctx_download(&m.ctx, got, &m.theirs[0]) == SKY_OK);
        EXPECT(got[0] == 0 && got[MOST - 1] == 0);
        close_machine(&m);
        free(got);
    }
}

/* Every rank finds the mistake before anything is sent. */
TEST(another_device_is_refused_while_one_is_kept)
{
    sky_group *world = mpi_test_world();
    machine first;
    machine second;
    CHECK(open_machine(&first, late_backend(LATE_APART)));
    CHECK(open_machine(&second, late_backend(LATE_APART)));
    CHECK_OK(sky_group_exchange_now(world, &first.ctx, NULL, 0));
    CHECK_STATUS(sky_group_exchange_now(world, &second.ctx, NULL, 0), SKY_ERR_INTERNAL);
    sky_group_forget_device(world);
    CHECK_OK(sky_group_exchange_now(world, &second.ctx, NULL, 0));
    sky_group_forget_device(world);
    close_machine(&first);
    close_machine(&second);
}
