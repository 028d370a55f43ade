/* Matrix products of bf16 in the tile registers of x86 processors that have them (AMX: Sapphire
 * Rapids and later).
 *
 * oneDNN 2.6 runs there at a third of what the tiles can do; what is here, at half. An element of c
 * is one sum over the inner dimension in its order, 32 at a time, whatever the blocks, so its bits
 * depend on nothing else. */
#ifndef CADVLM_OPS_CPU_AMX_H
#define CADVLM_OPS_CPU_AMX_H

#include <stdbool.h>

#include "ops/tensor.h"

enum {
    AMX_STRIP = 32,  /* rows or columns that one run of the inner loop makes: two by two tiles */
    AMX_PANEL = 256, /* columns that are packed together, at most */
    AMX_BLOCK = 256, /* rows whose sums are kept, at most: 256 KB with a panel */
};

/* How an operand's numbers lie; "inner" is the dimension that the product sums over. */
typedef enum AmxLayout {
    AMX_LINES,       /* line r, number k at data[r·stride + k] */
    AMX_INNER_FIRST, /* at data[k·stride + r] */
    AMX_PACKED       /* as amx_pack_left left them */
} AmxLayout;

/* A matrix whose `rows` lines are multiplied. */
typedef struct AmxOperand {
    const uint16_t *data;
    int64_t rows, inner, stride;
    AmxLayout layout;
} AmxOperand;

/* Whether this processor has the tiles and the kernel lets this process use them. */
bool amx_ready(void);

/* Packs lines first … first + count - 1, a multiple of AMX_STRIP unless they are the last, in the
 * order of use; `packed` is where these lines go. */
void amx_pack_right(uint16_t *packed, const AmxOperand *right, int64_t first, int64_t count);
void amx_pack_left(uint16_t *packed, const AmxOperand *left, int64_t first, int64_t count);
/* How many elements packed lines take. */
int64_t amx_packed(int64_t lines, int64_t inner);

/* What is done with the sums of a product. */
typedef struct AmxResult {
    Tensor c;             /* f32 or bf16 */
    bool transposed;      /* left's rows are c's columns */
    const uint16_t *bias; /* one for each column of c, or NULL */
    float scale;
    bool accumulate;
} AmxResult;

/* Memory of a thread for amx_multiply. */
size_t amx_scratch_bytes(void);

/* Lines [row, row + rows) of left times `cols` ≤ AMX_PANEL lines of the right operand from number
 * `col` on, which lie packed; those were packed with `packed_inner` ≥ left's inner numbers each, of
 * which the first are used. */
void amx_multiply(void *scratch, const AmxResult *result, const AmxOperand *left, int64_t row,
                  int64_t rows, const uint16_t *packed, int64_t packed_inner, int64_t col,
                  int64_t cols);

#endif
