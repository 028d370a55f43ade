/* A product for tile registers: which operand is the left one, what is packed, who does what.
 *
 * The left operand is read where it lies unless its inner dimension comes first; the right one is
 * packed, in panels of columns. Where there are many panels, a thread takes whole ones; else all
 * threads pack together and then share the blocks of rows. (Whatever is chosen, bits are the same;
 * see amx.h.) With 16 threads and 2,048 rows even 128 columns make 32 blocks. */
#include <omp.h>

#include "ops/cpu/amx.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/matmul.h"

enum {
    LEAST_ROWS = 64,          /* of a block: below, reading the packed columns takes as long */
    PANELS_PER_THREAD = 8,    /* from so many on, threads take whole panels, */
    FEW_ROWS = 2 * AMX_BLOCK, /* and where packing takes as long as multiplying */
    TASKS_PER_THREAD = 3,     /* or more, so that nobody waits long for the last one */
    GROUP_ELEMENTS = 1 << 23, /* packed together for each thread: 16 MiB */
    MANY_COLUMNS = 4,         /* so many times more columns than rows: rows are packed instead */
};

typedef struct Plan {
    AmxOperand left, right;
    AmxResult result;
} Plan;

static AmxOperand operand(Tensor t, bool inner_first) {
    return (AmxOperand){.data = t.data,
                        .rows = inner_first ? t.cols : t.rows,
                        .inner = inner_first ? t.rows : t.cols,
                        .stride = t.stride,
                        .layout = inner_first ? AMX_INNER_FIRST : AMX_LINES};
}

/* The left operand is best read in place, once for each panel of the other; the right one is packed
 * once: it should be the smaller one. */
static Plan plan_of(const Product *p) {
    Plan plan = {.left = operand(p->a, p->transpose_a),
                 .right = operand(p->b, !p->transpose_b),
                 .result = {.c = p->c,
                            .bias = tensor_is_none(p->bias) ? NULL : p->bias.data,
                            .scale = p->scale == 0 ? 1.0f : p->scale,
                            .accumulate = p->accumulate}};
    int64_t rows = p->c.rows, cols = p->c.cols;
    bool few_rows = p->transpose_b && !p->transpose_a && rows * MANY_COLUMNS <= cols;
    if (few_rows || (p->transpose_a && rows > cols)) {
        AmxOperand a = plan.left;
        plan.left = plan.right;
        plan.right = a;
        plan.result.transposed = true;
    }
    return plan;
}

void amx_product(Exec *ex, int thread, const Product *p) {
    Plan plan = plan_of(p);
    AmxOperand *left = &plan.left, *right = &plan.right;
    int64_t width = right->rows < AMX_PANEL ? right->rows : AMX_PANEL;
    bool pack_left = left->layout == AMX_INNER_FIRST;
    int64_t right_elements = amx_packed(width, right->inner),
            left_elements = pack_left ? amx_packed(left->rows, left->inner) : 0;
    char *memory = scratch_need(&cpu_of(ex)->products[thread],
                                amx_scratch_bytes() +
                                    (size_t)(right_elements + left_elements) * sizeof(uint16_t));
    uint16_t *packed = (uint16_t *)(memory + amx_scratch_bytes());
    if (pack_left) {
        amx_pack_left(packed + right_elements, left, 0, left->rows);
        left->data = packed + right_elements;
        left->layout = AMX_PACKED;
    }
    for (int64_t col = 0; col < right->rows; col += width) {
        int64_t cols = right->rows - col < width ? right->rows - col : width;
        amx_pack_right(packed, right, col, cols);
        amx_multiply(memory, &plan.result, left, 0, left->rows, packed, right->inner, col, cols);
    }
}

/* ---- one right operand for many tiles ---- */

size_t matmul_fixed_bytes(int64_t lines, int64_t inner) {
    return (size_t)amx_packed(lines, inner) * sizeof(uint16_t);
}

Fixed matmul_fix(Exec *ex, void **memory, Tensor b, bool transpose_b) {
    Fixed f = {.b = b, .transpose_b = transpose_b};
    if (!cpu_of(ex)->amx || b.dtype != DT_BF16) return f;
    AmxOperand right = operand(b, !transpose_b);
    f.packed = *memory;
    *memory = (char *)*memory + matmul_fixed_bytes(right.rows, right.inner);
    amx_pack_right(f.packed, &right, 0, right.rows);
    return f;
}

void matmul_tile_fixed(Exec *ex, int thread, Tensor c, Tensor a, const Fixed *f) {
    if (!f->packed) {
        Tensor b = tensor_rows(f->b, 0, f->transpose_b ? c.cols : a.cols);
        matmul_tile(ex, thread, &(Product){.c = c, .a = a, .b = b, .transpose_b = f->transpose_b});
        return;
    }
    AmxOperand left = operand(a, false);
    AmxResult result = {.c = c, .scale = 1};
    int64_t inner = f->transpose_b ? f->b.cols : f->b.rows;
    void *scratch = scratch_need(&cpu_of(ex)->products[thread], amx_scratch_bytes());
    for (int64_t col = 0; col < c.cols; col += AMX_PANEL)
        amx_multiply(scratch, &result, &left, 0, c.rows, f->packed + amx_packed(col, inner), inner,
                     col, c.cols - col < AMX_PANEL ? c.cols - col : AMX_PANEL);
}

/* ---- by all threads ---- */

/* Packs lines from `first` on by all threads. */
static void pack_parallel(int threads, uint16_t *packed, const AmxOperand *o, int64_t first,
                          int64_t count,
                          void (*pack)(uint16_t *, const AmxOperand *, int64_t, int64_t)) {
    int64_t lines = AMX_PANEL;
    while (lines > AMX_STRIP && count < (int64_t)threads * lines) lines /= 2;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t at = 0; at < count; at += lines)
        pack(packed + amx_packed(at, o->inner), o, first + at,
             count - at < lines ? count - at : lines);
}

/* Each panel is packed by who multiplies with it, and stays in its second cache if it fits. */
static void run_panels(Cpu *cpu, const Plan *plan, int threads) {
    const AmxOperand *left = &plan->left, *right = &plan->right;
    size_t bytes =
        amx_scratch_bytes() + (size_t)amx_packed(AMX_PANEL, right->inner) * sizeof(uint16_t);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
    for (int64_t col = 0; col < right->rows; col += AMX_PANEL) {
        int64_t cols = right->rows - col < AMX_PANEL ? right->rows - col : AMX_PANEL;
        char *memory = scratch_need(&cpu->products[omp_get_thread_num()], bytes);
        uint16_t *packed = (uint16_t *)(memory + amx_scratch_bytes());
        amx_pack_right(packed, right, col, cols);
        amx_multiply(memory, &plan->result, left, 0, left->rows, packed, right->inner, col, cols);
    }
}

/* All threads pack a group of panels, then take blocks of rows of it, panel by panel. */
static void run_blocks(Cpu *cpu, const Plan *plan, int threads, uint16_t *packed, int64_t group) {
    const AmxOperand *left = &plan->left, *right = &plan->right;
    int64_t panel_elements = amx_packed(AMX_PANEL, right->inner), rows = AMX_BLOCK;
    while (rows > LEAST_ROWS &&
           group * ((left->rows + rows - 1) / rows) < (int64_t)threads * TASKS_PER_THREAD)
        rows /= 2;
    int64_t blocks = (left->rows + rows - 1) / rows;
    for (int64_t col = 0; col < right->rows; col += group * AMX_PANEL) {
        int64_t cols =
            right->rows - col < group * AMX_PANEL ? right->rows - col : group * AMX_PANEL;
        pack_parallel(threads, packed, right, col, cols, amx_pack_right);
        int64_t tasks = (cols + AMX_PANEL - 1) / AMX_PANEL * blocks;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
        for (int64_t task = 0; task < tasks; task++) {
            int64_t panel = task / blocks, row = task % blocks * rows, from = panel * AMX_PANEL;
            void *scratch = scratch_need(&cpu->products[omp_get_thread_num()], amx_scratch_bytes());
            amx_multiply(scratch, &plan->result, left, row,
                         left->rows - row < rows ? left->rows - row : rows,
                         packed + panel * panel_elements, right->inner, col + from,
                         cols - from < AMX_PANEL ? cols - from : AMX_PANEL);
        }
    }
}

void amx_product_parallel(Exec *ex, const Product *p, int threads) {
    Cpu *cpu = cpu_of(ex);
    Plan plan = plan_of(p);
    AmxOperand *left = &plan.left, *right = &plan.right;
    bool pack_left = left->layout == AMX_INNER_FIRST;
    int64_t panels = (right->rows + AMX_PANEL - 1) / AMX_PANEL;
    bool whole_panels = panels >= (int64_t)threads * PANELS_PER_THREAD ||
                        (left->rows <= FEW_ROWS && panels >= threads);
    int64_t group = GROUP_ELEMENTS * (int64_t)threads / amx_packed(AMX_PANEL, right->inner);
    group = group < 1 ? 1 : group > panels ? panels : group;
    int64_t lines = right->rows < group * AMX_PANEL ? right->rows : group * AMX_PANEL,
            right_elements = whole_panels ? 0 : amx_packed(lines, right->inner),
            left_elements = pack_left ? amx_packed(left->rows, left->inner) : 0;
    uint16_t *packed =
        scratch_need(&cpu->packed, (size_t)(right_elements + left_elements) * sizeof(uint16_t));
    if (pack_left) {
        pack_parallel(threads, packed + right_elements, left, 0, left->rows, amx_pack_left);
        left->data = packed + right_elements;
        left->layout = AMX_PACKED;
    }
    if (whole_panels)
        run_panels(cpu, &plan, threads);
    else
        run_blocks(cpu, &plan, threads, packed, group);
}
