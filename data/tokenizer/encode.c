/* Encoding: added tokens are taken out of the text, what lies between them is cut and joined. */
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/model.h"

/* With room for what is put in front. */
enum { TEXT_MAX = BPE_PIECE_MAX - 2 * 1024 };

/* A part of a text: an added token, or text (id -1). */
typedef struct Segment {
    const char *text;
    size_t size;
    int32_t id;
} Segment;

typedef struct Segments {
    Segment *items;
    size_t count, capacity;
} Segments;

/* One text at work. */
typedef struct Encoding {
    const Tokenizer *t;
    TokenKind most; /* added tokens that are taken out: TOKEN_ADDED, or TOKEN_SPECIAL as well */
    const char *start;
    Segments segments[2]; /* of each pass over added tokens */
    Buf text;             /* character tokenizers: a segment with its prefix, spaces as spaces */
    TokenIds run, joined; /* character tokenizers: symbols before and after joining */
    BpeScratch scratch;
    TokenIds *out;
} Encoding;

/* ---- bytes ---- */

static Err encode_piece(void *context, const char *piece, size_t size) {
    Encoding *e = context;
    const Tokenizer *t = e->t;
    if (t->ignore_merges) {
        const int64_t *whole = byte_map_find(&t->plain, piece, size);
        if (whole) {
            token_ids_push(e->out, (int32_t)*whole);
            return OK;
        }
    }
    bpe_encode(&t->merges, t->byte_ids, piece, size, &e->scratch, e->out);
    return OK;
}

/* ---- characters ---- */

static void push_bytes(Encoding *e, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) token_ids_push(e->out, e->t->byte_ids[(uint8_t)bytes[i]]);
}

/* A character, or a byte that belongs to none. */
static size_t character_size(const char *text, size_t size) {
    size_t length = utf8_length(text, size);
    return length ? length : 1;
}

/* Joins the symbols of the run. One that is no token is spelt with bytes: an orphan, or ~i for the
 * character at place i of the text. */
static void finish_run(Encoding *e) {
    const Tokenizer *t = e->t;
    if (!e->run.count) return;
    int32_t *symbols = bpe_symbols(&e->scratch, e->run.count);
    memcpy(symbols, e->run.ids, e->run.count * sizeof *symbols);
    e->run.count = e->joined.count = 0;
    bpe_join(&t->merges, &e->scratch, &e->joined);
    for (size_t i = 0; i < e->joined.count; i++) {
        int32_t symbol = e->joined.ids[i];
        if (symbol < 0) {
            const char *character = e->text.data + ~symbol;
            push_bytes(e, character, character_size(character, e->text.size - (size_t)~symbol));
        } else if (symbol >= t->vocab) {
            size_t entry = (size_t)(symbol - t->vocab);
            push_bytes(e, byte_map_bytes(&t->orphans, entry), t->orphans.entries[entry].size);
        } else {
            token_ids_push(e->out, symbol);
        }
    }
}

/* What goes in front of the segment in e->text: a space, or the guard. Returns the tokens of the
 * guard, which are to be cut off. */
static size_t add_prefix(Encoding *e, const char *segment, size_t size) {
    const Tokenizer *t = e->t;
    size_t sign = sizeof SPACE_SIGN - 1;
    bool space = segment[0] == ' ' || (size >= sign && !memcmp(segment, SPACE_SIGN, sign));
    buf_clear(&e->text);
    if (t->prefix == PREFIX_SEGMENT || (t->prefix == PREFIX_WORD && !space) ||
        (t->prefix == PREFIX_FIRST && !space && segment == e->start))
        buf_append(&e->text, " ", 1);
    if (!t->guard.size || !space) return 0;
    buf_append(&e->text, t->guard.data, t->guard.size);
    return t->guard_tokens;
}

/* Whether nothing is ever joined across the front of the character at `at`. Cutting there keeps the
 * runs short; the ids are the same. */
static bool apart(const Tokenizer *t, const char *text, size_t at) {
    unsigned before = (uint8_t)text[at - 1], after = (uint8_t)text[at];
    if (before >= 128 || after >= 128) return false;
    return !(t->joined[before][after / 8] >> after % 8 & 1) || (t->split_words && after == ' ');
}

static Err encode_characters(Encoding *e, const char *segment, size_t size) {
    const Tokenizer *t = e->t;
    size_t first = e->out->count, cut = add_prefix(e, segment, size);
    spaces_append(&e->text, segment, size);
    const char *text = e->text.data;
    for (size_t at = 0, length; at < e->text.size; at += length) {
        size_t left = e->text.size - at;
        int32_t defined = token_list_find(&t->defined, t, TOKEN_ADDED, text + at, left);
        if (defined >= 0) {
            finish_run(e);
            token_ids_push(e->out, defined);
            length = t->tokens[defined].size;
            continue;
        }
        if (e->run.count && apart(t, text, at)) finish_run(e);
        bool ascii = (signed char)text[at] >= 0;
        length = ascii ? 1 : character_size(text + at, left);
        int32_t symbol =
            ascii ? t->ascii_symbols[(int)text[at]] : character_symbol(t, text + at, length);
        token_ids_push(&e->run, symbol >= 0 ? symbol : ~(int32_t)at);
    }
    finish_run(e);
    if (e->out->count - first >= cut) {
        e->out->count -= cut;
        memmove(e->out->ids + first, e->out->ids + first + cut,
                (e->out->count - first) * sizeof *e->out->ids);
    }
    return OK;
}

/* ---- added tokens ---- */

static void push_segment(Segments *segments, const char *text, size_t size, int32_t id) {
    if (!size) return;
    if (segments->count == segments->capacity) {
        segments->capacity = segments->capacity ? 2 * segments->capacity : 64;
        segments->items = realloc(segments->items, segments->capacity * sizeof *segments->items);
        CHECK(segments->items, "out of memory: %zu segments", segments->capacity);
    }
    segments->items[segments->count++] = (Segment){text, size, id};
}

/* Cuts the text at the added tokens of a pass, the leftmost and longest. */
static void cut_at_added(Encoding *e, int pass, const char *text, size_t size) {
    const TokenList *list = &e->t->added[pass];
    Segments *segments = &e->segments[pass];
    size_t done = 0;
    segments->count = 0;
    for (size_t at = 0; at < size && list->starts[256];) {
        int32_t id = token_list_find(list, e->t, e->most, text + at, size - at);
        if (id < 0) {
            at++;
            continue;
        }
        push_segment(segments, text + done, at - done, -1);
        push_segment(segments, text + at, e->t->tokens[id].size, id);
        done = at += e->t->tokens[id].size;
    }
    push_segment(segments, text + done, size - done, -1);
}

/* A segment that white space was taken from: an added token is no longer one, or another one. */
static void look_again(const Encoding *e, int pass, Segment *segment) {
    if (segment->id < 0 || e->t->tokens[segment->id].size == segment->size) return;
    segment->id = -1;
    if (!segment->size) return;
    int32_t id = token_list_find(&e->t->added[pass], e->t, e->most, segment->text, segment->size);
    if (id >= 0 && e->t->tokens[id].size == segment->size) segment->id = id;
}

/* Tokens with lstrip or rstrip take the white space of their neighbours. */
static void strip_neighbours(Encoding *e, int pass) {
    Segments *segments = &e->segments[pass];
    for (size_t i = 0; i < segments->count; i++) {
        if (segments->items[i].id < 0) continue;
        const Token *token = &e->t->tokens[segments->items[i].id];
        if (token->rstrip && i + 1 < segments->count) {
            Segment *right = &segments->items[i + 1];
            utf8_strip_front(&right->text, &right->size);
            look_again(e, pass, right);
        }
        if (token->lstrip && i > 0) {
            Segment *left = &segments->items[i - 1];
            utf8_strip_end(left->text, &left->size);
            look_again(e, pass, left);
        }
    }
}

static Err encode_pass(Encoding *e, int pass, const char *text, size_t size) {
    const Tokenizer *t = e->t;
    if (pass == 2)
        return t->characters
                   ? encode_characters(e, text, size)
                   : pieces_each(t->splitters, t->splitter_count, text, size, encode_piece, e);
    cut_at_added(e, pass, text, size);
    strip_neighbours(e, pass);
    for (size_t i = 0; i < e->segments[pass].count; i++) {
        Segment segment = e->segments[pass].items[i];
        if (segment.id >= 0)
            token_ids_push(e->out, segment.id);
        else if (segment.size)
            TRY(encode_pass(e, pass + 1, segment.text, segment.size));
    }
    return OK;
}

/* ---- the whole text ---- */

/* A text that starts with a special token gets no space in front (PREFIX_TEXT): it stands there as
 * a token of its own. */
static void drop_lone_space(const Encoding *e, size_t first) {
    int32_t *ids = e->out->ids + first;
    if (e->out->count - first < 2 || ids[0] != e->t->ascii_symbols[' '] ||
        e->t->tokens[ids[1]].kind != TOKEN_SPECIAL)
        return;
    e->out->count--;
    memmove(ids, ids + 1, (e->out->count - first) * sizeof *ids);
}

static Err encode(const Tokenizer *t, TokenKind most, const char *text, size_t size,
                  TokenIds *out) {
    REQUIRE(size <= TEXT_MAX, ERR_INPUT, "a text of %zu bytes to encode; at most %d are possible",
            size, TEXT_MAX);
    if (!size) return OK;
    Encoding e = {.t = t, .most = most, .start = text, .out = out};
    Buf prefixed = {0};
    size_t first = out->count;
    if (t->prefix == PREFIX_TEXT) {
        buf_append(&prefixed, SPACE_SIGN,
                   sizeof SPACE_SIGN - 1); /* no white space to be stripped */
        spaces_append(&prefixed, text, size);
        text = prefixed.data;
        size = prefixed.size;
    }
    Err err = encode_pass(&e, 0, text, size);
    if (err == OK && t->prefix == PREFIX_TEXT) drop_lone_space(&e, first);
    buf_free(&prefixed);
    for (int pass = 0; pass < 2; pass++) free(e.segments[pass].items);
    buf_free(&e.text);
    token_ids_free(&e.run);
    token_ids_free(&e.joined);
    free(e.scratch.memory);
    return err;
}

Err tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t size, TokenIds *out) {
    return encode(tokenizer, TOKEN_ADDED, text, size, out);
}

Err tokenizer_encode_special(const Tokenizer *tokenizer, const char *text, size_t size,
                             TokenIds *out) {
    return encode(tokenizer, TOKEN_SPECIAL, text, size, out);
}
