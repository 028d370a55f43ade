/* cad: what is no OpenECAD code, and nearly is. */
#include "core/rng.h"
#include "tests/cad/cad_fixture.h"

/* Parses; what is a program must be written and read back as the same one. */
static bool survives(const char *code, size_t size) {
    CadProgram program, again;
    CodeError error;
    Err err = code_parse(&program, code, size, "fuzz.py", &error);
    if (err != OK) {
        ASSERT_TRUE(err == ERR_INPUT && error.message[0] && error.line >= 1 && error.column >= 1);
        return false;
    }
    bool valid = program_validate(&program) == OK;
    Buf text = {0};
    code_emit(&text, &program, CODE_EXACT);
    ASSERT_OK(code_parse(&again, buf_cstr(&text), text.size, "again.py", NULL));
    if (valid) ASSERT_TEXT(emitted(&again, CODE_EXACT), buf_cstr(&text));
    for (CodeNumbers numbers = CODE_NUMPY; numbers <= CODE_PLAIN; numbers++) {
        buf_clear(&text);
        code_emit(&text, &program, numbers);
    }
    buf_free(&text);
    program_free(&program);
    program_free(&again);
    return true;
}

/* Pieces that reach further than single bytes. */
static const char *const pieces[] = {"np.pi",
                                     "1e999",
                                     "-0.",
                                     "[",
                                     "]",
                                     "(",
                                     ")",
                                     ", ",
                                     "= ",
                                     "\n",
                                     "\t",
                                     "#",
                                     "```",
                                     "'",
                                     "True",
                                     "add_loop(",
                                     "add_arc(",
                                     "Line0_0_1",
                                     "Loops0",
                                     "Curves0_0",
                                     ".append(",
                                     "[0., 0.]",
                                     "Extrude0",
                                     "reverse=",
                                     "angle= ",
                                     "\"line\"",
                                     "1e-300",
                                     "1e9",
                                     "9999.9999",
                                     "0",
                                     "import",
                                     "\\\n",
                                     "\r",
                                     ";",
                                     "*",
                                     "/0",
                                     "-",
                                     "extent_two",
                                     "None",
                                     "\x80",
                                     "sketch_size=",
                                     "10000"};

static void mutate(Buf *code, Rng *rng) {
    size_t at = rng_below(rng, code->size + 1);
    size_t length = rng_below(rng, 30);
    if (at + length > code->size) length = code->size - at;
    Buf made = {0};
    buf_append(&made, code->data, at);
    switch (rng_below(rng, 12)) {
    case 0: break; /* removed */
    case 1:        /* doubled */
        buf_append(&made, code->data + at, length);
        buf_append(&made, code->data + at, length);
        break;
    case 2: { /* another byte */
        char byte = (char)rng_below(rng, 256);
        buf_append(&made, &byte, 1);
        length = length > 0;
        break;
    }
    case 3: /* a piece put in */
        buf_text(&made, pieces[rng_below(rng, sizeof pieces / sizeof *pieces)]);
        length = 0;
        break;
    default: /* a digit replaced, which keeps it a program */
        while (at < code->size && !(code->data[at] >= '0' && code->data[at] <= '9')) at++;
        made.size = 0;
        buf_append(&made, code->data, at);
        length = at < code->size;
        if (length) buf_format(&made, "%d", rng_range(rng, 0, 9));
        break;
    case 4: { /* a line moved here from elsewhere */
        size_t from = rng_below(rng, code->size);
        while (from && code->data[from - 1] != '\n') from--;
        const char *end = memchr(code->data + from, '\n', code->size - from);
        while (at && at < code->size && code->data[at - 1] != '\n') at--;
        made.size = 0;
        buf_append(&made, code->data, at);
        buf_append(&made, code->data + from, end ? (size_t)(end + 1 - code->data) - from : 0);
        length = 0;
        break;
    }
    }
    buf_append(&made, code->data + at + length, code->size - at - length);
    buf_free(code);
    *code = made;
}

/* CADVLM_FUZZ: how many programs instead; CADVLM_FUZZ_SEED: which. */
TEST(twenty_thousand_mutated_programs_never_crash) {
    const char *count_text = getenv("CADVLM_FUZZ"), *seed = getenv("CADVLM_FUZZ_SEED");
    int count = count_text ? atoi(count_text) : 20000, programs = 0;
    for (int i = 0; i < count; i++) {
        Rng rng;
        rng_open(&rng, seed ? strtoull(seed, NULL, 10) : 1, RNG_TEST, (uint64_t)i);
        Buf code = {0};
        buf_text(&code, i % 3 == 0 ? SMALL : block);
        for (int m = 0; m < 1 + i % 4; m++) mutate(&code, &rng);
        programs += survives(buf_cstr(&code), code.size);
        buf_free(&code);
    }
    printf("%d of %d are still programs\n", programs, count);
    ASSERT_INT(programs, >, count / 20);
    ASSERT_INT(programs, <, count * 9 / 10);
}

TEST(random_bytes_never_crash) {
    Rng rng;
    rng_open(&rng, 2, RNG_TEST, 0);
    static const char signs[] = "a=[](),.+-*/0123e'\n #";
    char bytes[512];
    for (int i = 0; i < 5000; i++) {
        size_t size = rng_below(&rng, sizeof bytes);
        for (size_t k = 0; k < size; k++)
            bytes[k] = i % 2 ? (char)rng_below(&rng, 256) : signs[rng_below(&rng, sizeof signs)];
        survives(bytes, size);
    }
}
