/* core: errors, random numbers, buffers, files, JSON, images, queues, processes. */
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/process.h"
#include "core/queue.h"
#include "core/rng.h"
#include "image/image.h"
#include "tests/support/test.h"

static Err fail_with_values(int found) {
    REQUIRE(found == 3, ERR_INPUT, "found %d where 3 is expected", found);
    return OK;
}

static Err pass_on(int found) {
    TRY(fail_with_values(found));
    return OK;
}

TEST(error_keeps_its_sentence_and_its_way) {
    ASSERT_OK(pass_on(3));
    ASSERT_ERR(pass_on(4), ERR_INPUT, "found 4 where 3 is expected");
    char trace[256];
    err_trace(trace, sizeof trace);
    ASSERT_CONTAINS(trace, "tests/core/test_core.c");
    ASSERT_CONTAINS(trace, " < ");
    IGNORE(err_prefix(ERR_INPUT, "part %d: ", 7));
    ASSERT_TEXT(err_message(), "part 7: found 4 where 3 is expected");
}

TEST(exit_codes_are_those_documented) {
    ASSERT_INT(err_exit_code(OK), ==, 0);
    ASSERT_INT(err_exit_code(ERR_IO), ==, 1);
    ASSERT_INT(err_exit_code(ERR_CONFIG), ==, 2);
    ASSERT_INT(err_exit_code(ERR_UNSUPPORTED), ==, 2);
    ASSERT_INT(err_exit_code(ERR_STOPPED), ==, 75);
}

/* Known answers of Philox4x32-10 from the Random123 distribution (kat_vectors). */
TEST(philox_gives_its_published_numbers) {
    uint32_t out[4];
    rng_block(out, 0, 0, 0);
    ASSERT_INT(out[0], ==, 0x6627e8d5u);
    ASSERT_INT(out[1], ==, 0xe169c58du);
    ASSERT_INT(out[2], ==, 0xbc57ac4cu);
    ASSERT_INT(out[3], ==, 0x9b00dbd8u);
    rng_block(out, ~0ull, ~0ull, ~0ull);
    ASSERT_INT(out[0], ==, 0x408f276du);
    ASSERT_INT(out[3], ==, 0x6d5451fdu);
}

/* The same for Philox4x32-7, whose words masks take in halves. */
TEST(masks_are_the_published_numbers_of_seven_rounds) {
    uint16_t out[8];
    rng_mask(out, 0, 0, 0);
    ASSERT_INT(out[0], ==, 0xb709);
    ASSERT_INT(out[1], ==, 0x5f6f);
    ASSERT_INT(out[6], ==, 0x0a48);
    ASSERT_INT(out[7], ==, 0x4f73);
    rng_mask(out, ~0ull, ~0ull, ~0ull);
    ASSERT_INT(out[0], ==, 0xddc2);
    ASSERT_INT(out[7], ==, 0x8c52);
    ASSERT_INT(rng_mask_threshold(0.05f), ==, 3277);
    ASSERT_INT(rng_mask_threshold(0.999999f), ==, 65535);
}

TEST(permutation_hits_every_index_once) {
    for (uint64_t count = 1; count < 300; count += 7) {
        bool seen[300] = {0};
        for (uint64_t i = 0; i < count; i++) {
            uint64_t image = rng_permute(42, i, count);
            ASSERT_INT(image, <, count);
            ASSERT(!seen[image], "%llu twice of %llu", (unsigned long long)image,
                   (unsigned long long)count);
            seen[image] = true;
        }
    }
}

TEST(random_numbers_have_their_moments) {
    Rng rng;
    rng_open(&rng, 7, RNG_TEST, 0);
    double sum = 0, squares = 0, uniform = 0;
    int n = 100000;
    for (int i = 0; i < n; i++) {
        double x = rng_normal(&rng);
        sum += x;
        squares += x * x;
        uniform += rng_uniform(&rng);
    }
    ASSERT_NEAR(sum / n, 0, 0.015); /* standard error 0.0032 */
    ASSERT_NEAR(squares / n, 1, 0.025);
    ASSERT_NEAR(uniform / n, 0.5, 0.005);
    for (int i = 0; i < 1000; i++) {
        int x = rng_range(&rng, -3, 4);
        ASSERT_TRUE(x >= -3 && x <= 4);
    }
}

/* Below 3 · 2^62 a third lies in each third; a remainder alone would put a half into the first. */
TEST(numbers_below_a_limit_favour_none) {
    Rng rng;
    int thirds[3] = {0}, ends[3] = {0}, n = 20000;
    rng_open(&rng, 11, RNG_TEST, 0);
    for (int i = 0; i < n; i++) thirds[rng_below(&rng, 3ull << 62) >> 62]++;
    for (int i = 0; i < 3; i++)
        ASSERT_NEAR((double)thirds[i] / n, 1.0 / 3, 0.02); /* standard error 0.0033 */
    for (int i = 0; i < n; i++) ends[rng_range(&rng, -1, 1) + 1]++;
    for (int i = 0; i < 3; i++) ASSERT_NEAR((double)ends[i] / n, 1.0 / 3, 0.02);
}

TEST(no_two_purposes_share_a_key) {
    for (uint64_t seed = 0; seed < 50; seed++)
        for (int a = RNG_INIT; a <= RNG_CURRICULUM; a++) {
            for (int b = RNG_INIT; b < a; b++)
                ASSERT_TRUE(rng_key(seed, (RngPurpose)a) != rng_key(seed, (RngPurpose)b));
            for (uint64_t other = 0; other < seed; other++)
                ASSERT_TRUE(rng_key(seed, (RngPurpose)a) != rng_key(other, (RngPurpose)a));
        }
}

TEST(arena_counts_dry_what_it_takes_wet) {
    Arena dry, wet;
    static _Alignas(64) char block[1024];
    arena_open(&dry, "dry", NULL, 0);
    ASSERT_TRUE(arena_take(&dry, 1) == NULL);
    ASSERT_TRUE(arena_take(&dry, 100) == NULL);
    arena_open(&wet, "wet", block, sizeof block);
    arena_take(&wet, 1);
    size_t mark = arena_mark(&wet);
    char *second = arena_take(&wet, 100);
    ASSERT_INT(second - block, ==, 64);
    ASSERT_INT(wet.used, ==, dry.used);
    arena_release(&wet, mark);
    ASSERT_TRUE(arena_take(&wet, 5) == second);
}

TEST(file_is_complete_or_absent) {
    const char *path = test_path("a/b/c.txt");
    ASSERT_ERR(file_write(path, "x", 1), ERR_IO, "c.txt");
    ASSERT_OK(file_make_directories(test_path("a/b")));
    ASSERT_OK(file_write(path, "hello", 5));
    Buf text = {0};
    ASSERT_OK(file_read(&text, path, 5));
    ASSERT_TEXT(buf_cstr(&text), "hello");
    ASSERT_ERR(file_read(&text, path, 4), ERR_INPUT, "5 bytes");
    ASSERT_ERR(file_read(&text, test_path("none"), 4), ERR_INPUT, "none");
    ASSERT_ERR(file_read(&text, test_path("a"), 4), ERR_INPUT, "regular file");
    FileNames names;
    ASSERT_OK(file_list(&names, test_path("a/b")));
    ASSERT_INT(names.count, ==, 1);
    file_names_free(&names);
    buf_free(&text);
    ASSERT_OK(file_remove_tree(test_path("a")));
    ASSERT_TRUE(!file_exists(test_path("a")));
    ASSERT_OK(file_remove_tree(test_path("a")));
}

TEST(full_disk_leaves_the_old_file) {
    ASSERT_OK(file_write(test_path("kept"), "old", 3));
    struct rlimit limit, none;
    ASSERT_INT(getrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    none = (struct rlimit){0, limit.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    ASSERT_INT(setrlimit(RLIMIT_FSIZE, &none), ==, 0); /* no file has room for a byte */
    Err err = file_write(test_path("kept"), "new", 3);
    setrlimit(RLIMIT_FSIZE, &limit);
    ASSERT_ERR(err, ERR_IO, "cannot write");
    FileNames names;
    ASSERT_OK(file_list(&names, test_path(".")));
    for (size_t i = 0; i < names.count; i++) ASSERT_TRUE(!strstr(names.names[i], ".tmp."));
    file_names_free(&names);
    Buf text = {0};
    ASSERT_OK(file_read(&text, test_path("kept"), 100));
    ASSERT_TEXT(buf_cstr(&text), "old");
    buf_free(&text);
}

TEST(a_pipe_is_refused_not_waited_for) {
    Buf text = {0};
    const void *data;
    size_t size;
    ASSERT_INT(mkfifo(test_path("pipe"), 0600), ==, 0);
    ASSERT_ERR(file_read(&text, test_path("pipe"), 100), ERR_INPUT, "regular file");
    ASSERT_ERR(file_map(&data, &size, test_path("pipe")), ERR_INPUT, "regular file");
    buf_free(&text);
}

/* transformers writes int(1e30) where a tokenizer has no longest text. */
TEST(json_with_an_integer_beyond_64_bits_is_read) {
    static const char text[] = "{\"model_max_length\": 1000000000000000019884624838656, \"n\": 12}";
    Json *root;
    int64_t n;
    double length;
    ASSERT_OK(js_parse(&root, text, sizeof text - 1, "a.json"));
    ASSERT_TRUE(js_integer(js_get(root, "n"), &n) && n == 12);
    ASSERT_TRUE(!js_integer(js_get(root, "model_max_length"), &n));
    ASSERT_TRUE(js_number(js_get(root, "model_max_length"), &length));
    ASSERT_REAL(length, ==, 1e30);
    js_free(&root);
    ASSERT_ERR(js_parse(&root, "{\"a\": 1e999}", 12, "a.json"), ERR_INPUT, "not valid JSON");
}

TEST(json_reads_back_what_it_wrote) {
    Json *root = js_new_object();
    js_set_text(root, "name", "flange \"A\"\n");
    js_set_number(root, "x", 0.1);
    js_set_number(root, "nan", NAN);
    js_set_integer(root, "n", -5000000000);
    Json *list = js_new_array();
    js_push(list, js_new_bool(true));
    js_set(root, "list", list);
    ASSERT_OK(js_write(test_path("a.json"), root));
    js_free(&root);

    ASSERT_OK(js_read(&root, test_path("a.json"), 1000));
    double x;
    int64_t n;
    const char *text;
    const Json *value;
    ASSERT_OK(js_need_text(&text, root, "name", "a.json"));
    ASSERT_TEXT(text, "flange \"A\"\n");
    ASSERT_OK(js_need_number(&x, root, "x", "a.json"));
    ASSERT_REAL(x, ==, 0.1);
    ASSERT_OK(js_need_integer(&n, root, "n", "a.json"));
    ASSERT_INT(n, ==, -5000000000);
    ASSERT_INT(js_type(js_get(root, "nan")), ==, JSON_KIND_NULL);
    ASSERT_INT(js_count(js_get(root, "list")), ==, 1);
    ASSERT_TRUE(js_get(js_get(js_get(root, "no"), "no"), "no") == NULL);
    ASSERT_ERR(js_need(&value, root, "x", JSON_KIND_OBJECT, "a.json"), ERR_INPUT,
               "a.json: \"x\" is a number where an object");
    ASSERT_ERR(js_need_integer(&n, root, "x", "a.json"), ERR_INPUT, "whole number");
    ASSERT_ERR(js_need_integer(&n, root, "y", "a.json"), ERR_INPUT, "\"y\" is missing");
    js_free(&root);
}

TEST(shortest_numbers_of_json_read_back_the_same) {
    Rng rng;
    rng_open(&rng, 3, RNG_TEST, 0);
    Json *list = js_new_array();
    double values[2000] = {0.1,     -0.3,        6000, 1e22, 5e-324, 1.7976931348623157e308,
                           1.0 / 3, 123456789.25};
    for (int i = 8; i < 2000; i++) {
        uint64_t bits = (uint64_t)rng_below(&rng, 1ull << 32) << 32 | rng_below(&rng, 1ull << 32);
        memcpy(&values[i], &bits, sizeof bits);
        if (!isfinite(values[i])) values[i] = i % 10 / 10.0;
    }
    for (int i = 0; i < 2000; i++) js_push(list, js_new_number(values[i]));
    js_push(list, js_new_text("0.10000000000000001 \" \\ 2.50 1e5"));
    js_push(list, js_new_integer(INT64_MAX));
    Buf text = {0};
    js_print(&text, list, JSON_ONE_LINE, JSON_SHORTEST);
    ASSERT_TRUE(!strncmp(buf_cstr(&text), "[0.1, -0.3, 6000.0, 1e+22, ", 27));
    ASSERT_CONTAINS(buf_cstr(&text),
                    "\"0.10000000000000001 \\\" \\\\ 2.50 1e5\", 9223372036854775807]");
    Json *again;
    ASSERT_OK(js_parse(&again, text.data, text.size, "text"));
    for (int i = 0; i < 2000; i++) {
        double value;
        ASSERT_TRUE(js_number(js_at(again, (size_t)i), &value));
        ASSERT_TRUE(!memcmp(&value, &values[i], sizeof value));
    }
    js_free(&again);
    js_free(&list);
    buf_free(&text);
}

TEST(broken_json_is_named_with_its_line) {
    Json *root;
    ASSERT_ERR(js_parse(&root, "{\n \"a\": }", 9, "t"), ERR_INPUT, "t is not valid JSON at line 2");
    ASSERT_ERR(js_parse(&root, "", 0, "t"), ERR_INPUT, "not valid JSON");
    ASSERT_ERR(js_parse(&root, "[1e999]", 7, "t"), ERR_INPUT, "not valid JSON");
    Buf deep = {0};
    for (int i = 0; i < 100000; i++) buf_text(&deep, "[");
    ASSERT_ERR(js_parse(&root, deep.data, deep.size, "t"), ERR_INPUT, "not valid JSON");
    buf_free(&deep);
}

TEST(a_byte_order_mark_is_no_part_of_json) {
    Json *root;
    double x;
    static const char marked[] = "\xEF\xBB\xBF{\"x\": 2}", wide[] = "\xFF\xFE{\0}\0";
    ASSERT_OK(js_parse(&root, marked, sizeof marked - 1, "t"));
    ASSERT_OK(js_need_number(&x, root, "x", "t"));
    ASSERT_REAL(x, ==, 2);
    js_free(&root);
    ASSERT_OK(file_write(test_path("marked.json"), marked, sizeof marked - 1));
    ASSERT_OK(js_read(&root, test_path("marked.json"), 100));
    js_free(&root);
    ASSERT_ERR(js_parse(&root, marked, 3, "t"), ERR_INPUT, "not valid JSON");
    ASSERT_ERR(js_parse(&root, wide, sizeof wide - 1, "t"), ERR_INPUT, "t is UTF-16 text");
}

/* Small texts can be large trees: they are refused before there is a tree. */
TEST(json_of_too_many_values_is_refused) {
    Json *root;
    static const char *const one_value_each[] = {"[],", "{ },", "1,", "\"[\","};
    for (int i = 0; i < 4; i++) {
        Buf text = {0};
        buf_text(&text, "[");
        for (int n = 0; n < 1000; n++) buf_text(&text, one_value_each[i]);
        text.data[text.size - 1] = ']';
        ASSERT_OK(js_parse_within(&root, text.data, text.size, 1001, "t"));
        ASSERT_INT(js_count(root), ==, 1000);
        js_free(&root);
        ASSERT_ERR(js_parse_within(&root, text.data, text.size, 1000, "t"), ERR_INPUT,
                   "where 1000 are the most");
        buf_free(&text);
    }
    Buf text = {0};
    buf_text(&text, "[");
    for (int n = 0; n < JSON_VALUES_MAX; n++) buf_text(&text, "0,");
    buf_text(&text, "0]");
    ASSERT_ERR(js_parse(&root, text.data, text.size, "t"), ERR_INPUT, "where 1048576 are the most");
    buf_free(&text);
    /* what stands in a text is no value */
    static const char texts[] = "[\"a\\\",[,[,\", \"[\\\\\"]";
    ASSERT_OK(js_parse_within(&root, texts, sizeof texts - 1, 3, "t"));
    ASSERT_INT(js_count(root), ==, 2);
    js_free(&root);
    ASSERT_ERR(js_parse_within(&root, "{\"a\": [1, {\"b\": 2}]}", 20, 4, "t"), ERR_INPUT,
               "of 5 values");
}

TEST(png_keeps_every_pixel) {
    for (int channels = 1; channels <= 3; channels += 2) {
        Image image, back;
        ASSERT_OK(image_new(&image, 37, 11, channels));
        for (int i = 0; i < 37 * 11 * channels; i++) image.pixels[i] = (uint8_t)(i * 7);
        ASSERT_OK(image_write(test_path("a.png"), &image));
        ASSERT_OK(image_read(&back, test_path("a.png"), channels));
        ASSERT_INT(back.width, ==, 37);
        ASSERT_INT(back.height, ==, 11);
        ASSERT_INT(memcmp(image.pixels, back.pixels, (size_t)(37 * 11 * channels)), ==, 0);
        image_free(&image);
        image_free(&back);
    }
}

TEST(broken_png_is_refused) {
    Image image, back;
    Buf bytes = {0};
    ASSERT_OK(image_new(&image, 30, 20, 1));
    ASSERT_OK(image_encode(&bytes, &image));
    image_free(&image);
    for (size_t cut = 0; cut < bytes.size - 1; cut++) {
        Err err = image_decode(&back, bytes.data, cut, 1, "cut");
        /* Without its last chunk (12 bytes, IEND) a picture is whole. */
        if (err == OK) image_free(&back);
        if (cut + 12 < bytes.size) ASSERT_INT(err, ==, ERR_INPUT);
    }
    /* A header that promises 2^31-1 pixels a side. */
    memcpy(bytes.data + 16, "\x7f\xff\xff\xff\x7f\xff\xff\xff", 8);
    ASSERT_ERR(image_decode(&back, bytes.data, bytes.size, 1, "huge"), ERR_INPUT, "huge");
    ASSERT_ERR(image_decode(&back, "GIF89a  ", 8, 1, "gif"), ERR_INPUT, "gif is not a PNG");
    ASSERT_ERR(image_new(&back, 0, 5, 1), ERR_INPUT, "0 × 5");
    buf_free(&bytes);
}

TEST(hash_of_pieces_is_hash_of_the_whole) {
    HashStream *stream = hash_open();
    hash_add(stream, "abc", 3);
    hash_add(stream, NULL, 0);
    hash_add(stream, "def", 3);
    ASSERT_TRUE(hash_value(stream) == hash_bytes("abcdef", 6));
    ASSERT_TRUE(hash_bytes("abcdef", 6) != hash_bytes("abcdeg", 6));
    hash_close(&stream);
}

static void *produce(void *queue) {
    for (intptr_t i = 1; i <= 1000; i++)
        if (!queue_push(queue, (void *)i)) return (void *)i;
    queue_shut(queue);
    return NULL;
}

TEST(queue_hands_over_everything_in_order) {
    Queue *queue = queue_open(3);
    pthread_t thread;
    pthread_create(&thread, NULL, produce, queue);
    void *item;
    for (intptr_t expected = 1; queue_pop(queue, &item); expected++)
        ASSERT_INT((intptr_t)item, ==, expected);
    void *result;
    pthread_join(thread, &result);
    ASSERT_TRUE(result == NULL);
    queue_close(&queue);
}

TEST(shut_queue_frees_a_waiting_producer) {
    Queue *queue = queue_open(2);
    pthread_t thread;
    pthread_create(&thread, NULL, produce, queue);
    void *item, *result;
    ASSERT_TRUE(queue_pop(queue, &item));
    queue_shut(queue);
    pthread_join(thread, &result);
    ASSERT_TRUE(result != NULL);
    queue_close(&queue);
}

TEST(process_answers_dies_and_hangs) {
    Process process;
    const char *const cat[] = {"/bin/cat", NULL};
    ASSERT_OK(process_start(&process, cat));
    char back[6] = "";
    bool timed_out;
    ASSERT_TRUE(process_send(&process, "hello", 5, 0, NULL));
    ASSERT_TRUE(process_receive(&process, back, 5, clock_seconds() + test_patience(10), NULL));
    ASSERT_TEXT(back, "hello");
    ASSERT_TRUE(!process_receive(&process, back, 1, clock_seconds() + 0.05, &timed_out));
    ASSERT_TRUE(timed_out);
    kill(process.pid, SIGKILL);
    ASSERT_TRUE(
        !process_receive(&process, back, 1, clock_seconds() + test_patience(10), &timed_out));
    ASSERT_TRUE(!timed_out);
    /* Its input may be closed a moment after its output; no SIGPIPE reaches us. */
    double limit = clock_seconds() + test_patience(10);
    while (process_send(&process, back, 1, 0, NULL)) ASSERT_REAL(clock_seconds(), <, limit);
    int status, signal_number;
    process_finish(&process, &status, &signal_number);
    ASSERT_INT(signal_number, ==, SIGKILL);
    const char *const nothing[] = {"/nowhere/to/be/found", NULL};
    ASSERT_ERR(process_start(&process, nothing), ERR_IO, "/nowhere");
}
