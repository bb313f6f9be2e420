/*
 * Weights in groups: a model reads those of group 0 and of the group that it used last, and no others. The store's functions
 * are wrapped (CMakeLists.txt); once loaded, the tensors of every other group are no numbers.
 */
#include "model/fixture.h"
#include "model/late_pass.h"
#include "model/text_encoder.h"
#include "ops/cpu/cpu.h"
#include "support/test.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 1024, NO_NUMBER = 0xff, ARENA_BYTES = 64 << 20 };

typedef struct owned {
    unsigned char *data, *kept; /* its bytes while it is hidden */
    size_t bytes;
    int group;
    bool hidden;
} owned;

static struct {
    bool hides;
    int group, num_uses, num_tensors;
    owned tensors[MAX_TENSORS];
} seen;

sky_status __real_sky_weights_get(sky_weights *, const char *, const sky_weight_request *, sky_tensor *);
sky_status __real_sky_weights_get_8bit(sky_weights *, const char *, sky_dtype, int64_t, int64_t, sky_tensor *,
                                       sky_tensor *);
void __real_sky_weights_begin_group(sky_weights *, int);
sky_status __real_sky_weights_use(sky_ctx *, sky_weights *, int);

sky_status __wrap_sky_weights_get(sky_weights *, const char *, const sky_weight_request *, sky_tensor *);
sky_status __wrap_sky_weights_get_8bit(sky_weights *, const char *, sky_dtype, int64_t, int64_t, sky_tensor *,
                                       sky_tensor *);
void __wrap_sky_weights_begin_group(sky_weights *, int);
sky_status __wrap_sky_weights_use(sky_ctx *, sky_weights *, int);

static void note(const sky_tensor *t)
{
    SKY_ASSERT(seen.num_tensors < MAX_TENSORS);
    seen.tensors[seen.num_tensors++] = (owned){
        .data = t->data, .bytes = sky_tensor_bytes(t), .group = seen.group, .kept = malloc(sky_tensor_bytes(t))};
    SKY_ASSERT(seen.tensors[seen.num_tensors - 1].kept != NULL);
}

static void show_only(int group);

/* What the models ask for last: nothing has been used by then. */
static bool is_last(const char *name)
{
    return strcmp(name, "head.head.bias") == 0 || strcmp(name, "norm.weight") == 0;
}

sky_status __wrap_sky_weights_get(sky_weights *w, const char *name, const sky_weight_request *request, sky_tensor *out)
{
    SKY_TRY(__real_sky_weights_get(w, name, request, out));
    note(out);
    if (seen.hides && is_last(name)) {
        show_only(0);
    }
    return SKY_OK;
}

sky_status __wrap_sky_weights_get_8bit(sky_weights *w, const char *name, sky_dtype format, int64_t rows, int64_t cols,
                                       sky_tensor *codes, sky_tensor *scale)
{
    SKY_TRY(__real_sky_weights_get_8bit(w, name, format, rows, cols, codes, scale));
    note(codes);
    note(scale);
    return SKY_OK;
}

void __wrap_sky_weights_begin_group(sky_weights *w, int group)
{
    seen.group = group;
    __real_sky_weights_begin_group(w, group);
}

static void show_only(int group)
{
    for (int i = 0; i < seen.num_tensors; i++) {
        owned *t = &seen.tensors[i];
        const bool hidden = t->group != 0 && t->group != group;
        if (hidden && !t->hidden) {
            memcpy(t->kept, t->data, t->bytes);
            memset(t->data, NO_NUMBER, t->bytes);
        } else if (!hidden && t->hidden) {
            memcpy(t->data, t->kept, t->bytes);
        }
        t->hidden = hidden;
    }
}

sky_status __wrap_sky_weights_use(sky_ctx *ctx, sky_weights *w, int group)
{
    if (seen.hides && !sky_ctx_planning(ctx)) {
        show_only(group);
    }
    seen.num_uses++;
    return __real_sky_weights_use(ctx, w, group);
}

static void begin(bool hides)
{
    memset(&seen, 0, sizeof seen);
    seen.hides = hides;
}

static void end(void)
{
    for (int i = 0; i < seen.num_tensors; i++) {
        free(seen.tensors[i].kept);
    }
}

TEST(the_transformer_reads_what_it_used)
{
    static late_pass_result results[2];
    for (int a = 0; a < LATE_NUM_ARITHMETICS; a++) {
        test_parameters("arithmetic %d", a);
        for (int hides = 0; hides < 2; hides++) {
            begin(hides != 0);
            late_pass(
                NULL,
                &(late_pass_args){.backend = sky_backend_cpu(), .arithmetic = (late_arithmetic)a, .num_passes = 2},
                &results[hides]);
            EXPECT(results[hides].status == SKY_OK && seen.num_uses > 0 && seen.num_tensors > 0);
            end();
        }
        EXPECT(memcmp(results[0].velocity, results[1].velocity, sizeof results[0].velocity) == 0);
    }
}

TEST(the_text_encoder_reads_what_it_used)
{
    static const int32_t ids[] = {5, 300, 17, 990, 42, 1};
    float *outs[2] = {NULL, NULL};
    size_t bytes = 0;
    for (int hides = 0; hides < 2; hides++) {
        fixture f;
        sky_text_encoder *encoder = NULL;
        sky_tensor out = {0};
        begin(hides != 0);
        CHECK_OK(fixture_open(&f, FIXTURE_CPU, FIXTURE_ORIGINAL, SKY_TEXT_ENCODER, ARENA_BYTES));
        CHECK_OK(sky_text_encoder_create(&f.ctx, f.weights, SKY_BF16, true, &encoder));
        CHECK_OK(sky_ctx_tensor(&f.ctx, &out, SKY_BF16, 2, (int64_t[]){SKY_TEXT_LEN, sky_text_encoder_dim(encoder)}));
        CHECK_OK(
            sky_text_encoder_encode(&f.ctx, encoder, &(sky_text_encode_args){.ids = ids, .num_ids = 6, .out = out}));
        EXPECT(seen.num_uses == 3);
        bytes = (size_t)sky_tensor_len(&out) * sizeof(float);
        outs[hides] = fixture_to_f32(&out);
        sky_text_encoder_destroy(&encoder);
        fixture_close(&f);
        end();
    }
    EXPECT(memcmp(outs[0], outs[1], bytes) == 0);
    free(outs[0]);
    free(outs[1]);
}

TEST_MAIN
