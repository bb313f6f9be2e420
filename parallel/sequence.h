/*
 * parallel/sequence.h - a sequence of tokens partitioned over ranks, and what self-attention exchanges between them
 *
 * Outside attention a member holds some tokens and all heads; inside it holds some heads and, of keys and values, all
 * tokens. With U Ulysses and R ring ranks, member m = r * U + u:
 *
 *     tokens(m)   the m-th share of all tokens (partition.h)
 *     block(r)    the tokens of members r*U .. r*U + U-1: contiguous
 *     heads(u)    the u-th share of the heads
 *
 *     outside       every tensor  [tokens(m), all heads]
 *     gather Q      [block(r), heads(u)]            from the members of r
 *     gather K, V   [all tokens, heads(u)]          from all members; with fast_ring [block(r), heads(u)], which are then
 *                                                   passed around the ring, R - 1 times
 *     scatter Y     [block(r), heads(u)] -> [tokens(m), all heads]
 *
 * What travels is what attention reads: codes with their scales, or values in the compute type. Tensors keep the order of
 * the global index, so attention walks the keys as one rank would, and its rows have the same bytes on every layout.
 *
 * Tensors are memory of ctx's device. Exchanges are ordered with what is enqueued on it, and none of these functions waits for
 * the device: where the transport needs that, the group does it (parallel/group.h).
 *
 * Collective means over `group`. Exchanges have a begin and an end so that ranks compute in between; what is sent or received
 * is left alone until then. A rank on its own (one member, or sequence without a group) exchanges nothing.
 *
 * While planning nothing is exchanged: *planned grows by what would be sent, from the same lists. Where a failure is held back
 * (sky_ctx_hold) buffers are sent as they are. Errors, of every call: SHAPE and INTERNAL for arguments, alike on all ranks
 * and before anything is sent; those of ops/ctx.h, of copy_columns and of parallel/group.h.
 */
#ifndef SKY_PARALLEL_SEQUENCE_H
#define SKY_PARALLEL_SEQUENCE_H

#include "ops/ctx.h"
#include "parallel/group.h"
#include "parallel/partition.h"

typedef struct sky_sequence {
    sky_group *group; /* the members, in order; borrowed. NULL: one member */
    int ulysses_degree, ring_degree;
    bool fast_ring;
    int64_t num_tokens, num_heads;
    sky_traffic *planned; /* counts what would be sent while ctx plans; may be NULL */
} sky_sequence;

/* A sequence that is whole on this rank. */
sky_sequence sky_sequence_whole(int64_t num_tokens, int64_t num_heads);

int sky_sequence_members(const sky_sequence *s);
int sky_sequence_member(const sky_sequence *s); /* this rank's number */

sky_span sky_sequence_tokens(const sky_sequence *s, int member);
sky_span sky_sequence_block(const sky_sequence *s, int ring); /* of one ring rank's U members */
sky_span sky_sequence_heads(const sky_sequence *s, int ulysses);

/* This rank's. */
sky_span sky_sequence_own_tokens(const sky_sequence *s);
sky_span sky_sequence_own_block(const sky_sequence *s);
sky_span sky_sequence_own_heads(const sky_sequence *s);

/* Tokens of the largest block. */
int64_t sky_sequence_largest_block(const sky_sequence *s);

/*
 * Parts: rows of all heads outside attention lie as they are sent, [u][rows, heads(u), width], one part behind the other
 * (ops/head_parts.h, with num_parts = U): ops that quantise or rotate write them so. With U = 1 that is [rows, num_heads, width].
 *
 * One tensor of attention. A row stands for tokens_per_row tokens (1, or 64 and 128 for scales and tiles; a divisor of
 * SKY_TOKEN_GROUP), a head for `width` columns. mine, in parts, [rows(tokens(m)), num_heads * width]; gathered [rows(block or
 * all), heads(u) * width]. What counts is the number of elements: mine may be [rows, num_heads, width].
 */
typedef struct sky_operand_parts {
    sky_tensor mine, gathered;
    int64_t tokens_per_row;
    int64_t width;
} sky_operand_parts;

typedef enum sky_reach {
    SKY_REACH_BLOCK, /* members of this rank's block */
    SKY_REACH_ALL,   /* all members */
} sky_reach;

/*
 * Takes `gathered` from ctx's arena, for mine, which must be set already, as tokens_per_row and width. Where nobody else is
 * within reach (one member, or U = 1 and BLOCK) gathered is mine itself, so that nothing is copied.
 */
sky_status sky_sequence_alloc(sky_ctx *ctx, const sky_sequence *s, sky_reach reach, sky_operand_parts *parts);

/*
 * Sends the parts of `mine` to the members within reach and receives theirs; *exchange is NULL where there is nothing to wait
 * for. This rank's own part is copied to its place in gathered, on ctx. ALL is one exchange between all members, not a walk
 * around the ring: as many bytes, and in global order. At most SKY_SEQUENCE_MAX_OPERANDS operands go together. Collective.
 */
enum { SKY_SEQUENCE_MAX_OPERANDS = 4 };
sky_status sky_sequence_gather_begin(sky_ctx *ctx, const sky_sequence *s, sky_reach reach,
                                     const sky_operand_parts *operands, int num, sky_group_exchange **exchange);
sky_status sky_sequence_gather_end(sky_ctx *ctx, const sky_sequence *s, sky_group_exchange **exchange);

/*
 * The way back: y [block(r), heads(u) * width] to parts [tokens(m), num_heads * width], which lie as received, in parts (where
 * U = 1, y may be parts). Collective.
 */
sky_status sky_sequence_scatter(sky_ctx *ctx, const sky_sequence *s, int64_t width, const sky_tensor *y,
                                const sky_tensor *parts);

/*
 * This rank's rows [tokens(m), num_heads * width] to parts, and parts to rows, for what no op writes or reads in parts. Where
 * U = 1 both may be the same memory. Not collective.
 */
sky_status sky_sequence_pack(sky_ctx *ctx, const sky_sequence *s, int64_t width, const sky_tensor *rows,
                             const sky_tensor *parts);
sky_status sky_sequence_unpack(sky_ctx *ctx, const sky_sequence *s, int64_t width, const sky_tensor *parts,
                               const sky_tensor *rows);

/*
 * One step around the ring: sends the tensors `from` (of the block that this rank has now) to the next ring rank and
 * receives its predecessor's into `to`. After `step` steps (0 at first) this rank has block (ring - step) mod R, which is
 * sky_sequence_ring_block(). Each tensor [rows(largest block), columns], or with as many rows as the block that it holds;
 * filled from row 0. At most SKY_SEQUENCE_MAX_OPERANDS of them; with R = 1 nothing happens. Collective; ended by gather_end.
 */
typedef struct sky_ring_parts {
    sky_tensor from, to;
    int64_t tokens_per_row;
} sky_ring_parts;
int sky_sequence_ring_block(const sky_sequence *s, int step);
sky_status sky_sequence_pass_begin(sky_ctx *ctx, const sky_sequence *s, int step, const sky_ring_parts *parts, int num,
                                   sky_group_exchange **exchange);

/*
 * Every member's rows to every member: mine [tokens(m), columns] to all [num_tokens, columns], where mine may be this
 * member's rows already. Collective.
 */
sky_status sky_sequence_share_rows(sky_ctx *ctx, const sky_sequence *s, const sky_tensor *mine, const sky_tensor *all);

/*
 * One row of every member to every member, for what is summed over all tokens: mine [columns] to all [members, columns]. At
 * most SKY_SEQUENCE_MAX_OPERANDS of them. Collective; ended by gather_end.
 */
typedef struct sky_shared_row {
    sky_tensor mine, all;
} sky_shared_row;
sky_status sky_sequence_share_begin(sky_ctx *ctx, const sky_sequence *s, const sky_shared_row *rows, int num,
                                    sky_group_exchange **exchange);

#endif
