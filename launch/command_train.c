/* cadvlm train. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "launch/commands.h"
#include "launch/shown.h"
#include "launch/version.h"
#include "trainer/train.h"

enum { OVERRIDES_MAX = 256 };

/* Options that are other names of keys. */
static const struct {
    const char *option, *value, *key, *help;
} SHORTCUTS[] = {
    {"--base-model", "PATH", "base_model", "checkpoint or model to start from"},
    {"--train-data", "PATH", "train_data", "shards to train on"},
    {"--val-data", "PATH", "val_data", "shards to validate on"},
    {"--image-folder", "PATH", "image_folder", "pictures of a TinyLLaVA JSON"},
    {"--output-dir", "PATH", "output_dir", "the run folder"},
    {"--epochs", "N", "training.num_epochs", "passes over the data"},
    {"--batch-size", "N", "training.per_device_batch_size", "samples of a micro-batch"},
    {"--learning-rate", "X", "training.learning_rate", "peak learning rate"},
    {"--lora-r", "N", "lora.r", "rank of the adapters"},
};
enum { SHORTCUT_COUNT = sizeof SHORTCUTS / sizeof SHORTCUTS[0] };

/* The key=value arguments and the shortcuts, as overrides. */
static int collect_overrides(const Arguments *arguments, const char *const values[],
                             char made[][1200], const char *overrides[]) {
    int count = 0;
    for (int i = 0; i < arguments->count && count < OVERRIDES_MAX; i++)
        overrides[count++] = arguments->items[i];
    for (int i = 0; i < SHORTCUT_COUNT && count < OVERRIDES_MAX; i++) {
        if (!values[i]) continue;
        snprintf(made[i], 1200, "%s=%s", SHORTCUTS[i].key, values[i]);
        overrides[count++] = made[i];
    }
    return count;
}

static void print_result(const TrainResult *r, bool json) {
    if (json) {
        Json *root = js_new_object();
        js_set_integer(root, "steps", r->steps);
        js_set_integer(root, "samples", r->samples);
        js_set_number(root, "loss", r->loss);
        js_set_number(root, "val_loss", r->val_loss);
        js_set_number(root, "samples_per_s", r->samples_per_s);
        js_set_number(root, "tokens_per_s", r->tokens_per_s);
        js_set_number(root, "mfu", r->mfu);
        js_set_number(root, "peak_flops", r->peak_flops);
        js_set_number(root, "datasheet_flops",
                      r->datasheet_flops > 0 ? r->datasheet_flops : (double)NAN);
        js_set_text(root, "checkpoint", r->checkpoint);
        js_set_integer(root, "ranks", r->ranks);
        js_set_number(root, "seconds", r->seconds);
        cli_print_json(&root, JSON_ONE_LINE);
        return;
    }
    if (r->new_steps)
        printf("trained %lld steps (%lld samples) in %.1f s on %d rank%s: loss %.4f",
               (long long)r->steps, (long long)r->samples, r->seconds, r->ranks,
               r->ranks == 1 ? "" : "s", r->loss);
    else
        printf("nothing left to train: %lld steps (%lld samples) are done", (long long)r->steps,
               (long long)r->samples);
    if (isfinite(r->val_loss)) printf(", validation loss %.4f", r->val_loss);
    if (isfinite(r->samples_per_s))
        printf("\n%.1f samples/s, %.0f tokens/s, mfu %.1f %% of %.3g TFLOP/s measured",
               r->samples_per_s, r->tokens_per_s, 100 * r->mfu, 1e-12 * r->peak_flops);
    if (isfinite(r->samples_per_s) && r->datasheet_flops > 0)
        printf(" (%.1f %% of %.4g by the datasheet)",
               100 * r->mfu * r->peak_flops / r->datasheet_flops, 1e-12 * r->datasheet_flops);
    printf("\ncheckpoint: %s\n", shown(r->checkpoint));
}

/* Rank 0 first, so that mistakes are reported once. */
static Err load_config(Comm *comm, Config *config, const char *path, const char *const *overrides,
                       int count) {
    bool first = comm_rank(comm) == 0;
    TRY(comm_agree(comm, first ? config_load(config, path, overrides, count) : OK));
    return comm_agree(comm, first ? OK : config_load(config, path, overrides, count));
}

static Err train(Comm *comm, const Config *config, bool fresh, bool json) {
    TrainResult result;
    Json *versions = version_json();
    Err err = train_run(comm, config, fresh, versions, &result);
    js_free(&versions);
    TRY(err);
    if (comm_rank(comm) == 0) print_result(&result, json);
    return OK;
}

static Err run_train(const Command *command, int argc, char **argv) {
    const char *config = NULL, *values[SHORTCUT_COUNT] = {0};
    bool fresh = false, json = false;
    Option options[SHORTCUT_COUNT + 3] = {
        {.name = "--config",
         .brief = "-c",
         .value = "FILE",
         .help = "YAML file, or the name of a preset",
         .type = OPTION_TEXT,
         .target = &config},
        {.name = "--fresh",
         .help = "do not resume from a checkpoint in the output folder",
         .type = OPTION_FLAG,
         .target = &fresh},
        {.name = "--json",
         .help = "the result as one JSON object",
         .type = OPTION_FLAG,
         .target = &json},
    };
    for (int i = 0; i < SHORTCUT_COUNT; i++)
        options[3 + i] = (Option){.name = SHORTCUTS[i].option,
                                  .value = SHORTCUTS[i].value,
                                  .help = SHORTCUTS[i].help,
                                  .type = OPTION_TEXT,
                                  .target = &values[i]};
    Arguments arguments;
    TRY(options_parse(command, options, SHORTCUT_COUNT + 3, argc, argv, 0, -1, &arguments));
    if (arguments.helped) {
        arguments_free(&arguments);
        return OK;
    }
    char made[SHORTCUT_COUNT][1200];
    const char *overrides[OVERRIDES_MAX];
    int count = collect_overrides(&arguments, values, made, overrides);
    Comm *comm;
    Config *loaded = malloc(sizeof *loaded);
    CHECK(loaded, "out of memory: a config");
    Err err = comm_open(&comm);
    if (err == OK && !config)
        err = comm_agree(
            comm, err_raise(ERR_CONFIG, __FILE__, __LINE__, "cadvlm train needs --config FILE"));
    if (err == OK) err = load_config(comm, loaded, config, overrides, count);
    if (err == OK) err = train(comm, loaded, fresh, json);
    free(loaded);
    arguments_free(&arguments);
    return comm_finish(&comm, err);
}

const Command train_commands[] = {
    {"train", "--config FILE [key=value …]",
     "Train; go on from the newest good checkpoint of the output folder",
     "Every key of the config can be set on the command line: training.learning_rate=5e-5.\n"
     "On several processors, GPUs or machines: mpirun -n N cadvlm train --config FILE\n"
     "or srun --mpi=pmix (docs/running.md).\n"
     "USR1 (also USR2, TERM, INT, XCPU and HUP to a single process) saves a checkpoint and exits "
     "with 75.",
     run_train},
};
const int train_command_count = sizeof train_commands / sizeof train_commands[0];
