/* What the examples in headers' comments take as given; compiled by tests/lint/examples, never linked. */
#ifndef SKY_TESTS_LINT_EXAMPLES_H
#define SKY_TESTS_LINT_EXAMPLES_H

#include "base/file.h"
#include "base/threads.h"
#include "engine/fingerprint.h"
#include "model/transformer.h"
#include "model/vae.h"
#include "ops/ops.h"
#include "parallel/group.h"
#include "parallel/staging.h"
#include "sample/unipc.h"
#include "skyreels.h"
#include "text/trie.h"
#include "weights/stream.h"
#include "weights/uploader.h"

#include <stdio.h>

extern const sky_backend *backend;
extern void *device, *block, *memory;
extern sky_arena arena, planning;
extern sky_ctx *ctx;
extern sky_group *group;
extern sky_engine *engine;
extern sky_settings settings;
extern sky_output_file *file;
extern sky_checkpoint *checkpoint;
extern sky_weights *weights, *planned;
extern sky_vae *vae;
extern sky_dtype compute;
extern sky_tensor text, velocity, latents, freqs, weight;
extern sky_unipc_state state;
extern sky_staging staging;
extern const sky_exchange *list, *host;
extern int slot, n, rank, num_host, job;
extern sky_trie trie;
extern sky_uploader uploader;
extern sky_source *source;
extern const sky_source_tensor *tensor;
extern size_t num_bytes, count;
extern int64_t b;
extern const unsigned char *bytes;
extern int64_t num_rows, len;

void scale_row(void *job, int64_t row, int thread);
sky_status load_my_part(void);
sky_status forward(sky_ctx *ctx);

#endif
