#include "parallel/strips.h"

#include "ops/copy_columns.h"

#include <inttypes.h>
#include <stdbool.h>

sky_span sky_strips_of(const sky_strips *s, int rank)
{
    return sky_partition(s->latent_rows, sky_group_size(s->group), rank);
}

sky_span sky_strips_own(const sky_strips *s)
{
    return sky_strips_of(s, sky_group_rank(s->group));
}

int sky_strips_above(const sky_strips *s)
{
    return sky_group_rank(s->group) > 0;
}

int sky_strips_below(const sky_strips *s)
{
    return sky_group_rank(s->group) < sky_group_size(s->group) - 1;
}

/* Exchanges, or counts what would be sent while ctx plans. */
static sky_status send_and_receive(sky_ctx *ctx, const sky_strips *s, const sky_exchange *list, int n)
{
    if (!sky_ctx_planning(ctx)) {
        return sky_group_exchange_now(s->group, ctx, list, n);
    }
    sky_group_exchange_plan(s->group, list, n, s->planned);
    return SKY_OK;
}

/* One border of a strip: the row to send across it and the row to receive, as columns of x [T, rows * W * C]. */
typedef struct border {
    int peer;
    bool sends, receives;
    int64_t send_first, recv_first;
    sky_tensor sent, received; /* [T, W * C]: a row of each frame */
} border;

static sky_status pack(sky_ctx *ctx, const sky_tensor *x, int64_t row_len, border *b)
{
    const int64_t shape[] = {x->shape[0], row_len};
    if (b->receives) {
        SKY_TRY(sky_ctx_tensor(ctx, &b->received, x->dtype, 2, shape));
    }
    if (!b->sends) {
        return SKY_OK;
    }
    SKY_TRY(sky_ctx_tensor(ctx, &b->sent, x->dtype, 2, shape));
    return sky_copy_columns(
        ctx, &(sky_copy_columns_args){.y = b->sent, .x = *x, .x_first = b->send_first, .num_columns = row_len});
}

static sky_status unpack(sky_ctx *ctx, const sky_tensor *x, int64_t row_len, const border *b)
{
    if (!b->receives) {
        return SKY_OK;
    }
    return sky_copy_columns(
        ctx, &(sky_copy_columns_args){.y = *x, .x = b->received, .y_first = b->recv_first, .num_columns = row_len});
}

static sky_exchange exchange_at(const border *b)
{
    return (sky_exchange){.peer = b->peer,
                          .send = b->sends ? b->sent.data : NULL,
                          .send_bytes = b->sends ? sky_tensor_bytes(&b->sent) : 0,
                          .recv = b->receives ? b->received.data : NULL,
                          .recv_bytes = b->receives ? sky_tensor_bytes(&b->received) : 0};
}

static sky_status exchange_borders(sky_ctx *ctx, const sky_strips *s, const sky_tensor *x, int64_t row_len,
                                   border *borders, int num_borders)
{
    sky_exchange list[2];
    for (int i = 0; i < num_borders; i++) {
        SKY_TRY(pack(ctx, x, row_len, &borders[i]));
        list[i] = exchange_at(&borders[i]);
    }
    SKY_TRY(send_and_receive(ctx, s, list, num_borders));
    for (int i = 0; i < num_borders; i++) {
        SKY_TRY(unpack(ctx, x, row_len, &borders[i]));
    }
    return SKY_OK;
}

sky_status sky_strips_exchange(sky_ctx *ctx, const sky_strips *s, const sky_tensor *x, int above, int below)
{
    const int rank = sky_group_rank(s->group);
    const int64_t own = sky_strips_own(s).count;
    const int64_t first = above && sky_strips_above(s) ? 1 : 0; /* of own rows */
    const int64_t rows = x->shape[1] - first - (below && sky_strips_below(s) ? 1 : 0);
    if (x->num_dims != 4 || own <= 0 || rows <= 0 || rows % own != 0) {
        char text[160];
        return sky_fail(SKY_ERR_INTERNAL, "rows of neighbours: %s holds no strip of %" PRId64 " of %" PRId64 " rows",
                        sky_tensor_describe(x, text, sizeof text), own, s->latent_rows);
    }
    border borders[2];
    int num_borders = 0;
    const int64_t row_len = x->shape[2] * x->shape[3];
    if (sky_strips_above(s)) { /* whose row below is this strip's first */
        borders[num_borders++] = (border){.peer = rank - 1,
                                          .sends = below != 0,
                                          .receives = above != 0,
                                          .send_first = first * row_len,
                                          .recv_first = 0};
    }
    if (sky_strips_below(s)) {
        borders[num_borders++] = (border){.peer = rank + 1,
                                          .sends = above != 0,
                                          .receives = below != 0,
                                          .send_first = (first + rows - 1) * row_len,
                                          .recv_first = (first + rows) * row_len};
    }
    const sky_tensor frames = sky_tensor_reshape(x, 2, (int64_t[]){x->shape[0], x->shape[1] * row_len});
    const size_t mark = sky_arena_mark(ctx->arena);
    const sky_status st = exchange_borders(ctx, s, &frames, row_len, borders, num_borders);
    sky_arena_release(ctx->arena, mark);
    return st;
}

/*
 * Each rank's rows go from one to all others. A list of all ranks would want memory for as many; so ranks at most
 * DISTANCE_AT_A_TIME further on, round the group, are served at a time: both sides of a message count the same distance.
 */
enum { DISTANCE_AT_A_TIME = 8 };

static sky_status send_to_all(sky_ctx *ctx, const sky_strips *s, const sky_tensor *mine, const sky_tensor *all,
                              int64_t scale)
{
    const int rank = sky_group_rank(s->group);
    const int size = sky_group_size(s->group);
    for (int distance = 1; distance < size;) {
        sky_exchange list[2 * DISTANCE_AT_A_TIME];
        int n = 0;
        for (; distance < size && n < 2 * DISTANCE_AT_A_TIME; distance++) {
            const int from = (rank + size - distance) % size;
            const sky_span rows = sky_strips_of(s, from);
            const sky_tensor theirs = sky_tensor_rows(all, scale * rows.first, scale * rows.count);
            list[n++] = (sky_exchange){
                .peer = (rank + distance) % size, .send = mine->data, .send_bytes = sky_tensor_bytes(mine)};
            list[n++] = (sky_exchange){.peer = from, .recv = theirs.data, .recv_bytes = sky_tensor_bytes(&theirs)};
        }
        SKY_TRY(send_and_receive(ctx, s, list, n));
    }
    return SKY_OK;
}

sky_status sky_strips_gather(sky_ctx *ctx, const sky_strips *s, const sky_tensor *mine, const sky_tensor *all)
{
    const sky_span own = sky_strips_own(s);
    const int64_t scale = all->shape[0] / s->latent_rows;
    if (mine->num_dims != 3 || all->num_dims != 3 || mine->dtype != all->dtype || scale < 1 ||
        all->shape[0] != scale * s->latent_rows || mine->shape[0] != scale * own.count ||
        mine->shape[1] != all->shape[1] || mine->shape[2] != all->shape[2]) {
        char mine_text[160];
        char all_text[160];
        return sky_fail(SKY_ERR_INTERNAL,
                        "rows of all strips: %s is no strip of %" PRId64 " of %" PRId64 " rows for the frame %s",
                        sky_tensor_describe(mine, mine_text, sizeof mine_text), own.count, s->latent_rows,
                        sky_tensor_describe(all, all_text, sizeof all_text));
    }
    const sky_tensor place = sky_tensor_rows(all, scale * own.first, scale * own.count);
    SKY_TRY(sky_ctx_copy(ctx, &place, mine));
    return send_to_all(ctx, s, mine, all, scale);
}
