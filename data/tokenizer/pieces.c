/* The one place that names PCRE2. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/tokenizer/pieces.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer/byte_level.h"

/* Patterns come from files that may be hostile: a bound on their size, on the steps of a match at
 * one place (a sane pattern takes some ten, or one for each byte of a run of spaces) and on its
 * memory. */
enum { PATTERN_MAX = 16 << 10, MATCH_STEPS_MAX = 1000000, MATCH_KIB_MAX = 64 << 10 };

/* Without \C, which matches a single byte and would leave half a character behind. */
enum { PATTERN_OPTIONS = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C };

/* \s is written out: its classes differ between engines. */
#define SPACES                                                                                     \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
const char pieces_gpt2_pattern[] = "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^" SPACES
                                   "\\p{L}\\p{N}]+|[" SPACES "]+(?![^" SPACES "])|[" SPACES "]+";
const char pieces_cad_pattern[] =
    "(?<![A-Za-z0-9_.])-?(?!0(?![0-9]))[0-9]+(?![A-Za-z0-9_])|\\.[0-9]+";

struct Splitter {
    pcre2_code *code; /* NULL: `text` is searched for */
    pcre2_match_context *limits;
    char *text;
    size_t text_size;
    char where[64];
};

static Splitter *splitter_new(const char *where) {
    Splitter *splitter = calloc(1, sizeof *splitter);
    CHECK(splitter, "out of memory: a splitter");
    snprintf(splitter->where, sizeof splitter->where, "%s", where);
    return splitter;
}

Err splitter_regex(Splitter **out, const char *pattern, size_t size, const char *where) {
    *out = NULL;
    REQUIRE(size <= PATTERN_MAX, ERR_INPUT, "%s: a pattern of %zu bytes; at most %d are possible",
            where, size, PATTERN_MAX);
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)pattern, size, PATTERN_OPTIONS, &code, &at, NULL);
    if (!compiled) {
        char reason[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        FAIL(ERR_INPUT, "%s: the pattern \"%.80s\" is not understood at place %zu: %s", where,
             pattern, (size_t)at, reason);
    }
    pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE); /* without it, matching is only slower */
    Splitter *splitter = splitter_new(where);
    splitter->code = compiled;
    splitter->limits = pcre2_match_context_create(NULL);
    CHECK(splitter->limits, "out of memory: a match context");
    pcre2_set_match_limit(splitter->limits, MATCH_STEPS_MAX);
    pcre2_set_heap_limit(splitter->limits, MATCH_KIB_MAX);
    *out = splitter;
    return OK;
}

Err splitter_text(Splitter **out, const char *text, size_t size, const char *where) {
    *out = NULL;
    REQUIRE(size >= 1 && size <= PATTERN_MAX, ERR_INPUT,
            "%s: a text of %zu bytes to split at; 1 to %d are possible", where, size, PATTERN_MAX);
    Splitter *splitter = splitter_new(where);
    splitter->text = malloc(size);
    CHECK(splitter->text, "out of memory: %zu bytes", size);
    memcpy(splitter->text, text, size);
    splitter->text_size = size;
    *out = splitter;
    return OK;
}

void splitter_free(Splitter **splitter) {
    if (!*splitter) return;
    pcre2_code_free((*splitter)->code);
    pcre2_match_context_free((*splitter)->limits);
    free((*splitter)->text);
    free(*splitter);
    *splitter = NULL;
}

/* ---- cutting ---- */

/* One cutting of one text: a place to match in for each splitter. */
typedef struct Cutting {
    Splitter *const *splitters;
    int count;
    pcre2_match_data *matches[SPLITTERS_MAX];
    PieceTaker taker;
    void *context;
} Cutting;

/* The first match at or behind `from`; *found is false when there is none. */
static Err find(const Splitter *splitter, pcre2_match_data *matches, const char *text, size_t size,
                size_t from, bool *found, size_t *start, size_t *end) {
    if (!splitter->code) {
        const char *at = memmem(text + from, size - from, splitter->text, splitter->text_size);
        *found = at;
        *start = at ? (size_t)(at - text) : size;
        *end = *start + splitter->text_size;
        return OK;
    }
    int count = pcre2_match(splitter->code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK,
                            matches, splitter->limits);
    if (count == PCRE2_ERROR_JIT_STACKLIMIT) /* the slower matcher keeps its place on the heap */
        count = pcre2_match(splitter->code, (PCRE2_SPTR)text, size, from,
                            PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, matches, splitter->limits);
    *found = count != PCRE2_ERROR_NOMATCH;
    if (!*found) return OK;
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(matches);
    *start = ends[0];
    *end = ends[1];
    REQUIRE(count >= 0 && *start >= from && *end >= *start && *end <= size, ERR_INPUT,
            "%s: the pattern cannot be matched at byte %zu of a text (code %d)", splitter->where,
            from, count);
    return OK;
}

static Err cut(const Cutting *cutting, int step, const char *text, size_t size);

static Err give(const Cutting *cutting, int step, const char *text, size_t size) {
    return size ? cut(cutting, step + 1, text, size) : OK;
}

static Err cut(const Cutting *cutting, int step, const char *text, size_t size) {
    if (step == cutting->count) return cutting->taker(cutting->context, text, size);
    size_t done = 0, from = 0, start, end;
    bool found = true;
    while (from <= size) {
        TRY(find(cutting->splitters[step], cutting->matches[step], text, size, from, &found, &start,
                 &end));
        if (!found) break;
        TRY(give(cutting, step, text + done, start - done));
        TRY(give(cutting, step, text + start, end - start));
        done = from = end;
        /* An empty match only cuts; the search goes on behind the next character. */
        if (start == end) from += end < size ? utf8_length(text + end, size - end) : 1;
    }
    return give(cutting, step, text + done, size - done);
}

/* The length of the run of UTF-8, or of other bytes, at the front of `text`. */
static size_t run_length(const char *text, size_t size, bool *utf8) {
    size_t length = 0;
    *utf8 = utf8_length(text, size) != 0;
    while (length < size) {
        size_t n = (signed char)text[length] >= 0 ? 1 : utf8_length(text + length, size - length);
        if ((n != 0) != *utf8) break;
        length += n ? n : 1;
    }
    return length;
}

Err pieces_each(Splitter *const *splitters, int count, const char *text, size_t size,
                PieceTaker taker, void *context) {
    CHECK(count <= SPLITTERS_MAX, "%d splitters", count);
    Cutting cutting = {.splitters = splitters, .count = count, .taker = taker, .context = context};
    for (int i = 0; i < count; i++) {
        if (!splitters[i]->code) continue;
        cutting.matches[i] = pcre2_match_data_create(1, NULL);
        CHECK(cutting.matches[i], "out of memory: a match");
    }
    Err err = OK;
    for (size_t at = 0; at < size && err == OK;) {
        bool utf8;
        size_t length = run_length(text + at, size - at, &utf8);
        err = utf8 ? cut(&cutting, 0, text + at, length) : taker(context, text + at, length);
        at += length;
    }
    for (int i = 0; i < count; i++) pcre2_match_data_free(cutting.matches[i]);
    return err;
}
