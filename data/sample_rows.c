/* The plain template. */
#include "data/sample_rows.h"

Err sample_rows_plain_prompt(SampleRows *rows, const Tokenizer *tokenizer, const char *prompt,
                             size_t prompt_size, bool picture) {
    rows->ids.count = 0;
    if (picture) token_ids_push(&rows->ids, ROW_PICTURE);
    token_ids_push(&rows->ids, tokenizer_bos(tokenizer));
    TRY(tokenizer_encode(tokenizer, prompt, prompt_size, &rows->ids));
    rows->answer = rows->ids.count;
    return OK;
}

Err sample_rows_plain(SampleRows *rows, const Tokenizer *tokenizer, const Sample *sample) {
    TRY(sample_rows_plain_prompt(rows, tokenizer, sample->prompt, sample->prompt_size,
                                 sample->image_size > 0));
    TRY(tokenizer_encode(tokenizer, sample->code, sample->code_size, &rows->ids));
    token_ids_push(&rows->ids, tokenizer_eos(tokenizer));
    return OK;
}
