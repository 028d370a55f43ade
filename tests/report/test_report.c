/* Reports: whatever a run folder holds, a page comes out, and nothing in it acts. */
#include <unistd.h>

#include "core/base64.h"
#include "image/image.h"
#include "report/chart.h"
#include "report/html.h"
#include "report/report.h"
#include "tests/support/test.h"

static const ReportOptions OPTIONS = {.version = "1.2.3", .date = "2026-01-02 03:04"};

static void write_text(const char *path, const char *text) {
    ASSERT_OK(file_write(path, text, strlen(text)));
}

/* The page of one run; valid until the next call. */
static const char *page_of(const char *run) {
    static Buf page;
    RunData data;
    ASSERT_OK(run_data_read(&data, run));
    buf_clear(&page);
    report_html(&page, &data, 1, &OPTIONS);
    run_data_free(&data);
    return buf_cstr(&page);
}

/* Every tag that is opened is closed in order, and nothing comes from elsewhere. */
static void check_page(const char *page) {
    static const char *const single[] = {"meta", "img", "!DOCTYPE"};
    const char *open[64];
    size_t lengths[64];
    int depth = 0;
    for (const char *at = strchr(page, '<'); at; at = strchr(at, '<')) {
        bool closing = at[1] == '/';
        const char *name = at + 1 + closing, *end = strchr(at, '>');
        ASSERT(end, "a tag is open at the end: %.40s", at);
        size_t length = strcspn(name, " >/");
        bool alone = end[-1] == '/';
        for (size_t i = 0; i < sizeof single / sizeof single[0]; i++)
            alone = alone || (strlen(single[i]) == length && !strncmp(name, single[i], length));
        if (closing) {
            ASSERT(depth > 0 && lengths[depth - 1] == length &&
                       !strncmp(open[depth - 1], name, length),
                   "</%.*s> closes <%.*s>", (int)length, name, depth ? (int)lengths[depth - 1] : 0,
                   depth ? open[depth - 1] : "");
            depth--;
        } else if (!alone) {
            ASSERT_INT(depth, <, 64);
            open[depth] = name;
            lengths[depth++] = length;
        }
        at = end;
    }
    ASSERT_INT(depth, ==, 0);
    static const char *const foreign[] = {"<script", "http:",   "https:", "<link", "<iframe",
                                          "@import", "onerror", "nan",    "-nan"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        ASSERT(!strstr(page, foreign[i]), "the page has %s: %.80s", foreign[i],
               strstr(page, foreign[i]));
}

TEST(base64_is_that_of_the_standard) {
    static const char *const cases[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"},
                                           {"\xff\xfe\xfd", "//79"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Buf text = {0};
        base64_append(&text, cases[i][0], strlen(cases[i][0]));
        ASSERT_TEXT(buf_cstr(&text), cases[i][1]);
        buf_free(&text);
    }
}

TEST(text_cannot_become_markup) {
    static const char *const cases[][2] = {
        {"a<b>&\"'", "a&lt;b&gt;&amp;&quot;&#39;"},
        {"2 × 3 µm 𝛼", "2 × 3 µm 𝛼"},
        {"\xff\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* cut */
        {"a\x1b[31m\x7f\tb\n", "a\xef\xbf\xbd[31m\xef\xbf\xbd\tb\n"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Buf text = {0};
        html_text(&text, cases[i][0]);
        ASSERT_TEXT(buf_cstr(&text), cases[i][1]);
        buf_free(&text);
    }
}

TEST(empty_run_gives_a_page) {
    ASSERT_OK(file_make_directories(test_path("run")));
    ASSERT_OK(file_make_directories(test_path("other")));
    write_text(test_path("run/config.yaml"), "seed: 1\n");
    const char *page = page_of(test_path("run"));
    check_page(page);
    ASSERT_CONTAINS(page, "No steps have been written");
    RunData data;
    ASSERT_ERR(run_data_read(&data, test_path("nothing")), ERR_INPUT, "is no folder");
    run_data_free(&data);
    ASSERT_ERR(run_data_read(&data, test_path("other")), ERR_INPUT, "is no run folder");
    run_data_free(&data);
}

/* A run that has begun: nothing to map. */
TEST(empty_metrics_are_no_steps) {
    RunData run;
    ASSERT_OK(file_make_directories(test_path("run")));
    write_text(test_path("run/metrics.jsonl"), "");
    ASSERT_OK(run_data_read(&run, test_path("run")));
    ASSERT_INT(run.step_count, ==, 0);
    ASSERT_INT(run.bad_lines, ==, 0);
    ASSERT_TEXT(buf_cstr(&run.notes), "");
    run_data_free(&run);
}

TEST(cut_and_odd_lines_of_metrics_are_passed_over) {
    ASSERT_OK(file_make_directories(test_path("run")));
    write_text(test_path("run/metrics.jsonl"),
               "{\"step\": 1, \"loss\": 4.5, \"lr\": 1e-3, \"samples\": 32, \"grad_norm\": 2, "
               "\"samples_per_s\": 100, \"seconds\": {\"whole\": 0.5}}\n"
               "{\"step\": 2, \"loss\": null, \"skipped\": true, \"samples\": 64, \"seconds\": "
               "{\"whole\": 0.25}}\n"
               "not JSON\n\n[1, 2]\n{\"step\": \"three\"}\n"
               "{\"step\": 1, \"loss\": 99}\n" /* an older step does not come back */
               "{\"step\": 3, \"loss\": 1e300, \"lr\": -1e300, \"samples\": 96}\n"
               "{\"step\": 3, \"val_loss\": 3.25, \"val_accuracy\": 0.5}\n"
               "{\"step\": 4, \"loss\": 2.5, \"sam");
    RunData data;
    ASSERT_OK(run_data_read(&data, test_path("run")));
    ASSERT_INT(data.step_count, ==, 3);
    ASSERT_INT(data.validation_count, ==, 1);
    ASSERT_INT(data.bad_lines, ==, 4);
    ASSERT_INT(data.skipped, ==, 1);
    ASSERT_NEAR(data.seconds, 0.75, 1e-12);
    ASSERT_NEAR(data.samples, 96, 0);
    ASSERT_NEAR(data.steps[0].loss, 4.5, 0);
    ASSERT_TRUE(isnan(data.steps[1].loss));
    run_data_free(&data);
    const char *page = page_of(test_path("run"));
    check_page(page);
    ASSERT_CONTAINS(page, "4 lines of metrics.jsonl were cut");
    ASSERT_CONTAINS(page, "3.2500");
}

/* A run whose every text tries to be more than text. */
static void write_hostile_run(void) {
    static const char evil[] = "</title></pre><script>alert(1)</script>";
    Buf text = {0};
    ASSERT_OK(file_make_directories(test_path("run/eval/step-1-gallery/01-a")));
    ASSERT_OK(file_make_directories(test_path("run/eval/step-1-gallery/.hidden")));
    buf_format(&text,
               "{\"name\": \"%s\", \"step\": 1, \"split\": \"%s\", \"samples\": 4, \"iou_mean\": "
               "0.5, \"iou_bins\": [1, 2, 1], \"shuffled\": {\"iou_mean\": 0.25, \"iou_bins\": [4, "
               "0, 0]}, \"by_dataset\": {\"%s\": {\"samples\": 4, \"iou_mean\": 1e308}}, "
               "\"gallery\": \"/etc\"}",
               evil, evil, evil);
    write_text(test_path("run/eval/step-1.json"), buf_cstr(&text));
    buf_clear(&text);
    buf_format(
        &text,
        "{\"items\": [{\"folder\": \"01-a\", \"id\": \"%s\", \"dataset\": \"%s\", "
        "\"status\": \"%s\", \"message\": \"%s\", \"iou\": 0.5, \"dims\": [1, null, \"x\"]}, "
        "{\"folder\": \"../../../etc\"}, {\"folder\": \".hidden\"}, {\"folder\": 5}, 17]}",
        evil, evil, evil, evil);
    write_text(test_path("run/eval/step-1-gallery/gallery.json"), buf_cstr(&text));
    write_text(test_path("run/eval/step-1-gallery/01-a/result.py"), evil);
    write_text(test_path("run/eval/step-1-gallery/01-a/drawing.png"), evil);
    write_text(test_path("run/eval/broken.json"), "{\"step\": ");
    write_text(test_path("run/config.yaml"), "</pre><script>: 5\n");
    write_text(test_path("run/version.json"), "{\"device\": \"<script>\"}");
    buf_free(&text);
}

TEST(hostile_texts_stay_texts) {
    write_hostile_run();
    const char *page = page_of(test_path("run"));
    check_page(page);
    ASSERT_CONTAINS(page, "&lt;script&gt;alert(1)");
    ASSERT_CONTAINS(page, "broken.json is not valid JSON");
    ASSERT_CONTAINS(page, "0.500");
    ASSERT_TRUE(!strstr(page, "root:")); /* nothing from outside the gallery */
}

static void plant(const char *target, const char *name) {
    char path[PATH_SIZE];
    ASSERT_OK(path_format(path, "%s", test_path(name)));
    ASSERT_INT(symlink(target, path), ==, 0);
}

/* A run that came from somewhere else may hold links to what its reader can read. */
TEST(links_that_lead_out_of_a_run_are_not_followed) {
    char secrets[PATH_SIZE],
        secret[PATH_SIZE]; /* beside the run, of a name that begins with its own */
    snprintf(secrets, sizeof secrets, "%s", test_path("run-secrets"));
    snprintf(secret, sizeof secret, "%s", test_path("run-secrets/key.json"));
    ASSERT_OK(file_make_directories(secrets));
    write_text(secret, "{\"key\": \"precious\", \"items\": [{\"folder\": \"01-a\", \"id\": "
                       "\"precious\"}], \"step\": 7, \"name\": \"precious\"} precious");
    ASSERT_OK(file_make_directories(test_path("run/eval/a-gallery/01-a")));
    ASSERT_OK(file_make_directories(test_path("run/eval/b-gallery")));
    write_text(test_path("run/eval/a.json"), "{\"step\": 1}");
    write_text(test_path("run/eval/a-gallery/gallery.json"),
               "{\"items\": [{\"folder\": \"01-a\", \"id\": \"one\"}, {\"folder\": \"02-b\", "
               "\"id\": \"two\"}]}");
    write_text(test_path("run/eval/b.json"), "{\"step\": 2}");
    write_text(test_path("run/eval/c.json"), "{\"step\": 3}");
    plant(secret, "run/eval/a-gallery/01-a/result.py");
    plant("../../../../run-secrets", "run/eval/a-gallery/02-b");
    plant(secret, "run-secrets/target.py");
    plant(secret, "run/eval/b-gallery/gallery.json");
    plant(secrets, "run/eval/c-gallery");
    plant(secret, "run-secrets/gallery.json");
    plant(secret, "run/eval/d.json");
    plant(secret, "run/metrics.jsonl");
    plant(secret, "run/config.yaml");
    plant(secret, "run/version.json");
    const char *page = page_of(test_path("run"));
    check_page(page);
    ASSERT_TRUE(!strstr(page, "precious"));
    ASSERT_CONTAINS(page, "metrics.jsonl leads out of");
    ASSERT_CONTAINS(page, "gallery.json leads out of");
    ASSERT_CONTAINS(page, "c-gallery leads out of");
    ASSERT_CONTAINS(page, "d.json leads out of");
    /* A folder of evaluations, too; and the run itself may be reached by a link. */
    ASSERT_OK(file_make_directories(test_path("other")));
    plant(secrets, "other/eval");
    page = page_of(test_path("other"));
    ASSERT_CONTAINS(page, "eval leads out of");
    ASSERT_TRUE(!strstr(page, "precious"));
    plant("run", "alias");
    write_text(test_path("run/eval/e.json"), "{\"step\": 4, \"name\": \"inside\"}");
    plant("e.json", "run/eval/f.json"); /* stays inside */
    page = page_of(test_path("alias"));
    ASSERT_CONTAINS(page, "inside");
    ASSERT_TRUE(!strstr(page, "f.json leads"));
}

TEST(pictures_are_inside_the_page) {
    Image image;
    Buf png = {0}, text = {0};
    ASSERT_OK(image_new(&image, 4, 4, 1));
    ASSERT_OK(image_encode(&png, &image));
    ASSERT_OK(file_make_directories(test_path("run/eval/e-gallery/01-a")));
    write_text(test_path("run/eval/e.json"), "{\"step\": 5}");
    write_text(test_path("run/eval/e-gallery/gallery.json"),
               "{\"items\": [{\"folder\": \"01-a\", \"id\": \"a\", \"status\": \"timeout\", "
               "\"message\": \"not done within 30 s\", \"iou\": 0}]}");
    ASSERT_OK(file_write(test_path("run/eval/e-gallery/01-a/drawing.png"), png.data, png.size));
    base64_append(&text, png.data, png.size);
    const char *page = page_of(test_path("run"));
    check_page(page);
    ASSERT_CONTAINS(page, buf_cstr(&text));
    ASSERT_CONTAINS(page, "not done within 30 s");
    ASSERT_CONTAINS(page, "timeout");
    image_free(&image);
    buf_free(&png);
    buf_free(&text);
}

/* An evaluation of a run, with an IoU to know it by. */
static void write_eval(const char *file, int time, int step, const char *name, const char *data,
                       double iou) {
    Buf text = {0};
    char path[64];
    snprintf(path, sizeof path, "run/eval/%s.json", file);
    buf_format(&text,
               "{\"time\": %d, \"step\": %d, %s%s%s \"data\": {\"set\": \"%s\"}, "
               "\"iou_mean\": %.3f}",
               time, step, name ? "\"name\": \"" : "", name ? name : "", name ? "\"," : "", data,
               iou);
    write_text(test_path(path), buf_cstr(&text));
    buf_free(&text);
}

/* Of several evaluations the one that stands for the run is neither the newest nor the first. */
TEST(first_table_shows_the_main_evaluation_of_a_run) {
    ASSERT_OK(file_make_directories(test_path("run/eval")));
    write_text(test_path("run/config.yaml"), "val_data: shards/own\ntrain_data: shards/other\n");
    write_eval("a", 10, 40, NULL, "shards/own", 0.111);
    write_eval("b", 20, 80, "client", "shards/client", 0.222);
    write_eval("c", 30, 80, "own", "shards/own", 0.333);
    write_eval("d", 40, 80, "last", "shards/third", 0.444);
    const char *page = page_of(test_path("run"));
    ASSERT_CONTAINS(page, "Mean IoU</div><div class=\"value\">0.333");
    Buf both = {0};
    RunData runs[2];
    for (int i = 0; i < 2; i++) ASSERT_OK(run_data_read(&runs[i], test_path("run")));
    report_html(&both, runs, 2, &OPTIONS);
    const char *table = strstr(buf_cstr(&both), "Side by side"), *end = strstr(table, "</table>");
    const char *shown = strstr(table, "0.333");
    ASSERT_TRUE(shown && shown < end);
    check_page(buf_cstr(&both));
    for (int i = 0; i < 2; i++) run_data_free(&runs[i]);
    buf_free(&both);
    /* Where none is over the run's own data, one without a name; then the first. */
    ASSERT_INT(remove(test_path("run/eval/c.json")), ==, 0);
    write_eval("e", 50, 80, NULL, "shards/fourth", 0.555);
    ASSERT_CONTAINS(page_of(test_path("run")), "Mean IoU</div><div class=\"value\">0.555");
    ASSERT_INT(remove(test_path("run/eval/e.json")), ==, 0);
    ASSERT_CONTAINS(page_of(test_path("run")), "Mean IoU</div><div class=\"value\">0.222");
}

static void draw(const double *x, const double *y, size_t count, bool log_y) {
    for (int mark = 0; mark <= CHART_POINTS; mark++) {
        Buf out = {0};
        Chart chart = {.title = "t",
                       .x_label = "x",
                       .y_label = "y",
                       .width = 400,
                       .height = 200,
                       .log_y = log_y,
                       .series_count = 1,
                       .series = {{x, y, count, "s", 0, (ChartMark)mark}}};
        chart_svg(&out, &chart);
        check_page(buf_cstr(&out));
        ASSERT_TRUE(!strstr(buf_cstr(&out), "inf"));
        ASSERT_INT(out.size, <, 200000);
        buf_free(&out);
    }
}

TEST(charts_hold_for_any_numbers) {
    static const double odd[][3] = {{0, 0, 0},           {1, 1, 1},         {NAN, INFINITY, 5},
                                    {-1e308, 0, 1e308},  {1e-308, 1, 1e29}, {-5, -5, -5},
                                    {1e15, 1e15 + 1, 2}, {NAN, NAN, NAN},   {1e-30, 1e30, 1}};
    static const double steps[] = {1, 2, 3}, same[] = {7, 7, 7};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        for (int log_y = 0; log_y < 2; log_y++) {
            draw(steps, odd[i], 3, log_y);
            draw(same, odd[i], 3, log_y);
            draw(odd[i], steps, 3, log_y);
            draw(steps, odd[i], 0, log_y);
        }
}

TEST(a_million_steps_draw_as_many_lines_as_there_are_pixels) {
    enum { MANY = 1000000 };
    double *x = malloc(MANY * sizeof *x), *y = malloc(MANY * sizeof *y);
    ASSERT_TRUE(x && y);
    for (int i = 0; i < MANY; i++) {
        x[i] = i;
        y[i] = 1 + sin(i * 0.01);
    }
    draw(x, y, 5000, false);
    Buf out = {0};
    Chart chart = {.title = "t",
                   .x_label = "x",
                   .width = 400,
                   .height = 200,
                   .series_count = 1,
                   .series = {{x, y, MANY, "s", 0, CHART_SPREAD}}};
    chart_svg(&out, &chart);
    printf("%zu bytes\n", out.size);
    ASSERT_INT(out.size, <, 20000);
    buf_free(&out);
    free(x);
    free(y);
}

TEST(smoothing_keeps_a_constant_and_follows_a_fall) {
    double in[200], out[200];
    for (int i = 0; i < 200; i++) in[i] = i == 50 ? (double)NAN : 3;
    chart_smooth(out, in, 200, 21);
    for (int i = 0; i < 200; i++) ASSERT_NEAR(out[i], 3, 1e-12);
    for (int i = 0; i < 200; i++) in[i] = -2 * i;
    chart_smooth(out, in, 200, 21);
    for (int i = 0; i < 190; i++) ASSERT_NEAR(out[i], in[i], 1e-9); /* a line stays itself */
}

TEST(report_command_writes_one_file) {
    const char *said;
    write_hostile_run();
    ASSERT_INT(test_run(&said, "./cadvlm report %s -o %s", test_path("run"), test_path("r.html")),
               ==, 0);
    ASSERT_CONTAINS(said, "r.html");
    Buf page = {0};
    ASSERT_OK(file_read(&page, test_path("r.html"), 1 << 24));
    check_page(buf_cstr(&page));
    ASSERT_CONTAINS(buf_cstr(&page), "default-src 'none'");
    buf_free(&page);
    ASSERT_INT(test_run(&said, "./cadvlm report %s %s --title 'a & b'", test_path("run"),
                        test_path("run")),
               ==, 0);
    ASSERT_OK(file_read(&page, test_path("run/report.html"), 1 << 24));
    check_page(buf_cstr(&page));
    ASSERT_CONTAINS(buf_cstr(&page), "a &amp; b");
    ASSERT_CONTAINS(buf_cstr(&page), "Side by side");
    buf_free(&page);
    ASSERT_INT(test_run(&said, "./cadvlm report %s", test_path("none")), ==, 1);
    ASSERT_CONTAINS(said, "is no folder");
    ASSERT_INT(test_run(&said, "./cadvlm report"), ==, 2);
}
