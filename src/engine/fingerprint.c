#include "engine/fingerprint.h"

#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A stage is a number that sorts in the order of computation: section, step, branch, part. All that is needed to name it
 * is in it, so ranks exchange numbers only.
 */
enum { SECTION_TEXT, SECTION_NOISE, SECTION_STEP, SECTION_FRAMES };
enum { PART_BITS = 24, BRANCH_BITS = 8, STEP_BITS = 28 };
enum {
    BRANCH_NONE = (1 << BRANCH_BITS) - 1, /* behind all branches of a step */
    PART_PATCH_EMBEDDING = 0,
    PART_BLOCK_0 = 1,
    PART_VELOCITY = (1 << PART_BITS) - 1, /* behind all blocks */
    MAX_BLOCKS = PART_VELOCITY - PART_BLOCK_0,
    MAX_STEPS = 1 << STEP_BITS,
};
/* Fills the lists of ranks that have seen less than others. */
#define NO_STAGE UINT64_MAX

enum { USUAL_BLOCKS = 48, NAME_BYTES = 64, LINE_BYTES = NAME_BYTES + 20 };

static const char *const header_line = "skyreels-mpi fingerprints 1\n";

typedef struct entry {
    uint64_t stage, sum;
} entry;

struct sky_fingerprint {
    entry *entries; /* in the order seen */
    int64_t len, room;
};

/* ---- stages ---- */

static uint64_t stage_of(uint64_t section, int64_t step, int branch, int64_t part)
{
    return ((section << STEP_BITS | (uint64_t)step) << BRANCH_BITS | (uint64_t)branch) << PART_BITS | (uint64_t)part;
}

static int stage_branch(uint64_t stage)
{
    return (int)(stage >> PART_BITS & ((1U << BRANCH_BITS) - 1));
}

static int64_t stage_part(uint64_t stage)
{
    return (int64_t)(stage & ((1U << PART_BITS) - 1));
}

static uint64_t stage_section(uint64_t stage)
{
    return stage >> (PART_BITS + BRANCH_BITS + STEP_BITS);
}

/* Whether ranks hold parts of it that add up; otherwise each has all of it. */
static bool is_partitioned(uint64_t stage)
{
    return stage_section(stage) == SECTION_STEP && stage_branch(stage) != BRANCH_NONE &&
           stage_part(stage) != PART_VELOCITY;
}

static const char *stage_name(uint64_t stage, char name[NAME_BYTES])
{
    const int64_t step = (int64_t)(stage >> (PART_BITS + BRANCH_BITS) & (MAX_STEPS - 1));
    const int64_t part = stage_part(stage);
    const char *branch = stage_branch(stage) == 0 ? "prompt" : "negative prompt";
    switch (stage_section(stage)) {
    case SECTION_TEXT:
        snprintf(name, NAME_BYTES, "text %s", branch);
        break;
    case SECTION_NOISE:
        snprintf(name, NAME_BYTES, "noise");
        break;
    case SECTION_FRAMES:
        snprintf(name, NAME_BYTES, "frames");
        break;
    default:
        if (stage_branch(stage) == BRANCH_NONE) {
            snprintf(name, NAME_BYTES, "step %" PRId64 " latents", step);
        } else if (part == PART_VELOCITY) {
            snprintf(name, NAME_BYTES, "step %" PRId64 " %s velocity", step, branch);
        } else if (part == PART_PATCH_EMBEDDING) {
            snprintf(name, NAME_BYTES, "step %" PRId64 " %s patch_embedding", step, branch);
        } else {
            snprintf(name, NAME_BYTES, "step %" PRId64 " %s block_%" PRId64, step, branch, part - PART_BLOCK_0);
        }
    }
    return name;
}

/* The part that a model's value is; -1 for those without a number: block_7 has one, block_0_attn has none. */
static int64_t part_named(const char *name)
{
    static const char block[] = "block_";
    int64_t index = 0;
    if (strcmp(name, "patch_embedding") == 0) {
        return PART_PATCH_EMBEDDING;
    }
    if (strncmp(name, block, sizeof block - 1) != 0 || name[sizeof block - 1] == '\0') {
        return -1;
    }
    for (const char *p = name + sizeof block - 1; *p != '\0'; p++) {
        if (*p < '0' || *p > '9' || index >= MAX_BLOCKS) {
            return -1;
        }
        index = 10 * index + (*p - '0');
    }
    return index < MAX_BLOCKS ? PART_BLOCK_0 + index : -1;
}

/* ---- seeing ---- */

sky_status sky_fingerprint_create(int64_t inference_steps, sky_fingerprint **out)
{
    sky_fingerprint *fp = calloc(1, sizeof *fp);
    if (fp == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "fingerprints");
    }
    /* Two branches of blocks, patch embedding and velocity; latents. Two texts, noise, frames. */
    fp->room = (inference_steps < 1 ? 1 : inference_steps) * (2 * (USUAL_BLOCKS + 2) + 1) + 4;
    fp->entries = calloc((size_t)fp->room, sizeof *fp->entries);
    if (fp->entries == NULL) {
        free(fp);
        return sky_fail(SKY_ERR_NOMEM, "fingerprints of %" PRId64 " steps", inference_steps);
    }
    *out = fp;
    return SKY_OK;
}

void sky_fingerprint_destroy(sky_fingerprint **fp)
{
    if (*fp != NULL) {
        free((*fp)->entries);
        free(*fp);
        *fp = NULL;
    }
}

static sky_status note(sky_fingerprint *fp, uint64_t stage, uint64_t sum)
{
    if (fp->len == fp->room) {
        entry *more = realloc(fp->entries, 2 * (size_t)fp->room * sizeof *more);
        if (more == NULL) {
            return sky_fail(SKY_ERR_NOMEM, "fingerprints of %" PRId64 " stages", 2 * fp->room);
        }
        fp->entries = more;
        fp->room *= 2;
    }
    fp->entries[fp->len++] = (entry){stage, sum};
    return SKY_OK;
}

static sky_status note_whole(sky_fingerprint *fp, uint64_t stage, const void *data, size_t bytes)
{
    return note(fp, stage, sky_hash(stage, 0, data, bytes));
}

static sky_status check_step(int64_t step)
{
    if (step < 0 || step >= MAX_STEPS) {
        return sky_fail(SKY_ERR_INTERNAL, "fingerprints: step %" PRId64 ", want 0 to %d", step, MAX_STEPS - 1);
    }
    return SKY_OK;
}

static sky_status see_text(void *user, int branch, const void *data, size_t bytes)
{
    return note_whole(user, stage_of(SECTION_TEXT, 0, branch, 0), data, bytes);
}

static sky_status see_latents(void *user, int step, const float *latents, int64_t len)
{
    SKY_TRY(check_step(step));
    const uint64_t stage =
        step == 0 ? stage_of(SECTION_NOISE, 0, 0, 0) : stage_of(SECTION_STEP, step - 1, BRANCH_NONE, 0);
    return note_whole(user, stage, latents, (size_t)len * sizeof *latents);
}

static sky_status see_rows(void *user, sky_engine_rows *rows)
{
    const int64_t part = part_named(rows->name);
    uint64_t sum = 0;
    if (part < 0) {
        return SKY_OK;
    }
    SKY_TRY(check_step(rows->step));
    const uint64_t stage = stage_of(SECTION_STEP, rows->step, rows->branch, part);
    SKY_TRY(sky_fail_in(sky_engine_rows_hash(rows, stage, &sum), "fingerprints"));
    return note(user, stage, sum);
}

static sky_status see_velocity(void *user, int step, int branch, const float *velocity, int64_t len)
{
    SKY_TRY(check_step(step));
    return note_whole(user, stage_of(SECTION_STEP, step, branch, PART_VELOCITY), velocity,
                      (size_t)len * sizeof *velocity);
}

static sky_status see_frames(void *user, const uint8_t *frames, int64_t len)
{
    return note_whole(user, stage_of(SECTION_FRAMES, 0, 0, 0), frames, (size_t)len);
}

sky_engine_observer sky_fingerprint_observer(sky_fingerprint *fp, const sky_engine_observer *next)
{
    return (sky_engine_observer){.text = see_text,
                                 .latents = see_latents,
                                 .rows = see_rows,
                                 .velocity = see_velocity,
                                 .frames = see_frames,
                                 .user = fp,
                                 .next = next};
}

/* ---- putting together ---- */

typedef struct seen {
    entry entry;
    int rank;
} seen;

static int compare_seen(const void *a, const void *b)
{
    const seen *x = a;
    const seen *y = b;
    if (x->entry.stage != y->entry.stage) {
        return x->entry.stage < y->entry.stage ? -1 : 1;
    }
    return x->rank - y->rank;
}

/* How many entries the longest list of a rank has, and this rank's list in as much room. Collective. */
static sky_status pad(const sky_fingerprint *fp, sky_group *group, entry **own, int64_t *longest)
{
    const int size = sky_group_size(group);
    const int64_t len = fp->len;
    int64_t *lens = calloc((size_t)size, sizeof *lens);
    sky_status st = lens != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "fingerprints of %d ranks", size);
    SKY_TRY_GOTO(sky_group_agree(group, st));
    SKY_TRY_GOTO(sky_group_all_gather(group, &len, sizeof len, lens));
    *longest = 1; /* never nothing */
    for (int rank = 0; rank < size; rank++) {
        *longest = lens[rank] > *longest ? lens[rank] : *longest;
    }
    *own = malloc((size_t)*longest * sizeof **own);
    if (*own == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "fingerprints of %" PRId64 " stages", *longest);
        goto done;
    }
    memcpy(*own, fp->entries, (size_t)len * sizeof **own);
    for (int64_t i = len; i < *longest; i++) {
        (*own)[i] = (entry){NO_STAGE, 0};
    }
done:
    free(lens);
    return st;
}

/* What all ranks have seen, in order of stages, then ranks. Collective. */
static sky_status gather(const sky_fingerprint *fp, sky_group *group, seen **out, int64_t *out_len)
{
    const int size = sky_group_size(group);
    entry *own = NULL;
    entry *entries = NULL;
    seen *all = NULL;
    int64_t longest = 0;
    int64_t len = 0;
    sky_status st = pad(fp, group, &own, &longest);
    if (st == SKY_OK) {
        entries = malloc((size_t)(size * longest) * sizeof *entries);
        all = malloc((size_t)(size * longest) * sizeof *all);
        st = entries != NULL && all != NULL
                 ? SKY_OK
                 : sky_fail(SKY_ERR_NOMEM, "fingerprints of %" PRId64 " stages and %d ranks", longest, size);
    }
    SKY_TRY_GOTO(sky_group_agree(group, st));
    SKY_TRY_GOTO(sky_group_all_gather(group, own, (size_t)longest * sizeof *own, entries));
    for (int64_t i = 0; i < size * longest; i++) {
        if (entries[i].stage != NO_STAGE) {
            all[len++] = (seen){entries[i], (int)(i / longest)};
        }
    }
    qsort(all, (size_t)len, sizeof *all, compare_seen);
    *out = all;
    *out_len = len;
    all = NULL;
done:
    free(own);
    free(entries);
    free(all);
    return st;
}

/* Adds up the parts of a stage at all[0], or compares what ranks have of it. Tells how many entries it has. */
static int64_t merge_stage(const seen *all, int64_t len, uint64_t *sum, int *other_rank)
{
    int64_t num = 1;
    *sum = all[0].entry.sum;
    *other_rank = -1;
    for (; num < len && all[num].entry.stage == all[0].entry.stage; num++) {
        if (is_partitioned(all[0].entry.stage)) {
            *sum += all[num].entry.sum;
        } else if (all[num].entry.sum != *sum && *other_rank < 0) {
            *other_rank = all[num].rank;
        }
    }
    return num;
}

sky_status sky_fingerprint_text(const sky_fingerprint *fp, sky_group *group, char **text)
{
    seen *all = NULL;
    int64_t len = 0;
    char *out = NULL;
    char name[NAME_BYTES];
    sky_status st = gather(fp, group, &all, &len);
    if (st == SKY_OK) {
        out = malloc(strlen(header_line) + (size_t)len * LINE_BYTES + 1);
        st = out != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "fingerprints of %" PRId64 " stages", len);
    }
    SKY_TRY_GOTO(sky_group_agree(group, st));
    char *end = stpcpy(out, header_line);
    for (int64_t i = 0; i < len;) {
        uint64_t sum = 0;
        int other = -1;
        const seen *first = &all[i];
        i += merge_stage(first, len - i, &sum, &other);
        end += sprintf(end, "%s  %016" PRIx64 "\n", stage_name(first->entry.stage, name), sum);
        if (other >= 0 && st == SKY_OK) {
            st = sky_fail(SKY_ERR_INTERNAL, "%s: rank %d holds other values than rank %d, and both should be the same",
                          name, other, first->rank);
        }
    }
    *text = out;
    out = NULL;
done:
    free(all);
    free(out);
    return st;
}

static sky_status write_file(sky_output_file *file, const char *text)
{
    SKY_TRY(sky_file_write(sky_output_file_fd(file), sky_output_file_path(file), text, strlen(text)));
    return sky_output_file_commit(file);
}

sky_status sky_fingerprint_write(const sky_fingerprint *fp, sky_group *group, sky_output_file *file)
{
    char *text = NULL;
    sky_status st = sky_fingerprint_text(fp, group, &text);
    if (text == NULL) {
        return st; /* on all ranks */
    }
    /* Values that disagree are known to all ranks already. */
    const sky_status written = sky_group_agree(group, sky_group_rank(group) == 0 ? write_file(file, text) : SKY_OK);
    free(text);
    return written != SKY_OK ? written : st;
}
