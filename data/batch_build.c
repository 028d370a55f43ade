/* Fills batches: rows, labels and pixels of one sample after the other. */
#include "data/batch_build.h"

#include <stdlib.h>
#include <string.h>

enum { WHITE = 255 };

Err batch_options_check(const BatchesOptions *o) {
    TRY(sample_rows_check(&(RowsOptions){o->tokenizer, o->template, o->system_prompt}));
    REQUIRE(o->image_channels == 1 || o->image_channels == 3, ERR_CONFIG,
            "pictures of %d channels; 1 or 3 are possible", o->image_channels);
    REQUIRE(o->image_size >= 1 && o->image_size <= IMAGE_SIDE_MAX, ERR_CONFIG,
            "pictures of %d pixels a side; 1 to %d are possible", o->image_size, IMAGE_SIDE_MAX);
    REQUIRE(o->image_rows >= 1, ERR_CONFIG, "%d rows a picture", o->image_rows);
    /* The picture, <bos>, one token of code and <eos>. */
    REQUIRE(o->max_length >= o->image_rows + 3, ERR_CONFIG,
            "max_length %d leaves no room for code behind the %d rows of a picture", o->max_length,
            o->image_rows);
    REQUIRE(o->shift >= 0 && o->shift < o->image_size, ERR_CONFIG,
            "a shift of %d pixels in pictures of %d", o->shift, o->image_size);
    return OK;
}

/* ---- memory ---- */

static size_t pixels_per_image(const BatchesOptions *o) {
    return (size_t)o->image_size * (size_t)o->image_size * (size_t)o->image_channels;
}

Err batch_buffer_new(BatchBuffer **out, const BatchesOptions *o, int samples) {
    *out = NULL;
    REQUIRE(samples >= 1 && samples <= INT32_MAX / o->max_length, ERR_CONFIG,
            "a batch of %d samples of up to %d rows", samples, o->max_length);
    BatchBuffer *b = calloc(1, sizeof *b);
    CHECK(b, "out of memory: a batch");
    size_t n = (size_t)samples, rows = n * (size_t)o->max_length;
    b->capacity = samples;
    b->ids = malloc(rows * sizeof *b->ids);
    b->positions = malloc(rows * sizeof *b->positions);
    b->starts = calloc(n + 1, sizeof *b->starts);
    b->label_rows = malloc(rows * sizeof *b->label_rows);
    b->targets = malloc(rows * sizeof *b->targets);
    b->pixels = malloc(n * pixels_per_image(o));
    b->samples_seen = malloc(n * sizeof *b->samples_seen);
    b->sample_ids = malloc(n * sizeof *b->sample_ids);
    b->datasets = malloc(n * sizeof *b->datasets);
    if (!b->ids || !b->positions || !b->starts || !b->label_rows || !b->targets || !b->pixels ||
        !b->samples_seen || !b->sample_ids || !b->datasets) {
        batch_buffer_free(&b);
        FAIL(ERR_MEMORY, "out of memory: a batch of %d samples of up to %d rows, pictures of %d²",
             samples, o->max_length, o->image_size);
    }
    b->batch = (Batch){.image_rows = o->image_rows,
                       .ids = b->ids,
                       .positions = b->positions,
                       .starts = b->starts,
                       .label_rows = b->label_rows,
                       .targets = b->targets,
                       .image_size = o->image_size,
                       .image_channels = o->image_channels,
                       .pixels = b->pixels,
                       .samples_seen = b->samples_seen,
                       .sample_ids = b->sample_ids,
                       .datasets = b->datasets};
    *out = b;
    return OK;
}

void batch_buffer_free(BatchBuffer **buffer) {
    BatchBuffer *b = *buffer;
    if (!b) return;
    free(b->ids);
    free(b->positions);
    free(b->starts);
    free(b->label_rows);
    free(b->targets);
    free(b->pixels);
    free(b->samples_seen);
    free(b->sample_ids);
    free(b->datasets);
    free(b);
    *buffer = NULL;
}

void batch_buffer_clear(BatchBuffer *buffer) {
    Batch *batch = &buffer->batch;
    batch->samples = batch->tokens = batch->labels = batch->images = batch->longest = 0;
    batch->overlong = batch->overlong_rows = 0;
}

void sample_scratch_free(SampleScratch *scratch) {
    buf_free(&scratch->bytes);
    sample_rows_free(&scratch->rows);
}

/* ---- one sample ---- */

static size_t count_rows(const BatchesOptions *o, const SampleRows *rows, size_t count) {
    size_t pictures = 0;
    for (size_t i = 0; i < count; i++) pictures += rows->ids.ids[i] == ROW_PICTURE;
    return count + pictures * ((size_t)o->image_rows - 1);
}

/* Sees to a sample with too many rows; *count: how many; *dropped: it is not to be appended. */
static Err fit_rows(const BatchesOptions *o, SampleRows *rows, int *count, bool *dropped) {
    size_t all = count_rows(o, rows, rows->ids.count), most = (size_t)o->max_length;
    *dropped = false;
    *count = all < INT32_MAX ? (int)all : INT32_MAX;
    if (all <= most) return OK;
    REQUIRE(o->overlong != OVERLONG_ERROR, ERR_INPUT,
            "%zu rows, max_length is %zu: raise it, or let overlong samples be dropped", all, most);
    *dropped = o->overlong == OVERLONG_DROP;
    if (*dropped) return OK;
    size_t asked = count_rows(o, rows, rows->answer);
    REQUIRE(asked < most, ERR_INPUT,
            "picture and prompt have %zu rows, max_length is %zu: no room for code", asked, most);
    rows->ids.count = rows->answer + (most - asked);
    return OK;
}

static void append_rows(BatchBuffer *buffer, const BatchesOptions *o, const SampleRows *rows) {
    Batch *batch = &buffer->batch;
    int32_t first = batch->tokens, row = first;
    buffer->starts[batch->samples] = first;
    for (size_t i = 0; i < rows->ids.count; i++) {
        int32_t id = rows->ids.ids[i];
        if (i >= rows->answer) {
            buffer->label_rows[batch->labels] = row - 1;
            buffer->targets[batch->labels] = id;
            batch->labels++;
        }
        int copies = id == ROW_PICTURE ? o->image_rows : 1;
        for (int k = 0; k < copies; k++, row++) {
            buffer->ids[row] = id == ROW_PICTURE ? -1 - (batch->images * o->image_rows + k) : id;
            buffer->positions[row] = row - first;
        }
    }
    batch->tokens = row;
    buffer->starts[++batch->samples] = row;
    if (row - first > batch->longest) batch->longest = row - first;
}

/* Copies the picture, moved right by dx and down by dy. */
static void append_pixels(BatchBuffer *buffer, const BatchesOptions *o, const Image *image, int dx,
                          int dy) {
    uint8_t *out = buffer->pixels + (size_t)buffer->batch.images * pixels_per_image(o);
    int side = o->image_size, channels = o->image_channels;
    size_t row_bytes = (size_t)side * (size_t)channels;
    memset(out, WHITE, pixels_per_image(o));
    int left = dx > 0 ? dx : 0, width = side - abs(dx);
    for (int y = dy > 0 ? dy : 0; y < side && y - dy < side; y++)
        memcpy(out + (size_t)y * row_bytes + (size_t)left * (size_t)channels,
               image->pixels + (size_t)(y - dy) * row_bytes +
                   (size_t)(left - dx) * (size_t)channels,
               (size_t)width * (size_t)channels);
    buffer->batch.images++;
}

/* Brings the picture to the model's size and appends it. */
static Err fit_picture(BatchBuffer *buffer, const BatchesOptions *o, const Image *image, int dx,
                       int dy) {
    Image fitted;
    TRY(picture_prepare(&fitted, image, o->image_size, o->image_fit, o->image_background));
    append_pixels(buffer, o, &fitted, dx, dy);
    image_free(&fitted);
    return OK;
}

static Err add_picture(BatchBuffer *buffer, const BatchesOptions *o, const Sample *sample, int dx,
                       int dy) {
    Image image;
    TRY(image_decode(&image, sample->image, sample->image_size, o->image_channels, "its picture"));
    Err err = fit_picture(buffer, o, &image, dx, dy);
    image_free(&image);
    return err;
}

static Err add_sample(BatchBuffer *buffer, const BatchesOptions *o, const SamplePlan *plan,
                      SampleScratch *scratch, const Sample *sample, int *count) {
    bool dropped;
    RowsOptions rows = {o->tokenizer, o->template, o->system_prompt};
    TRY(sample_rows_make(&scratch->rows, &rows, sample));
    TRY(fit_rows(o, &scratch->rows, count, &dropped));
    if (dropped) return OK;
    int n = buffer->batch.samples;
    CHECK(n < buffer->capacity, "%d samples", n);
    append_rows(buffer, o, &scratch->rows);
    if (sample->image_size) TRY(add_picture(buffer, o, sample, plan->dx, plan->dy));
    buffer->samples_seen[n] = plan->seen;
    buffer->sample_ids[n] = sample->id;
    buffer->datasets[n] = plan->dataset_number;
    return OK;
}

Err batch_buffer_add(BatchBuffer *buffer, const BatchesOptions *options, const SamplePlan *plan,
                     SampleScratch *scratch, int *rows) {
    Sample sample;
    TRY(dataset_read(plan->dataset, plan->index, &sample, &scratch->bytes));
    Err err = add_sample(buffer, options, plan, scratch, &sample, rows);
    if (err != OK)
        IGNORE(err_prefix(err, "%s: sample %zu (%s): ", dataset_path(plan->dataset), plan->index,
                          sample.id));
    return err;
}

void batch_buffer_note(BatchBuffer *buffer, const BatchesOptions *options, int rows) {
    Batch *batch = &buffer->batch;
    if (rows <= options->max_length) return;
    batch->overlong++;
    if (rows > batch->overlong_rows) batch->overlong_rows = rows;
}

/* ---- batches without a walk ---- */

Err batch_build(Batch **out, const BatchesOptions *options, const Dataset *dataset,
                const size_t *indices, int count) {
    *out = NULL;
    TRY(batch_options_check(options));
    BatchBuffer *buffer;
    SampleScratch scratch = {0};
    TRY(batch_buffer_new(&buffer, options, count));
    Err err = OK;
    for (int i = 0; i < count && err == OK; i++) {
        int rows;
        SamplePlan plan = {.dataset = dataset, .index = indices[i], .seen = indices[i]};
        err = batch_buffer_add(buffer, options, &plan, &scratch, &rows);
        if (err == OK) batch_buffer_note(buffer, options, rows);
    }
    sample_scratch_free(&scratch);
    if (err != OK)
        batch_buffer_free(&buffer);
    else
        *out = &buffer->batch;
    return err;
}

static Err add_prompt(BatchBuffer *buffer, const BatchesOptions *o, const Image *image,
                      const char *prompt, SampleRows *rows) {
    CHECK(image->channels == o->image_channels, "%d channels", image->channels);
    RowsOptions options = {o->tokenizer, o->template, o->system_prompt};
    TRY(sample_rows_prompt(rows, &options, prompt ? prompt : "", prompt ? strlen(prompt) : 0,
                           true));
    size_t all = count_rows(o, rows, rows->ids.count);
    REQUIRE(all < (size_t)o->max_length, ERR_INPUT,
            "picture and prompt have %zu rows, max_length is %d: no room for code", all,
            o->max_length);
    append_rows(buffer, o, rows);
    return fit_picture(buffer, o, image, 0, 0);
}

Err batch_build_prompts(Batch **out, const BatchesOptions *options, const Image *images,
                        const char *const *prompts, const char *const *names, int count) {
    *out = NULL;
    TRY(batch_options_check(options));
    BatchBuffer *buffer;
    SampleRows rows = {0};
    TRY(batch_buffer_new(&buffer, options, count));
    Err err = OK;
    for (int i = 0; i < count && err == OK; i++) {
        err = add_prompt(buffer, options, &images[i], prompts ? prompts[i] : NULL, &rows);
        if (err != OK) IGNORE(err_prefix(err, "%s: ", names[i]));
        buffer->samples_seen[i] = (uint64_t)i;
        buffer->sample_ids[i] = names[i];
        buffer->datasets[i] = 0;
    }
    sample_rows_free(&rows);
    if (err != OK)
        batch_buffer_free(&buffer);
    else
        *out = &buffer->batch;
    return err;
}

void batch_free(Batch **batch) {
    if (!*batch) return;
    BatchBuffer *buffer = (BatchBuffer *)(void *)*batch;
    batch_buffer_free(&buffer);
    *batch = NULL;
}
