/* Fingerprints put together from several ranks. */
#include "engine/fingerprint.h"
#include "parallel/mpi_main.h"
#include "parallel/partition.h"
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUM_ROWS = 540, ROW_BYTES = 8, NUM_STEPS = 2, NUM_BLOCKS = 3, NUM_VALUES = 16 };

/* A render as rank `member` of `members` sees it, of the branches b with b % num_groups = branch_group. */
typedef struct part {
    int members, member, num_groups, branch_group;
} part;

static void see_rows(const sky_engine_observer *observer, const part *p, int step, int branch, int block)
{
    uint64_t rows[NUM_ROWS];
    char name[32];
    const sky_span span = sky_partition_tokens(NUM_ROWS, p->members, p->member);
    for (int64_t i = 0; i < span.count; i++) {
        rows[i] = (uint64_t)(((span.first + i) * 100 + step) * 100 + branch) * 100 + (uint64_t)block;
    }
    snprintf(name, sizeof name, "block_%d", block);
    EXPECT(observer->rows(observer->user, &(sky_engine_rows){.step = step,
                                                             .branch = branch,
                                                             .name = name,
                                                             .data = rows,
                                                             .first_row = span.first,
                                                             .num_rows = span.count,
                                                             .row_bytes = ROW_BYTES}) == SKY_OK);
}

static sky_fingerprint *see_render(const part *p, float latents)
{
    sky_fingerprint *fp = NULL;
    SKY_ASSERT(sky_fingerprint_create(NUM_STEPS, &fp) == SKY_OK);
    const sky_engine_observer observer = sky_fingerprint_observer(fp, NULL);
    float values[NUM_VALUES] = {0};
    for (int step = 0; step < NUM_STEPS; step++) {
        for (int branch = p->branch_group; branch < 2; branch += p->num_groups) {
            for (int block = 0; block < NUM_BLOCKS; block++) {
                see_rows(&observer, p, step, branch, block);
            }
            values[0] = (float)branch;
            EXPECT(observer.velocity(observer.user, step, branch, values, NUM_VALUES) == SKY_OK);
        }
        values[0] = latents;
        EXPECT(observer.latents(observer.user, step + 1, values, NUM_VALUES) == SKY_OK);
    }
    return fp;
}

static char *text_of_one_rank(void)
{
    char *text = NULL;
    sky_group *self = NULL;
    sky_fingerprint *fp = see_render(&(part){1, 0, 1, 0}, 1.0F);
    EXPECT(sky_group_self_create(&self) == SKY_OK);
    EXPECT(sky_fingerprint_text(fp, self, &text) == SKY_OK);
    sky_group_destroy(&self);
    sky_fingerprint_destroy(&fp);
    return text;
}

static part own_part(void)
{
    const int rank = sky_group_rank(mpi_test_world());
    const int size = sky_group_size(mpi_test_world());
    return (part){.members = size, .member = rank, .num_groups = 1, .branch_group = 0};
}

TEST(parts_of_ranks_are_added)
{
    const part p = own_part();
    char *text = NULL;
    char *alone = text_of_one_rank();
    sky_fingerprint *fp = see_render(&p, 1.0F);
    EXPECT(sky_fingerprint_text(fp, mpi_test_world(), &text) == SKY_OK);
    EXPECT(text != NULL && strcmp(text, alone) == 0);
    free(text);
    free(alone);
    sky_fingerprint_destroy(&fp);
}

/* Each half of the ranks knows one branch's stages only. */
TEST(branches_of_ranks_are_merged)
{
    const int rank = sky_group_rank(mpi_test_world());
    const int size = sky_group_size(mpi_test_world());
    if (size % 2 != 0) {
        test_skip("two branches need an even number of ranks");
        return;
    }
    const int members = size / 2;
    const part p = {.members = members, .member = rank % members, .num_groups = 2, .branch_group = rank / members};
    char *text = NULL;
    char *alone = text_of_one_rank();
    sky_fingerprint *fp = see_render(&p, 1.0F);
    EXPECT(sky_fingerprint_text(fp, mpi_test_world(), &text) == SKY_OK);
    EXPECT(text != NULL && strcmp(text, alone) == 0);
    free(text);
    free(alone);
    sky_fingerprint_destroy(&fp);
}

/* The file is there when ranks are told that they disagree, and shows what the first of them holds. */
TEST(ranks_that_disagree_are_named)
{
    enum { MAX_BYTES = 1 << 20 };
    sky_group *world = mpi_test_world();
    const int last = sky_group_size(world) - 1;
    const part p = own_part();
    char want[128];
    char *alone = text_of_one_rank();
    char *text = NULL;
    size_t len = 0;
    sky_output_file *file = NULL;
    const char *path = test_temp_path("fingerprint");
    if (last == 0) {
        free(alone);
        test_skip("one rank agrees with itself");
        return;
    }
    sky_fingerprint *fp = see_render(&p, p.member == last ? 2.0F : 1.0F);
    if (p.member == 0) {
        EXPECT(sky_output_file_create(path, &file) == SKY_OK);
    }
    EXPECT(sky_fingerprint_write(fp, world, file) == SKY_ERR_INTERNAL);
    snprintf(want, sizeof want, "step 0 latents: rank %d holds other values than rank 0", last);
    if (strstr(sky_message(), want) != sky_message()) {
        test_fail(__FILE__, __LINE__, "want \"%s...\", got \"%s\"", want, sky_message());
    }
    if (p.member == 0) {
        EXPECT(sky_file_read_all(path, MAX_BYTES, &text, &len) == SKY_OK);
        EXPECT(text != NULL && strcmp(text, alone) == 0);
    }
    sky_output_file_destroy(&file);
    sky_fingerprint_destroy(&fp);
    free(text);
    free(alone);
}

/* A rank may have seen nothing at all. */
TEST(one_rank_has_seen_nothing)
{
    const int last = sky_group_size(mpi_test_world()) - 1;
    sky_fingerprint *fp = NULL;
    char *text = NULL;
    EXPECT(sky_fingerprint_create(0, &fp) == SKY_OK);
    const sky_engine_observer observer = sky_fingerprint_observer(fp, NULL);
    if (sky_group_rank(mpi_test_world()) != last) {
        EXPECT(observer.frames(observer.user, (const uint8_t *)"frames", 6) == SKY_OK);
    }
    EXPECT(sky_fingerprint_text(fp, mpi_test_world(), &text) == SKY_OK);
    const char header[] = "skyreels-mpi fingerprints 1\n";
    const size_t line_len = strlen("frames  0123456789abcdef\n");
    EXPECT(text != NULL && strlen(text) == strlen(header) + (last > 0 ? line_len : 0));
    EXPECT(text != NULL && (strstr(text, "\nframes  ") != NULL) == (last > 0));
    free(text);
    sky_fingerprint_destroy(&fp);
}

/* A file that cannot be written is a failure of all ranks. */
TEST(all_ranks_learn_that_writing_failed)
{
    sky_group *world = mpi_test_world();
    const part p = own_part();
    sky_output_file *file = NULL;
    sky_fingerprint *fp = see_render(&p, 1.0F);
    const char *path = test_temp_path("taken");
    if (p.member == 0) {
        sky_output_file *folder = NULL;
        EXPECT(sky_output_file_create(path, &file) == SKY_OK);
        EXPECT(sky_output_dir_create(path, &folder) == SKY_OK); /* a folder takes the name meanwhile */
        EXPECT(sky_output_file_commit(folder) == SKY_OK);
        sky_output_file_destroy(&folder);
    }
    EXPECT(sky_fingerprint_write(fp, world, file) == SKY_ERR_IO);
    EXPECT(strstr(sky_message(), "taken") != NULL);
    sky_output_file_destroy(&file);
    sky_fingerprint_destroy(&fp);
}
