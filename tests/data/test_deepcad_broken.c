/* data/import: files that are no DeepCAD construction sequence, or a broken one. */
#include "cad/language/code.h"
#include "core/file.h"
#include "core/rng.h"
#include "data/import/deepcad.h"
#include "tests/support/deepcad_fixture.h"
#include "tests/support/test.h"

/* Changes one thing of the made file and expects a sentence. */
#define ASSERT_BROKEN(root, part)                                                                  \
    do {                                                                                           \
        CadProgram program_;                                                                       \
        DeepcadInfo info_;                                                                         \
        ASSERT_ERR(deepcad_parse(&program_, root, "part.json", &info_), ERR_INPUT, part);          \
        ASSERT_INT(program_.count, ==, 0);                                                         \
        deepcad_info_free(&info_);                                                                 \
        js_free(&root);                                                                            \
    } while (0)

static Json *entity(Json *root, const char *id) {
    return member(member(root, "entities"), id);
}

TEST(broken_files_give_a_sentence) {
    Json *root = js_new_array();
    ASSERT_BROKEN(root, "part.json: \"entities\" is missing");
    root = part_file();
    js_set(root, "entities", js_new_integer(3));
    ASSERT_BROKEN(root, "\"entities\" is a number where an object is expected");
    root = part_file();
    js_set(root, "sequence", js_new_array());
    ASSERT_BROKEN(root, "no extrude, so no solid");
    root = part_file();
    add_to_sequence(root, "E9", "ExtrudeFeature");
    ASSERT_BROKEN(root, "entity \"E9\" is not in the file");
    root = part_file();
    add_to_sequence(root, "S0", "ExtrudeFeature");
    ASSERT_BROKEN(root, "entity \"S0\" is of type Sketch, not ExtrudeFeature");
    root = part_file();
    js_set_text(entity(root, "E1"), "operation", "LoftFeatureOperation");
    ASSERT_BROKEN(root, "extrude \"E1\": \"operation\" is \"LoftFeatureOperation\"");
    root = part_file();
    js_set(entity(root, "E0"), "extent_one", js_new_null());
    ASSERT_BROKEN(root, "\"extent_one\" is null where an object is expected");
    root = part_file();
    use_profile(member(entity(root, "E0"), "profiles"), "E0", "P0"); /* itself as its sketch */
    ASSERT_BROKEN(root, "entity \"E0\" is of type ExtrudeFeature, not Sketch");
    root = part_file();
    use_profile(member(entity(root, "E0"), "profiles"), "S0", "P7");
    ASSERT_BROKEN(root, "sketch \"S0\" has no profile \"P7\"");
    root = part_file();
    js_set(member(entity(root, "S0"), "transform"), "x_axis", point_json(0, 2, 0));
    ASSERT_BROKEN(root, "the x axis [0, 1, 0] is parallel to the normal");
    root = part_file();
    js_set(member(entity(root, "S0"), "transform"), "y_axis", point_json(0, 0, -1));
    ASSERT_BROKEN(root, "y_axis [0, 0, -1] is not z_axis × x_axis");
    root = part_file();
    js_set(member(entity(root, "S0"), "transform"), "origin", point_json(1e306, 0, 0));
    ASSERT_BROKEN(root, "\"x\" is too large");
    root = part_file();
    Json *loop = add_loop(member(entity(root, "S0"), "profiles"), "P0");
    add_line(loop, 0, 0, 0.1, 0);
    add_line(loop, 0.1, 0, 0.1, 0.1);
    ASSERT_BROKEN(root, "the loop is not closed: it starts at [0, 0] and ends at [100, 100] mm");
    root = part_file();
    loop = add_loop(member(entity(root, "S0"), "profiles"), "P0");
    add_line(loop, 0, 0, 0.1, 0);
    add_line(loop, 0.2, 0, 0.1, 0.1);
    ASSERT_BROKEN(root, "no curve continues from");
    root = part_file();
    loop = add_loop(member(entity(root, "S0"), "profiles"), "P0");
    add_circle(loop, 0, 0, 0.1);
    add_line(loop, 0, 0, 0.1, 0);
    ASSERT_BROKEN(root, "a circle among 2 curves");
    root = part_file();
    loop = add_loop(member(entity(root, "S0"), "profiles"), "P0");
    add_circle(loop, 0, 0, 0.1);
    js_set_text((Json *)js_at(loop, 0), "type", "Ellipse3D");
    ASSERT_BROKEN(root, "loop 2, curve 0: a curve of type \"Ellipse3D\"");
    root = part_file();
    while (js_count(js_get(root, "sequence")) < 4097) add_to_sequence(root, "S0", "Sketch");
    ASSERT_BROKEN(root, "a sequence of 4097 features; 4096 are the most");
}

/* The object `at` ("extent_one distance") below an extrude, without that key. */
static Json *without(const char *at, const char *key) {
    Json *root = part_file(), *object = entity(root, "E0"), *copy = js_new_object();
    char path[64], *step = NULL;
    Json *owner = member(root, "entities");
    const char *name = "E0";
    snprintf(path, sizeof path, "%s", at);
    for (char *next = strtok_r(path, " ", &step); next; next = strtok_r(NULL, " ", &step)) {
        owner = object;
        object = member(object, next);
        name = next;
    }
    const char *each;
    JsonIter iter = js_iter(object);
    for (const Json *value; (value = js_next(&iter, &each));)
        if (strcmp(each, key) != 0) js_set(copy, each, js_copy(value));
    js_set(owner, name, copy);
    return root;
}

TEST(what_is_missing_is_named_with_whose_it_is) {
    static const struct {
        const char *at, *key, *says;
    } cases[] = {
        {"", "type", "extrude \"E0\": entity \"E0\": \"type\" is missing"},
        {"", "extent_one", "extrude \"E0\": \"extent_one\" is missing"},
        {"start_extent", "type", "extrude \"E0\", start_extent: \"type\" is missing"},
        {"extent_one", "type", "extrude \"E0\", extent_one: \"type\" is missing"},
        {"extent_one", "distance", "extrude \"E0\", extent_one: \"distance\" is missing"},
        {"extent_one distance", "value",
         "extrude \"E0\", extent_one, distance: \"value\" is missing"},
        {"extent_one taper_angle", "value",
         "extrude \"E0\", extent_one, taper_angle: \"value\" is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Json *root = without(cases[i].at, cases[i].key);
        ASSERT_BROKEN(root, cases[i].says);
    }
    Json *root = part_file(), *untyped = js_new_object();
    js_set(member(root, "entities"), "S0", untyped);
    ASSERT_BROKEN(root, "extrude \"E0\": entity \"S0\": \"type\" is missing");
    root = part_file();
    js_set_text(member(entity(root, "E0"), "extent_one"), "type", "ToEntityExtentDefinition");
    ASSERT_BROKEN(root, "extrude \"E0\", extent_one: \"type\" is \"ToEntityExtentDefinition\"");
}

/* ---- designs of others ---- */

static void mark_timeline(Json *root) {
    js_set(root, "timeline", js_new_array());
}
static void mark_metadata(Json *root) {
    Json *metadata = js_new_object();
    js_set_text(metadata, "component_name", "part");
    js_set(root, "metadata", metadata);
}
static void mark_properties(Json *root) {
    js_set_integer(member(root, "properties"), "body_count", 1);
}
static void mark_sequence(Json *root) {
    js_set_text((Json *)js_at(js_get(root, "sequence"), 0), "curve", "c");
}
static void mark_sketch(Json *root) {
    js_set(entity(root, "S2"), "constraints", js_new_object());
}
static void mark_plane(Json *root) {
    js_set_text(member(entity(root, "S1"), "reference_plane"), "type", "ConstructionPlane");
}
static void mark_axis(Json *root) {
    Json *axis = member(member(entity(root, "S0"), "transform"), "x_axis");
    js_set_text(axis, "type", "Vector3D");
}
static void mark_curve(Json *root) {
    const Json *loops = js_get(js_get(js_get(entity(root, "S1"), "profiles"), "P"), "loops");
    const Json *curve = js_at(js_get(js_at(loops, 0), "profile_curves"), 0);
    js_set_text((Json *)js_get(curve, "center_point"), "type", "Point3D");
}
static void mark_feature(Json *root) {
    js_set(entity(root, "E2"), "bodies", js_new_object());
}
static void mark_extent(Json *root) {
    js_set_bool(member(entity(root, "E1"), "extent_one"), "is_full_length", true);
}

/* Nearly DeepCAD's form, but in centimetres: any of its keys shows it. */
TEST(designs_of_fusion_360_are_refused_by_name) {
    static const struct {
        void (*mark)(Json *root);
        const char *sign;
    } cases[] = {
        {mark_timeline, "timeline"},     {mark_metadata, "component_name"},
        {mark_properties, "body_count"}, {mark_sequence, "curve"},
        {mark_sketch, "constraints"},    {mark_plane, "reference_plane"},
        {mark_axis, "Vector3D"},         {mark_curve, "Point3D"},
        {mark_feature, "bodies"},        {mark_extent, "is_full_length"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Json *root = part_file();
        CadProgram program;
        char says[64];
        cases[i].mark(root);
        snprintf(says, sizeof says, "part.json is a Fusion 360 design, as its \"%s\" shows",
                 cases[i].sign);
        ASSERT_ERR(deepcad_parse(&program, root, "part.json", NULL), ERR_UNSUPPORTED, says);
        ASSERT_INT(program.count, ==, 0);
        js_free(&root);
    }
    /* what the form has beyond DeepCAD's is no obstacle to saying so */
    Json *root = part_file();
    CadProgram program;
    mark_timeline(root);
    js_set(root, "sequence", js_new_null());
    ASSERT_ERR(deepcad_parse(&program, root, "part.json", NULL), ERR_UNSUPPORTED, "Fusion 360");
    js_free(&root);
}

TEST(real_designs_of_fusion_360_are_refused_by_name) {
    static const char *const names[] = {"Couch", "SingleSketchExtrude",
                                        "SingleSketchExtrude_Invalid"};
    const char *folder = test_samples();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_SIZE];
        CadProgram program;
        ASSERT_OK(path_format(path, "%s/fusion360/%s.json", folder, names[i]));
        ASSERT_ERR(deepcad_read(&program, path, NULL), ERR_UNSUPPORTED, "is a Fusion 360 design");
    }
}

TEST(tapered_sides_are_unsupported) {
    Json *root = part_file();
    js_set_number(member(member(entity(root, "E0"), "extent_one"), "taper_angle"), "value", 0.1);
    CadProgram program;
    ASSERT_ERR(deepcad_parse(&program, root, "part.json", NULL), ERR_UNSUPPORTED, "tapered by 0.1");
    js_free(&root);
}

/* Whatever follows from text: a program that reads back, or a sentence; never a crash. */
static bool convert_text(const char *text, size_t size) {
    Json *root = NULL;
    CadProgram program;
    DeepcadInfo info;
    if (js_parse(&root, text, size, "cut.json") != OK) return false;
    Err err = deepcad_parse(&program, root, "cut.json", &info);
    js_free(&root);
    deepcad_info_free(&info);
    ASSERT_TRUE(err == OK || err_message()[0]);
    if (err != OK) return false;
    Buf code = {0};
    code_emit(&code, &program, CODE_EXACT);
    IGNORE(program_validate(&program));
    buf_free(&code);
    program_free(&program);
    return true;
}

static void cut_everywhere(const char *text, size_t size, size_t step) {
    int whole = 0, cuts = 0;
    for (size_t cut = 0; cut < size; cut += step, cuts++) whole += convert_text(text, cut);
    ASSERT_INT(whole, ==, 0);
    printf("%d cuts, none of them a file\n", cuts);
}

TEST(files_cut_short_give_a_sentence) {
    Json *root = part_file();
    Buf text = {0};
    js_print(&text, root, JSON_ONE_LINE, 17);
    js_free(&root);
    cut_everywhere(buf_cstr(&text), text.size, 7);
    buf_free(&text);
}

/* Replaces, removes or doubles values all over the tree, then converts. */
static void mutate(Json *value, Rng *rng, int depth) {
    size_t count = js_count(value);
    if (!count || depth > 12) return;
    size_t index = rng_below(rng, count);
    const char *key = NULL;
    Json *child = (Json *)(js_type(value) == JSON_KIND_ARRAY ? js_at(value, index)
                                                             : js_member(value, index, &key));
    if (js_count(child) && rng_below(rng, 10)) {
        mutate(child, rng, depth + 1);
        return;
    }
    static const double numbers[] = {0, -1, 1e-9, 1e9, 1e300, 0.01, -0.04, 3.14159};
    Json *made = NULL;
    switch (rng_below(rng, 7)) {
    case 0: made = js_new_null(); break;
    case 1: made = js_new_text("Line3D"); break;
    case 2: made = js_new_array(); break;
    case 3: made = js_new_object(); break;
    case 4: made = js_new_integer(-7); break;
    default: made = js_new_number(numbers[rng_below(rng, 8)]); break;
    }
    if (js_type(value) == JSON_KIND_ARRAY) {
        js_push(value, rng_below(rng, 2) ? js_copy(child) : made);
        if (js_at(value, js_count(value) - 1) != made) js_free(&made);
    } else {
        js_set(value, key, made);
    }
}

TEST(three_thousand_mutated_files_never_crash) {
    int converted_count = 0, count = 3000;
    for (int i = 0; i < count; i++) {
        Rng rng;
        rng_open(&rng, 5, RNG_TEST, (uint64_t)i);
        Json *root = part_file();
        for (uint64_t m = 0; m < 1 + (uint64_t)i % 4; m++) mutate(root, &rng, 0);
        Buf text = {0};
        js_print(&text, root, JSON_ONE_LINE, 17);
        js_free(&root);
        converted_count += convert_text(buf_cstr(&text), text.size);
        buf_free(&text);
    }
    printf("%d of %d still convert\n", converted_count, count);
    ASSERT_INT(converted_count, >, 100);
    ASSERT_INT(converted_count, <, count - 100);
}

TEST(real_files_cut_short_give_a_sentence) {
    char folder[PATH_SIZE], path[PATH_SIZE];
    FileNames names;
    ASSERT_OK(path_join(folder, test_samples(), "deepcad"));
    ASSERT_OK(file_list(&names, folder));
    ASSERT_TRUE(names.count >= 10);
    for (size_t i = 0; i < names.count; i++) {
        Buf text = {0};
        if (strcmp(path_extension(names.names[i]), ".json") != 0) continue;
        ASSERT_OK(path_join(path, folder, names.names[i]));
        ASSERT_OK(file_read(&text, path, DEEPCAD_FILE_MAX));
        cut_everywhere(buf_cstr(&text), text.size, 997);
        buf_free(&text);
    }
    file_names_free(&names);
}
