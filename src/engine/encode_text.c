/* Prompts to the text encoder's output, on the host: by rank 0, which alone holds the encoder, for all ranks. */
#include "engine/render.h"
#include "text/text_clean.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct encode_job {
    const int32_t *ids;
    int64_t num_ids;
    void *host_out;
} encode_job;

static sky_status encode(sky_ctx *ctx, render *r, void *arg)
{
    const encode_job *job = arg;
    sky_tensor out = {0};
    SKY_TRY(sky_ctx_tensor(ctx, &out, r->compute, 2, (int64_t[]){SKY_TEXT_LEN, sky_text_encoder_dim(r->text_encoder)}));
    SKY_TRY(sky_text_encoder_encode(ctx, r->text_encoder,
                                    &(sky_text_encode_args){.ids = job->ids, .num_ids = job->num_ids, .out = out}));
    return sky_ctx_download(ctx, job->host_out, &out);
}

static sky_status tokenize(const sky_tokenizer *tokenizer, const char *text, int32_t *ids, int64_t *num_ids)
{
    char *clean = NULL;
    SKY_TRY(sky_text_clean(text, &clean));
    const sky_status st = sky_tokenizer_encode(tokenizer, clean, SKY_TEXT_LEN, ids, num_ids);
    free(clean);
    return st;
}

static sky_status encode_branch(render *r, const sky_tokenizer *tokenizer, int branch)
{
    int32_t ids[SKY_TEXT_LEN];
    encode_job job = {.ids = ids};
    const bool cond = branch == BRANCH_COND;
    const char *text = cond ? r->settings->prompt : r->settings->negative_prompt;
    SKY_TRY(sky_fail_in(tokenize(tokenizer, text, ids, &job.num_ids), cond ? "--prompt" : "--negative_prompt"));

    job.host_out = r->text[branch];
    r->result->num_text_tokens[branch] = job.num_ids;
    sky_arena arena = {0};
    sky_status st = sky_render_plan(r, encode, &job, &arena);
    if (st == SKY_OK) {
        st = sky_render_run(r, encode, &job, &arena);
    }
    sky_render_free_arena(r, &arena);
    return st;
}

static sky_status check_vocabulary(const sky_tokenizer *tokenizer, const sky_text_encoder *encoder)
{
    const int64_t ids = sky_tokenizer_vocab_size(tokenizer);
    const int64_t rows = sky_text_encoder_vocab_size(encoder);
    if (ids > rows) {
        return sky_fail(SKY_ERR_MISMATCH,
                        "the tokenizer has %" PRId64 " ids, the text encoder's embedding %" PRId64 " rows", ids, rows);
    }
    return SKY_OK;
}

sky_status sky_render_create_text_encoder(render *r, sky_weights *weights)
{
    return sky_text_encoder_create(&r->engine->ctx, weights, r->compute, r->settings->text_encoder_fp8,
                                   &r->text_encoder);
}

sky_status sky_render_peak_encode_text(render *r, int64_t num_ids, size_t *bytes)
{
    const int32_t ids[SKY_TEXT_LEN] = {0};
    encode_job job = {.ids = ids, .num_ids = num_ids};
    return sky_render_peak(r, encode, &job, bytes);
}

static sky_status encode_branches(render *r, const sky_tokenizer *tokenizer)
{
    const double start = sky_clock_seconds();
    SKY_TRY(sky_render_enter(r, SKY_PHASE_ENCODE_TEXT, 0));
    for (int branch = 0; branch < NUM_BRANCHES; branch++) {
        sky_render_progress(r, SKY_PHASE_ENCODE_TEXT, (uint64_t)branch, NUM_BRANCHES);
        SKY_TRY(encode_branch(r, tokenizer, branch));
    }
    sky_render_progress(r, SKY_PHASE_ENCODE_TEXT, NUM_BRANCHES, NUM_BRANCHES);
    r->result->seconds[SKY_PHASE_ENCODE_TEXT] = sky_clock_seconds() - start;
    return SKY_OK;
}

/* Rank 0 alone. */
static sky_status encode_all(render *r)
{
    sky_status st = SKY_OK;
    const sky_tokenizer *tokenizer = NULL;
    SKY_TRY_GOTO(sky_render_enter(r, SKY_PHASE_LOAD_TEXT_ENCODER, 0));
    SKY_TRY_GOTO(sky_render_tokenizer(r, &tokenizer));
    SKY_TRY_GOTO(sky_render_load(r, SKY_TEXT_ENCODER, SKY_PHASE_LOAD_TEXT_ENCODER, sky_render_create_text_encoder));
    SKY_TRY_GOTO(check_vocabulary(tokenizer, r->text_encoder));
    SKY_TRY_GOTO(encode_branches(r, tokenizer));
done:
    sky_render_unload(r, SKY_TEXT_ENCODER);
    return st;
}

static sky_status allocate(render *r)
{
    for (int branch = 0; branch < NUM_BRANCHES; branch++) {
        r->text[branch] = malloc(render_text_bytes(r));
        if (r->text[branch] == NULL) {
            return sky_fail(SKY_ERR_NOMEM, "text embedding: %zu bytes", render_text_bytes(r));
        }
    }
    return SKY_OK;
}

static sky_status observe(const render *r)
{
    for (int branch = 0; branch < NUM_BRANCHES; branch++) {
        SKY_TRY(sky_render_observe_text(r, branch));
    }
    return SKY_OK;
}

sky_status sky_render_encode_text(render *r)
{
    sky_group *group = r->engine->config.group;
    sky_status st = allocate(r);
    if (st == SKY_OK && render_is_first(r)) {
        st = encode_all(r);
    }
    SKY_TRY(sky_group_agree(group, st));
    for (int branch = 0; branch < NUM_BRANCHES; branch++) {
        SKY_TRY(sky_group_broadcast(group, 0, r->text[branch], render_text_bytes(r)));
    }
    return sky_group_agree(group, observe(r));
}
