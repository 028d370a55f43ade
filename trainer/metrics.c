#include "trainer/metrics.h"

#include <errno.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"

enum { METRICS_MAX = 1 << 30 };

/* Keeps the lines up to `step`; what is not a line of ours is dropped with the rest. */
static Err cut_after(const char *path, int64_t step) {
    Buf text = {0};
    TRY(file_read(&text, path, METRICS_MAX));
    size_t kept = 0;
    for (size_t at = 0; at < text.size;) {
        char *end = memchr(text.data + at, '\n', text.size - at);
        if (!end) break;
        Json *line;
        int64_t found = -1;
        if (js_parse(&line, text.data + at, (size_t)(end - text.data) - at, path) == OK) {
            js_integer(js_get(line, "step"), &found);
            js_free(&line);
        }
        if (found < 0 || found > step) break;
        at = kept = (size_t)(end - text.data) + 1;
    }
    err_clear();
    Err err = kept == text.size ? OK : file_write(path, text.data, kept);
    buf_free(&text);
    return err;
}

Err metrics_open(Metrics *metrics, const char *path, int64_t step) {
    if (file_exists(path)) TRY(cut_after(path, step));
    metrics->file = fopen(path, "a");
    REQUIRE(metrics->file, ERR_IO, "cannot open %s: %s", path, strerror(errno));
    return OK;
}

static Err write_line(Metrics *metrics, Json **root) {
    Buf text = {0};
    js_print(&text, *root, JSON_ONE_LINE, 9);
    buf_text(&text, "\n");
    js_free(root);
    size_t wrote = fwrite(text.data, 1, text.size, metrics->file);
    int flushed = fflush(metrics->file);
    bool ok = wrote == text.size && flushed == 0;
    buf_free(&text);
    REQUIRE(ok, ERR_IO, "cannot write metrics.jsonl: %s", strerror(errno));
    return OK;
}

Err metrics_step(Metrics *metrics, const StepMetrics *s) {
    Json *root = js_new_object(), *seconds = js_new_object(), *datasets = js_new_object();
    js_set_integer(root, "step", s->step);
    js_set_number(root, "epoch", s->epoch);
    js_set_number(root, "loss", s->loss);
    js_set_number(root, "accuracy", s->accuracy);
    js_set_number(root, "lr", s->lr);
    js_set_number(root, "grad_norm", s->grad_norm);
    js_set_number(root, "tokens_per_s", s->tokens_per_s);
    js_set_number(root, "samples_per_s", s->samples_per_s);
    js_set_number(root, "mfu", s->mfu);
    js_set_integer(root, "samples", s->samples);
    js_set_integer(root, "labels", s->labels);
    if (s->overlong) js_set_integer(root, "overlong", s->overlong);
    js_set_number(seconds, "data", s->seconds.data);
    js_set_number(seconds, "forward", s->seconds.forward);
    js_set_number(seconds, "backward", s->seconds.backward);
    js_set_number(seconds, "communication", s->seconds.communication);
    js_set_number(seconds, "optimiser", s->seconds.optimiser);
    js_set_number(seconds, "whole", s->seconds.whole);
    js_set(root, "seconds", seconds);
    js_set_integer(root, "memory_bytes", (int64_t)s->memory_bytes);
    js_set_integer(root, "slowest_rank", s->slowest_rank);
    if (s->skipped) js_set_bool(root, "skipped", true);
    for (int i = 0; i < s->dataset_count; i++)
        js_set_integer(datasets, s->dataset_names[i], (int64_t)s->dataset_samples[i]);
    js_set(root, "dataset_samples", datasets);
    return write_line(metrics, &root);
}

Err metrics_validation(Metrics *metrics, int64_t step, double loss, double accuracy,
                       int64_t overlong) {
    Json *root = js_new_object();
    js_set_integer(root, "step", step);
    js_set_number(root, "val_loss", loss);
    js_set_number(root, "val_accuracy", accuracy);
    if (overlong) js_set_integer(root, "val_overlong", overlong);
    return write_line(metrics, &root);
}

Err metrics_close(Metrics *metrics) {
    int failed = metrics->file && fclose(metrics->file) != 0;
    metrics->file = NULL;
    REQUIRE(!failed, ERR_IO, "cannot close metrics.jsonl: %s", strerror(errno));
    return OK;
}
