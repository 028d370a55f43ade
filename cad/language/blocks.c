/* A text's pieces between markdown fences. */
#include "cad/language/blocks.h"

#include <string.h>

#include "core/text.h"

/* A place in the text, and what was passed on the way to it. */
typedef struct Reader {
    const char *next, *end;
    Place place;
} Reader;

static bool is_line_end(char c) {
    return c == '\n' || c == '\r';
}

static bool is_space(char c) {
    return c == ' ' || c == '\t';
}

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Steps to `to`, over line ends of any kind. */
static void advance(Reader *reader, const char *to) {
    for (; reader->next < to; reader->next++) {
        bool pair =
            *reader->next == '\r' && reader->next + 1 < reader->end && reader->next[1] == '\n';
        if (is_line_end(*reader->next) && !pair)
            reader->place = (Place){reader->place.line + 1, 1};
        else
            reader->place.column++;
    }
}

/* The first place of ``` in [text, end), or `end`. */
static const char *find_fence(const char *text, const char *end) {
    const char *found = memmem(text, (size_t)(end - text), "```", 3);
    return found ? found : end;
}

static bool is_blank(const char *text, const char *end) {
    while (text < end && (is_space(*text) || is_line_end(*text))) text++;
    return text == end;
}

static const char *skip_spaces(const char *c, const char *end) {
    while (c < end && is_space(*c)) c++;
    return c;
}

static const char *skip_name(const char *c, const char *end) {
    while (c < end && is_name(*c)) c++;
    return c;
}

/* The '=' of "a =" or "a, b =" in [c, end), or NULL. */
static const char *find_assignment(const char *c, const char *end) {
    for (;; c++) {
        c = skip_spaces(skip_name(skip_spaces(c, end), end), end);
        if (c == end || *c != ',') return c < end && *c == '=' ? c : NULL;
    }
}

/* Whether a line of code begins at `c`: "name = …" (but not name="…", which is markdown's),
 * "name(…", "name.…" or an import. */
static bool is_statement(const char *c, const char *end) {
    const char *after = skip_name(c, end), *equals = find_assignment(c, end);
    if (after == c || after == end) return false;
    if (*after == '(' || *after == '.') return true;
    if (after - c == 6 && memcmp(c, "import", 6) == 0) return true;
    if (!equals) return false;
    const char *value = skip_spaces(equals + 1, end);
    return value == end || (*value != '"' && *value != '\'');
}

/* Steps over what follows the signs of a fence: a language and more, up to the line's end; or,
 * where the code begins on the fence's own line, the language alone. */
static void skip_language(Reader *reader) {
    const char *line_end = reader->next;
    while (line_end < reader->end && !is_line_end(*line_end)) line_end++;
    const char *word = skip_spaces(reader->next, line_end), *rest = word;
    while (rest < line_end && !is_space(*rest)) rest++;
    rest = skip_spaces(rest, line_end);
    if (is_statement(word, line_end)) {
        advance(reader, word);
    } else if (is_statement(rest, line_end)) {
        advance(reader, rest);
    } else {
        bool pair = reader->end - line_end >= 2 && line_end[0] == '\r' && line_end[1] == '\n';
        advance(reader, line_end + (line_end < reader->end) + pair);
    }
}

static void skip_fence(Reader *reader) {
    const char *c = reader->next;
    while (c < reader->end && *c == '`') c++;
    advance(reader, c);
    skip_language(reader);
}

int code_blocks(CodeBlock blocks[CODE_BLOCKS_MAX], const char *text, size_t size) {
    Reader reader = {text + text_mark_size(text, size), text + size, {1, 1}};
    int count = 0, fences = 0;
    while (reader.next < reader.end) {
        bool last = count == CODE_BLOCKS_MAX - 1;
        const char *fence = last ? reader.end : find_fence(reader.next, reader.end);
        if (!is_blank(reader.next, fence))
            blocks[count++] = (CodeBlock){reader.next, (size_t)(fence - reader.next), reader.place,
                                          fences % 2 == 1};
        if (fence == reader.end) break;
        advance(&reader, fence);
        skip_fence(&reader);
        fences++;
    }
    /* A single fence opens the code when something follows it (an answer that was cut short), else
     * it closes it. */
    if (fences == 1 && count == 1) blocks[0].fenced = true;
    return count;
}
