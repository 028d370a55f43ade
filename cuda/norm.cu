/* Root mean square and layer norm, fused with the residual add, forward and backward.
 *
 * A row is shared by a team and stays in registers between the passes over it: by a warp, which
 * needs no barrier, up to 256 packs of 16 bytes (2048 columns of the 16-bit types), by a block of
 * 256 threads up to 8192 columns. Longer rows are read again in each pass, in strips. Rows that are
 * not aligned to 16 bytes go one element at a time. */
#include "cuda/partials.cuh"
#include "cuda/rows.cuh"

using namespace rowwise;

namespace {

/* ---- how a row is shared ---- */

/* TEAM threads share a row of packs of N elements; thread `rank` has packs rank + k·TEAM. HELD: the
 * row is one strip of P packs a thread, in registers from the first pass to the last. Otherwise it
 * is several strips, read in each pass. */
template <int N_, int TEAM_, int P_, bool HELD_> struct Team {
    static constexpr int N = N_, TEAM = TEAM_, P = P_;
    static constexpr bool HELD = HELD_;
    static constexpr int BLOCK = TEAM == 32 ? 128 : TEAM; /* short rows: four to a block */
    static constexpr int TEAMS = BLOCK / TEAM;

    __device__ static int rank() { return static_cast<int>(threadIdx.x) % TEAM; }

    /* The first row of this team; the next in this block's turn is gridDim.x · TEAMS on. */
    __device__ static int64_t row() {
        return static_cast<int64_t>(blockIdx.x) * TEAMS + threadIdx.x / TEAM;
    }

    /* Where loops over strips end, so that the compiler sees that one strip is enough. */
    __device__ static int end(int packs) { return HELD ? 1 : packs; }
    static constexpr int STRIP = TEAM * P;
};

/* One strip of a row: what this thread has of the packs from `first` on. */
template <typename T, typename S> struct Strip {
    Bits<T, S::N> bits[S::P];

    __device__ __forceinline__ void load(const T *row, int first, int packs) {
#pragma unroll
        for (int k = 0; k < S::P; k++) {
            int at = first + k * S::TEAM + S::rank();
            if (at < packs) bits[k].load(row + static_cast<int64_t>(at) * S::N);
        }
    }

    /* Before the pass that uses it: nothing is widened to f32 earlier, in twice the registers. */
    __device__ __forceinline__ void forget() {
#pragma unroll
        for (int k = 0; k < S::P; k++) bits[k].forget();
    }
};

/* The body of a loop over this thread's packs of a strip: k is the number, `at` the place. */
#define FOR_PACKS(S, k, at, first, packs)                                                          \
    _Pragma("unroll") for (int k = 0, at = (first) + S::rank(); k < S::P;                          \
                           k++, at += S::TEAM) if (at < (packs))

/* ---- forward ---- */

template <typename T> struct NormFwd {
    Rows<T> out, sum;
    Rows<float> stats;      /* rstd, or mean and rstd; data NULL: not kept */
    Rows<const T> h, delta; /* delta.data NULL: h is normalised */
    const T *w, *bias;
    int64_t rows;
    int packs;
    float cols, eps, w_offset;
};

/* A team does one row: x = h + delta, rounded and stored, in the first pass; for the layer norm
 * Σ (x - mean)² in the second; out in the last. With delta `sum` may be h.
 * Floor: T·C elements · (2 reads + 2 writes with delta, 1 + 1 without) + 4·T (8·T) bytes of
 * statistics; w and bias come from the first cache. At the floor by count. */
template <typename T, typename S, bool CENTRED>
__global__ void __launch_bounds__(S::BLOCK) norm_fwd(NormFwd<T> a) {
    constexpr int N = S::N;
    int64_t row = S::row();
    if (row >= a.rows) return;
    const T *h = a.h[row];
    Strip<T, S> x, w, bias;
    if constexpr (S::HELD) { /* under way while the sums are made */
        w.load(a.w, 0, a.packs);
        if constexpr (CENTRED) bias.load(a.bias, 0, a.packs);
    }

    float total[1] = {0}, squares[1] = {0};
    for (int first = 0; first < S::end(a.packs); first += S::STRIP) {
        x.load(h, first, a.packs);
        if (a.delta.data) {
            Strip<T, S> d;
            d.load(a.delta[row], first, a.packs);
            FOR_PACKS(S, k, at, first, a.packs) {
                Values<N> v = x.bits[k].values(), e = d.bits[k].values();
#pragma unroll
                for (int i = 0; i < N; i++) v.x[i] += e.x[i];
                x.bits[k].set(v); /* rounded: backward sees the same */
                x.bits[k].store(a.sum[row] + static_cast<int64_t>(at) * N);
            }
        }
        FOR_PACKS(S, k, at, first, a.packs) {
            Values<N> v = x.bits[k].values();
#pragma unroll
            for (int i = 0; i < N; i++) {
                if constexpr (CENTRED)
                    total[0] += v.x[i];
                else
                    squares[0] += v.x[i] * v.x[i];
            }
        }
    }
    const T *stored = a.delta.data ? a.sum[row] : h; /* for rows that are read again */

    float mean = 0;
    if constexpr (CENTRED) {
        team_sum<S::TEAM>(total, 1);
        mean = total[0] / a.cols;
        for (int first = 0; first < S::end(a.packs); first += S::STRIP) {
            if constexpr (!S::HELD) x.load(stored, first, a.packs);
            FOR_PACKS(S, k, at, first, a.packs) {
                Values<N> v = x.bits[k].values();
#pragma unroll
                for (int i = 0; i < N; i++) squares[0] += (v.x[i] - mean) * (v.x[i] - mean);
            }
        }
    }
    team_sum<S::TEAM>(squares, 0);
    if constexpr (S::HELD) {
        w.forget();
        if constexpr (CENTRED) bias.forget();
    }
    float scale = 1.0f / sqrtf(squares[0] / a.cols + a.eps);
    if (a.stats.data && S::rank() == 0) {
        float *stats = a.stats[row];
        if constexpr (CENTRED) stats[0] = mean;
        stats[CENTRED] = scale;
    }

    for (int first = 0; first < S::end(a.packs); first += S::STRIP) {
        if constexpr (!S::HELD) {
            x.load(stored, first, a.packs);
            w.load(a.w, first, a.packs);
            if constexpr (CENTRED) bias.load(a.bias, first, a.packs);
        }
        FOR_PACKS(S, k, at, first, a.packs) {
            Values<N> v = x.bits[k].values(), g = w.bits[k].values(), b = {};
            if constexpr (CENTRED) b = bias.bits[k].values();
#pragma unroll
            for (int i = 0; i < N; i++)
                v.x[i] = (v.x[i] - mean) * scale * (a.w_offset + g.x[i]) + b.x[i];
            store_values(a.out[row] + static_cast<int64_t>(at) * N, v);
        }
    }
}

/* ---- backward ---- */

template <int N> __device__ __forceinline__ void add_to(Values<N> &to, const Values<N> &v) {
#pragma unroll
    for (int i = 0; i < N; i++) to.x[i] += v.x[i];
}

template <typename T> struct NormBwd {
    Rows<T> dh;
    Rows<const T> dout, h;
    Rows<const float> stats;
    const T *w;
    float *partials; /* [gridDim.x, C] of dw, then as many of dbias */
    int64_t rows;
    int packs;
    float cols, w_offset;
    bool accumulate;
};

/* A team does rows in turn. With x̂ = (x - mean)·rstd and g = w·dout:
 *     dh (+)= rstd · (g - mean(g) - x̂ · mean(g·x̂)),  dw += dout·x̂,  dbias += dout;
 * mean and mean(g) are 0 for the root mean square norm. With SUMS each thread keeps what it adds to
 * dw (and dbias) in registers over all its rows; the teams of a block add theirs up in order, then
 * the block writes its part. Rows that are not HELD keep their part in scratch memory instead.
 * Floor: T·C elements · (2 reads + 1 write, 3 + 1 with accumulate), and with SUMS 8·parts·C bytes
 * (16· with dbias): 3 % of that for T = 16384, C = 1536. At the floor by count: registers leave 8
 * to 12 warps an SM, which have 9 to 12 KB each under way at C = 1536 in bf16, at least 72 KB where
 * an H200 wants 29. */
template <typename T, typename S, bool CENTRED, bool SUMS>
__global__ void __launch_bounds__(S::BLOCK) norm_bwd(NormBwd<T> a) {
    constexpr int N = S::N, GRADIENTS = CENTRED ? 2 : 1;
    constexpr bool KEPT = SUMS && S::HELD;
    int64_t cols = static_cast<int64_t>(a.packs) * N;
    float *part[GRADIENTS]; /* of this block */
#pragma unroll
    for (int n = 0; n < GRADIENTS; n++)
        part[n] = a.partials + (static_cast<int64_t>(n) * gridDim.x + blockIdx.x) * cols;
    Values<N> kept[GRADIENTS][KEPT ? S::P : 1] = {};
    int turn = 0;

    for (int64_t row = S::row(); row < a.rows;
         row += static_cast<int64_t>(gridDim.x) * S::TEAMS, turn ^= 1) {
        const T *h = a.h[row], *dout = a.dout[row];
        T *dh = a.dh[row];
        const float *stats = a.stats[row];
        float mean = CENTRED ? stats[0] : 0, scale = stats[CENTRED];
        Strip<T, S> x, dy, w, old;

        float means[GRADIENTS] = {}; /* of g·x̂, of g */
        for (int first = 0; first < S::end(a.packs); first += S::STRIP) {
            x.load(h, first, a.packs);
            dy.load(dout, first, a.packs);
            if (S::HELD && a.accumulate) old.load(dh, first, a.packs);
            w.load(a.w, first, a.packs);
            FOR_PACKS(S, k, at, first, a.packs) {
                Values<N> v = x.bits[k].values(), d = dy.bits[k].values(), g = w.bits[k].values();
#pragma unroll
                for (int i = 0; i < N; i++) {
                    float back = (a.w_offset + g.x[i]) * d.x[i];
                    means[0] += back * (v.x[i] - mean) * scale;
                    if constexpr (CENTRED) means[1] += back;
                }
            }
        }
        team_sum<S::TEAM>(means, turn);
#pragma unroll
        for (int i = 0; i < GRADIENTS; i++) means[i] /= a.cols;

        for (int first = 0; first < S::end(a.packs); first += S::STRIP) {
            if constexpr (!S::HELD) {
                x.load(h, first, a.packs);
                dy.load(dout, first, a.packs);
                if (a.accumulate) old.load(dh, first, a.packs);
                w.load(a.w, first, a.packs);
            }
            FOR_PACKS(S, k, at, first, a.packs) {
                Values<N> v = x.bits[k].values(), d = dy.bits[k].values(), g = w.bits[k].values();
                Values<N> dx = {};
                if (a.accumulate) dx = old.bits[k].values();
#pragma unroll
                for (int i = 0; i < N; i++) {
                    v.x[i] = (v.x[i] - mean) * scale;
                    float inner = (a.w_offset + g.x[i]) * d.x[i] - v.x[i] * means[0];
                    if constexpr (CENTRED) inner -= means[1];
                    dx.x[i] += scale * inner;
                    v.x[i] *= d.x[i];
                }
                store_values(dh + static_cast<int64_t>(at) * N, dx);
                if constexpr (KEPT) {
                    add_to(kept[0][k], v);
                    if constexpr (CENTRED) add_to(kept[1][k], d);
                } else if constexpr (SUMS) {
                    int64_t place = static_cast<int64_t>(at) * N;
                    bool begun = row >= static_cast<int64_t>(gridDim.x);
                    if (begun) add_to(v, load_values<float, N>(part[0] + place));
                    store_values(part[0] + place, v);
                    if constexpr (CENTRED) {
                        if (begun) add_to(d, load_values<float, N>(part[1] + place));
                        store_values(part[1] + place, d);
                    }
                }
            }
        }
    }

    if constexpr (KEPT && S::TEAMS == 1) {
#pragma unroll
        for (int n = 0; n < GRADIENTS; n++) {
            FOR_PACKS(S, k, at, 0, a.packs) {
                store_values(part[n] + static_cast<int64_t>(at) * N, kept[n][k]);
            }
        }
    } else if constexpr (KEPT) {
        SHARED(float, sums, [GRADIENTS][S::STRIP * N]);
        for (int team = 0; team < S::TEAMS; team++) {
            if (static_cast<int>(threadIdx.x) / S::TEAM == team) {
#pragma unroll
                for (int n = 0; n < GRADIENTS; n++) {
                    FOR_PACKS(S, k, at, 0, a.packs) {
                        if (team) add_to(kept[n][k], load_values<float, N>(sums[n] + at * N));
                        store_values(sums[n] + at * N, kept[n][k]);
                    }
                }
            }
            __syncthreads();
        }
#pragma unroll
        for (int n = 0; n < GRADIENTS; n++)
            for (int c = static_cast<int>(threadIdx.x); c < cols; c += S::BLOCK)
                part[n][c] = sums[n][c];
    }
}

/* ---- launching ---- */

/* Calls launch(Team<…>()) with what suits rows of `cols` elements. `heavy`: a warp has not the
 * registers for 256 packs. */
template <typename T, bool heavy, typename F> void with_team(bool aligned, int64_t cols, F launch) {
    constexpr int N = 16 / sizeof(T), LONG = 256;
    if (!aligned) {
        if (cols <= 128) return launch(Team<1, 32, 4, true>());
        return launch(Team<1, LONG, 4, false>());
    }
    int64_t packs = cols / N;
    if (packs <= 64) return launch(Team<N, 32, 2, true>());
    if (packs <= 128) return launch(Team<N, 32, 4, true>());
    if (packs <= 160) return launch(Team<N, 32, 5, true>()); /* SigLIP's 1152 */
    if (packs <= 192) return launch(Team<N, 32, 6, true>()); /* OpenELM's 1536 */
    if (packs <= 256) {
        if constexpr (heavy)
            return launch(Team<N, LONG, 2, true>());
        else
            return launch(Team<N, 32, 8, true>());
    }
    if (cols <= 8192) return launch(Team<N, LONG, 8192 / N / LONG, true>());
    return launch(Team<N, LONG, 4, false>());
}

template <bool CENTRED>
void launch_fwd(cudaStream_t stream, Tensor out, Tensor sum, Tensor stats, Tensor h, Tensor delta,
                Tensor w, float w_offset, Tensor bias, float eps) {
    bool aligned = rows_aligned(out) && rows_aligned(sum) && rows_aligned(h) &&
                   rows_aligned(delta) && rows_aligned(w) && rows_aligned(bias);
    with_type(h.dtype, [&](auto element) {
        using T = decltype(element);
        with_team<T, false>(aligned, h.cols, [&](auto team) {
            using S = decltype(team);
            NormFwd<T> a = {rows_of<T>(out),
                            rows_of<T>(sum),
                            rows_of<float>(stats),
                            rows_of<const T>(h),
                            rows_of<const T>(delta),
                            static_cast<const T *>(w.data),
                            static_cast<const T *>(bias.data),
                            h.rows,
                            static_cast<int>(h.cols / S::N),
                            static_cast<float>(h.cols),
                            eps,
                            w_offset};
            unsigned grid = static_cast<unsigned>(ceil_div<int64_t>(h.rows, S::TEAMS));
            LAUNCH((norm_fwd<T, S, CENTRED>), grid, S::BLOCK, 0, stream, a);
        });
    });
}

/* At least four rows to a part, as many as there are short rows in a block. */
int64_t norm_parts(int64_t rows) {
    int64_t parts = ceil_div<int64_t>(rows, 4);
    return parts < MAX_PARTIALS ? parts : MAX_PARTIALS;
}

template <bool CENTRED, bool SUMS>
void launch_bwd(cudaStream_t stream, void *scratch, Tensor dh, bool accumulate, Tensor dw,
                Tensor dbias, Tensor dout, Tensor h, Tensor stats, Tensor w, float w_offset) {
    bool aligned = rows_aligned(dh) && rows_aligned(dout) && rows_aligned(h) && rows_aligned(w);
    float *partials = static_cast<float *>(scratch);
    int64_t parts = norm_parts(h.rows);
    with_type(h.dtype, [&](auto element) {
        using T = decltype(element);
        with_team<T, CENTRED && SUMS>(aligned, h.cols, [&](auto team) {
            using S = decltype(team);
            NormBwd<T> a = {rows_of<T>(dh),
                            rows_of<const T>(dout),
                            rows_of<const T>(h),
                            rows_of<const float>(stats),
                            static_cast<const T *>(w.data),
                            partials,
                            h.rows,
                            static_cast<int>(h.cols / S::N),
                            static_cast<float>(h.cols),
                            w_offset,
                            accumulate};
            int64_t blocks = SUMS ? parts : ceil_div<int64_t>(h.rows, S::TEAMS);
            LAUNCH((norm_bwd<T, S, CENTRED, SUMS>), static_cast<unsigned>(blocks), S::BLOCK, 0,
                   stream, a);
        });
    });
    if constexpr (!SUMS) return;
    int count = static_cast<int>(parts);
    PartialSum of_w = {static_cast<float *>(dw.data), partials, count};
    PartialSum of_bias = {static_cast<float *>(dbias.data), partials + parts * h.cols, count};
    launch_partials(stream, of_w, of_bias, h.cols);
}

} // namespace

void cuda_rmsnorm_fwd(cudaStream_t stream, Tensor out, Tensor sum, Tensor rstd, Tensor h,
                      Tensor delta, Tensor w, float w_offset, float eps) {
    launch_fwd<false>(stream, out, sum, rstd, h, delta, w, w_offset, tensor_none(), eps);
}

void cuda_layernorm_fwd(cudaStream_t stream, Tensor out, Tensor sum, Tensor stats, Tensor h,
                        Tensor delta, Tensor w, Tensor bias, float eps) {
    launch_fwd<true>(stream, out, sum, stats, h, delta, w, 0, bias, eps);
}

size_t cuda_rmsnorm_bwd_scratch(int64_t rows, int64_t cols) {
    return static_cast<size_t>(norm_parts(rows) * cols) * sizeof(float);
}

size_t cuda_layernorm_bwd_scratch(int64_t rows, int64_t cols) {
    return 2 * cuda_rmsnorm_bwd_scratch(rows, cols);
}

void cuda_rmsnorm_bwd(cudaStream_t stream, void *scratch, Tensor dh, bool accumulate, Tensor dw,
                      Tensor dout, Tensor h, Tensor rstd, Tensor w, float w_offset) {
    auto *launch = tensor_is_none(dw) ? launch_bwd<false, false> : launch_bwd<false, true>;
    launch(stream, scratch, dh, accumulate, dw, tensor_none(), dout, h, rstd, w, w_offset);
}

void cuda_layernorm_bwd(cudaStream_t stream, void *scratch, Tensor dh, bool accumulate, Tensor dw,
                        Tensor dbias, Tensor dout, Tensor h, Tensor stats, Tensor w) {
    auto *launch = tensor_is_none(dw) ? launch_bwd<true, false> : launch_bwd<true, true>;
    launch(stream, scratch, dh, accumulate, dw, dbias, dout, h, stats, w, 0);
}
