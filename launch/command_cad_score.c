/* cadvlm cad score: one pair of parts, or two folders of them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/progress.h"
#include "core/text.h"
#include "launch/command_cad.h"
#include "launch/part_file.h"
#include "launch/shown.h"

enum { AHEAD = 64, PROGRESS_FROM = 20, POINTS_DEFAULT = 8192 };

/* How points are scaled before distances are measured: see docs/cad.md. */
static const char normalisation[] = "reference bounding box, largest extent 1";

typedef struct Pair {
    char name[256]; /* of the files, without extension */
    PartFile pred, ref;
    bool missing; /* there is a reference, but no prediction */
    CadReply reply;
} Pair;

typedef struct ScoreOptions {
    int64_t points;
    double seconds;
    bool json;
} ScoreOptions;

static void pair_free(Pair *pair) {
    part_file_free(&pair->pred);
    part_file_free(&pair->ref);
    cad_reply_free(&pair->reply);
}

/* ---- finding pairs ---- */

static size_t stem_length(const char *name) {
    return strlen(name) - strlen(path_extension(name));
}

/* The file of `names` that has the stem of `name`; NULL when there is none. */
static const char *same_stem(const FileNames *names, const char *name) {
    size_t length = stem_length(name);
    for (size_t i = 0; i < names->count; i++)
        if (part_file_kind(names->names[i]) && stem_length(names->names[i]) == length &&
            !strncmp(names->names[i], name, length))
            return names->names[i];
    return NULL;
}

static Err read_from(PartFile *part, const char *folder, const char *name) {
    char path[PATH_SIZE];
    TRY(path_join(path, folder, name));
    part_file_read_item(part, path);
    return OK;
}

/* Every reference gets a pair, whether or not there is a prediction. */
static Err find_pairs(Pair **out, int *count, const char *pred, const char *ref) {
    FileNames preds = {0}, refs = {0};
    Err err = OK;
    *count = 0;
    *out = NULL;
    TRY_GOTO(err, file_list(&preds, pred));
    TRY_GOTO(err, file_list(&refs, ref));
    Pair *pairs = calloc(refs.count + 1, sizeof *pairs);
    CHECK(pairs, "out of memory: %zu pairs", refs.count);
    *out = pairs;
    for (size_t i = 0; i < refs.count; i++) {
        const char *name = refs.names[i];
        if (!part_file_kind(name)) continue;
        if (same_stem(&refs, name) != name) continue; /* a second form of the same part */
        Pair *pair = &pairs[(*count)++];
        cad_reply_clear(&pair->reply);
        text_escape_some(pair->name, sizeof pair->name, name, stem_length(name));
        TRY_GOTO(err, read_from(&pair->ref, ref, name));
        const char *match = same_stem(&preds, name);
        pair->missing = match == NULL;
        if (match) TRY_GOTO(err, read_from(&pair->pred, pred, match));
    }
    REQUIRE_GOTO(err, *count > 0, ERR_INPUT, "no parts (.py, .json, .step) in %s", ref);
done:
    file_names_free(&preds);
    file_names_free(&refs);
    return err;
}

/* ---- scoring ---- */

/* Whether there is anything for a worker to do; else the reply says what is known already. */
static bool request_pair(Pair *pair, CadRequest *request, int points) {
    *request = (CadRequest){.tag = pair, .score_points = points};
    if (pair->pred.failed) part_file_failed_reply(&pair->pred, &pair->reply);
    if (pair->ref.failed) pair->reply.score.reference_status = pair->ref.failed;
    if (pair->missing || pair->pred.failed) return false;
    part_file_request(&pair->pred, request);
    if (!pair->ref.failed) part_file_reference(&pair->ref, request);
    return true;
}

/* Cut behind a character where it does not fit. */
static void name_reference(char *out, size_t size, const char *message) {
    size_t used = (size_t)snprintf(out, size, "reference: ");
    text_escape(out + used, size - used, message);
}

/* What a worker says; of a reference that cannot be read it knows nothing. */
static void take_reply(const CadReply *reply) {
    Pair *pair = reply->tag;
    pair->reply = *reply;
    if (!pair->ref.failed) return;
    pair->reply.score.reference_status = pair->ref.failed;
    if (!pair->reply.message[0])
        name_reference(pair->reply.message, sizeof pair->reply.message, pair->ref.message);
}

static Err score_pairs(Pair *pairs, int count, const ScoreOptions *o) {
    CadPool *pool;
    Progress progress;
    int finished = 0, next = 0;
    TRY(cad_pool_open(&pool, count == 1 ? 1 : 0, (CadLimits){.seconds = o->seconds}));
    if (count >= PROGRESS_FROM) progress_open(&progress, "scoring", "pairs", 0, count);
    Err err = OK;
    for (CadReply reply; finished < count;) {
        for (; next < count && next - finished < AHEAD; next++) {
            CadRequest request;
            if (!request_pair(&pairs[next], &request, (int)o->points)) {
                finished++;
                continue;
            }
            TRY_GOTO(err, cad_pool_submit(pool, &request));
        }
        if (!cad_pool_next(pool, &reply)) continue;
        take_reply(&reply);
        finished++;
        if (count >= PROGRESS_FROM) progress_set(&progress, finished, NULL);
    }
done:
    if (count >= PROGRESS_FROM) progress_close(&progress, NULL);
    cad_pool_close(&pool);
    return err;
}

/* ---- saying ---- */

static const char *pred_status(const Pair *pair) {
    return pair->missing ? "no_output" : cad_status_name(pair->reply.status);
}

static void set_scores(Json *root, const Pair *pair, int points) {
    const CadScore *s = &pair->reply.score;
    js_set_text(root, "status_pred", pred_status(pair));
    js_set_text(root, "status_ref", cad_status_name(s->reference_status));
    js_set_number(root, "chamfer", s->chamfer);
    js_set_integer(root, "chamfer_points", points);
    js_set_text(root, "normalisation", normalisation);
    js_set_number(root, "hausdorff", s->hausdorff);
    js_set_number(root, "hd95", s->hd95);
    js_set_number(root, "iou", s->iou);
    js_set_number(root, "iou_aligned", s->iou_aligned);
    js_set_bool(root, "iou_exact", s->iou_exact);
    js_set_number(root, "fscore", s->fscore);
    js_set_number(root, "dims_rel_error", s->dims_rel_error);
    js_set_text(root, "openecad_score", NULL); /* not there yet */
    if (pair->reply.message[0]) js_set_text(root, "message", pair->reply.message);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* IoU, F-score (0 for a failure) and invalidity (1 − share of ok) are over all pairs, the others
 * over those that have a value. */
typedef struct Summary {
    int pairs, scored, missing, references_failed;
    double iou_mean, fscore_mean, chamfer_mean, chamfer_median, hd95_median, invalidity;
} Summary;

static double median_of(double *values, int count) {
    if (!count) return (double)NAN;
    qsort(values, (size_t)count, sizeof *values, by_value);
    return 0.5 * (values[(count - 1) / 2] + values[count / 2]);
}

static Summary summarise(const Pair *pairs, int count) {
    Summary sum = {.pairs = count};
    double *chamfer = calloc((size_t)count + 1, sizeof *chamfer);
    double *hd95 = calloc((size_t)count + 1, sizeof *hd95);
    CHECK(chamfer && hd95, "out of memory: %d scores", count);
    for (int i = 0; i < count; i++) {
        const CadScore *s = &pairs[i].reply.score;
        sum.missing += pairs[i].missing;
        sum.references_failed +=
            s->reference_status != CAD_UNKNOWN && !cad_status_executed(s->reference_status);
        if (pairs[i].reply.status != CAD_OK) sum.invalidity += 1.0 / count;
        if (isfinite(s->iou)) sum.iou_mean += s->iou / count;
        if (isfinite(s->fscore)) sum.fscore_mean += s->fscore / count;
        if (!isfinite(s->chamfer)) continue;
        chamfer[sum.scored] = s->chamfer;
        hd95[sum.scored++] = s->hd95;
    }
    for (int i = 0; i < sum.scored; i++) sum.chamfer_mean += chamfer[i] / sum.scored;
    if (!sum.scored) sum.chamfer_mean = (double)NAN;
    sum.chamfer_median = median_of(chamfer, sum.scored);
    sum.hd95_median = median_of(hd95, sum.scored);
    free(chamfer);
    free(hd95);
    return sum;
}

static void print_pair_line(const Pair *pair) {
    const CadScore *s = &pair->reply.score;
    printf("%s: %s", shown(pair->name), pred_status(pair));
    if (isfinite(s->chamfer)) printf(", IoU %.4f, Chamfer %.3g", s->iou, s->chamfer);
    if (pair->reply.message[0]) printf("\n  %s", part_reply_sentence(&pair->reply));
    putchar('\n');
}

static void print_summary(const Summary *sum) {
    printf("%d pairs, %d without a prediction: IoU %.4f, F-score %.4f (failures count 0), "
           "invalidity %.1f %%",
           sum->pairs, sum->missing, sum->iou_mean, sum->fscore_mean, 100 * sum->invalidity);
    if (sum->references_failed) printf("; %d references give no solid", sum->references_failed);
    if (sum->scored)
        printf("; Chamfer median %.3g, mean %.3g, HD95 median %.3g over %d\n", sum->chamfer_median,
               sum->chamfer_mean, sum->hd95_median, sum->scored);
    else
        printf("; no distances: nothing could be scored\n");
}

static void print_folders(const Pair *pairs, int count, const Summary *sum, int points, bool json) {
    if (!json) {
        for (int i = 0; i < count; i++) print_pair_line(&pairs[i]);
        print_summary(sum);
        return;
    }
    Json *root = js_new_object(), *list = js_new_array(), *summary = js_new_object();
    for (int i = 0; i < count; i++) {
        Json *item = js_new_object();
        js_set_text(item, "name", pairs[i].name);
        set_scores(item, &pairs[i], points);
        js_push(list, item);
    }
    js_set(root, "pairs", list);
    js_set_integer(summary, "pairs", sum->pairs);
    js_set_integer(summary, "missing", sum->missing);
    js_set_integer(summary, "scored", sum->scored);
    js_set_integer(summary, "references_failed", sum->references_failed);
    js_set_number(summary, "iou_mean", sum->iou_mean);
    js_set_number(summary, "fscore", sum->fscore_mean);
    js_set_number(summary, "chamfer_mean", sum->chamfer_mean);
    js_set_number(summary, "chamfer_median", sum->chamfer_median);
    js_set_number(summary, "hd95", sum->hd95_median);
    js_set_number(summary, "invalidity", sum->invalidity);
    js_set(root, "summary", summary);
    cli_print_json(&root, JSON_INDENTED);
}

static void print_pair(const Pair *pair, int points, bool json) {
    const CadScore *s = &pair->reply.score;
    if (json) {
        Json *root = js_new_object();
        set_scores(root, pair, points);
        cli_print_json(&root, JSON_INDENTED);
        return;
    }
    printf("prediction %s, reference %s\n", pred_status(pair),
           cad_status_name(s->reference_status));
    if (pair->reply.message[0]) printf("  %s\n", pair->reply.message);
    if (!isfinite(s->chamfer)) return;
    printf("  IoU %.6f (%s), aligned %.6f\n  Chamfer %.6g, Hausdorff %.5g, HD95 %.5g, "
           "F-score %.4f (%d points; %s)\n  dimensions off by %.3g %%\n",
           s->iou, s->iou_exact ? "exact" : "by columns", s->iou_aligned, s->chamfer, s->hausdorff,
           s->hd95, s->fscore, points, normalisation, 100 * s->dims_rel_error);
}

static Err score_two_files(const char *pred, const char *ref, const ScoreOptions *o) {
    Pair pair = {0};
    Err err = OK;
    cad_reply_clear(&pair.reply);
    TRY_GOTO(err, part_file_read(&pair.pred, pred));
    TRY_GOTO(err, part_file_read(&pair.ref, ref));
    TRY_GOTO(err, score_pairs(&pair, 1, o));
    print_pair(&pair, (int)o->points, o->json);
    REQUIRE_GOTO(err, isfinite(pair.reply.score.chamfer), ERR_INPUT,
                 "%s (%s) and %s (%s) cannot be compared", pred, pred_status(&pair), ref,
                 cad_status_name(pair.reply.score.reference_status));
done:
    pair_free(&pair);
    return err;
}

static Err score_two_folders(const char *pred, const char *ref, const ScoreOptions *o) {
    Pair *pairs;
    int count;
    Err err = OK;
    TRY_GOTO(err, find_pairs(&pairs, &count, pred, ref));
    TRY_GOTO(err, score_pairs(pairs, count, o));
    Summary sum = summarise(pairs, count);
    print_folders(pairs, count, &sum, (int)o->points, o->json);
    REQUIRE_GOTO(err, sum.scored == count, ERR_INPUT, "%d of %d pairs could not be scored",
                 count - sum.scored, count);
done:
    for (int i = 0; i < count; i++) pair_free(&pairs[i]);
    free(pairs);
    return err;
}

Err cad_score_command(const Command *command, int argc, char **argv) {
    ScoreOptions o = {.points = POINTS_DEFAULT};
    Option options[] = {{"--points", NULL, "N", "points sampled on each surface (8192)", OPTION_INT,
                         &o.points, 16, 1 << 20},
                        cad_seconds_option(&o.seconds),
                        cad_json_option(&o.json)};
    Arguments arguments;
    TRY(options_parse(command, options, 3, argc, argv, 2, 2, &arguments));
    Err err = OK;
    if (!arguments.helped) {
        const char *pred = arguments.items[0], *ref = arguments.items[1];
        TRY_GOTO(err, file_reach(pred));
        TRY_GOTO(err, file_reach(ref));
        bool folders = file_is_directory(pred);
        REQUIRE_GOTO(err, folders == file_is_directory(ref), ERR_CONFIG,
                     "%s and %s: two files or two folders are expected", pred, ref);
        err = (folders ? score_two_folders : score_two_files)(pred, ref, &o);
    }
done:
    arguments_free(&arguments);
    return err;
}
