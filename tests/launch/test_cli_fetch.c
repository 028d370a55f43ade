/* cadvlm data fetch against a hub on this machine (tests/launch/hub_server.py), which cuts
 * connections, sends wrong bytes and lies about names and sizes. */
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/digest.h"
#include "core/file.h"
#include "core/json.h"
#include "core/process.h"
#include "hub/cache.h"
#include "tests/support/test.h"

enum { KB = 1000, BIG = 3000 * KB };
static const char COMMIT[] = "c0ffee0000000000000000000000000000000000";
static const char NEXT_COMMIT[] = "c0ffee1111111111111111111111111111111111";

/* ---- the hub ---- */

static Process server;

/* Nothing of the user's own settings plays a part. */
static void forget_settings(void) {
    static const char *const names[] = {"HF_TOKEN",    "HF_HOME",    "HUGGINGFACE_HUB_CACHE",
                                        "http_proxy",  "all_proxy",  "ALL_PROXY",
                                        "https_proxy", "HTTPS_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) unsetenv(names[i]);
    setenv("HF_HUB_CACHE", test_path("cache"), 1);
}

/* Starts the server; its address goes into the environment. */
static void start_hub(void) {
    char script[PATH_SIZE], ports[13] = "", endpoint[64];
    forget_settings();
    ASSERT_OK(path_format(script, "%s/tests/launch/hub_server.py", test_source_folder()));
    process_kill(&server); /* of the test before, where all run in one process */
    const char *argv[] = {"/usr/bin/env", "python3", script, test_path("log"), NULL};
    ASSERT_OK(process_start(&server, argv));
    if (!process_receive(&server, ports, 12, clock_seconds() + test_patience(10), NULL))
        test_skip("python3 is not there, or may not open ports");
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d/", atoi(ports));
    setenv("HF_ENDPOINT", endpoint, 1);
}

/* What the server was asked so far. */
static const char *requests(void) {
    static Buf text;
    ASSERT_OK(file_read(&text, test_path("log"), 1 << 20));
    return buf_cstr(&text);
}

static int count_of(const char *text, const char *part) {
    int count = 0;
    for (; (text = strstr(text, part)); text += strlen(part)) count++;
    return count;
}

/* The lines that hub_server.py's content() makes. */
static void make_content(Buf *out, const char *name, size_t size) {
    for (int i = 0; out->size < size; i++) buf_format(out, "%s %08d\n", name, i);
    out->size = size;
}

static void expect_content(const char *path, const char *name, size_t size) {
    Buf expected = {0}, found = {0};
    make_content(&expected, name, size);
    ASSERT_OK(file_read(&found, path, 100 << 20));
    ASSERT_INT(found.size, ==, size);
    ASSERT(size == 0 || !memcmp(found.data, expected.data, size), "%s differs", path);
    buf_free(&expected);
    buf_free(&found);
}

/* The file `name` that was fetched into the folder test_path("out"). */
static void expect_file(const char *name, size_t size) {
    char path[PATH_SIZE];
    ASSERT_OK(path_format(path, "%s/%s", test_path("out"), name));
    expect_content(path, name, size);
}

static bool is_there(const char *name) {
    struct stat info;
    return lstat(test_path(name), &info) == 0;
}

/* Fetches NAME into test_path("out") without long pauses. */
static int fetch(const char **output, const char *name) {
    return test_run(output, "./cadvlm data fetch %s '%s' --wait 0.01", name, test_path("out"));
}

/* ---- what is fetched ---- */

TEST(a_model_comes_as_plain_files_without_code_and_pickles) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/model"), ==, 0);
    ASSERT_CONTAINS(output, "out: 6 files of test/model, 305 kB, 0 there already; 305 kB");
    ASSERT_CONTAINS(output,
                    "may run code of theirs: modeling.py, pytorch_model.bin, training_args");
    ASSERT_CONTAINS(output, "nothing here reads them: runs/events (1); --all");
    expect_file("config.json", 200);
    expect_file("model.safetensors", 300 * KB);
    expect_file("tokenizer.json", 5 * KB);
    expect_file("README.md", 10);
    expect_file("vision_tower/config.json", 150);
    expect_file("empty/config.json", 0);
    ASSERT_TRUE(!is_there("out/modeling.py") && !is_there("out/pytorch_model.bin"));
    FileNames names;
    ASSERT_OK(file_list(&names, test_path("out"))); /* and nothing of our own is left */
    ASSERT_INT(names.count, ==, 6);
    file_names_free(&names);

    ASSERT_INT(fetch(&output, "test/model"), ==, 0);
    ASSERT_CONTAINS(output, "all there already");
    ASSERT_INT(count_of(requests(), "/resolve/"), ==, 7); /* one of six is redirected */

    ASSERT_INT(fetch(&output, "test/model --all"), ==, 0);
    expect_file("modeling.py", 100);
    expect_file("pytorch_model.bin", 200 * KB);
    expect_file("runs/events", 70);
}

TEST(a_file_that_was_changed_or_cut_here_is_fetched_again) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/model"), ==, 0);
    FILE *file = fopen(test_path("out/model.safetensors"), "r+b");
    ASSERT_TRUE(file);
    fputc('#', file);
    fclose(file);
    ASSERT_INT(truncate(test_path("out/tokenizer.json"), 10), ==, 0);
    ASSERT_INT(fetch(&output, "test/model"), ==, 0);
    ASSERT_CONTAINS(output, "tokenizer.json is there with other contents, and is replaced");
    ASSERT_CONTAINS(output, "4 there already; 305 kB downloaded");
    expect_file("model.safetensors", 300 * KB);
    expect_file("tokenizer.json", 5 * KB);
}

TEST(without_a_folder_the_cache_of_other_tools_is_filled) {
    const char *output;
    char out[PATH_SIZE], link[PATH_SIZE];
    start_hub();
    ASSERT_ERR(hub_resolve(out, "test/model", NULL), ERR_INPUT, "cadvlm data fetch test/model");
    ASSERT_INT(test_run(&output, "./cadvlm data fetch test/model"), ==, 0);
    ASSERT_OK(hub_resolve(out, "test/model", NULL));
    ASSERT_CONTAINS(output, out);
    ASSERT_CONTAINS(out, COMMIT);
    ASSERT_OK(path_format(link, "%s/model.safetensors", out));
    expect_content(link, "model.safetensors", 300 * KB);
    ASSERT_OK(path_format(link, "%s/vision_tower/config.json", out));
    expect_content(link, "vision_tower/config.json", 150);
    char target[PATH_SIZE] = "";
    ASSERT_INT(readlink(link, target, sizeof target - 1), >, 0);
    ASSERT_CONTAINS(target, "../../../blobs/"); /* relative: the cache can be moved */
    ASSERT_INT(strlen(path_name(target)), ==, 40);
    Buf ref = {0};
    ASSERT_OK(file_read(&ref, test_path("cache/models--test--model/refs/main"), 100));
    ASSERT_TEXT(buf_cstr(&ref), COMMIT); /* no line end, as huggingface_hub writes it */
    buf_free(&ref);
    FileNames blobs;
    ASSERT_OK(file_list(&blobs, test_path("cache/models--test--model/blobs")));
    ASSERT_INT(blobs.count, ==, 6);
    file_names_free(&blobs);

    /* Again; then by a tag, a commit, and a revision with a slash: nothing is fetched twice. */
    ASSERT_INT(test_run(&output, "./cadvlm data fetch test/model"), ==, 0);
    ASSERT_CONTAINS(output, "all there already");
    ASSERT_INT(test_run(&output, "./cadvlm data fetch test/model --revision refs/pr/1"), ==, 0);
    ASSERT_CONTAINS(output, "all there already");
    ASSERT_OK(hub_resolve(out, "test/model", "refs/pr/1"));
    ASSERT_INT(test_run(&output, "./cadvlm data fetch test/model --revision %s", COMMIT), ==, 0);
    ASSERT_TRUE(
        !is_there("cache/models--test--model/refs/c0ffee0000000000000000000000000000000000"));
    ASSERT_CONTAINS(requests(), "/api/models/test/model/revision/refs%2Fpr%2F1?blobs=true");
    ASSERT_INT(count_of(requests(), "/resolve/"), ==, 7);
}

TEST(a_dataset_comes_whole_and_by_globs) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "datasets/test/data"), ==, 0);
    ASSERT_CONTAINS(output, "5 files of datasets/test/data");
    expect_file("data/part one#1 ü?.txt", 40 * KB);
    expect_file("images/b.png", 200);
    expect_file("load.py", 10);
    ASSERT_CONTAINS(requests(), "/datasets/test/data/resolve/");
    ASSERT_CONTAINS(requests(), "/data/part%20one%231%20%C3%BC%3F.txt");

    ASSERT_OK(file_remove_tree(test_path("out")));
    ASSERT_INT(fetch(&output, "datasets/test/data --include '*.png' --exclude '*/b*'"), ==, 0);
    ASSERT_CONTAINS(output, "1 file of");
    ASSERT_TRUE(is_there("out/images/a.png") && !is_there("out/images/b.png"));
    ASSERT_INT(fetch(&output, "datasets/test/data --include '*.jpg'"), ==, 1);
    ASSERT_CONTAINS(output, "of the 5 files of test/data, none is wanted: see --include");
    ASSERT_INT(test_run(&output, "./cadvlm data fetch datasets/test/data"), ==, 0);
    ASSERT_TRUE(is_there("cache/datasets--test--data/refs/main"));
}

TEST(weights_that_are_only_pickled_are_reported_with_the_way_out) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/only-bin"), ==, 0);
    ASSERT_CONTAINS(output, "cadvlm data fetch test/only-bin FOLDER --all");
    ASSERT_CONTAINS(output, "python3 tools/bin_to_safetensors.py FOLDER");
    ASSERT_INT(fetch(&output, "test/only-bin --include '*.bin'"), ==, 1); /* --all it must be */
}

TEST(json_has_the_documented_keys) {
    const char *output;
    Json *root;
    int64_t number = 0;
    start_hub();
    ASSERT_INT(
        test_run(&output, "./cadvlm data fetch --json test/model %s 2>/dev/null", test_path("out")),
        ==, 0);
    ASSERT_OK(js_parse(&root, output, strlen(output), "output"));
    ASSERT_TEXT(js_text(js_get(root, "name"), NULL), "test/model");
    ASSERT_TEXT(js_text(js_get(root, "folder"), NULL), test_path("out"));
    ASSERT_TEXT(js_text(js_get(root, "commit"), NULL), COMMIT);
    ASSERT_TRUE(js_integer(js_get(root, "files"), &number) && number == 6);
    ASSERT_TRUE(js_integer(js_get(root, "bytes"), &number) && number == 305360);
    ASSERT_TRUE(js_integer(js_get(root, "downloaded"), &number) && number == 305360);
    ASSERT_INT(js_type(js_get(root, "seconds")), ==, JSON_KIND_NUMBER);
    js_free(&root);
}

TEST(names_are_listed_and_slips_of_the_pen_corrected) {
    const char *output;
    forget_settings();
    setenv("HF_ENDPOINT", "http://127.0.0.1:9", 1); /* where nobody answers */
    ASSERT_INT(test_run(&output, "./cadvlm data fetch --list"), ==, 0);
    ASSERT_CONTAINS(output, "openecad-0.55b   Yuki-Kokomi/OpenECADv2-CLIP-0.55B");
    ASSERT_CONTAINS(output, "openecad-data    datasets/Yuki-Kokomi/OpenECADv2-Datasets");
    ASSERT_INT(test_run(&output, "./cadvlm data fetch openecad-2.4"), ==, 1);
    ASSERT_CONTAINS(output, "is openecad-2.4b meant?");
    ASSERT_INT(test_run(&output, "./cadvlm data fetch ../x/y"), ==, 1);
    ASSERT_CONTAINS(output, "owner/name is expected");
    ASSERT_INT(test_run(&output, "./cadvlm data fetch"), ==, 2);
    ASSERT_INT(test_run(&output, "./cadvlm data fetch a/b --revision ../x"), ==, 1);
    ASSERT_CONTAINS(output, "a branch, a tag or a commit");
    ASSERT_INT(test_run(&output, "./cadvlm data fetch openecad-0.89b --tries 2 --wait 0.01"), ==,
               1);
    ASSERT_CONTAINS(output, "Yuan-Che/OpenECADv2-SigLIP-0.89B: ");
    ASSERT_CONTAINS(output, "2 times in a row");
    ASSERT_INT(test_run(&output, "HF_ENDPOINT=ftp://x ./cadvlm data fetch a/b"), ==, 1);
    ASSERT_CONTAINS(output, "https://… is expected");
}

/* ---- connections that break ---- */

TEST(a_cut_connection_is_continued_where_it_broke) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/cut"), ==, 0);
    expect_file("model.safetensors", BIG);
    /* Three cuts; each time the storage is asked for the rest of the same content. */
    ASSERT_CONTAINS(requests(), "range=bytes=700000- if=\"");
    ASSERT_CONTAINS(requests(), "range=bytes=1400000- if=\"");
    ASSERT_CONTAINS(requests(), "range=bytes=2100000- if=\"");
    ASSERT_CONTAINS(output, "0 there already; 3.00 MB downloaded");
    ASSERT_CONTAINS(output, "model.safetensors: ");
    ASSERT_CONTAINS(output, "try 2 of 5 in 0.01 s");
}

TEST(a_later_run_goes_on_where_the_last_one_gave_up) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/cut --tries 1 --stall 2"), ==, 1);
    ASSERT_CONTAINS(output, "What has come is kept: run the command again to go on");
    ASSERT_TRUE(!is_there("out/model.safetensors"));
    ASSERT_INT(fetch(&output, "test/cut --tries 3"), ==, 0);
    ASSERT_CONTAINS(requests(), "range=bytes=700000-");
    ASSERT_CONTAINS(output, "1 there already; 2.30 MB downloaded");
    expect_file("model.safetensors", BIG);
    ASSERT_TRUE(!is_there("out/model.safetensors.incomplete"));
    ASSERT_TRUE(!is_there("out/model.safetensors.incomplete.etag"));
}

TEST(the_cache_is_continued_too_and_named_only_when_complete) {
    const char *output;
    char out[PATH_SIZE];
    start_hub();
    ASSERT_INT(test_run(&output, "./cadvlm data fetch test/cut --tries 1 --stall 2"), ==, 1);
    ASSERT_ERR(hub_resolve(out, "test/cut", NULL), ERR_INPUT, "cadvlm data fetch test/cut");
    ASSERT_INT(test_run(&output, "./cadvlm data fetch test/cut --wait 0.01"), ==, 0);
    ASSERT_CONTAINS(requests(), "range=bytes=700000-");
    ASSERT_OK(hub_resolve(out, "test/cut", NULL));
}

TEST(a_server_without_ranges_sends_all_of_it_again) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/no-range"), ==, 0);
    ASSERT_CONTAINS(output, "model.safetensors: the server sends all of it again");
    ASSERT_CONTAINS(output, "3.70 MB downloaded");
    expect_file("model.safetensors", BIG);
}

TEST(a_server_that_never_gets_further_is_given_up) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/drip"), ==, 1);
    ASSERT_CONTAINS(output, "5 times in a row");
    ASSERT_INT(count_of(requests(), "storage "), ==, 5);
}

TEST(progress_makes_failures_forgotten) {
    const char *output;
    start_hub(); /* 700 kB a connection: five connections, and more than two tries without 1 MiB */
    ASSERT_INT(fetch(&output, "test/reset --tries 3"), ==, 0);
    expect_file("model.safetensors", BIG);
    ASSERT_INT(count_of(requests(), "storage "), ==, 5);
}

TEST(a_file_that_changed_at_the_hub_starts_over) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/changed --tries 1 --stall 2"), ==, 1);
    ASSERT_TRUE(is_there("out/model.safetensors.incomplete"));
    ASSERT_INT(fetch(&output, "test/changed"), ==, 0);
    ASSERT_INT(count_of(requests(), "range=bytes"), ==, 0); /* nothing of the old one was used */
    expect_content(test_path("out/model.safetensors"), "changed", BIG);
    ASSERT_CONTAINS(requests(), NEXT_COMMIT);
}

TEST(another_etag_makes_the_server_send_all_of_it) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/new-etag"), ==, 0);
    ASSERT_CONTAINS(requests(), "range=bytes=700000- if=\"first\" token=- 200");
    ASSERT_CONTAINS(output, "the server sends all of it again");
    expect_file("model.safetensors", BIG);
}

TEST(another_part_than_the_one_asked_for_is_not_taken) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/other-range"), ==, 0);
    ASSERT_CONTAINS(output, "the server sent another part than the one asked for");
    expect_file("model.safetensors", BIG);
    /* the right part, but of a file of another length */
    ASSERT_OK(file_remove_tree(test_path("out")));
    ASSERT_INT(fetch(&output, "test/other-total"), ==, 0);
    ASSERT_CONTAINS(output, "the server sent another part than the one asked for");
    expect_file("model.safetensors", BIG);
}

TEST(a_stalled_transfer_is_tried_again) {
    const char *output;
    start_hub();
    double start = clock_seconds();
    ASSERT_INT(fetch(&output, "test/stall --stall 1"), ==, 0);
    ASSERT_REAL(clock_seconds() - start, <, test_patience(15));
    ASSERT_CONTAINS(requests(), "range=bytes=500000-");
    expect_file("model.safetensors", BIG);
}

TEST(busy_servers_are_asked_again_after_the_time_they_name) {
    const char *output;
    start_hub();
    double start = clock_seconds();
    ASSERT_INT(fetch(&output, "test/busy"), ==, 0);
    ASSERT_REAL(clock_seconds() - start, >, 0.9);
    ASSERT_CONTAINS(output, "status 429 (too many requests); try 2 of 5 in 1 s");
    ASSERT_CONTAINS(output, "status 500; try 3 of 5");
    ASSERT_CONTAINS(output, "model.safetensors: ");
    ASSERT_CONTAINS(output, "status 503; try 2 of 5");
    ASSERT_CONTAINS(output, "the storage behind http://127.0.0.1:"); /* an address too old */
    ASSERT_CONTAINS(output, "status 403; try 3 of 5");
    expect_file("model.safetensors", BIG);

    ASSERT_INT(fetch(&output, "test/down --tries 2"), ==, 1);
    ASSERT_CONTAINS(output, "status 503, 2 times in a row");
    ASSERT_INT(fetch(&output, "test/tomorrow"), ==, 1);
    ASSERT_CONTAINS(output, "asks to come back in 1667 minutes");
}

/* Starts the command, waits until a good part of the weights is there, and sends it `number`. */
static void stop_midway(int number) {
    char program[PATH_SIZE];
    Process process;
    uint64_t size = 0;
    int status, died;
    ASSERT_OK(path_format(program, "%s/cadvlm", test_build_folder()));
    const char *argv[] = {program, "data", "fetch", "test/slow", test_path("out"), NULL};
    ASSERT_OK(process_start(&process, argv));
    for (double end = clock_seconds() + test_patience(20);
         size < 200 * KB && clock_seconds() < end;) {
        usleep(10000);
        if (is_there("out/model.safetensors.incomplete"))
            ASSERT_OK(file_size(test_path("out/model.safetensors.incomplete"), &size));
    }
    ASSERT_INT(size, >=, 200 * KB);
    ASSERT_INT(size, <, BIG);
    ASSERT_INT(kill(process.pid, number), ==, 0);
    process_finish(&process, &status, &died);
    ASSERT_INT(died, ==, number == SIGKILL ? SIGKILL : 0);
    if (number != SIGKILL) ASSERT_INT(status, ==, 75);
}

TEST(an_interrupted_run_is_continued) {
    const char *output;
    start_hub();
    stop_midway(SIGINT);
    ASSERT_INT(fetch(&output, "test/slow"), ==, 0);
    ASSERT_CONTAINS(requests(), "range=bytes=");
    ASSERT_CONTAINS(requests(), " 206\n");
    expect_file("model.safetensors", BIG);
}

TEST(a_killed_run_is_continued) {
    const char *output;
    start_hub();
    stop_midway(SIGKILL);
    ASSERT_INT(fetch(&output, "test/slow"), ==, 0);
    ASSERT_CONTAINS(requests(), " 206\n");
    expect_file("model.safetensors", BIG);
}

TEST(two_runs_do_not_write_into_one_file) {
    const char *output;
    start_hub();
    char program[PATH_SIZE];
    Process process;
    ASSERT_OK(path_format(program, "%s/cadvlm", test_build_folder()));
    const char *argv[] = {program, "data", "fetch", "test/slow", test_path("out"), NULL};
    ASSERT_OK(process_start(&process, argv));
    for (int i = 0; i < 1000 && !is_there("out/model.safetensors.incomplete"); i++) usleep(10000);
    ASSERT_INT(fetch(&output, "test/slow"), ==, 1);
    ASSERT_CONTAINS(output, "is being downloaded by another process");
    process_kill(&process);
}

/* ---- servers that lie ---- */

TEST(wrong_bytes_are_fetched_once_more) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/wrong-once"), ==, 0);
    ASSERT_CONTAINS(output, "once more from the start");
    expect_file("model.safetensors", BIG);
}

static const char *sha256_of(const Buf *bytes) {
    static char out[DIGEST_TEXT_SIZE];
    Digest *digest;
    ASSERT_OK(digest_open(&digest, DIGEST_SHA256, bytes->size));
    digest_add(digest, bytes->data, bytes->size);
    digest_text(digest, out);
    digest_close(&digest);
    return out;
}

TEST(bytes_that_stay_wrong_are_refused_with_both_hashes) {
    const char *output;
    Buf content = {0};
    start_hub();
    ASSERT_INT(fetch(&output, "test/wrong"), ==, 1);
    ASSERT_CONTAINS(output, "model.safetensors is not what the hub announces, 2 times: its sha256");
    make_content(&content, "model.safetensors", BIG);
    ASSERT_CONTAINS(output, sha256_of(&content));
    content.data[1000] = '#';
    ASSERT_CONTAINS(output, sha256_of(&content));
    ASSERT_TRUE(!is_there("out/model.safetensors"));
    ASSERT_TRUE(!is_there("out/model.safetensors.incomplete"));
    buf_free(&content);
}

TEST(sizes_other_than_announced_are_refused) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/longer"), ==, 1);
    ASSERT_CONTAINS(output, "the server sends 3000004 bytes where the list says 3000000");
    ASSERT_INT(fetch(&output, "test/shorter"), ==, 1);
    ASSERT_CONTAINS(output, "the server sends 2999999 bytes where the list says 3000000");
    double start = clock_seconds();
    ASSERT_INT(fetch(&output, "test/endless"), ==, 1); /* 3 GB, were they taken */
    ASSERT_CONTAINS(output, "sends more than the 3000000 bytes of the list");
    ASSERT_REAL(clock_seconds() - start, <, test_patience(10));
    ASSERT_TRUE(!is_there("out/model.safetensors.incomplete"));
}

TEST(hostile_lists_are_refused_before_anything_is_written) {
    static const struct {
        const char *name, *sentence;
    } cases[] = {{"up", "a path that is not safe: \"../evil.json\""},
                 {"inside", "not safe: \"a/../../evil.json\""},
                 {"root", "not safe: \"/tmp/evil.json\""},
                 {"git", "not safe: \"x/.git/hooks/config.json\""},
                 {"control", "not safe: \"a\\x1b[31m.json\""},
                 {"c1", "not safe: \"a\\u009b31m.json\""},
                 {"turned", "not safe: \"a\\u202egpj.json\""},
                 {"zero", "not safe: \"config.json\\x00.png\" (16 bytes)"},
                 {"empty-part", "not safe: \"a//config.json\""},
                 {"long", "xxx\"… (312 bytes)"},
                 {"none", "not safe: \"\""},
                 {"negative", "no possible size for config.json (-1)"},
                 {"huge", "no possible size for config.json"},
                 {"float", "no possible size for config.json"},
                 {"no-space", "8.80 PB to download, and "},
                 {"hash", "no git sha1 for config.json"},
                 {"no-hash", "no git sha1 for config.json"}};
    const char *output;
    start_hub();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "test/hostile-%s", cases[i].name);
        ASSERT_INT(fetch(&output, name), ==, 1);
        ASSERT_CONTAINS(output, cases[i].sentence);
    }
    ASSERT_INT(count_of(requests(), "/resolve/"), ==, 0);
    ASSERT_TRUE(!is_there("evil.json") && !is_there("out/README.md"));
    ASSERT_INT(fetch(&output, "test/hostile-own-name --all"), ==, 1); /* only README.md is asked */
    ASSERT_INT(count_of(requests(), "incomplete"), ==, 0);
    ASSERT_INT(fetch(&output, "test/no-json"), ==, 1);
    ASSERT_CONTAINS(output, "the hub's answer for test/no-json is not valid JSON");
    ASSERT_INT(fetch(&output, "test/endless-list"), ==, 1);
    ASSERT_CONTAINS(output, "the list of files is longer than 64 MB");
    ASSERT_INT(fetch(&output, "test/many-headers"), ==, 1);
    ASSERT_CONTAINS(output, "bytes of headers");
}

TEST(redirects_are_counted_and_stay_on_the_web) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/loop"), ==, 1);
    ASSERT_CONTAINS(output, "redirects more than 10 times");
    ASSERT_INT(fetch(&output, "test/downgrade"), ==, 1);
    ASSERT_CONTAINS(output, "file:///etc/passwd is no address");
}

TEST(a_repository_with_a_new_name_is_found_by_the_old_one) {
    const char *output;
    char out[PATH_SIZE];
    start_hub();
    setenv("HF_TOKEN", "hf_right", 1); /* which goes along, within the hub */
    ASSERT_INT(test_run(&output, "./cadvlm data fetch test/renamed"), ==, 0);
    ASSERT_OK(hub_resolve(out, "test/renamed", NULL));
    ASSERT_CONTAINS(requests(), "hub /test/model/resolve/");
    ASSERT_INT(count_of(requests(), "hub "), ==, count_of(requests(), "token=hf_right"));
}

/* ---- who may read ---- */

TEST(the_token_goes_to_the_hub_and_to_nobody_else) {
    const char *output;
    start_hub();
    setenv("HF_TOKEN", "hf_right", 1);
    ASSERT_INT(fetch(&output, "test/gated"), ==, 0);
    ASSERT_INT(count_of(requests(), "hub "), ==, 3);
    ASSERT_INT(count_of(requests(), "token=hf_right"), ==, 3);
    ASSERT_INT(count_of(requests(), "storage "), ==, 1);
    ASSERT_CONTAINS(strstr(requests(), "storage "), "token=- 200");
    ASSERT_TRUE(!strstr(output, "hf_right"));
    setenv("HF_TOKEN", "hf_a\nX-Evil: 1", 1);
    ASSERT_INT(fetch(&output, "test/gated"), ==, 2);
    ASSERT_CONTAINS(output, "characters that no header can carry");
}

/* The server's address with a user and a password. */
static void add_password(void) {
    char endpoint[96];
    snprintf(endpoint, sizeof endpoint, "http://me:s3cret@%s", getenv("HF_ENDPOINT") + 7);
    setenv("HF_ENDPOINT", endpoint, 1);
}

TEST(a_password_in_the_address_of_the_hub_is_used_and_never_printed) {
    const char *output;
    start_hub();
    add_password();
    ASSERT_INT(fetch(&output, "test/model"), ==, 0);
    ASSERT_CONTAINS(requests(), "token=Basic bWU6czNjcmV0 200"); /* me:s3cret */
    ASSERT_CONTAINS(strstr(requests(), "storage "), "token=- 200");
    ASSERT_TRUE(!strstr(output, "s3cret") && !strstr(output, "unencrypted")); /* to this machine */
    static const char *const names[] = {"test/nowhere", "test/gated", "test/model --revision v9",
                                        "test/loop", "test/downgrade"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ASSERT_TRUE(fetch(&output, names[i]) != 0);
        ASSERT(!strstr(output, "s3cret") && !strstr(output, "me:"), "%s: %s", names[i], output);
    }
    ASSERT_INT(fetch(&output, "test/nowhere"), ==, 1);
    ASSERT_CONTAINS(output, "http://127.0.0.1:");

    static const char *const wrong[] = {"https://me:s3/cret@hub.example",
                                        "ftp://me:s3cret@hub.example", "https://me:s3cret@",
                                        "me:s3cret@hub", "https:// me:s3cret@hub"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        setenv("HF_ENDPOINT", wrong[i], 1);
        int code = fetch(&output, "test/model");
        ASSERT(code == 1, "%s: exit code %d: %s", wrong[i], code, output);
        ASSERT_CONTAINS(output, "HF_ENDPOINT: no address");
        ASSERT_TRUE(!strstr(output, "s3") && !strstr(output, "cret"));
    }
}

TEST(a_secret_that_goes_over_plain_http_is_worth_a_word) {
    const char *output;
    forget_settings();
    setenv("HF_ENDPOINT", "http://hub.invalid", 1);
    ASSERT_INT(fetch(&output, "test/model --tries 1 --stall 2"), ==, 1);
    ASSERT_TRUE(!strstr(output, "unencrypted")); /* nothing is secret */
    setenv("HF_TOKEN", "hf_right", 1);
    ASSERT_INT(fetch(&output, "test/model --tries 1 --stall 2"), ==, 1);
    ASSERT_CONTAINS(output, "HF_TOKEN goes unencrypted to http://hub.invalid, where HF_ENDPOINT");
    ASSERT_TRUE(!strstr(output, "hf_right"));
    setenv("HF_ENDPOINT", "https://hub.invalid", 1);
    ASSERT_INT(fetch(&output, "test/model --tries 1 --stall 2"), ==, 1);
    ASSERT_TRUE(!strstr(output, "unencrypted"));
    unsetenv("HF_TOKEN");
    setenv("HF_ENDPOINT", "http://me:s3cret@hub.invalid/mirror", 1);
    ASSERT_INT(fetch(&output, "test/model --tries 1 --stall 2"), ==, 1);
    ASSERT_CONTAINS(output, "the password in HF_ENDPOINT goes unencrypted to "
                            "http://hub.invalid/mirror,");
    ASSERT_TRUE(!strstr(output, "s3cret"));
}

TEST(refusals_say_what_to_do) {
    const char *output;
    start_hub();
    ASSERT_INT(fetch(&output, "test/gated"), ==, 1);
    ASSERT_CONTAINS(output, "test/gated is gated (401): accept its licence at http://127.0.0.1:");
    ASSERT_CONTAINS(output, "set HF_TOKEN");
    ASSERT_INT(fetch(&output, "test/nowhere"), ==, 1);
    ASSERT_CONTAINS(output, "has no public model test/nowhere (401)");
    ASSERT_INT(fetch(&output, "datasets/test/nowhere"), ==, 1);
    ASSERT_CONTAINS(output, "has no public dataset test/nowhere");
    ASSERT_INT(fetch(&output, "test/model --revision v9"), ==, 1);
    ASSERT_CONTAINS(output, "test/model has no revision v9 (404)");
    setenv("HF_TOKEN", "hf_wrong", 1);
    ASSERT_INT(fetch(&output, "test/gated"), ==, 1);
    ASSERT_CONTAINS(output, "the one that is set has no access");
    ASSERT_INT(fetch(&output, "test/nowhere"), ==, 1);
    ASSERT_CONTAINS(output, "does not accept HF_TOKEN for test/nowhere (401)");
}
