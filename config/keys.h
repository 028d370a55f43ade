/* The table of keys: what each is called, where it lives in Config, and what is allowed. */
#ifndef CADVLM_CONFIG_KEYS_H
#define CADVLM_CONFIG_KEYS_H

#include "config/config.h"

typedef enum KeyType {
    KEY_TEXT,
    KEY_LINES, /* text that may have several lines */
    KEY_NAMES, /* text, or a list, which becomes text with commas between */
    KEY_INT,
    KEY_REAL,
    KEY_BOOL,
    KEY_CHOICE,
    KEY_INTS,
    KEY_REALS,
    KEY_RANKS,   /* { name: whole number } */
    KEY_PATTERNS /* { name: number } */
} KeyType;

/* What may become of a key when a run goes on from its checkpoint (config/resume.h). */
typedef enum OnResume {
    RESUME_FREELY,   /* it decides nothing of the run's numbers */
    RESUME_SAID,     /* later steps follow the new value */
    RESUME_ADAPTERS, /* it stays where adapters are trained, and means nothing elsewhere */
    RESUME_MODEL,    /* it stays: it is what the weights are weights of */
    RESUME_TRAINER   /* whether it stays is no matter of the value alone (trainer/resume.h) */
} OnResume;

typedef struct Key {
    const char *path; /* "training.learning_rate" */
    KeyType type;
    size_t offset;              /* in Config (or DatasetConfig) */
    size_t size;                /* KEY_TEXT, KEY_NAMES: of the array */
    double low, high;           /* numbers: both ends allowed */
    const char *const *choices; /* KEY_CHOICE: names in the order of the enum, NULL-ended */
    const char *help;
    OnResume on_resume;
} Key;

extern const Key config_keys[];
extern const int config_key_count;
extern const Key dataset_keys[]; /* of one entry of `datasets` */
extern const int dataset_key_count;

/* Other names users have for keys: top-level short forms and TinyLLaVA's. NULL-ended pairs. */
extern const char *const key_aliases[][2];

/* The key of a path, or of one of its other names; NULL. */
const Key *key_find(const char *path);
int key_number(const Key *key);
bool key_is_mapping(const Key *key); /* its value is { name: number } */

/* true, yes, on or false, no, off, in any case; false where it is none of them. */
bool key_parse_bool(const char *text, bool *out);

/* Sets the key's field in `base` from text (a YAML scalar) or, for lists, from items. ERR_CONFIG
 * says what is expected. */
Err key_set(const Key *key, void *base, const char *const *items, int count, bool is_list);

/* The field of `from` into `to`; texts and numbers alike. */
void key_copy(const Key *key, void *to, const void *from);

/* Appends the field's value as YAML. */
void key_print(Buf *out, const Key *key, const void *base);

#endif
