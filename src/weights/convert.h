/*
 * weights/convert.h - from a published folder to one with 8-bit linear layers
 *
 * The weights of the blocks' linear layers (quantize.h) become codes with one scale per output channel, everything else is
 * kept: the transformer's other tensors and the text encoder's matrices in bf16 where they are wider (norms, modulation
 * and the transformer's embeddings as published), the VAE as published, configurations and tokenizer byte for byte. Names
 * become the original ones. docs/checkpoint-format.md describes what is written.
 *
 * Tensor by tensor and piece by piece: a few tens of MB of memory, whatever the size of the model. All of it goes into a
 * temporary folder beside the output, which gets its name when everything is on the disk.
 */
#ifndef SKY_WEIGHTS_CONVERT_H
#define SKY_WEIGHTS_CONVERT_H

#include "weights/quantize.h"

typedef struct sky_convert_settings {
    const char *model_path;
    const char *output_path; /* a new or empty folder */
    sky_dtype codes;         /* SKY_F8_E4M3 or SKY_I8 */
    int num_shards;          /* 0: as many as are needed for at most 2 GiB each */
    int num_threads;         /* at least 1 */
    bool verify;             /* read everything back and compare it before the folder gets its name */
    /*
     * Whether the networks find all that they need: asked of the model before anything is written, and of what was written
     * before it gets its name. codes is SKY_F32 for the model. sky_model_check() knows; NULL: nobody is asked.
     */
    sky_status (*check)(void *user, const sky_checkpoint *checkpoint, sky_dtype codes);
    void *check_user;
} sky_convert_settings;

typedef enum sky_convert_phase { SKY_CONVERT_WRITE, SKY_CONVERT_VERIFY } sky_convert_phase;

/* Called after each piece with bytes of the original. Anything but SKY_OK ends the conversion with that status. */
typedef sky_status (*sky_convert_progress)(void *user, sky_convert_phase phase, uint64_t done_bytes,
                                           uint64_t total_bytes);

typedef struct sky_convert_part {
    uint64_t num_parameters;
    uint64_t original_bytes, converted_bytes; /* of tensors, scales among them */
    int64_t num_tensors, num_quantized;
} sky_convert_part;

/* How far the codes of a linear layer are from its published weights. */
typedef struct sky_convert_error {
    int64_t block;
    int part;        /* 0 to SKY_BLOCK_LINEARS - 1 */
    double relative; /* |w - codes * scale|_2 / |w|_2 */
    double largest;  /* of one weight, absolute */
} sky_convert_error;

typedef struct sky_convert_report {
    sky_convert_part parts[SKY_COMPONENT_COUNT];
    int num_shards;
    uint64_t largest_shard_bytes;
    int64_t num_left_out;      /* tensors that are no part of such a model, or no floating numbers */
    char left_out[256];        /* the first of them */
    sky_convert_error *errors; /* owned; with verify: one for each quantised weight, by block and part */
    int64_t num_errors;
} sky_convert_report;

/*
 * Converts. progress may be NULL. report is filled where it succeeds; release it in any case (it starts as {0}).
 * Errors: USAGE where the output is the model itself or not empty, the model is converted already, or has fewer tensors than
 * shards are asked for; INPUT and MISMATCH where the model is refused, or lacks what
 * the networks need; IO (disk full: found
 * before the work where the file system tells); NOMEM. Where it fails nothing is left but what was there before.
 */
sky_status sky_convert_folder(const sky_convert_settings *settings, sky_convert_progress progress, void *user,
                              sky_convert_report *report);
void sky_convert_report_release(sky_convert_report *report);

#endif
