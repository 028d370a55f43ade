/* A list of token ids. */
#include <stdlib.h>

#include "data/tokenizer/tokenizer.h"

void token_ids_push(TokenIds *ids, int32_t id) {
    if (ids->count == ids->capacity) {
        ids->capacity = ids->capacity ? 2 * ids->capacity : 256;
        ids->ids = realloc(ids->ids, ids->capacity * sizeof *ids->ids);
        CHECK(ids->ids, "out of memory: %zu token ids", ids->capacity);
    }
    ids->ids[ids->count++] = id;
}

void token_ids_free(TokenIds *ids) {
    free(ids->ids);
    *ids = (TokenIds){0};
}
