/* What model_flops says, beside the products that a step really makes, counted by a backend that
 * notes their sizes: two operations a multiplication. */
#include "ops/backend.h"
#include "tests/support/test.h"
#include "tests/support/tiny.h"

static const Backend *real;
static double counted;

static void count(double rows, double outs, double ins) {
    counted += 2 * rows * outs * ins;
}

static void count_linear(Exec *ex, Tensor y, Tensor x, Tensor w, Tensor bias) {
    count((double)y.rows, (double)y.cols, (double)x.cols);
    real->linear_fwd(ex, y, x, w, bias);
}

static void count_weight(Exec *ex, Tensor dw, Tensor dbias, Tensor dy, Tensor x) {
    count((double)dw.rows, (double)dw.cols, (double)dy.rows);
    real->linear_bwd_w(ex, dw, dbias, dy, x);
}

static void count_product(Exec *ex, Tensor c, Tensor a, Tensor b, bool transpose_b, float scale,
                          bool accumulate) {
    count((double)c.rows, (double)c.cols, (double)a.cols);
    real->product(ex, c, a, b, transpose_b, scale, accumulate);
}

/* Pairs of a query and a key that it sees. */
static double pairs_of(const AttentionSpec *s) {
    double pairs = 0;
    for (int i = 0; i < s->sequences; i++) {
        int queries = s->starts_q[i + 1] - s->starts_q[i],
            keys = s->lengths_k ? s->lengths_k[i] : s->starts_k[i + 1] - s->starts_k[i];
        for (int q = 0; q < queries; q++) pairs += s->causal ? keys - queries + q + 1 : keys;
    }
    return pairs;
}

static void count_attention(Exec *ex, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                            const AttentionSpec *spec) {
    counted += 2 * 2 * pairs_of(spec) * spec->heads_q * spec->head_dim; /* scores, values */
    real->attention_fwd(ex, out, lse, q, k, v, spec);
}

static void count_attention_back(Exec *ex, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out,
                                 Tensor lse, Tensor q, Tensor k, Tensor v,
                                 const AttentionSpec *spec) {
    counted += 5 * 2 * pairs_of(spec) * spec->heads_q * spec->head_dim; /* scores again, and theirs
                                                                           of all four */
    real->attention_bwd(ex, dq, dk, dv, dout, out, lse, q, k, v, spec);
}

static void check(const ModelSpec *spec, const char *name, bool train) {
    Tiny tiny;
    tiny_open(&tiny, spec, DT_F32, 1);
    Batch batch = tiny_batch(spec, 3, 1);
    tiny_batch_cut_labels(&batch, 2); /* the last layer's rows end with the labels */
    real = tiny.ex->backend;
    Backend spy = *real;
    spy.linear_fwd = count_linear;
    spy.linear_bwd_w = count_weight;
    spy.product = count_product;
    spy.attention_fwd = count_attention;
    spy.attention_bwd = count_attention_back;
    tiny.ex->backend = &spy;
    counted = 0;
    if (train)
        tiny_step(&tiny, &batch);
    else
        tiny_loss(&tiny, &batch);
    tiny.ex->backend = real;
    double said = model_flops(tiny.model, &batch, train);
    printf("%s, %s: %.0f said, %.0f counted\n", name, train ? "a step" : "forward", said, counted);
    ASSERT_NEAR(said / counted, 1, 1e-9);
    tiny_batch_free(&batch);
    tiny_close(&tiny);
}

TEST(work_is_counted_as_it_is_done) {
    static const Tune tunes[][COMPONENT_COUNT] = {{TUNE_FULL, TUNE_FULL, TUNE_FULL},
                                                  {TUNE_LORA, TUNE_FULL, TUNE_LORA},
                                                  {TUNE_FROZEN, TUNE_FULL, TUNE_LORA},
                                                  {TUNE_FROZEN, TUNE_FROZEN, TUNE_LORA},
                                                  {TUNE_FROZEN, TUNE_FULL, TUNE_FROZEN}};
    for (int family = 0; family < TINY_FAMILIES; family++)
        for (size_t i = 0; i < sizeof tunes / sizeof tunes[0]; i++) {
            ModelSpec spec;
            tiny_spec_of(&spec, (TinyFamily)family, tunes[i][0], tunes[i][1], tunes[i][2]);
            check(&spec, tiny_family_name((TinyFamily)family), false);
            check(&spec, tiny_family_name((TinyFamily)family), true);
        }
}
