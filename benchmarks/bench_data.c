/* How fast samples come: writing and reading shards, decoding, tokens, whole batches. One thread,
 * but for batches, which one, two, four and eight threads prepare. Prints one JSON object.
 *
 *     bench_data [SAMPLES]      (20000; pictures of 128 × 128 with line drawing, about 1 kB of CAD
 * code) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/json.h"
#include "core/rng.h"
#include "data/batches.h"
#include "image/image.h"

enum { SIDE = 128, STROKES = 30, STROKE_PIXELS = 50, BATCH = 32, SEED = 1 };

/* ---- fixtures ---- */

static void draw(Image *image, Rng *rng) {
    memset(image->pixels, 255, SIDE * SIDE);
    for (int s = 0; s < STROKES; s++) {
        double x = rng_uniform(rng) * SIDE, y = rng_uniform(rng) * SIDE;
        double angle = rng_uniform(rng) * 6.283185307179586;
        for (int k = 0; k < STROKE_PIXELS; k++) {
            int px = (int)(x + k * cos(angle)), py = (int)(y + k * sin(angle));
            if (px < 0 || px >= SIDE || py < 0 || py >= SIDE) break;
            image->pixels[py * SIDE + px] = (uint8_t)rng_range(rng, 0, 150);
        }
    }
}

static void write_code(Buf *out, Rng *rng) {
    buf_clear(out);
    buf_text(out, "SketchPlane0 = add_sketchplane(\n\torigin= [0., 0., 0.], normal= [0., 0., 1.], "
                  "x_axis= [1., 0., 0.])\nLoops0 = []\n");
    for (int loop = 0; loop < 3; loop++) {
        buf_format(out, "Curves0_%d = []\n", loop);
        for (int k = 0; k < 3; k++)
            buf_format(out, "Line0_%d_%d = add_line(start= [%d., %d.5], end= [ %d., -%d.25])\n",
                       loop, k, rng_range(rng, 1, 120), rng_range(rng, 1, 120),
                       rng_range(rng, 1, 120), rng_range(rng, 1, 120));
        buf_format(out, "Loop0_%d = add_loop(Curves0_%d)\n", loop, loop);
    }
    buf_format(out,
               "Profile0 = add_profile(Loops0)\nSketch0 = add_sketch(sketch_plane= SketchPlane0, "
               "profile= Profile0)\nExtrude0 = add_extrude(sketch= Sketch0,\n\toperation= 0, type= "
               "0, extent_one= %d., extent_two= 0.)\n",
               rng_range(rng, 1, 120));
}

/* ---- measuring ---- */

typedef struct Bench {
    int samples;
    char folder[PATH_SIZE], tokenizer[PATH_SIZE];
    Dataset *dataset;
    Tokenizer *t;
    Json *results;
    size_t next; /* sample that the tokenizer's training reads next */
    Buf memory;
} Bench;

static void report(Bench *bench, const char *key, double amount, double seconds) {
    js_set_number(bench->results, key, amount / seconds);
}

static Err bench_write(Bench *bench) {
    DatasetWriter *writer;
    Image image;
    Buf png = {0}, code = {0};
    Rng rng;
    double seconds = 0, bytes = 0;
    rng_open(&rng, SEED, RNG_TEST, 0);
    TRY(image_new(&image, SIDE, SIDE, 1));
    TRY(dataset_writer_open(&writer, bench->folder, "bench_data", 0));
    for (int i = 0; i < bench->samples; i++) {
        char id[32];
        snprintf(id, sizeof id, "bench-%07d", i);
        draw(&image, &rng);
        write_code(&code, &rng);
        buf_clear(&png);
        TRY(image_encode(&png, &image));
        Sample sample = {.image = png.data,
                         .image_size = png.size,
                         .code = code.data,
                         .code_size = code.size,
                         .id = id,
                         .source = "bench"};
        double start = clock_seconds();
        TRY(dataset_writer_add(writer, &sample));
        seconds += clock_seconds() - start;
        bytes += (double)(png.size + code.size);
    }
    double start = clock_seconds();
    TRY(dataset_writer_finish(&writer));
    seconds += clock_seconds() - start;
    image_free(&image);
    buf_free(&png);
    buf_free(&code);
    js_set_number(bench->results, "bytes_per_sample", bytes / bench->samples);
    report(bench, "write_samples_per_s", bench->samples, seconds);
    return OK;
}

static Err bench_read(Bench *bench) {
    Sample sample;
    size_t n = dataset_count(bench->dataset);
    double start = clock_seconds();
    for (size_t i = 0; i < n; i++)
        TRY(dataset_read(bench->dataset, rng_permute(SEED, i, n), &sample, &bench->memory));
    report(bench, "random_read_samples_per_s", (double)n, clock_seconds() - start);
    Image image;
    double decoding = 0;
    for (size_t i = 0; i < n; i++) {
        TRY(dataset_read(bench->dataset, i, &sample, &bench->memory));
        start = clock_seconds();
        TRY(image_decode(&image, sample.image, sample.image_size, 1, sample.id));
        decoding += clock_seconds() - start;
        image_free(&image);
    }
    report(bench, "png_decode_per_s", (double)n, decoding);
    return OK;
}

static Err next_code(void *context, const char **text, size_t *size) {
    Bench *bench = context;
    Sample sample;
    *text = NULL;
    if (bench->next == dataset_count(bench->dataset)) return OK;
    TRY(dataset_read(bench->dataset, bench->next++, &sample, &bench->memory));
    *text = sample.code;
    *size = sample.code_size;
    return OK;
}

static Err bench_tokenizer(Bench *bench) {
    TokenizerTraining training = {
        .vocab = 1024, .numbers = 300, .next = next_code, .context = bench};
    double start = clock_seconds(), seconds = 0, bytes = 0, tokens = 0;
    TRY(tokenizer_train(&training, bench->tokenizer));
    js_set_number(bench->results, "tokenizer_train_s", clock_seconds() - start);
    TRY(tokenizer_open(&bench->t, bench->tokenizer));
    TokenIds ids = {0};
    Sample sample;
    for (size_t i = 0; i < dataset_count(bench->dataset); i++) {
        TRY(dataset_read(bench->dataset, i, &sample, &bench->memory));
        ids.count = 0;
        start = clock_seconds();
        TRY(tokenizer_encode(bench->t, sample.code, sample.code_size, &ids));
        seconds += clock_seconds() - start;
        bytes += (double)sample.code_size;
        tokens += (double)ids.count;
    }
    token_ids_free(&ids);
    report(bench, "encode_mb_per_s", bytes * 1e-6, seconds);
    js_set_number(bench->results, "tokens_per_sample", tokens / bench->samples);
    return OK;
}

/* Batches by so many threads, reported as NAME and, from two threads on, NAME_2_workers, …. */
static Err bench_walk(Bench *bench, const char *name, BatchesOptions options, int count,
                      int workers) {
    Batches *batches;
    const Batch *batch;
    char key[64];
    snprintf(key, sizeof key, "%s", name);
    if (workers > 1) snprintf(key, sizeof key, "%s_%d_workers", name, workers);
    options.workers = workers;
    TRY(batches_open(&batches, &options));
    double start = clock_seconds();
    Err err = OK;
    for (int i = 0; i < count && err == OK; i++) err = batches_next(batches, &batch);
    report(bench, key, (double)count * options.size, clock_seconds() - start);
    batches_close(&batches);
    return err;
}

static Err bench_walks(Bench *bench, const char *name, const BatchesOptions *options, int count) {
    int processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
    for (int workers = 1; workers <= 8 && workers <= processors; workers *= 2)
        TRY(bench_walk(bench, name, *options, count, workers));
    return OK;
}

/* Drawings of 1024 × 768 in colour, brought to the 384 × 384 of SigLIP. */
static Err bench_large(Bench *bench) {
    enum { WIDTH = 1024, HEIGHT = 768, SAMPLES = 64, SIZE = 4 };
    char folder[PATH_SIZE];
    DatasetWriter *writer;
    Dataset *dataset = NULL;
    Buf png = {0};
    Rng rng;
    rng_open(&rng, SEED, RNG_TEST, 1);
    TRY(path_format(folder, "%s-large", bench->folder));
    TRY(dataset_writer_open(&writer, folder, "bench_data", 0));
    Err err = OK;
    for (int i = 0; i < SAMPLES && err == OK; i++) {
        Image image;
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        err = image_new(&image, WIDTH, HEIGHT, 3);
        if (err != OK) break;
        memset(image.pixels, 255, WIDTH * HEIGHT * 3);
        for (int s = 0; s < 40000; s++) image.pixels[rng_below(&rng, WIDTH * HEIGHT * 3)] = 0;
        buf_clear(&png);
        err = image_encode(&png, &image);
        image_free(&image);
        Sample sample = {.image = png.data,
                         .image_size = png.size,
                         .code = "z",
                         .code_size = 1,
                         .id = id,
                         .source = "bench"};
        if (err == OK) err = dataset_writer_add(writer, &sample);
    }
    buf_free(&png);
    if (err != OK) {
        dataset_writer_abandon(&writer);
        return err;
    }
    TRY(dataset_writer_finish(&writer));
    TRY(dataset_open(&dataset, folder));
    BatchesOptions options = {.sources = {{dataset, "large", 1, 0}},
                              .source_count = 1,
                              .tokenizer = bench->t,
                              .seed = SEED,
                              .size = SIZE,
                              .micro_batches = 1,
                              .micro_end = 1,
                              .max_length = 1200,
                              .image_size = 384,
                              .image_channels = 3,
                              .image_fit = PICTURE_CROP,
                              .image_rows = 16};
    err = bench_walks(bench, "large_pictures_per_s", &options, 3 * SAMPLES / SIZE);
    dataset_close(&dataset);
    return err;
}

static Err bench_batches(Bench *bench) {
    BatchesOptions options = {.sources = {{bench->dataset, "bench", 1, 0}},
                              .source_count = 1,
                              .tokenizer = bench->t,
                              .seed = SEED,
                              .size = BATCH,
                              .micro_batches = 1,
                              .micro_end = 1,
                              .max_length = 1200,
                              .image_size = SIDE,
                              .image_channels = 1,
                              .image_rows = 16,
                              .shift = 2};
    TRY(bench_walks(bench, "batch_samples_per_s", &options, bench->samples / BATCH));
    return bench_large(bench);
}

static Err run(Bench *bench) {
    TRY(bench_write(bench));
    TRY(dataset_open(&bench->dataset, bench->folder));
    TRY(bench_read(bench));
    TRY(bench_tokenizer(bench));
    return bench_batches(bench);
}

int main(int argc, char **argv) {
    char folder[] = "/tmp/cadvlm-bench-XXXXXX";
    Bench bench = {.samples = argc > 1 ? atoi(argv[1]) : 20000, .results = js_new_object()};
    if (bench.samples < BATCH || !mkdtemp(folder)) {
        fprintf(stderr, "usage: bench_data [SAMPLES of at least %d]\n", BATCH);
        return 2;
    }
    snprintf(bench.folder, sizeof bench.folder, "%s/shards", folder);
    snprintf(bench.tokenizer, sizeof bench.tokenizer, "%s/tokenizer.json", folder);
    Err err = run(&bench);
    if (err != OK) fprintf(stderr, "bench_data: %s\n", err_message());
    Buf text = {0};
    js_print(&text, bench.results, JSON_INDENTED, 4);
    puts(buf_cstr(&text));
    buf_free(&text);
    js_free(&bench.results);
    tokenizer_close(&bench.t);
    dataset_close(&bench.dataset);
    buf_free(&bench.memory);
    IGNORE(file_remove_tree(folder));
    return err_exit_code(err);
}
