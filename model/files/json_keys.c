/* Keys of a config.json; see the header. */
#include "model/files/json_keys.h"

#include <string.h>

#include "core/buf.h"

static void note(KeysAsked *asked, const char *key) {
    if (!asked) return;
    CHECK(asked->count < KEYS_ASKED_MAX, "more than %d keys are asked for", KEYS_ASKED_MAX);
    asked->keys[asked->count++] = key;
}

const Json *keys_value(const JsonKeys *keys, const char *key) {
    const Json *value = js_get(keys->object, key);
    note(keys->asked, key);
    return js_type(value) == JSON_KIND_NULL ? NULL : value;
}

Err keys_need_object(const JsonKeys *keys) {
    REQUIRE(js_type(keys->object) == JSON_KIND_OBJECT, ERR_INPUT, "%s is no JSON object",
            keys->where);
    return OK;
}

bool keys_have(const JsonKeys *keys, const char *key) {
    return keys_value(keys, key) != NULL;
}

Err keys_integer(int64_t *out, const JsonKeys *keys, const char *key, int64_t otherwise,
                 int64_t low, int64_t high) {
    const Json *value = keys_value(keys, key);
    *out = otherwise;
    REQUIRE(!value || js_integer(value, out), ERR_INPUT, "%s: \"%s\" is not a whole number",
            keys->where, key);
    REQUIRE(!value || (*out >= low && *out <= high), ERR_INPUT,
            "%s: \"%s\" is %lld; %lld to %lld is possible", keys->where, key, (long long)*out,
            (long long)low, (long long)high);
    return OK;
}

Err keys_number(double *out, const JsonKeys *keys, const char *key, double otherwise, double low,
                double high) {
    const Json *value = keys_value(keys, key);
    *out = otherwise;
    REQUIRE(!value || js_number(value, out), ERR_INPUT, "%s: \"%s\" is not a number", keys->where,
            key);
    REQUIRE(!value || (*out >= low && *out <= high), ERR_INPUT,
            "%s: \"%s\" is %g; %g to %g is possible", keys->where, key, *out, low, high);
    return OK;
}

Err keys_bool(bool *out, const JsonKeys *keys, const char *key, bool otherwise) {
    const Json *value = keys_value(keys, key);
    *out = otherwise;
    REQUIRE(!value || js_bool(value, out), ERR_INPUT, "%s: \"%s\" is neither true nor false",
            keys->where, key);
    return OK;
}

Err keys_text(const char **out, const JsonKeys *keys, const char *key, const char *otherwise) {
    const Json *value = keys_value(keys, key);
    *out = value ? js_text(value, NULL) : otherwise;
    REQUIRE(!value || *out, ERR_INPUT, "%s: \"%s\" is no text", keys->where, key);
    return OK;
}

Err keys_copy(char *out, size_t size, const JsonKeys *keys, const char *key,
              const char *otherwise) {
    const char *text;
    TRY(keys_text(&text, keys, key, otherwise));
    REQUIRE(strlen(text) < size, ERR_INPUT, "%s: \"%s\" is longer than %zu characters", keys->where,
            key, size - 1);
    memset(out, 0, size);
    memcpy(out, text, strlen(text));
    return OK;
}

static bool is_off(const Json *value) {
    bool flag;
    double number;
    const char *text = js_text(value, NULL);
    JsonType kind = js_type(value);
    if (text) return !text[0] || !strcmp(text, "none");
    if (kind == JSON_KIND_OBJECT || kind == JSON_KIND_ARRAY) return js_count(value) == 0;
    return (js_bool(value, &flag) && !flag) || (js_number(value, &number) && number == 0);
}

Err keys_refuse(const JsonKeys *keys, const char *key, const char *why) {
    const Json *value = keys_value(keys, key);
    REQUIRE(!value || is_off(value), ERR_UNSUPPORTED,
            "%s: \"%s\" asks for %s, which is not supported", keys->where, key, why);
    return OK;
}

/* ---- the others ---- */

void keys_pass_over(const JsonKeys *keys, const char *const *harmless) {
    for (; *harmless; harmless++) note(keys->asked, *harmless);
}

static bool is_known(const KeysAsked *asked, const char *key) {
    for (int i = 0; i < asked->count; i++)
        if (!strcmp(asked->keys[i], key)) return true;
    return false;
}

Err keys_refuse_others(const JsonKeys *keys) {
    enum { SHOWN = 5 };
    Buf others = {0};
    int count = 0;
    const char *key;
    JsonIter members = js_iter(keys->object);
    for (const Json *value; count <= SHOWN && (value = js_next(&members, &key));) {
        if (js_type(value) == JSON_KIND_NULL || is_known(keys->asked, key)) continue;
        if (count++ < SHOWN) buf_format(&others, "%s\"%.60s\"", count > 1 ? ", " : "", key);
    }
    Err err = OK;
    if (count)
        err = err_raise(ERR_UNSUPPORTED, __FILE__, __LINE__,
                        "%s: %s%s not understood and may change what is computed: take out of the "
                        "file what does not matter",
                        keys->where, buf_cstr(&others),
                        count > SHOWN ? " and others are"
                        : count > 1   ? " are"
                                      : " is");
    buf_free(&others);
    return err;
}
