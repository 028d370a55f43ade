/* The tiny published models of tests/golden/models (tools/reference/golden.py describes them), and
 * copies of their files with something changed. */
#ifndef CADVLM_TESTS_MODEL_GOLDEN_MODEL_H
#define CADVLM_TESTS_MODEL_GOLDEN_MODEL_H

#include "model/files/adapter.h"
#include "model/files/published.h"

enum { GOLDEN_ARCHS = 5, GOLDEN_PATHS = 64 };
extern const char *const golden_archs[GOLDEN_ARCHS];

/* The folder of one, or of something in it (`inside` may be NULL); in one of GOLDEN_PATHS
 * static buffers, in turn. */
const char *golden_folder(const char *arch, const char *inside);

/* `folder`/`name` in such a buffer. */
const char *golden_path(const char *folder, const char *name);

/* A folder of this test, made. */
const char *golden_new_folder(const char *name);

void golden_write_text(const char *folder, const char *name, const char *text);

/* How to open a golden model that is trained so. */
void golden_spec(ModelSpec *spec, const char *folder, Tune vision, Tune connector, Tune llm);

/* The weights of `from` in one file of `to`, as `dtype`; `edit` (may be NULL) may change a
 * tensor's description and its f32 values, or say false: left out. */
typedef bool (*GoldenEdit)(SafeTensor *tensor, float *values, void *context);
void golden_copy_weights(const char *from, const char *to, DType dtype, GoldenEdit edit,
                         void *context);

/* A model of the CPU with the base weights loaded. */
typedef struct GoldenModel {
    Exec *ex;
    Model *model;
} GoldenModel;

void golden_open(GoldenModel *golden, const ModelSpec *spec, DType dtype);
/* Skips the test on a processor that does not compute in that type. */
void golden_need(DType dtype);
/* The type that this processor is fast in: bf16, or f32 once more. */
DType golden_fast(void);
/* The same over an Exec, which it takes. */
void golden_open_on(GoldenModel *golden, Exec *ex, const ModelSpec *spec, DType dtype);
/* The base weights of a folder as runs get them: read into the model, or (of a spec that says
 * `mapped`) written to a file that it maps. `merge`: an adapter, or NULL. The report may be NULL.
 */
Err golden_try_load(GoldenModel *golden, const char *folder, const Adapter *merge,
                    LoadReport *report);
/* The same, and all there is must have a place. */
void golden_load(GoldenModel *golden, const char *folder, const Adapter *merge);
void golden_close(GoldenModel *golden);

/* One of the architecture with its weights and with fresh adapters; `lora` NULL: of rank 4. */
void golden_open_tuned(GoldenModel *golden, const char *arch, Tune vision, Tune connector, Tune llm,
                       const LoraConfig *lora);

Adapter *golden_adapter(const char *folder);

/* Numbers to put into adapters. */
float golden_wave(int64_t i, bool is_b);

/* As far as sums of f32 agree. */
bool golden_is_close(double a, double b);

/* ---- expected.safetensors ---- */

int32_t golden_int(const SafeTensor *tensor, int64_t index);
float golden_real(const SafeTensor *tensor, int64_t index);

/* The golden micro-batch, or one sample where that is all there is. */
enum { GOLDEN_SAMPLES = 2, GOLDEN_ROWS = 1024 };
typedef struct GoldenBatch {
    Batch batch; /* of the arrays below */
    int32_t ids[GOLDEN_ROWS], positions[GOLDEN_ROWS], starts[GOLDEN_SAMPLES + 1],
        label_rows[GOLDEN_ROWS], targets[GOLDEN_ROWS];
    uint8_t *pixels;
} GoldenBatch;

/* Samples are cut to max_length rows, those of the picture included (GOLDEN_ROWS: none is). all:
 * every row but a sample's last has a label, so that there are logits for it; before rows of the
 * picture it is 0. */
void golden_batch_open(GoldenBatch *golden, const SafeTensors *expected, const ModelSpec *spec,
                       int max_length, bool all);
void golden_batch_close(GoldenBatch *golden);

/* Mean loss of the golden micro-batch; the model becomes prepared for inference. */
double golden_loss(GoldenModel *golden, const char *arch);

/* One number of expected.safetensors. */
double golden_expected(const char *arch, const char *name);

/* A parameter's values as f32, to be freed. */
float *golden_values(const GoldenModel *golden, const char *name);

#endif
