#include "thread_group.h"

#include "parallel/group_impl.h"
#include "support/late.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANKS = 16, POISON = 0xff };

/* One exchange of the group's, by its number: what each rank has brought, until all have taken theirs. */
typedef struct round {
    int64_t number;
    const sky_exchange *lists[MOST_RANKS];
    int lens[MOST_RANKS];
    int num_here, num_taken, num_gone;
    struct round *next;
} round;

/* What the ranks of a group share. */
typedef struct meeting {
    int size, references;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    round *rounds;
    const void *board[MOST_RANKS]; /* of the collective calls */
    int num_in;
    int64_t generation;
} meeting;

/* A device exchange holds its own list and events while it is under way. */
struct sky_group_exchange {
    bool under_way;
    int64_t number;
    sky_exchange *list; /* owned by the exchange that runs, for host memory by this */
    int n;
    sky_event *done;
};

typedef struct thread_group {
    sky_group base;
    meeting *meeting;
    int64_t next_number;
    const sky_backend *backend; /* of the device whose events these are */
    void *device;
    sky_event *computed;
    sky_group_exchange exchanges[SKY_GROUP_MAX_EXCHANGES];
} thread_group;

static const sky_group_functions thread_functions;

/* ---- meeting ---- */

static void wait_until(meeting *m, const int *counter)
{
    while (*counter < m->size) {
        pthread_cond_wait(&m->changed, &m->mutex);
    }
}

/* All ranks have come. What is enqueued on this rank's device runs meanwhile: others may be waiting for it. */
static void meet(thread_group *g)
{
    meeting *m = g->meeting;
    if (g->device != NULL) {
        late_progress(g->device);
    }
    pthread_mutex_lock(&m->mutex);
    const int64_t generation = m->generation;
    if (++m->num_in == m->size) {
        m->num_in = 0;
        m->generation++;
        pthread_cond_broadcast(&m->changed);
    }
    while (m->generation == generation) {
        pthread_cond_wait(&m->changed, &m->mutex);
    }
    pthread_mutex_unlock(&m->mutex);
}

static round *find_round(meeting *m, int64_t number)
{
    for (round *r = m->rounds; r != NULL; r = r->next) {
        if (r->number == number) {
            return r;
        }
    }
    round *r = calloc(1, sizeof *r);
    SKY_ASSERT(r != NULL);
    r->number = number;
    r->next = m->rounds;
    m->rounds = r;
    return r;
}

static void leave_round(meeting *m, round *r)
{
    if (++r->num_gone < m->size) {
        return;
    }
    for (round **at = &m->rounds; *at != NULL; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            free(r);
            return;
        }
    }
}

/* The k-th of what `peer` sends to `rank`, of what is not empty. */
static const sky_exchange *sent_by(const round *r, int peer, int rank, int k)
{
    for (int i = 0; i < r->lens[peer]; i++) {
        const sky_exchange *e = &r->lists[peer][i];
        if (e->peer == rank && e->send_bytes > 0 && k-- == 0) {
            return e;
        }
    }
    return NULL;
}

static bool take(const round *r, int rank)
{
    int taken[MOST_RANKS] = {0};
    for (int i = 0; i < r->lens[rank]; i++) {
        const sky_exchange *e = &r->lists[rank][i];
        if (e->peer != rank && e->recv_bytes > 0) {
            const sky_exchange *sent = sent_by(r, e->peer, rank, taken[e->peer]++);
            if (sent == NULL || sent->send_bytes != e->recv_bytes) {
                return false;
            }
            memcpy(e->recv, sent->send, e->recv_bytes);
        }
    }
    return true;
}

/* Brings a list, takes what the others have brought, and leaves when they have taken theirs. */
static sky_status exchange(meeting *m, int rank, int64_t number, const sky_exchange *list, int n)
{
    for (int i = 0; i < n; i++) {
        if (list[i].peer != rank && list[i].recv_bytes > 0) {
            memset(list[i].recv, POISON, list[i].recv_bytes);
        }
    }
    pthread_mutex_lock(&m->mutex);
    round *r = find_round(m, number);
    r->lists[rank] = list;
    r->lens[rank] = n;
    r->num_here++;
    pthread_cond_broadcast(&m->changed);
    wait_until(m, &r->num_here);
    const bool fits = take(r, rank);
    r->num_taken++;
    pthread_cond_broadcast(&m->changed);
    wait_until(m, &r->num_taken);
    leave_round(m, r);
    pthread_mutex_unlock(&m->mutex);
    return fits ? SKY_OK : sky_fail(SKY_ERR_INTERNAL, "exchange %d: what is sent is not what is received", (int)number);
}

/* ---- the group's functions ---- */

static sky_status thread_barrier(sky_group *group)
{
    meet((thread_group *)group);
    return SKY_OK;
}

/* Every rank's pointer to every rank; valid until each has met again. */
static void show(thread_group *g, const void *mine)
{
    g->meeting->board[g->base.rank] = mine;
    meet(g);
}

static sky_status thread_broadcast(sky_group *group, int root, void *buf, size_t bytes)
{
    thread_group *g = (thread_group *)group;
    show(g, buf);
    if (group->rank != root) {
        memcpy(buf, g->meeting->board[root], bytes);
    }
    meet(g);
    return SKY_OK;
}

static sky_status thread_all_gather(sky_group *group, const void *send, size_t bytes, void *recv)
{
    thread_group *g = (thread_group *)group;
    show(g, send);
    for (int rank = 0; rank < group->size; rank++) {
        unsigned char *to = (unsigned char *)recv + (size_t)rank * bytes;
        if (to != g->meeting->board[rank]) {
            memcpy(to, g->meeting->board[rank], bytes);
        }
    }
    meet(g);
    return SKY_OK;
}

typedef struct queued {
    meeting *meeting;
    int rank;
    int64_t number;
    sky_exchange *list; /* owned */
    int n;
} queued;

static sky_status run_queued(void *arg)
{
    const queued *q = arg;
    const sky_status st = exchange(q->meeting, q->rank, q->number, q->list, q->n);
    free(q->list);
    return st;
}

static sky_status attach(thread_group *g, const sky_ctx *ctx)
{
    if (g->backend == NULL) {
        SKY_TRY(ctx->backend->event_create(ctx->device, &g->computed));
        for (int i = 0; i < SKY_GROUP_MAX_EXCHANGES; i++) {
            SKY_TRY(ctx->backend->event_create(ctx->device, &g->exchanges[i].done));
        }
        g->backend = ctx->backend;
        g->device = ctx->device;
    }
    SKY_ASSERT(g->device == ctx->device);
    return SKY_OK;
}

static sky_status enqueue(thread_group *g, sky_group_exchange *x)
{
    const queued q = {g->meeting, g->base.rank, x->number, x->list, x->n};
    for (int i = 0; i < x->n; i++) {
        x->list[i].send = late_reach(g->device, x->list[i].send);
        x->list[i].recv = late_reach(g->device, x->list[i].recv);
    }
    x->list = NULL;
    SKY_TRY(g->backend->event_record(g->device, g->computed, SKY_QUEUE_COMPUTE));
    SKY_TRY(g->backend->event_wait(g->device, SKY_QUEUE_EXCHANGE, g->computed));
    SKY_TRY(late_enqueue(g->device, SKY_QUEUE_EXCHANGE, run_queued, &q, sizeof q));
    return g->backend->event_record(g->device, x->done, SKY_QUEUE_EXCHANGE);
}

static sky_status thread_exchange_begin(sky_group *group, sky_ctx *ctx, const sky_exchange *list, int n,
                                        sky_group_exchange **out)
{
    thread_group *g = (thread_group *)group;
    for (int i = 0; i < SKY_GROUP_MAX_EXCHANGES; i++) {
        sky_group_exchange *x = &g->exchanges[i];
        if (!x->under_way) {
            x->under_way = true;
            x->number = g->next_number++;
            x->n = n;
            x->list = malloc((size_t)(n + 1) * sizeof *x->list);
            SKY_ASSERT(x->list != NULL);
            if (n > 0) {
                memcpy(x->list, list, (size_t)n * sizeof *x->list);
            }
            *out = x;
            if (ctx == NULL) {
                return SKY_OK;
            }
            SKY_TRY(attach(g, ctx));
            return enqueue(g, x);
        }
    }
    return sky_fail(SKY_ERR_INTERNAL, "more than %d exchanges under way", (int)SKY_GROUP_MAX_EXCHANGES);
}

static sky_status thread_exchange_end(sky_group *group, sky_ctx *ctx, sky_group_exchange *x)
{
    thread_group *g = (thread_group *)group;
    x->under_way = false;
    if (ctx != NULL) {
        return g->backend->event_wait(g->device, SKY_QUEUE_COMPUTE, x->done);
    }
    if (g->device != NULL) {
        late_progress(g->device);
    }
    const sky_status st = exchange(g->meeting, group->rank, x->number, x->list, x->n);
    free(x->list);
    x->list = NULL;
    return st;
}

static void thread_forget_device(sky_group *group)
{
    thread_group *g = (thread_group *)group;
    if (g->backend != NULL) {
        g->backend->event_destroy(g->device, &g->computed);
        for (int i = 0; i < SKY_GROUP_MAX_EXCHANGES; i++) {
            g->backend->event_destroy(g->device, &g->exchanges[i].done);
        }
        g->backend = NULL;
        g->device = NULL;
    }
}

static void release_meeting(meeting *m)
{
    pthread_mutex_lock(&m->mutex);
    const int left = --m->references;
    pthread_mutex_unlock(&m->mutex);
    if (left == 0) {
        pthread_mutex_destroy(&m->mutex);
        pthread_cond_destroy(&m->changed);
        free(m);
    }
}

static void thread_destroy(sky_group *group)
{
    thread_group *g = (thread_group *)group;
    meet(g); /* also for what is enqueued and meets the others */
    thread_forget_device(group);
    release_meeting(g->meeting);
    free(group->statuses);
    free(g);
}

static meeting *create_meeting(int size)
{
    meeting *m = calloc(1, sizeof *m);
    SKY_ASSERT(m != NULL && size <= MOST_RANKS);
    m->size = m->references = size;
    pthread_mutex_init(&m->mutex, NULL);
    pthread_cond_init(&m->changed, NULL);
    return m;
}

static sky_group *create_member(meeting *m, int rank, int world_rank)
{
    thread_group *g = calloc(1, sizeof *g);
    SKY_ASSERT(g != NULL);
    g->base = (sky_group){.functions = &thread_functions, .rank = rank, .size = m->size, .world_rank = world_rank};
    g->base.statuses = calloc((size_t)m->size, sizeof(int));
    SKY_ASSERT(g->base.statuses != NULL);
    g->meeting = m;
    return &g->base;
}

static sky_status thread_split(sky_group *group, int color, int key, sky_group **out)
{
    thread_group *g = (thread_group *)group;
    const int own[2] = {color, key};
    int all[MOST_RANKS][2];
    const void *meetings[MOST_RANKS];
    SKY_TRY(thread_all_gather(group, own, sizeof own, all));
    int size = 0;
    int rank = 0;
    int leader = -1;
    for (int i = 0; i < group->size; i++) {
        if (all[i][0] == color) {
            size++;
            leader = leader < 0 ? i : leader;
            rank += all[i][1] < key || (all[i][1] == key && i < group->rank);
        }
    }
    const void *mine = leader == group->rank && color >= 0 ? create_meeting(size) : NULL;
    SKY_TRY(thread_all_gather(group, &mine, sizeof mine, meetings));
    *out = color >= 0 ? create_member((meeting *)meetings[leader], rank, g->base.world_rank) : NULL;
    return SKY_OK;
}

static const sky_group_functions thread_functions = {
    .name = "threads",
    .destroy = thread_destroy,
    .barrier = thread_barrier,
    .broadcast = thread_broadcast,
    .all_gather = thread_all_gather,
    .exchange_begin = thread_exchange_begin,
    .exchange_end = thread_exchange_end,
    .forget_device = thread_forget_device,
    .split = thread_split,
};

/* ---- threads ---- */

typedef struct member {
    pthread_t thread;
    sky_group *group;
    thread_body body;
    void *arg;
} member;

static void *run_member(void *arg)
{
    member *m = arg;
    m->body(m->group, m->arg);
    sky_group_destroy(&m->group);
    return NULL;
}

void thread_group_run(int size, thread_body body, void *arg)
{
    member members[MOST_RANKS];
    meeting *m = create_meeting(size);
    for (int rank = 0; rank < size; rank++) {
        members[rank] = (member){.group = create_member(m, rank, rank), .body = body, .arg = arg};
    }
    for (int rank = 0; rank < size; rank++) {
        SKY_ASSERT(pthread_create(&members[rank].thread, NULL, run_member, &members[rank]) == 0);
    }
    for (int rank = 0; rank < size; rank++) {
        pthread_join(members[rank].thread, NULL);
    }
}
