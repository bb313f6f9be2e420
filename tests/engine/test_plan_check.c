/* What fits: plans made by hand, of ranks on machines and devices that no test has. */
#include "skyreels.h"
#include "support/test.h"

#include <string.h>

enum { MAX_RANKS = 4, MB = 1000000 };

typedef struct fixture {
    sky_plan plan;
    sky_plan_rank ranks[MAX_RANKS];
    sky_settings settings;
} fixture;

/* Each rank's denoising takes 700 MB of its device and 100 MB of the host, 750 MB together at a time; the rest half of it. */
static void fill(fixture *f, int num_ranks, bool host_memory)
{
    *f = (fixture){.plan = {.num_ranks = num_ranks}, .settings = sky_settings_default()};
    f->plan.ranks = f->ranks;
    sky_settings_complete(&f->settings);
    for (int i = 0; i < num_ranks; i++) {
        f->ranks[i].space = (sky_plan_space){.host_memory = host_memory, .machine = 1};
        for (int stage = 0; stage < SKY_PLAN_STAGE_COUNT; stage++) {
            const uint64_t unit = stage == SKY_PLAN_DENOISE ? MB : MB / 2;
            f->ranks[i].stages[stage] = (sky_plan_memory){.weight_bytes = 400 * unit,
                                                          .activation_bytes = 200 * unit,
                                                          .workspace_bytes = 100 * unit,
                                                          .device_bytes = 700 * unit,
                                                          .staging_bytes = 50 * unit,
                                                          .values_bytes = 50 * unit,
                                                          .host_bytes = 100 * unit,
                                                          .total_bytes = 750 * unit};
        }
    }
}

static void expect_fits(const fixture *f)
{
    if (sky_plan_check(&f->plan, &f->settings) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "does not fit: %s", sky_message());
    }
}

static void expect_misfit(const fixture *f, const char *says)
{
    CHECK_STATUS(sky_plan_check(&f->plan, &f->settings), SKY_ERR_NOMEM);
    if (strstr(sky_message(), says) == NULL) {
        test_fail(__FILE__, __LINE__, "want '%s': %s", says, sky_message());
    }
}

TEST(what_is_not_known_is_not_missing)
{
    fixture f;
    fill(&f, 4, true);
    expect_fits(&f);
    fill(&f, 4, false);
    expect_fits(&f);
}

TEST(a_device_of_its_own_memory)
{
    fixture f;
    fill(&f, 2, false);
    f.ranks[1].space.device_free_bytes = 600 * MB; /* the workspace is there already */
    expect_fits(&f);
    f.ranks[1].space.device_free_bytes--;
    expect_misfit(&f,
                  "the transformer: rank 1 needs 600.0 MB of device memory, 600.0 MB are free (rank 1: weights 400.0 "
                  "MB, activations 200.0 MB, workspace 100.0 MB, on the host 100.0 MB); what helps: fewer frames");
    f.ranks[1].space.device_free_bytes = 0;
    f.ranks[0].space.limit_bytes = 700 * MB;
    expect_fits(&f);
    f.ranks[0].space.limit_bytes--;
    expect_misfit(&f, "rank 0 needs 700.0 MB of device memory, 700.0 MB are allowed");
}

TEST(ranks_of_a_machine_share_its_memory)
{
    for (int host_memory = 0; host_memory < 2; host_memory++) {
        fixture f;
        const uint64_t each = host_memory ? 750 * MB : 100 * MB;
        test_parameters("host_memory=%d", host_memory);
        fill(&f, 4, host_memory != 0);
        f.ranks[3].space.machine = 2;
        for (int i = 0; i < 4; i++) {
            f.ranks[i].space.host_free_bytes = 3 * each - 1;
        }
        expect_misfit(&f, "the 3 ranks on the machine of rank 0 need ");
        EXPECT(strstr(sky_message(), host_memory ? " of memory, " : " of host memory, ") != NULL);
        EXPECT(strstr(sky_message(), "fewer ranks on a machine") != NULL);
        f.ranks[1].space.host_free_bytes++; /* what one of them could have */
        expect_fits(&f);
        f.ranks[3].space.host_free_bytes = each - 1;
        expect_misfit(&f, "rank 3 needs ");
        EXPECT(strstr(sky_message(), "more ranks") != NULL);
    }
}

/* What one memory takes is not asked of the other. */
TEST(device_and_host_are_apart_or_one)
{
    fixture f;
    fill(&f, 1, false);
    f.ranks[0].space.host_free_bytes = 100 * MB;
    f.ranks[0].space.device_free_bytes = 600 * MB;
    expect_fits(&f);
    fill(&f, 1, true);
    f.ranks[0].space.host_free_bytes = f.ranks[0].space.device_free_bytes = 749 * MB;
    expect_misfit(&f, "rank 0 needs 750.0 MB of memory, 749.0 MB are free");
    f.ranks[0].space.host_free_bytes = f.ranks[0].space.device_free_bytes = 750 * MB;
    expect_fits(&f);
    f.ranks[0].space.limit_bytes = 500 * MB;
    expect_misfit(&f, "rank 0 needs 750.0 MB of memory, 500.0 MB are allowed");
}

TEST(the_stage_that_lacks_most_is_named_with_what_helps_it)
{
    fixture f;
    fill(&f, 1, true);
    f.ranks[0].space.limit_bytes = 300 * MB;
    f.settings.precision = SKY_PRECISION_BF16;
    expect_misfit(&f, "the transformer: ");
    EXPECT(strstr(sky_message(), "--precision fp8") != NULL && strstr(sky_message(), "--text_encoder") == NULL);
    f.settings.precision = SKY_PRECISION_INT8;
    expect_misfit(&f, "the transformer: ");
    EXPECT(strstr(sky_message(), "--precision fp8") == NULL);
    f.ranks[0].stages[SKY_PLAN_ENCODE_TEXT].total_bytes = 2000 * (uint64_t)MB;
    expect_misfit(&f, "the text encoder: rank 0 needs 2.00 GB of memory, 300.0 MB are allowed");
    EXPECT(strstr(sky_message(), "--text_encoder fp8") != NULL && strstr(sky_message(), "num_frames") == NULL);
    f.settings.text_encoder_fp8 = true;
    expect_misfit(&f, "the text encoder: ");
    EXPECT(strstr(sky_message(), "--text_encoder fp8") == NULL);
    f.ranks[0].stages[SKY_PLAN_DECODE].total_bytes = 3000 * (uint64_t)MB;
    expect_misfit(&f, "the VAE: rank 0 needs 3.00 GB");
}

TEST_MAIN
