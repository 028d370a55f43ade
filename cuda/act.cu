/* Activations and gated activations, forward and backward.
 *
 * All are the walk of rows.cuh over packs of 16 bytes. Their floors are bytes; the arithmetic has
 * to stay under them: on an H200 an SM gets 21 bytes a clock and has 128 lanes, so an element of a
 * 16-bit type that is read and written once leaves 25 instructions. The sigmoid is one exponential
 * and one reciprocal, about 12; GELU's tanh is a sigmoid too. */
#include "cuda/rows.cuh"

using namespace rowwise;

namespace {

/* ---- the functions ---- */

/* σ(z) = 1 / (1 + e^-z), good to a few units in the last place. e^-z = ∞ gives 0, NaN gives NaN. */
__device__ __forceinline__ float sigmoid(float z) {
    return __fdividef(1.0f, 1.0f + expf(-z));
}

constexpr float GELU_A = 0.79788456080f, GELU_B = 0.044715f; /* √(2/π); Hendrycks & Gimpel 2016 */
constexpr float QUICK = 1.702f;                              /* CLIP's quick GELU: x·σ(1.702 x) */

/* An activation and its slope at x; each kind computes both from what they share. */
struct Point {
    float value, slope;
};

template <Activation KIND> __device__ __forceinline__ Point act_at(float x) {
    if constexpr (KIND == ACTIVATION_GELU) {
        float below = 0.5f * (1.0f + erff(x * 0.70710678f)); /* Φ(x) */
        return {x * below, below + x * 0.39894228f * expf(-0.5f * x * x)};
    } else if constexpr (KIND == ACTIVATION_GELU_TANH) {
        /* ½(1 + tanh u) = σ(2u), u = A(x + Bx³) */
        float s = sigmoid(2.0f * GELU_A * x * (1.0f + GELU_B * x * x));
        float inner = 2.0f * GELU_A * (1.0f + 3.0f * GELU_B * x * x); /* of 2u */
        return {x * s, s + x * s * (1.0f - s) * inner};
    } else {
        constexpr float k = KIND == ACTIVATION_QUICK_GELU ? QUICK : 1.0f;
        float s = sigmoid(k * x);
        return {x * s, s + k * x * s * (1.0f - s)};
    }
}

/* Calls f with the kind as a type's constant. */
template <Activation KIND> struct Kind { static constexpr Activation value = KIND; };

template <typename F> void with_kind(Activation kind, F f) {
    switch (kind) {
    case ACTIVATION_GELU_TANH: return f(Kind<ACTIVATION_GELU_TANH>());
    case ACTIVATION_GELU: return f(Kind<ACTIVATION_GELU>());
    case ACTIVATION_QUICK_GELU: return f(Kind<ACTIVATION_QUICK_GELU>());
    case ACTIVATION_SILU: return f(Kind<ACTIVATION_SILU>());
    }
}

/* ---- plain ---- */

/* out = act(x). Floor: 2·T·C elements of memory. At the floor by count. */
template <typename T, int N, Activation KIND> struct ActFwd {
    Rows<T> out;
    Rows<const T> x;
    typedef Bits<T, N> Loaded;

    __device__ __forceinline__ Loaded load(int64_t row, int64_t at) const {
        Loaded l;
        l.load(x[row] + at * N);
        return l;
    }

    __device__ __forceinline__ void store(int64_t row, int64_t at, const Loaded &l) const {
        Values<N> v = l.values();
#pragma unroll
        for (int i = 0; i < N; i++) v.x[i] = act_at<KIND>(v.x[i]).value;
        store_values(out[row] + at * N, v);
    }
};

/* dx = dout · act'(x); dx may be dout. Floor: 3·T·C elements of memory. At the floor by count. */
template <typename T, int N, Activation KIND> struct ActBwd {
    Rows<T> dx;
    Rows<const T> dout, x;
    struct Loaded {
        Bits<T, N> dout, x;
    };

    __device__ __forceinline__ Loaded load(int64_t row, int64_t at) const {
        Loaded l;
        l.dout.load(dout[row] + at * N);
        l.x.load(x[row] + at * N);
        return l;
    }

    __device__ __forceinline__ void store(int64_t row, int64_t at, const Loaded &l) const {
        Values<N> d = l.dout.values(), v = l.x.values();
#pragma unroll
        for (int i = 0; i < N; i++) d.x[i] *= act_at<KIND>(v.x[i]).slope;
        store_values(dx[row] + at * N, d);
    }
};

/* ---- gated ---- */

/* out = act(gate) · up, x = gate, up. Floor: 3·T·F elements of memory. At the floor by count. */
template <typename T, int N, Activation KIND> struct GluFwd {
    Rows<T> out;
    Rows<const T> gate, up;
    struct Loaded {
        Bits<T, N> gate, up;
    };

    __device__ __forceinline__ Loaded load(int64_t row, int64_t at) const {
        Loaded l;
        l.gate.load(gate[row] + at * N);
        l.up.load(up[row] + at * N);
        return l;
    }

    __device__ __forceinline__ void store(int64_t row, int64_t at, const Loaded &l) const {
        Values<N> g = l.gate.values(), u = l.up.values();
#pragma unroll
        for (int i = 0; i < N; i++) g.x[i] = act_at<KIND>(g.x[i]).value * u.x[i];
        store_values(out[row] + at * N, g);
    }
};

/* dgate = dout · up · act'(gate), dup = dout · act(gate). Floor: 5·T·F elements of memory. At the
 * floor by count. */
template <typename T, int N, Activation KIND> struct GluBwd {
    Rows<T> dgate, dup;
    Rows<const T> dout, gate, up;
    struct Loaded {
        Bits<T, N> dout, gate, up;
    };

    __device__ __forceinline__ Loaded load(int64_t row, int64_t at) const {
        Loaded l;
        l.dout.load(dout[row] + at * N);
        l.gate.load(gate[row] + at * N);
        l.up.load(up[row] + at * N);
        return l;
    }

    __device__ __forceinline__ void store(int64_t row, int64_t at, const Loaded &l) const {
        Values<N> d = l.dout.values(), g = l.gate.values(), u = l.up.values();
#pragma unroll
        for (int i = 0; i < N; i++) {
            Point p = act_at<KIND>(g.x[i]);
            g.x[i] = d.x[i] * u.x[i] * p.slope;
            u.x[i] = d.x[i] * p.value;
        }
        store_values(dgate[row] + at * N, g);
        store_values(dup[row] + at * N, u);
    }
};

/* ---- launching ---- */

/* Calls launch(Form<T, N, KIND>()) for the type, the kind and what alignment allows. */
template <typename T_, int N_, Activation KIND_> struct Form {
    typedef T_ T;
    static constexpr int N = N_;
    static constexpr Activation KIND = KIND_;
};

template <typename F> void with_form(DType dtype, bool aligned, Activation kind, F launch) {
    with_type(dtype, [&](auto element) {
        using T = decltype(element);
        with_kind(kind, [&](auto k) {
            if (aligned)
                launch(Form<T, 16 / sizeof(T), decltype(k)::value>());
            else
                launch(Form<T, 1, decltype(k)::value>());
        });
    });
}

} // namespace

void cuda_act_fwd(cudaStream_t stream, Tensor out, Tensor x, Activation kind) {
    with_form(x.dtype, rows_aligned(out) && rows_aligned(x), kind, [&](auto form) {
        using T = typename decltype(form)::T;
        using Op = ActFwd<T, form.N, form.KIND>;
        launch_map(stream, Op{rows_of<T>(out), rows_of<const T>(x)}, x.rows, x.cols / form.N);
    });
}

void cuda_act_bwd(cudaStream_t stream, Tensor dx, Tensor dout, Tensor x, Activation kind) {
    bool aligned = rows_aligned(dx) && rows_aligned(dout) && rows_aligned(x);
    with_form(x.dtype, aligned, kind, [&](auto form) {
        using T = typename decltype(form)::T;
        using Op = ActBwd<T, form.N, form.KIND>;
        launch_map(stream, Op{rows_of<T>(dx), rows_of<const T>(dout), rows_of<const T>(x)}, x.rows,
                   x.cols / form.N);
    });
}

void cuda_glu_fwd(cudaStream_t stream, Tensor out, Tensor x, Activation kind) {
    Tensor gate = tensor_cols(x, 0, out.cols), up = tensor_cols(x, out.cols, out.cols);
    bool aligned = rows_aligned(out) && rows_aligned(gate) && rows_aligned(up);
    with_form(x.dtype, aligned, kind, [&](auto form) {
        using T = typename decltype(form)::T;
        using Op = GluFwd<T, form.N, form.KIND>;
        launch_map(stream, Op{rows_of<T>(out), rows_of<const T>(gate), rows_of<const T>(up)},
                   out.rows, out.cols / form.N);
    });
}

void cuda_glu_bwd(cudaStream_t stream, Tensor dx, Tensor dout, Tensor x, Activation kind) {
    int64_t n = dout.cols;
    Tensor gate = tensor_cols(x, 0, n), up = tensor_cols(x, n, n);
    Tensor dgate = tensor_cols(dx, 0, n), dup = tensor_cols(dx, n, n);
    bool aligned = rows_aligned(dout) && rows_aligned(gate) && rows_aligned(up) &&
                   rows_aligned(dgate) && rows_aligned(dup);
    with_form(x.dtype, aligned, kind, [&](auto form) {
        using T = typename decltype(form)::T;
        using Op = GluBwd<T, form.N, form.KIND>;
        Op op = {rows_of<T>(dgate), rows_of<T>(dup), rows_of<const T>(dout), rows_of<const T>(gate),
                 rows_of<const T>(up)};
        launch_map(stream, op, dout.rows, n / form.N);
    });
}
