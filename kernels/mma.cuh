/*
 * kernels/mma.cuh - the tensor cores' warp-wide products and asynchronous copies that sm_80 and later share (private to kernels)
 *
 * Fragments as the PTX ISA numbers them: lane = 4 g + q. 8-bit A [16, 32]: register 0 is row g, bytes 4q to 4q + 3; 1 row g + 8; 2 and
 * 3 the same 16 bytes on. B [32, 8]: register 0 is column g, bytes 4q to 4q + 3; 1 the same 16 bytes on. C [16, 8]: 0, 1 are row g,
 * columns 2q, 2q + 1; 2, 3 row g + 8.
 */
#ifndef SKY_KERNELS_MMA_CUH
#define SKY_KERNELS_MMA_CUH

#include "kernels/launch.cuh"

static __device__ __forceinline__ void mma_s8(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, "
                 "%1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ void mma_f16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                               uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, "
                 "%1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/*
 * Two e4m3 codes as two f16, exactly: a code's bits are those of an f16 whose exponent is 8 too small, subnormals included. In few
 * instructions: kernels have a thousand of these, and the toolkit's own emulation took a compiler half an hour.
 */
static __device__ __forceinline__ uint32_t widen_e4m3(uint32_t two_codes)
{
    constexpr uint32_t TIMES_256 = 0x5c005c00;
    const uint32_t codes = __byte_perm(two_codes, 0, 0x1404); /* each in the upper byte of a half */
    const uint32_t size = codes & 0x7f007f00;
    const uint32_t small = (codes & 0x80008000) | size >> 1;
    uint32_t halves;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(halves) : "r"(small), "r"(TIMES_256));
    return halves | (__vcmpeq2(size, 0x7f007f00) & 0x7fff7fff); /* NaN */
}

/*
 * c += a b of e4m3, where 16 bytes of a row hold k in the order of sky_v_tile_position. Before sm_89 by widening to f16, in two steps:
 * a lane's bytes 4q and 4q + 1 are its first pair of a 16, 4q + 2 and 4q + 3 its second.
 */
static __device__ __forceinline__ void mma_e4m3(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
#if __CUDA_ARCH__ >= 890
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    mma_f16(c, widen_e4m3(a[0] & 0xffff), widen_e4m3(a[1] & 0xffff), widen_e4m3(a[0] >> 16), widen_e4m3(a[1] >> 16),
            widen_e4m3(b0 & 0xffff), widen_e4m3(b0 >> 16));
    mma_f16(c, widen_e4m3(a[2] & 0xffff), widen_e4m3(a[3] & 0xffff), widen_e4m3(a[2] >> 16), widen_e4m3(a[3] >> 16),
            widen_e4m3(b1 & 0xffff), widen_e4m3(b1 >> 16));
#endif
}

/* 16 bytes to shared memory, in the background; zeros where there is nothing to copy. Both addresses are multiples of 16. */
static __device__ __forceinline__ void copy_async(void *shared, const void *global, bool there)
{
    const unsigned to = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(there ? 16 : 0));
}

static __device__ __forceinline__ void copy_commit()
{
    asm volatile("cp.async.commit_group;");
}

/* All but the last PENDING groups have arrived. */
template <int PENDING> static __device__ __forceinline__ void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING));
}

static __device__ __forceinline__ float exp2_approx(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif
