/* How a sample becomes the rows of the decoder: the one place that knows the template.
 *
 * "Plain", of models trained from scratch: [picture] <bos> prompt code <eos>. Conversation
 * templates will stand beside it. Private to the data room. */
#ifndef CADVLM_DATA_SAMPLE_ROWS_H
#define CADVLM_DATA_SAMPLE_ROWS_H

#include "data/shard.h"
#include "data/tokenizer.h"

enum { ROW_PICTURE = -1 }; /* in SampleRows.ids: all rows of the sample's picture stand here */

typedef struct SampleRows {
    TokenIds ids;  /* tokens, and at most one ROW_PICTURE */
    size_t answer; /* number in `ids` of the first token that is learned; all behind it are too */
} SampleRows;

/* The rows of a sample with its answer. Without a picture there is no ROW_PICTURE. */
Err sample_rows_plain(SampleRows *rows, const Tokenizer *tokenizer, const Sample *sample);

/* The same up to where the answer starts. */
Err sample_rows_plain_prompt(SampleRows *rows, const Tokenizer *tokenizer, const char *prompt,
                             size_t prompt_size, bool picture);

#endif
