/* OpenECAD code: blocks, lexer, parser, interpreter, validator; and what was read, printed, is read
 * again as the same. */
#include "cad/language/profile.h"
#include "tests/cad/cad_fixture.h"
#include "tests/cad/parts.h"
#include "tests/fuzz/fuzz.h"

/* Code that was printed exactly is a program, and prints the same where it was sound: the gap of a
 * loop that is not closed is another one after its curves were put in order. */
static void print_and_read(const CadProgram *program, bool sound) {
    Buf first = {0}, second = {0};
    CadProgram again;
    code_emit(&first, program, CODE_EXACT);
    if (first.size <= CODE_SIZE_MAX) {
        ASSERT_OK(code_parse(&again, buf_cstr(&first), first.size, "printed", NULL));
        code_emit(&second, &again, CODE_EXACT);
        if (sound) ASSERT_TEXT(buf_cstr(&second), buf_cstr(&first));
        program_free(&again);
    }
    buf_free(&first);
    buf_free(&second);
}

void fuzz_one(const uint8_t *data, size_t size) {
    CadProgram program;
    CodeError error;
    Err err = code_parse(&program, (const char *)data, size, "input", &error);
    if (err != OK) {
        ASSERT_TRUE(error.message[0] && error.line > 0 && error.column > 0);
        ASSERT_TRUE(!program.extrudes);
        return;
    }
    print_and_read(&program, program_validate(&program) == OK);
    Buf text = {0};
    code_emit(&text, &program, CODE_NUMPY);
    code_emit(&text, &program, CODE_PLAIN);
    buf_free(&text);
    (void)program_hash(&program);
    (void)program_complexity(&program);
    for (int i = 0; i < program.count; i++) program_find_reference(&program, i);
    program_free(&program);
}

static void seed_program(CadProgram *program, CodeNumbers numbers) {
    fuzz_seed_text(emitted(program, numbers));
    program_free(program);
}

void fuzz_seeds(void) {
    static const char *const snippets[] = {
        "import numpy as np\nx = np.pi / 2 + -3e-5 * (2 - 1.)\ny = [1, [2, 3], 'a', True, None]\n",
        "Curves0_0, Loops0 = [], []\n(a, b) = 1, 2\n[c] = [3]\n",
        "Here it is:\n```python\nx = 1\n```\nor\n~~~\ny = add_line(start=[0, 0], end=[1, "
        "1])\n~~~\n",
        "  a = [1,\n   2,  # so\n   3]; b = \\\n  4\n",
        "a = \"text\"\nb = a.c(d, e=1,)\n",
    };
    fuzz_seed_text(block);
    for (size_t i = 0; i < sizeof snippets / sizeof *snippets; i++) fuzz_seed_text(snippets[i]);
    CadProgram program = flange_program();
    seed_program(&program, CODE_NUMPY);
    for (uint64_t i = 0; i < 12; i++) {
        program = random_program(1, i);
        seed_program(&program, (CodeNumbers)(i % 3));
        program = wild_program(1, i);
        seed_program(&program, CODE_EXACT);
    }
}
