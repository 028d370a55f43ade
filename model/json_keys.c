/* Keys of a config.json; see the header. */
#include "model/json_keys.h"

#include <string.h>

static const Json *value_of(const JsonKeys *keys, const char *key) {
    const Json *value = js_get(keys->object, key);
    return js_type(value) == JSON_KIND_NULL ? NULL : value;
}

Err keys_need_object(const JsonKeys *keys) {
    REQUIRE(js_type(keys->object) == JSON_KIND_OBJECT, ERR_INPUT, "%s is no JSON object",
            keys->where);
    return OK;
}

bool keys_have(const JsonKeys *keys, const char *key) {
    return value_of(keys, key) != NULL;
}

Err keys_integer(int64_t *out, const JsonKeys *keys, const char *key, int64_t otherwise,
                 int64_t low, int64_t high) {
    const Json *value = value_of(keys, key);
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
    const Json *value = value_of(keys, key);
    *out = otherwise;
    REQUIRE(!value || js_number(value, out), ERR_INPUT, "%s: \"%s\" is not a number", keys->where,
            key);
    REQUIRE(!value || (*out >= low && *out <= high), ERR_INPUT,
            "%s: \"%s\" is %g; %g to %g is possible", keys->where, key, *out, low, high);
    return OK;
}

Err keys_bool(bool *out, const JsonKeys *keys, const char *key, bool otherwise) {
    const Json *value = value_of(keys, key);
    *out = otherwise;
    REQUIRE(!value || js_bool(value, out), ERR_INPUT, "%s: \"%s\" is neither true nor false",
            keys->where, key);
    return OK;
}

Err keys_text(const char **out, const JsonKeys *keys, const char *key, const char *otherwise) {
    const Json *value = value_of(keys, key);
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

Err keys_refuse(const JsonKeys *keys, const char *key, const char *why) {
    const Json *value = value_of(keys, key);
    bool flag;
    double number;
    const char *text = js_text(value, NULL);
    if (!value || (js_bool(value, &flag) && !flag) || (js_number(value, &number) && number == 0))
        return OK;
    if (text && (!text[0] || !strcmp(text, "none"))) return OK;
    FAIL(ERR_UNSUPPORTED, "%s: \"%s\" asks for %s, which is not supported", keys->where, key, why);
}
