/* core: text that others wrote, where it is shown and where it is kept. */
#include <fcntl.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "core/rng.h"
#include "core/text.h"
#include "tests/support/test.h"

/* What others write, and how it is shown. UTF-8 by hand: U+009B is c2 9b, U+202E e2 80 ae. */
static const char *const ESCAPES[][2] = {
    {"plain ⌀ é 图 😀", "plain ⌀ é 图 😀"},
    {"a\nerror: forged", "a\\nerror: forged"},
    {"\r\t", "\\r\\t"},
    {"\033[2J\a\177", "\\x1b[2J\\x07\\x7f"},
    {"\xc2\x9b"
     "31m",
     "\\u009b31m"},
    {"\xc2\x85", "\\u0085"},
    {"\xe2\x80\xae"
     "exe.txt",
     "\\u202eexe.txt"},
    {"\xe2\x80\x8e\xe2\x80\x8f\xd8\x9c", "\\u200e\\u200f\\u061c"},
    {"\xe2\x80\xaa\xe2\x81\xa6\xe2\x81\xa9", "\\u202a\\u2066\\u2069"},
    {"\xe2\x80\xa8\xe2\x80\xa9", "\\u2028\\u2029"},
    {"caf\xe9", "caf\\xe9"},
    {"\x9b"
     "31m",
     "\\x9b31m"},
    {"\xc0\xaf", "\\xc0\\xaf"},                               /* an overlong '/' */
    {"\xed\xa0\x80", "\\xed\\xa0\\x80"},                      /* a surrogate */
    {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},             /* over U+10FFFF */
    {"\xe2\x80", "\\xe2\\x80"},                               /* cut short */
    {"\xe2\x80\xa7\xe2\x80\xaf", "\xe2\x80\xa7\xe2\x80\xaf"}, /* the neighbours of U+2028 … 202E */
    {"\xc2\xa0 \xe2\x81\xaa", "\xc2\xa0 \xe2\x81\xaa"},
};
enum { ESCAPE_COUNT = sizeof ESCAPES / sizeof ESCAPES[0] };

TEST(what_a_terminal_obeys_is_written_out) {
    char out[64];
    for (int i = 0; i < ESCAPE_COUNT; i++) {
        text_escape(out, sizeof out, ESCAPES[i][0]);
        ASSERT_TEXT(out, ESCAPES[i][1]);
    }
}

TEST(errors_and_log_lines_are_one_line_whatever_they_quote) {
    for (int i = 0; i < ESCAPE_COUNT; i++) {
        Buf expected = {0};
        IGNORE(err_raise(ERR_INPUT, __FILE__, __LINE__, "key %s here", ESCAPES[i][0]));
        IGNORE(err_prefix(ERR_INPUT, "%s: ", ESCAPES[i][0]));
        buf_format(&expected, "%s: key %s here", ESCAPES[i][1], ESCAPES[i][1]);
        ASSERT_TEXT(err_message(), buf_cstr(&expected));
        buf_free(&expected);
    }
    ASSERT_OK(log_open_file(test_path("log")));
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO);
    for (int i = 0; i < ESCAPE_COUNT; i++) log_warn("|%s|", ESCAPES[i][0]);
    Buf lines = {0}, expected = {0};
    ASSERT_OK(file_read(&lines, test_path("log"), 1 << 20));
    const char *at = buf_cstr(&lines);
    for (int i = 0; i < ESCAPE_COUNT; i++) {
        buf_clear(&expected);
        buf_format(&expected, "warning: |%s|\n", ESCAPES[i][1]);
        const char *end = strchr(at, '\n');
        ASSERT_TRUE(end != NULL);
        const char *line = strstr(at, "warning: ");
        ASSERT(line && !strncmp(line, buf_cstr(&expected), expected.size), "%.*s is not %s",
               (int)(end - at), at, buf_cstr(&expected));
        at = end + 1;
    }
    ASSERT_TEXT(at, "");
    buf_free(&lines);
    buf_free(&expected);
}

/* Unicode's well-formed sequences (table 3-7), written anew; 0 where there is none. */
static size_t well_formed(const unsigned char *t, size_t left) {
    static const struct {
        unsigned char first[2], second[2];
        size_t length;
    } rows[] = {{{0x00, 0x7f}, {0, 0}, 1},       {{0xc2, 0xdf}, {0x80, 0xbf}, 2},
                {{0xe0, 0xe0}, {0xa0, 0xbf}, 3}, {{0xe1, 0xec}, {0x80, 0xbf}, 3},
                {{0xed, 0xed}, {0x80, 0x9f}, 3}, {{0xee, 0xef}, {0x80, 0xbf}, 3},
                {{0xf0, 0xf0}, {0x90, 0xbf}, 4}, {{0xf1, 0xf3}, {0x80, 0xbf}, 4},
                {{0xf4, 0xf4}, {0x80, 0x8f}, 4}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (t[0] < rows[i].first[0] || t[0] > rows[i].first[1]) continue;
        if (left < rows[i].length) return 0;
        if (rows[i].length > 1 && (t[1] < rows[i].second[0] || t[1] > rows[i].second[1])) return 0;
        for (size_t k = 2; k < rows[i].length; k++)
            if (t[k] < 0x80 || t[k] > 0xbf) return 0;
        return rows[i].length;
    }
    return 0;
}

static bool is_utf8(const char *text, size_t size) {
    for (size_t at = 0, length; at < size; at += length) {
        length = well_formed((const unsigned char *)text + at, size - at);
        if (!length) return false;
    }
    return true;
}

/* Bytes of all kinds, with whole and broken characters among them; never a zero. */
static void random_text(char *out, size_t length, Rng *rng) {
    static const char *const parts[] = {"é",        "图",       "😀",    "\033[",        "\n",
                                        "\xc2\x9b", "\xe2\x80", "\xe9", "\xe2\x80\xae", "a",
                                        "\\n",      "\xf0\x9f"};
    size_t used = 0;
    while (used < length) {
        const char *part = parts[rng_range(rng, 0, 11)];
        char any[2] = {(char)rng_range(rng, 1, 255), 0};
        if (rng_range(rng, 0, 3) == 0) part = any;
        size_t bytes = strlen(part) < length - used ? strlen(part) : length - used;
        memcpy(out + used, part, bytes);
        used += bytes;
    }
    out[length] = 0;
}

TEST(any_bytes_become_whole_characters_that_fit_and_stay) {
    Rng rng;
    rng_open(&rng, 1, RNG_TEST, 0);
    for (int round = 0; round < 20000; round++) {
        char text[81], out[400], again[400], small[400];
        random_text(text, (size_t)rng_range(&rng, 0, 80), &rng);
        text_escape(out, sizeof out, text);
        ASSERT_TRUE(is_utf8(out, strlen(out)));
        for (const char *c = out; *c; c++) ASSERT_TRUE((unsigned char)*c >= 0x20 && *c != 0x7f);
        text_escape(again, sizeof again, out);
        ASSERT_TEXT(again, out);
        size_t room = (size_t)rng_range(&rng, 1, 100);
        memset(small, 'x', sizeof small);
        text_escape(small, room, text);
        ASSERT_INT(strlen(small), <, room);
        ASSERT_TRUE(small[room] == 'x');
        ASSERT_TRUE(is_utf8(small, strlen(small)) && !strncmp(small, out, strlen(small)));
        if (strlen(out) < room) ASSERT_TEXT(small, out);
        /* An escape is at most 6 bytes (\u202e), a character at most 4. */
        if (strlen(out) >= room) ASSERT_INT(strlen(small) + 6, >=, room);
    }
}

/* The longest sentence is cut behind a character. */
TEST(a_sentence_that_is_too_long_ends_with_a_whole_character) {
    for (int shift = 0; shift < 4; shift++) {
        Buf text = {0};
        for (int i = 0; i < shift; i++) buf_text(&text, "a");
        for (int i = 0; i < 2000; i++) buf_text(&text, "图");
        IGNORE(err_raise(ERR_INPUT, __FILE__, __LINE__, "%s", buf_cstr(&text)));
        size_t length = strlen(err_message());
        ASSERT_INT(length, >=, ERR_MESSAGE_SIZE - 4);
        ASSERT_TRUE(is_utf8(err_message(), length) && !strchr(err_message(), '\\'));
        buf_free(&text);
    }
}

TEST(json_takes_any_text_as_key_and_as_value) {
    Rng rng;
    rng_open(&rng, 2, RNG_TEST, 0);
    for (int round = 0; round < 3000; round++) {
        char text[61];
        random_text(text, (size_t)rng_range(&rng, 0, 60), &rng);
        Json *root = js_new_object(), *back;
        js_set_text(root, text, text);
        js_set(root, "list", js_new_array());
        js_push((Json *)(uintptr_t)js_get(root, "list"), js_new_text(text));
        Buf out = {0};
        js_print(&out, root, JSON_INDENTED, 6);
        ASSERT_TRUE(is_utf8(out.data, out.size));
        for (size_t i = 0; i < out.size; i++) {
            unsigned char c = (unsigned char)out.data[i], next = (unsigned char)out.data[i + 1];
            ASSERT_TRUE((c >= 0x20 || c == '\n') && c != 0x7f && !(c == 0xc2 && next < 0xa0));
        }
        ASSERT_TRUE(!strstr(buf_cstr(&out), "\xe2\x80\xae"));
        ASSERT_OK(js_parse(&back, out.data, out.size, "t"));
        const char *value = js_text(js_at(js_get(back, "list"), 0), NULL);
        if (is_utf8(text, strlen(text))) ASSERT_TEXT(value, text); /* nothing is lost */
        if (is_utf8(text, strlen(text))) ASSERT_TEXT(js_text(js_get(back, text), NULL), text);
        js_free(&root);
        js_free(&back);
        buf_free(&out);
    }
    Json *root = js_new_object();
    js_set_integer(root, "caf\xe9", 1); /* two names stay two */
    js_set_integer(root, "caf\xe8", 2);
    ASSERT_INT(js_count(root), ==, 2);
    ASSERT_TRUE(js_get(root, "caf\\xe9") != NULL);
    js_free(&root);
}
