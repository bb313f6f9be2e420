/* Models that stay loaded between videos: engine/models.c, and the plan's word on it. */
#include "base/status.h"
#include "launch/program.h"
#include "skyreels.h"
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct video {
    uint8_t *frames;
    int64_t len;
} video;

typedef struct rig {
    const sky_backend *backend;
    void *device;
    sky_group *group;
    sky_engine *engine;
    sky_engine_observer observer;
    video seen;
    const char *model; /* a copy that may go */
} rig;

static sky_status keep_frames(void *user, const uint8_t *frames, int64_t len)
{
    video *v = user;
    free(v->frames);
    v->frames = malloc((size_t)len);
    SKY_ASSERT(v->frames != NULL);
    memcpy(v->frames, frames, (size_t)len);
    v->len = len;
    return SKY_OK;
}

static void open_engine(rig *r, bool keep_models, uint64_t limit_bytes)
{
    r->observer = (sky_engine_observer){.frames = keep_frames, .user = &r->seen};
    const sky_engine_config config = {.backend = r->backend,
                                      .device = r->device,
                                      .group = r->group,
                                      .memory_limit_bytes = limit_bytes,
                                      .keep_models = keep_models,
                                      .observer = &r->observer};
    SKY_ASSERT(sky_engine_create(&config, &r->engine) == SKY_OK);
}

/* Each case has a copy of its own, which it may damage. */
static void open_rig(rig *r)
{
    static int num;
    char name[16];
    snprintf(name, sizeof name, "model-%d", num++);
    *r = (rig){.backend = sky_backend_find("cpu"), .model = test_temp_path(name)};
    SKY_ASSERT(program_copy_tree(SKY_TEST_MODELS "/shapes-t2v", r->model));
    SKY_ASSERT(sky_device_open(r->backend, &(sky_device_options){.num_threads = 2}, &r->device) == SKY_OK);
    SKY_ASSERT(sky_group_self_create(&r->group) == SKY_OK);
}

static void close_rig(rig *r)
{
    sky_engine_destroy(&r->engine);
    sky_group_destroy(&r->group);
    sky_device_close(r->backend, &r->device);
    free(r->seen.frames);
}

static sky_settings settings_of(const rig *r)
{
    sky_settings s = sky_settings_default();
    s.model_path = r->model;
    s.prompt = "A red ball.";
    s.output = test_temp_path("video.y4m");
    s.num_frames = 5;
    s.height = 32;
    s.width = 48;
    s.inference_steps = 2;
    s.seed = 1;
    sky_settings_complete(&s);
    return s;
}

/* The video, which the caller frees; NULL where it failed with `want`. */
static uint8_t *render(rig *r, const sky_settings *settings, sky_status want)
{
    sky_result result;
    const sky_status st = sky_engine_render(r->engine, settings, &result);
    if (st != want) {
        test_fail(__FILE__, __LINE__, "want %s, got %s: %s", sky_status_name(want), sky_status_name(st), sky_message());
    }
    uint8_t *frames = st == SKY_OK ? r->seen.frames : NULL;
    if (st == SKY_OK) {
        r->seen.frames = NULL;
    }
    return frames;
}

/* Leaves 100 bytes of all files of weights. */
static void cut_files(const rig *r)
{
    char command[512];
    snprintf(command, sizeof command, "find '%s' -type f -size +100k -exec truncate -s 100 {} +", r->model);
    SKY_ASSERT(system(command) == 0);
}

static void lose_the_folder(rig *r)
{
    SKY_ASSERT(rename(r->model, test_temp_path("elsewhere")) == 0);
}

TEST(videos_in_a_row_have_the_bytes_of_the_first)
{
    rig r;
    open_rig(&r);
    open_engine(&r, true, 0);
    sky_settings settings = settings_of(&r);
    uint8_t *first = render(&r, &settings, SKY_OK);
    settings.seed = 2;
    uint8_t *other = render(&r, &settings, SKY_OK);
    settings.seed = 1;
    uint8_t *again = render(&r, &settings, SKY_OK);
    EXPECT(first != NULL && other != NULL && again != NULL);
    EXPECT(first != NULL && again != NULL && memcmp(first, again, (size_t)r.seen.len) == 0);
    EXPECT(first != NULL && other != NULL && memcmp(first, other, (size_t)r.seen.len) != 0);
    free(first);
    free(other);
    free(again);
    close_rig(&r);
}

/* The weights are what was read once: bytes that change in the files afterwards are not seen. */
TEST(what_stays_is_not_read_again)
{
    rig r;
    open_rig(&r);
    open_engine(&r, true, 0);
    const sky_settings settings = settings_of(&r);
    uint8_t *first = render(&r, &settings, SKY_OK);
    cut_files(&r);
    uint8_t *second = render(&r, &settings, SKY_OK);
    EXPECT(first != NULL && second != NULL && memcmp(first, second, (size_t)r.seen.len) == 0);
    free(first);
    free(second);

    /* An engine that keeps nothing reads again. */
    sky_engine_destroy(&r.engine);
    open_engine(&r, false, 0);
    free(render(&r, &settings, SKY_ERR_INPUT));
    close_rig(&r);
}

TEST(other_settings_and_another_folder_load_anew)
{
    rig r;
    open_rig(&r);
    open_engine(&r, false, 0);
    sky_settings settings = settings_of(&r);
    settings.precision = SKY_PRECISION_BF16;
    settings.attention_8bit = false;
    uint8_t *alone = render(&r, &settings, SKY_OK);
    sky_engine_destroy(&r.engine);

    open_engine(&r, true, 0);
    const sky_settings fp8 = settings_of(&r);
    free(render(&r, &fp8, SKY_OK));
    uint8_t *bf16 = render(&r, &settings, SKY_OK);
    EXPECT(alone != NULL && bf16 != NULL && memcmp(alone, bf16, (size_t)r.seen.len) == 0);
    lose_the_folder(&r);
    free(render(&r, &settings, SKY_ERR_INPUT)); /* the name leads nowhere now */
    free(alone);
    free(bf16);
    close_rig(&r);
}

/* Room for each stage by itself, not for all models at a time. */
TEST(the_plan_lets_go_what_has_no_room)
{
    rig r;
    sky_plan plan;
    open_rig(&r);
    open_engine(&r, true, 0);
    const sky_settings settings = settings_of(&r);
    SKY_ASSERT(sky_engine_plan(r.engine, &settings, &plan) == SKY_OK);
    EXPECT(plan.keeps_models);
    const uint64_t together = plan.ranks[0].peak_bytes;
    sky_plan_release(&plan);
    sky_engine_destroy(&r.engine);

    open_engine(&r, true, together - 1);
    SKY_ASSERT(sky_engine_plan(r.engine, &settings, &plan) == SKY_OK);
    EXPECT(!plan.keeps_models && plan.ranks[0].peak_bytes < together);
    sky_plan_release(&plan);
    free(render(&r, &settings, SKY_OK));
    free(render(&r, &settings, SKY_OK));
    cut_files(&r);
    free(render(&r, &settings, SKY_ERR_INPUT)); /* read again */
    close_rig(&r);
}

TEST_MAIN
