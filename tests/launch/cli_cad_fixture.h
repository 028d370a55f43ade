/* Files of parts, and the cad commands over them. */
#ifndef CADVLM_TESTS_LAUNCH_CLI_CAD_FIXTURE_H
#define CADVLM_TESTS_LAUNCH_CLI_CAD_FIXTURE_H

#include <stdarg.h>

#include "core/file.h"
#include "core/json.h"
#include "tests/support/deepcad_fixture.h"
#include "tests/support/test.h"

/* A path that stays through a test: test_path lends its few buffers in turn. */
static inline const char *kept_path(const char *name) {
    static char paths[64][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 64];
    snprintf(path, PATH_SIZE, "%s", test_path(name));
    return path;
}

static inline const char *put(const char *name, const char *text) {
    const char *path = kept_path(name);
    ASSERT_OK(file_write(path, text, strlen(text)));
    return path;
}

/* Standard output of a command as JSON; its exit code must be `code`. */
static inline Json *run_json(int code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline Json *run_json(int code, const char *format, ...) {
    char arguments[4 * PATH_SIZE];
    const char *output;
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    int found = test_run(&output, "./cadvlm %s --json 2>/dev/null", arguments);
    if (found != code) printf("%s\n%s\n", arguments, output);
    ASSERT_INT(found, ==, code);
    Json *root;
    ASSERT_OK(js_parse(&root, output, strlen(output), "output"));
    return root;
}

static inline double number(const Json *object, const char *key) {
    double value = (double)NAN;
    if (!js_number(js_get(object, key), &value)) printf("no number %s\n", key);
    return value;
}

static inline const char *text_of(const Json *object, const char *key) {
    const char *text = js_text(js_get(object, key), NULL);
    return text ? text : "(none)";
}

/* A block 80 × 20 × 30 mm with a hole, and a sketch that nothing uses; its sides lean by `taper`,
 * which is not supported. */
static inline const char *put_tapered(const char *name, double hole, double taper) {
    Json *root = empty_file();
    Json *profiles =
        add_sketch(root, "S", vec3(0, 0, 0), vec3(1, 0, 0), vec3(0, 0, 1), vec3(0, -1, 0));
    Json *loop = add_loop(profiles, "P");
    add_line(loop, -0.04, 0, 0.04, 0);
    add_line(loop, 0.04, 0, 0.04, 0.03);
    add_line(loop, 0.04, 0.03, -0.04, 0.03);
    add_line(loop, -0.04, 0.03, -0.04, 0);
    add_circle(add_loop(profiles, "P"), 0, 0.015, hole);
    use_profile(
        add_extrude(root, "E", "NewBodyFeatureOperation", "OneSideFeatureExtentType", 0.02, 0), "S",
        "P");
    add_sketch(root, "S2", vec3(0, 0, 0), vec3(1, 0, 0), vec3(0, 1, 0), vec3(0, 0, 1));
    Json *extent = member(member(member(root, "entities"), "E"), "extent_one");
    js_set_number(member(extent, "taper_angle"), "value", taper);
    const char *path = kept_path(name);
    ASSERT_OK(js_write(path, root));
    js_free(&root);
    return path;
}

#endif
