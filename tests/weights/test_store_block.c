/*
 * A store in one block, and its way to a device whose memory is not the host's: the same bytes, from any number of threads, in
 * pieces of any length.
 */
#include "ops/cpu/cpu.h"
#include "support/test.h"
#include "weights/convert_files.h"
#include "weights/store.h"

#include <stdlib.h>
#include <string.h>

/* ---- a device that is late: copies happen when somebody waits for them ---- */

struct sky_event {
    int mark; /* copies that were enqueued before it */
};

typedef struct late_copy {
    void *to;
    const void *from;
    size_t bytes;
} late_copy;

enum { MAX_COPIES = 4096, POISON = 0xa5 };

static struct {
    late_copy copies[MAX_COPIES];
    int num, done;
    int seen; /* by the compute queue */
    int num_allocs, num_host_allocs, num_live;
    size_t host_bytes; /* of each buffer */
} late;

static void run_copies(int end)
{
    for (; late.done < end; late.done++) {
        const late_copy *c = &late.copies[late.done];
        memcpy(c->to, c->from, c->bytes);
    }
}

static sky_status late_alloc(void *device, size_t bytes, void **out)
{
    SKY_TRY(sky_backend_cpu()->alloc(device, bytes, out));
    memset(*out, POISON, bytes);
    late.num_allocs++;
    late.num_live++;
    return SKY_OK;
}

static void late_free(void *device, void *block)
{
    run_copies(late.num);
    sky_backend_cpu()->free(device, block);
    late.num_live--;
}

static sky_status late_host_alloc(void *device, size_t bytes, void **out)
{
    late.num_host_allocs++;
    late.num_live++;
    late.host_bytes = bytes;
    return sky_backend_cpu()->host_alloc(device, bytes, out);
}

static void late_host_free(void *device, void *block)
{
    const unsigned char *first = block;
    const unsigned char *end = first + late.host_bytes;
    for (int i = late.done; i < late.num; i++) { /* its copies have been waited for */
        const unsigned char *from = late.copies[i].from;
        EXPECT(from < first || from >= end);
    }
    sky_backend_cpu()->host_free(device, block);
    late.num_live--;
}

static sky_status late_upload_begin(void *device, sky_queue queue, void *to, const void *host, size_t bytes)
{
    (void)device;
    SKY_ASSERT(queue == SKY_QUEUE_COPY && late.num < MAX_COPIES);
    late.copies[late.num++] = (late_copy){.to = to, .from = host, .bytes = bytes};
    return SKY_OK;
}

static sky_status late_event_create(void *device, sky_event **out)
{
    (void)device;
    *out = calloc(1, sizeof **out);
    late.num_live++;
    return *out != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "an event");
}

static void late_event_destroy(void *device, sky_event **event)
{
    (void)device;
    free(*event);
    *event = NULL;
    late.num_live--;
}

static sky_status late_event_record(void *device, sky_event *event, sky_queue queue)
{
    (void)device;
    SKY_ASSERT(queue == SKY_QUEUE_COPY);
    event->mark = late.num;
    return SKY_OK;
}

static sky_status late_event_wait(void *device, sky_queue queue, sky_event *event)
{
    (void)device;
    SKY_ASSERT(queue == SKY_QUEUE_COMPUTE);
    late.seen = event->mark > late.seen ? event->mark : late.seen;
    return SKY_OK;
}

static sky_status late_event_sync(void *device, sky_event *event)
{
    (void)device;
    run_copies(event->mark);
    return SKY_OK;
}

/* On the compute queue, which sees what it was told to wait for. */
static sky_status late_download(void *device, void *host, const void *from, size_t bytes)
{
    (void)device;
    run_copies(late.seen);
    memcpy(host, from, bytes);
    return SKY_OK;
}

static sky_backend late_backend(void)
{
    sky_backend backend = *sky_backend_cpu();
    backend.host_memory = false;
    backend.alloc = late_alloc;
    backend.free = late_free;
    backend.host_alloc = late_host_alloc;
    backend.host_free = late_host_free;
    backend.upload_begin = late_upload_begin;
    backend.event_create = late_event_create;
    backend.event_destroy = late_event_destroy;
    backend.event_record = late_event_record;
    backend.event_wait = late_event_wait;
    backend.event_sync = late_event_sync;
    backend.download = late_download;
    memset(&late, 0, sizeof late);
    return backend;
}

/* ---- what is asked for: every way that a tensor can pass ---- */

enum { MAX_TENSORS = 16 };

typedef struct answers {
    sky_tensor tensors[MAX_TENSORS];
    int num;
} answers;

static sky_status ask(sky_weights *w, const char *name, sky_dtype dtype, bool round_bf16, bool conv, answers *a)
{
    sky_weight_request request = {.dtype = dtype, .round_bf16 = round_bf16};
    SKY_ASSERT(sky_weights_shape(w, name, &request.num_dims, request.shape) && a->num < MAX_TENSORS);
    return (conv ? sky_weights_get_conv : sky_weights_get)(w, name, &request, &a->tensors[a->num++]);
}

static sky_status ask_8bit(sky_weights *w, const char *name, sky_dtype format, answers *a)
{
    int num_dims = 0;
    int64_t shape[SKY_MAX_DIMS];
    SKY_ASSERT(sky_weights_shape(w, name, &num_dims, shape) && num_dims == 2 && a->num + 2 <= MAX_TENSORS);
    a->num += 2;
    return sky_weights_get_8bit(w, name, format, shape[0], shape[1], &a->tensors[a->num - 2], &a->tensors[a->num - 1]);
}

static sky_status ask_vae(sky_weights *w, answers *a)
{
    static const char conv[] = "decoder.upsamples.4.residual.2.weight";
    SKY_TRY(ask(w, conv, SKY_F32, false, false, a));
    SKY_TRY(ask(w, conv, SKY_BF16, false, false, a));
    SKY_TRY(ask(w, conv, SKY_F32, true, false, a));
    SKY_TRY(ask(w, conv, SKY_F32, false, true, a));
    SKY_TRY(ask(w, conv, SKY_BF16, false, true, a));
    SKY_TRY(ask(w, conv, SKY_F32, true, true, a));
    return ask(w, "decoder.upsamples.3.resample.1.weight", SKY_F32, false, true, a);
}

static sky_status ask_text_encoder(sky_weights *w, answers *a)
{
    SKY_TRY(ask(w, "token_embedding.weight", SKY_BF16, false, false, a));
    return ask_8bit(w, "blocks.0.ffn.fc1.weight", SKY_F8_E4M3, a);
}

static sky_status ask_transformer(sky_weights *w, answers *a)
{
    SKY_TRY(ask(w, "blocks.0.ffn.0.bias", SKY_F32, true, false, a));
    sky_weights_begin_group(w, 3);
    SKY_TRY(ask_8bit(w, "blocks.0.ffn.0.weight", SKY_F8_E4M3, a));
    sky_weights_begin_group(w, 0);
    return ask(w, "head.head.weight", SKY_F32, false, false, a);
}

static sky_status ask_for(sky_component component, sky_weights *w, answers *a)
{
    *a = (answers){0};
    return component == SKY_VAE            ? ask_vae(w, a)
           : component == SKY_TEXT_ENCODER ? ask_text_encoder(w, a)
                                           : ask_transformer(w, a);
}

/* The bytes of all answers, one behind the other; the caller frees them. */
static unsigned char *bytes_of(const sky_ctx *ctx, const answers *a, size_t *len)
{
    *len = 0;
    for (int i = 0; i < a->num; i++) {
        *len += sky_tensor_bytes(&a->tensors[i]);
    }
    unsigned char *all = malloc(*len);
    unsigned char *to = all;
    SKY_ASSERT(all != NULL);
    for (int i = 0; i < a->num; i++) {
        const size_t bytes = sky_tensor_bytes(&a->tensors[i]);
        SKY_ASSERT(ctx->backend->download(ctx->device, to, a->tensors[i].data, bytes) == SKY_OK);
        to += bytes;
    }
    return all;
}

/* ---- the ways ---- */

typedef struct way {
    const char *name;
    bool late, planned;
    int num_threads;
    uint64_t piece_bytes;
} way;

static const way ways[] = {{"by itself", false, false, 1, 0},       {"a block", false, true, 1, 0},
                           {"small pieces", false, true, 3, 4096},  {"apart", true, true, 1, 0},
                           {"apart, by itself", true, false, 2, 0}, {"apart, small pieces", true, true, 3, 4096}};

static sky_status plan_store(const sky_backend *backend, const sky_checkpoint *checkpoint, sky_component component,
                             const sky_weights_options *options, sky_weights **planned)
{
    answers ignored;
    sky_arena arena;
    sky_ctx ctx = {.backend = backend, .arena = &arena};
    sky_arena_init_planning(&arena);
    SKY_TRY(sky_weights_create(&ctx, checkpoint, component, options, planned));
    return ask_for(component, *planned, &ignored);
}

static void check_block(const answers *a, const sky_weights *w, const sky_weights *planned)
{
    uint64_t bytes = 0;
    const unsigned char *first = a->tensors[0].data;
    for (int i = 0; i < a->num; i++) {
        const sky_tensor *t = &a->tensors[i];
        const unsigned char *data = t->data;
        const uint64_t alignment = SKY_ARENA_ALIGNMENT_BYTES;
        bytes += (sky_tensor_bytes(t) + alignment - 1) / alignment * alignment;
        first = data < first ? data : first;
        EXPECT((uintptr_t)data % alignment == 0);
    }
    EXPECT(sky_weights_bytes(w) == bytes && sky_weights_bytes(planned) == bytes);
    for (int i = 0; i < a->num; i++) {
        const unsigned char *data = a->tensors[i].data;
        EXPECT(data + sky_tensor_bytes(&a->tensors[i]) <= first + bytes);
    }
    EXPECT(sky_weights_staging_bytes(w) == sky_weights_staging_bytes(planned));
}

static unsigned char *run_way(const sky_checkpoint *checkpoint, sky_component component, const way *y, size_t *len)
{
    unsigned char *all = NULL;
    const sky_backend backend = y->late ? late_backend() : *sky_backend_cpu();
    sky_weights_options options = {.num_threads = y->num_threads, .piece_bytes = y->piece_bytes};
    sky_ctx ctx = {.backend = &backend};
    sky_weights *planned = NULL;
    sky_weights *weights = NULL;
    answers a;
    if (plan_store(&backend, checkpoint, component, &options, &planned) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "planning: %s", sky_message());
        return NULL;
    }
    options.planned = y->planned ? planned : NULL;
    if (sky_weights_create(&ctx, checkpoint, component, &options, &weights) != SKY_OK ||
        ask_for(component, weights, &a) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "loading: %s", sky_message());
        return NULL;
    }
    if (y->planned) {
        check_block(&a, weights, planned);
    }
    if (y->late) {
        EXPECT(late.num_allocs == (y->planned ? 1 : a.num));
        EXPECT(!y->planned || late.num_host_allocs == 2);
    }
    all = bytes_of(&ctx, &a, len); /* loading need not be over */
    EXPECT(sky_weights_end_loading(weights) == SKY_OK);
    sky_weights_destroy(&weights);
    sky_weights_destroy(&planned);
    EXPECT(late.num_live == 0);
    return all;
}

TEST(every_way_gives_the_same_bytes)
{
    static const char *const folders[] = {ORIGINAL, DIFFUSERS};
    for (size_t f = 0; f < sizeof folders / sizeof folders[0]; f++) {
        sky_checkpoint *checkpoint = NULL;
        CHECK_OK(sky_checkpoint_open(folders[f], &checkpoint));
        for (int component = 0; component < SKY_COMPONENT_COUNT; component++) {
            unsigned char *want = NULL;
            size_t want_len = 0;
            for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
                size_t len = 0;
                test_parameters("%s, %s, %s", folders[f], sky_component_name((sky_component)component), ways[i].name);
                unsigned char *got = run_way(checkpoint, (sky_component)component, &ways[i], &len);
                CHECK(got != NULL);
                if (want == NULL) {
                    want = got;
                    want_len = len;
                    continue;
                }
                EXPECT(len == want_len && memcmp(got, want, len) == 0);
                free(got);
            }
            free(want);
        }
        sky_checkpoint_destroy(&checkpoint);
    }
}

TEST(a_converted_folder_too)
{
    sky_checkpoint *checkpoint = NULL;
    unsigned char *want = NULL;
    size_t want_len = 0;
    CHECK_OK(sky_checkpoint_open(converted_folder("block", DIFFUSERS, SKY_F8_E4M3, 1), &checkpoint));
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        size_t len = 0;
        test_parameters("%s", ways[i].name);
        unsigned char *got = run_way(checkpoint, SKY_TRANSFORMER, &ways[i], &len);
        CHECK(got != NULL);
        if (want == NULL) {
            want = got;
            want_len = len;
            continue;
        }
        EXPECT(len == want_len && memcmp(got, want, len) == 0);
        free(got);
    }
    free(want);
    sky_checkpoint_destroy(&checkpoint);
}

TEST(groups_are_counted_and_known)
{
    const sky_backend *backend = sky_backend_cpu();
    sky_checkpoint *checkpoint = NULL;
    sky_weights *planned = NULL;
    CHECK_OK(sky_checkpoint_open(DIFFUSERS, &checkpoint));
    CHECK_OK(plan_store(backend, checkpoint, SKY_TRANSFORMER, NULL, &planned));
    EXPECT(sky_weights_group_bytes(planned, 3) > 0 && sky_weights_group_bytes(planned, 1) == 0);
    EXPECT(sky_weights_group_bytes(planned, 0) + sky_weights_group_bytes(planned, 3) == sky_weights_bytes(planned));
    CHECK_OK(sky_weights_use(NULL, planned, 0));
    CHECK_STATUS(sky_weights_use(NULL, planned, 4), SKY_ERR_INTERNAL);
    EXPECT(strstr(sky_message(), "transformer: group 4 of its weights is wanted, it has 0 to 3") != NULL);
    sky_weights_destroy(&planned);
    sky_checkpoint_destroy(&checkpoint);
}

TEST(more_than_was_planned_is_refused)
{
    const sky_backend backend = late_backend();
    sky_ctx ctx = {.backend = &backend};
    sky_checkpoint *checkpoint = NULL;
    sky_weights *planned = NULL;
    sky_weights *weights = NULL;
    answers a;
    CHECK_OK(sky_checkpoint_open(DIFFUSERS, &checkpoint));
    CHECK_OK(plan_store(&backend, checkpoint, SKY_VAE, NULL, &planned));
    CHECK_OK(sky_weights_create(&ctx, checkpoint, SKY_VAE, &(sky_weights_options){.planned = planned}, &weights));
    CHECK_OK(ask_for(SKY_VAE, weights, &a));
    CHECK_STATUS(ask(weights, "conv2.bias", SKY_F32, false, false, &a), SKY_ERR_INTERNAL);
    EXPECT(strstr(sky_message(), "conv2.bias: 256 bytes are beyond the") != NULL);
    EXPECT(late.num_allocs == 1);
    sky_weights_destroy(&weights);
    sky_weights_destroy(&planned);
    sky_checkpoint_destroy(&checkpoint);
    EXPECT(late.num_live == 0);
}

TEST_MAIN
