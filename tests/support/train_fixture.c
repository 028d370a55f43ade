#include "tests/support/train_fixture.h"

#include "cad/language/code.h"
#include "core/file.h"
#include "data/shard.h"
#include "data/synth/synth.h"
#include "data/tokenizer/tokenizer.h"
#include "image/image.h"
#include "tests/support/test.h"

enum { SIDE = 32 };

static void draw_code(Buf *code, unsigned long long seed, int index, int *complexity) {
    CadProgram program;
    ASSERT_OK(synth_part(&program, seed, (uint64_t)index, 0, SYNTH_CORNER));
    code_emit(code, &program, CODE_PLAIN);
    *complexity = program_complexity(&program);
    program_free(&program);
}

static void draw_picture(Buf *png, const Buf *code) {
    Image image;
    ASSERT_OK(image_new(&image, SIDE, SIDE, 1));
    memset(image.pixels, 255, SIDE * SIDE);
    /* Bars as long as some of the code's bytes say: a picture that goes with the code and no other.
     */
    for (int bar = 0; bar < SIDE / 2; bar++) {
        int length = (unsigned char)code->data[(size_t)bar * code->size / (SIDE / 2)] % SIDE;
        memset(image.pixels + (size_t)(2 * bar) * SIDE, 0, (size_t)length);
    }
    ASSERT_OK(image_encode(png, &image));
    image_free(&image);
}

void fixture_dataset(const char *path, int samples, unsigned long long seed) {
    DatasetWriter *writer;
    ASSERT_OK(dataset_writer_open(&writer, path, "made by a test", 0));
    for (int i = 0; i < samples; i++) {
        Buf code = {0}, png = {0};
        char id[32];
        Sample sample = {.prompt = "",
                         .id = id,
                         .source = "synth",
                         .split = i % 5 == 4 ? SPLIT_VAL : SPLIT_TRAIN};
        draw_code(&code, seed, i, &sample.complexity);
        draw_picture(&png, &code);
        snprintf(id, sizeof id, "part-%d", i);
        sample.code = code.data;
        sample.code_size = code.size;
        sample.image = png.data;
        sample.image_size = png.size;
        ASSERT_OK(dataset_writer_add(writer, &sample));
        buf_free(&code);
        buf_free(&png);
    }
    ASSERT_OK(dataset_writer_finish(&writer));
}

typedef struct Texts {
    Buf code;
    int next;
} Texts;

static Err next_text(void *context, const char **text, size_t *size) {
    Texts *texts = context;
    int complexity;
    *text = NULL;
    if (texts->next == 200) return OK;
    buf_clear(&texts->code);
    draw_code(&texts->code, 77, texts->next++, &complexity);
    *text = buf_cstr(&texts->code);
    *size = texts->code.size;
    return OK;
}

void fixture_tokenizer(const char *path) {
    Texts texts = {0};
    TokenizerTraining training = {
        .vocab = 560, .numbers = 200, .next = next_text, .context = &texts};
    ASSERT_OK(tokenizer_train(&training, path));
    buf_free(&texts.code);
}

void fixture_config(const char *path, const char *data, const char *tokenizer, const char *output,
                    const char *training, const char *extra) {
    static const char *const DEFAULTS[][2] = {{"per_device_batch_size", "3"},
                                              {"max_length", "400"},
                                              {"learning_rate", "3.0e-3"},
                                              {"warmup_steps", "2"},
                                              {"eval_samples", "6"}};
    Buf text = {0};
    buf_format(&text,
               "train_data: \"%s\"\ntokenizer: \"%s\"\noutput_dir: \"%s\"\n"
               "model:\n"
               "  vision: { image_size: 32, channels: 1, patch_size: 16, layers: 2, width: 32, "
               "heads: 2, mlp: 48, mean: 0.9, std: 0.3 }\n"
               "  connector: { norm: true }\n"
               "  llm: { layers: 2, width: 32, head_dim: 16, q_heads: 2, kv_heads: 1, ffn: 48 }\n"
               "vision: { drop_first_patch: false }\n"
               "tune: { llm: full, vision: full, connector: full }\n"
               "training: { ",
               data, tokenizer, output);
    for (size_t i = 0; i < sizeof DEFAULTS / sizeof DEFAULTS[0]; i++)
        if (!strstr(training, DEFAULTS[i][0])) /* nothing is given twice */
            buf_format(&text, "%s: %s, ", DEFAULTS[i][0], DEFAULTS[i][1]);
    buf_format(&text, "%s }\n%s\n", training, extra);
    ASSERT_OK(file_write(path, text.data, text.size));
    buf_free(&text);
}

const char *fixture_mpirun(int ranks) {
    static char command[128];
    /* MPI keeps memory to the end, which is no leak of ours. */
    snprintf(command, sizeof command,
             "mpirun --allow-run-as-root --oversubscribe --bind-to none -x "
             "ASAN_OPTIONS=detect_leaks=0 -n %d",
             ranks);
    return command;
}
