/*
 * parallel/group_impl.h - what a kind of group fills in; for parallel/group*.c only
 *
 * group.c checks arguments, answers barrier, broadcast and all_gather of a group of one by itself, copies what an exchange
 * sends to its own rank, and turns failures of a device into COMM.
 */
#ifndef SKY_PARALLEL_GROUP_IMPL_H
#define SKY_PARALLEL_GROUP_IMPL_H

#include "parallel/group.h"

typedef struct sky_group_functions {
    const char *name;
    void (*destroy)(sky_group *group); /* frees group too */
    sky_status (*barrier)(sky_group *group);
    sky_status (*broadcast)(sky_group *group, int root, void *buf, size_t bytes);
    sky_status (*all_gather)(sky_group *group, const void *send, size_t bytes, void *recv);
    /* Passes over entries with the own rank. ctx NULL: host memory. */
    sky_status (*exchange_begin)(sky_group *group, sky_ctx *ctx, const sky_exchange *list, int n,
                                 sky_group_exchange **out);
    /* exchange is free again in any case */
    sky_status (*exchange_end)(sky_group *group, sky_ctx *ctx, sky_group_exchange *exchange);
    void (*forget_device)(sky_group *group);                                    /* or NULL: it keeps nothing */
    sky_status (*split)(sky_group *group, int color, int key, sky_group **out); /* color < 0: *out = NULL */
} sky_group_functions;

/* First member of every kind's own struct. */
struct sky_group {
    const sky_group_functions *functions;
    int rank;
    int size;
    int world_rank;
    int *statuses; /* [size], for sky_group_agree() */
    /* Of group.c: begins zero, and sky_group_destroy() frees list. */
    sky_exchange *list;
    int list_capacity;
    sky_traffic traffic;
    int64_t exchange_ns;
};

#endif
