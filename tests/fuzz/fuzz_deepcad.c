/* DeepCAD's JSON: a program of it, printed, is a program. */
#include "cad/language/code.h"
#include "data/import/deepcad.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/deepcad_fixture.h"

void fuzz_one(const uint8_t *data, size_t size) {
    Json *root;
    CadProgram program;
    DeepcadInfo info;
    if (js_parse(&root, (const char *)data, size, "input") != OK) return;
    if (deepcad_parse(&program, root, "input", &info) == OK) {
        Buf text = {0};
        if (program_validate(&program) == OK) {
            CadProgram again;
            code_emit(&text, &program, CODE_EXACT);
            if (text.size <= CODE_SIZE_MAX) {
                ASSERT_OK(code_parse(&again, buf_cstr(&text), text.size, "printed", NULL));
                program_free(&again);
            }
        }
        code_emit(&text, &program, CODE_NUMPY);
        buf_free(&text);
    } else {
        ASSERT_TRUE(!program.extrudes);
    }
    program_free(&program);
    deepcad_info_free(&info);
    js_free(&root);
}

static void seed(Json *root) {
    Buf text = {0};
    js_print(&text, root, JSON_ONE_LINE, 6);
    fuzz_seed(buf_cstr(&text), text.size);
    buf_free(&text);
    js_free(&root);
}

void fuzz_seeds(void) {
    seed(part_file());
    seed(empty_file());
    Json *root = empty_file(), *profiles = add_sketch(root, "S", vec3(0, 0, 0), right, up, front);
    add_arc(add_loop(profiles, "P"), 0, 0, 0.01, 0, 2 * M_PI, false);
    use_profile(add_extrude(root, "E", NEW_BODY, SYMMETRIC, 0.01, 0), "S", "P");
    seed(root);
}
