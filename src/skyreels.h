/*
 * skyreels.h - the public interface of libskyreels: prompts to videos with the SkyReels-V2 models, on a group of ranks
 *
 *     sky_group *group = NULL;
 *     sky_engine *engine = NULL;
 *     void *device = NULL;
 *     sky_result result;
 *     const sky_backend *backend = sky_backend_find("cpu");
 *     sky_settings settings = sky_settings_default();
 *     settings.model_path = "SkyReels-V2-T2V-14B-540P";
 *     settings.prompt = "A cat walks over a frozen lake.";
 *     settings.output = "cat.mp4";
 *     sky_settings_complete(&settings);
 *     if (sky_settings_check(&settings) != SKY_OK || sky_group_self_create(&group) != SKY_OK ||
 *         sky_device_open(backend, &(sky_device_options){.num_threads = 8}, &device) != SKY_OK ||
 *         sky_engine_create(&(sky_engine_config){.backend = backend, .device = device, .group = group}, &engine) != SKY_OK ||
 *         sky_engine_render(engine, &settings, &result) != SKY_OK) {
 *         fprintf(stderr, "%s\n", sky_message());
 *     }
 *     sky_engine_destroy(&engine);
 *     sky_device_close(backend, &device);
 *     sky_group_destroy(&group);
 *
 * For several ranks: call MPI_Init, create the group with sky_group_world_create() and make the same calls on all ranks.
 * A call that returns SKY_ERR_COMM has left other ranks waiting: end the job (MPI_Abort).
 *
 * The library never prints, exits or calls MPI_Init. This header needs the standard ones only, in C (from C11 on) and in C++.
 * Pointers are host memory; text is UTF-8. What a function returns through a pointer is untouched when it fails. The tree's own
 * headers include this one and add what their part shares with the rest of the library; that is not public.
 */
#ifndef SKYREELS_H
#define SKYREELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- how a call ended ---- */

typedef enum sky_status {
    SKY_OK = 0,
    SKY_ERR_USAGE,       /* the caller or user asked for something that is not offered */
    SKY_ERR_SHAPE,       /* tensor shapes disagree */
    SKY_ERR_DTYPE,       /* tensor types disagree */
    SKY_ERR_UNSUPPORTED, /* valid, but this backend or build cannot */
    SKY_ERR_INPUT,       /* a file's content is refused */
    SKY_ERR_MISMATCH,    /* files are each valid but do not fit together */
    SKY_ERR_IO,          /* reading or writing failed */
    SKY_ERR_NOMEM,       /* out of memory */
    SKY_ERR_DEVICE,      /* an accelerator or its library failed */
    SKY_ERR_COMM,        /* communication between ranks failed */
    SKY_ERR_INTERNAL,    /* a mistake of ours */
    SKY_STATUS_COUNT
} sky_status;

/* Short name of a code, such as "INPUT"; never NULL. */
const char *sky_status_name(sky_status st);

/* Exit code of the program for a status: 0, 64 usage or unsupported, 65 input refused, 70 internal, 71 device, 74 I/O, 78 mismatch. */
int sky_status_exit_code(sky_status st);

/*
 * Why the last call of this thread failed: places on the way from the command to the cause, "loading the transformer:
 * blocks.7.ffn.0.weight: want [8960, 1536], file has [1536, 8960]". "" when nothing has failed since sky_clear_message().
 * Valid until the next failure.
 */
const char *sky_message(void);
void sky_clear_message(void);

/* ---- what the library says while it works: to a sink of the program's, or to nobody ---- */

typedef enum sky_log_level {
    SKY_LOG_DEBUG,
    SKY_LOG_INFO,
    SKY_LOG_WARNING,
} sky_log_level;

typedef struct sky_log {
    void (*write)(void *user, sky_log_level level, const char *line); /* NULL: drop; line has no newline */
    void *user;
    sky_log_level least; /* lines below this level are dropped */
} sky_log;

/* ---- backends and devices ---- */

typedef struct sky_backend sky_backend;

/* What a device may be told. A backend takes what concerns it. */
typedef struct sky_device_options {
    int num_threads; /* cpu: at least 1; the thread that calls is one of them */
    const char *
        isa; /* cpu: "v4" (AVX-512), "v3" (AVX2, FMA) or "base"; NULL: the best of this machine. Others take NULL only */
    int index; /* where a machine has several devices: which, modulo their number, so that ranks may share one */
} sky_device_options;

/* In the order of the build; 0 is the reference. */
int sky_backend_count(void);
const sky_backend *sky_backend_at(int index);

/* NULL where the build has none of that name. */
const sky_backend *sky_backend_find(const char *name);
const char *sky_backend_name(const sky_backend *backend);

/*
 * A device serves one context. On failure *device is untouched. Errors: USAGE for options that no device of this backend can
 * have, UNSUPPORTED for those that this machine has not, DEVICE where there is none, NOMEM, INTERNAL.
 */
sky_status sky_device_open(const sky_backend *backend, const sky_device_options *options, void **device);

/* Takes NULL, sets NULL. All memory, pinned memory and events of the device have been given back. */
void sky_device_close(const sky_backend *backend, void **device);

/* What it computes on, in a word or two: "v4", "NVIDIA H100 80GB HBM3". */
const char *sky_device_name(const sky_backend *backend, const void *device);

/* Memory that the device holds by itself, besides what is allocated on it. */
uint64_t sky_device_own_bytes(const sky_backend *backend, const void *device);

/* ---- groups of ranks ---- */

/*
 * "Collective" means that every rank of the group makes the call, and that all ranks make their collective calls on a group in
 * the same order. One thread of a rank uses a group at a time.
 */

typedef struct sky_group sky_group;

/* A group of one, without MPI. */
sky_status sky_group_self_create(sky_group **out);

/* Collective. Takes NULL, sets NULL. No exchange may be under way; devices whose memory was exchanged are still open. */
void sky_group_destroy(sky_group **group);

/*
 * A group keeps pinned memory and events of the device whose memory it exchanges. One that outlives the device has to be told
 * before the device is closed; it may then serve another one. Nothing is under way. Not collective.
 */
void sky_group_forget_device(sky_group *group);

int sky_group_rank(const sky_group *group);
int sky_group_size(const sky_group *group);

/* Whose number messages give: this rank's in the group that all were split from. */
int sky_group_world_rank(const sky_group *group);

/* "self" or "mpi", for reports. */
const char *sky_group_name(const sky_group *group);

/* Collective over all ranks. Errors: INTERNAL where MPI is not running, COMM, NOMEM. */
sky_status sky_group_world_create(sky_group **out);

/*
 * Ends a phase. Collective; each rank passes how the phase ended for it. All ranks return the status of the lowest rank
 * that failed, and have its message, with "rank R: " (its world rank) in front unless a message names a rank already. When
 * all were fine, returns SKY_OK. A group of one returns st as it is. Where talking itself fails, a rank that was fine
 * returns COMM, another its own status. A rank that passes COMM gets it back at once and tells nobody: the others may be
 * waiting for what it did not send, and only the end of the process ends that (launch).
 *
 *     st = load_my_part(...);                        // may fail on one rank
 *     SKY_TRY_GOTO(sky_group_agree(group, st));      // now all know
 */
sky_status sky_group_agree(sky_group *group, sky_status st);

/* Returns when all ranks have entered. Collective. */
sky_status sky_group_barrier(sky_group *group);

/* Copies root's buf to all. Collective; root and bytes alike. */
sky_status sky_group_broadcast(sky_group *group, int root, void *buf, size_t bytes);

/*
 * recv = the `bytes` of rank 0, of rank 1, ...: size x bytes in all. Collective; bytes alike. send may be this rank's
 * place in recv; otherwise they do not overlap.
 */
sky_status sky_group_all_gather(sky_group *group, const void *send, size_t bytes, void *recv);

/* What a rank has sent to others: bytes, and messages. */
typedef struct sky_traffic {
    uint64_t bytes, messages;
} sky_traffic;

/* ---- how the ranks of a job are used ---- */

/*
 *     ranks = cfg_degree x ring_degree x ulysses_degree
 *
 * cfg_degree groups of ranks compute a guidance branch each; the ranks of such a group share the sequence: ulysses_degree
 * exchange heads, ring_degree exchange keys and values (docs/parallel.md).
 */
typedef struct sky_rank_layout {
    int cfg_degree, ring_degree, ulysses_degree; /* in a request, 0 leaves a degree open */
} sky_rank_layout;

/*
 * What was asked for. use_usp: the sequence is to be split before guidance is (1), is not to be split (-1: ring_degree and
 * ulysses_degree are 1), or as is best (0). Degrees that are given come first: with 1 and ulysses_degree x ring_degree of half
 * the ranks, cfg_degree is 2.
 */
typedef struct sky_rank_layout_request {
    sky_rank_layout degrees;
    int use_usp;
} sky_rank_layout_request;

/* The place of a rank in a layout. */
typedef struct sky_place {
    int branch_group; /* computes the branches b with b % cfg_degree = branch_group */
    int member;       /* in the sequence: ring * ulysses_degree + ulysses */
    int ring, ulysses;
} sky_place;

/* A run of things that are numbered on: tokens, heads, rows. */
typedef struct sky_span {
    int64_t first, count;
} sky_span;

/*
 * ---- settings: everything that decides what a video looks like ----
 *
 * Two runs with equal settings, seed and model give the same bytes, on any number of ranks.
 */

/* Whose noise a seed means. */
typedef enum sky_rng_kind { SKY_RNG_TORCH_CUDA, SKY_RNG_TORCH_CPU } sky_rng_kind;

typedef struct sky_rng {
    sky_rng_kind kind;
    int num_multiprocessors; /* CUDA: of the GPU whose noise is meant; 132 is an H100 or H200, 108 an A100 */
} sky_rng;

/* Reads "torch-cuda", "torch-cuda:SMs" or "torch-cpu". Errors: USAGE. */
sky_status sky_rng_parse(const char *text, sky_rng *out);

/* Whose grid of time steps. */
typedef enum sky_time_grid {
    SKY_GRID_ORIGINAL,  /* scheduler/fm_solvers_unipc.py */
    SKY_GRID_DIFFUSERS, /* diffusers UniPCMultistepScheduler with use_flow_sigmas */
} sky_time_grid;

/*
 * Arithmetic of the blocks' linear layers. fp8 and int8: codes with scales, everything around them as in bf16.
 */
typedef enum sky_precision {
    SKY_PRECISION_FP8,
    SKY_PRECISION_INT8,
    SKY_PRECISION_BF16,
    SKY_PRECISION_FP32
} sky_precision;

typedef struct sky_settings {
    const char *model_path;      /* required; borrowed, as all text here */
    const char *prompt;          /* required; UTF-8 */
    const char *negative_prompt; /* NULL: the published default */
    const char *output;          /* required to render; sky_settings_output_name() makes one */
    int64_t height, width;       /* 0: from the model's name, 544 x 960 or 720 x 1280 */
    int64_t num_frames;          /* 0: 97, or 121 for 720P */
    int64_t inference_steps;
    double guidance_scale;
    double shift;
    int64_t fps;
    uint64_t seed;
    sky_precision precision;
    bool attention_8bit;   /* self-attention on INT8 queries and keys and e4m3 values */
    bool text_encoder_fp8; /* the text encoder's weights are kept in e4m3 */
    sky_rng rng;
    sky_time_grid scheduler;
    bool fast_ring; /* ring attention in another order of the keys: overlaps better, differs by rounding */
} sky_settings;

/* The published defaults: 30 steps, guidance 6, shift 8, 24 frames a second, torch-cuda:132 noise, fp8 and 8-bit attention. */
sky_settings sky_settings_default(void);

/* Fills what is still 0 or NULL from the model's folder name (not output). */
void sky_settings_complete(sky_settings *settings);

/*
 * Looks at completed settings. Errors: USAGE, naming the flag, what was wanted, what was found, and for a size or frame
 * count the nearest ones that work.
 */
sky_status sky_settings_check(const sky_settings *settings);

/* "FIRST 100 CHARACTERS OF THE PROMPT_SEED" without '/' and control characters, with `ending`; the caller frees *out. */
sky_status sky_settings_output_name(const sky_settings *settings, const char *ending, char **out);

const char *sky_precision_name(sky_precision precision);

/* ---- the engine: from settings to a video file ---- */

/* What a render is doing, in order. */
typedef enum sky_phase {
    SKY_PHASE_LOAD_TEXT_ENCODER,
    SKY_PHASE_ENCODE_TEXT,
    SKY_PHASE_LOAD_TRANSFORMER,
    SKY_PHASE_DENOISE,
    SKY_PHASE_LOAD_VAE,
    SKY_PHASE_DECODE,
    SKY_PHASE_WRITE,
    SKY_PHASE_COUNT
} sky_phase;

/* done of total: bytes while loading, prompts, steps, latent frames, files. done 0 starts a phase, done = total ends it. */
typedef struct sky_progress {
    void (*update)(void *user, sky_phase phase, uint64_t done, uint64_t total);
    void *user;
} sky_progress;

/* "loading the transformer", "denoising", ... */
const char *sky_phase_name(sky_phase phase);

/*
 * All ranks of the group make the same calls with the same settings. A layout says how they share the guidance branches and the
 * sequence; all decode a part of every frame; rank 0 encodes the prompts and writes the file. The bytes do not depend on the
 * number of ranks or the layout.
 */
typedef struct sky_engine sky_engine;

/*
 * Rows of tokens inside the transformer. They are where it runs, and stay there unless an observer asks for them: 40 blocks of
 * a large video are terabytes.
 */
typedef struct sky_engine_rows {
    int step, branch;
    const char *name; /* "patch_embedding", "block_7", ... */
    int64_t first_row, num_rows;
    size_t row_bytes;
    const void *data;                      /* [num_rows, row_bytes] on the host, once somebody has asked */
    struct sky_engine_rows_source *source; /* the engine's; NULL: data is all there is */
} sky_engine_rows;

/*
 * For the time of an observer's call. read fills rows->data with a copy, once for all observers. hash: the sum, modulo 2^64, of a
 * 64-bit hash over groups of 128 rows of the global index, of the copy where there is one; first_row is a multiple of 128, or
 * there are no rows. Errors: NOMEM, DEVICE; INTERNAL where rows begin elsewhere.
 */
sky_status sky_engine_rows_read(sky_engine_rows *rows);
sky_status sky_engine_rows_hash(const sky_engine_rows *rows, uint64_t stage, uint64_t *sum);

/*
 * A look at what a render makes, on every rank. Each function may be NULL; a status other than SKY_OK is a failure of this
 * rank at that place, and ends the render on all of them.
 */
typedef struct sky_engine_observer {
    /* A stage begins; within DENOISE each step (index), within DECODE each latent frame, else index is 0. */
    sky_status (*enter)(void *user, sky_phase phase, int64_t index);
    /* Text encoder's output for branch 0 (prompt) or 1 (negative prompt), as shared by all ranks: bytes of the compute type. */
    sky_status (*text)(void *user, int branch, const void *data, size_t bytes);
    /* [16, F, H, W]: what goes into step `step`; with step = inference_steps what the decoder is given. */
    sky_status (*latents)(void *user, int step, const float *latents, int64_t len);
    /* A transformer's intermediate value: this rank's rows, `first_row` in the whole. */
    sky_status (*rows)(void *user, sky_engine_rows *rows);
    /* [16, F, H, W] of one guidance branch, on the ranks that computed it. */
    sky_status (*velocity)(void *user, int step, int branch, const float *velocity, int64_t len);
    /* [num_frames, height, width, 3]; rank 0 only. */
    sky_status (*frames)(void *user, const uint8_t *frames, int64_t len);
    void *user;
    const struct sky_engine_observer *next; /* another one, or NULL */
} sky_engine_observer;

typedef struct sky_engine_config {
    const sky_backend *backend; /* with its device, as everything here: borrowed, outlives the engine */
    void *device;
    sky_group *group;
    int num_threads;  /* of the host, for reading weights; 0: one */
    bool keep_models; /* more videos will follow: models stay loaded between them, where the plan finds the room */
    uint64_t memory_limit_bytes; /* of the device, for this rank; with the host's where they are one; 0: what is free */
    sky_rank_layout_request layout;      /* zeros: as is best */
    const sky_log *log;                  /* may be NULL */
    const sky_progress *progress;        /* may be NULL */
    const sky_engine_observer *observer; /* may be NULL */
} sky_engine_config;

typedef struct sky_result {
    double seconds[SKY_PHASE_COUNT]; /* of this rank */
    double step_seconds_median;
    double step_seconds_worst;
    double seconds_total;
    sky_rank_layout layout;         /* chosen */
    int64_t num_tokens;             /* of the transformer's sequence */
    sky_span tokens, heads;         /* this rank's share */
    sky_traffic traffic;            /* sent by this rank while denoising */
    double exchange_seconds;        /* of this rank in exchanges while denoising */
    int64_t num_text_tokens[2];     /* prompt, negative prompt; on rank 0, else 0 */
    uint64_t weight_bytes;          /* device bytes of the largest set of weights held at once */
    uint64_t activation_peak_bytes; /* largest arena */
} sky_result;

sky_status sky_engine_create(const sky_engine_config *config, sky_engine **out);
void sky_engine_destroy(sky_engine **engine);

/*
 * Renders one video and writes it to settings->output (completed and checked settings). Collective: a failure on one
 * rank ends the call on all of them with that rank's status and message; nothing half-written stays.
 * What does not fit (sky_plan_check) is refused before anything is read.
 * Errors: USAGE, INPUT, MISMATCH, IO, NOMEM, DEVICE, COMM, and INTERNAL where numbers are no longer finite.
 */
sky_status sky_engine_render(sky_engine *engine, const sky_settings *settings, sky_result *result);

/* ---- a plan: what a render would take, before anything runs ---- */

/* Stages follow each other on all ranks together; what one holds is gone before the next begins. */
typedef enum sky_plan_stage {
    SKY_PLAN_ENCODE_TEXT, /* rank 0 alone */
    SKY_PLAN_DENOISE,
    SKY_PLAN_DECODE,
    SKY_PLAN_STAGE_COUNT
} sky_plan_stage;

/* "text encoder", "transformer", "VAE". */
const char *sky_plan_stage_name(sky_plan_stage stage);

/* Bytes on one rank. The program itself, its libraries and MPI are not counted. */
typedef struct sky_plan_memory {
    /* of the device */
    uint64_t weight_bytes;     /* one block */
    uint64_t activation_bytes; /* one block: the arena, the ops' scratch in it */
    uint64_t workspace_bytes;  /* what the backend's device holds by itself */
    uint64_t device_bytes;     /* the three */
    /* of the host */
    uint64_t staging_bytes; /* to load weights; gone before activations */
    uint64_t values_bytes;  /* text, latents and frames */
    uint64_t host_bytes;    /* the two */
    /* of both, at most at a time: what counts where device memory is the host's */
    uint64_t total_bytes;
} sky_plan_memory;

/* What there is on one rank, before anything is loaded. */
typedef struct sky_plan_space {
    bool host_memory;           /* device memory is the host's: the two are one */
    uint64_t device_free_bytes; /* of the device, or of the machine; 0: not known */
    uint64_t host_free_bytes;   /* of the machine; 0: not known */
    uint64_t limit_bytes;       /* sky_engine_config's; 0: none */
    uint64_t machine;           /* ranks with the same number share a machine's memory */
} sky_plan_space;

typedef struct sky_plan_rank {
    sky_place place;
    sky_span tokens, heads;
    sky_span vae_rows;        /* of the latents; each is 8 rows of the video */
    sky_traffic step, decode; /* sent by this rank in a denoising step, and while decoding */
    sky_plan_memory stages[SKY_PLAN_STAGE_COUNT];
    uint64_t peak_device_bytes, peak_host_bytes, peak_bytes; /* each of the stage that takes most */
    sky_plan_space space;
} sky_plan_rank;

enum { SKY_PLAN_MAX_LAYOUTS = 16 };

typedef struct sky_plan {
    sky_rank_layout layout;                        /* chosen */
    sky_rank_layout layouts[SKY_PLAN_MAX_LAYOUTS]; /* all that fit the number of ranks, best first; the first ones */
    int num_layouts;                               /* all, listed or not */
    int64_t num_tokens, num_heads;
    int num_ranks;
    bool keeps_models;    /* all models stay loaded, and every stage has all weights; else each goes with its stage */
    sky_plan_rank *ranks; /* [num_ranks], owned */
} sky_plan;

/*
 * Nothing is loaded and nothing computed: weights are counted from the checkpoint's directories, activations by running each
 * stage's own code in planning mode. So a checkpoint of any size is planned on any machine.
 *
 *     sky_plan plan = {0};
 *     SKY_TRY(sky_engine_plan(engine, &settings, &plan));
 *     ... plan.ranks[0].peak_bytes ...
 *     sky_plan_release(&plan);
 *
 * Plans a render of these settings (completed and checked; text counts as long as it can be, output is not looked at).
 * Every rank gets the same plan. Collective, as is sky_engine_render(). Errors: USAGE, INPUT, MISMATCH, IO, NOMEM, COMM; what
 * a render would refuse before it loads weights is refused here too, but for a lack of memory: sky_plan_check().
 */
sky_status sky_engine_plan(sky_engine *engine, const sky_settings *settings, sky_plan *out);

/*
 * Whether every stage fits: on each rank what its device needs, and on each machine what its ranks need together. What is
 * not known is not missing. The same answer on every rank. Errors: NOMEM; the message says which stage and rank, what is
 * needed and what there is, and what to do.
 */
sky_status sky_plan_check(const sky_plan *plan, const sky_settings *settings);
void sky_plan_release(sky_plan *plan);

/* ---- fingerprints: a number for every stage of a render, the same on any layout ---- */

/*
 * Two renders that should have the same bytes are compared stage by stage (docs/parallel.md, launch/compare-fingerprints).
 * One object is for one render on one rank.
 */
typedef struct sky_fingerprint sky_fingerprint;

/* Takes memory for inference_steps of a usual model; larger ones allocate in the denoising loop. Errors: NOMEM. */
sky_status sky_fingerprint_create(int64_t inference_steps, sky_fingerprint **out);
void sky_fingerprint_destroy(sky_fingerprint **fp);

/*
 * What to give the engine; borrows fp and next. Rows with names other than those above are passed over. Its functions
 * fail with NOMEM, and with INTERNAL where rows do not begin at a group's border.
 */
sky_engine_observer sky_fingerprint_observer(sky_fingerprint *fp, const sky_engine_observer *next);

/*
 * All ranks' stages as text, on every rank: a line that names the format, then for each stage a line such as
 * "step 3 prompt block_7  0123456789abcdef". The caller frees *text. Collective over group, whose ranks made the render.
 * Errors: NOMEM, COMM; INTERNAL, naming the first stage whose ranks hold different values - *text is made then too.
 */
sky_status sky_fingerprint_text(const sky_fingerprint *fp, sky_group *group, char **text);

#ifdef __cplusplus
}
#endif

#endif
