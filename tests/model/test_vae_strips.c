/*
 * Frames cut into strips: on 1 to 4 ranks, each with its rows only, the VAE gives the bytes that it gives on one, sends
 * what it said when planning, and takes the memory that it said.
 */
#include "model/vae.h"
#include "ops/backend.h"
#include "ops/cpu/cpu.h"
#include "ops/ref/ref.h"
#include "parallel/mpi_main.h"
#include "support/compare.h"
#include "support/late.h"
#include "support/test.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MODEL SKY_TEST_MODELS "/shapes-t2v"

typedef enum backend_kind { REF, CPU, SENSITIVE, LATE } backend_kind; /* LATE and on: late devices, by kind */

/*
 * The CPU backend, but for what the contracts allow and no backend does: a row of linear depends on its place within a
 * piece, and so does a query of attention.
 */
static void add_place(const sky_tensor *y, int64_t piece)
{
    const int64_t row_len = sky_tensor_len(y) / y->shape[0];
    float *values = y->data;
    for (int64_t i = 0; i < sky_tensor_len(y); i++) {
        values[i] += 1e-3F * (float)(i / row_len % piece);
    }
}

static sky_status sensitive_linear(sky_ctx *ctx, const sky_linear_args *args, void *scratch)
{
    SKY_TRY(sky_backend_cpu()->linear(ctx, args, scratch));
    add_place(&args->y, SKY_LINEAR_PIECE_ROWS);
    return SKY_OK;
}

static sky_status sensitive_attention(sky_ctx *ctx, const sky_attention_args *args, void *scratch)
{
    SKY_TRY(sky_backend_cpu()->attention(ctx, args, scratch));
    add_place(&args->y, SKY_ATTENTION_PIECE_ROWS);
    return SKY_OK;
}

/* `table` is the fixture's, where a backend of its own is wanted. */
static const sky_backend *backend_of(backend_kind kind, sky_backend *table)
{
    if (kind >= LATE) {
        return late_backend((late_kind)(kind - LATE));
    }
    if (kind != SENSITIVE) {
        return kind == REF ? sky_backend_ref() : sky_backend_cpu();
    }
    *table = *sky_backend_cpu();
    table->linear = sensitive_linear;
    table->attention = sensitive_attention;
    return table;
}

/* One case on one rank. The group holds the ranks that have rows; it is NULL on the others. */
typedef struct fixture {
    sky_ctx ctx;
    sky_backend own_backend;
    sky_arena arena;
    sky_checkpoint *checkpoint;
    sky_weights *weights;
    sky_vae *vae;
    sky_group *group;
    sky_strips strips;
    sky_traffic planned;
    int64_t num_frames, height, width; /* of the latents, whole */
} fixture;

static sky_status load(fixture *f, backend_kind kind, sky_dtype compute)
{
    f->ctx = (sky_ctx){.backend = backend_of(kind, &f->own_backend), .arena = &f->arena};
    SKY_TRY(sky_device_open(f->ctx.backend, &(sky_device_options){.num_threads = 1}, &f->ctx.device));
    SKY_TRY(sky_checkpoint_open(MODEL, &f->checkpoint));
    SKY_TRY(sky_weights_create(&f->ctx, f->checkpoint, SKY_VAE, NULL, &f->weights));
    return sky_vae_create(f->weights, compute, true, &f->vae);
}

/* False where there is nothing to do for this rank: it has no rows. */
static bool setup(fixture *f, backend_kind kind, sky_dtype compute, int64_t num_frames, int64_t height, int64_t width)
{
    sky_group *world = mpi_test_world();
    const int rank = sky_group_rank(world);
    test_parameters("%s %s, %" PRId64 " latent frames of %" PRId64 " x %" PRId64 ", rank %d of %d",
                    kind == SENSITIVE ? "cpu, sensitive to places" : backend_of(kind, NULL)->name,
                    sky_dtype_name(compute), num_frames, height, width, rank, sky_group_size(world));
    *f = (fixture){.num_frames = num_frames, .height = height, .width = width};
    sky_status st = load(f, kind, compute);
    st = sky_group_agree(world, st);
    if (st != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s", sky_message());
        return false;
    }
    if (sky_group_split(world, rank < height ? 0 : -1, 0, &f->group) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s", sky_message());
        return false;
    }
    f->strips = (sky_strips){.group = f->group, .latent_rows = height, .planned = &f->planned};
    return f->group != NULL;
}

static void teardown(fixture *f)
{
    sky_group_destroy(&f->group);
    sky_vae_destroy(&f->vae);
    sky_weights_destroy(&f->weights);
    sky_checkpoint_destroy(&f->checkpoint);
    sky_device_close(f->ctx.backend, &f->ctx.device);
}

/* An array whose rows are partitioned: [planes, rows, row_bytes]. */
typedef struct picture {
    int64_t planes, rows;
    size_t row_bytes;
    unsigned char *data;
} picture;

static picture new_picture(int64_t planes, int64_t rows, size_t row_bytes)
{
    picture p = {.planes = planes, .rows = rows, .row_bytes = row_bytes};
    p.data = calloc((size_t)(planes * rows), row_bytes);
    SKY_ASSERT(p.data != NULL);
    return p;
}

/* This rank's rows of an array with `scale` rows for a row of latents; the caller frees them. */
static picture own_rows(const fixture *f, const picture *whole, int64_t scale)
{
    const sky_span own = sky_strips_own(&f->strips);
    picture part = new_picture(whole->planes, scale * own.count, whole->row_bytes);
    const size_t part_bytes = (size_t)part.rows * part.row_bytes;
    for (int64_t p = 0; p < part.planes; p++) {
        memcpy(part.data + (size_t)p * part_bytes,
               whole->data + (size_t)(p * whole->rows + scale * own.first) * whole->row_bytes, part_bytes);
    }
    return part;
}

static void expect_same(const char *what, const picture *got, const picture *want)
{
    for (int64_t i = 0; i < got->planes * got->rows; i++) {
        const size_t at = (size_t)i * got->row_bytes;
        if (memcmp(got->data + at, want->data + at, got->row_bytes) != 0) {
            test_fail(__FILE__, __LINE__, "%s: plane %" PRId64 ", row %" PRId64 " of the strip's %" PRId64 " differs",
                      what, i / got->rows, i % got->rows, got->rows);
            return;
        }
    }
}

typedef sky_status (*vae_call)(sky_ctx *ctx, const sky_vae *vae, const sky_vae_args *args);

static void expect_ok(sky_status st)
{
    if (st != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s: %s", sky_status_name(st), sky_message());
    }
}

/* Device memory with a copy of what is on the host. */
static void *device_copy(const fixture *f, const void *host, size_t bytes)
{
    void *block = NULL;
    expect_ok(f->ctx.backend->alloc(f->ctx.device, bytes, &block));
    expect_ok(f->ctx.backend->upload(f->ctx.device, block, host, bytes));
    return block;
}

static void copy_back(const fixture *f, void *host, void *block, size_t bytes)
{
    expect_ok(f->ctx.backend->download(f->ctx.device, host, block, bytes));
    f->ctx.backend->free(f->ctx.device, block);
}

/* args, whose arrays are on the host, with copies on the device; in an arena of so many bytes. */
static void run_on_device(fixture *f, vae_call what, const sky_vae_args *args, size_t arena_bytes)
{
    sky_vae_args on_device = *args;
    const size_t latents_bytes = sky_tensor_bytes(&args->latents);
    const size_t frames_bytes = sky_tensor_bytes(&args->frames);
    unsigned char *nans = malloc(arena_bytes + 1);
    SKY_ASSERT(nans != NULL);
    memset(nans, 0xff, arena_bytes); /* NaN: what is read must have been written */
    void *block = device_copy(f, nans, arena_bytes);
    free(nans);
    on_device.latents.data = device_copy(f, args->latents.data, latents_bytes);
    on_device.frames.data = device_copy(f, args->frames.data, frames_bytes);
    sky_arena_init(&f->arena, block, arena_bytes);
    expect_ok(what(&f->ctx, f->vae, &on_device));
    copy_back(f, args->latents.data, on_device.latents.data, latents_bytes);
    copy_back(f, args->frames.data, on_device.frames.data, frames_bytes);
    f->ctx.backend->free(f->ctx.device, block);
}

/* Plans, then runs in an arena of just that size. Collective where there are strips, whatever goes wrong. */
static void call(fixture *f, vae_call what, const sky_vae_args *args)
{
    f->planned = (sky_traffic){0};
    sky_arena_init_planning(&f->arena);
    const sky_traffic before = sky_group_traffic(f->group);
    expect_ok(what(&f->ctx, f->vae, args));
    const size_t planned_bytes = f->arena.peak_bytes;
    sky_traffic sent = sky_group_traffic(f->group);
    EXPECT(sent.bytes == before.bytes && sent.messages == before.messages);

    run_on_device(f, what, args, planned_bytes);
    EXPECT(f->arena.used_bytes == 0 && f->arena.peak_bytes == planned_bytes);
    sent = sky_group_traffic(f->group);
    if (sent.bytes - before.bytes != f->planned.bytes || sent.messages - before.messages != f->planned.messages) {
        test_fail(__FILE__, __LINE__, "planned %" PRIu64 " bytes in %" PRIu64 " messages, sent %" PRIu64 " in %" PRIu64,
                  f->planned.bytes, f->planned.messages, sent.bytes - before.bytes, sent.messages - before.messages);
    }
}

static sky_tensor latents_tensor(const fixture *f, const picture *p)
{
    return SKY_TENSOR(p->data, SKY_F32, 16, f->num_frames, p->rows, f->width);
}

static sky_tensor frames_tensor(const fixture *f, const picture *p, bool u8)
{
    const int64_t count = 4 * f->num_frames - 3;
    return u8 ? SKY_TENSOR(p->data, SKY_U8, count, p->rows, 8 * f->width, 3)
              : SKY_TENSOR(p->data, SKY_F32, 3, count, p->rows, 8 * f->width);
}

static picture new_latents(const fixture *f, int64_t rows)
{
    return new_picture(16 * f->num_frames, rows, (size_t)f->width * sizeof(float));
}

static picture new_frames(const fixture *f, int64_t rows, bool u8)
{
    const int64_t count = 4 * f->num_frames - 3;
    const size_t row_len = 8 * (size_t)f->width;
    return u8 ? new_picture(count, rows, 3 * row_len) : new_picture(3 * count, rows, row_len * sizeof(float));
}

static void fill(const picture *p, uint64_t seed)
{
    test_fill_random((float *)(void *)p->data, (size_t)(p->planes * p->rows) * p->row_bytes / sizeof(float), seed);
}

static void check_decode(fixture *f, bool u8)
{
    const picture latents = new_latents(f, f->height);
    const picture frames = new_frames(f, 8 * f->height, u8);
    fill(&latents, 1);
    const picture own_latents = own_rows(f, &latents, 1);
    const picture own_frames = new_frames(f, 8 * own_latents.rows, u8);
    call(f, sky_vae_decode,
         &(sky_vae_args){.latents = latents_tensor(f, &latents), .frames = frames_tensor(f, &frames, u8)});
    call(f, sky_vae_decode,
         &(sky_vae_args){.latents = latents_tensor(f, &own_latents),
                         .frames = frames_tensor(f, &own_frames, u8),
                         .strips = &f->strips});
    EXPECT((f->planned.messages > 0) == (sky_group_size(f->group) > 1));
    const picture want = own_rows(f, &frames, 8);
    expect_same(u8 ? "bytes" : "frames", &own_frames, &want);
    free(latents.data);
    free(frames.data);
    free(own_latents.data);
    free(own_frames.data);
    free(want.data);
}

static void check_encode(fixture *f)
{
    const picture frames = new_frames(f, 8 * f->height, false);
    const picture latents = new_latents(f, f->height);
    fill(&frames, 2);
    const picture own_frames = own_rows(f, &frames, 8);
    const picture own_latents = new_latents(f, own_frames.rows / 8);
    call(f, sky_vae_encode,
         &(sky_vae_args){.latents = latents_tensor(f, &latents), .frames = frames_tensor(f, &frames, false)});
    call(f, sky_vae_encode,
         &(sky_vae_args){.latents = latents_tensor(f, &own_latents),
                         .frames = frames_tensor(f, &own_frames, false),
                         .strips = &f->strips});
    const picture want = own_rows(f, &latents, 1);
    expect_same("latents", &own_latents, &want);
    free(frames.data);
    free(latents.data);
    free(own_frames.data);
    free(own_latents.data);
    free(want.data);
}

static void check(backend_kind kind, sky_dtype compute, int64_t num_frames, int64_t height, int64_t width)
{
    fixture f;
    if (setup(&f, kind, compute, num_frames, height, width)) {
        check_decode(&f, true);
        check_decode(&f, false);
        check_encode(&f);
    }
    teardown(&f);
}

TEST(rows_that_do_not_divide)
{
    check(CPU, SKY_F32, 3, 5, 4);
    check(CPU, SKY_BF16, 3, 5, 4);
}

TEST(rows_that_divide)
{
    check(CPU, SKY_F32, 4, 4, 3);
    check(CPU, SKY_BF16, 3, 4, 3);
}

/* Ranks without a row take no part. */
TEST(fewer_rows_than_ranks)
{
    check(CPU, SKY_F32, 3, 3, 2);
    check(CPU, SKY_BF16, 3, 1, 2);
}

/* Positions of a frame in several pieces of the middle's attention, whose cuts are in the middle of strips. */
TEST(pieces_across_strips)
{
    fixture f;
    if (setup(&f, SENSITIVE, SKY_F32, 1, 5, 40)) {
        check_decode(&f, true);
        check_encode(&f);
    }
    teardown(&f);
}

TEST(late_devices)
{
    for (int kind = 0; kind < LATE_NUM_KINDS; kind++) {
        check((backend_kind)(LATE + kind), SKY_BF16, 2, 3, 2);
    }
}

/* Slow: each rank computes whole frames as well. */
TEST(reference)
{
    check(REF, SKY_F32, 2, 3, 1);
    check(REF, SKY_BF16, 1, 2, 1);
}

/* A rank whose computation has failed goes through all exchanges; the others do not wait. */
TEST(a_failed_rank_keeps_exchanging)
{
    fixture f;
    if (setup(&f, CPU, SKY_F32, 2, 4, 3)) {
        const picture own_latents = new_latents(&f, sky_strips_own(&f.strips).count);
        const picture own_frames = new_frames(&f, 8 * own_latents.rows, true);
        const sky_vae_args args = {.latents = latents_tensor(&f, &own_latents),
                                   .frames = frames_tensor(&f, &own_frames, true),
                                   .strips = &f.strips};
        sky_arena_init_planning(&f.arena);
        expect_ok(sky_vae_decode(&f.ctx, f.vae, &args));
        const size_t planned_bytes = f.arena.peak_bytes;
        void *block = aligned_alloc(SKY_ARENA_ALIGNMENT_BYTES, planned_bytes);
        SKY_ASSERT(block != NULL);
        memset(block, 0, planned_bytes);
        sky_arena_init(&f.arena, block, planned_bytes);

        sky_held held;
        sky_ctx_hold(&f.ctx, &held);
        if (sky_group_rank(f.group) == 0) {
            expect_ok(sky_ctx_keep(&f.ctx, sky_fail(SKY_ERR_DEVICE, "on purpose")));
        }
        const sky_traffic before = sky_group_traffic(f.group);
        f.planned = (sky_traffic){0};
        expect_ok(sky_vae_decode(&f.ctx, f.vae, &args));
        EXPECT(sky_group_size(f.group) == 1 || sky_group_traffic(f.group).messages > before.messages);
        sky_status st = sky_ctx_release(&f.ctx);
        EXPECT(st == (sky_group_rank(f.group) == 0 ? SKY_ERR_DEVICE : SKY_OK));
        st = sky_group_agree(f.group, st);
        EXPECT(st == SKY_ERR_DEVICE && strstr(sky_message(), "on purpose") != NULL);
        free(block);
        free(own_latents.data);
        free(own_frames.data);
    }
    teardown(&f);
}

/* Rows that are not this rank's strip are refused before anything is sent, on every rank alike. */
TEST(rows_that_are_no_strip_are_refused)
{
    fixture f;
    if (setup(&f, CPU, SKY_F32, 1, 4, 3)) {
        const picture latents = new_latents(&f, 6);
        const picture frames = new_frames(&f, 8 * 6, true);
        sky_arena_init_planning(&f.arena);
        const sky_status st = sky_vae_decode(&f.ctx, f.vae,
                                             &(sky_vae_args){.latents = latents_tensor(&f, &latents),
                                                             .frames = frames_tensor(&f, &frames, true),
                                                             .strips = &f.strips});
        EXPECT(st == SKY_ERR_SHAPE && strstr(sky_message(), "rows of this rank's strip") != NULL);
        free(latents.data);
        free(frames.data);
    }
    teardown(&f);
}

/* What a row of whole frames [T, rows, W, C] holds: whole numbers that name frame and row. */
static float row_value(int64_t t, int64_t row)
{
    return (float)(100 * t + row + 1);
}

enum { T = 3, ROW_LEN = 2 * 3, SCALE = 2, MOST_ROWS = 64 };

/* Own rows hold their values, room for others a poison; wanted sides arrive, nothing else changes. */
static void check_exchange(fixture *f, int above, int below)
{
    const sky_span own = sky_strips_own(&f->strips);
    const int64_t a = above && sky_strips_above(&f->strips);
    const int64_t b = below && sky_strips_below(&f->strips);
    const int64_t rows = a + SCALE * own.count + b;
    float x[T * MOST_ROWS * ROW_LEN];
    SKY_ASSERT(rows <= MOST_ROWS);
    for (int64_t i = 0; i < T * rows * ROW_LEN; i++) {
        const int64_t row = i / ROW_LEN % rows;
        const bool is_own = row >= a && row < rows - b;
        x[i] = is_own ? row_value(i / ROW_LEN / rows, SCALE * own.first + row - a) : -1;
    }
    unsigned char block[16 * 1024] __attribute__((aligned(SKY_ARENA_ALIGNMENT_BYTES)));
    sky_arena_init(&f->arena, block, sizeof block);
    const sky_tensor tensor = SKY_TENSOR(x, SKY_F32, T, rows, 2, ROW_LEN / 2);
    expect_ok(sky_strips_exchange(&f->ctx, &f->strips, &tensor, above, below));
    EXPECT(f->arena.used_bytes == 0);
    for (int64_t i = 0; i < T * rows * ROW_LEN; i++) {
        const float want = row_value(i / ROW_LEN / rows, SCALE * own.first + i / ROW_LEN % rows - a);
        if (x[i] != want) {
            test_fail(__FILE__, __LINE__, "above %d, below %d: element %" PRId64 ": want %g, got %g", above, below, i,
                      (double)want, (double)x[i]);
            return;
        }
    }
}

static void check_gather(fixture *f)
{
    const sky_span own = sky_strips_own(&f->strips);
    float mine[MOST_ROWS * ROW_LEN];
    float all[MOST_ROWS * ROW_LEN];
    SKY_ASSERT(SCALE * f->height <= MOST_ROWS);
    for (int64_t i = 0; i < SCALE * own.count * ROW_LEN; i++) {
        mine[i] = row_value(0, SCALE * own.first + i / ROW_LEN);
    }
    const sky_tensor mine_tensor = SKY_TENSOR(mine, SKY_F32, SCALE * own.count, 2, ROW_LEN / 2);
    const sky_tensor all_tensor = SKY_TENSOR(all, SKY_F32, SCALE * f->height, 2, ROW_LEN / 2);
    memset(all, 0xff, sizeof all);
    expect_ok(sky_strips_gather(&f->ctx, &f->strips, &mine_tensor, &all_tensor));
    for (int64_t i = 0; i < SCALE * f->height * ROW_LEN; i++) {
        if (all[i] != row_value(0, i / ROW_LEN)) {
            test_fail(__FILE__, __LINE__, "element %" PRId64 " of all rows: got %g", i, (double)all[i]);
            return;
        }
    }
}

TEST(rows_of_neighbours)
{
    fixture f;
    if (setup(&f, CPU, SKY_F32, 1, 7, 3)) {
        check_exchange(&f, 1, 1);
        check_exchange(&f, 0, 1);
        check_exchange(&f, 1, 0);
        check_exchange(&f, 0, 0);
        check_gather(&f);
    }
    teardown(&f);
}
