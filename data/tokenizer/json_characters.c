/* The fast forms of Llama's and Gemma's tokenizers: the parts of a tokenizer.json with byte
 * fallback. */
#include <string.h>

#include "data/tokenizer/model.h"
#include "data/tokenizer/sentencepiece.h"

/* ---- what stands for a space, and what goes in front ---- */

/* One step of the normalizer: Prepend U+2581, or Replace " " by it. */
static Err load_normalizer_step(Tokenizer *t, const char *name, const Json *step, bool *replaced) {
    const char *type;
    TRY(js_need_text(&type, step, "type", name));
    if (!strcmp(type, "Prepend")) {
        REQUIRE(json_is_text(js_get(step, "prepend"), SPACE_SIGN), ERR_INPUT,
                "%s: the normalizer Prepend puts something else in front than U+2581", name);
        t->prefix = PREFIX_SEGMENT;
        return OK;
    }
    REQUIRE(
        !strcmp(type, "Replace") && json_is_text(js_get(js_get(step, "pattern"), "String"), " ") &&
            json_is_text(js_get(step, "content"), SPACE_SIGN),
        ERR_INPUT,
        "%s: the normalizer %.40s is not understood (Prepend U+2581 and Replace \" \" by it are)",
        name, type);
    *replaced = true;
    return OK;
}

static Err load_normalizer(Tokenizer *t, const char *name, const Json *object, bool *replaced) {
    if (js_type(object) == JSON_KIND_NULL) return OK;
    const Json *list;
    if (!json_is_text(js_get(object, "type"), "Sequence"))
        return load_normalizer_step(t, name, object, replaced);
    TRY(js_need(&list, object, "normalizers", JSON_KIND_ARRAY, name));
    for (size_t i = 0; i < js_count(list); i++)
        TRY(load_normalizer_step(t, name, js_at(list, i), replaced));
    return OK;
}

static Err load_metaspace(Tokenizer *t, const char *name, const Json *object) {
    const char *scheme = js_text(js_get(object, "prepend_scheme"), NULL);
    if (!scheme) scheme = "always";
    if (!json_flag(object, "add_prefix_space", true)) scheme = "never";
    bool always = !strcmp(scheme, "always"), first = !strcmp(scheme, "first");
    REQUIRE(json_is_text(js_get(object, "replacement"), SPACE_SIGN) &&
                (always || first || !strcmp(scheme, "never")),
            ERR_INPUT,
            "%s: the pre-tokenizer Metaspace with prepend_scheme %.40s is not understood", name,
            scheme);
    if (always) t->prefix = PREFIX_WORD;
    if (first) t->prefix = PREFIX_FIRST;
    t->split_words = json_flag(object, "split", true);
    return OK;
}

static Err load_steps(Tokenizer *t, const char *name, const Json *root) {
    bool replaced = false;
    TRY(load_normalizer(t, name, js_get(root, "normalizer"), &replaced));
    const Json *object = js_get(root, "pre_tokenizer");
    if (json_is_text(js_get(object, "type"), "Metaspace")) {
        REQUIRE(t->prefix == PREFIX_NONE, ERR_INPUT,
                "%s: a normalizer Prepend and the pre-tokenizer Metaspace together are not "
                "understood",
                name);
        return load_metaspace(t, name, object);
    }
    REQUIRE(replaced, ERR_INPUT,
            "%s: neither a normalizer Replace nor the pre-tokenizer Metaspace says that a space "
            "is U+2581",
            name);
    /* Where no space is left, cutting at spaces does nothing (Gemma's newer files). */
    bool idle = json_is_text(js_get(object, "type"), "Split") &&
                json_is_text(js_get(js_get(object, "pattern"), "String"), " ");
    const char *type = js_text(js_get(object, "type"), NULL);
    REQUIRE(js_type(object) == JSON_KIND_NULL || idle, ERR_INPUT,
            "%s: the pre-tokenizer %.40s is not understood beside byte_fallback (Metaspace and "
            "null are)",
            name, type ? type : "?");
    return OK;
}

/* The decoder undoes the above; one that leaves a step out loses nothing that we would miss. */
static Err check_decoder(const char *name, const Json *decoder) {
    static const char *const known[] = {"Sequence", "Replace",   "ByteFallback",
                                        "Fuse",     "Metaspace", "Strip"};
    const Json *list = js_get(decoder, "decoders");
    size_t count = list ? js_count(list) : 1;
    for (size_t i = 0; i < count; i++) {
        const Json *step = list ? js_at(list, i) : decoder;
        const char *type = js_text(js_get(step, "type"), NULL);
        bool found = false;
        for (size_t k = 0; type && k < sizeof known / sizeof known[0]; k++)
            found |= !strcmp(type, known[k]);
        REQUIRE(found, ERR_INPUT,
                "%s: the decoder %.40s is not understood beside byte_fallback (Replace, "
                "ByteFallback, Fuse, Strip and Metaspace are)",
                name, type ? type : "null");
    }
    return OK;
}

Err characters_load_spaces(Tokenizer *t, const Json *root, const char *name) {
    TRY(check_decoder(name, js_get(root, "decoder")));
    for (int byte = 0; byte < 256; byte++) t->byte_ids[byte] = -1;
    return load_steps(t, name, root);
}

/* ---- tokens ---- */

Err characters_put(Tokenizer *t, const char *content, size_t size, int64_t id, Buf *scratch,
                   const char *name) {
    int byte = sentencepiece_byte(content, size);
    buf_clear(scratch);
    spaces_append(scratch, content, size);
    const Token *known = id >= 0 && id < t->vocab ? &t->tokens[id] : NULL;
    bool added = known && known->kind > TOKEN_PLAIN && known->size == size &&
                 !memcmp(t->bytes.data + known->at, content, size);
    if (added && known->kind != TOKEN_ADDED) return OK;
    if (!added && byte >= 0) {
        TRY(token_put(t, id, (Token){.kind = TOKEN_PLAIN}, &(char){(char)byte}, 1, name));
        t->byte_ids[byte] = (int32_t)id;
    } else if (!added) {
        TRY(token_put(t, id, (Token){.kind = TOKEN_PLAIN}, scratch->data, scratch->size, name));
    }
    /* A text has signs in place of its spaces, so it never matches a true one. */
    if (!memchr(content, ' ', size)) byte_map_put(&t->plain, scratch->data, scratch->size, id);
    return OK;
}

/* Gemma's fast form has the character for the byte 0x09. */
Err characters_find_bytes(Tokenizer *t, const char *name) {
    for (int byte = 0; byte < 256; byte++) {
        if (t->byte_ids[byte] >= 0) continue;
        const int64_t *id = byte < 128 ? byte_map_find(&t->plain, &(char){(char)byte}, 1) : NULL;
        REQUIRE(id, ERR_INPUT, "%s: the byte 0x%02x has no token", name, byte);
        t->byte_ids[byte] = (int32_t)*id;
    }
    return OK;
}

/* ---- merges ---- */

static bool is_special(const Tokenizer *t, const char *bytes, size_t size) {
    for (int pass = 0; pass < 2; pass++) {
        int32_t id = token_list_find(&t->added[pass], t, TOKEN_SPECIAL, bytes, size);
        if (id >= 0 && t->tokens[id].size == size) return true;
    }
    return false;
}

static Err merge_part(const Tokenizer *t, const char *bytes, size_t size, size_t rank, int32_t *id,
                      const char *name) {
    const int64_t *found = byte_map_find(&t->plain, bytes, size);
    *id = found ? (int32_t)*found : -1;
    REQUIRE(found || is_special(t, bytes, size), ERR_INPUT,
            "%s: merge %zu names the token \"%.*s\", which is not one of the vocabulary", name,
            rank, size < 40 ? (int)size : 40, bytes);
    return OK;
}

/* Special tokens are no text, so what would join to one is left out. */
Err characters_merge(Tokenizer *t, const char *left, size_t left_size, const char *right,
                     size_t right_size, size_t rank, Buf *scratch, const char *name) {
    Merge merge = {.rank = (uint32_t)rank};
    buf_clear(scratch);
    spaces_append(scratch, left, left_size);
    size_t cut = scratch->size;
    spaces_append(scratch, right, right_size);
    TRY(merge_part(t, scratch->data, cut, rank, &merge.left, name));
    TRY(merge_part(t, scratch->data + cut, scratch->size - cut, rank, &merge.right, name));
    TRY(merge_part(t, scratch->data, scratch->size, rank, &merge.result, name));
    if (merge.left >= 0 && merge.right >= 0 && merge.result >= 0)
        characters_join(t, merge, scratch->data, cut);
    return OK;
}
