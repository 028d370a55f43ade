/* cadvlm data fetch. */
#include <stdio.h>

#include "core/json.h"
#include "core/signals.h"
#include "hub/fetch.h"
#include "launch/commands.h"
#include "launch/shown.h"

static void list_names(void) {
    for (int i = 0; i < fetch_name_count; i++)
        printf("%-16s %-44s %s\n", fetch_names[i].name, fetch_names[i].id, fetch_names[i].what);
}

static void print_stats(const FetchStats *s) {
    printf("%s: %lld file%s of %s, %s, ", shown(s->folder), (long long)s->files,
           s->files == 1 ? "" : "s", s->id, fetch_bytes(s->bytes));
    if (s->there == s->files)
        printf("all there already\n");
    else
        printf("%lld there already; %s downloaded in %.1f s, all checksums right\n",
               (long long)s->there, fetch_bytes(s->downloaded), s->seconds);
}

static void print_stats_json(const FetchStats *s, const char *name) {
    Json *root = js_new_object();
    js_set_text(root, "name", name);
    js_set_text(root, "id", s->id);
    js_set_text(root, "commit", s->commit);
    js_set_text(root, "folder", s->folder);
    js_set_integer(root, "files", s->files);
    js_set_integer(root, "there", s->there);
    js_set_integer(root, "bytes", (int64_t)s->bytes);
    js_set_integer(root, "downloaded", (int64_t)s->downloaded);
    js_set_number(root, "seconds", s->seconds);
    cli_print_json(&root, JSON_ONE_LINE);
}

static Err fetch(const FetchJob *job, bool json) {
    FetchStats stats;
    signals_catch();
    Err err = fetch_run(&stats, job);
    signals_release();
    if (err == ERR_STOPPED)
        return err_raise(err, __FILE__, __LINE__,
                         "stopped: what has come is kept; run the command again to go on");
    TRY(err);
    if (json)
        print_stats_json(&stats, job->name);
    else
        print_stats(&stats);
    return OK;
}

static Err run_fetch(const Command *command, int argc, char **argv) {
    bool list = false, json = false;
    int64_t tries = 5;
    FetchJob job = {.wait = 1, .stall = 30, .stopped = signals_pending};
    Option options[] = {
        {"--list", NULL, NULL, "shows the short names", OPTION_FLAG, &list, 0, 0},
        {"--revision", NULL, "REV", "a branch, a tag or a commit (main)", OPTION_TEXT,
         &job.revision, 0, 0},
        {"--include", NULL, "GLOB", "only files that match, as '*.json'; may be given often",
         OPTION_TEXTS, &job.include, 0, 0},
        {"--exclude", NULL, "GLOB", "no files that match; may be given often", OPTION_TEXTS,
         &job.exclude, 0, 0},
        {"--all", NULL, NULL, "of a model, all files, with code and pickles", OPTION_FLAG, &job.all,
         0, 0},
        {"--tries", NULL, "N", "tries in a row without progress (5)", OPTION_INT, &tries, 1, 1000},
        {"--wait", NULL, "S", "seconds before the second; then doubled, up to a minute (1)",
         OPTION_REAL, &job.wait, 0, 60},
        {"--stall", NULL, "S", "seconds below 1 KB/s after which a transfer is tried again (30)",
         OPTION_REAL, &job.stall, 1, 3600},
        {"--json", NULL, NULL, "one JSON object on standard output", OPTION_FLAG, &json, 0, 0},
    };
    Arguments arguments;
    TRY(options_parse(command, options, sizeof options / sizeof options[0], argc, argv, 0, 2,
                      &arguments));
    Err err = OK;
    if (arguments.helped) goto done;
    if (list) {
        list_names();
        goto done;
    }
    REQUIRE_GOTO(err, arguments.count > 0, ERR_CONFIG,
                 "what is to be downloaded? cadvlm data fetch NAME; cadvlm data fetch --list shows "
                 "short names");
    job.name = arguments.items[0];
    job.folder = arguments.count > 1 ? arguments.items[1] : NULL;
    job.tries = (int)tries;
    TRY_GOTO(err, fetch(&job, json));
done:
    arguments_free(&arguments);
    return err;
}

const Command fetch_commands[] = {
    {"data fetch", "NAME [FOLDER] [options]",
     "Download a public model or dataset from the Hugging Face hub",
     "NAME is owner/name, datasets/owner/name, or a short name (--list). Without FOLDER the files "
     "go into the Hugging Face cache,\n"
     "where base_model: \"owner/name\" finds them, and other programs too. Of a model, what can be "
     "read without running code of\n"
     "others: safetensors, configurations, tokenizers, the model card. Every file is verified; run "
     "again, the command goes on\n"
     "where it stopped.\n"
     "\n"
     "HF_TOKEN      access to private and gated repositories; sent to the hub alone\n"
     "HF_HOME       the cache is HF_HOME/hub (HF_HUB_CACHE names it itself)\n"
     "HF_ENDPOINT   another address of the hub (https://huggingface.co)\n"
     "https_proxy, CURL_CA_BUNDLE   as curl understands them",
     run_fetch},
};
const int fetch_command_count = sizeof fetch_commands / sizeof fetch_commands[0];
