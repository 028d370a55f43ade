/* How drawings and prompts are made ready for a model, beside the weights that a run gives away:
 * cadvlm.yaml, a config of these keys alone. transformers and PEFT pass it over. */
#ifndef CADVLM_CHECKPOINT_PREPROCESSOR_H
#define CADVLM_CHECKPOINT_PREPROCESSOR_H

#include "config/config.h"

#define PREPROCESSOR_FILE "cadvlm.yaml"

/* merged: what a config.json has no place for, the template, the system prompt and how pictures
 * fit; else also what it has: image_aspect_ratio, vision.drop_first_patch, training.max_length.
 * Appends.
 */
void preprocessor_print(Buf *out, const Config *config, bool merged);

/* What the file in a folder says and the user did not state goes into `config`; nothing where there
 * is none. */
Err preprocessor_read(Config *config, const char *folder);

/* ERR_INPUT, with the key and both values, where one differs; `name`: of the second's folder. */
Err preprocessor_check(const Config *expected, const Config *found, const char *name);

#endif
