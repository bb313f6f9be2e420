/* The same bytes on every layout of the ranks as on one rank by itself: latents, frames, and every stage between. */
#include "engine/fingerprint.h"
#include "ops/cpu/cpu.h"
#include "ops/ref/ref.h"
#include "parallel/layout.h"
#include "parallel/mpi_main.h"
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NUM_STEPS = 2, MAX_LAYOUTS = 16, LONGEST_CASE_SECONDS = 600, NAME_BYTES = 64 };

/* Tokens: up to 128 are one group, which all but one rank go without; 540 are 4 groups and 28. */
typedef struct video_size {
    int64_t num_frames, height, width, num_tokens;
} video_size;
static const video_size tokens_12 = {5, 32, 48, 12};
static const video_size tokens_105 = {17, 48, 112, 105};
static const video_size tokens_120 = {17, 64, 96, 120};
static const video_size tokens_540 = {33, 96, 160, 540};

/* What renders. */
typedef struct machine {
    const sky_backend *backend;
    void *device;
} machine;

/* What a rank has of a render. */
typedef struct seen {
    char *fingerprint; /* the same on all ranks */
    float *latents;    /* the last; on all ranks */
    uint8_t *frames;   /* on rank 0 */
    int64_t latents_len, frames_len;
} seen;

static sky_status keep_latents(void *user, int step, const float *latents, int64_t len)
{
    seen *s = user;
    if (step == 0) {
        s->latents = malloc((size_t)len * sizeof *latents);
        s->latents_len = len;
    }
    SKY_ASSERT(s->latents != NULL && s->latents_len == len);
    memcpy(s->latents, latents, (size_t)len * sizeof *latents);
    return SKY_OK;
}

static sky_status keep_frames(void *user, const uint8_t *frames, int64_t len)
{
    seen *s = user;
    s->frames = malloc((size_t)len);
    s->frames_len = len;
    SKY_ASSERT(s->frames != NULL);
    memcpy(s->frames, frames, (size_t)len);
    return SKY_OK;
}

static void forget(seen *s)
{
    free(s->fingerprint);
    free(s->latents);
    free(s->frames);
    *s = (seen){0};
}

static sky_settings settings_of(const video_size *size, sky_precision precision, bool attention_8bit)
{
    sky_settings s = sky_settings_default();
    s.model_path = SKY_TEST_MODELS "/shapes-t2v";
    s.prompt = "A red ball moving up on a gray background.";
    s.num_frames = size->num_frames;
    s.height = size->height;
    s.width = size->width;
    s.inference_steps = NUM_STEPS;
    s.guidance_scale = 3;
    s.shift = 3;
    s.seed = 7;
    s.precision = precision;
    s.attention_8bit = attention_8bit;
    s.output = test_temp_path("video.y4m");
    sky_settings_complete(&s);
    return s;
}

/* Collective over group; on failure *s is empty. between sees what the fingerprint sees, before it; may be NULL. */
static void render(const machine *on, sky_group *group, const sky_rank_layout *layout, const sky_settings *settings,
                   sky_engine_observer *between, seen *s)
{
    sky_engine *engine = NULL;
    sky_fingerprint *fp = NULL;
    sky_result result;
    SKY_ASSERT(sky_fingerprint_create(NUM_STEPS, &fp) == SKY_OK);
    const sky_engine_observer keep = {.latents = keep_latents, .frames = keep_frames, .user = s};
    const sky_engine_observer observer = sky_fingerprint_observer(fp, &keep);
    const sky_engine_observer *first = &observer;
    if (between != NULL) {
        between->next = &observer;
        first = between;
    }
    const sky_engine_config config = {.backend = on->backend,
                                      .device = on->device,
                                      .group = group,
                                      .layout = {.degrees = *layout},
                                      .observer = first};
    *s = (seen){0};
    SKY_ASSERT(sky_engine_create(&config, &engine) == SKY_OK);
    sky_status st = sky_engine_render(engine, settings, &result);
    if (st == SKY_OK) {
        st = sky_fingerprint_text(fp, group, &s->fingerprint);
        EXPECT(memcmp(&result.layout, layout, sizeof *layout) == 0);
    }
    if (st != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s: %s", sky_status_name(st), sky_message());
        forget(s);
    }
    sky_engine_destroy(&engine);
    sky_fingerprint_destroy(&fp);
}

/* Rank 0 renders by itself; all ranks get what it has, but for the frames. Collective. */
static void render_alone(const machine *on, const sky_settings *settings, seen *s)
{
    sky_group *world = mpi_test_world();
    const bool first = sky_group_rank(world) == 0;
    *s = (seen){0};
    if (first) {
        sky_group *self = NULL;
        SKY_ASSERT(sky_group_self_create(&self) == SKY_OK);
        render(on, self, &(sky_rank_layout){1, 1, 1}, settings, NULL, s);
        sky_group_destroy(&self);
    }
    int64_t lens[2] = {s->fingerprint != NULL ? (int64_t)strlen(s->fingerprint) + 1 : 0, s->latents_len};
    SKY_ASSERT(sky_group_broadcast(world, 0, lens, sizeof lens) == SKY_OK);
    if (!first && lens[0] > 0) {
        s->fingerprint = malloc((size_t)lens[0]);
        s->latents_len = lens[1];
        s->latents = malloc((size_t)lens[1] * sizeof *s->latents);
        SKY_ASSERT(s->fingerprint != NULL && s->latents != NULL);
    }
    SKY_ASSERT(sky_group_broadcast(world, 0, s->fingerprint, (size_t)lens[0]) == SKY_OK);
    SKY_ASSERT(sky_group_broadcast(world, 0, s->latents, (size_t)lens[1] * sizeof *s->latents) == SKY_OK);
}

/* Number of stages that differ, -1 where there are other stages; the name of the first goes to `name`. */
static int compare_fingerprints(const char *a, const char *b, char name[NAME_BYTES])
{
    int num = 0;
    snprintf(name, NAME_BYTES, "none");
    if (strlen(a) != strlen(b)) {
        return -1;
    }
    while (*a != '\0') {
        const size_t len = strcspn(a, "\n") + 1;
        if (memcmp(a, b, len) != 0) {
            const char *gap = strstr(a, "  ");
            if (num == 0 && gap != NULL) {
                snprintf(name, NAME_BYTES, "%.*s", (int)(gap - a), a);
            }
            num++;
        }
        a += len;
        b += len;
    }
    return num;
}

static void expect_the_same(const seen *alone, const seen *together)
{
    char name[NAME_BYTES];
    if (alone->fingerprint == NULL || together->fingerprint == NULL) {
        return; /* told already, by the rank that failed */
    }
    const int num = compare_fingerprints(alone->fingerprint, together->fingerprint, name);
    if (num != 0) {
        test_fail(__FILE__, __LINE__, "%d stages differ, from \"%s\" on", num, name);
    }
    EXPECT(together->latents_len == alone->latents_len &&
           memcmp(together->latents, alone->latents, (size_t)alone->latents_len * sizeof(float)) == 0);
    EXPECT((alone->frames != NULL) == (sky_group_rank(mpi_test_world()) == 0));
    EXPECT((alone->frames != NULL) == (together->frames != NULL));
    if (alone->frames != NULL && together->frames != NULL) {
        EXPECT(together->frames_len == alone->frames_len &&
               memcmp(together->frames, alone->frames, (size_t)alone->frames_len) == 0);
    }
}

static void open_device(const sky_backend *backend, machine *out)
{
    *out = (machine){.backend = backend};
    if (backend == sky_backend_cpu()) {
        SKY_ASSERT(sky_cpu_device_create(sky_group_size(mpi_test_world()) == 1 ? 2 : 1, &out->device) == SKY_OK);
    }
}

static void close_device(machine *on)
{
    sky_cpu_device_destroy(&on->device);
}

static int list_layouts(sky_rank_layout list[MAX_LAYOUTS])
{
    enum { NUM_HEADS = 2, NUM_BRANCHES = 2 }; /* of tests/models/shapes-t2v */
    const int num = sky_rank_layout_list(sky_group_size(mpi_test_world()), NUM_HEADS, NUM_BRANCHES, list, MAX_LAYOUTS);
    SKY_ASSERT(num > 0 && num <= MAX_LAYOUTS);
    return num;
}

/*
 * Renders alone and on every layout; with the reference, which is slow, on the first and the last of the list.
 * Collective.
 */
static void check_layouts(const sky_backend *backend, const video_size *size, sky_precision precision,
                          bool attention_8bit)
{
    sky_rank_layout layouts[MAX_LAYOUTS];
    const int num = list_layouts(layouts);
    const sky_settings settings = settings_of(size, precision, attention_8bit);
    machine on;
    seen alone;
    alarm(LONGEST_CASE_SECONDS);
    open_device(backend, &on);
    test_parameters("%s, %d tokens, %s, alone", backend->name, (int)size->num_tokens, sky_precision_name(precision));
    render_alone(&on, &settings, &alone);
    const int stride = backend == sky_backend_ref() && num > 2 ? num - 1 : 1;
    for (int i = 0; i < num; i += stride) {
        char text[64];
        seen together;
        test_parameters("%s, %d tokens, %s%s, %s", backend->name, (int)size->num_tokens, sky_precision_name(precision),
                        attention_8bit ? " and 8-bit attention" : "",
                        sky_rank_layout_describe(&layouts[i], text, sizeof text));
        render(&on, mpi_test_world(), &layouts[i], &settings, NULL, &together);
        expect_the_same(&alone, &together);
        forget(&together);
    }
    forget(&alone);
    close_device(&on);
}

/*
 * What is rendered on how many ranks: each precision, each kind of layout, sizes that divide and sizes that do not. All of it
 * on up to 8 ranks is bench/sweep-layouts, which takes minutes.
 */
enum { ON_1 = 1 << 1, ON_2 = 1 << 2, ON_3 = 1 << 3, ON_4 = 1 << 4 };
static const struct {
    unsigned ranks;
    const video_size *size;
    sky_precision precision;
    bool attention_8bit, reference;
} renders[] = {
    {ON_1 | ON_2 | ON_3, &tokens_105, SKY_PRECISION_FP8, true, false},
    {ON_4, &tokens_540, SKY_PRECISION_FP8, true, false},
    {ON_3, &tokens_540, SKY_PRECISION_INT8, true, false},
    {ON_2, &tokens_540, SKY_PRECISION_FP32, false, false},
    {ON_3, &tokens_120, SKY_PRECISION_BF16, false, false},
    {ON_4, &tokens_540, SKY_PRECISION_BF16, false, false},
    {ON_2 | ON_4, &tokens_12, SKY_PRECISION_FP8, true, true},
};

TEST(every_layout_has_the_bytes_of_one_rank)
{
    const int size = sky_group_size(mpi_test_world());
    int num = 0;
    for (size_t i = 0; i < sizeof renders / sizeof renders[0]; i++) {
        if ((renders[i].ranks & 1U << size) != 0) {
            check_layouts(renders[i].reference ? sky_backend_ref() : sky_backend_cpu(), renders[i].size,
                          renders[i].precision, renders[i].attention_8bit);
            num++;
        }
    }
    CHECK(num > 0);
}

/* ---- what differs is noticed, and where ---- */

/* The layout of these ranks with the largest ring. */
static sky_rank_layout ring_layout(void)
{
    sky_rank_layout list[MAX_LAYOUTS];
    const int num = list_layouts(list);
    sky_rank_layout found = list[0];
    for (int i = 1; i < num; i++) {
        found = list[i].ring_degree > found.ring_degree ? list[i] : found;
    }
    return found;
}

/*
 * Renders `other` on the ranks; it must part from `alone` at the stage `want`. Returns how many stages differ.
 * Collective.
 */
static int expect_to_part(const machine *on, const seen *alone, const sky_settings *other, sky_engine_observer *between,
                          const char *want)
{
    const sky_rank_layout layout = ring_layout();
    char name[NAME_BYTES];
    seen together;
    int num = 0;
    render(on, mpi_test_world(), &layout, other, between, &together);
    if (alone->fingerprint != NULL && together.fingerprint != NULL) {
        num = compare_fingerprints(alone->fingerprint, together.fingerprint, name);
        test_parameters("want them to part at \"%s\"", want);
        if (strcmp(name, want) != 0) {
            test_fail(__FILE__, __LINE__, "%d stages differ, first \"%s\"", num, name);
        }
    }
    forget(&together);
    return num;
}

/* Another value on one rank at one place: the stage that holds it is the only one to differ. */
static sky_status flip_bit(void *user, sky_engine_rows *rows)
{
    (void)user;
    if (rows->step == 1 && rows->branch == 1 && rows->first_row == 0 && rows->num_rows > 0 &&
        strcmp(rows->name, "block_5") == 0) {
        SKY_TRY(sky_engine_rows_read(rows));
        unsigned char *data = (unsigned char *)(uintptr_t)rows->data; /* a copy, for observers only */
        data[rows->row_bytes - 1] ^= 1;
    }
    return SKY_OK;
}

TEST(where_other_renders_part)
{
    sky_settings settings = settings_of(&tokens_105, SKY_PRECISION_BF16, false);
    sky_engine_observer flip = {.rows = flip_bit};
    machine on;
    seen alone;
    alarm(LONGEST_CASE_SECONDS);
    open_device(sky_backend_cpu(), &on);
    render_alone(&on, &settings, &alone);
    EXPECT(expect_to_part(&on, &alone, &settings, &flip, "step 1 negative prompt block_5") == 1);

    sky_settings other = settings;
    other.prompt = "A red ball moving down on a gray background.";
    (void)expect_to_part(&on, &alone, &other, NULL, "text prompt");
    other = settings;
    other.negative_prompt = "A blue ball.";
    (void)expect_to_part(&on, &alone, &other, NULL, "text negative prompt");
    other = settings;
    other.seed++;
    (void)expect_to_part(&on, &alone, &other, NULL, "noise");
    other = settings;
    other.guidance_scale = 2.5;
    (void)expect_to_part(&on, &alone, &other, NULL, "step 0 latents");
    forget(&alone);
    close_device(&on);
}

/* fast_ring adds up in another order: the first block differs, and what went into it does not. */
TEST(fast_ring_differs_from_the_first_block_on)
{
    const sky_rank_layout layout = ring_layout();
    sky_settings settings = settings_of(&tokens_540, SKY_PRECISION_BF16, false);
    machine on;
    seen alone;
    if (layout.ring_degree == 1) {
        test_skip("one rank makes no ring");
        return;
    }
    alarm(LONGEST_CASE_SECONDS);
    open_device(sky_backend_cpu(), &on);
    render_alone(&on, &settings, &alone);
    settings.fast_ring = true;
    (void)expect_to_part(&on, &alone, &settings, NULL, "step 0 prompt block_0");
    forget(&alone);
    close_device(&on);
}
