/*
 * parallel/layout.h - how the ranks of a job are used
 *
 *     ranks = cfg_degree x ring_degree x ulysses_degree
 *
 * cfg_degree groups compute a guidance branch each; within such a group the sequence is partitioned over
 * ring_degree x ulysses_degree ranks (its members). Ulysses ranks exchange heads; ring ranks exchange keys and values.
 * Neighbours in rank number, which share the fastest links, are neighbours in Ulysses:
 * rank = (branch_group * ring_degree + ring) * ulysses_degree + ulysses.
 * Source: arXiv 2405.07719 (USP); the published model has ulysses_degree only.
 */
#ifndef SKY_PARALLEL_LAYOUT_H
#define SKY_PARALLEL_LAYOUT_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Fills the degrees left open, for num_ranks ranks, attention of num_heads heads and num_branches guidance branches (1 or 2).
 * cfg_degree first, where num_ranks allows it and --use_usp does not ask otherwise; then the largest ulysses_degree that
 * leaves at most a tenth of the ranks' time idle because heads do not divide; ring_degree is what is left.
 * Errors: USAGE where degrees contradict each other, num_ranks or num_branches; the message lists the layouts that fit.
 */
sky_status sky_rank_layout_choose(const sky_rank_layout_request *request, int num_ranks, int64_t num_heads,
                                  int num_branches, sky_rank_layout *out);

/*
 * All layouts of num_ranks ranks, best first; at most max_layouts of them are written, the number of all is returned.
 * num_branches as above. Heads need not divide: behind the layouts that idle for at most a tenth come the others, the least
 * idle first, up to those where ranks hold no heads at all.
 */
int sky_rank_layout_list(int num_ranks, int64_t num_heads, int num_branches, sky_rank_layout *list, int max_layouts);

int sky_rank_layout_ranks(const sky_rank_layout *layout);

/* Members of a sequence: ring_degree x ulysses_degree. */
int sky_rank_layout_members(const sky_rank_layout *layout);

sky_place sky_rank_layout_place(const sky_rank_layout *layout, int rank);

/* "guidance 2 x ring 1 x Ulysses 4" in text; returns it. */
const char *sky_rank_layout_describe(const sky_rank_layout *layout, char *text, size_t size);

#endif
