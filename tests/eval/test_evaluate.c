/* The numbers of an evaluation: what failures, unknowns and medians do to them, and the control. */
#include "eval/gallery.h"
#include "eval/summary.h"
#include "tests/support/test.h"

/* A part that came out as it should, with an IoU. */
static EvalRecord good(double iou, double chamfer) {
    return (EvalRecord){.done = 1,
                        .status = CAD_OK,
                        .reference_status = CAD_OK,
                        .tokens = 50,
                        .ended = 1,
                        .confidence = 0.9,
                        .iou = iou,
                        .chamfer = chamfer,
                        .hd95 = 10 * chamfer,
                        .fscore = iou,
                        .dims_rel_error = 1 - iou,
                        .dims = {10, 20, 30},
                        .reference_dims = {10, 20, 30.5}};
}

static EvalRecord failed(CadStatus status) {
    EvalRecord r = good(NAN, NAN);
    r.status = status;
    r.hd95 = r.fscore = r.dims_rel_error = NAN;
    for (int k = 0; k < 3; k++) r.dims[k] = NAN;
    return r;
}

TEST(failures_count_zero_in_iou_and_stay_out_of_distances) {
    EvalRecord records[] = {good(0.8, 0.001), failed(CAD_PARSE_FAIL), good(0.6, 0.006),
                            failed(CAD_TIMEOUT), good(1, 0.002)};
    EvalMetrics n;
    eval_summarise(&n, records, 5);
    ASSERT_INT(n.samples, ==, 5);
    ASSERT_NEAR(n.iou_mean, (0.8 + 0.6 + 1) / 5, 1e-12);
    ASSERT_NEAR(n.iou_median, 0.6, 1e-12);
    ASSERT_NEAR(n.chamfer_mean, 0.003, 1e-12);
    ASSERT_NEAR(n.chamfer_median, 0.002, 1e-12);
    ASSERT_NEAR(n.hd95, 0.02, 1e-12);
    ASSERT_NEAR(n.fscore, 0.8, 1e-12);
    ASSERT_NEAR(n.dims_rel_error, (0.2 + 0.4 + 0) / 3, 1e-12);
    ASSERT_NEAR(n.syntax, 0.8, 1e-12);
    ASSERT_NEAR(n.executes, 0.6, 1e-12);
    ASSERT_NEAR(n.invalidity, 0.4, 1e-12);
    ASSERT_INT(n.scored, ==, 3);
    ASSERT_INT(n.statuses[CAD_OK], ==, 3);
    ASSERT_INT(n.statuses[CAD_TIMEOUT], ==, 1);
    ASSERT_INT(n.iou_bins[0], ==, 2);
    ASSERT_INT(n.iou_bins[12], ==, 1);
    ASSERT_INT(n.iou_bins[EVAL_IOU_BINS - 1], ==, 1);
}

TEST(scores_that_a_dead_worker_left_are_not_believed) {
    /* What stands in the record of a part that timed out is of no solid, even if it looks good. */
    EvalRecord records[] = {good(0.5, 0.001), good(1, 0)};
    records[1].status = CAD_TIMEOUT;
    EvalMetrics n;
    eval_summarise(&n, records, 2);
    ASSERT_NEAR(n.iou_mean, 0.25, 1e-12);
    ASSERT_NEAR(n.chamfer_mean, 0.001, 1e-12);
    ASSERT_NEAR(n.dims_exact, 0, 1e-12);
}

/* What a worker could say of a part that came out as it should. */
static CadReply perfect(void) {
    CadReply reply;
    cad_reply_clear(&reply);
    reply.box_min = (Vec3){1, 2, 3};
    reply.box_max = (Vec3){11, 22, 33};
    reply.score = (CadScore){.fscore = 1, .iou = 1, .iou_exact = true};
    return reply;
}

TEST(only_a_solid_is_measured_whatever_the_reply_says) {
    static const bool solid[CAD_STATUS_COUNT] = {
        [CAD_OK] = true, [CAD_INVALID_SOLID] = true, [CAD_NON_MANIFOLD] = true};
    for (int status = 0; status < CAD_STATUS_COUNT; status++) {
        const char *name = cad_status_name((CadStatus)status);
        EvalRecord r = good(0.5, 0.1);
        CadReply reply = perfect();
        reply.status = (CadStatus)status;
        eval_take_result(&r, &reply);
        eval_take_reference(&r, &reply);
        ASSERT_INT(r.status, ==, status);
        ASSERT_INT(r.reference_status, ==, status);
        const double scores[] = {r.iou, r.chamfer, r.hd95, r.fscore, r.dims_rel_error};
        for (size_t i = 0; i < 5; i++)
            ASSERT(isnan(scores[i]) != solid[status], "%s: score %zu is %g", name, i, scores[i]);
        for (int k = 0; k < 3; k++) {
            ASSERT(isnan(r.dims[k]) != solid[status], "%s: size %g", name, r.dims[k]);
            ASSERT(isnan(r.reference_dims[k]) != solid[status], "%s: %g", name,
                   r.reference_dims[k]);
            if (solid[status]) ASSERT_NEAR(r.dims[k], 10 * (k + 1), 1e-12);
        }
        /* And in the sum: against the model where its code gave no solid. */
        EvalRecord records[] = {r, good(1, 0.001)};
        records[0].reference_status = CAD_OK;
        EvalMetrics n;
        eval_summarise(&n, records, 2);
        ASSERT_NEAR(n.iou_mean, solid[status] ? 1 : 0.5, 1e-12);
        ASSERT_NEAR(n.invalidity, status == CAD_OK ? 0 : 0.5, 1e-12);
        ASSERT_NEAR(n.executes, solid[status] ? 1 : 0.5, 1e-12);
        ASSERT_NEAR(n.chamfer_mean, solid[status] ? 0.0005 : 0.001, 1e-12);
        ASSERT_INT(n.scored, ==, solid[status] ? 2 : 1);
        ASSERT_INT(n.statuses[status], ==, status == CAD_OK ? 2 : 1);
    }
}

TEST(broken_solids_execute_but_are_invalid) {
    EvalRecord records[] = {good(0.5, 0.001), good(0.7, 0.001), good(0.9, 0.001),
                            failed(CAD_EMPTY_SOLID)};
    records[0].status = CAD_INVALID_SOLID;
    records[1].status = CAD_NON_MANIFOLD;
    EvalMetrics n;
    eval_summarise(&n, records, 4);
    ASSERT_NEAR(n.executes, 0.75, 1e-12);
    ASSERT_NEAR(n.invalidity, 0.75, 1e-12);
    ASSERT_NEAR(n.iou_mean, (0.5 + 0.7 + 0.9) / 4, 1e-12);
    ASSERT_NEAR(n.iou_median, 0.6, 1e-12); /* of an even number the mean of the middle two */
}

TEST(solids_that_could_not_be_compared_count_zero) {
    EvalRecord records[] = {good(0.5, 0.001), good(NAN, NAN)};
    EvalMetrics n;
    eval_summarise(&n, records, 2);
    ASSERT_NEAR(n.iou_mean, 0.25, 1e-12);
    ASSERT_NEAR(n.chamfer_mean, 0.001, 1e-12);
    ASSERT_INT(n.scored, ==, 2);
}

TEST(parts_whose_reference_fails_are_left_out_of_geometry_alone) {
    EvalRecord records[] = {good(0.5, 0.001), good(0.9, 0.002), failed(CAD_PARSE_FAIL)};
    records[1].reference_status = CAD_EXEC_FAIL;
    EvalMetrics n;
    eval_summarise(&n, records, 3);
    ASSERT_INT(n.references_failed, ==, 1);
    ASSERT_NEAR(n.iou_mean, 0.25, 1e-12);
    ASSERT_NEAR(n.chamfer_median, 0.001, 1e-12);
    ASSERT_NEAR(n.executes, 2.0 / 3, 1e-12);
    ASSERT_NEAR(n.syntax, 2.0 / 3, 1e-12);
}

TEST(dimensions_are_exact_only_when_all_three_are) {
    EvalRecord records[] = {good(1, 0), good(1, 0), good(1, 0), failed(CAD_CRASH)};
    for (int k = 0; k < 3; k++) records[0].reference_dims[k] = records[0].dims[k] + 0.009;
    records[1].reference_dims[2] = records[1].dims[2] - 0.02;
    records[2].dims[1] = NAN;
    EvalMetrics n;
    eval_summarise(&n, records, 4);
    ASSERT_NEAR(n.dims_exact, 0.25, 1e-12);
}

TEST(nothing_gives_null_and_never_nan) {
    EvalMetrics n;
    EvalRecord record = failed(CAD_PARSE_FAIL);
    eval_summarise(&n, &record, 1);
    ASSERT_NEAR(n.iou_mean, 0, 0);
    ASSERT_TRUE(isnan(n.chamfer_mean) && isnan(n.hd95) && isnan(n.loss));
    Json *root = eval_metrics_json(&n);
    ASSERT_TRUE(js_type(js_get(root, "chamfer_mean")) == JSON_KIND_NULL);
    ASSERT_TRUE(js_type(js_get(root, "loss")) == JSON_KIND_NULL);
    ASSERT_TRUE(js_type(js_get(root, "iou_mean")) == JSON_KIND_NUMBER);
    js_free(&root);
    eval_summarise(&n, NULL, 0);
    root = eval_metrics_json(&n);
    ASSERT_TRUE(js_type(js_get(root, "iou_mean")) == JSON_KIND_NULL);
    js_free(&root);
}

TEST(metrics_have_the_documented_keys) {
    static const char *const keys[] = {"samples",  "loss",       "perplexity",   "syntax",
                                       "executes", "invalidity", "chamfer_mean", "chamfer_median",
                                       "hd95",     "iou_mean",   "fscore",       "dims_rel_error"};
    EvalRecord record = good(0.5, 0.001);
    EvalMetrics n;
    eval_summarise(&n, &record, 1);
    eval_add_loss(&n, 0.5, 0.9, 100);
    Json *root = eval_metrics_json(&n);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        double value;
        ASSERT(js_number(js_get(root, keys[i]), &value), "%s is no number", keys[i]);
    }
    double perplexity;
    ASSERT_OK(js_need_number(&perplexity, root, "perplexity", "test"));
    ASSERT_NEAR(perplexity, exp(0.5), 1e-12);
    js_free(&root);
}

TEST(losses_of_datasets_are_weighted_by_labels) {
    EvalMetrics n = {.loss = NAN, .accuracy = NAN};
    eval_add_loss(&n, 1, 0.5, 100);
    eval_add_loss(&n, 4, 0.8, 300);
    eval_add_loss(&n, 99, 0, 0); /* a dataset without labels says nothing */
    ASSERT_NEAR(n.loss, (100 * 1 + 300 * 4) / 400.0, 1e-12);
    ASSERT_NEAR(n.accuracy, (100 * 0.5 + 300 * 0.8) / 400.0, 1e-12);
    ASSERT_INT(n.labels, ==, 400);
}

TEST(exchanged_pictures_are_never_ones_own_and_each_is_used_once) {
    for (size_t count = 2; count <= 300; count++) {
        bool used[300] = {0};
        for (size_t i = 0; i < count; i++) {
            size_t donor = eval_donor(i, count);
            ASSERT_INT(donor, !=, i);
            ASSERT_INT(donor, <, count);
            ASSERT(!used[donor], "%zu of %zu twice", donor, count);
            used[donor] = true;
        }
    }
}

TEST(examples_are_spread_evenly) {
    for (int count = 1; count <= 12; count++)
        for (size_t total = (size_t)count; total < 100; total++)
            for (int i = 1; i < count; i++) {
                size_t gap = gallery_sample(i, count, total) - gallery_sample(i - 1, count, total);
                ASSERT_INT(gap, >=, total / (size_t)count);
                ASSERT_INT(gap, <=, total / (size_t)count + 1);
            }
    ASSERT_INT(gallery_sample(0, 12, 100), ==, 0);
}

static void write_gallery(const char *folder, const char *id) {
    Sample sample = {.image = "png", .image_size = 3, .code = "x", .code_size = 1, .id = id};
    Buf code = {0};
    GalleryEntry entry;
    char inside[PATH_SIZE];
    buf_text(&code, "y");
    ASSERT_OK(gallery_begin(folder));
    ASSERT_OK(gallery_add(&entry, folder, 0, "set", &sample, &code));
    ASSERT_OK(gallery_picture(&entry, folder, "target.png", &code));
    ASSERT_OK(path_format(inside, "%s/%s", folder, entry.folder));
    ASSERT_TRUE(!file_exists(inside)); /* not before it is complete */
    entry.record = good(0.5, 0.001);
    ASSERT_OK(gallery_finish(folder, &entry, 1));
    buf_free(&code);
}

TEST(gallery_is_complete_or_absent_and_replaces_only_galleries) {
    char folder[PATH_SIZE], path[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s", test_path("g-gallery"));
    write_gallery(folder, "../../odd id/<b>");
    ASSERT_OK(path_join(path, folder, "01-.._.._odd_id__b_/target.png"));
    ASSERT(file_exists(path), "%s is not there", path);
    write_gallery(folder, "second");
    ASSERT_TRUE(!file_exists(path));
    ASSERT_OK(path_join(path, folder, "01-second/result.py"));
    ASSERT_TRUE(file_exists(path));
    Json *root;
    ASSERT_OK(path_join(path, folder, "gallery.json"));
    ASSERT_OK(js_read(&root, path, 1 << 20));
    const Json *item = js_at(js_get(root, "items"), 0);
    ASSERT_TEXT(js_text(js_get(item, "id"), NULL), "second");
    ASSERT_TEXT(js_text(js_get(item, "status"), NULL), "ok");
    js_free(&root);
    ASSERT_OK(file_make_directories(test_path("mine")));
    ASSERT_OK(file_write(test_path("mine/diary.txt"), "dear", 4));
    ASSERT_ERR(gallery_begin(test_path("mine")), ERR_INPUT, "is no gallery");
    ASSERT_TRUE(file_exists(test_path("mine/diary.txt")));
}
