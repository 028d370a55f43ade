/* How a sample becomes the rows of the decoder: the one place that puts a template's parts in order
 * and says which of them are learned. Private to the data module.
 *
 * Texts are encoded as TinyLLaVA does, which its models were trained with: what stands before the
 * picture and what stands behind it are encoded by two calls, each as if it were a whole text. Ids
 * and labels are those of its templates bit for bit; where its arithmetic gives up and learns
 * nothing of a sample ("tokenization mismatch": an answer that holds an end token or " ASSISTANT:
 * "), the answer is learned here as any other. Nothing written in a prompt or a program becomes a
 * picture or a special token. */
#ifndef CADVLM_DATA_SAMPLE_ROWS_H
#define CADVLM_DATA_SAMPLE_ROWS_H

#include "data/shard.h"
#include "data/template.h"
#include "data/tokenizer/tokenizer.h"

enum { ROW_PICTURE = -1 }; /* in SampleRows.ids: all rows of the sample's picture stand here */

typedef struct SampleRows {
    TokenIds ids;  /* tokens, and at most one ROW_PICTURE */
    size_t answer; /* number in `ids` of the first token that is learned; all behind it are too */

    TokenIds asked; /* for work, kept from sample to sample */
    Buf text;
} SampleRows;

/* What is the same for all samples. */
typedef struct RowsOptions {
    const Tokenizer *tokenizer;
    Template template;
    const char *system_prompt; /* NULL: template_system_openecad; not of TEMPLATE_PLAIN */
} RowsOptions;

/* ERR_CONFIG for a tokenizer that does not go with the template. */
Err sample_rows_check(const RowsOptions *options);

/* The rows of a sample with its answer. Without a picture there is no ROW_PICTURE. */
Err sample_rows_make(SampleRows *rows, const RowsOptions *options, const Sample *sample);

/* The same up to where the answer starts. An empty prompt is template_question. */
Err sample_rows_prompt(SampleRows *rows, const RowsOptions *options, const char *prompt,
                       size_t prompt_size, bool picture);

/* A conversation with any answer; NULL: none, as sample_rows_prompt. */
Err sample_rows_converse(SampleRows *rows, const RowsOptions *options, const char *prompt,
                         size_t prompt_size, bool picture, const char *answer, size_t answer_size);

void sample_rows_free(SampleRows *rows);

#endif
