/* Numbers, angles and names as code has them, and the identity of a part. */
#include "cad/language/names.h"
#include "cad/language/number.h"
#include "core/rng.h"
#include "tests/cad/cad_fixture.h"

typedef struct NumberGolden {
    int count;
    double x[3];
    const char *text;
} NumberGolden;

#include "tests/cad/number_golden.inc"

TEST(numbers_are_printed_as_numpy_prints_them) {
    int count = (int)(sizeof number_golden / sizeof *number_golden);
    for (int i = 0; i < count; i++) {
        const NumberGolden *row = &number_golden[i];
        Buf text = {0};
        if (row->count == 1)
            number_text(&text, row->x[0], CODE_NUMPY);
        else
            numbers_text(&text, row->x, row->count, CODE_NUMPY);
        ASSERT_TEXT(buf_cstr(&text), row->text);
        buf_free(&text);
    }
    printf("%d arrays and scalars\n", count);
}

TEST(angles_are_printed_as_python_prints_them) {
    for (size_t i = 0; i < sizeof angle_golden / sizeof *angle_golden; i++) {
        Buf text = {0};
        angle_text(&text, angle_golden[i].x[0], CODE_NUMPY);
        ASSERT_TEXT(buf_cstr(&text), angle_golden[i].text);
        buf_free(&text);
    }
}

TEST(exact_angles_are_fractions_of_pi_only_where_they_are_exactly) {
    static const struct {
        double angle;
        const char *text;
    } cases[] = {{M_PI / 2, "np.pi/2"},
                 {-M_PI / 3, "-np.pi/3"},
                 {M_PI / 2 + 1e-12, "1.5707963267958966"},
                 {-2, "-2.0"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Buf text = {0};
        angle_text(&text, cases[i].angle, CODE_EXACT);
        ASSERT_TEXT(buf_cstr(&text), cases[i].text);
        buf_free(&text);
    }
}

/* Each name begins all those before it. */
TEST(every_name_keeps_its_number) {
    enum { COUNT = 400 };
    Names names = {0};
    char name[COUNT + 1];
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < COUNT; i++) {
            memset(name, 'a', sizeof name);
            name[COUNT - i] = 0;
            ASSERT_INT(names_find(&names, name, strlen(name)), ==, i);
            ASSERT_TEXT(names_text(&names, i), name);
        }
    names_free(&names);
}

TEST(plain_numbers_are_short_and_exact_ones_come_back) {
    static const struct {
        double x;
        const char *plain, *exact;
    } cases[] = {{50, "50", "50.0"},
                 {12.5, "12.5", "12.5"},
                 {-0.70710678118654757, "-0.7071", "-0.7071067811865476"},
                 {0, "0", "0.0"},
                 {-0.0, "0", "-0.0"},
                 {-1e-9, "0", "-1e-09"},
                 {0.1 + 0.2, "0.3", "0.30000000000000004"},
                 {1e22, "10000000000000000000000", "1e+22"},
                 {123456.78949, "123456.7895", "123456.78949"},
                 {1e-5, "0", "1e-05"}, /* by repr() of Python */
                 {-0.00012345, "-0.0001", "-0.00012345"},
                 {0.0001, "0.0001", "0.0001"},
                 {9999999999999998.0, "9999999999999998", "9999999999999998.0"},
                 {1e16, "10000000000000000", "1e+16"},
                 {5e-324, "0", "5e-324"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Buf text = {0};
        number_text(&text, cases[i].x, CODE_PLAIN);
        ASSERT_TEXT(buf_cstr(&text), cases[i].plain);
        buf_clear(&text);
        number_text(&text, cases[i].x, CODE_EXACT);
        ASSERT_TEXT(buf_cstr(&text), cases[i].exact);
        buf_free(&text);
    }
    Rng rng;
    rng_open(&rng, 11, RNG_TEST, 0);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = rng_u64(&rng);
        double x;
        memcpy(&x, &bits, sizeof x);
        if (!isfinite(x)) continue;
        Buf text = {0};
        number_text(&text, x, CODE_EXACT);
        ASSERT(strtod(buf_cstr(&text), NULL) == x, "%s is not %.17g", buf_cstr(&text), x);
        buf_free(&text);
    }
}

TEST(the_hash_is_of_the_part_and_not_of_its_spelling) {
    CadProgram a = parsed(block);
    Buf plain = {0};
    code_emit(&plain, &a, CODE_PLAIN);
    CadProgram b = parsed(buf_cstr(&plain));
    ASSERT_TRUE(program_hash(&a) == program_hash(&b));
    b.extrudes[2].extent_one += 1e-6; /* below what is written */
    ASSERT_TRUE(program_hash(&a) == program_hash(&b));
    b.extrudes[2].extent_one += 1e-3;
    ASSERT_TRUE(program_hash(&a) != program_hash(&b));
    program_free(&a);
    program_free(&b);
    buf_free(&plain);
}
