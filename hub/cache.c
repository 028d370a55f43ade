/* Models and datasets of the Hugging Face hub in the local cache; see the header. */
#include "hub/cache.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char DATASETS[] = "datasets/";
enum { REVISION_MAX = 255, REF_BYTES_MAX = 256 };

/* ---- names ---- */

static bool is_name_character(char c) {
    return isalnum((unsigned char)c) || c == '.' || c == '-' || c == '_';
}

/* One half of an id. As on the hub, no half starts or ends with '.' or '-', and none holds ".." or
 * "--": the cache joins the halves by "--". */
static bool is_half(const char *text, size_t length) {
    if (length == 0 || length > HUB_PART_MAX) return false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (!is_name_character(c)) return false;
        bool edge = i == 0 || i + 1 == length || text[i + 1] == c;
        if (edge && (c == '.' || c == '-')) return false;
    }
    return true;
}

static bool parse(HubRepo *out, const char *text) {
    *out = (HubRepo){.dataset = !strncmp(text, DATASETS, strlen(DATASETS)) &&
                                strchr(text + strlen(DATASETS), '/')};
    const char *id = out->dataset ? text + strlen(DATASETS) : text;
    const char *slash = strchr(id, '/');
    if (!slash || !is_half(id, (size_t)(slash - id)) || !is_half(slash + 1, strlen(slash + 1)))
        return false;
    snprintf(out->id, sizeof out->id, "%s", id);
    return true;
}

bool hub_is_id(const char *text) {
    HubRepo repo;
    return parse(&repo, text) && !file_exists(text);
}

Err hub_repo_parse(HubRepo *out, const char *text) {
    REQUIRE(parse(out, text), ERR_INPUT,
            "%.200s is no name of the Hugging Face hub: owner/name is expected, or "
            "datasets/owner/name, of letters, digits, '.', '-' and '_'",
            text);
    return OK;
}

bool hub_is_commit(const char *text) {
    size_t length = strspn(text, "0123456789abcdef");
    return !text[length] && (length == 40 || length == 64);
}

Err hub_check_revision(const char *revision) {
    size_t length = strlen(revision);
    bool good = length > 0 && length <= REVISION_MAX && revision[length - 1] != '/';
    for (size_t i = 0; i < length && good; i++) {
        char c = revision[i];
        bool first = i == 0 || revision[i - 1] == '/'; /* no part is empty, ".", ".." or hidden */
        good =
            first ? is_name_character(c) && c != '.' && c != '-' : is_name_character(c) || c == '/';
    }
    REQUIRE(good, ERR_INPUT,
            "revision %.255s: a branch, a tag or a commit is expected, of letters, digits, '.', "
            "'-', '_' and '/'",
            revision);
    return OK;
}

/* ---- the cache ---- */

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* As huggingface_hub does, a leading ~ is the home folder. */
static Err expand_home(char out[PATH_SIZE], const char *path, const char *below) {
    const char *home = path_home();
    if (path[0] != '~' || (path[1] && path[1] != '/')) return path_format(out, "%s%s", path, below);
    REQUIRE(home, ERR_INPUT, "HOME names no folder: set HF_HOME to that of the Hugging Face cache");
    return path_format(out, "%s%s%s", home, path + 1, below);
}

static Err cache_folder(char out[PATH_SIZE]) {
    static const struct {
        const char *name, *below;
    } PLACES[] = {{"HF_HUB_CACHE", ""},
                  {"HUGGINGFACE_HUB_CACHE", ""},
                  {"HF_HOME", "/hub"},
                  {"XDG_CACHE_HOME", "/huggingface/hub"}};
    for (size_t i = 0; i < sizeof PLACES / sizeof PLACES[0]; i++) {
        const char *value = environment(PLACES[i].name);
        if (value) return expand_home(out, value, PLACES[i].below);
    }
    return expand_home(out, "~/.cache", "/huggingface/hub");
}

Err hub_repo_folder(char out[PATH_SIZE], const HubRepo *repo) {
    char cache[PATH_SIZE];
    TRY(cache_folder(cache));
    const char *slash = strchr(repo->id, '/');
    return path_format(out, "%s/%s--%.*s--%s", cache, repo->dataset ? "datasets" : "models",
                       (int)(slash - repo->id), repo->id, slash + 1);
}

/* The commit that refs/REVISION names; "" when there is no such file. */
static Err read_ref(char out[HUB_COMMIT_SIZE], const char *folder, const char *revision) {
    char path[PATH_SIZE];
    out[0] = 0;
    TRY(path_format(path, "%s/refs/%s", folder, revision));
    if (!file_exists(path)) return OK;
    Buf text = {0};
    Err err = file_read(&text, path, REF_BYTES_MAX);
    if (err == OK) {
        while (text.size && isspace((unsigned char)text.data[text.size - 1]))
            text.data[--text.size] = 0;
        if (hub_is_commit(buf_cstr(&text)))
            snprintf(out, HUB_COMMIT_SIZE, "%s", text.data);
        else
            err = err_raise(ERR_INPUT, __FILE__, __LINE__,
                            "%s names no commit: delete it and download again", path);
    }
    buf_free(&text);
    return err;
}

Err hub_resolve(char out[PATH_SIZE], const char *id, const char *revision) {
    HubRepo repo;
    char folder[PATH_SIZE], commit[HUB_COMMIT_SIZE];
    TRY(hub_repo_parse(&repo, id));
    if (revision) TRY(hub_check_revision(revision));
    TRY(hub_repo_folder(folder, &repo));
    if (revision && hub_is_commit(revision))
        snprintf(commit, sizeof commit, "%s", revision);
    else
        TRY(read_ref(commit, folder, revision ? revision : "main"));
    if (*commit) {
        TRY(path_format(out, "%s/snapshots/%s", folder, commit));
        if (file_is_directory(out)) return OK;
    }
    FAIL(ERR_INPUT,
         "%s is not here, nor in the Hugging Face cache (%s). This downloads it: "
         "cadvlm data fetch %s%s%s",
         id, folder, id, revision ? " --revision " : "", revision ? revision : "");
}
