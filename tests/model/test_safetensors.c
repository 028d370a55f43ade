/* safetensors files and folders of them, good and hostile. */
#include "core/file.h"
#include "core/json.h"
#include "model/files/dtype_convert.h"
#include "model/files/safetensors.h"
#include "model/files/weight_files.h"
#include "tests/support/test.h"

/* Writes a file without the care that file_write takes, which costs a sync. */
static void put_bytes(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    ASSERT_TRUE(file && fwrite(bytes, 1, size, file) == size);
    ASSERT_INT(fclose(file), ==, 0);
}

/* A file with this header and `body` zero bytes behind it. */
static void write_raw(const char *path, uint64_t length, const char *json, size_t body) {
    Buf bytes = {0};
    buf_append(&bytes, &length, 8);
    buf_text(&bytes, json);
    for (size_t i = 0; i < body; i++) buf_append(&bytes, "", 1);
    put_bytes(path, bytes.data, bytes.size);
    buf_free(&bytes);
}

static const float VALUES[6] = {1, -2, 0.5f, 3, 65504, -0.25f};

static SafeTensor matrix(const char *name, DType dtype, const void *data) {
    return (SafeTensor){
        .name = name, .dtype = dtype, .dims = 2, .shape = {2, 3}, .count = 6, .data = data};
}

/* Writes tensors of VALUES under these names (NULL ends them). */
static void write_file(const char *path, const char *const *names) {
    SafeTensor tensors[8];
    int count = 0;
    for (; names[count]; count++) tensors[count] = matrix(names[count], DT_F32, VALUES);
    ASSERT_OK(safetensors_write(path, tensors, count));
}

/* ---- numbers ---- */

TEST(every_f16_comes_back_as_it_was) {
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t half = (uint16_t)i, back;
        float wide;
        dtype_widen(&wide, &half, DT_F16, 1);
        dtype_narrow(&back, DT_F16, &wide, 1);
        if (wide == wide) ASSERT_INT(back, ==, half);
        int exponent = (int)(i >> 10 & 31), mantissa = (int)(i & 1023);
        double exact = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
        if (exponent < 31) ASSERT_REAL(wide, ==, i & 0x8000 ? -exact : exact);
        if (exponent == 31) ASSERT_TRUE(mantissa ? isnan(wide) : isinf(wide));
    }
}

TEST(rounding_is_to_nearest_and_ties_go_to_even) {
    static const struct {
        float x;
        uint16_t f16, bf16;
    } cases[] = {
        {1.0f, 0x3C00, 0x3F80},       {0x1.002p0f, 0x3C00, 0x3F80}, /* half way to the next f16: to
                                                                       even */
        {0x1.006p0f, 0x3C02, 0x3F80}, {0x1.01p0f, 0x3C04, 0x3F80},  /* half way to the next bf16 */
        {0x1.03p0f, 0x3C0C, 0x3F82},  {-65504, 0xFBFF, 0xC780},     {65519.99f, 0x7BFF, 0x4780},
        {65520, 0x7C00, 0x4780}, /* the first that is infinite */
        {0x1p-24f, 0x0001, 0x3380},   {0x1p-25f, 0x0000, 0x3300},   {0x1.8p-24f, 0x0002, 0x33C0},
        {-0.0f, 0x8000, 0x8000},      {INFINITY, 0x7C00, 0x7F80},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint16_t half;
        dtype_narrow(&half, DT_F16, &cases[i].x, 1);
        ASSERT(half == cases[i].f16, "f16 of %g: %04x", (double)cases[i].x, half);
        dtype_narrow(&half, DT_BF16, &cases[i].x, 1);
        ASSERT(half == cases[i].bf16, "bf16 of %g: %04x", (double)cases[i].x, half);
    }
}

TEST(the_first_number_beyond_a_limit_is_found_wherever_it_is) {
    enum { N = 1500 };
    float x[N] = {0};
    static const float bad[] = {NAN, INFINITY, -INFINITY, -65520};
    for (int at = 0; at < N; at += 37)
        for (int k = 0; k < 4; k++) {
            x[at] = bad[k];
            ASSERT_INT(dtype_first_beyond(x, N, dtype_limit(DT_F16)), ==, at);
            x[at] = 0;
        }
    ASSERT_INT(dtype_first_beyond(x, N, 0), ==, N);
    x[N - 1] = 65519;
    ASSERT_INT(dtype_first_beyond(x, N, dtype_limit(DT_F16)), ==, N);
}

/* ---- one file ---- */

TEST(hostile_files_are_refused_with_a_sentence) {
    static const struct {
        const char *json;
        size_t body;
        const char *part;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4,
         "tensor a has 4 bytes where its shape needs 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
         12, "tensors a and b overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
         12, "4 bytes before tensor b belong to none"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 12,
         "8 bytes at its end belong to no tensor"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,8]}}", 8,
         "tensor a is larger than the file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,8]}}", 8,
         "tensor a: a shape is not a whole number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,8]}}", 8,
         "not a whole number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,8]}}", 8,
         "not a whole number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
         "9 dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, "lies at -8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "lies at 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "truncated"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,16]}}", 8,
         "data_offsets are not two whole numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         4, "a tensor's name twice"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype"},
        {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype"},
        {"{\"a\":[]}", 0, "missing"},
        {"[]", 0, "no JSON object"},
        {"{\"a\":", 0, "not valid JSON"},
    };
    SafeTensors *file;
    const char *path = test_path("bad.safetensors");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_raw(path, strlen(cases[i].json), cases[i].json, cases[i].body);
        ASSERT_ERR(safetensors_open(&file, path), ERR_INPUT, cases[i].part);
        ASSERT_TRUE(file == NULL);
    }
    write_raw(path, 1ull << 63, "{}", 0);
    ASSERT_ERR(safetensors_open(&file, path), ERR_INPUT,
               "a header of 9223372036854775808 bytes in a file of 10");
    ASSERT_OK(file_write(path, "abc", 3));
    ASSERT_ERR(safetensors_open(&file, path), ERR_INPUT, "no safetensors file");
    ASSERT_OK(file_write(path, "", 0));
    ASSERT_ERR(safetensors_open(&file, path), ERR_INPUT, "no safetensors file");
    ASSERT_ERR(safetensors_open(&file, test_path("absent")), ERR_INPUT, "cannot open");
    ASSERT_ERR(safetensors_open(&file, test_folder()), ERR_INPUT, "not a regular file");
}

TEST(a_good_file_cut_anywhere_is_refused) {
    const char *whole = test_path("whole.safetensors"), *cut = test_path("cut.safetensors");
    write_file(whole, (const char *const[]){"a", "b", NULL});
    Buf bytes = {0};
    SafeTensors *file;
    ASSERT_OK(file_read(&bytes, whole, 1 << 20));
    for (size_t size = 0; size < bytes.size; size++) {
        put_bytes(cut, bytes.data, size);
        ASSERT_ERR(safetensors_open(&file, cut), ERR_INPUT, "cut.safetensors");
    }
    buf_free(&bytes);
}

TEST(a_file_with_any_bit_changed_is_refused_or_safe_to_read) {
    const char *whole = test_path("whole.safetensors"), *broken = test_path("broken.safetensors");
    write_file(whole, (const char *const[]){"a", "b", NULL});
    Buf bytes = {0};
    ASSERT_OK(file_read(&bytes, whole, 1 << 20));
    for (size_t at = 0; at < bytes.size; at++)
        for (int bit = 0; bit < 8; bit++) {
            SafeTensors *file;
            bytes.data[at] ^= (char)(1 << bit);
            put_bytes(broken, bytes.data, bytes.size);
            bytes.data[at] ^= (char)(1 << bit);
            if (safetensors_open(&file, broken) != OK) continue;
            unsigned sum = 0; /* the sanitizer watches */
            for (int i = 0; i < safetensors_count(file); i++) {
                const SafeTensor *t = safetensors_at(file, i);
                for (size_t k = 0; k < t->bytes; k++) sum += ((const unsigned char *)t->data)[k];
            }
            ASSERT_INT(sum, !=, 1);
            safetensors_close(&file);
        }
    buf_free(&bytes);
}

TEST(tensors_of_other_types_are_listed_and_not_taken_for_weights) {
    static const char json[] =
        "{\"ids\":{\"dtype\":\"I64\",\"shape\":[1,2],\"data_offsets\":[0,16]},"
        "\"mask\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[16,19]},"
        "\"new\":{\"dtype\":\"F4\",\"shape\":[10],\"data_offsets\":[19,24]},"
        "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[24,28]},"
        "\"n\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[28,32]}}";
    const char *path = test_path("types.safetensors");
    char shape[SHAPE_TEXT];
    SafeTensors *file;
    write_raw(path, strlen(json), json, 32);
    ASSERT_OK(safetensors_open(&file, path));
    ASSERT_INT(safetensors_count(file), ==, 5);
    const SafeTensor *ids = safetensors_find(file, "ids"), *w = safetensors_find(file, "w"),
                     *n = safetensors_find(file, "n");
    ASSERT_TRUE(!ids->readable && w->readable && n->readable);
    ASSERT_TEXT(ids->type, "I64");
    ASSERT_TEXT(safetensors_shape(shape, ids), "[1, 2]");
    ASSERT_TEXT(safetensors_shape(shape, n), "[]");
    ASSERT_OK(safetensors_need_floats(w, path));
    ASSERT_ERR(safetensors_need_floats(ids, path), ERR_INPUT, "ids has numbers of type I64");
    ASSERT_ERR(safetensors_need_floats(n, path), ERR_INPUT, "type I32");
    ASSERT_TRUE(safetensors_find(file, "other") == NULL);
    safetensors_close(&file);
}

TEST(what_is_written_piece_by_piece_is_what_is_written_at_once) {
    static const char mask[3] = {1, 0, 1};
    uint16_t halves[6];
    dtype_narrow(halves, DT_F16, VALUES, 6);
    SafeTensor tensors[] = {
        matrix("b", DT_F32, VALUES),
        matrix("a", DT_F16, halves),
        {.name = "mask", .type = "BOOL", .dims = 1, .shape = {3}, .bytes = 3, .data = mask}};
    const char *once = test_path("once.safetensors"), *pieces = test_path("pieces.safetensors");
    ASSERT_OK(safetensors_write(once, tensors, 3));
    SafeTensorsWriter writer;
    ASSERT_OK(safetensors_writer_open(&writer, pieces, tensors, 3));
    ASSERT_OK(safetensors_writer_add(&writer, VALUES, 20));
    ASSERT_OK(safetensors_writer_add(&writer, VALUES + 5, 4));
    ASSERT_OK(safetensors_writer_add(&writer, halves, 12));
    ASSERT_OK(safetensors_writer_add(&writer, mask, 3));
    ASSERT_TRUE(!file_exists(pieces)); /* until it is whole */
    ASSERT_OK(safetensors_writer_finish(&writer));
    Buf x = {0}, y = {0};
    ASSERT_OK(file_read(&x, once, 4096));
    ASSERT_OK(file_read(&y, pieces, 4096));
    ASSERT_INT(x.size, ==, y.size);
    ASSERT_INT(memcmp(x.data, y.data, x.size), ==, 0);
    buf_free(&x);
    buf_free(&y);

    SafeTensors *file;
    ASSERT_OK(safetensors_open(&file, once));
    const SafeTensor *a = safetensors_find(file, "a");
    ASSERT_INT(a->bytes, ==, 12);
    ASSERT_INT(memcmp(a->data, halves, 12), ==, 0);
    ASSERT_TEXT(safetensors_find(file, "mask")->type, "BOOL");
    safetensors_close(&file);

    ASSERT_OK(safetensors_writer_open(&writer, test_path("never"), tensors, 1));
    ASSERT_OK(safetensors_writer_add(&writer, VALUES, 4));
    safetensors_writer_abandon(&writer);
    ASSERT_TRUE(!file_exists(test_path("never")));
}

/* ---- folders ---- */

static const char *folder_of(const char *name) {
    const char *path = test_path(name);
    ASSERT_OK(file_make_directories(path));
    return path;
}

static const char *in_folder(const char *folder, const char *name) {
    static char path[4][PATH_SIZE];
    static int turn;
    turn = (turn + 1) % 4;
    ASSERT_OK(path_join(path[turn], folder, name));
    return path[turn];
}

static void write_text(const char *folder, const char *name, const char *text) {
    ASSERT_OK(file_write(in_folder(folder, name), text, strlen(text)));
}

#define INDEX "model.safetensors.index.json"

TEST(shards_are_one_set_of_tensors) {
    WeightFiles *files;
    const char *folder = folder_of("shards");
    write_file(in_folder(folder, "model-1.safetensors"), (const char *const[]){"a", "c", NULL});
    write_file(in_folder(folder, "model-2.safetensors"), (const char *const[]){"b", NULL});
    write_text(folder, INDEX,
               "{\"metadata\":{\"total_size\":72},\"weight_map\":{\"a\":\"model-1.safetensors\","
               "\"b\":\"model-2.safetensors\",\"c\":\"model-1.safetensors\"}}");
    ASSERT_OK(weight_files_open(&files, folder));
    ASSERT_INT(weight_files_count(files), ==, 3);
    ASSERT_INT(weight_files_bytes(files), ==, 72);
    ASSERT_TEXT(weight_files_at(files, 1)->name, "b");
    ASSERT_CONTAINS(weight_files_path(files, weight_files_find(files, "b")), "model-2");
    ASSERT_INT(memcmp(weight_files_find(files, "c")->data, VALUES, sizeof VALUES), ==, 0);
    ASSERT_TRUE(weight_files_find(files, "d") == NULL);
    weight_files_close(&files);
}

TEST(an_index_that_is_wrong_is_refused) {
    static const struct {
        const char *map, *part;
    } cases[] = {
        {"\"a\":\"../shards/model-1.safetensors\"", "names \"../shards/model-1.safetensors\""},
        {"\"a\":\"/etc/passwd\"", "as a shard"},
        {"\"a\":\"..\"", "as a shard"},
        {"\"a\":\"pytorch_model.bin\"", "plain name of a .safetensors file"},
        {"\"a\":7", "is no text"},
        {"\"a\":\"model-9.safetensors\"", "model-9.safetensors is missing"},
        {"\"a\":\"model-1.safetensors\",\"z\":\"model-1.safetensors\"", "z is not in"},
        {"\"a\":\"model-1.safetensors\",\"b\":\"model-1.safetensors\"", "b is not in"},
        {"\"a\":\"model-1.safetensors\",\"b\":\"model-3.safetensors\"", "a is in"},
        {"", "names no tensor"},
    };
    const char *folder = folder_of("wrong");
    write_file(in_folder(folder, "model-1.safetensors"), (const char *const[]){"a", NULL});
    write_file(in_folder(folder, "model-2.safetensors"), (const char *const[]){"b", NULL});
    write_file(in_folder(folder, "model-3.safetensors"), (const char *const[]){"a", "b", NULL});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        WeightFiles *files;
        Buf text = {0};
        buf_format(&text, "{\"weight_map\":{%s}}", cases[i].map);
        write_text(folder, INDEX, buf_cstr(&text));
        buf_free(&text);
        ASSERT_ERR(weight_files_open(&files, folder), ERR_INPUT, cases[i].part);
        ASSERT_TRUE(files == NULL);
    }
    WeightFiles *files;
    write_text(folder, INDEX, "{}");
    ASSERT_ERR(weight_files_open(&files, folder), ERR_INPUT, "weight_map");
    write_text(folder, INDEX, "[1,");
    ASSERT_ERR(weight_files_open(&files, folder), ERR_INPUT, "JSON");
}

TEST(a_run_of_tinyllava_is_read_under_the_published_names) {
    WeightFiles *files;
    const char *folder = folder_of("run");
    ASSERT_OK(file_make_directories(in_folder(folder, "language_model")));
    ASSERT_OK(file_make_directories(in_folder(folder, "vision_tower")));
    ASSERT_OK(file_make_directories(in_folder(folder, "connector")));
    write_file(in_folder(folder, "language_model/model.safetensors"),
               (const char *const[]){"transformer.layers.0.attn.qkv_proj.base_layer.weight",
                                     "language_model.transformer.norm.weight", NULL});
    write_file(in_folder(folder, "vision_tower/model.safetensors"),
               (const char *const[]){"vision_model.head.probe",
                                     "_vision_tower.vision_model.post_layernorm.bias", NULL});
    write_file(in_folder(folder, "connector/model.safetensors"),
               (const char *const[]){"_connector.0.weight", NULL});
    ASSERT_OK(weight_files_open(&files, folder));
    static const char *const names[] = {
        "connector._connector.0.weight",
        "language_model.transformer.layers.0.attn.qkv_proj.weight",
        "language_model.transformer.norm.weight",
        "vision_tower._vision_tower.vision_model.head.probe",
        "vision_tower._vision_tower.vision_model.post_layernorm.bias",
    };
    ASSERT_INT(weight_files_count(files), ==, 5);
    for (int i = 0; i < 5; i++) ASSERT_TEXT(weight_files_at(files, i)->name, names[i]);
    weight_files_close(&files);
}

TEST(pickles_are_not_opened_and_the_command_to_convert_them_is_said) {
    WeightFiles *files;
    const char *folder = folder_of("pickled");
    char command[PATH_SIZE];
    write_text(folder, "pytorch_model.bin", "never read");
    snprintf(command, sizeof command, "python3 tools/bin_to_safetensors.py %s", folder);
    ASSERT_ERR(weight_files_open(&files, folder), ERR_INPUT, command);

    const char *run = folder_of("pickled-run");
    ASSERT_OK(file_make_directories(in_folder(run, "language_model")));
    ASSERT_OK(file_make_directories(in_folder(run, "vision_tower")));
    ASSERT_OK(file_make_directories(in_folder(run, "connector")));
    write_file(in_folder(run, "language_model/model.safetensors"),
               (const char *const[]){"a", NULL});
    write_text(run, "vision_tower/pytorch_model.bin", "never read");
    snprintf(command, sizeof command, "python3 tools/bin_to_safetensors.py %s", run);
    ASSERT_ERR(weight_files_open(&files, run), ERR_INPUT, command);
}

TEST(a_folder_without_a_model_says_what_is_expected) {
    WeightFiles *files;
    ASSERT_ERR(weight_files_open(&files, folder_of("empty")), ERR_INPUT,
               "has no weights: model.safetensors");
    ASSERT_ERR(weight_files_open(&files, test_path("absent")), ERR_INPUT, "is no folder");
    const char *adapter = folder_of("only-an-adapter");
    write_text(adapter, "adapter_config.json", "{}");
    ASSERT_ERR(weight_files_open(&files, adapter), ERR_INPUT, "holds an adapter and no model");
}
