/*
 * Ranks joined by MPI.
 *
 * Waiting. MPI's own waits spin, and a rank that waits often shares its cores with one that works (two ranks on two cores,
 * or the threads of a rank that computes). So every wait here is a poll: it spins for a moment, as most waits are short,
 * then sleeps between looks. A sleep is a fraction of the time waited so far, so a wait gets longer by that fraction at
 * most, and has an upper bound. Data, however, moves only while MPI is being called: between ranks that sleep, 64 MiB went
 * at 0.09 GB/s instead of 5. So once a message has finished, which says that the others are there, the wait spins as long
 * as the data may take; it yields as it spins, which on crowded cores is twice as fast as holding on. The first piece
 * of a message is short, and sent so that it finishes only when the other side has come (MPI_Issend).
 *
 * Devices. MPI is given host memory only. An exchange of a device's waits in begin for what it sends (staging.h): the one
 * place where the host waits for ops between ranks. end waits for messages, as with host memory.
 *
 * Length. MPI counts are int. Messages are cut into pieces, which MPI delivers in order between two ranks.
 */
#include "parallel/group_mpi.h"

#include "base/clock.h"
#include "parallel/group_impl.h"
#include "parallel/staging.h"

#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EXCHANGE_TAG = 1, GATHER_TAG = 2 };

enum {
    DEFAULT_PIECE_BYTES = 1 << 20, /* faster than longer ones: each that finishes shows that data flows */
    FIRST_PIECE_BYTES = 1024,
    SPIN_NS = 50 * 1000,
    SPIN_NS_PER_BYTE = 2, /* once data flows; transports within a node are 2 to 10 times faster */
    LEAST_SLEEP_NS = 50 * 1000,
    MOST_SLEEP_NS = 1000 * 1000,
    WAITED_PER_SLEEP = 16, /* a sleep is at most this part of the wait so far */
};

/* One exchange: its messages under way. */
struct sky_group_exchange {
    bool under_way;
    size_t bytes; /* in and out */
    int num_requests;
    int capacity;
    MPI_Request *requests;
    int *finished; /* [capacity], for MPI_Testsome() */
};

typedef struct mpi_group {
    sky_group base;
    MPI_Comm comm;
    size_t piece_bytes;
    sky_exchange *peers; /* [size], for all_gather */
    sky_group_exchange exchanges[SKY_GROUP_MAX_EXCHANGES];
    sky_group_exchange own; /* for collectives, which are over when they return */
    sky_staging staging;    /* a slot for each of exchanges */
} mpi_group;

static const sky_group_functions mpi_functions;

static sky_status check_mpi(int code, const char *what)
{
    if (code == MPI_SUCCESS) {
        return SKY_OK;
    }
    char text[MPI_MAX_ERROR_STRING] = "";
    int len = 0;
    if (MPI_Error_string(code, text, &len) != MPI_SUCCESS) {
        text[0] = '\0';
    }
    return sky_fail(SKY_ERR_COMM, "%s: MPI error %d: %s", what, code, text);
}

/*
 * Until all requests, of `bytes` together, are finished; they are MPI_REQUEST_NULL then. flowing: the other ranks are
 * known to be there. finished has room for n.
 */
static sky_status wait_for(MPI_Request *requests, int n, size_t bytes, bool flowing, int *finished, const char *what)
{
    const int64_t long_spin_ns = SPIN_NS + (int64_t)bytes * SPIN_NS_PER_BYTE;
    int64_t spin_ns = flowing ? long_spin_ns : SPIN_NS;
    int64_t since = sky_clock_ns();
    int left = n;
    while (left > 0) {
        int num_finished = 0;
        SKY_TRY(check_mpi(MPI_Testsome(n, requests, &num_finished, finished, MPI_STATUSES_IGNORE), what));
        if (num_finished == MPI_UNDEFINED) {
            break; /* all are null already */
        }
        left -= num_finished;
        const int64_t now = sky_clock_ns();
        const int64_t waited = now - since;
        if (num_finished > 0) {
            since = now;
            spin_ns = long_spin_ns;
        } else if (waited > spin_ns) {
            int64_t ns = waited / WAITED_PER_SLEEP;
            ns = ns < LEAST_SLEEP_NS ? LEAST_SLEEP_NS : ns;
            ns = ns > MOST_SLEEP_NS ? MOST_SLEEP_NS : ns;
            nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL); /* a signal may cut it short */
        } else {
            sched_yield(); /* the other side may be waiting for this core */
        }
    }
    return SKY_OK;
}

/* A collective call of MPI's that moves `bytes` between ranks known to be there, or 0. */
static sky_status wait_for_one(MPI_Request *request, size_t bytes, const char *what)
{
    int finished;
    return wait_for(request, 1, bytes, bytes > 0, &finished, what);
}

/* The next piece of a message of which `done` of `bytes` are under way. */
static size_t next_piece(const mpi_group *mpi, size_t done, size_t bytes)
{
    size_t piece = mpi->piece_bytes;
    if (done == 0 && piece > FIRST_PIECE_BYTES) {
        piece = FIRST_PIECE_BYTES;
    }
    return piece < bytes - done ? piece : bytes - done;
}

static size_t num_pieces(const mpi_group *mpi, size_t bytes)
{
    size_t num = 0;
    for (size_t done = 0; done < bytes; done += next_piece(mpi, done, bytes)) {
        num++;
    }
    return num;
}

static sky_status mpi_barrier(sky_group *group)
{
    MPI_Request request;
    SKY_TRY(check_mpi(MPI_Ibarrier(((mpi_group *)group)->comm, &request), "barrier"));
    return wait_for_one(&request, 0, "barrier");
}

static sky_status mpi_broadcast(sky_group *group, int root, void *buf, size_t bytes)
{
    const mpi_group *mpi = (const mpi_group *)group;
    for (size_t done = 0; done < bytes;) {
        const size_t piece = bytes - done < mpi->piece_bytes ? bytes - done : mpi->piece_bytes;
        MPI_Request request;
        SKY_TRY(
            check_mpi(MPI_Ibcast((char *)buf + done, (int)piece, MPI_BYTE, root, mpi->comm, &request), "broadcast"));
        SKY_TRY(wait_for_one(&request, done > 0 ? piece : 0, "broadcast")); /* behind the first piece, root is there */
        done += piece;
    }
    return SKY_OK;
}

static sky_status reserve(sky_group_exchange *x, size_t num_requests)
{
    if (num_requests <= (size_t)x->capacity) {
        return SKY_OK;
    }
    if (num_requests > INT_MAX) {
        return sky_fail(SKY_ERR_INTERNAL, "an exchange of %zu messages", num_requests);
    }
    MPI_Request *requests = realloc(x->requests, num_requests * sizeof(MPI_Request));
    if (requests != NULL) {
        x->requests = requests;
    }
    int *finished = realloc(x->finished, num_requests * sizeof(int));
    if (finished != NULL) {
        x->finished = finished;
    }
    if (requests == NULL || finished == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for an exchange of %zu messages", num_requests);
    }
    x->capacity = (int)num_requests;
    return SKY_OK;
}

static sky_status post_send(const mpi_group *mpi, sky_group_exchange *x, const sky_exchange *e, int tag)
{
    for (size_t done = 0; done < e->send_bytes;) {
        const size_t piece = next_piece(mpi, done, e->send_bytes);
        int (*const send)(const void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *) =
            done == 0 ? MPI_Issend : MPI_Isend;
        SKY_TRY(check_mpi(send((const char *)e->send + done, (int)piece, MPI_BYTE, e->peer, tag, mpi->comm,
                               &x->requests[x->num_requests]),
                          "exchange: sending"));
        x->num_requests++;
        done += piece;
    }
    return SKY_OK;
}

static sky_status post_recv(const mpi_group *mpi, sky_group_exchange *x, const sky_exchange *e, int tag)
{
    for (size_t done = 0; done < e->recv_bytes;) {
        const size_t piece = next_piece(mpi, done, e->recv_bytes);
        SKY_TRY(check_mpi(MPI_Irecv((char *)e->recv + done, (int)piece, MPI_BYTE, e->peer, tag, mpi->comm,
                                    &x->requests[x->num_requests]),
                          "exchange: receiving"));
        x->num_requests++;
        done += piece;
    }
    return SKY_OK;
}

/* After an error of MPI's: what is left is given up, so that nothing of ours is waited for. */
static void abandon(sky_group_exchange *x)
{
    for (int i = 0; i < x->num_requests; i++) {
        if (x->requests[i] != MPI_REQUEST_NULL) {
            MPI_Cancel(&x->requests[i]);
            MPI_Request_free(&x->requests[i]);
        }
    }
    x->num_requests = 0;
}

/* Entries with the own rank are passed over. */
static sky_status post(const mpi_group *mpi, sky_group_exchange *x, const sky_exchange *list, int n, int tag)
{
    sky_status st = SKY_OK;
    size_t num_requests = 0;
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        if (list[i].peer != mpi->base.rank) {
            num_requests += num_pieces(mpi, list[i].send_bytes) + num_pieces(mpi, list[i].recv_bytes);
            bytes += list[i].send_bytes + list[i].recv_bytes;
        }
    }
    SKY_TRY(reserve(x, num_requests));
    x->num_requests = 0;
    x->bytes = bytes;

    /* Receives first, so that what arrives goes straight to its place. */
    for (int i = 0; i < n; i++) {
        if (list[i].peer != mpi->base.rank) {
            SKY_TRY_GOTO(post_recv(mpi, x, &list[i], tag));
        }
    }
    for (int i = 0; i < n; i++) {
        if (list[i].peer != mpi->base.rank) {
            SKY_TRY_GOTO(post_send(mpi, x, &list[i], tag));
        }
    }
done:
    if (st != SKY_OK) {
        abandon(x);
    }
    return st;
}

static sky_status finish(sky_group_exchange *x)
{
    const sky_status st = wait_for(x->requests, x->num_requests, x->bytes, false, x->finished, "exchange");
    if (st != SKY_OK) {
        abandon(x);
    }
    x->num_requests = 0;
    return st;
}

static sky_status mpi_all_gather(sky_group *group, const void *send, size_t bytes, void *recv)
{
    mpi_group *mpi = (mpi_group *)group;
    char *mine = (char *)recv + (size_t)group->rank * bytes;
    const bool in_place = send == mine;

    if (bytes <= FIRST_PIECE_BYTES) {
        MPI_Request request;
        SKY_TRY(check_mpi(MPI_Iallgather(in_place ? MPI_IN_PLACE : send, (int)bytes, MPI_BYTE, recv, (int)bytes,
                                         MPI_BYTE, mpi->comm, &request),
                          "gathering"));
        return wait_for_one(&request, 0, "gathering");
    }
    /* Everyone sends to everyone, each beginning with the rank behind it. */
    for (int i = 0; i < group->size; i++) {
        const int peer = (group->rank + i) % group->size;
        mpi->peers[i] = (sky_exchange){.peer = peer,
                                       .send = send,
                                       .send_bytes = bytes,
                                       .recv = (char *)recv + (size_t)peer * bytes,
                                       .recv_bytes = bytes};
    }
    SKY_TRY(post(mpi, &mpi->own, mpi->peers, group->size, GATHER_TAG));
    if (!in_place) {
        memcpy(mine, send, bytes);
    }
    return finish(&mpi->own);
}

static sky_status begin(mpi_group *mpi, sky_ctx *ctx, int slot, const sky_exchange *list, int n)
{
    if (ctx != NULL) {
        SKY_TRY(sky_staging_begin(&mpi->staging, ctx, slot, list, n, mpi->base.rank, &list, &n));
    }
    return post(mpi, &mpi->exchanges[slot], list, n, EXCHANGE_TAG);
}

static sky_status mpi_exchange_begin(sky_group *group, sky_ctx *ctx, const sky_exchange *list, int n,
                                     sky_group_exchange **out)
{
    mpi_group *mpi = (mpi_group *)group;
    for (int i = 0; i < SKY_GROUP_MAX_EXCHANGES; i++) {
        if (!mpi->exchanges[i].under_way) {
            SKY_TRY(begin(mpi, ctx, i, list, n));
            mpi->exchanges[i].under_way = true;
            *out = &mpi->exchanges[i];
            return SKY_OK;
        }
    }
    return sky_fail(SKY_ERR_INTERNAL, "more than %d exchanges under way", (int)SKY_GROUP_MAX_EXCHANGES);
}

static sky_status mpi_exchange_end(sky_group *group, sky_ctx *ctx, sky_group_exchange *exchange)
{
    mpi_group *mpi = (mpi_group *)group;
    exchange->under_way = false;
    SKY_TRY(finish(exchange));
    return ctx != NULL ? sky_staging_end(&mpi->staging, ctx, (int)(exchange - mpi->exchanges)) : SKY_OK;
}

static void mpi_forget_device(sky_group *group)
{
    sky_staging_release(&((mpi_group *)group)->staging);
}

static void free_exchange(sky_group_exchange *x)
{
    abandon(x);
    free(x->requests);
    free(x->finished);
}

static void mpi_destroy(sky_group *group)
{
    mpi_group *mpi = (mpi_group *)group;
    int finalized = 0;
    for (int i = 0; i < SKY_GROUP_MAX_EXCHANGES; i++) {
        free_exchange(&mpi->exchanges[i]);
    }
    free_exchange(&mpi->own);
    sky_staging_release(&mpi->staging);
    if (mpi->comm != MPI_COMM_NULL && MPI_Finalized(&finalized) == MPI_SUCCESS && finalized == 0) {
        MPI_Comm_free(&mpi->comm);
    }
    free(mpi->peers);
    free(mpi->base.statuses);
    free(mpi);
}

/* A group without its communicator, with room for up to max_size ranks. */
static sky_status allocate(int max_size, size_t piece_bytes, mpi_group **out)
{
    mpi_group *mpi = calloc(1, sizeof *mpi);
    if (mpi != NULL) {
        mpi->base.functions = &mpi_functions;
        mpi->comm = MPI_COMM_NULL;
        mpi->piece_bytes = piece_bytes;
        mpi->base.statuses = calloc((size_t)max_size, sizeof(int));
        mpi->peers = calloc((size_t)max_size, sizeof(sky_exchange));
    }
    if (mpi == NULL || mpi->base.statuses == NULL || mpi->peers == NULL) {
        if (mpi != NULL) {
            mpi_destroy(&mpi->base);
        }
        return sky_fail(SKY_ERR_NOMEM, "no memory for a group of %d", max_size);
    }
    *out = mpi;
    return SKY_OK;
}

/* What is left once mpi->comm is there. */
static sky_status complete(mpi_group *mpi)
{
    SKY_TRY(check_mpi(MPI_Comm_set_errhandler(mpi->comm, MPI_ERRORS_RETURN), "making a group"));
    SKY_TRY(check_mpi(MPI_Comm_rank(mpi->comm, &mpi->base.rank), "making a group"));
    return check_mpi(MPI_Comm_size(mpi->comm, &mpi->base.size), "making a group");
}

static sky_status mpi_split(sky_group *group, int color, int key, sky_group **out)
{
    mpi_group *parent = (mpi_group *)group;
    mpi_group *mpi = NULL;
    sky_status st = SKY_OK;

    if (color >= 0) {
        st = allocate(group->size, parent->piece_bytes, &mpi);
    }
    /* So that none is left in the split alone; and the split, whose waiting spins, finds all ranks there. */
    SKY_TRY_GOTO(group->size == 1 ? st : sky_group_agree(group, st));
    MPI_Comm comm = MPI_COMM_NULL;
    SKY_TRY_GOTO(
        check_mpi(MPI_Comm_split(parent->comm, color >= 0 ? color : MPI_UNDEFINED, key, &comm), "splitting a group"));
    if (mpi != NULL) {
        mpi->comm = comm;
        SKY_TRY_GOTO(complete(mpi));
        mpi->base.world_rank = group->world_rank;
    }
    *out = mpi != NULL ? &mpi->base : NULL;
    mpi = NULL;
done:
    if (mpi != NULL) {
        mpi_destroy(&mpi->base);
    }
    return st;
}

static const sky_group_functions mpi_functions = {
    .name = "mpi",
    .destroy = mpi_destroy,
    .barrier = mpi_barrier,
    .broadcast = mpi_broadcast,
    .all_gather = mpi_all_gather,
    .exchange_begin = mpi_exchange_begin,
    .exchange_end = mpi_exchange_end,
    .forget_device = mpi_forget_device,
    .split = mpi_split,
};

sky_status sky_group_world_create_in_pieces(size_t piece_bytes, sky_group **out)
{
    sky_status st = SKY_OK;
    mpi_group *mpi = NULL;
    int initialized = 0;
    int finalized = 0;
    int size = 0;

    if (MPI_Initialized(&initialized) != MPI_SUCCESS || MPI_Finalized(&finalized) != MPI_SUCCESS || initialized == 0 ||
        finalized != 0) {
        return sky_fail(SKY_ERR_INTERNAL, "the group of all ranks: MPI is not running");
    }
    if (piece_bytes < 1 || piece_bytes > INT_MAX) {
        return sky_fail(SKY_ERR_INTERNAL, "the group of all ranks: pieces of %zu bytes; want 1 to %d", piece_bytes,
                        INT_MAX);
    }
    SKY_TRY(check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size), "the group of all ranks"));
    SKY_TRY_GOTO(allocate(size, piece_bytes, &mpi));
    MPI_Request request;
    SKY_TRY_GOTO(check_mpi(MPI_Comm_idup(MPI_COMM_WORLD, &mpi->comm, &request), "the group of all ranks"));
    SKY_TRY_GOTO(wait_for_one(&request, 0, "the group of all ranks"));
    SKY_TRY_GOTO(complete(mpi));
    mpi->base.world_rank = mpi->base.rank;
    *out = &mpi->base;
    mpi = NULL;
done:
    if (mpi != NULL) {
        mpi_destroy(&mpi->base);
    }
    return st;
}

sky_status sky_group_world_create(sky_group **out)
{
    return sky_group_world_create_in_pieces(DEFAULT_PIECE_BYTES, out);
}
