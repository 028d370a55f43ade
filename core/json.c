/* The one place that names Jansson. A Json is a json_t. */
#include "core/json.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "core/file.h"
#include "core/text.h"

static const json_t *in(const Json *value) {
    return (const json_t *)value;
}

static json_t *in_mutable(Json *value) {
    return (json_t *)value;
}

static Json *made(json_t *value) {
    CHECK(value, "out of memory: a JSON value");
    return (Json *)value;
}

/* The values of a document, before anything is made of them: the first, one after each comma, one
 * in each bracket that is not empty. */
static size_t count_values(const char *text, size_t size) {
    size_t count = 1;
    char before = 0;     /* the sign before, blanks left out */
    bool inside = false; /* a text, where no sign counts and a backslash hides the next */
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (inside && c == '\\') {
            i++;
        } else if (c == '"') {
            inside = !inside;
        } else if (!inside) {
            if (c == ' ' || c == '\t' || c == '\n' || c == '\r') continue;
            count += c == ',' || c == '[' || c == '{';
            count -= (c == ']' && before == '[') || (c == '}' && before == '{');
        }
        before = c;
    }
    return count;
}

static Err parse(Json **root, const char *text, size_t size, const char *name) {
    json_error_t error;
    const size_t flags = JSON_ALLOW_NUL | JSON_DECODE_ANY;
    *root = (Json *)json_loadb(text, size, flags, &error);
    /* transformers writes 10^30 for "no limit". */
    if (!*root && json_error_code(&error) == json_error_numeric_overflow)
        *root = (Json *)json_loadb(text, size, flags | JSON_DECODE_INT_AS_REAL, &error);
    REQUIRE(*root, ERR_INPUT, "%s is not valid JSON at line %d, column %d: %s", name, error.line,
            error.column, error.text);
    return OK;
}

Err js_parse_within(Json **root, const char *text, size_t size, size_t max_values,
                    const char *name) {
    *root = NULL;
    REQUIRE(!text_is_utf16(text, size), ERR_INPUT,
            "%s is UTF-16 text; JSON is read as UTF-8: save it as that", name);
    size_t mark = text_mark_size(text, size), count = count_values(text, size);
    REQUIRE(count <= max_values, ERR_INPUT,
            "%s: JSON of %zu values, where %zu are the most that such a document needs", name,
            count, max_values);
    return parse(root, text + mark, size - mark, name);
}

Err js_parse(Json **root, const char *text, size_t size, const char *name) {
    return js_parse_within(root, text, size, JSON_VALUES_MAX, name);
}

Err js_read(Json **root, const char *path, size_t max_bytes) {
    Buf text = {0};
    *root = NULL;
    Err err = file_read(&text, path, max_bytes);
    if (err == OK) err = js_parse(root, buf_cstr(&text), text.size, path);
    buf_free(&text);
    return err;
}

void js_free(Json **root) {
    if (*root) json_decref(in_mutable(*root));
    *root = NULL;
}

JsonType js_type(const Json *value) {
    if (!value) return JSON_KIND_NULL;
    switch (json_typeof(in(value))) {
    case JSON_OBJECT: return JSON_KIND_OBJECT;
    case JSON_ARRAY: return JSON_KIND_ARRAY;
    case JSON_STRING: return JSON_KIND_TEXT;
    case JSON_INTEGER:
    case JSON_REAL: return JSON_KIND_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE: return JSON_KIND_BOOL;
    case JSON_NULL: return JSON_KIND_NULL;
    }
    return JSON_KIND_NULL;
}

const Json *js_get(const Json *object, const char *key) {
    return (const Json *)json_object_get(in(object), key); /* NULL for NULL and for other types */
}

size_t js_count(const Json *value) {
    if (json_is_array(in(value))) return json_array_size(in(value));
    return json_object_size(in(value));
}

const Json *js_at(const Json *array, size_t index) {
    return (const Json *)json_array_get(in(array), index);
}

const Json *js_member(const Json *object, size_t index, const char **key) {
    JsonIter iter = js_iter(object);
    const Json *value = js_next(&iter, key);
    for (size_t i = 0; value && i < index; i++) value = js_next(&iter, key);
    return value;
}

JsonIter js_iter(const Json *object) {
    return (JsonIter){object, json_object_iter((json_t *)in(object))};
}

const Json *js_next(JsonIter *iter, const char **key) {
    if (!iter->at) return NULL;
    const Json *value = (const Json *)json_object_iter_value(iter->at);
    *key = json_object_iter_key(iter->at);
    iter->at = json_object_iter_next((json_t *)in(iter->object), iter->at);
    return value;
}

const char *js_text(const Json *value, size_t *size) {
    if (!json_is_string(in(value))) return NULL;
    if (size) *size = json_string_length(in(value));
    return json_string_value(in(value));
}

bool js_number(const Json *value, double *out) {
    if (!json_is_number(in(value))) return false;
    *out = json_number_value(in(value));
    return true;
}

bool js_integer(const Json *value, int64_t *out) {
    double real = json_real_value(in(value));
    bool whole = json_is_real(in(value)) && real == floor(real) && fabs(real) <= 1ll << 53;
    if (!json_is_integer(in(value)) && !whole) return false;
    *out = whole ? (int64_t)real : json_integer_value(in(value));
    return true;
}

bool js_bool(const Json *value, bool *out) {
    if (!json_is_boolean(in(value))) return false;
    *out = json_is_true(in(value));
    return true;
}

Err js_need(const Json **out, const Json *object, const char *key, JsonType type,
            const char *where) {
    static const char *const names[] = {"null",   "true or false", "a number",
                                        "a text", "an array",      "an object"};
    *out = js_get(object, key);
    REQUIRE(*out, ERR_INPUT, "%s: \"%s\" is missing", where, key);
    REQUIRE(js_type(*out) == type, ERR_INPUT, "%s: \"%s\" is %s where %s is expected", where, key,
            names[js_type(*out)], names[type]);
    return OK;
}

Err js_need_text(const char **out, const Json *object, const char *key, const char *where) {
    const Json *value;
    TRY(js_need(&value, object, key, JSON_KIND_TEXT, where));
    *out = js_text(value, NULL);
    return OK;
}

Err js_need_number(double *out, const Json *object, const char *key, const char *where) {
    const Json *value;
    TRY(js_need(&value, object, key, JSON_KIND_NUMBER, where));
    js_number(value, out);
    return OK;
}

Err js_need_integer(int64_t *out, const Json *object, const char *key, const char *where) {
    const Json *value;
    TRY(js_need(&value, object, key, JSON_KIND_NUMBER, where));
    REQUIRE(js_integer(value, out), ERR_INPUT, "%s: \"%s\" is not a whole number", where, key);
    return OK;
}

Json *js_new_object(void) {
    return made(json_object());
}

Json *js_new_array(void) {
    return made(json_array());
}

Json *js_new_text(const char *text) {
    json_t *value = json_string(text);
    if (!value) { /* not UTF-8: a file name, say */
        Buf repaired = {0};
        text_repair(&repaired, text);
        value = json_string(buf_cstr(&repaired));
        buf_free(&repaired);
    }
    return made(value);
}

Json *js_new_number(double number) {
    return made(isfinite(number) ? json_real(number) : json_null());
}

Json *js_new_integer(int64_t number) {
    return made(json_integer(number));
}

Json *js_new_bool(bool value) {
    return made(json_boolean(value));
}

Json *js_new_null(void) {
    return made(json_null());
}

void js_set(Json *object, const char *key, Json *value) {
    Buf repaired = {0};
    text_repair(&repaired, key);
    CHECK(json_object_set_new(in_mutable(object), buf_cstr(&repaired), in_mutable(value)) == 0,
          "cannot set %s", key);
    buf_free(&repaired);
}

void js_push(Json *array, Json *value) {
    CHECK(json_array_append_new(in_mutable(array), in_mutable(value)) == 0, "cannot append");
}

Json *js_copy(const Json *value) {
    return made(json_deep_copy(in(value)));
}

static int append_text(const char *text, size_t size, void *out) {
    buf_append(out, text, size);
    return 0;
}

/* Jansson writes C0 out, and leaves what a terminal may obey all the same (DEL, C1) or show in
 * another order. Such characters stand inside of texts only. */
static void write_out_hidden(Buf *out, size_t from) {
    Buf plain = {0};
    for (size_t at = from, length; at < out->size; at += length) {
        const char *text = out->data + at;
        bool hidden = text_kind(text, out->size - at, &length) != TEXT_PLAIN && *text != '\n';
        if (hidden)
            buf_format(&plain, "\\u%04x", (unsigned)utf8_code(text, length));
        else
            buf_append(&plain, text, length);
    }
    out->size = from;
    buf_append(out, plain.data, plain.size);
    buf_free(&plain);
}

/* The fewest digits of a real number, which has a point or an exponent, that read back the same. */
static void put_shortest(Buf *out, const char *text, size_t length) {
    char number[64];
    snprintf(number, sizeof number, "%.*s", (int)length, text);
    double value = strtod(number, NULL);
    for (int digits = 15; digits < 17; digits++) {
        char shorter[64];
        snprintf(shorter, sizeof shorter, "%.*g", digits, value);
        if (strtod(shorter, NULL) != value) continue;
        buf_format(out, "%s%s", shorter, strpbrk(shorter, ".e") ? "" : ".0");
        return;
    }
    buf_text(out, number);
}

static void shorten_numbers(Buf *out, size_t from) {
    Buf shorter = {0};
    bool in_text = false;
    (void)buf_cstr(out); /* ends it, for strspn */
    for (size_t at = from, length; at < out->size; at += length) {
        const char *text = out->data + at;
        length = in_text && *text == '\\' ? 2 : 1;
        if (*text == '"') in_text = !in_text;
        bool number = !in_text && (*text == '-' || (*text >= '0' && *text <= '9'));
        if (number) length = strspn(text, "+-.0123456789eE");
        if (number && strcspn(text, ".eE") < length)
            put_shortest(&shorter, text, length);
        else
            buf_append(&shorter, text, length);
    }
    out->size = from;
    buf_append(out, shorter.data, shorter.size);
    buf_free(&shorter);
}

void js_print(Buf *out, const Json *value, JsonLayout layout, int digits) {
    size_t from = out->size;
    size_t flags = JSON_ENCODE_ANY | (layout == JSON_INDENTED ? JSON_INDENT(2) : 0) |
                   JSON_REAL_PRECISION((size_t)(digits == JSON_SHORTEST ? 17 : digits));
    CHECK(json_dump_callback(in(value), append_text, out, flags) == 0,
          "a JSON value that cannot be printed");
    if (digits == JSON_SHORTEST) shorten_numbers(out, from);
    write_out_hidden(out, from);
}

Err js_write(const char *path, const Json *value) {
    Buf text = {0};
    js_print(&text, value, JSON_INDENTED, 17);
    buf_text(&text, "\n");
    Err err = file_write(path, text.data, text.size);
    buf_free(&text);
    return err;
}
