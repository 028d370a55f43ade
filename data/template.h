/* Conversation templates: the words around a drawing's question and its program.
 *
 * TinyLLaVA's templates llama, gemma and phi differ only in their end token; `plain` is that of
 * models trained from scratch here. How texts become rows is in data/sample_rows.h. */
#ifndef CADVLM_DATA_TEMPLATE_H
#define CADVLM_DATA_TEMPLATE_H

#include <stddef.h>

#include "core/buf.h"
#include "core/err.h"

typedef enum Template {
    TEMPLATE_PLAIN, /* [picture] <bos> prompt code <eos> */
    TEMPLATE_LLAMA, /* [<s>] SYSTEM USER: [picture] question ASSISTANT: answer </s> */
    TEMPLATE_GEMMA, /* the same with <bos> and <eos> */
    TEMPLATE_PHI,   /* the same without a start token and with <|endoftext|> */
    TEMPLATE_COUNT
} Template;

const char *template_name(Template template); /* "plain", "llama", "gemma", "phi" */
Err template_parse(Template *out, const char *name);
const char *template_end_token(Template template); /* what ends an answer; NULL for plain */

/* The system prompts of the OpenECADv2 models and of TinyLLaVA's own. */
extern const char template_system_openecad[];
extern const char template_system_tinyllava[];

/* The question of the OpenECADv2 dataset; it stands in for an empty one. */
extern const char template_question[];

/* What the OpenECAD datasets have around the program in an answer. */
extern const char template_answer_start[], template_answer_end[];

/* Appends the answer for a program: the program in those words, or as it is where it has a code
 * fence of its own ("```python"). */
void template_answer(Buf *out, const char *code, size_t size);

/* Where the program is in a generated answer: between "```python" and "```"; to the end where the
 * fence is not closed; all of it where there is none. */
void template_extract_code(const char *text, size_t size, const char **code, size_t *code_size);

/* Appends the question of a text: without the marks "<image>" and, when there is a picture or was a
 * mark, without white space around. Marks that come about by taking marks out stay: they are text.
 */
void template_question_of(Buf *out, const char *prompt, size_t size, bool picture);

#endif
