/* Keys of a config.json, each with what it is when absent (or null) and what it may be: files are
 * hostile, and no number of one is used unchecked. */
#ifndef CADVLM_MODEL_JSON_KEYS_H
#define CADVLM_MODEL_JSON_KEYS_H

#include "core/json.h"

typedef struct JsonKeys {
    const Json *object; /* NULL: all is absent */
    const char *where;  /* "folder/config.json: text_config" */
} JsonKeys;

Err keys_need_object(const JsonKeys *keys);

bool keys_have(const JsonKeys *keys, const char *key); /* there, and not null */

Err keys_integer(int64_t *out, const JsonKeys *keys, const char *key, int64_t otherwise,
                 int64_t low, int64_t high);
Err keys_number(double *out, const JsonKeys *keys, const char *key, double otherwise, double low,
                double high);
Err keys_bool(bool *out, const JsonKeys *keys, const char *key, bool otherwise);

/* Text that is borrowed from the object. */
Err keys_text(const char **out, const JsonKeys *keys, const char *key, const char *otherwise);

/* Copied text; too long for `size` is an error. */
Err keys_copy(char *out, size_t size, const JsonKeys *keys, const char *key, const char *otherwise);

/* ERR_UNSUPPORTED where the key is there and is not null, false, 0, "" or "none". `why`: what the
 * key asks for. */
Err keys_refuse(const JsonKeys *keys, const char *key, const char *why);

#endif
