#include "tests/support/run_fixture.h"

#include "core/file.h"
#include "core/json.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

void run_prepare(int samples, const char *training, const char *extra) {
    fixture_dataset(test_path("data"), samples, 1);
    fixture_tokenizer(test_path("tokenizer.json"));
    fixture_config(test_path("c.yaml"), test_path("data"), test_path("tokenizer.json"),
                   test_path("run"), training, extra);
}

const char *run_folder(const char *name) {
    static char folders[16][PATH_SIZE];
    static int next;
    char *out = folders[next++ % 16];
    snprintf(out, PATH_SIZE, "%s", test_path(name));
    return out;
}

uint64_t run_file_hash(const char *run, const char *name) {
    char path[PATH_SIZE];
    uint64_t hash, bytes;
    ASSERT_OK(path_format(path, "%s/checkpoints/latest/%s", run, name));
    ASSERT_OK(file_checksum(&hash, &bytes, path));
    return hash;
}

void run_losses(Buf *out, const char *run) {
    char path[PATH_SIZE];
    Buf text = {0};
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    ASSERT_OK(file_read(&text, path, 1 << 30));
    for (char *line = strtok(text.data, "\n"); line; line = strtok(NULL, "\n")) {
        Json *root;
        double loss, norm = 0;
        int64_t step;
        ASSERT_OK(js_parse(&root, line, strlen(line), path));
        ASSERT_OK(js_need_integer(&step, root, "step", path));
        if (js_number(js_get(root, "loss"), &loss) && js_number(js_get(root, "grad_norm"), &norm))
            buf_format(out, "%lld: %.9g %.9g\n", (long long)step, loss, norm);
        else if (js_number(js_get(root, "val_loss"), &loss))
            buf_format(out, "%lld: val %.9g\n", (long long)step, loss);
        js_free(&root);
    }
    buf_free(&text);
}

void run_train(const char *prefix, const char *output, const char *more) {
    const char *said;
    int code = test_run(&said, "%s ./cadvlm train --config %s output_dir=%s %s", prefix,
                        test_path("c.yaml"), output, more);
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
}

void run_start(const char *prefix, const char *run, int steps) {
    const char *said;
    int code = test_run(
        &said,
        "(ulimit -t 100; %s ./cadvlm train --config %s output_dir=%s >%s.out 2>&1 & echo $! "
        ">%s.pid; wait $!; echo $? >%s.code) "
        ">/dev/null 2>&1 & "
        "for i in $(seq 1200); do [ $(cat %s/metrics.jsonl 2>/dev/null | wc -l) "
        "-ge %d ] && exit 0; sleep 0.05; done; "
        "cat %s.out; exit 1",
        prefix, test_path("c.yaml"), run, run, run, run, run, steps, run);
    ASSERT(code == 0, "the run did not start:\n%s", said);
}

int run_wait(const char *run, const char **said) {
    return test_run(said,
                    "for i in $(seq 1200); do [ -s %s.code ] && break; sleep 0.05; done; cat "
                    "%s.out; exit $(cat %s.code)",
                    run, run, run);
}
