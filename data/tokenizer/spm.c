/* A tokenizer from a SentencePiece model: Llama's and Gemma's, as transformers 4.39.3 runs them
 * without tokenizers' fast form.
 *
 * SentencePiece joins neighbours whose text is a piece, the highest score first, whatever way the
 * piece came about. So every way of cutting a piece in two is a merge here, of the rank of its
 * score. */
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/sentencepiece.h"

enum { MODEL_FILE_MAX = 64 << 20 };

typedef struct Loading {
    Tokenizer *t;
    const char *name;
    SentencePieceModel model;
    TokenizerSettings settings;
    ByteMap pieces; /* as in the file → id */
} Loading;

/* ---- tokens ---- */

static int64_t find_piece(const void *context, const char *content, size_t size) {
    const int64_t *id = byte_map_find(context, content, size);
    return id ? *id : -1;
}

static Err index_pieces(Loading *l) {
    for (size_t i = 0; i < l->model.count; i++) {
        const SentencePiece *piece = &l->model.pieces[i];
        int64_t id = *byte_map_put(&l->pieces, piece->text, piece->size, (int64_t)i);
        REQUIRE(id == (int64_t)i, ERR_INPUT, "%s: pieces %lld and %zu are the same (%.*s)", l->name,
                (long long)id, i, piece->size < 40 ? (int)piece->size : 40, piece->text);
    }
    return OK;
}

/* An added token that has the id of a piece must be that piece, or one that no text contains. */
static Err put_added(const Loading *l) {
    const TokenizerSettings *s = &l->settings;
    for (size_t i = 0; i < s->count; i++) {
        const AddedToken *added = &s->added[i];
        if (added->id < (int64_t)l->model.count) {
            const SentencePiece *piece = &l->model.pieces[added->id];
            bool same =
                piece->size == added->size && !memcmp(piece->text, added->content, piece->size);
            REQUIRE(same || piece->type == PIECE_CONTROL || piece->type == PIECE_UNKNOWN, ERR_INPUT,
                    "%s: the added token \"%.40s\" has the id %lld, which is the piece \"%.*s\"",
                    l->name, added->content, (long long)added->id,
                    piece->size < 40 ? (int)piece->size : 40, piece->text);
        }
        Token token = {.kind = added->special ? TOKEN_SPECIAL : TOKEN_ADDED,
                       .lstrip = added->lstrip,
                       .rstrip = added->rstrip};
        TRY(token_put(l->t, added->id, token, added->content, added->size, l->name));
    }
    return OK;
}

static Err put_piece(const Loading *l, size_t id, Buf *text) {
    const SentencePiece *piece = &l->model.pieces[id];
    Token token = {.kind = TOKEN_PLAIN};
    buf_clear(text);
    switch (piece->type) {
    case PIECE_BYTE: {
        int byte = sentencepiece_byte(piece->text, piece->size);
        l->t->byte_ids[byte] = (int32_t)id;
        buf_append(text, &(char){(char)byte}, 1);
        break;
    }
    case PIECE_CONTROL:
    case PIECE_UNKNOWN:
        token.kind = TOKEN_CONTROL;
        buf_append(text, piece->text, piece->size);
        break;
    default: spaces_append(text, piece->text, piece->size);
    }
    if (l->t->tokens[id].kind == TOKEN_MISSING)
        TRY(token_put(l->t, (int64_t)id, token, text->data, text->size, l->name));
    /* Pieces with a true space are never made: a text has signs in place of its spaces. */
    bool joined = piece->type == PIECE_NORMAL && l->t->tokens[id].kind <= TOKEN_ADDED &&
                  !memchr(piece->text, ' ', piece->size);
    if (joined) byte_map_put(&l->t->plain, text->data, text->size, (int64_t)id);
    return OK;
}

static bool is_defined(const Tokenizer *t, int32_t id, const void *context) {
    const SentencePieceModel *model = context;
    return (size_t)id < model->count && model->pieces[id].type == PIECE_USER_DEFINED &&
           t->tokens[id].kind <= TOKEN_ADDED &&
           !memchr(model->pieces[id].text, ' ', model->pieces[id].size);
}

static Err load_tokens(Loading *l) {
    Tokenizer *t = l->t;
    size_t total;
    TRY(index_pieces(l));
    TRY(settings_number(&l->settings, l->model.count, find_piece, &l->pieces, &total, l->name));
    TRY(tokens_alloc(t, total, l->name));
    TRY(put_added(l));
    Buf text = {0};
    Err err = OK;
    for (size_t id = 0; id < l->model.count && err == OK; id++) err = put_piece(l, id, &text);
    buf_free(&text);
    TRY(err);
    for (int id = 0; id < t->vocab; id++)
        REQUIRE(t->tokens[id].kind != TOKEN_MISSING, ERR_INPUT,
                "%s: no token has the id %d, but there are higher ones", l->name, id);
    token_list_make(&t->defined, t, is_defined, &l->model);
    settings_roles(&l->settings, t);
    return tokens_list_added(t, l->name);
}

/* ---- merges ---- */

typedef struct Ranked {
    float score;
    uint32_t entry; /* in Tokenizer.plain */
} Ranked;

static int compare_scores(const void *a, const void *b) {
    const Ranked *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->entry < y->entry ? -1 : 1;
}

/* The symbol of a part of a piece, or -1 when no text is ever joined to it. */
static int32_t part_symbol(Tokenizer *t, const char *part, size_t size) {
    int32_t symbol = character_symbol(t, part, size);
    if (symbol >= 0 || utf8_length(part, size) != size) return symbol;
    return (int32_t)*byte_map_put(&t->orphans, part, size, t->vocab + (int64_t)t->orphans.count);
}

static void put_merges(Tokenizer *t, uint32_t entry, uint32_t rank) {
    const char *text = byte_map_bytes(&t->plain, entry);
    size_t size = t->plain.entries[entry].size;
    Merge merge = {.result = (int32_t)t->plain.entries[entry].value, .rank = rank};
    for (size_t cut = utf8_length(text, size); cut < size;
         cut += utf8_length(text + cut, size - cut)) {
        merge.left = part_symbol(t, text, cut);
        merge.right = part_symbol(t, text + cut, size - cut);
        if (merge.left >= 0 && merge.right >= 0) characters_join(t, merge, text, cut);
    }
}

static void load_merges(const Loading *l) {
    Tokenizer *t = l->t;
    size_t count = t->plain.count;
    Ranked *ranked = malloc((count + 1) * sizeof *ranked);
    CHECK(ranked, "out of memory: %zu pieces", count);
    for (size_t i = 0; i < count; i++)
        ranked[i] = (Ranked){l->model.pieces[t->plain.entries[i].value].score, (uint32_t)i};
    qsort(ranked, count, sizeof *ranked, compare_scores);
    uint32_t rank = 0;
    for (size_t i = 0; i < count; i++) {
        if (i && ranked[i].score < ranked[i - 1].score) rank++;
        put_merges(t, ranked[i].entry, rank);
    }
    free(ranked);
}

/* ---- prefixes ---- */

/* Llama with legacy off encodes a text that starts with a space behind the text of <unk>, and cuts
 * that off again, since models of other tokenizers of this class lose spaces at the start. */
static Err set_guard(const Loading *l) {
    Tokenizer *t = l->t;
    const char *unknown = l->settings.roles[ROLE_UNK];
    REQUIRE(unknown, ERR_INPUT, "%s: the tokenizer has no unk_token", l->name);
    TokenIds ids = {0};
    Err err = tokenizer_encode(t, unknown, strlen(unknown), &ids);
    t->guard_tokens = ids.count;
    token_ids_free(&ids);
    buf_text(&t->guard, unknown);
    return err;
}

static Err set_prefix(const Loading *l) {
    Tokenizer *t = l->t;
    const TokenizerSettings *s = &l->settings;
    REQUIRE(s->kind != CLASS_LLAMA || s->prefix_space || s->legacy, ERR_INPUT,
            "%s: add_prefix_space off is not understood", l->name);
    bool once = s->kind == CLASS_LLAMA && !s->legacy;
    if (once) TRY(set_guard(l));
    t->prefix = once ? PREFIX_TEXT : l->model.dummy_prefix ? PREFIX_SEGMENT : PREFIX_NONE;
    return OK;
}

/* ---- the whole ---- */

/* Where tokenizer_config.json names no class: Gemma's models have <bos>, Llama's <s>. */
static TokenizerClass guess_class(const SentencePieceModel *model) {
    for (size_t i = 0; i < model->count; i++) {
        const SentencePiece *piece = &model->pieces[i];
        if (piece->size == 5 && !memcmp(piece->text, "<bos>", 5)) return CLASS_GEMMA;
    }
    return CLASS_LLAMA;
}

static Err load(Loading *l, const Buf *file, const char *folder) {
    TRY(sentencepiece_read(&l->model, buf_cstr(file), file->size, l->name));
    TRY(settings_read(&l->settings, folder, guess_class(&l->model)));
    REQUIRE(
        l->settings.kind == CLASS_LLAMA || l->settings.kind == CLASS_GEMMA, ERR_INPUT,
        "%s: the tokenizer_class \"%s\" of the tokenizer_config.json beside it is not understood "
        "(LlamaTokenizer and GemmaTokenizer are)",
        l->name, l->settings.class_name);
    l->t->characters = true;
    TRY(load_tokens(l));
    load_merges(l);
    characters_index(l->t);
    bool space = l->t->ascii_symbols[' '] >= 0 ||
                 token_list_find(&l->t->defined, l->t, TOKEN_ADDED, " ", 1) >= 0;
    REQUIRE(space, ERR_INPUT, "%s: no piece for a space (U+2581)", l->name);
    return set_prefix(l);
}

Err tokenizer_load_spm(Tokenizer *tokenizer, const char *path, const char *folder) {
    Loading loading = {.t = tokenizer, .name = path};
    Buf file = {0};
    Err err = file_read(&file, path, MODEL_FILE_MAX);
    if (err == OK) err = load(&loading, &file, folder);
    sentencepiece_free(&loading.model);
    settings_free(&loading.settings);
    byte_map_free(&loading.pieces);
    buf_free(&file);
    return err;
}
