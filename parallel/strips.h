/*
 * parallel/strips.h - frames partitioned into horizontal strips, and the rows at their borders (halos)
 *
 * A strip is a number of rows of the VAE's latents (partition.h); at the resolutions inside the VAE the same strip is 1, 2,
 * 4 or 8 times as high. Each rank of `group` holds at least one row: ranks without any are not in the group.
 *
 * Activations are [T, rows, W, C]. A convolution over height needs a row of the neighbour above, below, or both: those are
 * exchanged, and a border of the frame has none. Tensors are memory of ctx's device; exchanges are ordered with what is enqueued
 * on it, and nobody here waits (parallel/group.h). Collective means over `group`.
 *
 * Errors   COMM      at once
 *          INTERNAL  shapes that are no strip of this rank; found before anything is sent
 *          what copying on ctx returns; held back, if ctx holds failures, and then the exchange takes place
 */
#ifndef SKY_PARALLEL_STRIPS_H
#define SKY_PARALLEL_STRIPS_H

#include "ops/ctx.h"
#include "parallel/group.h"
#include "parallel/partition.h"

typedef struct sky_strips {
    sky_group *group;     /* ranks in the order of their strips; borrowed */
    int64_t latent_rows;  /* of whole frames */
    sky_traffic *planned; /* counts what would be sent while ctx plans; may be NULL */
} sky_strips;

/* Latent rows of member `rank` of the group, and of this rank. */
sky_span sky_strips_of(const sky_strips *s, int rank);
sky_span sky_strips_own(const sky_strips *s);

/* Whether there is a neighbour on that side: rows to ask for, 0 or 1. */
int sky_strips_above(const sky_strips *s);
int sky_strips_below(const sky_strips *s);

/*
 * Fills the outermost rows of x [T, a + rows + b, W, C] with the neighbours' rows, whose own rows [.., rows, ..] are there
 * already. above and below, 0 or 1 and alike on all ranks, say which sides are wanted; a is 1 where above is wanted and there
 * is a neighbour above, else 0, and so is b. Where both are 0, x is own rows alone, and is still sent from. Temporary memory
 * from ctx's arena. While planning nothing is exchanged. Collective.
 */
sky_status sky_strips_exchange(sky_ctx *ctx, const sky_strips *s, const sky_tensor *x, int above, int below);

/* Every rank's rows of one frame to every rank: mine [rows, W, C] (rows at `scale` times the latents' height) to all
 * [scale * latent_rows, W, C]. While planning nothing is exchanged. Collective. */
sky_status sky_strips_gather(sky_ctx *ctx, const sky_strips *s, const sky_tensor *mine, const sky_tensor *all);

#endif
