#include "support/late.h"

#include "base/clock.h"
#include "support/late_table.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { POISON = 0xff };                             /* NaN in every floating-point type here */
static const size_t region_bytes = (size_t)1 << 34; /* memory only where it is used */

typedef enum item_kind { RUN, WAIT } item_kind;

/* Position in a queue: so many items are before it. */
typedef struct place {
    sky_queue queue;
    int64_t position;
} place;

typedef struct item {
    item_kind kind;
    place wait; /* WAIT */
    late_function run;
    void *arg; /* owned */
    struct item *next;
} item;

typedef struct queue {
    item *first, *last;
    int64_t num_enqueued, num_done;
} queue;

typedef struct pinned {
    unsigned char *block;
    size_t bytes;
    struct pinned *next;
} pinned;

typedef struct apart_block {
    void *address;
    size_t bytes;
    struct apart_block *next;
} apart_block;

struct sky_event {
    place mark; /* position 0: done, or never recorded */
    int64_t recorded_ns;
};

typedef struct late_device {
    const sky_backend *inner;
    void *inner_device;
    bool eager, apart;
    pthread_mutex_t mutex; /* recursive */
    queue queues[SKY_NUM_QUEUES];
    bool in_run_ready;
    late_counts counts;
    pinned *pinned;
    unsigned char *region; /* apart: addresses of device memory */
    size_t region_used;
    apart_block *blocks;
    bool fail_next_op;
    bool failed;
    char message[512];
} late_device;

static _Thread_local int exchange_depth;

void late_exchange_begin(void)
{
    exchange_depth++;
}

void late_exchange_end(void)
{
    exchange_depth--;
}

static late_device *lock(void *device)
{
    late_device *d = device;
    pthread_mutex_lock(&d->mutex);
    return d;
}

static sky_status unlock(late_device *d, sky_status st)
{
    pthread_mutex_unlock(&d->mutex);
    return st;
}

static late_waits *waits_of(late_device *d)
{
    return exchange_depth > 0 ? &d->counts.inside : &d->counts.outside;
}

late_counts late_device_counts(const void *device)
{
    late_device *d = lock((void *)device);
    const late_counts counts = d->counts;
    unlock(d, SKY_OK);
    return counts;
}

int64_t late_device_pending(const void *device)
{
    late_device *d = lock((void *)device);
    int64_t num = 0;
    for (int q = 0; q < SKY_NUM_QUEUES; q++) {
        num += d->queues[q].num_enqueued - d->queues[q].num_done;
    }
    unlock(d, SKY_OK);
    return num;
}

int64_t late_waits_sum(const late_waits *w)
{
    return w->syncs + w->events + w->copies + w->frees;
}

/* ---- running ---- */

/*
 * Memory apart has its addresses in a region that nobody can touch; what they stand for lies region_bytes further on, and is
 * reached by what runs only.
 */
static void *reach(const late_device *d, const void *address)
{
    const uintptr_t at = (uintptr_t)address;
    const uintptr_t first = (uintptr_t)d->region;
    return (void *)(d->apart && at >= first && at < first + region_bytes ? at + region_bytes : at);
}

/* The same for every address in an op's arguments: no other value there is one of the region's, or nearly never. */
static void reach_all(const late_device *d, void *arg, size_t bytes)
{
    for (size_t at = 0; d->apart && at + sizeof(void *) <= bytes; at += sizeof(void *)) {
        void *value;
        memcpy(&value, (unsigned char *)arg + at, sizeof value);
        value = reach(d, value);
        memcpy((unsigned char *)arg + at, &value, sizeof value);
    }
}

void *late_reach(const void *device, const void *address)
{
    return reach(device, address);
}

static sky_status failure(const late_device *d)
{
    return d->failed ? sky_fail(SKY_ERR_DEVICE, "%s", d->message) : SKY_OK;
}

static void advance(late_device *d, place to);

static bool is_done(const late_device *d, place p)
{
    return d->queues[p.queue].num_done >= p.position;
}

/* Takes the first item off, and runs it unless the device has failed. */
static void step(late_device *d, queue *q)
{
    item *i = q->first;
    q->first = i->next;
    q->last = q->first != NULL ? q->last : NULL;
    if (i->kind == RUN && !d->failed && i->run(i->arg) != SKY_OK) {
        d->failed = true;
        snprintf(d->message, sizeof d->message, "what was enqueued has failed: %s", sky_message());
    }
    q->num_done++;
    free(i->arg);
    free(i);
}

/* Of an eager device: what waits for nothing any more, of the queues beside COMPUTE. */
static void run_ready(late_device *d)
{
    if (!d->eager || d->in_run_ready) {
        return;
    }
    d->in_run_ready = true;
    for (bool moved = true; moved;) {
        moved = false;
        for (int q = SKY_QUEUE_COPY; q < SKY_NUM_QUEUES; q++) {
            const item *first = d->queues[q].first;
            if (first != NULL && (first->kind == RUN || is_done(d, first->wait))) {
                step(d, &d->queues[q]);
                moved = true;
            }
        }
    }
    d->in_run_ready = false;
}

/* Runs a queue up to a place, and of others what it waits for. */
static void advance(late_device *d, place to)
{
    queue *q = &d->queues[to.queue];
    while (q->num_done < to.position) {
        if (q->first->kind == WAIT && !is_done(d, q->first->wait)) {
            advance(d, q->first->wait); /* an eager queue may move meanwhile */
        } else {
            step(d, q);
            run_ready(d);
        }
    }
}

static place end_of(const late_device *d, sky_queue q)
{
    return (place){.queue = q, .position = d->queues[q].num_enqueued};
}

static void drain(late_device *d)
{
    for (int q = 0; q < SKY_NUM_QUEUES; q++) {
        advance(d, end_of(d, (sky_queue)q));
    }
}

static void enqueue_item(late_device *d, sky_queue where, const item *i)
{
    queue *q = &d->queues[where];
    item *copy = malloc(sizeof *copy);
    SKY_ASSERT(copy != NULL);
    *copy = *i;
    if (q->last != NULL) {
        q->last->next = copy;
    } else {
        q->first = copy;
    }
    q->last = copy;
    q->num_enqueued++;
    run_ready(d);
}

static void enqueue(late_device *d, sky_queue where, late_function run, const void *arg, size_t bytes)
{
    void *copy = malloc(bytes);
    SKY_ASSERT(copy != NULL);
    memcpy(copy, arg, bytes);
    reach_all(d, copy, bytes);
    enqueue_item(d, where, &(item){.kind = RUN, .run = run, .arg = copy});
}

sky_status late_enqueue(void *device, sky_queue where, late_function run, const void *arg, size_t bytes)
{
    late_device *d = lock(device);
    const sky_status st = failure(d);
    if (st == SKY_OK) {
        enqueue(d, where, run, arg, bytes);
    }
    return unlock(d, st);
}

void late_progress(void *device)
{
    late_device *d = lock(device);
    drain(d);
    unlock(d, SKY_OK);
}

void late_fail_next_op(void *device)
{
    ((late_device *)device)->fail_next_op = true;
}

/* ---- ops ---- */

sky_status late_op(sky_ctx *ctx, late_function run, void *arg, size_t bytes)
{
    late_device *d = lock(ctx->device);
    sky_status st = failure(d);
    late_call *call = arg;
    call->inner = (sky_ctx){.backend = d->inner, .device = d->inner_device, .log = ctx->log};
    call->fails = d->fail_next_op;
    d->fail_next_op = false;
    if (st == SKY_OK) {
        enqueue(d, SKY_QUEUE_COMPUTE, run, arg, bytes);
    }
    return unlock(d, st);
}

sky_ctx late_inner(const sky_ctx *ctx)
{
    const late_device *d = ctx->device;
    sky_ctx inner = *ctx;
    inner.backend = d->inner;
    inner.device = d->inner_device;
    return inner;
}

/* ---- memory and copies ---- */

typedef struct move {
    void *to;
    const void *from; /* NULL: zeros */
    size_t bytes;
} move;

static sky_status run_move(void *arg)
{
    const move *m = arg;
    if (m->bytes > 0 && m->from != NULL) {
        memcpy(m->to, m->from, m->bytes);
    } else if (m->bytes > 0) {
        memset(m->to, 0, m->bytes);
    }
    return SKY_OK;
}

static sky_status late_memory(void *device, uint64_t *free_bytes, uint64_t *total_bytes)
{
    const late_device *d = device;
    return d->inner->memory(d->inner_device, free_bytes, total_bytes);
}

static sky_status late_alloc(void *device, size_t bytes, void **out)
{
    late_device *d = lock(device);
    sky_status st = failure(d);
    unsigned char *block = NULL;
    if (st == SKY_OK && d->apart) {
        const size_t page = 4096;
        const size_t rounded = (bytes + page) / page * page; /* blocks never touch */
        if (bytes > region_bytes - d->region_used - page) {
            st = sky_fail(SKY_ERR_NOMEM, "%zu bytes of a late device's memory", bytes);
        } else {
            apart_block *b = malloc(sizeof *b);
            SKY_ASSERT(b != NULL);
            block = d->region + d->region_used;
            d->region_used += rounded;
            *b = (apart_block){.address = block, .bytes = rounded, .next = d->blocks};
            d->blocks = b;
        }
    } else if (st == SKY_OK) {
        void *memory = NULL;
        st = d->inner->alloc(d->inner_device, bytes, &memory);
        block = memory;
    }
    if (st == SKY_OK) {
        memset(reach(d, block), POISON, bytes);
        *out = block;
    }
    return unlock(d, st);
}

/* Addresses of memory apart are not given out again; its pages are dropped, and so hold no number that was there. */
static void give_back(late_device *d, void *block)
{
    for (apart_block **at = &d->blocks; *at != NULL; at = &(*at)->next) {
        if ((*at)->address == block) {
            apart_block *found = *at;
            SKY_ASSERT(munmap(reach(d, block), found->bytes) == 0); /* whoever touches it now dies */
            *at = found->next;
            free(found);
            return;
        }
    }
    SKY_ASSERT(!"memory of this device");
}

static void late_free(void *device, void *block)
{
    late_device *d = lock(device);
    waits_of(d)->frees++;
    drain(d);
    if (!d->apart) {
        d->inner->free(d->inner_device, block);
    } else if (block != NULL) {
        give_back(d, block);
    }
    unlock(d, SKY_OK);
}

static sky_status late_host_alloc(void *device, size_t bytes, void **out)
{
    late_device *d = lock(device);
    void *block = NULL;
    pinned *p = malloc(sizeof *p);
    SKY_ASSERT(p != NULL);
    const sky_status st = d->inner->host_alloc(d->inner_device, bytes, &block);
    if (st != SKY_OK) {
        free(p);
        return unlock(d, st);
    }
    memset(block, POISON, bytes);
    *p = (pinned){.block = block, .bytes = bytes, .next = d->pinned};
    d->pinned = p;
    *out = block;
    return unlock(d, SKY_OK);
}

/* A copy to or from [block, block + bytes) has not run. */
static bool is_wanted(const late_device *d, const unsigned char *block, size_t bytes)
{
    for (int q = 0; q < SKY_NUM_QUEUES; q++) {
        for (const item *i = d->queues[q].first; i != NULL; i = i->next) {
            if (i->kind == RUN && i->run == run_move) {
                const move *m = i->arg;
                const unsigned char *to = m->to;
                const unsigned char *from = m->from;
                if ((to >= block && to < block + bytes) || (from >= block && from < block + bytes)) {
                    return true;
                }
            }
        }
    }
    return false;
}

static void late_host_free(void *device, void *block)
{
    late_device *d = lock(device);
    for (pinned **p = &d->pinned; block != NULL && *p != NULL; p = &(*p)->next) {
        if ((*p)->block == block) {
            pinned *found = *p;
            SKY_ASSERT(d->failed ||
                       !is_wanted(d, found->block, found->bytes)); /* pinned memory goes, a copy of it comes */
            *p = found->next;
            free(found);
            break;
        }
    }
    d->inner->host_free(d->inner_device, block);
    unlock(d, SKY_OK);
}

/* Copies that are not waited for need memory of host_alloc. */
static sky_status check_pinned(const late_device *d, const void *host, size_t bytes)
{
    const unsigned char *at = host;
    for (const pinned *p = d->pinned; p != NULL; p = p->next) {
        if (at >= p->block && at + bytes <= p->block + p->bytes) {
            return SKY_OK;
        }
    }
    return bytes == 0 ? SKY_OK
                      : sky_fail(SKY_ERR_INTERNAL, "a copy of %zu bytes to or from memory of no host_alloc", bytes);
}

static sky_status copy_and_wait(void *device, void *to, const void *from, size_t bytes)
{
    late_device *d = lock(device);
    waits_of(d)->copies++;
    if (!d->failed) {
        enqueue(d, SKY_QUEUE_COMPUTE, run_move, &(move){.to = to, .from = from, .bytes = bytes}, sizeof(move));
        advance(d, end_of(d, SKY_QUEUE_COMPUTE));
    }
    return unlock(d, failure(d));
}

static sky_status late_upload(void *device, void *to, const void *host, size_t bytes)
{
    return copy_and_wait(device, to, bytes > 0 ? host : to, bytes);
}

static sky_status late_download(void *device, void *host, const void *from, size_t bytes)
{
    return copy_and_wait(device, host, bytes > 0 ? from : host, bytes);
}

static sky_status late_upload_begin(void *device, sky_queue where, void *to, const void *host, size_t bytes)
{
    late_device *d = lock(device);
    sky_status st = failure(d);
    if (st == SKY_OK) {
        st = check_pinned(d, host, bytes);
    }
    if (st == SKY_OK) {
        enqueue(d, where, run_move, &(move){.to = to, .from = host, .bytes = bytes}, sizeof(move));
    }
    return unlock(d, st);
}

static sky_status late_download_begin(void *device, sky_queue where, void *host, const void *from, size_t bytes)
{
    late_device *d = lock(device);
    sky_status st = failure(d);
    if (st == SKY_OK) {
        st = check_pinned(d, host, bytes);
    }
    if (st == SKY_OK) {
        enqueue(d, where, run_move, &(move){.to = host, .from = from, .bytes = bytes}, sizeof(move));
    }
    return unlock(d, st);
}

static sky_status late_copy(void *device, void *to, const void *from, size_t bytes)
{
    return late_enqueue(device, SKY_QUEUE_COMPUTE, run_move, &(move){.to = to, .from = from, .bytes = bytes},
                        sizeof(move));
}

static sky_status late_zero(void *device, void *to, size_t bytes)
{
    return late_enqueue(device, SKY_QUEUE_COMPUTE, run_move, &(move){.to = to, .bytes = bytes}, sizeof(move));
}

static sky_status late_sync(void *device)
{
    late_device *d = lock(device);
    waits_of(d)->syncs++;
    drain(d);
    return unlock(d, failure(d));
}

/* ---- events ---- */

static sky_status late_event_create(void *device, sky_event **out)
{
    (void)device;
    sky_event *event = calloc(1, sizeof *event);
    SKY_ASSERT(event != NULL);
    *out = event;
    return SKY_OK;
}

static void late_event_destroy(void *device, sky_event **event)
{
    (void)device;
    free(*event);
    *event = NULL;
}

static sky_status late_event_record(void *device, sky_event *event, sky_queue where)
{
    late_device *d = lock(device);
    event->mark = end_of(d, where);
    event->recorded_ns = sky_clock_ns();
    return unlock(d, failure(d));
}

static sky_status late_event_wait(void *device, sky_queue where, sky_event *event)
{
    late_device *d = lock(device);
    if (event->mark.queue != where && !is_done(d, event->mark)) {
        enqueue_item(d, where, &(item){.kind = WAIT, .wait = event->mark});
    }
    return unlock(d, failure(d));
}

static sky_status late_event_sync(void *device, sky_event *event)
{
    late_device *d = lock(device);
    waits_of(d)->events++;
    advance(d, event->mark);
    return unlock(d, failure(d));
}

static sky_status late_event_elapsed(void *device, const sky_event *from, const sky_event *to, double *seconds)
{
    (void)device;
    *seconds = 1e-9 * (double)(to->recorded_ns - from->recorded_ns);
    return SKY_OK;
}

static void *late_native_queue(void *device, sky_queue where)
{
    (void)device;
    (void)where;
    return NULL;
}

/* ---- devices ---- */

static sky_status open_kind(late_kind kind, const sky_device_options *options, void **device)
{
    late_device *d = calloc(1, sizeof *d);
    pthread_mutexattr_t recursive;
    SKY_ASSERT(d != NULL);
    *d = (late_device){.inner = sky_backend_find("cpu"),
                       .eager = kind == LATE_EAGER || kind == LATE_APART_EAGER,
                       .apart = kind == LATE_APART || kind == LATE_APART_EAGER};
    const sky_status st = sky_device_open(d->inner, options, &d->inner_device);
    if (st != SKY_OK) {
        free(d);
        return st;
    }
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&d->mutex, &recursive);
    pthread_mutexattr_destroy(&recursive);
    if (d->apart) {
        d->region = mmap(NULL, 2 * region_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        SKY_ASSERT(d->region != MAP_FAILED);
        SKY_ASSERT(mprotect(d->region + region_bytes, region_bytes, PROT_READ | PROT_WRITE) == 0);
    }
    *device = d;
    return SKY_OK;
}

static void late_close(void **device)
{
    late_device *d = *device;
    drain(d);
    SKY_ASSERT(d->pinned == NULL && d->blocks == NULL); /* all of it was given back */
    if (d->apart) {
        munmap(d->region, 2 * region_bytes);
    }
    pthread_mutex_destroy(&d->mutex);
    sky_device_close(d->inner, &d->inner_device);
    free(d);
    *device = NULL;
}

static const char *late_device_name(const void *device)
{
    const late_device *d = device;
    return d->inner->device_name(d->inner_device);
}

#define OPEN(kind)                                                                  \
    static sky_status open_##kind(const sky_device_options *options, void **device) \
    {                                                                               \
        return open_kind(kind, options, device);                                    \
    }
OPEN(LATE_LAZY)
OPEN(LATE_EAGER)
OPEN(LATE_APART)
OPEN(LATE_APART_EAGER)
#undef OPEN

#define TABLE(text, kind, of_host)                                                                                    \
    {                                                                                                                 \
        .name = text, .host_memory = of_host, .open = open_##kind, .close = late_close,                               \
        .device_name = late_device_name, .memory = late_memory, .alloc = late_alloc, .free = late_free,               \
        .host_alloc = late_host_alloc, .host_free = late_host_free, .upload = late_upload, .download = late_download, \
        .upload_begin = late_upload_begin, .download_begin = late_download_begin, .copy = late_copy,                  \
        .zero = late_zero, .sync = late_sync, .event_create = late_event_create, .event_destroy = late_event_destroy, \
        .event_record = late_event_record, .event_wait = late_event_wait, .event_sync = late_event_sync,              \
        .event_elapsed = late_event_elapsed, .native_queue = late_native_queue, SKY_OPS(LATE_ENTRY)                   \
    }

const sky_backend *late_backend(late_kind kind)
{
#define LATE_ENTRY(op) .op = late_##op, .op##_plan = late_plan_##op,
    static const sky_backend tables[LATE_NUM_KINDS] = {
        [LATE_LAZY] = TABLE("late", LATE_LAZY, true),
        [LATE_EAGER] = TABLE("late, eager", LATE_EAGER, true),
        [LATE_APART] = TABLE("late, apart", LATE_APART, false),
        [LATE_APART_EAGER] = TABLE("late, apart, eager", LATE_APART_EAGER, false),
    };
#undef LATE_ENTRY
    return &tables[kind];
}
