#include "kernels/matmul.h"

enum { REFERENCE_ROWS = 51200, MAX_CANDIDATES = 32, ALIGNMENT = 16 };

static cudaDataType_t data_type(sky_dtype dtype)
{
    switch (dtype) {
    case SKY_BF16:
        return CUDA_R_16BF;
    case SKY_F8_E4M3:
        return CUDA_R_8F_E4M3;
    case SKY_I8:
        return CUDA_R_8I;
    case SKY_I32:
        return CUDA_R_32I;
    default:
        return CUDA_R_32F;
    }
}

static sky_status blas_status(cublasStatus_t status, const char *what)
{
    return status == CUBLAS_STATUS_SUCCESS ? SKY_OK
                                           : sky_fail(SKY_ERR_DEVICE, "%s: cuBLASLt error %d (%s)", what, (int)status,
                                                      cublasLtGetStatusName(status));
}

#define SET(desc, attribute, value)                                                                                  \
    SKY_TRY(                                                                                                         \
        blas_status(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_##attribute, &(value), sizeof(value)), \
                    "describing a matrix product"))

/* The library's matrices are by columns: y by rows is its N x M, weight its transposed first operand, x its second. */
static sky_status layout_of(cublasLtMatrixLayoutOpaque_t *layout, sky_dtype dtype, int64_t cols, int64_t rows)
{
    return blas_status(cublasLtMatrixLayoutInit(layout, data_type(dtype), (uint64_t)cols, (uint64_t)rows, cols),
                       "describing a matrix");
}

typedef struct layouts {
    cublasLtMatrixLayoutOpaque_t x, weight, y;
} layouts;

static sky_status layouts_of(const sky_cuda_matmul *m, int64_t rows, layouts *out)
{
    SKY_TRY(layout_of(&out->x, m->x, m->k, rows));
    SKY_TRY(layout_of(&out->weight, m->x, m->k, m->n));
    return layout_of(&out->y, m->y, m->n, rows);
}

static sky_status create_desc(sky_cuda_device *device, sky_cuda_matmul *m)
{
    const bool whole = m->x == SKY_I8;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtMatmulMatrixScale_t by_row = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    const cublasLtEpilogue_t add_bias = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t bias_type = CUDA_R_16BF;
    const int8_t exact = 0; /* FP32 sums, not the tensor core's own */
    SKY_TRY(blas_status(cublasLtMatmulDescCreate(&m->desc, whole ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F,
                                                 whole ? CUDA_R_32I : CUDA_R_32F),
                        "describing a matrix product"));
    SET(m->desc, TRANSA, transposed);
    if (m->x == SKY_F8_E4M3) {
        SET(m->desc, FAST_ACCUM, exact);
    }
    if (m->scaled) {
        SET(m->desc, A_SCALE_MODE, by_row);
        SET(m->desc, B_SCALE_MODE, by_row);
        /* The library offers nothing before it has seen pointers; each call sets its own. */
        SET(m->desc, A_SCALE_POINTER, device->blas_workspace);
        SET(m->desc, B_SCALE_POINTER, device->blas_workspace);
    }
    if (m->bias == SKY_BF16) {
        SET(m->desc, EPILOGUE, add_bias);
        SET(m->desc, BIAS_DATA_TYPE, bias_type);
        SET(m->desc, BIAS_POINTER, device->blas_workspace);
    }
    return SKY_OK;
}

/* Whether a row's bytes would depend on the number of rows: sums over K in parts. */
static bool splits_k(const cublasLtMatmulAlgo_t *algo)
{
    int32_t parts = 0;
    uint32_t scheme = 0;
    size_t written = 0;
    return cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts,
                                                &written) != CUBLAS_STATUS_SUCCESS ||
           parts > 1 ||
           cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme,
                                                &written) != CUBLAS_STATUS_SUCCESS ||
           scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
}

static sky_status choose_algo(sky_cuda_device *device, sky_cuda_matmul *m)
{
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t found[MAX_CANDIDATES];
    const size_t workspace_bytes = SKY_CUDA_BLAS_WORKSPACE_BYTES;
    layouts l;
    int num = 0;
    SKY_TRY(layouts_of(m, REFERENCE_ROWS, &l));
    SKY_TRY(blas_status(cublasLtMatmulPreferenceInit(&preference), "choosing a matrix product"));
    SKY_TRY(blas_status(cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                             &workspace_bytes, sizeof workspace_bytes),
                        "choosing a matrix product"));
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(device->blas, m->desc, &l.weight, &l.x, &l.y, &l.y,
                                                                 &preference, MAX_CANDIDATES, found, &num);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
        return SKY_OK;
    }
    SKY_TRY(blas_status(status, "choosing a matrix product"));
    for (int i = 0; i < num && !m->offered; i++) {
        if (found[i].state == CUBLAS_STATUS_SUCCESS && !splits_k(&found[i].algo)) {
            m->algo = found[i].algo;
            m->offered = true;
        }
    }
    return SKY_OK;
}

static sky_status describe_and_choose(sky_cuda_device *device, sky_cuda_matmul *m)
{
    SKY_TRY(create_desc(device, m));
    return choose_algo(device, m);
}

static void destroy_desc(sky_cuda_matmul *m)
{
    if (m->desc != NULL) {
        (void)cublasLtMatmulDescDestroy(m->desc);
    }
}

void sky_cuda_matmul_forget(sky_cuda_device *device)
{
    for (int i = 0; i < device->num_matmuls; i++) {
        destroy_desc(&device->matmuls[i]);
    }
    device->num_matmuls = 0;
}

static bool rows_aligned(sky_dtype dtype, int64_t len)
{
    return len * (int64_t)sky_dtype_bytes(dtype) % ALIGNMENT == 0;
}

sky_status sky_cuda_matmul_find(sky_cuda_device *device, sky_dtype x, sky_dtype y, sky_dtype bias, bool scaled,
                                int64_t n, int64_t k, const sky_cuda_matmul **out)
{
    sky_cuda_matmul *m = NULL;
    for (int i = 0; i < device->num_matmuls && m == NULL; i++) {
        sky_cuda_matmul *known = &device->matmuls[i];
        if (known->x == x && known->y == y && known->bias == bias && known->scaled == scaled && known->n == n &&
            known->k == k) {
            m = known;
        }
    }
    if (m == NULL) {
        if (device->num_matmuls == SKY_CUDA_MAX_MATMULS) {
            return sky_fail(SKY_ERR_NOMEM, "more than %d kinds of matrix products", (int)SKY_CUDA_MAX_MATMULS);
        }
        sky_cuda_matmul new_one = {.x = x, .y = y, .bias = bias, .scaled = scaled, .n = n, .k = k};
        if (rows_aligned(x, k) && rows_aligned(y, n)) {
            const sky_status st = describe_and_choose(device, &new_one);
            if (st != SKY_OK) {
                destroy_desc(&new_one);
                return st;
            }
        }
        m = &device->matmuls[device->num_matmuls++];
        *m = new_one;
    }
    *out = m->offered ? m : NULL;
    return SKY_OK;
}

sky_status sky_cuda_matmul_run(sky_cuda_device *device, const sky_cuda_matmul *m, const sky_cuda_matmul_args *args)
{
    const float one = 1.0F;
    const float zero = 0.0F;
    const int32_t one_i = 1;
    const int32_t zero_i = 0;
    const bool whole = m->x == SKY_I8;
    layouts l;
    SKY_TRY(layouts_of(m, args->x.shape[0], &l));
    if (m->scaled) {
        SET(m->desc, A_SCALE_POINTER, args->weight_scale);
        SET(m->desc, B_SCALE_POINTER, args->x_scale);
    }
    if (m->bias == SKY_BF16) {
        SET(m->desc, BIAS_POINTER, args->bias);
    }
    return blas_status(cublasLtMatmul(device->blas, m->desc, whole ? (const void *)&one_i : &one, args->weight.data,
                                      &l.weight, args->x.data, &l.x, whole ? (const void *)&zero_i : &zero,
                                      args->y.data, &l.y, args->y.data, &l.y, &m->algo, device->blas_workspace,
                                      SKY_CUDA_BLAS_WORKSPACE_BYTES, device->queues[SKY_QUEUE_COMPUTE]),
                       "a matrix product");
}
