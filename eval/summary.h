/* What an evaluation counts: a record for each sample, and the metrics made of all of them.
 * docs/evaluation.md says what each number means. */
#ifndef CADVLM_EVAL_SUMMARY_H
#define CADVLM_EVAL_SUMMARY_H

#include <stddef.h>
#include <stdint.h>

#include "cad/worker/worker.h"
#include "core/json.h"

/* Plain memory: records travel between ranks as they are. Scores are NaN where there are none. */
typedef struct EvalRecord {
    int32_t done;                     /* 0: nobody has evaluated this sample yet */
    int32_t status, reference_status; /* CadStatus of the generated and of the reference code */
    int32_t tokens;                   /* generated, without the end token */
    int32_t ended;                    /* the model wrote its end token */
    int32_t identical;                /* the code is the reference, to the byte */
    int32_t iou_exact;                /* by boolean volume, not by columns */
    double confidence;                /* geometric mean of the probabilities of its tokens */
    double iou;                       /* own units, own place: 0 … 1 */
    double chamfer, hd95, fscore, dims_rel_error; /* as CadScore has them */
    double dims[3], reference_dims[3];            /* overall dimensions, in the code's unit */
} EvalRecord;

enum { EVAL_IOU_BINS = 20 };

typedef struct EvalMetrics {
    size_t samples;
    double loss, accuracy; /* a label, of the reference code given token by token; NaN: not known */
    int64_t labels;        /* that these are means of */
    int64_t overlong;      /* samples whose reference is too long: left out of these */

    /* Shares of all samples. */
    double syntax, executes, invalidity, ended, code_identical;
    double dims_exact;           /* all three dimensions within EVAL_DIMS_EXACT */
    double iou_mean, iou_median; /* failures count 0 */

    /* Of the samples that gave a solid. */
    double chamfer_mean, chamfer_median, hd95, fscore, dims_rel_error;
    size_t scored; /* how many these are */

    double tokens_mean, confidence;
    size_t iou_bins[EVAL_IOU_BINS]; /* samples by IoU, in equal parts of 0 … 1 */
    size_t statuses[CAD_STATUS_COUNT];
    size_t references_failed; /* references that give no solid: left out of all geometry */
} EvalMetrics;

#define EVAL_DIMS_EXACT 0.01 /* in the code's unit */

/* What a worker says of the reference's and of the generated code, into the record of its sample. A
 * worker that died or overran has no scores, whatever stands in its reply. */
void eval_take_reference(EvalRecord *record, const CadReply *reply);
void eval_take_result(EvalRecord *record, const CadReply *reply);

/* Sums up `count` records, in their order; loss and accuracy stay NaN. */
void eval_summarise(EvalMetrics *out, const EvalRecord *records, size_t count);

/* Adds one dataset's loss and accuracy to those of others, weighted by labels. */
void eval_add_loss(EvalMetrics *out, double loss, double accuracy, int64_t labels);

/* The object of docs/evaluation.md. The caller frees it. */
Json *eval_metrics_json(const EvalMetrics *metrics);

/* Whose picture sample `index` of `count` is shown in the shuffled control: never its own.
 * count ≥ 2. */
size_t eval_donor(size_t index, size_t count);

#endif
