/* The one header a kernel file includes: what CUDA C++ has and the emulation must have too.
 *
 * Kernel files compile twice: with nvcc for a GPU, and (CADVLM_EMU) with the host compiler, where
 * cuda/emu/ runs the same code thread by thread in the tests. So kernels keep to these names:
 *   - SHARED(float, sums, [32]);  DYN_SHARED(bf16, tiles);  LAUNCH((kernel<64>), grid, block,
 *     shared_bytes, stream, arguments);  never __shared__, <<<>>> or asm;
 *   - every instruction that C++ has no word for is a wrapper in ptx:: with a device and a host
 *     version (the host's in cuda/emu/ptx.h, checked by tests/cuda/test_emu.c);
 *   - every __syncthreads() is reached by all threads of the block from the same line; a return
 *     before it is uniform for the block;
 *   - shuffles have explicit full masks and order nothing: __syncwarp() stands between a lane's
 *     write to shared memory and another lane's read;
 *   - blocks share nothing but atomics; none waits for another;
 *   - what a header defines beside this one stands in a namespace of its own (attention, lora,
 *     rowwise): two templates of one name are one to the linker, which takes whichever comes first
 *     (tools/doubled_symbols.py looks for such pairs). */
#ifndef CADVLM_CUDA_KERNEL_CUH
#define CADVLM_CUDA_KERNEL_CUH

#include <stdint.h>
#include <string.h>

#ifdef CADVLM_EMU
#include "cuda/emu/emu.h"
#include "cuda/emu/ptx.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define SHARED(type, name, dims) __shared__ type name dims
#define DYN_SHARED(type, name)                                                                     \
    extern __shared__ __align__(128) unsigned char dyn_shared_[];                                  \
    type *name = reinterpret_cast<type *>(dyn_shared_)
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                     \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
/* Stands where a block has learned, from an atomic ticket, that all others are done: what they
 * wrote before their __threadfence() may be read from here on. */
#define GRID_ACQUIRE() __threadfence()

namespace ptx {

/* Copies 16 bytes from global to shared memory in the background. Of the 16 the first
 * `source_bytes` are read, the rest become zero. */
__device__ __forceinline__ void cp_async16(void *shared, const void *global,
                                           int source_bytes = 16) {
    unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global),
                 "r"(source_bytes)
                 : "memory");
}

/* Closes the group of copies issued since the last commit. */
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most the last `pending` groups of this thread are still under way. */
template <int pending> __device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/* Four 8×8 matrices of 16-bit elements; lanes 8i … 8i+7 give the rows of matrix i (16 bytes each,
 * aligned). Lane l gets row l/4, elements 2(l%4) and +1 of each; `trans`: of each transposed. */
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void *row) {
    unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row) {
    unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

/* The same for two matrices; lanes 0 … 15 give the rows. */
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void *row) {
    unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(at)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void *row) {
    unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(at)
                 : "memory");
}

/* d[16,8] += a[16,16] · b[16,8] on the tensor cores, f32 sums (PTX ISA, mma.m16n8k16). With
 * g = lane/4 and t = lane%4: d holds rows g and g+8, columns 2t and 2t+1; a[0] is row g, columns 2t
 * and 2t+1, a[1] row g+8, a[2] and a[3] the same eight columns on; b[0] is rows 2t and 2t+1 of
 * column g, b[1] the same eight rows on. */
__device__ __forceinline__ void mma_16816(float (&d)[4], const uint32_t (&a)[4],
                                          const uint32_t (&b)[2], __nv_bfloat16) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, "
                 "%6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_16816(float (&d)[4], const uint32_t (&a)[4],
                                          const uint32_t (&b)[2], __half) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, "
                 "%6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* 2^x, good to 2 units in the last place; ex2.approx.ftz. */
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Loads and stores of 16 bytes that will not be used again soon. */
__device__ __forceinline__ uint4 load_once(const void *p) {
    return __ldcs(static_cast<const uint4 *>(p));
}

__device__ __forceinline__ void store_once(void *p, uint4 x) {
    __stcs(static_cast<uint4 *>(p), x);
}

/* Makes the compiler forget where x came from: what it has derived from x, it derives anew rather
 * than keep in registers. */
__device__ __forceinline__ void forget(uint4 &x) {
    asm volatile("" : "+r"(x.x), "+r"(x.y), "+r"(x.z), "+r"(x.w));
}

__device__ __forceinline__ void forget(int &x) {
    asm volatile("" : "+r"(x));
}

} // namespace ptx
#endif

typedef __nv_bfloat16 bf16;
typedef __half f16;

constexpr unsigned FULL_MASK = 0xFFFFFFFFu;

template <typename T> __host__ __device__ constexpr T ceil_div(T a, T b) {
    return (a + b - 1) / b;
}

/* ---- elements of the compute type, to and from f32 ---- */

__device__ __forceinline__ float to_float(float x) {
    return x;
}

__device__ __forceinline__ float to_float(bf16 x) {
    return __bfloat162float(x);
}

__device__ __forceinline__ float to_float(f16 x) {
    return __half2float(x);
}

template <typename T> __device__ __forceinline__ T from_float(float x);

template <> __device__ __forceinline__ float from_float<float>(float x) {
    return x;
}

template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) {
    return __float2bfloat16_rn(x);
}

template <> __device__ __forceinline__ f16 from_float<f16>(float x) {
    return __float2half_rn(x);
}

/* Two elements as the 32 bits that mma takes, the first in the low half. */
__device__ __forceinline__ uint32_t pack2(float low, float high, bf16) {
    __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &both, 4);
    return bits;
}

__device__ __forceinline__ uint32_t pack2(float low, float high, f16) {
    __half2 both = __floats2half2_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &both, 4);
    return bits;
}

/* 16 bytes of elements, in f32: 4 of f32, 8 of the 16-bit types. */
template <typename T> struct Pack {
    static constexpr int size = 16 / static_cast<int>(sizeof(T));
    float x[size];
};

template <typename T> __device__ __forceinline__ Pack<T> unpack(uint4 bits) {
    union {
        uint4 all;
        T each[Pack<T>::size];
    } u = {bits};
    Pack<T> p;
#pragma unroll
    for (int i = 0; i < Pack<T>::size; i++) p.x[i] = to_float(u.each[i]);
    return p;
}

template <typename T> __device__ __forceinline__ uint4 repack(const Pack<T> &p) {
    union {
        uint4 all;
        T each[Pack<T>::size];
    } u = {};
#pragma unroll
    for (int i = 0; i < Pack<T>::size; i++) u.each[i] = from_float<T>(p.x[i]);
    return u.all;
}

/* 16-byte loads and stores; `p` must be aligned to 16. */
template <typename T> __device__ __forceinline__ Pack<T> load_pack(const T *p) {
    return unpack<T>(*reinterpret_cast<const uint4 *>(p));
}

template <typename T> __device__ __forceinline__ void store_pack(T *p, const Pack<T> &x) {
    *reinterpret_cast<uint4 *>(p) = repack<T>(x);
}

/* ---- launching ---- */

/* Shared memory above 48 KB has to be asked for. */
template <typename Kernel> void allow_shared(Kernel *kernel, size_t bytes) {
    if (bytes > 48 << 10)
        cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

/* ---- sums over lanes and threads, in a fixed order ---- */

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int step = 16; step; step /= 2) x += __shfl_xor_sync(FULL_MASK, x, step);
    return x;
}

__device__ __forceinline__ double warp_sum(double x) {
#pragma unroll
    for (int step = 16; step; step /= 2) x += __shfl_xor_sync(FULL_MASK, x, step);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int step = 16; step; step /= 2) x = fmaxf(x, __shfl_xor_sync(FULL_MASK, x, step));
    return x;
}

#endif
