#include "model/late_pass.h"

#include "model/transformer.h"
#include "support/compare.h"
#include "support/test.h"
#include "weights/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 64 << 20, NUM_HEADS = 2 };

static const sky_grid grid = {LATE_FRAMES, LATE_ROWS / 2,
                              LATE_COLS / 2}; /* 300 tokens: three groups, the last one short */

static const sky_arithmetic arithmetics[LATE_NUM_ARITHMETICS] = {
    [LATE_FP8] = {.compute = SKY_BF16, .linear = SKY_F8_E4M3, .attention_8bit = true},
    [LATE_INT8] = {.compute = SKY_BF16, .linear = SKY_I8, .attention_8bit = true},
    [LATE_BF16] = {.compute = SKY_BF16, .linear = SKY_BF16},
};

typedef struct machine {
    sky_ctx ctx;
    sky_arena arena;
    void *block;
    sky_checkpoint *checkpoint;
    sky_weights *weights;
    sky_transformer *model;
    sky_text_kv kv;
    sky_tensor latents, freqs, velocity;
    late_counts first; /* at the end of the first block */
    late_counts blocks;
    bool late;
} machine;

static sky_status open_machine(machine *m, const late_pass_args *args)
{
    *m = (machine){.ctx = {.backend = args->backend, .arena = &m->arena}};
    m->late = args->backend != sky_backend_find("cpu");
    SKY_TRY(sky_device_open(args->backend, &(sky_device_options){.num_threads = 1}, &m->ctx.device));
    SKY_TRY(args->backend->alloc(m->ctx.device, ARENA_BYTES, &m->block));
    sky_arena_init(&m->arena, m->block, ARENA_BYTES);
    SKY_TRY(sky_checkpoint_open(SKY_TEST_MODELS "/shapes-t2v", &m->checkpoint));
    SKY_TRY(sky_weights_create(&m->ctx, m->checkpoint, SKY_TRANSFORMER, NULL, &m->weights));
    return sky_transformer_create(m->weights, &arithmetics[args->arithmetic], &m->model);
}

static void close_machine(machine *m)
{
    sky_transformer_destroy(&m->model);
    sky_weights_destroy(&m->weights);
    sky_checkpoint_destroy(&m->checkpoint);
    if (m->block != NULL) {
        m->ctx.backend->free(m->ctx.device, m->block);
    }
    sky_device_close(m->ctx.backend, &m->ctx.device);
}

/* A tensor in the arena with values of test_random(seed). */
static sky_status random_tensor(machine *m, sky_dtype dtype, uint64_t seed, int num_dims, const int64_t *shape,
                                sky_tensor *out)
{
    SKY_TRY(sky_ctx_tensor(&m->ctx, out, dtype, num_dims, shape));
    const size_t len = (size_t)sky_tensor_len(out);
    float *values = malloc(len * sizeof *values);
    void *converted = malloc(sky_tensor_bytes(out));
    SKY_ASSERT(values != NULL && converted != NULL);
    test_fill_random(values, len, seed);
    SKY_ASSERT(sky_dtype_convert(converted, dtype, values, SKY_F32, len));
    const sky_status st = sky_ctx_upload(&m->ctx, out, converted);
    free(values);
    free(converted);
    return st;
}

static sky_status make_inputs(machine *m, const sky_sequence *sequence, sky_dtype compute)
{
    const sky_transformer_dims *d = sky_transformer_get_dims(m->model);
    const sky_span tokens = sky_sequence_own_tokens(sequence);
    const int64_t latents[] = {16, LATE_FRAMES, LATE_ROWS, LATE_COLS};
    sky_tensor text = {0};
    SKY_TRY(random_tensor(m, SKY_F32, 3, 4, latents, &m->latents));
    SKY_TRY(sky_ctx_tensor(&m->ctx, &m->velocity, SKY_F32, 4, latents));
    SKY_TRY(sky_ctx_tensor(&m->ctx, &m->freqs, SKY_F32, 3, (int64_t[]){tokens.count, d->head_dim / 2, 2}));
    float *freqs = malloc(sky_tensor_bytes(&m->freqs) + 1);
    SKY_ASSERT(freqs != NULL);
    sky_status st = sky_rope_fill(&grid, d->head_dim, tokens.first, tokens.count, freqs);
    if (st == SKY_OK) {
        st = sky_ctx_upload(&m->ctx, &m->freqs, freqs);
    }
    free(freqs);
    SKY_TRY(st);
    SKY_TRY(random_tensor(m, compute, 7, 2, (int64_t[]){SKY_TEXT_LEN, d->text_dim}, &text));
    return sky_transformer_condition(&m->ctx, m->model, &text, NULL, &m->kv);
}

static void add_difference(late_waits *sum, const late_waits *from, const late_waits *to)
{
    sum->syncs += to->syncs - from->syncs;
    sum->events += to->events - from->events;
    sum->copies += to->copies - from->copies;
    sum->frees += to->frees - from->frees;
}

static sky_status see(void *user, sky_ctx *ctx, const char *name, const sky_tensor *value)
{
    machine *m = user;
    char last[32];
    (void)value;
    snprintf(last, sizeof last, "block_%d", (int)sky_transformer_get_dims(m->model)->num_layers - 1);
    if (!m->late || sky_ctx_planning(ctx)) {
        return SKY_OK;
    }
    const late_counts now = late_device_counts(ctx->device);
    if (strcmp(name, "block_0") == 0) {
        m->first = now;
    } else if (strcmp(name, last) == 0) {
        add_difference(&m->blocks.outside, &m->first.outside, &now.outside);
        add_difference(&m->blocks.inside, &m->first.inside, &now.inside);
    }
    return SKY_OK;
}

static sky_status forward(machine *m, const sky_sequence *sequence, float timestep)
{
    const sky_observer observer = {.see = see, .user = m};
    return sky_transformer_forward(&m->ctx, m->model,
                                   &(sky_transformer_args){.velocity = m->velocity,
                                                           .latents = m->latents,
                                                           .freqs = m->freqs,
                                                           .timestep = timestep,
                                                           .kv = &m->kv,
                                                           .sequence = sequence,
                                                           .observer = &observer});
}

static sky_status run(machine *m, sky_group *group, const late_pass_args *args, late_pass_result *out)
{
    sky_sequence sequence = sky_sequence_whole(sky_grid_tokens(&grid), NUM_HEADS);
    if (group != NULL) {
        sequence.group = group;
        sequence.ulysses_degree = args->ulysses_degree;
        sequence.ring_degree = sky_group_size(group) / args->ulysses_degree;
        sequence.fast_ring = args->fast_ring;
    }
    SKY_TRY(make_inputs(m, &sequence, arithmetics[args->arithmetic].compute));
    for (int pass = 0; pass < args->num_passes; pass++) {
        SKY_TRY(forward(m, &sequence, 500.0F - 100.0F * (float)pass));
    }
    return sky_ctx_download(&m->ctx, out->velocity, &m->velocity);
}

void late_pass(sky_group *group, const late_pass_args *args, late_pass_result *out)
{
    machine m;
    out->status = open_machine(&m, args);
    if (group != NULL) {
        out->status = sky_group_agree(group, out->status);
    }
    if (out->status == SKY_OK) {
        out->status = run(&m, group, args, out);
    }
    if (out->status != SKY_OK) {
        snprintf(out->message, sizeof out->message, "%s", sky_message());
    }
    out->block = m.blocks;
    if (group != NULL) {
        (void)sky_group_barrier(group); /* what the others still fetch is fetched */
        sky_group_forget_device(group);
    }
    close_machine(&m);
}
