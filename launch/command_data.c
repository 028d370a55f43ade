/* cadvlm data info, show, tokenizer; verify stands in command_data_verify.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/json.h"
#include "data/shard.h"
#include "data/tokenizer/tokenizer.h"
#include "launch/command_data.h"
#include "launch/commands.h"
#include "launch/shown.h"

/* ---- info ---- */

static void print_info(const char *path, const DatasetInfo *info) {
    printf("%s: %zu samples in %zu shard%s, %.1f MB, format %d\n", shown(path), info->samples,
           info->shards, info->shards == 1 ? "" : "s", (double)info->bytes * 1e-6,
           info->format_version);
    printf("  splits     ");
    for (int s = 0; s < SPLIT_COUNT; s++)
        printf("%s%s %zu", s ? ", " : "", split_name((Split)s), info->splits[s]);
    printf("\n  sources    ");
    for (int i = 0; i < info->source_count; i++)
        printf("%s%s %zu", i ? ", " : "", shown(info->sources[i].name), info->sources[i].samples);
    printf("\n  complexity %d to %d, median %d\n  made by    %s\n", info->complexity_min,
           info->complexity_max, info->complexity_median, shown(info->provenance));
}

static void print_info_json(const char *path, const DatasetInfo *info) {
    Json *root = js_new_object(), *sources = js_new_object(), *splits = js_new_object(),
         *complexity = js_new_object();
    js_set_text(root, "path", path);
    js_set_integer(root, "samples", (int64_t)info->samples);
    js_set_integer(root, "shards", (int64_t)info->shards);
    js_set_integer(root, "bytes", (int64_t)info->bytes);
    for (int i = 0; i < info->source_count; i++)
        js_set_integer(sources, info->sources[i].name, (int64_t)info->sources[i].samples);
    js_set(root, "sources", sources);
    for (int s = 0; s < SPLIT_COUNT; s++)
        js_set_integer(splits, split_name((Split)s), (int64_t)info->splits[s]);
    js_set(root, "splits", splits);
    js_set_integer(complexity, "min", info->complexity_min);
    js_set_integer(complexity, "median", info->complexity_median);
    js_set_integer(complexity, "max", info->complexity_max);
    js_set(root, "complexity", complexity);
    js_set_integer(root, "format_version", info->format_version);
    js_set_text(root, "provenance", info->provenance);
    cli_print_json(&root, JSON_INDENTED);
}

static Err run_info(const Command *command, int argc, char **argv) {
    bool json = false;
    Option options[] = {
        {"--json", NULL, NULL, "one JSON object on standard output", OPTION_FLAG, &json, 0, 0}};
    Arguments arguments;
    TRY(options_parse(command, options, 1, argc, argv, 1, 1, &arguments));
    Err err = OK;
    Dataset *dataset = NULL;
    if (!arguments.helped) {
        TRY_GOTO(err, dataset_open(&dataset, arguments.items[0]));
        DatasetInfo info;
        dataset_info(dataset, &info);
        (json ? print_info_json : print_info)(arguments.items[0], &info);
    }
done:
    dataset_close(&dataset);
    arguments_free(&arguments);
    return err;
}

/* ---- show ---- */

static Err find_sample(const Dataset *dataset, int64_t index, const char *id, size_t *found) {
    size_t count = dataset_count(dataset);
    if (!id) {
        REQUIRE((uint64_t)index < count, ERR_INPUT, "no sample %lld in %s: it has 0 to %zu",
                (long long)index, dataset_path(dataset), count - 1);
        *found = (size_t)index;
        return OK;
    }
    for (size_t i = 0; i < count; i++)
        if (!strcmp(dataset_id(dataset, i), id)) {
            *found = i;
            return OK;
        }
    FAIL(ERR_INPUT, "no sample of %s has the id %.130s", dataset_path(dataset), id);
}

static void print_sample(size_t index, const Sample *sample) {
    printf("sample %zu: %s\n  source %s, split %s, complexity %d, picture of %zu bytes\n", index,
           shown(sample->id), shown(sample->source), split_name(sample->split), sample->complexity,
           sample->image_size);
    if (sample->prompt_size) {
        printf("prompt:\n");
        print_shown(sample->prompt, sample->prompt_size);
    }
    printf("code:\n");
    print_shown(sample->code, sample->code_size);
}

static void print_sample_json(size_t index, const Sample *sample) {
    Json *root = js_new_object();
    js_set_integer(root, "index", (int64_t)index);
    js_set_text(root, "id", sample->id);
    js_set_text(root, "source", sample->source);
    js_set_text(root, "split", split_name(sample->split));
    js_set_integer(root, "complexity", sample->complexity);
    js_set_integer(root, "image_bytes", (int64_t)sample->image_size);
    js_set_text(root, "prompt", sample->prompt);
    js_set_text(root, "code", sample->code);
    cli_print_json(&root, JSON_INDENTED);
}

static Err run_show(const Command *command, int argc, char **argv) {
    bool json = false;
    int64_t index = 0;
    const char *id = NULL, *out = NULL;
    Option options[] = {
        {"--index", NULL, "N", "the sample's number, from 0", OPTION_INT, &index, 0, 1e15},
        {"--id", NULL, "ID", "the sample's id, instead of its number", OPTION_TEXT, &id, 0, 0},
        {"--out", "-o", "PICTURE.png", "writes the picture as it is stored", OPTION_TEXT, &out, 0,
         0},
        {"--json", NULL, NULL, "one JSON object on standard output", OPTION_FLAG, &json, 0, 0}};
    Arguments arguments;
    TRY(options_parse(command, options, 4, argc, argv, 1, 1, &arguments));
    Err err = OK;
    Dataset *dataset = NULL;
    Buf memory = {0};
    if (!arguments.helped) {
        Sample sample;
        size_t found = 0;
        TRY_GOTO(err, dataset_open(&dataset, arguments.items[0]));
        TRY_GOTO(err, find_sample(dataset, index, id, &found));
        TRY_GOTO(err, dataset_read(dataset, found, &sample, &memory));
        REQUIRE_GOTO(err, !out || sample.image_size, ERR_INPUT, "sample %s has no picture",
                     sample.id);
        if (out) TRY_GOTO(err, file_write(out, sample.image, sample.image_size));
        (json ? print_sample_json : print_sample)(found, &sample);
    }
done:
    buf_free(&memory);
    dataset_close(&dataset);
    arguments_free(&arguments);
    return err;
}

/* ---- tokenizer ---- */

/* Yields the code of every sample for training, dataset after dataset. */
typedef struct CodeWalk {
    const char **paths;
    int count, at;
    Dataset *dataset;
    size_t next, texts;
    Buf memory;
} CodeWalk;

static Err next_code(void *context, const char **text, size_t *size) {
    CodeWalk *walk = context;
    *text = NULL;
    while (walk->at < walk->count) {
        if (!walk->dataset) {
            TRY(dataset_open(&walk->dataset, walk->paths[walk->at]));
            walk->next = 0;
        }
        for (size_t n = dataset_count(walk->dataset); walk->next < n;) {
            size_t index = walk->next++;
            if (dataset_split(walk->dataset, index) != SPLIT_TRAIN) continue;
            Sample sample;
            TRY(dataset_read(walk->dataset, index, &sample, &walk->memory));
            *text = sample.code;
            *size = sample.code_size;
            walk->texts++;
            return OK;
        }
        dataset_close(&walk->dataset);
        walk->at++;
    }
    return OK;
}

static Err train_tokenizer(const Arguments *arguments, int vocab, int numbers, const char *out) {
    CodeWalk walk = {.paths = arguments->items, .count = arguments->count};
    TokenizerTraining training = {vocab, numbers, next_code, &walk};
    Tokenizer *tokenizer = NULL;
    double start = clock_seconds();
    Err err = tokenizer_train(&training, out);
    if (err == OK) err = tokenizer_open(&tokenizer, out);
    if (err == OK)
        printf("%s: %d tokens from the code of %zu samples (%.1f s)\n", shown(out),
               tokenizer_vocab(tokenizer), walk.texts, clock_seconds() - start);
    tokenizer_close(&tokenizer);
    dataset_close(&walk.dataset);
    buf_free(&walk.memory);
    return err;
}

static Err run_tokenizer(const Command *command, int argc, char **argv) {
    int64_t vocab = 1024, numbers = 300;
    const char *out = NULL;
    Option options[] = {
        {"--out", "-o", "tokenizer.json", "the file to write", OPTION_TEXT, &out, 0, 0},
        {"--vocab", NULL, "N", "tokens in all (1024)", OPTION_INT, &vocab, 1, 1 << 22},
        {"--numbers", NULL, "N", "at most so many whole numbers as single tokens (300)", OPTION_INT,
         &numbers, 0, 1998}};
    Arguments arguments;
    TRY(options_parse(command, options, 3, argc, argv, 1, -1, &arguments));
    Err err = OK;
    if (!arguments.helped) {
        REQUIRE_GOTO(err, out, ERR_CONFIG, "-o tokenizer.json is missing");
        TRY_GOTO(err, train_tokenizer(&arguments, (int)vocab, (int)numbers, out));
    }
done:
    arguments_free(&arguments);
    return err;
}

const Command data_commands[] = {
    {"data info", "PATH [--json]", "Say what a dataset holds", NULL, run_info},
    {"data verify", "PATH [--decode [-o FILE]] [--json]",
     "Read every byte of a dataset and check it",
     "The first damage found is named, with its shard and sample. With --decode every picture is\n"
     "decoded too, and all samples that cannot be used are named; FILE gets their ids, for "
     "exclude:\n"
     "in the config of a run.",
     data_verify_command},
    {"data show", "PATH [--index N | --id ID] [-o PICTURE.png]",
     "Show one sample as text and picture", NULL, run_show},
    {"data tokenizer", "PATH... -o tokenizer.json [--vocab N] [--numbers N]",
     "Learn a tokenizer from the code of datasets",
     "Only the samples for training are read. The same samples give the same file.", run_tokenizer},
};
const int data_command_count = sizeof data_commands / sizeof data_commands[0];
