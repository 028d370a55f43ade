/* Byte-pair encoding of one piece: pairs of neighbours are joined in the order of a table. */
#ifndef CADVLM_DATA_TOKENIZER_BPE_H
#define CADVLM_DATA_TOKENIZER_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/tokenizer/tokenizer.h"

typedef struct Merge {
    int32_t left, right, result;
    uint32_t rank; /* lower ranks are joined first */
} Merge;

/* Hash table from (left, right) to its merge. */
typedef struct Merges {
    Merge *places; /* rank UINT32_MAX: empty */
    size_t capacity, count;
} Merges;

/* A pair given again keeps its last rank. */
void merges_put(Merges *merges, Merge merge);
const Merge *merges_find(const Merges *merges, int32_t left, int32_t right); /* or NULL */
void merges_free(Merges *merges);

/* Memory for encoding, kept from piece to piece. */
typedef struct BpeScratch {
    void *memory;
    size_t size, symbols; /* bytes; symbols it is laid out for */
} BpeScratch;

enum { BPE_PIECE_MAX = 1 << 28 };

/* Room for `count` symbols (1 to BPE_PIECE_MAX) of a piece, for the caller to fill. */
int32_t *bpe_symbols(BpeScratch *scratch, size_t count);

/* Joins the symbols in the scratch and appends what is left of them. Negative symbols stay as they
 * are. Time O(n log n). */
void bpe_join(const Merges *merges, BpeScratch *scratch, TokenIds *out);

/* Appends the ids of a piece of `size` bytes, which start as the tokens `byte_ids` of its bytes. */
void bpe_encode(const Merges *merges, const int32_t byte_ids[256], const char *piece, size_t size,
                BpeScratch *scratch, TokenIds *out);

#endif
