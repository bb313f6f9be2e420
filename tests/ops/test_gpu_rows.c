/*
 * A row of a linear layer's output has the same bytes whatever the number of rows is and wherever it lies, at the shapes of the 14B
 * model, where a GPU's library has many algorithms to choose from. Rows are compared by hash, on the device.
 */
#include "ops/backend.h"
#include "support/compare.h"
#include "support/test.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 51200, GROUP = 8, CHUNK = 1 << 20 };

typedef struct gpu {
    sky_ctx ctx;
    sky_arena arena;
    void *block;
} gpu;

static bool gpu_open(gpu *g, size_t bytes)
{
    *g = (gpu){.ctx = {.backend = sky_backend_find("cuda"), .arena = &g->arena}};
    if (g->ctx.backend == NULL ||
        sky_device_open(g->ctx.backend, &(sky_device_options){.num_threads = 1}, &g->ctx.device) != SKY_OK) {
        test_skip("no GPU");
        return false;
    }
    if (g->ctx.backend->alloc(g->ctx.device, bytes, &g->block) != SKY_OK) {
        sky_device_close(g->ctx.backend, &g->ctx.device);
        test_skip("a GPU with too little memory");
        return false;
    }
    sky_arena_init(&g->arena, g->block, bytes);
    return true;
}

static void gpu_close(gpu *g)
{
    g->ctx.backend->free(g->ctx.device, g->block);
    sky_device_close(g->ctx.backend, &g->ctx.device);
}

/* Repeats of one chunk of random codes or numbers around 0; where rows repeat, so do their results, which is no harm. */
static sky_tensor filled(gpu *g, sky_dtype dtype, int num_dims, const int64_t *shape, uint64_t seed)
{
    sky_tensor t = {0};
    unsigned char *host = malloc(CHUNK);
    SKY_ASSERT(host != NULL && sky_ctx_tensor(&g->ctx, &t, dtype, num_dims, shape) == SKY_OK);
    const size_t size = sky_dtype_bytes(dtype);
    const size_t bytes = sky_tensor_bytes(&t);
    for (size_t i = 0; i < CHUNK / size; i++) {
        const float x = test_random(seed, i);
        if (dtype == SKY_F32) {
            ((float *)(void *)host)[i] = 0.001F + 0.0001F * x;
        } else if (dtype == SKY_BF16) {
            ((uint16_t *)(void *)host)[i] = sky_f32_to_bf16(x);
        } else {
            host[i] = dtype == SKY_I8 ? (unsigned char)(int8_t)(30.0F * x) : sky_f32_to_e4m3(100.0F * x);
        }
    }
    for (size_t done = 0; done < bytes; done += CHUNK) {
        const size_t count = bytes - done < CHUNK ? bytes - done : CHUNK;
        SKY_ASSERT(g->ctx.backend->upload(g->ctx.device, (unsigned char *)t.data + done, host, count) == SKY_OK);
    }
    free(host);
    return t;
}

typedef struct layer {
    sky_dtype dtype;
    sky_tensor x, x_scale, weight, weight_scale, bias;
} layer;

/* Hashes of groups of the output's rows for rows [first, first + rows) of x. */
static sky_status hashes(gpu *g, const layer *l, int64_t first, int64_t rows, uint64_t *out)
{
    const size_t mark = sky_arena_mark(&g->arena);
    const int64_t groups = (rows + GROUP - 1) / GROUP;
    sky_tensor y;
    sky_tensor sums;
    SKY_TRY(sky_ctx_tensor(&g->ctx, &y, SKY_BF16, 2, (int64_t[]){rows, l->weight.shape[0]}));
    SKY_TRY(sky_ctx_tensor(&g->ctx, &sums, SKY_I64, 1, &groups));
    if (l->dtype == SKY_BF16) {
        SKY_TRY(sky_linear(
            &g->ctx, &(sky_linear_args){
                         .y = y, .x = sky_tensor_rows(&l->x, first, rows), .weight = l->weight, .bias = l->bias}));
    } else {
        SKY_TRY(sky_linear_8bit(&g->ctx, &(sky_linear_8bit_args){.y = y,
                                                                 .x = sky_tensor_rows(&l->x, first, rows),
                                                                 .x_scale = sky_tensor_rows(&l->x_scale, first, rows),
                                                                 .weight = l->weight,
                                                                 .weight_scale = l->weight_scale,
                                                                 .bias = l->bias}));
    }
    SKY_TRY(sky_hash_rows(&g->ctx,
                          &(sky_hash_rows_args){.sums = sums, .x = y, .first_row = first, .rows_per_group = GROUP}));
    SKY_TRY(sky_ctx_download(&g->ctx, out, &sums));
    sky_arena_release(&g->arena, mark);
    return SKY_OK;
}

static void check_layer(gpu *g, sky_dtype dtype, int64_t n, int64_t k)
{
    static const int64_t counts[] = {1, 17, 128, 1000, 6200, 6400, 12600, 17024, 25600, 51000};
    static uint64_t want[ROWS / GROUP];
    static uint64_t got[ROWS / GROUP];
    const size_t mark = sky_arena_mark(&g->arena);
    const layer l = {.dtype = dtype,
                     .x = filled(g, dtype, 2, (int64_t[]){ROWS, k}, 1),
                     .x_scale = filled(g, SKY_F32, 1, (int64_t[]){ROWS}, 2),
                     .weight = filled(g, dtype, 2, (int64_t[]){n, k}, 3),
                     .weight_scale = filled(g, SKY_F32, 1, (int64_t[]){n}, 4),
                     .bias = filled(g, SKY_BF16, 1, (int64_t[]){n}, 5)};
    test_parameters("%s, N=%d K=%d", sky_dtype_name(dtype), (int)n, (int)k);
    CHECK_OK(hashes(g, &l, 0, ROWS, want));
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        const int64_t last = (ROWS - counts[i]) / SKY_LINEAR_PIECE_ROWS * SKY_LINEAR_PIECE_ROWS;
        const int64_t firsts[] = {0, SKY_LINEAR_PIECE_ROWS < last ? SKY_LINEAR_PIECE_ROWS : 0, last};
        for (int f = 0; f < 3; f++) {
            const int64_t whole = counts[i] / GROUP;
            test_parameters("%s, N=%d K=%d, %d rows from %d", sky_dtype_name(dtype), (int)n, (int)k, (int)counts[i],
                            (int)firsts[f]);
            CHECK_OK(hashes(g, &l, firsts[f], counts[i], got));
            CHECK(memcmp(got, want + firsts[f] / GROUP, (size_t)whole * sizeof got[0]) == 0);
        }
    }
    sky_arena_release(&g->arena, mark);
}

TEST(rows_of_large_layers_do_not_depend_on_their_number)
{
    static const int64_t shapes[][2] = {{5120, 5120}, {13824, 5120}, {5120, 13824}};
    static const sky_dtype dtypes[] = {SKY_BF16, SKY_F8_E4M3, SKY_I8};
    gpu g;
    if (!gpu_open(&g, (size_t)6 << 30)) {
        return;
    }
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0] && !test_failed(); d++) {
            check_layer(&g, dtypes[d], shapes[s][0], shapes[s][1]);
        }
    }
    gpu_close(&g);
}

TEST_MAIN
