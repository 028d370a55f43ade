/* A run folder as the report reads it: metrics, an evaluation and its gallery, config, versions;
 * and the page of it. */
#include "core/file.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/report.h"

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
    static const char eval[] =
        "{\"time\":\"2026-01-02\",\"step\":2,\"samples\":3,\"loss\":1.5,\"iou_mean\":0.5,"
        "\"chamfer_median\":0.1,\"status\":{\"ok\":2,\"crash\":1},\"valid\":0.6,"
        "\"iou_histogram\":[1,2,3]}";
    static const char gallery[] =
        "{\"items\":[{\"id\":\"part-1\",\"iou\":0.5,\"status\":\"ok\",\"drawing\":\"a.png\","
        "\"target\":\"b.png\",\"result\":\"../../c.png\",\"code\":\"x = <1>\",\"message\":\"&\"}]}";
    seed((const char *const[]){metrics, eval, gallery, "seed: 1\n", "{\"cadvlm\":\"0.1.0\"}"});
    seed((const char *const[]){metrics, "", "", "", ""});
    seed((const char *const[]){"", eval, "", "seed: [", "[]"});
}
