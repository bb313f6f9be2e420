#include "sequence_rig.h"

#include "mpi_main.h"
#include "parallel/layout.h"
#include "support/late.h"
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POISON = 0xa5, BLOCK_BYTES = 4 << 20, GUARD_BYTES = 256, MOST_LAYOUTS = 16 };

sky_span sequence_rows(sky_span tokens, int64_t tokens_per_row)
{
    if (tokens.count == 0) {
        return (sky_span){0};
    }
    const int64_t first = tokens.first / tokens_per_row;
    const int64_t last = (sky_span_end(tokens) - 1) / tokens_per_row;
    return (sky_span){.first = first, .count = last - first + 1};
}

/* No two elements alike in two bytes or more, and no two neighbours in one; never all poison. */
static void write_value(unsigned char *at, size_t bytes, int64_t index)
{
    const uint64_t code = bytes == 1 ? (uint64_t)(37 * index + 11 * (index / 256)) : (uint64_t)index + 1;
    for (size_t i = 0; i < bytes; i++) {
        at[i] = (unsigned char)(code >> 8 * i);
    }
}

static int64_t index_in_whole(const sequence_part *part, int64_t row, int64_t column)
{
    return ((part->rows.first + row) * part->num_heads + part->heads.first) * part->width + column;
}

void sequence_rig_ok(const sequence_rig *rig, const char *what, sky_status st)
{
    if (st != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s, %s: %s: %s", rig->parameters, what, sky_status_name(st), sky_message());
    }
}

sky_tensor sequence_rig_tensor(sequence_rig *rig, sky_dtype dtype, int64_t rows, int64_t columns)
{
    sky_tensor t = {0};
    sequence_rig_ok(rig, "a tensor", sky_ctx_tensor(&rig->ctx, &t, dtype, 2, (int64_t[]){rows, columns}));
    return t;
}

/* By the backend itself: where failures are held back, a context copies nothing. */
static void fill(const sequence_rig *rig, const sky_tensor *t, const sequence_part *part)
{
    const int64_t columns = part->heads.count * part->width;
    const size_t bytes = sky_dtype_bytes(t->dtype);
    unsigned char *values = malloc(sky_tensor_bytes(t) + 1);
    SKY_ASSERT(values != NULL);
    for (int64_t i = 0; i < part->rows.count * columns; i++) {
        write_value(values + (size_t)i * bytes, bytes, index_in_whole(part, i / columns, i % columns));
    }
    if (!rig->planning) {
        sequence_rig_ok(rig, "filling a tensor",
                        rig->ctx.backend->upload(rig->ctx.device, t->data, values, sky_tensor_bytes(t)));
    }
    free(values);
}

sky_tensor sequence_rig_filled(sequence_rig *rig, sky_dtype dtype, const sequence_part *part)
{
    const sky_tensor t = sequence_rig_tensor(rig, dtype, part->rows.count, part->heads.count * part->width);
    fill(rig, &t, part);
    return t;
}

/* The part of Ulysses rank u in a tensor that lies in parts: behind those of the ranks before it. */
static sky_tensor part_at(const sequence_rig *rig, const sky_tensor *t, const sequence_part *all, int u,
                          sequence_part *part)
{
    const size_t bytes = sky_dtype_bytes(t->dtype);
    char *data = t->data;
    *part = *all;
    for (int i = 0; i <= u; i++) {
        part->heads = sky_sequence_heads(&rig->s, i);
        data += i < u ? (size_t)(part->rows.count * part->heads.count * part->width) * bytes : 0;
    }
    return SKY_TENSOR(data, t->dtype, part->rows.count, part->heads.count * part->width);
}

sky_tensor sequence_rig_filled_parts(sequence_rig *rig, sky_dtype dtype, const sequence_part *all)
{
    const sky_tensor t = sequence_rig_tensor(rig, dtype, all->rows.count, all->heads.count * all->width);
    for (int u = 0; u < rig->s.ulysses_degree; u++) {
        sequence_part part;
        const sky_tensor place = part_at(rig, &t, all, u, &part);
        fill(rig, &place, &part);
    }
    return t;
}

void sequence_rig_holds_parts(const sequence_rig *rig, const char *what, const sky_tensor *t, const sequence_part *all)
{
    for (int u = 0; u < rig->s.ulysses_degree; u++) {
        sequence_part part;
        const sky_tensor place = part_at(rig, t, all, u, &part);
        sequence_rig_holds(rig, what, &place, &part);
    }
}

bool sequence_rig_holds(const sequence_rig *rig, const char *what, const sky_tensor *t, const sequence_part *part)
{
    const int64_t columns = part->heads.count * part->width;
    const size_t bytes = sky_dtype_bytes(t->dtype);
    if (t->num_dims != 2 || t->shape[0] < part->rows.count || t->shape[1] != columns) {
        char text[96];
        test_fail(__FILE__, __LINE__, "%s, %s: %s, want [%lld, %lld]", rig->parameters, what,
                  sky_tensor_describe(t, text, sizeof text), (long long)part->rows.count, (long long)columns);
        return false;
    }
    if (rig->planning) {
        return true;
    }
    unsigned char *got = malloc(sky_tensor_bytes(t) + 1);
    SKY_ASSERT(got != NULL);
    sequence_rig_ok(rig, what, rig->ctx.backend->download(rig->ctx.device, got, t->data, sky_tensor_bytes(t)));
    bool ok = true;
    for (int64_t i = 0; ok && i < part->rows.count * columns; i++) {
        unsigned char want[8];
        write_value(want, bytes, index_in_whole(part, i / columns, i % columns));
        if (memcmp(got + (size_t)i * bytes, want, bytes) != 0) {
            test_fail(__FILE__, __LINE__, "%s, %s: row %lld of [%lld, +%lld), column %lld of %lld is another's",
                      rig->parameters, what, (long long)(i / columns), (long long)part->rows.first,
                      (long long)part->rows.count, (long long)(i % columns), (long long)columns);
            ok = false;
        }
    }
    free(got);
    return ok;
}

static sky_traffic traffic(const sequence_rig *rig)
{
    return rig->s.group != NULL ? sky_group_traffic(rig->s.group) : (sky_traffic){0};
}

static void expect_sent(const sequence_rig *rig, sky_traffic before, sky_traffic want, const char *what)
{
    const sky_traffic after = traffic(rig);
    if (after.bytes - before.bytes != want.bytes || after.messages - before.messages != want.messages) {
        test_fail(__FILE__, __LINE__, "%s: %s sent %llu bytes in %llu messages, want %llu in %llu", rig->parameters,
                  what, (unsigned long long)(after.bytes - before.bytes),
                  (unsigned long long)(after.messages - before.messages), (unsigned long long)want.bytes,
                  (unsigned long long)want.messages);
    }
}

static void poison(const sequence_rig *rig, size_t bytes)
{
    unsigned char *values = malloc(bytes);
    SKY_ASSERT(values != NULL);
    memset(values, POISON, bytes);
    sequence_rig_ok(rig, "poison", rig->ctx.backend->upload(rig->ctx.device, rig->block, values, bytes));
    free(values);
}

static void run_twice(sequence_rig *rig, sequence_body body)
{
    const sky_traffic before = traffic(rig);
    rig->planned = (sky_traffic){0};
    rig->s.planned = &rig->planned;
    rig->planning = true;
    sky_arena_init_planning(&rig->arena);
    body(rig);
    expect_sent(rig, before, (sky_traffic){0}, "planning");

    const sky_traffic planned = rig->planned;
    const size_t bytes = rig->arena.peak_bytes;
    if (bytes + GUARD_BYTES > BLOCK_BYTES) {
        test_fail(__FILE__, __LINE__, "%s: %zu bytes wanted", rig->parameters, bytes);
        return; /* on all ranks: only their shares differ, and the largest size fits */
    }
    rig->planning = false;
    sky_arena_init(&rig->arena, rig->block, bytes);
    poison(rig, bytes + GUARD_BYTES);
    body(rig);
    expect_sent(rig, before, planned, "the body");
    if (rig->planned.bytes != planned.bytes || rig->planned.messages != planned.messages) {
        test_fail(__FILE__, __LINE__, "%s: what runs is counted as planned", rig->parameters);
    }
    unsigned char guard[GUARD_BYTES] = {0};
    sequence_rig_ok(rig, "the guard",
                    rig->ctx.backend->download(rig->ctx.device, guard, rig->block + bytes, GUARD_BYTES));
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        if (guard[i] != POISON) {
            test_fail(__FILE__, __LINE__, "%s: a byte was written behind the arena", rig->parameters);
            break;
        }
    }
}

typedef struct size_list {
    const int64_t *tokens, *heads;
    int num_tokens, num_heads;
} size_list;

static void run_sizes(sequence_rig *rig, sequence_body body, const size_list *sizes)
{
    for (int i = 0; i < sizes->num_tokens * sizes->num_heads; i++) {
        rig->s.num_tokens = sizes->tokens[i / sizes->num_heads];
        rig->s.num_heads = sizes->heads[i % sizes->num_heads];
        snprintf(rig->parameters, sizeof rig->parameters,
                 "%s, member %d of Ulysses %d x ring %d, %lld tokens, %lld heads", rig->ctx.backend->name,
                 sky_sequence_member(&rig->s), rig->s.ulysses_degree, rig->s.ring_degree, (long long)rig->s.num_tokens,
                 (long long)rig->s.num_heads);
        run_twice(rig, body);
    }
}

static void run_on(const sky_backend *backend, sequence_rig *rig, sequence_body body, const size_list *sizes)
{
    void *device = NULL;
    void *block = NULL;
    if (sky_device_open(backend, &(sky_device_options){.num_threads = 1}, &device) != SKY_OK ||
        backend->alloc(device, BLOCK_BYTES, &block) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "no rig: %s", sky_message());
    } else {
        rig->block = block;
        rig->ctx = (sky_ctx){.backend = backend, .device = device, .arena = &rig->arena};
        run_sizes(rig, body, sizes);
        sky_group_forget_device(rig->s.group);
        backend->free(device, block);
    }
    sky_device_close(backend, &device);
}

/* On late devices two sizes of a whole list: what they show does not depend on it. */
static void run_late(late_kind kind, sequence_rig *rig, sequence_body body, const size_list *sizes)
{
    static const int64_t tokens[] = {540};
    static const int64_t heads[] = {2, 5};
    const size_list few = {.tokens = tokens, .heads = heads, .num_tokens = 1, .num_heads = 2};
    run_on(late_backend(kind), rig, body, sizes->num_tokens * sizes->num_heads > 2 ? &few : sizes);
}

static void run_layout(const sky_rank_layout *layout, sequence_body body, const void *with, const size_list *sizes)
{
    sky_group *world = mpi_test_world();
    const sky_place place = sky_rank_layout_place(layout, sky_group_rank(world));
    sky_group *group = NULL;
    if (sky_group_split(world, place.branch_group, place.member, &group) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "no rig: %s", sky_message());
        return;
    }
    sequence_rig rig = {
        .s = {.group = group, .ulysses_degree = layout->ulysses_degree, .ring_degree = layout->ring_degree},
        .with = with};
    run_on(sky_backend_find("ref"), &rig, body, sizes);
    run_on(sky_backend_find("cpu"), &rig, body, sizes);
    for (int kind = 0; kind < LATE_NUM_KINDS; kind++) {
        run_late((late_kind)kind, &rig, body, sizes);
    }
    sky_group_destroy(&group);
}

static void run_layouts(sequence_body body, const void *with, const size_list *sizes)
{
    sky_rank_layout layouts[MOST_LAYOUTS];
    const int num = sky_rank_layout_list(sky_group_size(mpi_test_world()), 12, 2, layouts, MOST_LAYOUTS);
    for (int i = 0; i < num && i < MOST_LAYOUTS; i++) {
        run_layout(&layouts[i], body, with, sizes);
    }
}

void sequence_rig_run(sequence_body body, const void *with)
{
    static const int64_t tokens[] = {1, 105, 120, 128, 129, 540, 1000};
    static const int64_t heads[] = {1, 2, 3, 5, 12};
    run_layouts(body, with,
                &(size_list){.tokens = tokens,
                             .heads = heads,
                             .num_tokens = sizeof tokens / sizeof tokens[0],
                             .num_heads = sizeof heads / sizeof heads[0]});
}

void sequence_rig_run_size(sequence_body body, const void *with, int64_t num_tokens, int64_t num_heads)
{
    run_layouts(body, with, &(size_list){.tokens = &num_tokens, .heads = &num_heads, .num_tokens = 1, .num_heads = 1});
}
