/* Names, messages and errors at the command line: what others wrote is shown and kept as text, and
 * an error can be followed. */
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "tests/support/run_fixture.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

/* A name of 80 bytes, and one in Latin-1. */
#define E8         "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
#define LONG_NAME  E8 E8 E8 E8 E8
#define LATIN_NAME "caf\xe9"

static Json *json_in(const char *path) {
    Json *root;
    ASSERT_OK(js_read(&root, path, 1 << 24));
    return root;
}

/* The name that is shown and kept: 31 characters of two bytes fit into 63. */
static const char *kept_name(void) {
    static char name[64];
    snprintf(name, sizeof name, "%.62s", LONG_NAME);
    return name;
}

TEST(a_long_name_of_a_folder_ends_no_run_and_no_evaluation) {
    const char *said;
    char line[PATH_SIZE];
    Buf metrics = {0};
    run_prepare(20, "micro_batches: 2, per_device_batch_size: 2, max_steps: 2", "");
    ASSERT_INT(rename(test_path("data"), test_path(LONG_NAME)), ==, 0);
    snprintf(line, sizeof line, "train_data='%s'", test_path(LONG_NAME));
    run_train("", run_folder("run"), line);
    ASSERT_OK(file_read(&metrics, test_path("run/metrics.jsonl"), 1 << 20));
    snprintf(line, sizeof line, "\"dataset_samples\": {\"%s\": ", kept_name());
    ASSERT_CONTAINS(buf_cstr(&metrics), line);
    buf_free(&metrics);
    int code = test_run(&said, "./cadvlm eval -c %s --data '%s' --samples 2 --max-tokens 20 -o %s",
                        test_path("run"), test_path(LONG_NAME), test_path("e.json"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    Json *root = json_in(test_path("e.json"));
    ASSERT_TRUE(js_get(js_get(root, "by_dataset"), kept_name()) != NULL);
    js_free(&root);
}

TEST(a_name_in_latin_1_is_refused_by_train_and_written_out_by_eval) {
    const char *said;
    run_prepare(20, "micro_batches: 2, per_device_batch_size: 2, max_steps: 1", "");
    run_train("", run_folder("run"), "");
    ASSERT_INT(rename(test_path("data"), test_path(LATIN_NAME)), ==, 0);
    int code = test_run(&said, "./cadvlm train -c %s train_data='%s' output_dir=%s",
                        test_path("c.yaml"), test_path(LATIN_NAME), test_path("other"));
    ASSERT_INT(code, ==, 2);
    ASSERT_CONTAINS(said, "caf\\xe9\" is not UTF-8, in which configs are kept");
    ASSERT_TRUE(!file_exists(test_path("other")));
    code =
        test_run(&said, "./cadvlm eval -c %s --data '%s' --samples 2 --max-tokens 20 -o %s --json",
                 test_path("run"), test_path(LATIN_NAME), test_path("e.json"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    Json *root = json_in(test_path("e.json"));
    ASSERT_TRUE(js_get(js_get(root, "by_dataset"), "caf\\xe9") != NULL);
    ASSERT_CONTAINS(js_text(js_get(js_get(root, "data"), "caf\\xe9"), NULL), "/caf\\xe9");
    js_free(&root);
}

/* Lines of `text`, and none of its bytes is obeyed by a terminal. */
static int plain_lines(const char *text) {
    int lines = 0;
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        ASSERT((*c >= 0x20 || *c == '\n') && *c != 0x7f, "a control character (%d) in %s", *c,
               text);
        ASSERT(!(c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0), "C1 in %s", text);
        ASSERT(!(c[0] == 0xe2 && c[1] == 0x80 && c[2] == 0xae), "U+202E in %s", text);
        lines += *c == '\n';
    }
    return lines;
}

/* A name that clears a line, forges another and turns the direction of writing. */
#define EVIL "a\033[2K\nok: forged\xe2\x80\xae\xc2\x9b"

TEST(names_of_files_neither_drive_the_terminal_nor_forge_lines) {
    const char *said;
    static const char keys[] = "\"se\\x1b[2Jed\\n\": 1\n\"\\u202e\": 2\n";
    static const char code[] = "SketchPlane0 = add_sketchplane(\nx\033[31m = 1\n";
    ASSERT_OK(file_write(test_path(EVIL ".py"), code, sizeof code - 1));
    ASSERT_OK(file_write(test_path("b.json"), "{\"a\033[31m\": \xff}", 12));
    ASSERT_INT(test_run(&said, "./cadvlm cad check '%s'", test_path(EVIL ".py")), ==, 1);
    ASSERT_CONTAINS(said, "a\\x1b[2K\\nok: forged\\u202e\\u009b.py: parse_fail");
    ASSERT_INT(plain_lines(said), ==, 4); /* the file, why, the rates, the end */
    ASSERT_INT(test_run(&said, "./cadvlm cad check '%s' --json 2>/dev/null", test_path(EVIL ".py")),
               ==, 1);
    plain_lines(said);
    Json *root;
    ASSERT_OK(js_parse(&root, said, strlen(said), "said"));
    const Json *file = js_get(js_at(js_get(root, "files"), 0), "file");
    ASSERT_CONTAINS(js_text(file, NULL), EVIL ".py"); /* as JSON it is the name itself */
    js_free(&root);
    ASSERT_TRUE(test_run(&said, "./cadvlm cad convert '%s'", test_path("b.json")) != 0);
    plain_lines(said);
    ASSERT_TRUE(test_run(&said, "./cadvlm cad run '%s'", test_path("none" EVIL)) != 0);
    ASSERT_INT(plain_lines(said), ==, 1);
    ASSERT_INT(test_run(&said, "./cadvlm train -c '%s'", test_path("none" EVIL)), ==, 2);
    ASSERT_INT(plain_lines(said), ==, 1);
    ASSERT_OK(file_write(test_path("c.yaml"), keys, sizeof keys - 1));
    ASSERT_INT(test_run(&said, "./cadvlm train -c '%s'", test_path("c.yaml")), ==, 2);
    ASSERT_CONTAINS(said, "unknown key se\\x1b[2Jed\\n");
    ASSERT_INT(plain_lines(said), ==, 3);
    ASSERT_INT(test_run(&said, "./cadvlm '%s'", EVIL), ==, 2);
    ASSERT_INT(plain_lines(said), ==, 1);
    ASSERT_INT(test_run(&said, "./cadvlm cad check '--%s'", EVIL), ==, 2);
    ASSERT_INT(plain_lines(said), ==, 1);
}

TEST(the_way_of_an_error_is_shown_to_those_who_ask) {
    const char *said;
    static const struct {
        const char *before, *behind;
        int code;
        bool shown;
    } cases[] = {{"", "", 1, false},
                 {"", "--verbose", 1, true},
                 {"CADVLM_LOG=debug", "", 1, true},
                 {"CADVLM_LOG=info", "", 1, false},
                 {"CADVLM_LOG=", "", 1, false},
                 {"CADVLM_LOG=error", "--verbose", 1, true},
                 {"CADVLM_LOG=loud", "", 2, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int code =
            test_run(&said, "%s ./cadvlm cad run none.py %s", cases[i].before, cases[i].behind);
        ASSERT_INT(code, ==, cases[i].code);
        ASSERT_CONTAINS(said, code == 1 ? "error: no file none.py\n"
                                        : "error: CADVLM_LOG=loud: debug, info, warn or error");
        bool shown = strstr(said, "    at launch/part_file.c:") != NULL;
        ASSERT(shown == cases[i].shown, "%s", said);
    }
    ASSERT_INT(test_run(&said, "./cadvlm --verbose cad run none.py"), ==, 1);
    ASSERT_CONTAINS(said, "    at launch/part_file.c:");
    ASSERT_INT(test_run(&said, "./cadvlm cad run --help"), ==, 0);
    ASSERT_CONTAINS(said, "--verbose");
}

static void log_of(Buf *out, const char *run, int rank) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/log/rank-%d.txt", run, rank);
    ASSERT_OK(file_read(out, path, 1 << 20));
}

/* Of a run that fails in its first step, since no sample fits. */
TEST(the_way_of_an_error_stands_in_the_log_file_of_every_rank) {
    const char *said;
    Buf log = {0};
    run_prepare(40, "micro_batches: 2, max_steps: 2, overlong: error, max_length: 20", "");
    for (int ranks = 1; ranks <= 2; ranks++) {
        const char *run = run_folder(ranks == 1 ? "one" : "two");
        int code = test_run(&said, "%s ./cadvlm train -c %s output_dir=%s",
                            ranks == 1 ? "" : fixture_mpirun(2), test_path("c.yaml"), run);
        ASSERT_INT(code, ==, 1);
        ASSERT_CONTAINS(said, "max_length is 20");
        ASSERT_TRUE(!strstr(said, "    at "));
        for (int rank = 0; rank < ranks; rank++) {
            log_of(&log, run, rank);
            ASSERT_CONTAINS(buf_cstr(&log), "max_length is 20");
            ASSERT_CONTAINS(buf_cstr(&log), "Z     at ");
            ASSERT_CONTAINS(buf_cstr(&log), " < trainer/train.c:");
        }
    }
    buf_free(&log);
}

static const char POINTER[] =
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

static void write_pointer(const char *name) {
    ASSERT_OK(file_write(test_path(name), POINTER, sizeof POINTER - 1));
}

TEST(pointers_and_pages_are_called_that_by_every_command) {
    const char *said;
    static const char *const parts[] = {"a.py", "a.json", "a.step"};
    for (int i = 0; i < 3; i++) {
        write_pointer(parts[i]);
        ASSERT_INT(test_run(&said, "./cadvlm cad run %s", test_path(parts[i])), !=, 0);
        ASSERT_CONTAINS(said, "is a Git LFS pointer in the place of the file");
    }
    run_prepare(10, "max_steps: 1", "");
    ASSERT_OK(file_write(test_path("page.json"), "<!DOCTYPE html><html>", 21));
    ASSERT_INT(test_run(&said, "./cadvlm train -c %s tokenizer=%s", test_path("c.yaml"),
                        test_path("page.json")),
               ==, 1);
    ASSERT_CONTAINS(said, "page.json is an HTML page in the place of the file");
    write_pointer("data/shard-00000.h5");
    ASSERT_INT(test_run(&said, "./cadvlm data info %s", test_path("data")), ==, 1);
    ASSERT_CONTAINS(said, "shard-00000.h5 is a Git LFS pointer");
    write_pointer("data/index.json");
    ASSERT_INT(test_run(&said, "./cadvlm data info %s", test_path("data")), ==, 1);
    ASSERT_CONTAINS(said, "index.json is a Git LFS pointer");
    ASSERT_OK(file_make_directories(test_path("model")));
    write_pointer("model/config.json");
    ASSERT_INT(test_run(&said, "./cadvlm generate -c %s -o %s a.png", test_path("model"),
                        test_path("out")),
               !=, 0);
    ASSERT_CONTAINS(said, "config.json is a Git LFS pointer");
}

/* `HOME` of a service's user; what does not need it works. */
TEST(a_home_that_is_not_there_stops_only_what_needs_it) {
    const char *said, *home = "env -u HF_HOME -u HF_HUB_CACHE -u HUGGINGFACE_HUB_CACHE "
                              "-u XDG_CACHE_HOME HOME=/nonexistent/home";
    run_prepare(10, "max_steps: 1", "");
    run_train(home, run_folder("run"), "");
    ASSERT_INT(test_run(&said, "%s ./cadvlm generate -c owner/name -o out a.png", home), ==, 1);
    ASSERT_CONTAINS(said, "HOME names no folder: set HF_HOME");
    ASSERT_TRUE(!file_exists("/nonexistent/home"));
}
