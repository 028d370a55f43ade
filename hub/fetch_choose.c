/* Which files of a repository are wanted, and the short names. */
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/text.h"
#include "hub/fetch_steps.h"

const FetchName fetch_names[] = {
    {"openecad-0.55b", "Yuki-Kokomi/OpenECADv2-CLIP-0.55B", "CLIP ViT-B/16 and OpenELM-450M"},
    {"openecad-0.89b", "Yuan-Che/OpenECADv2-SigLIP-0.89B", "SigLIP-so400m and OpenELM-450M"},
    {"openecad-2.4b", "Yuki-Kokomi/OpenECADv2-SigLIP-2.4B", "SigLIP-so400m and Gemma-2B"},
    {"openecad-3.1b", "Yuki-Kokomi/OpenECADv2-SigLIP-3.1B", "SigLIP-so400m and Phi-2"},
    {"openecad-data", "datasets/Yuki-Kokomi/OpenECADv2-Datasets", "what they were trained on"},
};
const int fetch_name_count = sizeof fetch_names / sizeof fetch_names[0];

Err name_resolve(HubRepo *out, const char *name) {
    const char *names[sizeof fetch_names / sizeof fetch_names[0]];
    for (int i = 0; i < fetch_name_count; i++) {
        names[i] = fetch_names[i].name;
        if (!strcmp(name, names[i])) return hub_repo_parse(out, fetch_names[i].id);
    }
    if (strchr(name, '/')) return hub_repo_parse(out, name);
    const char *near = text_nearest(name, names, fetch_name_count);
    FAIL(ERR_INPUT,
         "%.100s is no known name%s%s%s: owner/name is expected, datasets/owner/name, or one of "
         "cadvlm data fetch --list",
         name, near ? " (is " : "", near ? near : "", near ? " meant?)" : "");
}

/* ---- the choice ---- */

/* What a model is read from here, and what it says of itself; in any folder of the repository, as
 * TinyLLaVA keeps language model, tower and connector apart. */
static const char *const MODEL_FILES[] = {
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "generation_config.json",
    "preprocessor_config.json",
    "adapter_config.json",
    "cadvlm.yaml",
    "chat_template.jinja",
    "README.md",
    "LICENSE*",
    "NOTICE*",
};
/* Code, and pickles, which are code as well: opening one may run anything. */
static const char *const UNSAFE_FILES[] = {"*.py",  "*.bin",    "*.pt",  "*.pth",
                                           "*.pkl", "*.pickle", "*.ckpt"};

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

static bool matches_any(const char *text, const char *const *globs, int count) {
    for (int i = 0; i < count; i++)
        if (fnmatch(globs[i], text, 0) == 0) return true;
    return false;
}

static bool is_unsafe(const char *path) {
    return matches_any(path_name(path), UNSAFE_FILES, COUNT(UNSAFE_FILES));
}

/* As huggingface_hub has it, the * of --include and --exclude matches a '/' too. */
static bool is_wanted(const char *path, const Hub *hub) {
    const FetchJob *job = hub->job;
    if (matches_any(path, job->exclude.items, job->exclude.count)) return false;
    if (job->include.count && !matches_any(path, job->include.items, job->include.count))
        return false;
    if (job->all || hub->repo.dataset) return true;
    return !is_unsafe(path) &&
           (job->include.count || matches_any(path_name(path), MODEL_FILES, COUNT(MODEL_FILES)));
}

/* Names of our own for what is not finished must not be those of a file. */
static bool is_own_name(const char *path) {
    return text_ends_with(path, ".incomplete") || text_ends_with(path, ".incomplete.etag");
}

/* ---- what is said about the rest ---- */

enum { NAMES_SHOWN = 5 };

static void say_left_out(const Listing *listing, bool unsafe, const char *what) {
    Buf names = {0};
    int count = 0;
    for (size_t i = 0; i < listing->count; i++) {
        const HubFile *file = &listing->files[i];
        if (file->chosen || is_unsafe(file->path) != unsafe) continue;
        if (count++ < NAMES_SHOWN) buf_format(&names, "%s%s", count > 1 ? ", " : "", file->path);
    }
    if (count)
        log_info("left out, %s: %s%s (%d); --all takes everything", what, buf_cstr(&names),
                 count > NAMES_SHOWN ? ", …" : "", count);
    buf_free(&names);
}

static bool has_weights(const Listing *listing, const char *glob) {
    for (size_t i = 0; i < listing->count; i++)
        if (fnmatch(glob, listing->files[i].path, 0) == 0) return true;
    return false;
}

Err listing_choose(Listing *listing, const Hub *hub) {
    const FetchJob *job = hub->job;
    size_t chosen = 0;
    for (size_t i = 0; i < listing->count; i++) {
        HubFile *file = &listing->files[i];
        file->chosen = is_wanted(file->path, hub) && !is_own_name(file->path);
        chosen += file->chosen;
    }
    REQUIRE(chosen, ERR_INPUT, "of the %zu files of %s, none is wanted%s", listing->count,
            hub->repo.id,
            job->include.count || job->exclude.count ? ": see --include and --exclude"
            : listing->count                         ? ": it holds no model; --all takes everything"
                                                     : "");
    if (hub->repo.dataset || job->all || job->include.count) return OK;
    say_left_out(listing, true, "since opening them may run code of theirs");
    say_left_out(listing, false, "since nothing here reads them");
    if (has_weights(listing, "*.bin") && !has_weights(listing, "*.safetensors"))
        log_warn("%s has its weights only as .bin (pickles), which are never opened here. Download "
                 "them by cadvlm data fetch %s FOLDER --all, then convert them by python3 "
                 "tools/bin_to_safetensors.py FOLDER",
                 hub->repo.id, job->name);
    return OK;
}
