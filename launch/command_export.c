/* cadvlm export: a trained model for PEFT or transformers. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "export/export.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/shown.h"
#include "launch/version.h"

typedef struct ExportArguments {
    const char *checkpoint, *format, *dtype, *data, *licence;
    long long samples;
    bool json;
} ExportArguments;

static Err parse_format(ExportFormat *format, const char *text) {
    REQUIRE(text, ERR_CONFIG, "cadvlm export needs --format peft or --format merged");
    bool peft = !strcmp(text, "peft");
    REQUIRE(peft || !strcmp(text, "merged"), ERR_CONFIG, "--format %s; peft or merged is expected",
            text);
    *format = peft ? EXPORT_PEFT : EXPORT_MERGED;
    return OK;
}

static Err parse_dtype(DType *dtype, const char *text, ExportFormat format) {
    static const struct {
        const char *name;
        DType dtype;
    } types[] = {{"f16", DT_F16}, {"fp16", DT_F16}, {"bf16", DT_BF16}, {"f32", DT_F32}};
    REQUIRE(!text || format == EXPORT_MERGED, ERR_CONFIG,
            "--dtype %s: an adapter is always f32; it goes with --format merged", text);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (!strcmp(types[i].name, text ? text : "f16")) {
            *dtype = types[i].dtype;
            return OK;
        }
    FAIL(ERR_CONFIG, "--dtype %s; f16, bf16 or f32 is expected", text);
}

static void print_json(const ExportOptions *o, const ExportResult *r) {
    Json *root = js_new_object();
    js_set_text(root, "checkpoint", r->checkpoint);
    js_set_integer(root, "step", r->step);
    js_set_text(root, "folder", o->folder);
    js_set_text(root, "format", o->format == EXPORT_PEFT ? "peft" : "merged");
    const Comparison *p = &r->proof;
    js_set_integer(root, "samples", p->samples);
    js_set_integer(root, "rows", p->rows);
    js_set_text(root, "precision", r->precision);
    js_set_number(root, "loss_before", p->samples ? p->losses[0] : (double)NAN);
    js_set_number(root, "loss_after", p->samples ? p->losses[1] : (double)NAN);
    js_set_number(root, "logit_difference", p->samples ? p->difference : (double)NAN);
    js_set_number(root, "logit_largest", p->samples ? p->largest : (double)NAN);
    cli_print_json(&root, JSON_ONE_LINE);
}

static void print_result(const ExportOptions *o, const ExportResult *r) {
    printf("%s (step %lld) as %s: %s\n", shown(r->checkpoint), r->step,
           o->format == EXPORT_PEFT ? "an adapter for PEFT" : "a whole model", shown(o->folder));
    const Comparison *p = &r->proof;
    if (!p->samples) return;
    printf("read again and compared in %s over %d samples (%d rows of logits):\n"
           "  loss %.6f with adapters, %.6f from the written files: %+.2e\n"
           "  largest difference of a logit %.3g, where they reach %.3g\n",
           r->precision, p->samples, p->rows, p->losses[0], p->losses[1],
           p->losses[1] - p->losses[0], p->difference, p->largest);
}

static Err export_model(Comm *comm, const ExportArguments *a, const char *folder) {
    ExportOptions o = {.checkpoint = a->checkpoint,
                       .folder = folder,
                       .samples = (int)a->samples,
                       .data = a->data,
                       .program = "cadvlm " CADVLM_VERSION,
                       .licence = a->licence};
    ExportResult result;
    REQUIRE(comm_size(comm) == 1, ERR_CONFIG,
            "cadvlm export is one process: run it without mpirun");
    REQUIRE(a->checkpoint, ERR_CONFIG, "cadvlm export needs --checkpoint DIR");
    TRY(parse_format(&o.format, a->format));
    TRY(parse_dtype(&o.dtype, a->dtype, o.format));
    TRY(export_run(&o, comm, &result));
    if (a->json)
        print_json(&o, &result);
    else
        print_result(&o, &result);
    return OK;
}

static Err run_export(const Command *command, int argc, char **argv) {
    ExportArguments a = {.samples = 4};
    Option options[] = {
        {"--checkpoint", "-c", "DIR", "a checkpoint, or a run folder: its newest", OPTION_TEXT,
         &a.checkpoint, 0, 0},
        {"--format", "-f", "NAME", "peft: the adapter; merged: full weights", OPTION_TEXT,
         &a.format, 0, 0},
        {"--dtype", NULL, "NAME", "of merged weights: f16, bf16, f32 (f16)", OPTION_TEXT, &a.dtype,
         0, 0},
        {"--samples", NULL, "N", "to prove the result with (4; 0: no proof)", OPTION_INT,
         &a.samples, 0, 1e6},
        {"--data", NULL, "SHARDS", "real samples for the proof; else noise", OPTION_TEXT, &a.data,
         0, 0},
        {"--data-licence", NULL, "TEXT", "of the training data, for the model card", OPTION_TEXT,
         &a.licence, 0, 0},
        {"--json", NULL, NULL, "the result as one JSON object", OPTION_FLAG, &a.json, 0, 0},
    };
    Arguments arguments;
    TRY(options_parse(command, options, sizeof options / sizeof options[0], argc, argv, 1, 1,
                      &arguments));
    if (arguments.helped) {
        arguments_free(&arguments);
        return OK;
    }
    Comm *comm = NULL;
    Err err = comm_open(&comm);
    if (err == OK) err = comm_agree(comm, export_model(comm, &a, arguments.items[0]));
    arguments_free(&arguments);
    return comm_finish(&comm, err);
}

const Command export_commands[] = {
    {"export", "--checkpoint DIR --format peft|merged OUT",
     "Pass a trained model on: an adapter for PEFT, or full weights for transformers",
     "peft writes adapter_config.json and adapter_model.safetensors, with the connector inside, "
     "as\n"
     "PEFT loads them onto the base. merged writes the whole model in the published layout,\n"
     "W + scale * B * A in f32 and rounded once. Both write a model card (README.md). Then the\n"
     "files are read again and compared with the checkpoint over some samples.",
     run_export},
};
const int export_command_count = sizeof export_commands / sizeof export_commands[0];
