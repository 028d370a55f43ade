/* The words of CUDA C++ for the host compiler, so that kernel files run without a GPU.
 *
 * Every CUDA thread is a fiber; blocks run one at a time, in an order that a seed decides
 * (emu_set_schedule). Shared arrays live as long as the block, have their exact size and start as
 * NaN. What hardware forbids or leaves undefined is reported with block, thread and line, and ends
 * the process: barriers that not all threads reach, shuffles whose lanes do not agree, copies still
 * under way at the end. The race build also watches every access to global and shared memory
 * (race.cpp). docs/emulation.md says what is modelled and what is not. */
#ifndef CADVLM_CUDA_EMU_EMU_H
#define CADVLM_CUDA_EMU_EMU_H

/* NVIDIA's headers leave these alone where they are defined already. */
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__
#define __managed__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__

#include <cuda_runtime.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <functional>

#undef __shared__
#define __shared__ raw_shared_arrays_are_not_for_kernels_use_SHARED

namespace emu {

/* ---- where the running thread is ---- */

struct Place {
    uint3 thread, block;
    dim3 block_size, grid_size;
};
extern Place place;

/* ---- launching ---- */

/* Queues the kernel on the stream; it runs when something waits for it (cudart.cpp). */
void launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, std::function<void()> body);

/* The call of a kernel, its arguments evaluated now and kept. */
template <typename Kernel, typename... Arguments>
std::function<void()> call_of(Kernel kernel, Arguments... arguments) {
    return [=] { kernel(arguments...); };
}

/* Runs it now, all blocks to their end. */
void run_grid(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
              const std::function<void()> &body);

/* ---- what threads do together ---- */

enum BarrierKind { BARRIER_PLAIN, BARRIER_OR, BARRIER_AND, BARRIER_COUNT };

int barrier(BarrierKind kind, int predicate, const char *file, int line);

/* Every lane of `mask` hands over its `argument`; the last one runs `work` over all 32 (NULL where
 * a lane is not in the mask) and all go on. */
void warp_collective(unsigned mask, const char *name, void *argument,
                     void (*work)(void **lanes, unsigned mask), const char *file, int line);

int lane_of_thread();

/* A named point that orders the lanes of a warp (only __syncwarp is one). */
void order_warp(unsigned mask);

/* ---- shared memory ---- */

void *shared_array(const void *key, size_t bytes, const char *name);
void *dynamic_shared(const char *name);

/* ---- copies in the background ---- */

void copy_begin(void *shared, const void *global, int source_bytes);
void copy_commit();
void copy_wait(int pending);

/* ---- the race build ---- */

/* Accesses made by the emulation on behalf of the running thread. */
void note_read(const void *at, size_t bytes);
void note_write(const void *at, size_t bytes, bool atomic);
void grid_acquire();

/* Ends the process with a sentence and the place of the running thread. */
[[noreturn]] void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Results of a lane that travel by pointer. */
template <typename T> struct ShuffleArgument {
    T value, result;
    int source;
    int self;
};

template <typename T> void shuffle_work(void **lanes, unsigned mask) {
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        ShuffleArgument<T> *a = static_cast<ShuffleArgument<T> *>(lanes[i]);
        if (a->source < 0 || a->source > 31 || !lanes[a->source])
            report("a shuffle reads lane %d, which is not in its mask %08x", a->source, mask);
        a->result = static_cast<ShuffleArgument<T> *>(lanes[a->source])->value;
    }
}

template <typename T>
T shuffle(unsigned mask, T value, int source, const char *name, const char *file, int line) {
    ShuffleArgument<T> argument = {value, value, source, 0};
    warp_collective(mask, name, &argument, shuffle_work<T>, file, line);
    return argument.result;
}

} // namespace emu

#define threadIdx (emu::place.thread)
#define blockIdx  (emu::place.block)
#define blockDim  (emu::place.block_size)
#define gridDim   (emu::place.grid_size)

#define EMU_TYPE_OF(type, dims) type dims
#define SHARED(type, name, dims)                                                                   \
    static const char name##_key_ = 0;                                                             \
    auto &name = *reinterpret_cast<type(*) dims>(                                                  \
        emu::shared_array(&name##_key_, sizeof(EMU_TYPE_OF(type, dims)), #name))
#define DYN_SHARED(type, name) type *name = reinterpret_cast<type *>(emu::dynamic_shared(#name))
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                     \
    emu::launch(#kernel, (const void *)(kernel), dim3(grid), dim3(block), (shared_bytes),          \
                (stream), emu::call_of((kernel), __VA_ARGS__))
#define GRID_ACQUIRE() emu::grid_acquire()

/* ---- barriers and votes ---- */

static inline void __syncthreads(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    emu::barrier(emu::BARRIER_PLAIN, 0, file, line);
}

static inline int __syncthreads_or(int p, const char *file = __builtin_FILE(),
                                   int line = __builtin_LINE()) {
    return emu::barrier(emu::BARRIER_OR, p, file, line);
}

static inline int __syncthreads_and(int p, const char *file = __builtin_FILE(),
                                    int line = __builtin_LINE()) {
    return emu::barrier(emu::BARRIER_AND, p, file, line);
}

static inline int __syncthreads_count(int p, const char *file = __builtin_FILE(),
                                      int line = __builtin_LINE()) {
    return emu::barrier(emu::BARRIER_COUNT, p, file, line);
}

static inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, const char *file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
    int nothing = 0;
    emu::warp_collective(
        mask, "__syncwarp", &nothing, [](void **, unsigned all) { emu::order_warp(all); }, file,
        line);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate,
                                     const char *file = __builtin_FILE(),
                                     int line = __builtin_LINE()) {
    struct Vote {
        int predicate;
        unsigned result;
    } vote = {predicate, 0};
    emu::warp_collective(
        mask, "__ballot_sync", &vote,
        [](void **lanes, unsigned all) {
            unsigned bits = 0;
            for (int i = 0; i < 32; i++)
                if (all >> i & 1 && static_cast<Vote *>(lanes[i])->predicate) bits |= 1u << i;
            for (int i = 0; i < 32; i++)
                if (all >> i & 1) static_cast<Vote *>(lanes[i])->result = bits;
        },
        file, line);
    return vote.result;
}

static inline int __any_sync(unsigned mask, int predicate, const char *file = __builtin_FILE(),
                             int line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, file, line) != 0;
}

static inline int __all_sync(unsigned mask, int predicate, const char *file = __builtin_FILE(),
                             int line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, file, line) == mask;
}

/* ---- shuffles; a lane outside the segment gives a lane its own value back ---- */

template <typename T>
static inline T __shfl_sync(unsigned mask, T x, int lane, int width = 32,
                            const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    int self = emu::lane_of_thread();
    return emu::shuffle(mask, x, self / width * width + lane % width, "__shfl_sync", file, line);
}

template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T x, int lanes, int width = 32,
                                const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    int self = emu::lane_of_thread(), from = self ^ lanes;
    return emu::shuffle(mask, x, from / width == self / width ? from : self, "__shfl_xor_sync",
                        file, line);
}

template <typename T>
static inline T __shfl_up_sync(unsigned mask, T x, unsigned lanes, int width = 32,
                               const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    int self = emu::lane_of_thread(), from = self - static_cast<int>(lanes);
    return emu::shuffle(mask, x, from >= self / width * width ? from : self, "__shfl_up_sync", file,
                        line);
}

template <typename T>
static inline T __shfl_down_sync(unsigned mask, T x, unsigned lanes, int width = 32,
                                 const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    int self = emu::lane_of_thread(), from = self + static_cast<int>(lanes);
    return emu::shuffle(mask, x, from < (self / width + 1) * width ? from : self,
                        "__shfl_down_sync", file, line);
}

/* ---- atomics: fibers are never interrupted ---- */

#define EMU_UNTRACKED __attribute__((no_sanitize("thread")))

template <typename T> EMU_UNTRACKED static inline T atomicAdd(T *at, T x) {
    emu::note_write(at, sizeof(T), true);
    T old = *at;
    *at = old + x;
    return old;
}

template <typename T> EMU_UNTRACKED static inline T atomicMax(T *at, T x) {
    emu::note_write(at, sizeof(T), true);
    T old = *at;
    if (x > old) *at = x;
    return old;
}

template <typename T> EMU_UNTRACKED static inline T atomicMin(T *at, T x) {
    emu::note_write(at, sizeof(T), true);
    T old = *at;
    if (x < old) *at = x;
    return old;
}

template <typename T> EMU_UNTRACKED static inline T atomicExch(T *at, T x) {
    emu::note_write(at, sizeof(T), true);
    T old = *at;
    *at = x;
    return old;
}

template <typename T> EMU_UNTRACKED static inline T atomicCAS(T *at, T expected, T x) {
    emu::note_write(at, sizeof(T), true);
    T old = *at;
    if (old == expected) *at = x;
    return old;
}

static inline void __threadfence() {}

static inline void __threadfence_block() {}

/* ---- arithmetic ---- */

/* The C library keeps these two names for itself. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)

static inline float __fdividef(float a, float b) {
    return a / b;
}

static inline float __frcp_rn(float x) {
    return 1.0f / x;
}

static inline float __fmul_rn(float a, float b) {
    return a * b;
}

static inline float __fadd_rn(float a, float b) {
    return a + b;
}

static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}

static inline float normcdff(float x) {
    return 0.5f * erfcf(-x * 0.70710678118654752f);
}

static inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}

static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}

static inline int __clz(int x) {
    return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}

static inline int __ffs(int x) {
    return __builtin_ffs(x);
}

static inline int __float_as_int(float x) {
    int bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float __int_as_float(int bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline unsigned __float_as_uint(float x) {
    return static_cast<unsigned>(__float_as_int(x));
}

static inline float __uint_as_float(unsigned bits) {
    return __int_as_float(static_cast<int>(bits));
}

template <typename T> static inline T __ldg(const T *p) {
    return *p;
}

template <typename T> static inline T __ldcs(const T *p) {
    return *p;
}

template <typename T> static inline void __stcs(T *p, T x) {
    *p = x;
}

#endif
