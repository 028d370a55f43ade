/* What a backend must do beside its operations' values, for the CPU and for GPUs alike:
 * attention over keys of which some do not count, and what an update depends on. */
#include "tests/ops/op_check.h"
#include "tests/support/test.h"

/* ---- attention with lengths ---- */

enum { LENGTH_SEQUENCES = 3, LENGTH_ROOM = 40, LENGTH_HEADS = 4, LENGTH_KEY_HEADS = 2, HEAD = 16 };
static const int32_t LENGTH_KEYS[] = {33, 1, 40}, LENGTH_QUERIES[] = {7, 1, 40};
enum { Q, K, V, DOUT, OUT, LSE, DQ, DK, DV, MATRICES };

/* The matrices of one run, on the device; rows of a sequence are `room` apart, or as long as it is.
 */
typedef struct Lengths {
    Tensor t[MATRICES];
    int32_t *starts_q, *starts_k, *lengths, first_k[LENGTH_SEQUENCES + 1];
} Lengths;

static void *upload(Exec *ex, const void *host, size_t bytes) {
    void *device = exec_alloc(ex, bytes);
    ASSERT_TRUE(device);
    exec_upload(ex, device, host, bytes);
    return device;
}

/* A matrix of numbers that follow from row and column of their sequence alone; NaN elsewhere. */
static Tensor fill_rows(Exec *ex, DType dtype, int number, const int32_t *starts,
                        const int32_t *counts, int64_t cols, bool given) {
    int64_t rows = starts[LENGTH_SEQUENCES];
    Tensor host = tensor(calloc((size_t)(rows * cols), sizeof(float)), dtype, rows, cols);
    tensor_fill(host, (double)NAN);
    for (int s = 0; s < LENGTH_SEQUENCES && given; s++)
        for (int64_t r = 0; r < counts[s]; r++)
            for (int64_t c = 0; c < cols; c++)
                tensor_set(host, starts[s] + r, c,
                           sin(1.7 * number + 5.1 * s + 0.37 * (double)r + 0.91 * (double)c));
    Tensor device = host;
    device.data = upload(ex, host.data, tensor_bytes(host));
    free(host.data);
    return device;
}

static Lengths lengths_open(Exec *ex, DType dtype, bool apart) {
    Lengths l;
    int32_t starts_q[LENGTH_SEQUENCES + 1] = {0};
    l.first_k[0] = 0;
    for (int s = 0; s < LENGTH_SEQUENCES; s++) {
        starts_q[s + 1] = starts_q[s] + LENGTH_QUERIES[s];
        l.first_k[s + 1] = l.first_k[s] + (apart ? LENGTH_ROOM : LENGTH_KEYS[s]);
    }
    for (int i = 0; i < MATRICES; i++) {
        bool of_keys = i == K || i == V || i == DK || i == DV;
        l.t[i] =
            fill_rows(ex, i == LSE ? DT_F32 : dtype, i, of_keys ? l.first_k : starts_q,
                      of_keys ? LENGTH_KEYS : LENGTH_QUERIES,
                      i == LSE ? LENGTH_HEADS : HEAD * (of_keys ? LENGTH_KEY_HEADS : LENGTH_HEADS),
                      i <= DOUT);
    }
    l.starts_q = upload(ex, starts_q, sizeof starts_q);
    l.starts_k = upload(ex, l.first_k, sizeof l.first_k);
    l.lengths = upload(ex, LENGTH_KEYS, sizeof LENGTH_KEYS);
    AttentionSpec spec = {.sequences = LENGTH_SEQUENCES,
                          .heads_q = LENGTH_HEADS,
                          .heads_k = LENGTH_KEY_HEADS,
                          .head_dim = HEAD,
                          .starts_q = l.starts_q,
                          .starts_k = l.starts_k,
                          .lengths_k = apart ? l.lengths : NULL,
                          .longest_q = LENGTH_ROOM,
                          .longest_k = LENGTH_ROOM,
                          .causal = true,
                          .scale = 0.25f};
    op_attention_fwd(ex, l.t[OUT], l.t[LSE], l.t[Q], l.t[K], l.t[V], &spec);
    op_attention_bwd(ex, l.t[DQ], l.t[DK], l.t[DV], l.t[DOUT], l.t[OUT], l.t[LSE], l.t[Q], l.t[K],
                     l.t[V], &spec);
    ASSERT_OK(exec_status(ex));
    for (int i = 0; i < MATRICES; i++) { /* back to the host */
        Tensor device = l.t[i];
        l.t[i].data = malloc(tensor_bytes(device));
        exec_download(ex, l.t[i].data, device.data, tensor_bytes(device));
        exec_free(ex, device.data, 0);
    }
    return l;
}

static void lengths_close(Exec *ex, Lengths *l) {
    for (int i = 0; i < MATRICES; i++) free(l->t[i].data);
    exec_free(ex, l->starts_q, 0);
    exec_free(ex, l->starts_k, 0);
    exec_free(ex, l->lengths, 0);
}

void op_check_lengths(Exec *ex, DType dtype) {
    Lengths apart = lengths_open(ex, dtype, true), dense = lengths_open(ex, dtype, false);
    static const int of_queries[] = {OUT, DQ}, of_keys[] = {DK, DV};
    for (int i = 0; i < 2; i++) {
        Tensor a = apart.t[of_queries[i]], b = dense.t[of_queries[i]];
        for (int64_t r = 0; r < a.rows; r++)
            for (int64_t c = 0; c < a.cols; c++)
                ASSERT_NEAR(tensor_get(a, r, c), tensor_get(b, r, c), 1e-5);
        a = apart.t[of_keys[i]], b = dense.t[of_keys[i]];
        for (int s = 0; s < LENGTH_SEQUENCES; s++)
            for (int64_t r = 0; r < LENGTH_ROOM; r++)
                for (int64_t c = 0; c < a.cols; c++)
                    ASSERT_NEAR(tensor_get(a, apart.first_k[s] + r, c),
                                r < LENGTH_KEYS[s] ? tensor_get(b, dense.first_k[s] + r, c) : 0,
                                1e-5);
    }
    lengths_close(ex, &apart);
    lengths_close(ex, &dense);
}

/* ---- what an update depends on ---- */

/* The norm of the mean gradient, and by what gradients are multiplied: 1 / (labels · loss scale),
 * and what clipping takes off. */
static UpdateState begin_update(Exec *ex, UpdateState state, float last, const UpdateSpec *spec) {
    enum { N = 40000 };
    static float grads[N];
    for (int i = 0; i < N; i++) grads[i] = i % 2 ? 0.5f : -0.5f; /* 100 long */
    grads[N - 1] = last;
    UpdateState *there = upload(ex, &state, sizeof state);
    float *of_device = upload(ex, grads, sizeof grads);
    op_update_begin(ex, there, of_device, N, spec);
    exec_download(ex, &state, there, sizeof state);
    ASSERT_OK(exec_status(ex));
    exec_free(ex, there, 0);
    exec_free(ex, of_device, 0);
    return state;
}

static void check_scaling(Exec *ex) {
    UpdateState start = {.loss_scale = 16, .updates = 3, .good_steps = 1, .patience = 2};
    UpdateSpec spec = {.labels = 5, .max_norm = 0.5, .hysteresis = 2};
    UpdateState s = begin_update(ex, start, 0.5f, &spec);
    ASSERT_NEAR(s.grad_norm, 1.25, 1e-12); /* 100 / 5 / 16, before clipping */
    ASSERT_NEAR(s.grad_scale, 1.0 / 80 * 0.4, 1e-9);
    ASSERT_TRUE(s.stepped && s.updates == 4 && s.good_steps == 2);
    ASSERT_REAL(s.loss_scale, ==, 16);
    spec.max_norm = 1.3;
    ASSERT_NEAR(begin_update(ex, start, 0.5f, &spec).grad_scale, 1.0 / 80, 1e-9);
    spec.max_norm = 0;
    ASSERT_NEAR(begin_update(ex, start, 0.5f, &spec).grad_scale, 1.0 / 80, 1e-9);
}

static void check_not_finite(Exec *ex) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    UpdateState start = {.loss_scale = 16, .updates = 3, .good_steps = 1, .patience = 2};
    UpdateSpec spec = {.labels = 5, .max_norm = 0.5, .window = 3, .hysteresis = 2};
    for (int i = 0; i < 3; i++) {
        UpdateState s = begin_update(ex, start, bad[i], &spec);
        ASSERT_TRUE(!s.stepped && s.updates == 3 && s.good_steps == 0 && !isfinite(s.grad_norm));
        ASSERT_TRUE(s.patience == 1 && s.loss_scale == 16); /* it waits once */
        s = begin_update(ex, s, bad[i], &spec);
        ASSERT_TRUE(s.loss_scale == 8 && s.patience == 1);
        s = begin_update(ex, s, bad[i], &spec); /* patience comes back when the scale grows */
        ASSERT_TRUE(s.loss_scale == 4 && s.patience == 1);
        spec.least_scale = 3;
        ASSERT_REAL(begin_update(ex, s, bad[i], &spec).loss_scale, ==, 3);
        spec.least_scale = 0;
        for (int good = 1; good <= 3; good++) {
            s = begin_update(ex, s, 0.5f, &spec);
            ASSERT_TRUE(s.stepped && s.updates == 3 + good && s.good_steps == good % 3);
            ASSERT_REAL(s.loss_scale, ==, good < 3 ? 4 : 8);
        }
        ASSERT_INT(s.patience, ==, 2);
    }
}

void op_check_update_begin(Exec *ex) {
    check_scaling(ex);
    check_not_finite(ex);
}
