#include "parallel/group.h"

#include "base/clock.h"
#include "ops/backend.h"
#include "parallel/group_impl.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AGREED_MESSAGE_BYTES = 2048 }; /* as long as a thread's message gets */

void sky_group_destroy(sky_group **group)
{
    if (*group != NULL) {
        free((*group)->list);
        (*group)->functions->destroy(*group);
        *group = NULL;
    }
}

void sky_group_forget_device(sky_group *group)
{
    if (group->functions->forget_device != NULL) {
        group->functions->forget_device(group);
    }
}

int sky_group_rank(const sky_group *group)
{
    return group->rank;
}

int sky_group_size(const sky_group *group)
{
    return group->size;
}

int sky_group_world_rank(const sky_group *group)
{
    return group->world_rank;
}

const char *sky_group_name(const sky_group *group)
{
    return group->functions->name;
}

/* Whether one of the places that the message is made of is "rank N: ". */
static bool names_a_rank(const char *message)
{
    static const char word[] = "rank ";
    for (const char *place = message; place != NULL;) {
        if (strncmp(place, word, sizeof word - 1) == 0) {
            const char *digit = place + sizeof word - 1;
            const char *end = digit;
            while (isdigit((unsigned char)*end)) {
                end++;
            }
            if (end > digit && end[0] == ':' && end[1] == ' ') {
                return true;
            }
        }
        place = strstr(place, ": ");
        place = place != NULL ? place + 2 : NULL;
    }
    return false;
}

/* What a failing rank tells the others. */
static void describe_failure(const sky_group *group, sky_status st, char text[AGREED_MESSAGE_BYTES])
{
    const char *message = sky_message()[0] != '\0' ? sky_message() : sky_status_name(st);
    int prefix_len = 0;
    if (!names_a_rank(message)) {
        prefix_len = snprintf(text, AGREED_MESSAGE_BYTES, "rank %d: ", group->world_rank);
    }
    const size_t room = AGREED_MESSAGE_BYTES - 1 - (size_t)prefix_len;
    const size_t len = strnlen(message, room);
    memcpy(text + prefix_len, message, len);
    text[(size_t)prefix_len + len] = '\0';
}

static sky_status agree(sky_group *group, sky_status st)
{
    char text[AGREED_MESSAGE_BYTES] = "";

    if (st != SKY_OK) {
        describe_failure(group, st, text); /* before other failures can take the message's place */
    }
    const int mine = (int)st;
    sky_status talk = group->functions->all_gather(group, &mine, sizeof mine, group->statuses);
    int lowest = 0;
    while (talk == SKY_OK && lowest < group->size && group->statuses[lowest] == SKY_OK) {
        lowest++;
    }
    if (talk == SKY_OK && lowest == group->size) {
        return SKY_OK;
    }
    if (talk == SKY_OK) {
        char own[AGREED_MESSAGE_BYTES];
        memcpy(own, text, sizeof own);
        talk = group->functions->broadcast(group, lowest, text, sizeof text);
        if (talk == SKY_OK) {
            text[sizeof text - 1] = '\0';
            return sky_fail((sky_status)group->statuses[lowest], "%s", text);
        }
        memcpy(text, own, sizeof text);
    }
    return st != SKY_OK ? sky_fail(st, "%s", text) : sky_fail_in(talk, "agreeing with the other ranks");
}

sky_status sky_group_agree(sky_group *group, sky_status st)
{
    if (group->size == 1 || st == SKY_ERR_COMM) {
        return st;
    }
    const int64_t since = sky_clock_ns();
    st = agree(group, st);
    group->exchange_ns += sky_clock_ns() - since;
    return st;
}

sky_status sky_group_barrier(sky_group *group)
{
    return group->size == 1 ? SKY_OK : group->functions->barrier(group);
}

sky_status sky_group_broadcast(sky_group *group, int root, void *buf, size_t bytes)
{
    if (root < 0 || root >= group->size || (buf == NULL && bytes > 0)) {
        return sky_fail(SKY_ERR_INTERNAL, "broadcast of %zu bytes at %p from rank %d in a group of %d", bytes, buf,
                        root, group->size);
    }
    return group->size == 1 || bytes == 0 ? SKY_OK : group->functions->broadcast(group, root, buf, bytes);
}

sky_status sky_group_all_gather(sky_group *group, const void *send, size_t bytes, void *recv)
{
    size_t total;
    if (__builtin_mul_overflow(bytes, (size_t)group->size, &total) || (bytes > 0 && (send == NULL || recv == NULL))) {
        return sky_fail(SKY_ERR_INTERNAL, "gathering %zu bytes at %p of each of %d ranks to %p", bytes, send,
                        group->size, recv);
    }
    if (bytes == 0) {
        return SKY_OK;
    }
    if (group->size == 1) {
        if (send != recv) {
            memcpy(recv, send, bytes);
        }
        return SKY_OK;
    }
    return group->functions->all_gather(group, send, bytes, recv);
}

/*
 * The next of what a list sends to `rank` itself, from entry *from on, and what receives it, from *to on; both are moved behind
 * it. What is not there is NULL. Returns whether both are.
 */
static bool next_own_pair(const sky_exchange *list, int n, int rank, int *from, int *to, const sky_exchange **send,
                          const sky_exchange **recv)
{
    while (*from < n && (list[*from].peer != rank || list[*from].send_bytes == 0)) {
        ++*from;
    }
    while (*to < n && (list[*to].peer != rank || list[*to].recv_bytes == 0)) {
        ++*to;
    }
    *send = *from < n ? &list[(*from)++] : NULL;
    *recv = *to < n ? &list[(*to)++] : NULL;
    return *send != NULL && *recv != NULL;
}

static sky_status check_own_pairs(const sky_exchange *list, int n, int rank)
{
    int from = 0;
    int to = 0;
    const sky_exchange *send = NULL;
    const sky_exchange *recv = NULL;
    while (next_own_pair(list, n, rank, &from, &to, &send, &recv)) {
        if (send->send_bytes != recv->recv_bytes) {
            break;
        }
    }
    const size_t out = send != NULL ? send->send_bytes : 0;
    const size_t in = recv != NULL ? recv->recv_bytes : 0;
    return out == in ? SKY_OK : sky_fail(SKY_ERR_INTERNAL, "exchange with itself: %zu bytes out, %zu in", out, in);
}

/* On ctx, behind what is enqueued there; with ctx NULL at once. */
static sky_status copy_own_pairs(const sky_ctx *ctx, const sky_exchange *list, int n, int rank)
{
    int from = 0;
    int to = 0;
    const sky_exchange *send = NULL;
    const sky_exchange *recv = NULL;
    while (next_own_pair(list, n, rank, &from, &to, &send, &recv)) {
        if (ctx != NULL) {
            SKY_TRY(ctx->backend->copy(ctx->device, recv->recv, send->send, send->send_bytes));
        } else {
            memcpy(recv->recv, send->send, send->send_bytes);
        }
    }
    return SKY_OK;
}

static sky_status check_exchange(const sky_group *group, const sky_exchange *list, int n)
{
    if (n < 0 || (list == NULL && n > 0)) {
        return sky_fail(SKY_ERR_INTERNAL, "exchange of %d entries at %p", n, (const void *)list);
    }
    for (int i = 0; i < n; i++) {
        const sky_exchange *e = &list[i];
        if (e->peer < 0 || e->peer >= group->size) {
            return sky_fail(SKY_ERR_INTERNAL, "exchange with rank %d in a group of %d", e->peer, group->size);
        }
        if ((e->send == NULL && e->send_bytes > 0) || (e->recv == NULL && e->recv_bytes > 0)) {
            return sky_fail(SKY_ERR_INTERNAL, "exchange with rank %d: no buffer for %zu bytes out and %zu in", e->peer,
                            e->send_bytes, e->recv_bytes);
        }
    }
    return check_own_pairs(list, n, group->rank);
}

/* Adds what a list sends to other ranks than `rank`. */
static void count(sky_traffic *sum, const sky_exchange *list, int n, int rank)
{
    for (int i = 0; i < n; i++) {
        if (list[i].peer != rank && list[i].send_bytes > 0) {
            sum->bytes += list[i].send_bytes;
            sum->messages++;
        }
    }
}

void sky_group_exchange_plan(const sky_group *group, const sky_exchange *list, int n, sky_traffic *planned)
{
    if (planned != NULL) {
        count(planned, list, n, group->rank);
    }
}

/*
 * What an exchange returns where its kind of group failed. Where that leaves peers waiting for what was not sent (anything but
 * mistakes of ours, which all ranks make), nobody but the end of the job can tell them.
 */
static sky_status failure_of(const sky_group *group, sky_ctx *ctx, sky_status st)
{
    if (st == SKY_OK || st == SKY_ERR_INTERNAL || st == SKY_ERR_COMM) {
        return st;
    }
    if (group->size == 1) {
        return ctx != NULL ? sky_ctx_keep(ctx, st) : st;
    }
    if (ctx != NULL && sky_ctx_failed(ctx)) {
        return sky_fail_in(SKY_ERR_COMM, "exchange, after \"%s\"", ctx->held->message);
    }
    return sky_fail_in(SKY_ERR_COMM, "exchange");
}

static sky_status begin(sky_group *group, sky_ctx *ctx, const sky_exchange *list, int n, sky_group_exchange **out)
{
    SKY_TRY(check_exchange(group, list, n));
    SKY_TRY(failure_of(group, ctx, group->functions->exchange_begin(group, ctx, list, n, out)));
    sky_status st = copy_own_pairs(ctx, list, n, group->rank);
    if (ctx != NULL) {
        st = sky_ctx_keep(ctx, st); /* it concerns this rank alone */
    }
    count(&group->traffic, list, n, group->rank);
    if (st != SKY_OK && group->size == 1) {
        (void)group->functions->exchange_end(group, ctx, *out);
        *out = NULL;
    }
    return failure_of(group, ctx, st);
}

sky_status sky_group_exchange_begin(sky_group *group, sky_ctx *ctx, const sky_exchange *list, int n,
                                    sky_group_exchange **out)
{
    const int64_t since = sky_clock_ns();
    const sky_status st = begin(group, ctx, list, n, out);
    group->exchange_ns += sky_clock_ns() - since;
    return st;
}

sky_status sky_group_exchange_end(sky_group *group, sky_ctx *ctx, sky_group_exchange **exchange)
{
    if (*exchange == NULL) {
        return SKY_OK;
    }
    const int64_t since = sky_clock_ns();
    const sky_status st = failure_of(group, ctx, group->functions->exchange_end(group, ctx, *exchange));
    *exchange = NULL;
    group->exchange_ns += sky_clock_ns() - since;
    return st;
}

sky_status sky_group_exchange_now(sky_group *group, sky_ctx *ctx, const sky_exchange *list, int n)
{
    sky_group_exchange *exchange = NULL;
    SKY_TRY(sky_group_exchange_begin(group, ctx, list, n, &exchange));
    return sky_group_exchange_end(group, ctx, &exchange);
}

sky_status sky_group_list(sky_group *group, int n, sky_exchange **out)
{
    if (n < 0) {
        return sky_fail(SKY_ERR_INTERNAL, "a list of %d exchanges", n);
    }
    if (n > group->list_capacity) {
        sky_exchange *list = realloc(group->list, (size_t)n * sizeof *list);
        if (list == NULL) {
            return sky_fail(SKY_ERR_NOMEM, "no memory for a list of %d exchanges", n);
        }
        group->list = list;
        group->list_capacity = n;
    }
    *out = group->list;
    return SKY_OK;
}

sky_traffic sky_group_traffic(const sky_group *group)
{
    return group->traffic;
}

double sky_group_exchange_seconds(const sky_group *group)
{
    return 1e-9 * (double)group->exchange_ns;
}

sky_status sky_group_split(sky_group *group, int color, int key, sky_group **out)
{
    return group->functions->split(group, color, key, out);
}
