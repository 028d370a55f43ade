/* A safetensors file: header, names, shapes, ranges. */
#include "model/files/dtype_convert.h"
#include "model/files/safetensors.h"
#include "tests/fuzz/fuzz.h"

/* All that a reader may touch of a tensor. */
static void use(const SafeTensors *file, const SafeTensor *tensor) {
    enum { NUMBERS_MAX = 256 };
    float wide[NUMBERS_MAX];
    char shape[SHAPE_TEXT];
    Buf bytes = {0};
    buf_append(&bytes, tensor->data, tensor->bytes);
    buf_free(&bytes);
    (void)safetensors_shape(shape, tensor);
    ASSERT_TRUE(safetensors_find(file, tensor->name) == tensor);
    if (safetensors_need_floats(tensor, "input") == OK)
        dtype_widen(wide, tensor->data, tensor->dtype,
                    tensor->count < NUMBERS_MAX ? tensor->count : NUMBERS_MAX);
}

void fuzz_one(const uint8_t *data, size_t size) {
    SafeTensors *file;
    if (safetensors_open(&file, fuzz_file("input.safetensors", data, size)) != OK) return;
    HashStream *stream = hash_open();
    for (int i = 0; i < safetensors_count(file); i++) {
        use(file, safetensors_at(file, i));
        safetensors_hash(stream, safetensors_at(file, i));
    }
    (void)hash_value(stream);
    hash_close(&stream);
    safetensors_close(&file);
}

static void seed(const char *header, size_t data) {
    Buf bytes = {0};
    uint64_t size = strlen(header);
    buf_append(&bytes, &size, sizeof size);
    buf_text(&bytes, header);
    for (size_t i = 0; i < data; i++) buf_append(&bytes, "\x3f", 1);
    fuzz_seed(bytes.data, bytes.size);
    buf_free(&bytes);
}

void fuzz_seeds(void) {
    seed("{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_"
         "offsets\":[0,24]},\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}}   ",
         32);
    seed("{\"i\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},\"e\":{\"dtype\":\"F16\","
         "\"shape\":[0,7],\"data_offsets\":[8,8]}}",
         8);
    seed("{}", 0);
    seed("{\"x\":{\"dtype\":\"F8_E4M3\",\"shape\":[1,1,1,1,1,1,1,5],\"data_offsets\":[0,5]}}", 5);
}
