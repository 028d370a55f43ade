/* Learns a byte-pair tokenizer from CAD code and writes it.
 *
 * Texts are cut into pieces and equal pieces are counted once. The pair of neighbours that occurs
 * most often over all pieces is joined, again and again. Ties go to the pair with the smaller ids,
 * and ids come from counts alone, so the result does not depend on the order of the texts. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/model.h"

enum { SPECIALS = 3, BYTES = 256, LEAST_COUNT = 2 };
static const char *const special_names[SPECIALS] = {"<pad>", "<bos>", "<eos>"};

/* A distinct piece as symbols, and how often it occurs. */
typedef struct Word {
    int32_t *symbols;
    int32_t length;
    int64_t count;
} Word;

/* A pair of neighbours: how often it occurs, and the words where it may. */
typedef struct Pair {
    int32_t left, right;
    int64_t count;
    int32_t *words;
    size_t word_count, word_capacity;
    bool raised; /* its count has grown since it was pushed on the heap */
} Pair;

typedef struct Candidate {
    int64_t count;
    int32_t left, right;
    int32_t pair; /* number in Training.pairs */
} Candidate;

typedef struct Training {
    ByteMap pieces; /* → count */
    Word *words;
    size_t word_count;
    int32_t *symbols; /* of all words */

    Pair *pairs;
    size_t pair_count, pair_capacity;
    Merges pair_places; /* (left, right) → number of the pair, as `result` */
    Candidate *heap;    /* an entry may be out of date; the newest one of a pair is never too low */
    size_t heap_count, heap_capacity;
    int32_t *raised; /* numbers of raised pairs */
    size_t raised_count, raised_capacity;

    ByteMap tokens; /* the strings of all tokens → id; entry i has the id SPECIALS + i */
    Merge *merges;
    size_t merge_count, merge_capacity;
} Training;

/* Room for one element more in a growing array. */
#define RESERVE_ONE(array, count, capacity)                                                        \
    do {                                                                                           \
        if ((count) == (capacity)) {                                                               \
            (capacity) = (capacity) ? 2 * (capacity) : 4;                                          \
            (array) = realloc((array), (capacity) * sizeof *(array));                              \
            CHECK(array, "out of memory: %zu elements", (size_t)(capacity));                       \
        }                                                                                          \
    } while (0)

/* ---- counting pieces ---- */

static Err count_piece(void *context, const char *piece, size_t size) {
    ++*byte_map_put(context, piece, size, 0);
    return OK;
}

static Err count_pieces(const TokenizerTraining *options, ByteMap *pieces) {
    Splitter *splitter;
    TRY(splitter_regex(&splitter, pieces_cad_pattern, strlen(pieces_cad_pattern), "numbers"));
    Err err = OK;
    for (;;) {
        const char *text = NULL;
        size_t size = 0;
        err = options->next(options->context, &text, &size);
        if (err != OK || !text) break;
        err = pieces_each(&splitter, 1, text, size, count_piece, pieces);
        if (err != OK) break;
    }
    splitter_free(&splitter);
    return err;
}

/* ---- numbers ---- */

/* A whole number of up to three digits with its minus, longer than a single byte. */
static bool is_number(const char *piece, size_t size) {
    size_t digits = size;
    if (size && piece[0] == '-') piece++, digits--;
    if (size < 2 || digits < 1 || digits > 3) return false;
    for (size_t i = 0; i < digits; i++)
        if (!isdigit((unsigned char)piece[i])) return false;
    return piece[0] != '0';
}

typedef struct Number {
    const char *text;
    size_t size;
    int64_t count;
} Number;

static int compare_numbers(const void *a, const void *b) {
    const Number *x = a, *y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    if (x->size != y->size) return x->size < y->size ? -1 : 1;
    return memcmp(x->text, y->text, x->size);
}

static void take_numbers(Training *training, int most) {
    Number *numbers = NULL;
    size_t count = 0, capacity = 0;
    for (size_t i = 0; i < training->pieces.count; i++) {
        const struct ByteMapEntry *entry = &training->pieces.entries[i];
        const char *text = byte_map_bytes(&training->pieces, i);
        if (!is_number(text, entry->size)) continue;
        RESERVE_ONE(numbers, count, capacity);
        numbers[count++] = (Number){text, entry->size, entry->value};
    }
    if (count) qsort(numbers, count, sizeof *numbers, compare_numbers);
    for (size_t i = 0; i < count && i < (size_t)most; i++)
        byte_map_put(&training->tokens, numbers[i].text, numbers[i].size,
                     SPECIALS + (int64_t)training->tokens.count);
    free(numbers);
}

/* ---- words ---- */

/* All pieces that are no token already. */
static void make_words(Training *training) {
    const ByteMap *pieces = &training->pieces;
    training->words = calloc(pieces->count + 1, sizeof *training->words);
    training->symbols = malloc((pieces->pool.size + 1) * sizeof *training->symbols);
    CHECK(training->words && training->symbols, "out of memory: %zu pieces", pieces->count);
    int32_t *next = training->symbols;
    for (size_t i = 0; i < pieces->count; i++) {
        const uint8_t *bytes = (const uint8_t *)byte_map_bytes(pieces, i);
        size_t size = pieces->entries[i].size;
        if (byte_map_find(&training->tokens, bytes, size)) continue;
        training->words[training->word_count++] =
            (Word){next, (int32_t)size, pieces->entries[i].value};
        for (size_t k = 0; k < size; k++) *next++ = SPECIALS + bytes[k];
    }
}

/* ---- pairs ---- */

static bool before(const Candidate *a, const Candidate *b) {
    if (a->count != b->count) return a->count > b->count;
    if (a->left != b->left) return a->left < b->left;
    return a->right < b->right;
}

static void heap_push(Training *training, int32_t pair) {
    RESERVE_ONE(training->heap, training->heap_count, training->heap_capacity);
    const Pair *p = &training->pairs[pair];
    Candidate candidate = {p->count, p->left, p->right, pair}, *heap = training->heap;
    size_t at = training->heap_count++;
    while (at && before(&candidate, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = candidate;
}

static Candidate heap_pop(Training *training) {
    Candidate *heap = training->heap, first = heap[0], last = heap[--training->heap_count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < training->heap_count; at = child) {
        if (child + 1 < training->heap_count && before(&heap[child + 1], &heap[child])) child++;
        if (!before(&heap[child], &last)) break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return first;
}

/* Valid until the next new pair. */
static Pair *pair_of(Training *training, int32_t left, int32_t right) {
    const Merge *place = merges_find(&training->pair_places, left, right);
    if (place) return &training->pairs[place->result];
    RESERVE_ONE(training->pairs, training->pair_count, training->pair_capacity);
    CHECK(training->pair_count < INT32_MAX, "%zu pairs", training->pair_count);
    int32_t number = (int32_t)training->pair_count++;
    training->pairs[number] = (Pair){.left = left, .right = right};
    merges_put(&training->pair_places, (Merge){left, right, number, 0});
    return &training->pairs[number];
}

static void pair_count(Training *training, int32_t left, int32_t right, int32_t word, int64_t by) {
    Pair *pair = pair_of(training, left, right);
    pair->count += by;
    if (by < 0) return;
    if (!pair->raised) {
        pair->raised = true;
        RESERVE_ONE(training->raised, training->raised_count, training->raised_capacity);
        training->raised[training->raised_count++] = (int32_t)(pair - training->pairs);
    }
    if (pair->word_count && pair->words[pair->word_count - 1] == word) return;
    RESERVE_ONE(pair->words, pair->word_count, pair->word_capacity);
    pair->words[pair->word_count++] = word;
}

static void push_raised(Training *training) {
    for (size_t i = 0; i < training->raised_count; i++) {
        training->pairs[training->raised[i]].raised = false;
        heap_push(training, training->raised[i]);
    }
    training->raised_count = 0;
}

static void count_pairs(Training *training) {
    for (size_t w = 0; w < training->word_count; w++) {
        const Word *word = &training->words[w];
        for (int32_t i = 0; i + 1 < word->length; i++)
            pair_count(training, word->symbols[i], word->symbols[i + 1], (int32_t)w, word->count);
    }
    push_raised(training);
}

/* ---- merging ---- */

/* Joins left right into `joined` wherever the word has them, and moves the counts of the pairs
 * around. */
static void merge_in_word(Training *training, int32_t number, int32_t left, int32_t right,
                          int32_t joined) {
    Word *word = &training->words[number];
    int32_t *symbols = word->symbols, n = 0;
    for (int32_t i = 0; i < word->length; n++) {
        if (symbols[i] != left || i + 1 == word->length || symbols[i + 1] != right) {
            symbols[n] = symbols[i++];
            continue;
        }
        if (n) {
            pair_count(training, symbols[n - 1], left, number, -word->count);
            pair_count(training, symbols[n - 1], joined, number, word->count);
        }
        i += 2;
        if (i < word->length) {
            pair_count(training, right, symbols[i], number, -word->count);
            pair_count(training, joined, symbols[i], number, word->count);
        }
        symbols[n] = joined;
    }
    word->length = n;
}

/* The id of the joined token, new or known: two ways may lead to the same string. */
static int32_t join_tokens(Training *training, int32_t left, int32_t right) {
    Buf joined = {0};
    for (int side = 0; side < 2; side++) {
        size_t entry = (size_t)((side ? right : left) - SPECIALS);
        buf_append(&joined, byte_map_bytes(&training->tokens, entry),
                   training->tokens.entries[entry].size);
    }
    int64_t id = *byte_map_put(&training->tokens, joined.data, joined.size,
                               SPECIALS + (int64_t)training->tokens.count);
    buf_free(&joined);
    return (int32_t)id;
}

static void merge_pair(Training *training, int32_t pair) {
    int32_t left = training->pairs[pair].left, right = training->pairs[pair].right;
    int32_t joined = join_tokens(training, left, right);
    RESERVE_ONE(training->merges, training->merge_count, training->merge_capacity);
    training->merges[training->merge_count++] = (Merge){left, right, joined, 0};
    /* The list is taken away first: counting may move the array of pairs. */
    int32_t *words = training->pairs[pair].words;
    size_t count = training->pairs[pair].word_count;
    training->pairs[pair].words = NULL;
    training->pairs[pair].word_count = training->pairs[pair].word_capacity = 0;
    for (size_t i = 0; i < count; i++) merge_in_word(training, words[i], left, right, joined);
    free(words);
    training->pairs[pair].count = 0; /* overlaps ("aaa") are gone too */
    push_raised(training);
}

static void learn_merges(Training *training, int vocab) {
    count_pairs(training);
    while (training->heap_count && SPECIALS + training->tokens.count < (size_t)vocab) {
        Candidate top = heap_pop(training);
        int64_t count = training->pairs[top.pair].count;
        if (count < LEAST_COUNT) continue;
        if (count == top.count)
            merge_pair(training, top.pair);
        else
            heap_push(training, top.pair); /* its count has changed since */
    }
}

/* ---- writing ---- */

static void append_letters(Buf *out, const Training *training, int32_t id) {
    size_t entry = (size_t)(id - SPECIALS);
    byte_level_write(out, byte_map_bytes(&training->tokens, entry),
                     training->tokens.entries[entry].size);
}

static Json *special_tokens(void) {
    Json *list = js_new_array();
    for (int id = 0; id < SPECIALS; id++) {
        Json *token = js_new_object();
        js_set_integer(token, "id", id);
        js_set_text(token, "content", special_names[id]);
        js_set_bool(token, "single_word", false);
        js_set_bool(token, "lstrip", false);
        js_set_bool(token, "rstrip", false);
        js_set_bool(token, "normalized", false);
        js_set_bool(token, "special", true);
        js_push(list, token);
    }
    return list;
}

static Json *byte_level_step(void) {
    Json *step = js_new_object();
    js_set_text(step, "type", "ByteLevel");
    js_set_bool(step, "add_prefix_space", false);
    js_set_bool(step, "trim_offsets", true);
    js_set_bool(step, "use_regex", false);
    return step;
}

static Json *pre_tokenizer(void) {
    Json *pattern = js_new_object(), *split = js_new_object();
    js_set_text(pattern, "Regex", pieces_cad_pattern);
    js_set_text(split, "type", "Split");
    js_set(split, "pattern", pattern);
    js_set_text(split, "behavior", "Isolated");
    js_set_bool(split, "invert", false);
    Json *steps = js_new_array(), *sequence = js_new_object();
    js_push(steps, split);
    js_push(steps, byte_level_step());
    js_set_text(sequence, "type", "Sequence");
    js_set(sequence, "pretokenizers", steps);
    return sequence;
}

static Json *model(const Training *training) {
    Buf text = {0};
    Json *vocab = js_new_object(), *merges = js_new_array(), *bpe = js_new_object();
    for (int id = 0; id < SPECIALS; id++) js_set_integer(vocab, special_names[id], id);
    for (size_t i = 0; i < training->tokens.count; i++) {
        buf_clear(&text);
        append_letters(&text, training, SPECIALS + (int32_t)i);
        js_set_integer(vocab, buf_cstr(&text), SPECIALS + (int64_t)i);
    }
    for (size_t i = 0; i < training->merge_count; i++) {
        buf_clear(&text);
        append_letters(&text, training, training->merges[i].left);
        buf_text(&text, " ");
        append_letters(&text, training, training->merges[i].right);
        js_push(merges, js_new_text(buf_cstr(&text)));
    }
    buf_free(&text);
    js_set_text(bpe, "type", "BPE");
    js_set(bpe, "dropout", js_new_null());
    js_set(bpe, "unk_token", js_new_null());
    js_set(bpe, "continuing_subword_prefix", js_new_null());
    js_set(bpe, "end_of_word_suffix", js_new_null());
    js_set_bool(bpe, "fuse_unk", false);
    js_set_bool(bpe, "byte_fallback", false);
    js_set_bool(bpe, "ignore_merges", true); /* numbers are tokens without merges */
    js_set(bpe, "vocab", vocab);
    js_set(bpe, "merges", merges);
    return bpe;
}

static Err write_file(const Training *training, const char *path) {
    Json *root = js_new_object();
    js_set_text(root, "version", "1.0");
    js_set(root, "truncation", js_new_null());
    js_set(root, "padding", js_new_null());
    js_set(root, "added_tokens", special_tokens());
    js_set(root, "normalizer", js_new_null());
    js_set(root, "pre_tokenizer", pre_tokenizer());
    js_set(root, "post_processor", js_new_null());
    js_set(root, "decoder", byte_level_step());
    js_set(root, "model", model(training));
    Err err = js_write(path, root);
    js_free(&root);
    return err;
}

/* ---- the whole ---- */

static void training_free(Training *training) {
    byte_map_free(&training->pieces);
    byte_map_free(&training->tokens);
    for (size_t i = 0; i < training->pair_count; i++) free(training->pairs[i].words);
    free(training->pairs);
    merges_free(&training->pair_places);
    free(training->words);
    free(training->symbols);
    free(training->heap);
    free(training->raised);
    free(training->merges);
}

Err tokenizer_train(const TokenizerTraining *options, const char *path) {
    REQUIRE(
        options->numbers >= 0 && options->vocab <= TOKENS_MAX &&
            options->vocab - options->numbers >= SPECIALS + BYTES,
        ERR_CONFIG,
        "a vocabulary of %d tokens with %d numbers; it needs at least %d + the numbers, and can "
        "have %d",
        options->vocab, options->numbers, SPECIALS + BYTES, TOKENS_MAX);
    Training training = {0};
    for (int byte = 0; byte < BYTES; byte++)
        byte_map_put(&training.tokens, &(char){(char)byte}, 1, SPECIALS + byte);
    Err err = count_pieces(options, &training.pieces);
    if (err == OK) {
        take_numbers(&training, options->numbers);
        make_words(&training);
        learn_merges(&training, options->vocab);
        err = write_file(&training, path);
    }
    training_free(&training);
    return err;
}
