/*
 * ops/rig.h - one backend, a context, and buffers between guard bands
 *
 *     rig r;
 *     rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES);
 *     sky_tensor x = RIG_INPUT(&r, SKY_F32, 1, rows, cols);
 *     sky_tensor y = RIG_OUTPUT(&r, SKY_F32, rows, cols);
 *     CHECK_OK(sky_...(&r.ctx, ...));
 *     rig_check(&r);                        // guards whole, inputs unchanged
 *     float *got = rig_read(&r, &y);
 *     rig_close(&r);
 */
#ifndef SKY_TESTS_OPS_RIG_H
#define SKY_TESTS_OPS_RIG_H

#include "ops/backends.h"

enum { RIG_MAX_BUFFERS = 32, RIG_ARENA_BYTES = 1 << 20 };

typedef struct rig_buffer {
    unsigned char *block; /* on the device: guard, body, guard */
    unsigned char *host;  /* what the block held at first */
    size_t body_offset;
    size_t body_bytes;
    bool output;
} rig_buffer;

typedef struct rig {
    const test_backend *which;
    sky_ctx ctx;
    sky_arena arena;
    void *arena_block;
    int64_t skew; /* elements by which bodies are moved off their alignment */
    rig_buffer buffers[RIG_MAX_BUFFERS];
    int num_buffers;
} rig;

/* Opens a rig whose arena has arena_bytes; one that only plans for 0. Fails the case and returns false where it cannot. */
bool rig_open(rig *r, const test_backend *which, int64_t skew, size_t arena_bytes);
void rig_close(rig *r);

/* Inputs hold op_value(dtype, seed, index), or the given values; outputs are filled with NaN bit patterns. */
sky_tensor rig_input(rig *r, sky_dtype dtype, uint64_t seed, int num_dims, const int64_t *shape);
sky_tensor rig_values(rig *r, sky_dtype dtype, const float *values, int num_dims, const int64_t *shape);
sky_tensor rig_bytes(rig *r, sky_dtype dtype, const void *bytes, int num_dims, const int64_t *shape);
sky_tensor rig_output(rig *r, sky_dtype dtype, int num_dims, const int64_t *shape);
#define RIG_SHAPE_(...)                                                    \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) \
    {                                                                      \
        __VA_ARGS__                                                        \
    }
#define RIG_INPUT(r, dtype, seed, ...)  rig_input(r, dtype, seed, RIG_SHAPE_(__VA_ARGS__))
#define RIG_VALUES(r, dtype, data, ...) rig_values(r, dtype, data, RIG_SHAPE_(__VA_ARGS__))
#define RIG_BYTES(r, dtype, data, ...)  rig_bytes(r, dtype, data, RIG_SHAPE_(__VA_ARGS__))
#define RIG_OUTPUT(r, dtype, ...)       rig_output(r, dtype, RIG_SHAPE_(__VA_ARGS__))

/* Where a token's code lies in the tiles of ops/quantize_channels.h, written out here once more. */
int64_t rig_v_at(int64_t token, int64_t channel, int64_t channels);

/*
 * Values [tokens, heads, dim] as e4m3 codes in tiles, and those of
 * op_value(SKY_F8_E4M3, seed, index into [tokens, heads, dim]).
 */
sky_tensor rig_v_tiles(rig *r, const float *values, int64_t tokens, int64_t heads, int64_t dim);
sky_tensor rig_v_input(rig *r, uint64_t seed, int64_t tokens, int64_t heads, int64_t dim);

/* The input x becomes an output as well (in place). */
void rig_may_change(rig *r, const sky_tensor *x);

/* Fails the case where a guard band or an input has changed, the one behind the scratch too, or (planning) an output. */
bool rig_check(rig *r);

/* The elements as f32, or the raw bytes; the caller frees them. */
float *rig_read(rig *r, const sky_tensor *t);
unsigned char *rig_read_bytes(rig *r, const sky_tensor *t);

/* test_random(seed, i), rounded to dtype; 100 times that as e4m3, and 50 times that, at most 127 in size, as i8. */
double op_value(sky_dtype dtype, uint64_t seed, int64_t i);

/*
 * One op on one set of parameters. run() makes tensors in the rig and calls the op; expect() writes the exact result,
 * formulated apart from the reference.
 */
typedef struct op_case {
    sky_status (*run)(rig *r, const void *params, sky_tensor *out);
    void (*expect)(const void *params, double *want);
    const void *params;
    int64_t sum_len;       /* longest sum behind one element */
    int num_roundings;     /* to out's type; 0 means 1 */
    double tolerance;      /* of the sum, where it is not that of test_sum_tolerance(sum_len) */
    double unit_tolerance; /* of the sum, where a GPU's matrix unit makes it (ops/linear_8bit.h); 0: the same */
    bool exact;            /* the bytes of expect(), rounded to out's type */
} op_case;

/*
 * Runs the case on every backend, aligned and not, after a planning pass whose peak is all the scratch that the real one
 * gets; compares with expect() and with the reference.
 */
void op_check(const op_case *c);

#endif
