/* JSON: what was read, printed, is read again as the same. */
#include "core/json.h"
#include "tests/fuzz/fuzz.h"

static void walk(const Json *value, int depth) {
    double number;
    int64_t integer;
    bool truth;
    size_t size;
    (void)js_number(value, &number);
    (void)js_integer(value, &integer);
    (void)js_bool(value, &truth);
    (void)js_text(value, &size);
    if (depth == 0) return;
    for (size_t i = 0; i < js_count(value) && i < 100; i++) walk(js_at(value, i), depth - 1);
    const char *key;
    JsonIter iter = js_iter(value);
    for (const Json *member; (member = js_next(&iter, &key));) {
        ASSERT_TRUE(js_get(value, key) == member);
        walk(member, depth - 1);
    }
}

void fuzz_one(const uint8_t *data, size_t size) {
    Json *root, *again;
    Buf first = {0}, second = {0};
    if (js_parse_within(&root, (const char *)data, size, 10, "few") == OK) js_free(&root);
    if (js_parse(&root, (const char *)data, size, "input") != OK) return;
    walk(root, 4);
    js_print(&first, root, JSON_ONE_LINE, 17);
    ASSERT_OK(js_parse(&again, buf_cstr(&first), first.size, "printed"));
    js_print(&second, again, JSON_ONE_LINE, 17);
    ASSERT_TEXT(buf_cstr(&second), buf_cstr(&first));
    buf_clear(&second);
    js_print(&second, again, JSON_INDENTED, 6);
    js_free(&again);
    js_free(&root);
    buf_free(&first);
    buf_free(&second);
}

void fuzz_seeds(void) {
    fuzz_seed_text("{\"a\": [1, -2.5e3, true, null, \"\\u00e9\\ud83d\\ude00\\n\"], \"b\": {}}");
    fuzz_seed_text("\xef\xbb\xbf[[[[]]], {\"a\": {\"a\": 1e308}}, 9223372036854775807, 0.1]");
    fuzz_seed_text("[[],[],[],[],[],[],[],[],[],[],[],[]]");
    fuzz_seed_text("{\"k\": 1, \"k\": 2}");
    fuzz_seed_text("[\"\xc2\x9b\xe2\x80\xae\\u0000\"]");
}
