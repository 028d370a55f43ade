/* CAD code to make tokens of, and the golden tokenizers of tests/golden/tokenizer. */
#ifndef CADVLM_TESTS_DATA_TOKENIZER_TEXTS_H
#define CADVLM_TESTS_DATA_TOKENIZER_TEXTS_H

#include "core/file.h"
#include "core/rng.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/support/test.h"

static inline void golden_path(char out[PATH_SIZE], const char *name) {
    snprintf(out, PATH_SIZE, "%s/tests/golden/tokenizer/%s", test_source_folder(), name);
}

/* CAD code of a plate with holes; sizes in the manner of OpenECAD. */
static inline void make_code(Buf *out, int i) {
    Rng rng;
    rng_open(&rng, 5, RNG_TEST, (uint64_t)i);
    buf_clear(out);
    int w = rng_range(&rng, 2, 30) * 5, d = rng_range(&rng, 10, 120), h = rng_range(&rng, 2, 40);
    buf_format(out,
               "SketchPlane0 = add_sketchplane(\n\torigin= [0., 0., 0.], normal= [0., 0., 1.], "
               "x_axis= [1., 0., 0.])\nLoops0 = []\nCurves0_0 = []\n");
    int x[5] = {0, w, w, 0, 0}, y[5] = {0, 0, d, d, 0};
    for (int k = 0; k < 4; k++)
        buf_format(out, "Line0_0_%d = add_line(start= [%d., %d.], end= [%d.5, -%d.])\n", k, x[k],
                   y[k], x[k + 1], y[k + 1]);
    buf_format(out, "Loop0_0 = add_loop(Curves0_0)\n");
    for (int k = 1; k <= rng_range(&rng, 0, 3); k++)
        buf_format(out,
                   "Curves0_%d = []\nCircle0_%d_0 = add_circle(center= [%d., %d.25], radius= "
                   "%d.)\nLoop0_%d = add_loop(Curves0_%d)\n",
                   k, k, rng_range(&rng, 1, w), rng_range(&rng, 1, d), rng_range(&rng, 1, 9), k, k);
    buf_format(out,
               "Profile0 = add_profile(Loops0)\nSketch0 = add_sketch(sketch_plane= SketchPlane0, "
               "profile= Profile0)\nExtrude0 = add_extrude(sketch= Sketch0,\n\toperation= 0, type= "
               "0, extent_one= %d., extent_two= 0.)\n",
               h);
}

enum { TEXTS = 300 };

static inline void check_round_trip(const Tokenizer *tokenizer, const char *text, size_t size) {
    TokenIds ids = {0};
    Buf back = {0};
    ASSERT_OK(tokenizer_encode(tokenizer, text, size, &ids));
    ASSERT_OK(tokenizer_decode(tokenizer, ids.ids, ids.count, &back));
    ASSERT(back.size == size && (!size || !memcmp(back.data, text, size)), "%.80s… became %.80s…",
           text, buf_cstr(&back));
    token_ids_free(&ids);
    buf_free(&back);
}

#endif
