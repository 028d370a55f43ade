/* Conversation templates: rows and labels equal those of TinyLLaVA's, hostile text stays text, and
 * a program comes out of an answer as it went in. */
#include "core/json.h"
#include "data/sample_rows.h"
#include "tests/data/batches_fixture.h"

/* ---- fixtures ---- */

static Tokenizer *open_for(Template template) {
    static const char *const folders[TEMPLATE_COUNT] = {
        [TEMPLATE_LLAMA] = "llama", [TEMPLATE_GEMMA] = "gemma", [TEMPLATE_PHI] = "codegen"};
    char path[PATH_SIZE];
    Tokenizer *opened;
    snprintf(path, sizeof path, "%s/tests/golden/tokenizer/openecad/%s", test_source_folder(),
             folders[template]);
    ASSERT_OK(tokenizer_open(&opened, path));
    return opened;
}

static Json *read_golden(void) {
    char path[PATH_SIZE];
    Json *rows;
    snprintf(path, sizeof path, "%s/tests/golden/template.json", test_source_folder());
    ASSERT_OK(js_read(&rows, path, 1 << 24));
    return rows;
}

/* One conversation of the golden file. */
typedef struct Conversation {
    Template template;
    const char *system, *question, *answer;
    size_t question_size, answer_size;
    bool picture, differs;
} Conversation;

static Conversation conversation_of(const Json *row) {
    Conversation c = {.system = js_text(js_get(row, "system"), NULL)};
    ASSERT_OK(template_parse(&c.template, js_text(js_get(row, "template"), NULL)));
    c.question = js_text(js_get(row, "question"), &c.question_size);
    c.answer = js_text(js_get(row, "answer"), &c.answer_size);
    js_bool(js_get(row, "picture"), &c.picture);
    c.differs = js_get(row, "blank") || js_get(row, "pictures") || js_get(row, "special");
    return c;
}

static void converse(SampleRows *rows, const Tokenizer *with, const Conversation *c) {
    RowsOptions options = {with, c->template, c->system};
    ASSERT_OK(sample_rows_converse(rows, &options, c->question, c->question_size, c->picture,
                                   c->answer, c->answer_size));
}

static size_t count_id(const SampleRows *rows, int32_t id) {
    size_t count = 0;
    for (size_t i = 0; i < rows->ids.count; i++) count += rows->ids.ids[i] == id;
    return count;
}

/* The text of the learned rows, without the space behind "ASSISTANT:". */
static void answer_of(Buf *out, const Tokenizer *with, const SampleRows *rows) {
    Buf text = {0};
    ASSERT_OK(tokenizer_decode(with, rows->ids.ids + rows->answer, rows->ids.count - rows->answer,
                               &text));
    size_t space = text.size && text.data[0] == ' ' && tokenizer_id(with, "</s>") < 0;
    buf_clear(out);
    buf_append(out, buf_cstr(&text) + space, text.size - space);
    buf_free(&text);
}

/* ---- against the reference ---- */

static int32_t reference_id(const SampleRows *rows, size_t i) {
    return rows->ids.ids[i] == ROW_PICTURE ? -200 : rows->ids.ids[i];
}

static void compare_rows(const SampleRows *rows, const Json *row, size_t number) {
    const Json *expected = js_get(row, "ids");
    const char *hash = js_text(js_at(expected, 1), NULL);
    int64_t first = -1, count = (int64_t)js_count(expected);
    if (hash) js_integer(js_at(expected, 0), &count);
    ASSERT((int64_t)rows->ids.count == count, "row %zu: %zu ids instead of %lld", number,
           rows->ids.count, (long long)count);
    uint64_t value = 0xCBF29CE484222325u;
    for (size_t i = 0; i < rows->ids.count; i++) {
        int64_t id = -1;
        js_integer(js_at(expected, i), &id);
        ASSERT(hash || reference_id(rows, i) == id, "row %zu, id %zu: %d instead of %lld", number,
               i, reference_id(rows, i), (long long)id);
        for (int byte = 0; byte < 4; byte++)
            value = (value ^ ((uint32_t)reference_id(rows, i) >> 8 * byte & 0xFF)) * 0x100000001B3u;
    }
    char found[17];
    snprintf(found, sizeof found, "%016llx", (unsigned long long)value);
    if (hash) ASSERT_TEXT(found, hash);
    js_integer(js_get(row, "first"), &first);
    ASSERT((int64_t)rows->answer == first, "row %zu: labels from %zu on instead of %lld", number,
           rows->answer, (long long)first);
}

TEST(rows_and_labels_are_those_of_tinyllava) {
    Json *golden = read_golden();
    Tokenizer *with[TEMPLATE_COUNT] = {NULL};
    for (Template t = TEMPLATE_LLAMA; t <= TEMPLATE_PHI; t++) with[t] = open_for(t);
    SampleRows rows = {0};
    size_t compared = 0;
    for (size_t i = 0; i < js_count(golden); i++) {
        Conversation c = conversation_of(js_at(golden, i));
        if (c.differs) continue;
        converse(&rows, with[c.template], &c);
        compare_rows(&rows, js_at(golden, i), i);
        compared++;
    }
    printf("%zu of %zu conversations\n", compared, js_count(golden));
    ASSERT_INT(compared, >=, 120);
    sample_rows_free(&rows);
    for (Template t = TEMPLATE_LLAMA; t <= TEMPLATE_PHI; t++) tokenizer_close(&with[t]);
    js_free(&golden);
}

/* Where the reference learns nothing, sees a second picture or a forged token. */
TEST(text_that_looks_like_a_template_is_learned_as_text) {
    Json *golden = read_golden();
    Tokenizer *with[TEMPLATE_COUNT] = {NULL};
    for (Template t = TEMPLATE_LLAMA; t <= TEMPLATE_PHI; t++) with[t] = open_for(t);
    SampleRows rows = {0};
    Buf answer = {0};
    size_t differ = 0;
    for (size_t i = 0; i < js_count(golden); i++) {
        Conversation c = conversation_of(js_at(golden, i));
        if (!c.differs) continue;
        differ++;
        const Tokenizer *t = with[c.template];
        converse(&rows, t, &c);
        ASSERT_INT(count_id(&rows, ROW_PICTURE), ==, c.picture);
        ASSERT_INT(count_id(&rows, tokenizer_eos(t)), ==, 1);
        ASSERT_INT(rows.ids.ids[rows.ids.count - 1], ==, tokenizer_eos(t));
        if (c.template != TEMPLATE_PHI) ASSERT_INT(count_id(&rows, tokenizer_bos(t)), ==, 1);
        answer_of(&answer, t, &rows);
        ASSERT_TEXT(buf_cstr(&answer), c.answer);
    }
    printf("%zu conversations differ from the reference's\n", differ);
    ASSERT_INT(differ, ==, 29);
    buf_free(&answer);
    sample_rows_free(&rows);
    for (Template t = TEMPLATE_LLAMA; t <= TEMPLATE_PHI; t++) tokenizer_close(&with[t]);
    js_free(&golden);
}

/* ---- parts ---- */

TEST(generation_starts_with_the_rows_before_the_answer) {
    static const char question[] = "Draw the bracket.";
    for (Template template = TEMPLATE_LLAMA; template <= TEMPLATE_PHI; template ++) {
        Tokenizer *with = open_for(template);
        RowsOptions options = {with, template, NULL};
        SampleRows asked = {0}, rows = {0};
        Buf text = {0};
        for (int picture = 0; picture < 2; picture++) {
            Sample sample = {.image_size = (size_t)picture,
                             .prompt = question,
                             .prompt_size = strlen(question),
                             .code = "x = 1\n",
                             .code_size = 6};
            ASSERT_OK(sample_rows_make(&rows, &options, &sample));
            ASSERT_OK(
                sample_rows_prompt(&asked, &options, question, strlen(question), picture == 1));
            ASSERT_INT(asked.answer, ==, asked.ids.count);
            ASSERT_INT(rows.answer, ==, asked.ids.count);
            ASSERT_INT(memcmp(rows.ids.ids, asked.ids.ids, asked.ids.count * sizeof(int32_t)), ==,
                       0);
            size_t at = 0;
            while (picture && asked.ids.ids[at] != ROW_PICTURE) at++;
            buf_clear(&text);
            ASSERT_OK(tokenizer_decode(with, asked.ids.ids + at + picture,
                                       asked.ids.count - at - (size_t)picture, &text));
            if (picture)
                ASSERT_TEXT(buf_cstr(&text), "\nDraw the bracket. ASSISTANT:");
            else
                ASSERT_CONTAINS(buf_cstr(&text),
                                "respectively. USER: Draw the bracket. ASSISTANT:");
        }
        buf_free(&text);
        sample_rows_free(&asked);
        sample_rows_free(&rows);
        tokenizer_close(&with);
    }
}

TEST(empty_prompt_is_the_question_of_the_dataset) {
    Tokenizer *with = open_for(TEMPLATE_LLAMA);
    RowsOptions options = {with, TEMPLATE_LLAMA, template_system_tinyllava};
    SampleRows empty = {0}, asked = {0};
    ASSERT_OK(sample_rows_prompt(&empty, &options, "", 0, true));
    ASSERT_OK(
        sample_rows_prompt(&asked, &options, template_question, strlen(template_question), true));
    ASSERT_INT(empty.ids.count, ==, asked.ids.count);
    ASSERT_INT(memcmp(empty.ids.ids, asked.ids.ids, asked.ids.count * sizeof(int32_t)), ==, 0);
    options.system_prompt = NULL;
    ASSERT_OK(sample_rows_prompt(&empty, &options, "", 0, true));
    ASSERT_INT(empty.ids.count, >, asked.ids.count);
    sample_rows_free(&empty);
    sample_rows_free(&asked);
    tokenizer_close(&with);
}

TEST(programs_come_out_of_answers_as_they_went_in) {
    static const char *const programs[] = {
        "Loops0 = []\n", "x", "", "\n\nx = 1", "  a\n\tb\n", "\xe6\x97\xa5 = '\xf0\x9f\x91\x8d'\n",
        "` and `` stay"};
    for (Template template = TEMPLATE_LLAMA; template <= TEMPLATE_PHI; template ++) {
        Tokenizer *with = open_for(template);
        RowsOptions options = {with, template, NULL};
        SampleRows rows = {0};
        Buf text = {0};
        for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
            Sample sample = {
                .image_size = 1, .code = programs[i], .code_size = strlen(programs[i])};
            ASSERT_OK(sample_rows_make(&rows, &options, &sample));
            answer_of(&text, with, &rows);
            ASSERT_CONTAINS(buf_cstr(&text), "Of course, here are the codes:\n```python\n");
            const char *code;
            size_t size;
            template_extract_code(text.data, text.size, &code, &size);
            ASSERT_INT(size, ==, strlen(programs[i]));
            ASSERT_INT(memcmp(code, programs[i], size), ==, 0);
        }
        buf_free(&text);
        sample_rows_free(&rows);
        tokenizer_close(&with);
    }
}

TEST(answers_with_a_fence_are_left_alone) {
    static const char *const cases[][2] = {
        {"x", "Of course, here are the codes:\n```python\nx```"},
        {"Sure:\n```python\nx```\nDone.", "Sure:\n```python\nx```\nDone."},
        {"```\nx```", "Of course, here are the codes:\n```python\n```\nx``````"},
    };
    Buf answer = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        buf_clear(&answer);
        template_answer(&answer, cases[i][0], strlen(cases[i][0]));
        ASSERT_TEXT(buf_cstr(&answer), cases[i][1]);
    }
    buf_free(&answer);
}

TEST(code_is_what_stands_in_the_fence) {
    static const char *const cases[][2] = {
        {"Of course:\n```python\na\nb\n```", "a\nb\n"},
        {"```python\na```b```python\nc```", "a"},
        {"```pythona```", "a"},
        {"x ```python\na\nb", "a\nb"},
        {"```python", ""},
        {"```python\n", ""},
        {"```python``", "``"},
        {"```python```", ""},
        {"a = 1\n", "a = 1\n"},
        {"```\na\n```", "```\na\n```"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *code;
        size_t size;
        char found[64];
        template_extract_code(cases[i][0], strlen(cases[i][0]), &code, &size);
        snprintf(found, sizeof found, "%.*s", (int)size, code);
        ASSERT_TEXT(found, cases[i][1]);
    }
}

TEST(templates_have_names) {
    Template template;
    for (Template t = TEMPLATE_PLAIN; t < TEMPLATE_COUNT; t++) {
        ASSERT_OK(template_parse(&template, template_name(t)));
        ASSERT_INT(template, ==, t);
    }
    ASSERT_ERR(template_parse(&template, "lama"), ERR_CONFIG, "did you mean llama?");
    ASSERT_ERR(template_parse(&template, ""), ERR_CONFIG, "plain, llama, gemma and phi are");
}

TEST(tokenizers_that_do_not_go_with_a_template_are_named) {
    Tokenizer *gemma = open_for(TEMPLATE_GEMMA), *phi = open_for(TEMPLATE_PHI);
    ASSERT_OK(sample_rows_check(&(RowsOptions){gemma, TEMPLATE_GEMMA, NULL}));
    ASSERT_ERR(sample_rows_check(&(RowsOptions){gemma, TEMPLATE_LLAMA, NULL}), ERR_CONFIG,
               "the template llama ends answers with </s>");
    ASSERT_ERR(sample_rows_check(&(RowsOptions){phi, TEMPLATE_GEMMA, NULL}), ERR_CONFIG,
               "the template gemma ends answers with <eos>");
    tokenizer_close(&gemma);
    tokenizer_close(&phi);
}

/* ---- batches ---- */

TEST(batches_hold_conversations) {
    Dataset *dataset = make_dataset(&(Made){"set", 4, SIDE, 2, "qk"});
    BatchesOptions options = options_for(dataset);
    Tokenizer *with = open_for(TEMPLATE_LLAMA);
    options.tokenizer = with;
    options.template = TEMPLATE_LLAMA;
    options.system_prompt = template_system_tinyllava;
    options.max_length = 400;
    options.overlong = OVERLONG_TRUNCATE;
    Batch *b;
    Buf text = {0};
    ASSERT_OK(batch_build(&b, &options, dataset, (size_t[]){1, 0}, 2));
    ASSERT_INT(b->images, ==, 2);
    int pictures = 0, labels = 0;
    for (int row = 0; row < b->tokens; row++) pictures += b->ids[row] < 0;
    ASSERT_INT(pictures, ==, 2 * IMAGE_ROWS);
    /* Every label is the id of the next row, up to the end token. */
    for (; labels < b->labels && b->label_rows[labels] < b->starts[1]; labels++) {
        ASSERT_INT(b->label_rows[labels], ==, b->label_rows[0] + labels);
        ASSERT_INT(b->targets[labels], ==, b->ids[b->label_rows[labels] + 1]);
    }
    ASSERT_INT(b->targets[labels - 1], ==, tokenizer_eos(with));
    ASSERT_OK(tokenizer_decode(with, b->targets, (size_t)labels, &text));
    ASSERT_TEXT(buf_cstr(&text), "Of course, here are the codes:\n```python\nzy```");
    /* The second is too long: cut, without an end token. */
    ASSERT_INT(b->starts[2] - b->starts[1], ==, options.max_length);
    ASSERT_TRUE(b->ids[b->starts[2] - 1] != tokenizer_eos(with));
    batch_free(&b);
    options.max_length = 60;
    ASSERT_ERR(batch_build(&b, &options, dataset, (size_t[]){1}, 1), ERR_INPUT, "no room for code");
    buf_free(&text);
    tokenizer_close(&with);
    dataset_close(&dataset);
}

/* A tokenizer that joins across the end of the question: what is learned begins with the token that
 * generation has to write, and nothing before it is. */
static Err next_conversation(void *context, const char **text, size_t *size) {
    int *left = context;
    static const char talk[] = "USER: Draw it. ASSISTANT: Of course, here are the codes";
    *text = *left ? talk : NULL;
    *size = strlen(talk);
    *left -= *left > 0;
    return OK;
}

TEST(an_answer_begins_where_tokens_join_across_the_end_of_the_question) {
    int left = 9;
    TokenizerTraining training = {3 + 256 + 60, 0, next_conversation, &left};
    ASSERT_OK(tokenizer_train(&training, test_path("joining.json")));
    Tokenizer *with;
    ASSERT_OK(tokenizer_open(&with, test_path("joining.json")));
    RowsOptions options = {with, TEMPLATE_LLAMA, "Talk."};
    SampleRows asked = {0}, rows = {0};
    ASSERT_OK(sample_rows_prompt(&asked, &options, "Draw it.", 8, false));
    ASSERT_OK(
        sample_rows_converse(&rows, &options, "Draw it.", 8, false, "Of course, here are", 19));
    size_t same = 0;
    while (same < asked.ids.count && asked.ids.ids[same] == rows.ids.ids[same]) same++;
    printf("%zu of %zu rows of the question stay\n", same, asked.ids.count);
    ASSERT_INT(same, <, asked.ids.count); /* else nothing is joined */
    ASSERT_INT(rows.answer, ==, same);
    sample_rows_free(&asked);
    sample_rows_free(&rows);
    tokenizer_close(&with);
}
