/* Keys of a config.json, each with what it is when absent (or null) and what it may be: files are
 * hostile, and no number of one is used unchecked. */
#ifndef CADVLM_MODEL_FILES_JSON_KEYS_H
#define CADVLM_MODEL_FILES_JSON_KEYS_H

#include "core/json.h"

/* The keys that were asked for, or are known to change nothing. */
enum { KEYS_ASKED_MAX = 192 };
typedef struct KeysAsked {
    const char *keys[KEYS_ASKED_MAX];
    int count;
} KeysAsked;

typedef struct JsonKeys {
    const Json *object; /* NULL: all is absent */
    const char *where;  /* "folder/config.json: text_config" */
    KeysAsked *asked;   /* notes what is asked for; NULL: it need not be known */
} JsonKeys;

Err keys_need_object(const JsonKeys *keys);

/* The value itself; NULL where it is absent or null. */
const Json *keys_value(const JsonKeys *keys, const char *key);

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

/* ERR_UNSUPPORTED where the key is there and is not null, false, 0, "", "none", {} or []. `why`:
 * what the key asks for. */
Err keys_refuse(const JsonKeys *keys, const char *key, const char *why);

/* The keys of a list (ended by NULL) change nothing that is computed here. */
void keys_pass_over(const JsonKeys *keys, const char *const *harmless);

/* ERR_UNSUPPORTED where the object has a key, and not as null, that was neither asked for nor is
 * known to be harmless: it may change what is computed, and is not to be ignored. */
Err keys_refuse_others(const JsonKeys *keys);

#endif
