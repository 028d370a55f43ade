/* What a config.json says of its language model. */
#ifndef CADVLM_MODEL_FILES_PUBLISHED_LLM_H
#define CADVLM_MODEL_FILES_PUBLISHED_LLM_H

#include "config/config.h"
#include "model/files/json_keys.h"

/* Both activations by transformers' names. */
Err published_activation(Activation *out, const JsonKeys *keys, const char *name);
const char *published_activation_name(Activation activation);

/* Keys of transformers' base class for configs that change nothing here: types of files, what is
 * returned, token ids, settings of generation and of other tasks. Ended by NULL. */
extern const char *const published_harmless[];

/* ERR_UNSUPPORTED for keys of that class that do. */
Err published_refuse_base(const JsonKeys *keys);

/* ERR_UNSUPPORTED for a dropout that is not applied here. */
Err published_refuse_dropout(const JsonKeys *keys, const char *key);

Err published_read_llm(LlmConfig *llm, TemplateName *template, const JsonKeys *keys);

/* The text_config that published_read_llm reads back. */
Json *published_llm_json(const LlmConfig *llm);

#endif
