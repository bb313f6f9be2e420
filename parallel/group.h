/*
 * parallel/group.h - ranks that talk to each other
 *
 * A group is a handful of functions behind one type: one rank by itself (below), ranks joined by MPI (group_mpi.h). Code
 * above parallel sees this header only. `rank` and `size` are the group's.
 *
 * "Collective" means that every rank of the group makes the call, and that all ranks make their collective calls on this
 * group in the same order. What all must pass alike is said at each call. One thread of a rank uses a group at a time.
 *
 * Errors   COMM      the transport failed; nothing but sky_group_destroy() is of use after it
 *          INTERNAL  arguments that only a mistake of ours can bring about; found before anything is sent
 *          NOMEM
 * Lengths are in bytes and may be 0 everywhere; nothing is limited to 2 GiB. Buffers may have any alignment; they are host
 * memory, but for those of an exchange that is given a context, which are memory of its device.
 */
#ifndef SKY_PARALLEL_GROUP_H
#define SKY_PARALLEL_GROUP_H

#include "base/status.h"
#include "ops/ctx.h"

#include <stddef.h>
#include <stdint.h>

/*
 * What one rank sends to a peer and receives from it. A list may name a peer several times and leave peers out; the own
 * rank is a peer like others. The k-th send to a peer that is not empty meets the peer's k-th receive from this rank that is
 * not empty; both must have the same number of bytes.
 */
typedef struct sky_exchange {
    int peer;
    const void *send;
    size_t send_bytes;
    void *recv;
    size_t recv_bytes;
} sky_exchange;

typedef struct sky_group_exchange sky_group_exchange;

enum { SKY_GROUP_MAX_EXCHANGES = 4 }; /* under way at a time on one group */

/*
 * Starts to send and receive, and returns before it is done; buffers belong to the exchange until end. Collective, n = 0
 * included; the list is copied. Allocates only where a list needs more messages, or more bytes, than any before it.
 *
 * With ctx NULL buffers are host memory. With a context they are memory of its device, all ranks pass one, and the exchange is
 * ordered with what is enqueued on its COMPUTE queue: it sends what the ops before begin have written, and the ops behind end
 * read what it received. The caller waits for nothing, neither before begin nor behind end. Whether the host waits in between
 * is the group's matter: an MPI group does, in begin for the device and in end for the peers, since MPI moves what the host
 * can reach; a group of one does not.
 *
 * While ctx holds failures back (sky_ctx_hold), buffers are sent as they are. DEVICE does not come out of an exchange between
 * several ranks: a device that has failed cannot take part any more, and the peers wait for it, so that becomes COMM, with
 * the failure and the first one that is held back in the message. What only a copy of the rank's to itself meets is held back.
 */
sky_status sky_group_exchange_begin(sky_group *group, sky_ctx *ctx, const sky_exchange *list, int n,
                                    sky_group_exchange **out);

/*
 * Waits until what was received is there and what was sent may be overwritten, that is, until the peers have begun the same
 * exchange; with a context it is the ops enqueued from now on that wait, and the host only where the group needs it to. ctx as
 * at begin. Exchanges of a group end in any order. Takes NULL, sets NULL, also on failure. To be called on error paths too.
 */
sky_status sky_group_exchange_end(sky_group *group, sky_ctx *ctx, sky_group_exchange **exchange);

/* Begin and end in one. */
sky_status sky_group_exchange_now(sky_group *group, sky_ctx *ctx, const sky_exchange *list, int n);

/*
 * Room for a list of n entries, the group's own: for callers whose lists have no bound. It is there until the next call, and
 * begin does not change it. Allocates only where n is larger than ever before. Not collective.
 */
sky_status sky_group_list(sky_group *group, int n, sky_exchange **out);

/*
 * What this rank has sent to other ranks by exchanges of this group so far: bytes, and messages (entries of a list whose send
 * was not empty). Counted when an exchange has begun. Agreements, broadcasts and gathers are not counted.
 */
sky_traffic sky_group_traffic(const sky_group *group);

/* In place of an exchange, for whoever plans: adds what sky_group_traffic() would grow by to *planned, which may be NULL. */
void sky_group_exchange_plan(const sky_group *group, const sky_exchange *list, int n, sky_traffic *planned);

/*
 * Seconds that this rank's host has spent inside exchange_begin, exchange_end and agree of this group so far, refused calls
 * too. Where exchanges are queued on a device this says nothing about how long they take (docs/parallel.md, "How fast").
 */
double sky_group_exchange_seconds(const sky_group *group);

/*
 * A group for each color, of the ranks that passed it, in the order of key (then of rank). A rank with color < 0 gets NULL.
 * Collective over group; the caller destroys the new group, before or after the old one.
 */
sky_status sky_group_split(sky_group *group, int color, int key, sky_group **out);

#endif
