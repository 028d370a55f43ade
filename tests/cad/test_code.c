/* cad: OpenECAD code to programs and back. */
#include "cad/language/number.h"
#include "core/file.h"
#include "tests/cad/cad_fixture.h"

TEST(code_of_the_authors_round_trips_byte_for_byte) {
    CadProgram program = parsed(block);
    ASSERT_INT(program.count, ==, 3);
    ASSERT_INT(program.curve_count, ==, 7);
    ASSERT_INT(program_complexity(&program), ==, 13);
    ASSERT_OK(program_validate(&program));
    ASSERT_TEXT(emitted(&program, CODE_NUMPY), block);
    program_free(&program);
}

TEST(real_code_of_the_authors_round_trips_byte_for_byte) {
    const char *samples = test_samples();
    char path[PATH_SIZE];
    ASSERT_OK(path_format(path, "%s/openecad_v2/example01.py", samples));
    Buf text = {0};
    ASSERT_OK(file_read(&text, path, CODE_SIZE_MAX));
    CadProgram program = parsed(buf_cstr(&text));
    ASSERT_INT(program.count, ==, 4);
    ASSERT_OK(program_validate(&program));
    ASSERT_TEXT(emitted(&program, CODE_NUMPY), buf_cstr(&text));
    program_free(&program);
    buf_free(&text);
}

/* ---- the language ---- */

/* A complete program whose circle has the given radius expression. */
static Err parse_radius(const char *expression, double *radius, CodeError *error) {
    Buf code = {0};
    buf_format(&code,
               "P = add_sketchplane([0, 0, 0], [0, 0, 1], [1, 0, 0])\nLoops0 = []\nCurves0 = []\n"
               "Circle0 = add_circle([0, 0], %s)\nLoop0 = add_loop(Curves0)\n"
               "add_extrude(add_sketch(P, add_profile(Loops0)), 0, 0, 1, 0)\n",
               expression);
    CadProgram program;
    Err err = code_parse(&program, buf_cstr(&code), code.size, "radius.py", error);
    buf_free(&code);
    if (err == OK) *radius = program.extrudes[0].loops[0].curves[0].radius;
    program_free(&program);
    return err;
}

TEST(numbers_and_arithmetic_mean_what_python_means) {
    static const struct {
        const char *text;
        double value;
    } cases[] = {{"50", 50},
                 {"50.", 50},
                 {".5", 0.5},
                 {"1e-3", 1e-3},
                 {"1.25E+2", 125},
                 {"007.5", 7.5},
                 {"+3", 3},
                 {"--3", 3},
                 {"np.pi", M_PI},
                 {"numpy.pi/2", M_PI / 2},
                 {"3*np.pi/4", 3 * M_PI / 4},
                 {"2 + 3 * 4", 14},
                 {"(2 + 3) * 4", 20},
                 {"10 - 4 - 3", 3},
                 {"24 / 4 / 2", 3},
                 {"-(2 - 7)", 5},
                 {"2*-3 + 10", 4},
                 {"radius= 4", 4},
                 {"0.1 + 0.2", 0.1 + 0.2},
                 {"-7", 7}}; /* the size of a radius counts, not its sign */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double radius = 0;
        ASSERT_OK(parse_radius(cases[i].text, &radius, NULL));
        ASSERT(radius == cases[i].value, "%s is %.17g, not %.17g", cases[i].text, radius,
               cases[i].value);
    }
}

TEST(the_same_program_may_be_written_in_many_ways) {
    static const char *const manners[] = {
        "```python\n" SMALL "```",
        "Of course, here are the codes:\n```python\n" SMALL "```\nAnything else?",
        "Of course, here are the codes:\n```python\n" SMALL, /* cut before the end of the fence */
        SMALL "```\n",
        "```\n" SMALL "```",
        "\xEF\xBB\xBF" SMALL,
        "# a part\n\n   # indented comment\n" SMALL "\n\n# end",
        "import numpy as np\n" SMALL,
        SMALL_HEAD "Circle0_0_0 = add_circle(center=(1, 2), radius=3)\n"
                   "Loop0_0 = add_loop(Curves0_0)\n" SMALL_TAIL,
        SMALL_HEAD "Circle0_0_0 = add_circle(radius=3, center=np.array([1, 2,],))\n"
                   "Loop0_0 = add_loop(curves=Curves0_0)\n" SMALL_TAIL,
        SMALL_HEAD "Circle0_0_0 = add_circle(\n# where\n[1,\n\n2], \\\n 3)  # a comment\n"
                   "Loop0_0 = add_loop(Curves0_0)\n" SMALL_TAIL,
        SMALL_HEAD
        "Circle0_0_0 = add_circle([1,2], 3); Loop0_0 = add_loop(Curves0_0);\n" SMALL_TAIL,
        /* v1 appends in so many words, and means the same */
        SMALL_HEAD "Circle0_0_0 = add_circle([1,2], 3)\nCurves0_0.append(Circle0_0_0)\n"
                   "Loop0_0 = add_loop(Curves0_0)\nLoops0.append(Loop0_0)\n" SMALL_TAIL,
        /* names that are not collected need the append */
        SMALL_HEAD "c = add_circle([1,2], 3)\nCurves0_0.append(c)\n"
                   "outline = add_loop(Curves0_0)\nLoops0.append(outline)\n" SMALL_TAIL,
        SMALL_HEAD "c = add_circle([1,2], 3)\nLoops0 = [add_loop([c])]\n" SMALL_TAIL,
        /* code on the fence's own line, and what else may stand there */
        "Here is it: ```python " SMALL "```",
        "```" SMALL "```",
        "```python title=\"part.py\" linenums=\"1\"\n" SMALL "```",
        "```{.python .numberLines}\n" SMALL "```",
        "```python (OpenECAD)\n" SMALL "```",
        "```python Loops0, Curves0_0 = [], []\n" SMALL "```",
        "````python\r\n" SMALL "````\r\n",
        "````" SMALL "````",
        " " SMALL, /* as tokenizers leave it */
        /* the paper assigns both lists in one line */
        PLANE "Loops0, Curves0_0 = [], []\n" SMALL_LOOP SMALL_TAIL,
        PLANE "(Loops0, Curves0_0) = ([], [])\n" SMALL_LOOP SMALL_TAIL,
        PLANE "[Loops0, Curves0_0] = [[], []]\n" SMALL_LOOP SMALL_TAIL,
        PLANE "both = [], []\nLoops0, Curves0_0 = both\n" SMALL_LOOP SMALL_TAIL,
        SMALL_HEAD "x, y, r = 1, 2, 3\nCircle0_0_0, x = add_circle([x,y], r), 0\n"
                   "Loop0_0 = add_loop(Curves0_0)\n" SMALL_TAIL,
    };
    CadProgram reference = parsed(SMALL);
    char expected[2048];
    snprintf(expected, sizeof expected, "%s", emitted(&reference, CODE_EXACT));
    program_free(&reference);
    for (size_t i = 0; i < sizeof manners / sizeof *manners; i++) {
        CadProgram program = parsed(manners[i]);
        ASSERT_TEXT(emitted(&program, CODE_EXACT), expected);
        program_free(&program);
    }
    /* and with other line ends */
    Buf crlf = {0};
    for (const char *c = block; *c; c++)
        buf_append(&crlf, *c == '\n' ? "\r\n" : c, *c == '\n' ? 2 : 1);
    CadProgram program = parsed(buf_cstr(&crlf));
    ASSERT_TEXT(emitted(&program, CODE_NUMPY), block);
    program_free(&program);
    buf_free(&crlf);
}

/* `text` with `indent` before each of its lines. */
static Buf indented(const char *text, const char *indent) {
    Buf out = {0};
    for (const char *c = text; *c; c++) {
        if (c == text || c[-1] == '\n') buf_text(&out, indent);
        buf_append(&out, c, 1);
    }
    return out;
}

TEST(code_that_is_indented_as_a_whole_is_code) {
    static const char *const whole[] = {"1. The part:\n\n```python\n" SMALL "```\nDone.",
                                        "```python\n" SMALL "```", SMALL};
    CadProgram reference = parsed(SMALL);
    char expected[2048];
    snprintf(expected, sizeof expected, "%s", emitted(&reference, CODE_EXACT));
    program_free(&reference);
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        Buf spaces = indented(whole[i], "   "), tabs = indented(whole[i], "\t");
        CadProgram a = parsed(buf_cstr(&spaces)), b = parsed(buf_cstr(&tabs));
        ASSERT_TEXT(emitted(&a, CODE_EXACT), expected);
        ASSERT_TEXT(emitted(&b, CODE_EXACT), expected);
        program_free(&a);
        program_free(&b);
        buf_free(&spaces);
        buf_free(&tabs);
    }
}

/* A program of one cylinder that high. */
#define CYLINDER(height) SMALL "Extrude1 = add_extrude(Sketch0, 0, 0, " height ", 0)\n"

TEST(of_several_blocks_the_last_program_is_taken_and_said) {
    static const struct {
        const char *text, *says;
        double height; /* of the program that is meant */
    } cases[] = {
        {"```python\n" CYLINDER("7") "```", "", 7},
        {"```\npip install numpy\n```\nthen\n```python\n" CYLINDER("7") "```",
         "of 2 blocks of code the one from line 6 is the program", 7},
        {"```python\n" CYLINDER("7") "```\nIt is run so:\n```sh\npython part.py\n```\n",
         "of 2 blocks of code the one from line 2 is the program", 7},
        {"A:\n```python\n" CYLINDER("5") "```\nBetter:\n```python\n" CYLINDER("7") "```",
         "2 blocks of code are programs; the last of them, from line 15, was taken", 7},
        /* the second was cut short */
        {"A:\n```python\n" CYLINDER("5") "```\nBetter:\n```python\n" SMALL "Extrude1 = add_extr",
         "of 2 blocks of code the one from line 3 is the program", 5},
        /* a fence that only closes, and prose that names the function */
        {CYLINDER("7") "```\nadd_extrude makes the solid.", "", 7},
        {"add_extrude makes the solid:\n```\n" CYLINDER("7"), "", 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CadProgram program;
        CodeError error;
        ASSERT_OK(code_parse(&program, cases[i].text, strlen(cases[i].text), "answer", &error));
        ASSERT_TEXT(error.message, cases[i].says);
        ASSERT_TRUE(!error.line && !error.column && !err_message()[0]);
        ASSERT_REAL(program.extrudes[program.count - 1].extent_one, ==, cases[i].height);
        program_free(&program);
    }
}

/* Version 1 appends each line that version 2 has collected already. */
TEST(an_append_of_what_was_collected_is_no_second_one) {
    CadProgram program =
        parsed(SMALL_HEAD "Line0 = add_line([0,0],[4,0])\nCurves0_0.append(Line0)\n"
                          "Line1 = add_line([4,0],[0,3])\nCurves0_0.append(Line1)\n"
                          "Line2 = add_line([0,3],[0,0])\nCurves0_0.append(Line2)\n"
                          "Loop0 = add_loop(Curves0_0)\nLoops0.append(Loop0)\n" SMALL_TAIL);
    ASSERT_INT(program.curve_count, ==, 3);
    ASSERT_INT(program.extrudes[0].loop_count, ==, 1);
    ASSERT_OK(program_validate(&program));
    program_free(&program);
}

TEST(lines_without_length_leave_their_loop) {
    CadProgram program =
        parsed(SMALL_HEAD "Line0 = add_line([0,0],[4,0])\nLine1 = add_line([4,0],[4,0])\n"
                          "Line2 = add_line([4,0],[0,3])\nLine3 = add_line([0,3],[0,0])\n"
                          "Loop0_0 = add_loop(Curves0_0)\n" SMALL_TAIL);
    ASSERT_INT(program.curve_count, ==, 3);
    ASSERT_OK(program_validate(&program));
    program_free(&program);
}

TEST(an_angle_is_written_where_it_is_one) {
    CadProgram program = parsed(block);
    program.extrudes[2].ref.angle = 0.01;
    ASSERT_CONTAINS(emitted(&program, CODE_NUMPY), "angle = 0.01, reverse = True)");
    program.extrudes[2].ref.angle = 1e-11;
    ASSERT_CONTAINS(emitted(&program, CODE_NUMPY), "\"extent_one\", reverse = True)");
    ASSERT_CONTAINS(emitted(&program, CODE_EXACT), "angle = 1e-11, reverse = True)");
    program_free(&program);
}

/* By the lower left corners of their bounds, whatever the order of the code. */
TEST(loops_of_a_profile_are_sorted) {
    CadProgram program = parsed(
        PLANE
        "Loops0 = []\n"
        "Curves0 = []\nCircle0 = add_circle([5, 0], 1)\nLoop0 = add_loop(Curves0)\n"
        "Curves1 = []\nCircle1 = add_circle([-5, 2], 1)\nLoop1 = add_loop(Curves1)\n"
        "Curves2 = []\nCircle2 = add_circle([0, 0], 20)\nLoop2 = add_loop(Curves2)\n"
        "Curves3 = []\nCircle3 = add_circle([-5, -2], 1)\nLoop3 = add_loop(Curves3)\n" SMALL_TAIL);
    static const double x[] = {0, -5, -5, 5}, y[] = {0, -2, 2, 0};
    ASSERT_INT(program.extrudes[0].loop_count, ==, 4);
    for (int j = 0; j < 4; j++) {
        ASSERT_REAL(program.extrudes[0].loops[j].curves[0].center.x, ==, x[j]);
        ASSERT_REAL(program.extrudes[0].loops[j].curves[0].center.y, ==, y[j]);
    }
    program_free(&program);
}

typedef struct Fault {
    const char *code;
    int line, column;
    bool in_syntax;
    const char *message;
} Fault;

static void assert_faults(const Fault *faults, int count) {
    for (int i = 0; i < count; i++) {
        const Fault *f = &faults[i];
        CadProgram program;
        CodeError error;
        Err err = code_parse(&program, f->code, strlen(f->code), "model.py", &error);
        ASSERT(err == ERR_INPUT, "%s: no error", f->code);
        ASSERT(strstr(error.message, f->message), "%s: \"%s\" is not in \"%s\"", f->code,
               f->message, error.message);
        ASSERT(error.line == f->line && error.column == f->column, "%s: at %d:%d, not %d:%d: %s",
               f->code, error.line, error.column, f->line, f->column, error.message);
        ASSERT(error.in_syntax == f->in_syntax, "%s: in_syntax is %d", f->code, error.in_syntax);
        char start[64];
        snprintf(start, sizeof start, "model.py:%d:%d: ", f->line, f->column);
        ASSERT_CONTAINS(err_message(), start);
        ASSERT_INT(program.count, ==, 0);
        ASSERT_TRUE(!program.extrudes);
    }
}

TEST(syntax_errors_say_where_and_what) {
    static const Fault faults[] = {
        {"a = ", 1, 5, true, "expected a value, but found the end of the code"},
        {"a = \nb = 1", 1, 5, true, "expected a value, but found the end of the line"},
        {"a = [1, 2\nb = 3", 2, 1, true, "expected ',' or ']', but found 'b'"},
        {"a = [1, 2", 1, 10, true, "the code ends inside the bracket opened at line 1, column 5"},
        {"a = f(1, [2)", 1, 12, true, "expected ',' or ']', but found ')'"},
        {"a = 1 2", 1, 7, true, "expected the end of the line, but found '2'"},
        {"x = 5a", 1, 5, true, "a number that runs into 'a'"},
        {"x = 1e", 1, 5, true, "a number whose exponent has no digits"},
        {"x = 1e+", 1, 5, true, "a number whose exponent has no digits"},
        {"x = 1 ** 2", 1, 8, true, "expected a value, but found '*'"},
        {"x = 'abc", 1, 5, true, "a text that is not closed by '"},
        {"x = 'abc\n'", 1, 5, true, "a text that is not closed by '"},
        {"x = {1: 2}", 1, 5, true, "the character '{' has no meaning here"},
        {"x = \xC3\xA9", 1, 5, true, "the byte 0xC3 has no meaning"},
        {"f() = 1", 1, 1, true, "only a name can stand left of '='"},
        {"1 = 1", 1, 1, true, "only a name can stand left of '='"},
        {"f(a.b = 1)", 1, 7, true, "expected ',' or ')', but found '='"},
        {"for i in x:\n  y = 1", 1, 1, true, "'for': code is made of NAME = function("},
        {"a = 1\n  b = 2", 2, 3, true, "this line is indented, but continues no bracket"},
        {"Here is the code:\nx = 1", 1, 6, true, "expected the end of the line, but found 'is'"},
        {"a.1 = 2", 1, 2, true, "expected the end of the line, but found '.1'"},
        {"a. = 2", 1, 4, true, "expected a name after '.', but found '='"},
        {"```python\nx = \n```", 2, 5, true, "expected a value"},
        {"import\n", 1, 7, true, "expected the name of a module"},
        {"a = 1,", 1, 7, true, "expected a value, but found the end of the code"},
        {"a, f() = 1, 2", 1, 4, true, "only a name can stand left of '='"},
        {"[] = []", 1, 1, true, "only a name can stand left of '='"},
        {"a = b = 1", 1, 7, true, "expected the end of the line, but found '='"},
        {"  a = 1\n   b = 2", 2, 4, true, "this line is indented, but continues no bracket"},
        {"  a = 1\nb = 2\n  c = 3", 3, 3, true, "this line is indented"},
        {"\xFF\xFE"
         "a",
         1, 1, true, "the code is UTF-16 text; it must be saved as UTF-8"},
        /* of several blocks without a program the longest between fences is reported */
        {"Long prose before it\n```\na = [1\n```\n```\na = 1\n b = 2\n```\nand after", 7, 2, true,
         "this line is indented"},
        {"```python a = (1, 2\n```", 2, 1, true, "the bracket opened at line 1, column 15"},
    };
    assert_faults(faults, (int)(sizeof faults / sizeof *faults));
}

TEST(errors_of_meaning_say_where_and_what) {
    static const Fault faults[] = {
        {"", 1, 1, false, "the code has no add_extrude, so no solid"},
        {"x = 1\n", 1, 1, false, "the code has no add_extrude"},
        {"x = y", 1, 5, false, "'y' is not known"},
        {"x = 1\r\n\r\n\ry = z", 4, 5, false, "'z' is not known"},
        {"Curves0_0 = []\nx = Curve0_0", 2, 5, false, "did you mean 'Curves0_0'?"},
        {"x = add_lime([0,0],[1,1])", 1, 5, false, "did you mean 'add_line'?"},
        {"x = add_linee([0,0],[1,1])", 1, 5, false, "did you mean 'add_line'?"},
        {"x = add_lne([0,0],[1,1])", 1, 5, false, "did you mean 'add_line'?"},
        {"x = nan", 1, 5, false, "'nan' is not known"},
        {"x = np.nan", 1, 8, false, "np.nan is not understood"},
        {"x = np.inf", 1, 8, false, "np.inf is not understood"},
        {"x = 1e999", 1, 5, false, "the number 1e999 is too large"},
        {"x = 1e308 * 10", 1, 11, false, "1e+308 * 10 is too large"},
        {"x = 1 / (2 - 2)", 1, 7, false, "1 is divided by zero"},
        {"x = [1] + [2]", 1, 5, false, "only numbers can be calculated with, and this is a list"},
        {"x = -'a'", 1, 6, false, "only numbers can be calculated with, and this is a text"},
        {"x = add_line", 1, 5, false, "'add_line' is a function"},
        {"x = 1\ny = x(2)", 2, 5, false, "'x' is a number and cannot be called"},
        {"x = [](1)", 1, 5, false, "only a function can be called"},
        {"x = add_line([0,0])", 1, 5, false, "add_line: end is missing"},
        {"x = add_line([0,0], [1,1], [2,2])", 1, 28, false, "add_line takes 2 arguments, not more"},
        {"x = add_line([0,0], start=[1,1])", 1, 21, false, "add_line: start is given twice"},
        {"x = add_line([0,0], ent=[1,1])", 1, 21, false,
         "add_line has no 'ent'; did you mean 'end'?"},
        {"x = add_line(start=[0,0], [1,1])", 1, 27, true, "an argument without a name after"},
        {"x = add_line(0, [1,1])", 1, 14, false, "start must be a list of 2 numbers, not a number"},
        {"x = add_line([0,0,0], [1,1])", 1, 14, false, "a list of 2 numbers, not of 3"},
        {"x = add_line([0,'0'], [1,1])", 1, 14, false, "but element 1 is a text"},
        {"x = add_circle([0,0], '5')", 1, 23, false, "radius must be a number, not a text"},
        {"x = add_loop([])", 1, 14, false, "the list is empty"},
        {"x = add_loop([1])", 1, 14, false, "element 0 is a number, not a curve"},
        {"x = add_loop(3)", 1, 14, false, "curves must be a list, not a number"},
        {"x = add_profile([add_circle([0,0],1)])", 1, 17, false,
         "element 0 is a curve, not a loop"},
        {"Line0 = add_line([0,0],[1,1])", 1, 1, false,
         "Line0 has no list to go to: Curves0_0 = []"},
        {"x = add_loop([add_line([0,0],[0,0])])", 1, 5, false, "every line is shorter than"},
        {"x = add_sketchplane([0,0,0],[0,0,0],[1,0,0])", 1, 5, false,
         "the normal has no direction"},
        {"x = add_sketchplane([0,0,0],[0,0,1],[0,0,2])", 1, 5, false, "is parallel to the normal"},
        {"x = add_sketchplane([0,0,0],[0,0,1],[1,0,0],y_axis=[0,1,0])", 1, 52, false,
         "y_axis belongs to OpenECAD v1"},
        {SMALL "x = add_sketch(SketchPlane0, Profile0, sketch_position=[1,0,0])", 9, 56, false,
         "sketch_position belongs to OpenECAD v1"},
        {SMALL "x = add_sketch(SketchPlane0, Profile0, sketch_position=[0,0,1])", 9, 56, false,
         "sketch_position belongs to OpenECAD v1"},
        {SMALL "x = add_sketch(SketchPlane0, Profile0, sketch_size=0.5)", 9, 52, false,
         "sketch_size belongs to OpenECAD v1"},
        {SMALL "x = add_extrude(Sketch0, 4, 0, 1, 0)", 9, 26, false,
         "operation must be 0 (new body), 1 (join), 2 (cut) or 3 (intersect), not 4"},
        {SMALL "x = add_extrude(Sketch0, 0, 0.5, 1, 0)", 9, 29, false, "type must be 0 (one side)"},
        {SMALL "x = add_extrude(Profile0, 0, 0, 1, 0)", 9, 17, false,
         "sketch must be a sketch, not a profile"},
        {SMALL "x = add_sketchplane_ref(Extrude0, [0,0], 'lime')", 9, 42, false,
         "type is \"lime\""},
        {SMALL "x = add_sketchplane_ref(Extrude0, [0,0], 'line')", 9, 5, false,
         "type \"line\" needs a line"},
        {SMALL "x = add_sketchplane_ref(Extrude0, [0,0], 'line', Circle0_0_0)", 9, 50, false,
         "line must be made by add_line"},
        {SMALL "x = add_sketchplane_ref(Extrude0, [0,0], 'sameplane', reverse=[])", 9, 63, false,
         "reverse must be True or False, not a list"},
        {SMALL "x = add_sketchplane_ref(Extrude1, [0,0], 'sameplane')", 9, 25, false,
         "'Extrude1' is not known; did you mean 'Extrude0'?"},
        {"x = []\nx.pop(1)", 2, 3, false, "a list has no 'pop' to call"},
        {"import os", 1, 1, false, "only numpy can be imported, not 'os'"},
        {"a, b = 1", 1, 1, false, "2 names left of '=', but 1 value right of it"},
        {"a, b = [1, 2, 3]", 1, 1, false, "2 names left of '=', but 3 values right of it"},
        {"Curves0, Line0 = 1, add_line([0,0],[1,1])", 1, 10, false, "Line0 has no list to go to"},
    };
    assert_faults(faults, (int)(sizeof faults / sizeof *faults));
}

/* `head`, `count` times `part`, `tail`. */
static Buf repeated(const char *head, const char *part, int count, const char *tail) {
    Buf text = {0};
    buf_text(&text, head);
    for (int i = 0; i < count; i++) buf_text(&text, part);
    buf_text(&text, tail);
    return text;
}

static void assert_refused(Buf code, const char *message) {
    CadProgram program;
    ASSERT_ERR(code_parse(&program, buf_cstr(&code), code.size, "big.py", NULL), ERR_INPUT,
               message);
    buf_free(&code);
}

TEST(endless_code_is_refused_within_limits) {
    assert_refused(repeated("x = ", "[", 100000, ""), "brackets are nested deeper than 64");
    assert_refused(repeated("x = ", "(", 65, "1"), "brackets are nested deeper than 64");
    assert_refused(repeated("x = ", "-", 500000, "1"), "more than 64 signs in a row");
    assert_refused(repeated("x = 1", "+1", 300000, ""), "more than 64 parts or levels");
    assert_refused(repeated("x = np", ".a", 300000, ""), "more than 64 parts or levels");
    assert_refused(repeated("x = f", "()", 300000, ""), "more than 64 parts or levels");
    assert_refused(repeated("x = 1", "0", 200, ""), "a number of 201 characters");
    assert_refused(repeated("", "a=1\n", 100001, ""), "more than 100000 statements");
    assert_refused(repeated("", "a=1\n", 100000, ""),
                   "no add_extrude"); /* lines are no statements */
    assert_refused(repeated("", "a=1;", 100000, ""), "no add_extrude");
    assert_refused(repeated("", "```x\nadd_extrude\n", 60000, ""), "is a function");
    assert_refused(repeated("", "#", CODE_SIZE_MAX + 1, ""), "the code has 1048577 bytes");
    assert_refused(repeated("a = [", "1,", 400000, "]"), "no add_extrude");
    assert_refused(repeated("a = []\n", "a.append(a)\n", 1000, "x = add_loop(a)"),
                   "element 0 is a list, not a curve");
    assert_refused(repeated(SMALL, "Extrude0 = add_extrude(Sketch0, 0, 0, 10, 0)\n", 256, ""),
                   "beyond 256 extrudes or 65536 curves");
    /* one loop, used by many: what is written once must not grow without bounds */
    Buf code = repeated(SMALL_HEAD, "Circle0 = add_circle([0,0],1)\n", 4000, "");
    for (int i = 0; i < 500; i++) buf_text(&code, "Loop0 = add_loop(Curves0_0)\n");
    buf_text(&code, SMALL_TAIL);
    assert_refused(code, "is too many");
    code = repeated(SMALL_HEAD, "Circle0 = add_circle([0,0],1)\n", 4000,
                    "Loop0 = add_loop(Curves0_0)\n" SMALL_TAIL);
    for (int i = 0; i < 100; i++) buf_text(&code, "E = add_extrude(Sketch0, 0, 0, 10, 0)\n");
    assert_refused(code, "beyond 256 extrudes or 65536 curves");
}
