#include "kernels/device.h"
#include "kernels/cuda.h"
#include "kernels/cuda_ops.h"
#include "kernels/matmul.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sky_event {
    cudaEvent_t event;
};

sky_status sky_cuda_status(cudaError_t error, const char *what)
{
    if (error == cudaSuccess) {
        return SKY_OK;
    }
    (void)cudaGetLastError(); /* one that does not stay is seen once */
    return sky_fail(error == cudaErrorMemoryAllocation ? SKY_ERR_NOMEM : SKY_ERR_DEVICE, "%s: CUDA error %d: %s", what,
                    (int)error, cudaGetErrorString(error));
}

sky_status sky_cuda_launched(const char *op)
{
    return sky_cuda_status(cudaGetLastError(), op);
}

/* A thread works on the GPU that it named last: each call that may be a thread's first names it. */
static sky_cuda_device *enter(void *device)
{
    sky_cuda_device *d = device;
    (void)cudaSetDevice(d->index);
    return d;
}

/* The visible GPU options->index, modulo their number. */
static sky_status choose(const sky_device_options *options, int *index)
{
    int count = 0;
    int driver = 0;
    int runtime = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0) {
        (void)cudaRuntimeGetVersion(&runtime);
        return sky_fail(SKY_ERR_DEVICE, "the NVIDIA driver is too old: it serves CUDA %d.%d, this program needs %d.%d",
                        driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    }
    if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver || (error == cudaSuccess && count == 0)) {
        return sky_fail(SKY_ERR_DEVICE, "no NVIDIA GPU, or no driver for it (nvidia-smi shows both)");
    }
    SKY_TRY(sky_cuda_status(error, "looking for GPUs"));
    *index = options->index % count;
    return SKY_OK;
}

static sky_status describe(sky_cuda_device *d)
{
    struct cudaDeviceProp properties;
    SKY_TRY(sky_cuda_status(cudaGetDeviceProperties(&properties, d->index), "reading a GPU's properties"));
    d->num_sms = properties.multiProcessorCount;
    d->capability = properties.major * 10 + properties.minor;
    snprintf(d->name, sizeof d->name, "%s", properties.name);
    return d->capability >= 80 ? SKY_OK
                               : sky_fail(SKY_ERR_UNSUPPORTED, "%s: want compute capability 8.0 or later, it has %d.%d",
                                          d->name, properties.major, properties.minor);
}

static void cuda_close(void **device)
{
    sky_cuda_device *d = *device;
    if (d == NULL) {
        return;
    }
    enter(d);
    sky_cuda_matmul_forget(d);
    if (d->blas != NULL) {
        (void)cublasLtDestroy(d->blas);
    }
    (void)cudaFree(d->blas_workspace);
    for (int i = 0; i < SKY_NUM_QUEUES; i++) {
        if (d->queues[i] != NULL) {
            (void)cudaStreamDestroy(d->queues[i]);
        }
    }
    free(d);
    *device = NULL;
}

static sky_status cuda_open(const sky_device_options *options, void **device)
{
    sky_status st = SKY_OK;
    sky_cuda_device *d = NULL;
    int index = 0;
    if (options->isa != NULL) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "instruction set '%s': a GPU has no choice", options->isa);
    }
    if (options->index < 0) {
        return sky_fail(SKY_ERR_USAGE, "GPU %d: want 0 or more", options->index);
    }
    SKY_TRY(choose(options, &index));
    d = calloc(1, sizeof *d);
    if (d == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "a CUDA device");
    }
    d->index = index;
    SKY_TRY_GOTO(sky_cuda_status(cudaSetDevice(index), "choosing a GPU"));
    SKY_TRY_GOTO(describe(d));
    for (int i = 0; i < SKY_NUM_QUEUES; i++) {
        SKY_TRY_GOTO(sky_cuda_status(cudaStreamCreateWithFlags(&d->queues[i], cudaStreamNonBlocking), "a stream"));
    }
    SKY_TRY_GOTO(
        sky_cuda_status(cudaMalloc(&d->blas_workspace, SKY_CUDA_BLAS_WORKSPACE_BYTES), "cuBLASLt's workspace"));
    if (cublasLtCreate(&d->blas) != CUBLAS_STATUS_SUCCESS) {
        d->blas = NULL;
        st = sky_fail(SKY_ERR_DEVICE, "cuBLASLt does not start");
        goto done;
    }
    *device = d;
    d = NULL;
done:
    cuda_close((void **)&d);
    return st;
}

static const char *cuda_device_name(const void *device)
{
    return ((const sky_cuda_device *)device)->name;
}

static uint64_t cuda_own_bytes(const void *device)
{
    (void)device;
    return SKY_CUDA_BLAS_WORKSPACE_BYTES;
}

static sky_status cuda_memory(void *device, uint64_t *free_bytes, uint64_t *total_bytes)
{
    size_t free_now = 0;
    size_t total = 0;
    enter(device);
    SKY_TRY(sky_cuda_status(cudaMemGetInfo(&free_now, &total), "memory of the GPU"));
    *free_bytes = free_now;
    *total_bytes = total;
    return SKY_OK;
}

static sky_status cuda_alloc(void *device, size_t bytes, void **out)
{
    void *block = NULL;
    enter(device);
    SKY_TRY(sky_fail_in(sky_cuda_status(cudaMalloc(&block, bytes > 0 ? bytes : 1), "allocating"),
                        "%zu bytes of the GPU's memory", bytes));
    *out = block;
    return SKY_OK;
}

static void cuda_free(void *device, void *block)
{
    enter(device);
    (void)cudaDeviceSynchronize();
    (void)cudaFree(block);
}

static sky_status cuda_host_alloc(void *device, size_t bytes, void **out)
{
    void *block = NULL;
    enter(device);
    SKY_TRY(
        sky_fail_in(sky_cuda_status(cudaHostAlloc(&block, bytes > 0 ? bytes : 1, cudaHostAllocDefault), "allocating"),
                    "%zu bytes of pinned host memory", bytes));
    *out = block;
    return SKY_OK;
}

static void cuda_host_free(void *device, void *block)
{
    enter(device);
    if (block != NULL) {
        (void)cudaFreeHost(block);
    }
}

static sky_status copy_begin(void *device, sky_queue queue, void *to, const void *from, size_t bytes,
                             enum cudaMemcpyKind kind, const char *what)
{
    sky_cuda_device *d = enter(device);
    return bytes == 0 ? SKY_OK : sky_cuda_status(cudaMemcpyAsync(to, from, bytes, kind, d->queues[queue]), what);
}

static sky_status wait_for(sky_cuda_device *d, sky_queue queue, const char *what)
{
    return sky_cuda_status(cudaStreamSynchronize(d->queues[queue]), what);
}

static sky_status cuda_upload_begin(void *device, sky_queue queue, void *to, const void *host, size_t bytes)
{
    return copy_begin(device, queue, to, host, bytes, cudaMemcpyHostToDevice, "copying to the GPU");
}

static sky_status cuda_download_begin(void *device, sky_queue queue, void *host, const void *from, size_t bytes)
{
    return copy_begin(device, queue, host, from, bytes, cudaMemcpyDeviceToHost, "copying from the GPU");
}

static sky_status cuda_upload(void *device, void *to, const void *host, size_t bytes)
{
    SKY_TRY(cuda_upload_begin(device, SKY_QUEUE_COMPUTE, to, host, bytes));
    return wait_for(device, SKY_QUEUE_COMPUTE, "copying to the GPU");
}

static sky_status cuda_download(void *device, void *host, const void *from, size_t bytes)
{
    SKY_TRY(cuda_download_begin(device, SKY_QUEUE_COMPUTE, host, from, bytes));
    return wait_for(device, SKY_QUEUE_COMPUTE, "copying from the GPU");
}

static sky_status cuda_copy(void *device, void *to, const void *from, size_t bytes)
{
    return copy_begin(device, SKY_QUEUE_COMPUTE, to, from, bytes, cudaMemcpyDeviceToDevice, "copying on the GPU");
}

static sky_status cuda_zero(void *device, void *to, size_t bytes)
{
    sky_cuda_device *d = enter(device);
    return bytes == 0 ? SKY_OK
                      : sky_cuda_status(cudaMemsetAsync(to, 0, bytes, d->queues[SKY_QUEUE_COMPUTE]), "clearing memory");
}

static sky_status cuda_sync(void *device)
{
    sky_cuda_device *d = enter(device);
    for (int i = 0; i < SKY_NUM_QUEUES; i++) {
        SKY_TRY(wait_for(d, (sky_queue)i, "waiting for the GPU"));
    }
    return SKY_OK;
}

static sky_status cuda_event_create(void *device, sky_event **out)
{
    enter(device);
    sky_event *event = calloc(1, sizeof *event);
    if (event == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "an event");
    }
    const sky_status st = sky_cuda_status(cudaEventCreate(&event->event), "an event");
    if (st != SKY_OK) {
        free(event);
        return st;
    }
    *out = event;
    return SKY_OK;
}

static void cuda_event_destroy(void *device, sky_event **event)
{
    if (*event != NULL) {
        enter(device);
        (void)cudaEventDestroy((*event)->event);
        free(*event);
        *event = NULL;
    }
}

static sky_status cuda_event_record(void *device, sky_event *event, sky_queue queue)
{
    sky_cuda_device *d = enter(device);
    return sky_cuda_status(cudaEventRecord(event->event, d->queues[queue]), "recording an event");
}

static sky_status cuda_event_wait(void *device, sky_queue queue, sky_event *event)
{
    sky_cuda_device *d = enter(device);
    return sky_cuda_status(cudaStreamWaitEvent(d->queues[queue], event->event, 0), "ordering two queues");
}

static sky_status cuda_event_sync(void *device, sky_event *event)
{
    enter(device);
    return sky_cuda_status(cudaEventSynchronize(event->event), "waiting for an event");
}

static sky_status cuda_event_elapsed(void *device, const sky_event *from, const sky_event *to, double *seconds)
{
    float ms = 0.0F;
    enter(device);
    SKY_TRY(sky_cuda_status(cudaEventElapsedTime(&ms, from->event, to->event), "time between events"));
    *seconds = (double)ms / 1000.0;
    return SKY_OK;
}

static void *cuda_native_queue(void *device, sky_queue queue)
{
    return ((sky_cuda_device *)device)->queues[queue];
}

const sky_backend *sky_backend_cuda(void)
{
    static const sky_backend backend = {.name = "cuda",
                                        .open = cuda_open,
                                        .close = cuda_close,
                                        .device_name = cuda_device_name,
                                        .own_bytes = cuda_own_bytes,
                                        .memory = cuda_memory,
                                        .alloc = cuda_alloc,
                                        .free = cuda_free,
                                        .host_alloc = cuda_host_alloc,
                                        .host_free = cuda_host_free,
                                        .upload = cuda_upload,
                                        .download = cuda_download,
                                        .upload_begin = cuda_upload_begin,
                                        .download_begin = cuda_download_begin,
                                        .copy = cuda_copy,
                                        .zero = cuda_zero,
                                        .sync = cuda_sync,
                                        .event_create = cuda_event_create,
                                        .event_destroy = cuda_event_destroy,
                                        .event_record = cuda_event_record,
                                        .event_wait = cuda_event_wait,
                                        .event_sync = cuda_event_sync,
                                        .event_elapsed = cuda_event_elapsed,
                                        .native_queue = cuda_native_queue,
#define SKY_CUDA_ENTRY(op) .op = sky_cuda_##op,
                                        SKY_OPS(SKY_CUDA_ENTRY)
#undef SKY_CUDA_ENTRY
#define SKY_CUDA_PLAN_ENTRY(op) .op##_plan = sky_cuda_##op##_plan,
                                            SKY_CUDA_PLANNED_OPS(SKY_CUDA_PLAN_ENTRY)
#undef SKY_CUDA_PLAN_ENTRY
    };
    return &backend;
}
