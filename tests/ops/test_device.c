/*
 * What ops/backend.h says of memory, copies, queues and events, on every backend of the build and on the late devices, which
 * show that the cases themselves wait where they must (support/late.h).
 */
#include "ops/rig.h"
#include "support/late.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEN = 1000, BYTES = LEN * sizeof(float) };

typedef struct machine {
    const sky_backend *b;
    void *device;
    sky_event *events[3];
    float *host[2];
    void *block[3];
} machine;

static int num_machines(void)
{
    return test_num_backends() + LATE_NUM_KINDS;
}

/* With memory for LEN floats each. */
static bool open_machine(machine *m, int index)
{
    const bool late = index >= test_num_backends();
    const sky_device_options two = {.num_threads = 2};
    const sky_device_options *options = late ? &two : &test_backend_at(index)->options;
    *m = (machine){.b = late ? late_backend((late_kind)(index - test_num_backends()))
                             : sky_backend_find(test_backend_at(index)->backend)};
    test_parameters("%s", m->b->name);
    bool ok = sky_device_open(m->b, options, &m->device) == SKY_OK;
    for (int i = 0; i < 3; i++) {
        ok = ok && m->b->alloc(m->device, BYTES, &m->block[i]) == SKY_OK &&
             m->b->event_create(m->device, &m->events[i]) == SKY_OK;
    }
    for (int i = 0; i < 2; i++) {
        void *host = NULL;
        ok = ok && m->b->host_alloc(m->device, BYTES, &host) == SKY_OK;
        m->host[i] = host;
    }
    if (!ok) {
        test_fail(__FILE__, __LINE__, "no device: %s", sky_message());
    }
    return ok;
}

static void close_machine(machine *m)
{
    EXPECT(m->b->sync(m->device) == SKY_OK);
    for (int i = 0; i < 3; i++) {
        m->b->event_destroy(m->device, &m->events[i]);
        EXPECT(m->events[i] == NULL);
        m->b->event_destroy(m->device, &m->events[i]);
        m->b->free(m->device, m->block[i]);
    }
    for (int i = 0; i < 2; i++) {
        m->b->host_free(m->device, m->host[i]);
    }
    m->b->host_free(m->device, NULL);
    sky_device_close(m->b, &m->device);
}

static void fill(float *values, float first)
{
    for (int i = 0; i < LEN; i++) {
        values[i] = first + (float)i;
    }
}

static bool holds(const float *values, float first)
{
    for (int i = 0; i < LEN; i++) {
        if (values[i] != first + (float)i) {
            test_fail(__FILE__, __LINE__, "element %d: want %g, got %g", i, (double)first + i, (double)values[i]);
            return false;
        }
    }
    return true;
}

static bool device_holds(machine *m, int block, float first)
{
    float values[LEN] = {0};
    return m->b->download(m->device, values, m->block[block], BYTES) == SKY_OK && holds(values, first);
}

static void *at(void *block, size_t bytes)
{
    return (unsigned char *)block + bytes;
}

TEST(memory)
{
    for (int i = 0; i < num_machines(); i++) {
        machine m;
        uint64_t left = 0;
        uint64_t total = 0;
        void *empty = NULL;
        CHECK(open_machine(&m, i));
        EXPECT(m.b->memory(m.device, &left, &total) == SKY_OK && left > 0 && left <= total);
        for (int k = 0; k < 3; k++) {
            EXPECT((uintptr_t)m.block[k] % SKY_ARENA_ALIGNMENT_BYTES == 0);
        }
        EXPECT((uintptr_t)m.host[0] % SKY_ARENA_ALIGNMENT_BYTES == 0 && m.host[0] != m.host[1]);
        EXPECT(m.b->alloc(m.device, 0, &empty) == SKY_OK && empty != NULL);
        m.b->free(m.device, empty);
        void *untouched = &m;
        EXPECT(m.b->alloc(m.device, SIZE_MAX - 1000, &untouched) == SKY_ERR_NOMEM && untouched == &m);
        EXPECT(m.b->device_name(m.device)[0] != '\0');
        close_machine(&m);
    }
}

TEST(copies_that_are_waited_for)
{
    for (int i = 0; i < num_machines(); i++) {
        machine m;
        float values[LEN];
        CHECK(open_machine(&m, i));
        fill(values, 1);
        EXPECT(m.b->upload(m.device, m.block[0], values, BYTES) == SKY_OK);
        fill(values, 500); /* the host side was ready on return */
        EXPECT(m.b->copy(m.device, m.block[1], m.block[0], BYTES) == SKY_OK);
        EXPECT(m.b->zero(m.device, m.block[0], BYTES) == SKY_OK);
        EXPECT(m.b->upload(m.device, at(m.block[0], 4), values, 0) == SKY_OK);
        EXPECT(m.b->copy(m.device, m.block[2], m.block[1], 0) == SKY_OK);
        EXPECT(m.b->zero(m.device, m.block[1], 0) == SKY_OK);
        EXPECT(device_holds(&m, 1, 1));
        EXPECT(m.b->download(m.device, values, m.block[0], BYTES) == SKY_OK && values[0] == 0 && values[LEN - 1] == 0);
        EXPECT(m.b->download(m.device, values, m.block[0], 0) == SKY_OK);
        close_machine(&m);
    }
}

/* Up on COPY, through COMPUTE, down on EXCHANGE: each waits for the one before by an event. */
TEST(events_order_queues)
{
    for (int i = 0; i < num_machines(); i++) {
        machine m;
        double seconds = -1;
        CHECK(open_machine(&m, i));
        for (int round = 0; round < 3; round++) {
            fill(m.host[0], (float)(10000 * round));
            EXPECT(m.b->upload_begin(m.device, SKY_QUEUE_COPY, m.block[0], m.host[0], BYTES) == SKY_OK);
            EXPECT(m.b->event_record(m.device, m.events[0], SKY_QUEUE_COPY) == SKY_OK);
            EXPECT(m.b->event_wait(m.device, SKY_QUEUE_COMPUTE, m.events[0]) == SKY_OK);
            EXPECT(m.b->copy(m.device, m.block[1], m.block[0], BYTES) == SKY_OK);
            EXPECT(m.b->event_record(m.device, m.events[1], SKY_QUEUE_COMPUTE) == SKY_OK);
            EXPECT(m.b->event_wait(m.device, SKY_QUEUE_EXCHANGE, m.events[1]) == SKY_OK);
            EXPECT(m.b->download_begin(m.device, SKY_QUEUE_EXCHANGE, m.host[1], m.block[1], BYTES) == SKY_OK);
            EXPECT(m.b->event_record(m.device, m.events[2], SKY_QUEUE_EXCHANGE) == SKY_OK);
            EXPECT(m.b->event_sync(m.device, m.events[2]) == SKY_OK);
            EXPECT(holds(m.host[1], (float)(10000 * round)));
            EXPECT(m.b->event_elapsed(m.device, m.events[0], m.events[2], &seconds) == SKY_OK && seconds >= 0 &&
                   seconds < 60);
        }
        close_machine(&m);
    }
}

/* A later record moves the mark, and not that of a wait which is enqueued. */
TEST(marks)
{
    for (int i = 0; i < num_machines(); i++) {
        machine m;
        CHECK(open_machine(&m, i));
        EXPECT(m.b->event_sync(m.device, m.events[0]) == SKY_OK); /* never recorded: done */
        EXPECT(m.b->event_wait(m.device, SKY_QUEUE_COMPUTE, m.events[0]) == SKY_OK);
        fill(m.host[0], 1);
        EXPECT(m.b->upload_begin(m.device, SKY_QUEUE_COPY, m.block[0], m.host[0], BYTES) == SKY_OK);
        EXPECT(m.b->event_record(m.device, m.events[0], SKY_QUEUE_COPY) == SKY_OK);
        EXPECT(m.b->event_wait(m.device, SKY_QUEUE_COMPUTE, m.events[0]) == SKY_OK);
        EXPECT(m.b->event_record(m.device, m.events[0], SKY_QUEUE_COMPUTE) == SKY_OK);
        m.b->event_destroy(m.device, &m.events[0]); /* the wait goes on */
        EXPECT(m.b->copy(m.device, m.block[1], m.block[0], BYTES) == SKY_OK);
        EXPECT(device_holds(&m, 1, 1));
        close_machine(&m);
    }
}

TEST(parts_of_pinned_memory)
{
    for (int i = 0; i < num_machines(); i++) {
        machine m;
        CHECK(open_machine(&m, i));
        fill(m.host[0], 1);
        for (size_t first = 0; first < BYTES; first += 7 * sizeof(float)) { /* at any offset */
            const size_t bytes = BYTES - first < 7 * sizeof(float) ? BYTES - first : 7 * sizeof(float);
            EXPECT(m.b->upload_begin(m.device, SKY_QUEUE_EXCHANGE, at(m.block[2], first), at(m.host[0], first),
                                     bytes) == SKY_OK);
            EXPECT(m.b->download_begin(m.device, SKY_QUEUE_EXCHANGE, at(m.host[1], first), at(m.block[2], first),
                                       bytes) == SKY_OK);
        }
        EXPECT(m.b->upload_begin(m.device, SKY_QUEUE_COMPUTE, m.block[2], m.host[0], 0) == SKY_OK);
        EXPECT(m.b->download_begin(m.device, SKY_QUEUE_COPY, m.host[0], m.block[2], 0) == SKY_OK);
        EXPECT(m.b->sync(m.device) == SKY_OK);
        EXPECT(holds(m.host[1], 1));
        close_machine(&m);
    }
}

TEST_MAIN
