/* The weights of a model folder: an index and the files it names. Pieces: the index, two files. */
#include "model/files/weight_files.h"
#include "tests/fuzz/fuzz.h"

static const char *const files[] = {"model.safetensors.index.json", "a.safetensors",
                                    "model.safetensors", NULL};

void fuzz_one(const uint8_t *data, size_t size) {
    FuzzInput input = {data, data + size};
    WeightFiles *all;
    fuzz_folder(&input, files);
    if (weight_files_open(&all, test_folder()) != OK) return;
    for (int i = 0; i < weight_files_count(all); i++) {
        const SafeTensor *tensor = weight_files_at(all, i);
        ASSERT_TRUE(weight_files_find(all, tensor->name) == tensor);
        ASSERT_TRUE(weight_files_path(all, tensor) != NULL);
    }
    weight_files_close(&all);
}

static void append_file(Buf *seed, const char *name) {
    Buf file = {0};
    char header[128];
    uint64_t size = (uint64_t)snprintf(
        header, sizeof header, "{\"%s\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}",
        name);
    buf_append(&file, &size, sizeof size);
    buf_text(&file, header);
    buf_append(&file, "abcd", 4);
    fuzz_piece_append(seed, file.data, file.size);
    buf_free(&file);
}

static void seed(const char *index) {
    Buf bytes = {0};
    fuzz_piece_append(&bytes, index, strlen(index));
    append_file(&bytes, "one");
    append_file(&bytes, "two");
    fuzz_seed(bytes.data, bytes.size);
    buf_free(&bytes);
}

void fuzz_seeds(void) {
    seed("{\"metadata\":{\"total_size\":8},\"weight_map\":{\"one\":\"a.safetensors\",\"two\":"
         "\"model.safetensors\"}}");
    seed("{\"weight_map\":{\"one\":\"a.safetensors\"}}");
    seed("");
}
