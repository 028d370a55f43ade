/* Text from outside: what is shown of it, and the pieces that answers and questions are cut into.
 */
#include "cad/language/blocks.h"
#include "cad/language/number.h"
#include "core/text.h"
#include "data/template.h"
#include "tests/fuzz/fuzz.h"

static void check_plain(const char *text) {
    size_t left = strlen(text), length;
    for (; left; text += length, left -= length)
        ASSERT_TRUE(text_kind(text, left, &length) == TEXT_PLAIN);
}

static void escape(const char *text, size_t size) {
    char once[200], twice[sizeof once];
    Buf repaired = {0};
    text_escape_some(once, sizeof once, text, size);
    check_plain(once);
    text_escape(twice, sizeof twice, once);
    ASSERT_TEXT(twice, once);
    text_repair(&repaired, text);
    for (const char *at = buf_cstr(&repaired); *at;) {
        size_t length = utf8_length(at, strlen(at));
        ASSERT_TRUE(length > 0);
        (void)utf8_code(at, length);
        at += length;
    }
    buf_free(&repaired);
}

static void check_inside(const char *part, size_t part_size, const char *text, size_t size) {
    ASSERT_TRUE(part >= text && part_size <= size && part + part_size <= text + size);
}

void fuzz_one(const uint8_t *data, size_t size) {
    FuzzInput input = {data, data + size};
    char *text = fuzz_piece(&input, &size);
    const char *code;
    size_t code_size;
    CodeBlock blocks[CODE_BLOCKS_MAX];
    Buf out = {0};
    escape(text, size);
    int count = code_blocks(blocks, text, size);
    for (int i = 0; i < count; i++) check_inside(blocks[i].text, blocks[i].size, text, size);
    template_extract_code(text, size, &code, &code_size);
    check_inside(code, code_size, text, size);
    template_answer(&out, text, size);
    template_question_of(&out, text, size, true);
    template_question_of(&out, text, size, false);
    buf_free(&out);
    static const char *const words[] = {"training", "learning_rate", "model"};
    (void)text_nearest(text, words, 3);
    free(text);
}

void fuzz_seeds(void) {
    fuzz_seed_text("Sure:\n```python\nx = 1\n```\nand\n```\ny = 2\n```");
    fuzz_seed_text("  ~~~ py x = 1\n~~~\n````\n```\n````");
    fuzz_seed_text("\xef\xbb\xbf<image>\nWhat is <image>this?\r\n");
    fuzz_seed_text("\x1b[31m\xc2\x9b \xe2\x80\xae \xf0\x9f\x98\x80 \xed\xa0\x80 \xc0\x80 \xff");
    fuzz_seed_text("lerning_rate");
}
