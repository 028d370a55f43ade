/* The rows of the plain template and of conversations. */
#include "data/sample_rows.h"

#include <string.h>

Err sample_rows_check(const RowsOptions *o) {
    int bos = tokenizer_bos(o->tokenizer), eos = tokenizer_eos(o->tokenizer);
    bool plain = o->template == TEMPLATE_PLAIN;
    REQUIRE((bos >= 0 || !plain) && eos >= 0, ERR_CONFIG,
            "the tokenizer has no %s: the %s template needs it as a special token",
            eos >= 0 ? "<bos>" : "<eos>", template_name(o->template));
    const char *end = template_end_token(o->template);
    REQUIRE(plain || tokenizer_id(o->tokenizer, end) == eos, ERR_CONFIG,
            "the template %s ends answers with %s, which is not the end token of this tokenizer: "
            "choose another template",
            template_name(o->template), end);
    return OK;
}

/* ---- plain ---- */

static Err plain_prompt(SampleRows *rows, const Tokenizer *tokenizer, const char *prompt,
                        size_t prompt_size, bool picture) {
    if (picture) token_ids_push(&rows->ids, ROW_PICTURE);
    token_ids_push(&rows->ids, tokenizer_bos(tokenizer));
    TRY(tokenizer_encode(tokenizer, prompt, prompt_size, &rows->ids));
    rows->answer = rows->ids.count;
    return OK;
}

static Err plain(SampleRows *rows, const Tokenizer *tokenizer, const Sample *sample) {
    TRY(plain_prompt(rows, tokenizer, sample->prompt, sample->prompt_size, sample->image_size > 0));
    TRY(tokenizer_encode(tokenizer, sample->code, sample->code_size, &rows->ids));
    token_ids_push(&rows->ids, tokenizer_eos(tokenizer));
    return OK;
}

/* ---- conversations ---- */

/* With a picture two texts are encoded: up to "USER: ", and from the line end behind the picture.
 */
static Err start(SampleRows *rows, const RowsOptions *o, const char *prompt, size_t prompt_size,
                 bool picture) {
    const Tokenizer *t = o->tokenizer;
    const char *system = o->system_prompt ? o->system_prompt : template_system_openecad;
    if (tokenizer_adds_bos(t) && tokenizer_bos(t) >= 0)
        token_ids_push(&rows->ids, tokenizer_bos(t));
    buf_clear(&rows->text);
    buf_format(&rows->text, "%s USER: ", system);
    if (picture) {
        TRY(tokenizer_encode(t, rows->text.data, rows->text.size, &rows->ids));
        token_ids_push(&rows->ids, ROW_PICTURE);
        buf_clear(&rows->text);
        buf_text(&rows->text, "\n");
    }
    size_t before = rows->text.size;
    if (prompt_size)
        template_question_of(&rows->text, prompt, prompt_size, picture);
    else
        buf_text(&rows->text, template_question);
    if (picture && rows->text.size == before) buf_clear(&rows->text); /* nothing behind it */
    buf_text(&rows->text, " ASSISTANT:");
    return OK;
}

/* Tokens that both have at the front. */
static size_t shared(const TokenIds *a, const int32_t *b, size_t b_count) {
    size_t count = 0;
    while (count < a->count && count < b_count && a->ids[count] == b[count]) count++;
    return count;
}

/* The answer starts where the rows are no longer those that generation starts from. */
Err sample_rows_converse(SampleRows *rows, const RowsOptions *o, const char *prompt,
                         size_t prompt_size, bool picture, const char *answer, size_t answer_size) {
    rows->ids.count = rows->asked.count = 0;
    TRY(start(rows, o, prompt, prompt_size, picture));
    size_t first = rows->ids.count;
    TokenIds *asked = answer ? &rows->asked : &rows->ids;
    TRY(tokenizer_encode(o->tokenizer, rows->text.data, rows->text.size, asked));
    rows->answer = rows->ids.count;
    if (!answer) return OK;
    buf_text(&rows->text, " ");
    buf_append(&rows->text, answer, answer_size);
    TRY(tokenizer_encode(o->tokenizer, rows->text.data, rows->text.size, &rows->ids));
    rows->answer = first + shared(asked, rows->ids.ids + first, rows->ids.count - first);
    token_ids_push(&rows->ids, tokenizer_eos(o->tokenizer));
    return OK;
}

static Err conversation(SampleRows *rows, const RowsOptions *o, const Sample *sample) {
    Buf answer = {0};
    template_answer(&answer, sample->code, sample->code_size);
    Err err = sample_rows_converse(rows, o, sample->prompt, sample->prompt_size,
                                   sample->image_size > 0, buf_cstr(&answer), answer.size);
    buf_free(&answer);
    return err;
}

/* ---- both ---- */

Err sample_rows_make(SampleRows *rows, const RowsOptions *o, const Sample *sample) {
    rows->ids.count = 0;
    return o->template == TEMPLATE_PLAIN ? plain(rows, o->tokenizer, sample)
                                         : conversation(rows, o, sample);
}

Err sample_rows_prompt(SampleRows *rows, const RowsOptions *o, const char *prompt,
                       size_t prompt_size, bool picture) {
    rows->ids.count = 0;
    return o->template == TEMPLATE_PLAIN
               ? plain_prompt(rows, o->tokenizer, prompt, prompt_size, picture)
               : sample_rows_converse(rows, o, prompt, prompt_size, picture, NULL, 0);
}

void sample_rows_free(SampleRows *rows) {
    token_ids_free(&rows->ids);
    token_ids_free(&rows->asked);
    buf_free(&rows->text);
    *rows = (SampleRows){0};
}
