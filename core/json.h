/* JSON, read and written through Jansson.
 *
 * Functions start with js_, since Jansson owns json_. A document is a tree of Json values. Who
 * parses or builds the root frees it; every other value is borrowed from its root. Reading is
 * forgiving with NULL: js_get(NULL, …) is NULL, so that a chain of look-ups is checked once. */
#ifndef CADVLM_CORE_JSON_H
#define CADVLM_CORE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

typedef struct Json Json;
typedef enum JsonType {
    JSON_KIND_NULL,
    JSON_KIND_BOOL,
    JSON_KIND_NUMBER,
    JSON_KIND_TEXT,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT
} JsonType;

/* A value takes 8 to 232 bytes of memory, whatever it takes as text: "[]," is 3 there and 136 here.
 * So a document may hold no more than so many, 240 MiB at the worst. */
enum { JSON_VALUES_MAX = 1 << 20 };

/* Parses `size` bytes; `name` (a file, say) opens the error sentence, which has line and column. A
 * byte order mark is passed over. Nesting is limited. */
Err js_parse(Json **root, const char *text, size_t size, const char *name);
Err js_read(Json **root, const char *path, size_t max_bytes);

/* js_parse for what needs more values, or may have fewer. */
Err js_parse_within(Json **root, const char *text, size_t size, size_t max_values,
                    const char *name);
void js_free(Json **root);

JsonType js_type(const Json *value);                     /* JSON_KIND_NULL for NULL too */
const Json *js_get(const Json *object, const char *key); /* NULL when absent or not an object */
size_t js_count(const Json *value);                      /* members or elements; 0 for the rest */
const Json *js_at(const Json *array, size_t index);
/* The index-th member of a small object. */
const Json *js_member(const Json *object, size_t index, const char **key);

/* Walks the members of an object in the order of the file: JsonIter i = js_iter(o); while ((v =
 * js_next(&i, &key))) … */
typedef struct JsonIter {
    const Json *object;
    void *at;
} JsonIter;

JsonIter js_iter(const Json *object);
const Json *js_next(JsonIter *iter, const char **key); /* NULL at the end */

/* NULL / false when the value is not of that type. Integers must fit int64_t, and may be written as
 * reals: 2.0. */
const char *js_text(const Json *value,
                    size_t *size); /* `size` may be NULL; text may hold zero bytes */
bool js_number(const Json *value, double *out);
bool js_integer(const Json *value, int64_t *out);
bool js_bool(const Json *value, bool *out);

/* A member that must be there with that type; else an ERR_INPUT sentence that names `where` and the
 * key. */
Err js_need(const Json **out, const Json *object, const char *key, JsonType type,
            const char *where);
Err js_need_text(const char **out, const Json *object, const char *key, const char *where);
Err js_need_number(double *out, const Json *object, const char *key, const char *where);
Err js_need_integer(int64_t *out, const Json *object, const char *key, const char *where);

/* Building. A value given to js_set or js_push belongs to the container from then on. Texts and
 * keys may hold anything: bytes that are not UTF-8 are written out (text_repair). */
Json *js_new_object(void);
Json *js_new_array(void);
Json *js_new_text(const char *text);
Json *js_new_number(double number); /* NaN and infinities become null */
Json *js_new_integer(int64_t number);
Json *js_new_bool(bool value);
Json *js_new_null(void);
void js_set(Json *object, const char *key, Json *value);
void js_push(Json *array, Json *value);
Json *js_copy(const Json *value); /* deep */

static inline void js_set_text(Json *object, const char *key, const char *text) {
    js_set(object, key, text ? js_new_text(text) : js_new_null());
}
static inline void js_set_number(Json *object, const char *key, double number) {
    js_set(object, key, js_new_number(number));
}
static inline void js_set_integer(Json *object, const char *key, int64_t number) {
    js_set(object, key, js_new_integer(number));
}
static inline void js_set_bool(Json *object, const char *key, bool value) {
    js_set(object, key, js_new_bool(value));
}

/* Appends the text of `value`: on one line, or indented by two. Numbers keep `digits` significant
 * digits (17: exact; JSON_SHORTEST: as few as still read back the same, 0.1 and not
 * 0.10000000000000001). No character of it is obeyed by a terminal: such are written as \u009b. */
enum { JSON_SHORTEST = 0 };
typedef enum JsonLayout { JSON_ONE_LINE, JSON_INDENTED } JsonLayout;
void js_print(Buf *out, const Json *value, JsonLayout layout, int digits);

/* file_write of the indented text, exact numbers, with a final newline. */
Err js_write(const char *path, const Json *value);

#endif
