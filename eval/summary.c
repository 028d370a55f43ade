/* Sums and medians of an evaluation. What failed counts against the model; what is unknown because
 * the reference failed does not. */
#include "eval/summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void take_dims(double dims[3], const CadReply *reply) {
    const double none = (double)NAN;
    bool there = cad_status_executed(reply->status);
    dims[0] = there ? reply->box_max.x - reply->box_min.x : none;
    dims[1] = there ? reply->box_max.y - reply->box_min.y : none;
    dims[2] = there ? reply->box_max.z - reply->box_min.z : none;
}

void eval_take_reference(EvalRecord *record, const CadReply *reply) {
    record->reference_status = reply->status;
    take_dims(record->reference_dims, reply);
}

void eval_take_result(EvalRecord *record, const CadReply *reply) {
    const double none = (double)NAN;
    bool there = cad_status_executed(reply->status);
    record->status = reply->status;
    take_dims(record->dims, reply);
    record->iou = there ? reply->score.iou : none;
    record->iou_exact = there && reply->score.iou_exact;
    record->chamfer = there ? reply->score.chamfer : none;
    record->hd95 = there ? reply->score.hd95 : none;
    record->fscore = there ? reply->score.fscore : none;
    record->dims_rel_error = there ? reply->score.dims_rel_error : none;
}

/* Values that are there, for a mean or a median. */
typedef struct Values {
    double *items;
    size_t count;
} Values;

static Values values_new(size_t most) {
    Values values = {.items = malloc((most + 1) * sizeof *values.items)};
    CHECK(values.items, "out of memory: %zu values", most);
    return values;
}

static void push(Values *values, double value) {
    if (isfinite(value)) values->items[values->count++] = value;
}

static double mean(const Values *values) {
    double sum = 0;
    for (size_t i = 0; i < values->count; i++) sum += values->items[i];
    return values->count ? sum / (double)values->count : (double)NAN;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts; of an even number the mean of the middle two. */
static double median(Values *values) {
    size_t n = values->count;
    if (!n) return (double)NAN;
    qsort(values->items, n, sizeof *values->items, compare);
    return 0.5 * (values->items[(n - 1) / 2] + values->items[n / 2]);
}

static bool dims_exact(const EvalRecord *r) {
    for (int k = 0; k < 3; k++)
        if (!(fabs(r->dims[k] - r->reference_dims[k]) <= EVAL_DIMS_EXACT)) return false;
    return true;
}

static double share(size_t part, size_t whole) {
    return whole ? (double)part / (double)whole : (double)NAN;
}

static void count_records(EvalMetrics *out, const EvalRecord *records, size_t count) {
    size_t ended = 0, identical = 0, exact = 0, references = 0;
    double tokens = 0, confidence = 0;
    for (size_t i = 0; i < count; i++) {
        const EvalRecord *r = &records[i];
        CHECK(r->done, "sample %zu was not evaluated", i);
        CHECK(r->status >= 0 && r->status < CAD_STATUS_COUNT, "status %d", r->status);
        bool executed = cad_status_executed((CadStatus)r->status),
             reference = cad_status_executed((CadStatus)r->reference_status);
        out->statuses[r->status]++;
        ended += r->ended != 0;
        identical += r->identical != 0;
        references += reference;
        exact += executed && reference && dims_exact(r);
        tokens += r->tokens;
        confidence += isfinite(r->confidence) ? r->confidence : 0;
    }
    size_t solids =
        out->statuses[CAD_OK] + out->statuses[CAD_INVALID_SOLID] + out->statuses[CAD_NON_MANIFOLD];
    out->syntax = share(count - out->statuses[CAD_PARSE_FAIL], count);
    out->executes = share(solids, count);
    out->invalidity = share(count - out->statuses[CAD_OK], count);
    out->ended = share(ended, count);
    out->code_identical = share(identical, count);
    out->dims_exact = share(exact, references);
    out->references_failed = count - references;
    out->tokens_mean = count ? tokens / (double)count : (double)NAN;
    out->confidence = count ? confidence / (double)count : (double)NAN;
}

static size_t iou_bin(double iou) {
    double bin = iou * EVAL_IOU_BINS;
    return bin < 0 ? 0 : bin < EVAL_IOU_BINS ? (size_t)bin : EVAL_IOU_BINS - 1;
}

static void score_records(EvalMetrics *out, const EvalRecord *records, size_t count) {
    Values iou = values_new(count), chamfer = values_new(count), hd95 = values_new(count),
           fscore = values_new(count), dims = values_new(count);
    for (size_t i = 0; i < count; i++) {
        const EvalRecord *r = &records[i];
        if (!cad_status_executed((CadStatus)r->reference_status)) continue;
        bool executed = cad_status_executed((CadStatus)r->status);
        double overlap = executed && isfinite(r->iou) ? r->iou : 0;
        push(&iou, overlap);
        out->iou_bins[iou_bin(overlap)]++;
        if (!executed) continue;
        out->scored++;
        push(&chamfer, r->chamfer);
        push(&hd95, r->hd95);
        push(&fscore, r->fscore);
        push(&dims, r->dims_rel_error);
    }
    out->iou_mean = mean(&iou);
    out->iou_median = median(&iou);
    out->chamfer_mean = mean(&chamfer);
    out->chamfer_median = median(&chamfer);
    out->hd95 = median(&hd95);
    out->fscore = mean(&fscore);
    out->dims_rel_error = mean(&dims);
    free(iou.items);
    free(chamfer.items);
    free(hd95.items);
    free(fscore.items);
    free(dims.items);
}

void eval_summarise(EvalMetrics *out, const EvalRecord *records, size_t count) {
    *out = (EvalMetrics){.samples = count, .loss = NAN, .accuracy = NAN};
    count_records(out, records, count);
    score_records(out, records, count);
}

void eval_add_loss(EvalMetrics *out, double loss, double accuracy, int64_t labels) {
    if (labels <= 0) return;
    double before = (double)out->labels, more = (double)labels, all = before + more;
    out->loss = ((before > 0 ? out->loss * before : 0) + loss * more) / all;
    out->accuracy = ((before > 0 ? out->accuracy * before : 0) + accuracy * more) / all;
    out->labels += labels;
}

static Json *statuses_json(const EvalMetrics *n) {
    Json *root = js_new_object();
    for (int s = 0; s < CAD_STATUS_COUNT; s++)
        if (n->statuses[s])
            js_set_integer(root, cad_status_name((CadStatus)s), (int64_t)n->statuses[s]);
    return root;
}

static Json *bins_json(const EvalMetrics *n) {
    Json *list = js_new_array();
    for (int i = 0; i < EVAL_IOU_BINS; i++) js_push(list, js_new_integer((int64_t)n->iou_bins[i]));
    return list;
}

Json *eval_metrics_json(const EvalMetrics *n) {
    Json *root = js_new_object();
    js_set_integer(root, "samples", (int64_t)n->samples);
    js_set_number(root, "loss", n->loss);
    js_set_number(root, "perplexity", exp(n->loss));
    js_set_number(root, "accuracy", n->accuracy);
    js_set_integer(root, "overlong", n->overlong);
    js_set_number(root, "syntax", n->syntax);
    js_set_number(root, "executes", n->executes);
    js_set_number(root, "invalidity", n->invalidity);
    js_set_number(root, "iou_mean", n->iou_mean);
    js_set_number(root, "iou_median", n->iou_median);
    js_set_number(root, "chamfer_mean", n->chamfer_mean);
    js_set_number(root, "chamfer_median", n->chamfer_median);
    js_set_number(root, "hd95", n->hd95);
    js_set_number(root, "fscore", n->fscore);
    js_set_number(root, "dims_rel_error", n->dims_rel_error);
    js_set_number(root, "dims_exact", n->dims_exact);
    js_set_number(root, "code_identical", n->code_identical);
    js_set_number(root, "ended", n->ended);
    js_set_number(root, "tokens_mean", n->tokens_mean);
    js_set_number(root, "confidence", n->confidence);
    js_set_integer(root, "scored", (int64_t)n->scored);
    js_set_integer(root, "references_failed", (int64_t)n->references_failed);
    js_set(root, "statuses", statuses_json(n));
    js_set(root, "iou_bins", bins_json(n));
    return root;
}

size_t eval_donor(size_t index, size_t count) {
    CHECK(count >= 2 && index < count, "sample %zu of %zu", index, count);
    return (index + count / 2) % count;
}
