/* A run folder as the report reads it: metrics, an evaluation and its gallery, config, versions;
 * and the page of it, in which no text of theirs is more than text. */
#include "core/file.h"
#include "report/report.h"
#include "tests/fuzz/fuzz.h"

static const char *const files[] = {
    "run/metrics.jsonl", "run/eval/a.json",  "run/eval/a-gallery/gallery.json",
    "run/config.yaml",   "run/version.json", NULL};

void fuzz_one(const uint8_t *data, size_t size) {
    FuzzInput input = {data, data + size};
    RunData runs[2];
    Buf page = {0};
    char run[PATH_SIZE];
    ASSERT_OK(file_make_directories(test_path("run/eval/a-gallery")));
    fuzz_folder(&input, files);
    snprintf(run, sizeof run, "%s", test_path("run"));
    for (int i = 0; i < 2; i++) ASSERT_OK(run_data_read(&runs[i], run));
    for (int count = 1; count <= 2; count++)
        report_html(&page, runs, count, &(ReportOptions){.version = "0", .examples = count - 1});
    ASSERT_TRUE(!strcasestr(buf_cstr(&page), "<script") && !strcasestr(buf_cstr(&page), "<x"));
    for (int i = 0; i < 2; i++) run_data_free(&runs[i]);
    buf_free(&page);
}

static void seed(const char *const pieces[5]) {
    Buf bytes = {0};
    for (int i = 0; i < 5; i++) fuzz_piece_append(&bytes, pieces[i], strlen(pieces[i]));
    fuzz_seed(bytes.data, bytes.size);
    buf_free(&bytes);
}

void fuzz_seeds(void) {
    static const char metrics[] =
        "{\"step\":1,\"loss\":2.5,\"lr\":1e-4,\"grad_norm\":1,\"samples\":4,\"samples_per_s\":2,"
        "\"tokens_per_s\":900,\"mfu\":0.3,\"seconds\":{\"whole\":2,\"data\":0.1},\"skipped\":false}"
        "\n"
        "{\"step\":1,\"val_loss\":2.4,\"val_accuracy\":0.3}\n{\"step\":2,\"loss\":null}\n{\n";
    /* A tag in every text. */
    static const char eval[] =
        "{\"time\":\"<x>\",\"step\":2,\"samples\":3,\"loss\":1.5,\"iou_mean\":0.5,\"set\":\"<x>\","
        "\"dataset\":\"<x>\",\"split\":\"<x>\",\"trained\":\"<x>\",\"tokens\":9,\"syntax\":0.9,"
        "\"executes\":0.8,\"identical\":0.1,\"confidence\":0.7,\"dims_rel_error\":0.1,"
        "\"dims_exact\":0.2,\"iou_bins\":[1,2,3],\"shuffled\":{\"samples\":3,\"loss\":2},"
        "\"name\":\"<x>\",\"data\":{\"<x>\":\"<x>\"},\"by_dataset\":{\"<x>\":{\"iou_mean\":0.1}},"
        "\"message\":\"<x>\"}";
    static const char gallery[] =
        "{\"items\":[{\"id\":\"<x>\",\"iou\":0.5,\"status\":\"<x>\",\"drawing\":\"<x>\","
        "\"folder\":\"<x>\",\"data\":\"<x>\",\"device\":\"<x>\",\"dims\":[1,2,3],"
        "\"reference_dims\":[1,2,3],\"span\":1,\"target\":\"../<x>.png\",\"result\":\"c.png\","
        "\"code\":\"x = <x>\",\"message\":\"<x>\"}]}";
    seed((const char *const[]){metrics, eval, gallery, "train_data: \"<x>\"\n",
                               "{\"cadvlm\":\"<x>\",\"device\":\"<x>\"}"});
    seed((const char *const[]){metrics, "", "", "", ""});
    seed((const char *const[]){"", eval, "", "seed: [", "[]"});
}
