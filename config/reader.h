/* Reads a document into a config, and counts what is wrong with it. Inside of config/. */
#ifndef CADVLM_CONFIG_READER_H
#define CADVLM_CONFIG_READER_H

#include <yaml.h>

#include "config/keys.h"

enum {
    KEYS_MAX = sizeof((Config *)0)->stated / sizeof(int),
    PATH_MAX_LENGTH = 256, /* of "section.key" */
    MISTAKES_MAX = 50      /* then the rest is not read: it is no config, or made to take time */
};

/* Where a key was given, and by which of its names. */
typedef struct Given {
    size_t line; /* 0: not in the file */
    char path[64];
} Given;

typedef struct Reader {
    Config *config;
    const char *name; /* of the file, in messages */
    int mistakes;
    yaml_document_t *document;
    Given given[KEYS_MAX];
    Given refusal; /* fp16: false, bf16: false */
} Reader;

void reader_read_document(Reader *reader, const char *text, size_t size);

/* Sets a key from its text, or from items: of a list, or name, value, name, value, … of a mapping.
 * `line` 0: of the command line, which goes over what was said before. */
void reader_set_key(Reader *reader, const char *path, const char *const *items, int count,
                    bool is_list, size_t line);

/* Takes the thread's current error as one more mistake. */
void reader_mistake(Reader *reader, size_t line);
bool reader_has_enough(const Reader *reader);

#define MISTAKE(reader, line, ...)                                                                 \
    do {                                                                                           \
        IGNORE(err_raise(ERR_CONFIG, __FILE__, __LINE__, __VA_ARGS__));                            \
        reader_mistake(reader, line);                                                              \
    } while (0)

#endif
