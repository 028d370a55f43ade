/* Checkpoints; see the header. */
#include "checkpoint/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/manifest.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/log.h"
#include "data/tokenizer/tokenizer.h"

enum { SMALL_FILE_MAX = 64 << 20 };

/* ---- writing ---- */

static void print_config(Buf *out, const Config *config) {
    Config *described = malloc(sizeof *described);
    CHECK(described, "out of memory: a config");
    *described = *config;
    described->base_model[0] = 0;
    described->model.from_scratch = true;
    buf_text(out, "# How to build the model of this checkpoint, and how it was trained.\n");
    config_print(out, described);
    free(described);
}

Err checkpoint_check_config(const Config *config) {
    Config *again = malloc(sizeof *again);
    Buf text = {0};
    CHECK(again, "out of memory: a config");
    print_config(&text, config);
    Err err =
        config_parse(again, buf_cstr(&text), text.size, "config.yaml of a checkpoint", NULL, 0);
    buf_free(&text);
    free(again);
    return err;
}

static Err write_config(const char *folder, const Config *config) {
    char path[PATH_SIZE];
    Buf text = {0};
    print_config(&text, config);
    Err err = path_join(path, folder, "config.yaml");
    if (err == OK) err = file_write(path, text.data, text.size);
    buf_free(&text);
    return err;
}

/* Frozen weights never change: the file that is mapped, or that of the checkpoint before, is
 * linked, not written again. */
static Err write_frozen(const char *folder, const char *before, Model *model) {
    char path[PATH_SIZE], old[PATH_SIZE];
    const char *mapped = model_mapped_path(model);
    if (!model_has_frozen(model)) return OK;
    TRY(path_join(path, folder, "frozen.safetensors"));
    if (mapped && link(mapped, path) == 0) return OK;
    if (before[0]) {
        TRY(path_join(old, before, "frozen.safetensors"));
        if (link(old, path) == 0) return OK;
    }
    return mapped ? file_copy(mapped, path, SIZE_MAX) : model_save_frozen(model, path);
}

static Err write_files(const char *folder, const char *before, const Config *config,
                       const Lineage *lineage, const char *tokenizer, Optim *optim,
                       const TrainState *state) {
    char path[PATH_SIZE];
    TRY(write_config(folder, config));
    TRY(lineage_write(lineage, folder));
    /* The checkpoint that a run went on from may be gone by now. */
    TRY(tokenizer_copy(before[0] ? before : tokenizer, folder));
    TRY(write_frozen(folder, before, optim->model));
    TRY(path_join(path, folder, "trained.safetensors"));
    TRY(model_save_trained(optim->model, path, optim->master));
    TRY(path_join(path, folder, "moment1.safetensors"));
    TRY(model_save_trained(optim->model, path, optim->m));
    TRY(path_join(path, folder, "moment2.safetensors"));
    TRY(model_save_trained(optim->model, path, optim->v));
    TRY(train_state_write(state, folder));
    TRY(manifest_write(folder));
    return file_sync_directory(folder);
}

/* ---- the folder of checkpoints ---- */

void checkpoint_name(char out[CHECKPOINT_NAME], int64_t step) {
    snprintf(out, CHECKPOINT_NAME, "step-%09lld", (long long)step);
}

/* The step that a checkpoint's name states; -1: it is no such name. */
static int64_t step_of(const char *name) {
    char again[CHECKPOINT_NAME];
    int64_t step = strncmp(name, "step-", 5) ? -1 : strtoll(name + 5, NULL, 10);
    checkpoint_name(again, step);
    return step >= 0 && !strcmp(name, again) ? step : -1;
}

static int compare_steps(const void *a, const void *b) {
    int64_t x = step_of(*(char *const *)a), y = step_of(*(char *const *)b);
    return (x > y) - (x < y);
}

Err checkpoint_list(FileNames *names, const char *folder) {
    *names = (FileNames){0};
    TRY(file_reach(folder));
    if (!file_is_directory(folder)) return OK;
    TRY(file_list(names, folder));
    size_t kept = 0;
    for (size_t i = 0; i < names->count; i++) {
        if (step_of(names->names[i]) >= 0)
            names->names[kept++] = names->names[i];
        else
            free(names->names[i]);
    }
    names->count = kept;
    if (kept) qsort(names->names, kept, sizeof *names->names, compare_steps);
    return OK;
}

/* Of those up to `step`: later ones were passed over when the run went on from an earlier one. */
static Err remove_old(const char *folder, int64_t step, int keep) {
    FileNames names;
    TRY(checkpoint_list(&names, folder));
    Err err = OK;
    while (names.count && step_of(names.names[names.count - 1]) > step)
        free(names.names[--names.count]);
    for (size_t i = 0; i + (size_t)keep < names.count && err == OK; i++) {
        char path[PATH_SIZE];
        err = path_join(path, folder, names.names[i]);
        if (err == OK) err = file_remove_tree(path);
    }
    file_names_free(&names);
    return err;
}

/* ---- latest ---- */

static Err same_files(bool *same, const char *folder, const char *other, const char *name) {
    char path[PATH_SIZE];
    Buf texts[2] = {{0}, {0}};
    Err err = path_join(path, folder, name);
    if (err == OK) err = file_read(&texts[0], path, SMALL_FILE_MAX);
    if (err == OK) err = path_join(path, other, name);
    if (err == OK) err = file_read(&texts[1], path, SMALL_FILE_MAX);
    *same = err == OK && texts[0].size == texts[1].size &&
            !memcmp(texts[0].data, texts[1].data, texts[0].size);
    for (int i = 0; i < 2; i++) buf_free(&texts[i]);
    return err;
}

/* Where a run folder was copied with its links followed, `latest` is a folder: it gives way if it
 * is one of the checkpoints once more. */
static bool is_spare_copy(const char *latest, const char *folder) {
    FileNames names;
    bool same = false;
    if (checkpoint_list(&names, folder) != OK) return false;
    for (size_t i = names.count; i-- > 0 && !same;) {
        char path[PATH_SIZE];
        if (path_join(path, folder, names.names[i]) != OK ||
            same_files(&same, latest, path, "manifest.json") != OK)
            err_clear();
    }
    file_names_free(&names);
    return same;
}

static Err make_link(const char *link_path, const char *name) {
    char temporary[PATH_SIZE];
    TRY(file_temporary(temporary, link_path));
    REQUIRE(symlink(name, temporary) == 0, ERR_IO, "cannot make the link %s: %s", temporary,
            strerror(errno));
    Err err = file_rename(temporary, link_path);
    if (err != OK) unlink(temporary);
    return err;
}

/* A convenience for people: that it cannot be made is said once, and changes nothing. */
static void point_latest(const char *folder, const char *name) {
    static bool reported;
    char path[PATH_SIZE];
    struct stat info;
    Err err = path_join(path, folder, "latest");
    bool there = err == OK && lstat(path, &info) == 0;
    if (there && S_ISDIR(info.st_mode) && is_spare_copy(path, folder)) err = file_remove_tree(path);
    if (err == OK) err = make_link(path, name);
    if (err == OK) return;
    if (there && S_ISLNK(info.st_mode)) unlink(path); /* it would point to an old one */
    if (!reported)
        log_warn("%s: checkpoints/latest is not kept; the newest is %s", err_message(), name);
    reported = true;
    err_clear();
}

/* ---- saving ---- */

static Err save(const char *folder, const Config *config, const Lineage *lineage,
                const char *tokenizer, Optim *optim, const TrainState *state, int keep) {
    char temporary[PATH_SIZE], final[PATH_SIZE], before[PATH_SIZE], name[CHECKPOINT_NAME];
    checkpoint_name(name, state->step);
    TRY(path_format(temporary, "%s/.writing-%s", folder, name));
    TRY(path_join(final, folder, name));
    TRY(file_make_directories(folder));
    TRY(file_remove_tree(temporary));
    TRY(checkpoint_find(before, folder));
    TRY(file_make_directories(temporary));
    Err err = write_files(temporary, before, config, lineage, tokenizer, optim, state);
    if (err != OK) {
        ErrState kept;
        err_save(&kept);
        IGNORE(file_remove_tree(temporary));
        return err_restore(&kept);
    }
    TRY(file_remove_tree(final)); /* the same step saved before, or a damaged one */
    TRY(file_rename(temporary, final));
    point_latest(folder, name);
    return remove_old(folder, state->step, keep);
}

/* Ranks whose weights differ have diverged: that must never be saved as one model. */
static Err check_equal(Comm *comm, Optim *optim) {
    size_t bytes = (size_t)optim->count * sizeof(float);
    float *host = malloc(bytes + 1);
    uint64_t *hashes = calloc((size_t)comm_size(comm), sizeof *hashes);
    CHECK(host && hashes, "out of memory: comparing weights");
    exec_download(optim->ex, host, optim->master, bytes);
    uint64_t own = hash_bytes(host, bytes);
    free(host);
    Err err = comm_gather_all(comm, hashes, &own, sizeof own);
    for (int r = 1; r < comm_size(comm) && err == OK; r++)
        if (hashes[r] != hashes[0])
            err = err_raise(
                ERR_COMM, __FILE__, __LINE__,
                "the weights of rank %d differ from those of rank 0: the run has diverged", r);
    free(hashes);
    return err;
}

Err checkpoint_save(Comm *comm, const char *folder, const Config *config, const Lineage *lineage,
                    const char *tokenizer, Optim *optim, const TrainState *state, int keep) {
    if (comm_size(comm) > 1) TRY(check_equal(comm, optim));
    Err err =
        comm_rank(comm) == 0 ? save(folder, config, lineage, tokenizer, optim, state, keep) : OK;
    return comm_agree(comm, err);
}

/* ---- reading ---- */

/* Whole, and of the step that its name states. */
static Err check_named(const char *path) {
    TrainState state;
    TRY(manifest_verify(path));
    TRY(train_state_read(&state, path));
    REQUIRE(state.step == step_of(path_name(path)), ERR_INPUT, "%s is of step %lld", path,
            (long long)state.step);
    return OK;
}

/* Whether something in it may not be read: then nobody knows whether it is damaged. */
static bool is_closed(const char *path) {
    FileNames names;
    if (file_list(&names, path) != OK) return true;
    bool closed = false;
    for (size_t i = 0; i < names.count && !closed; i++) {
        char name[PATH_SIZE];
        closed = path_join(name, path, names.names[i]) == OK && access(name, R_OK) != 0 &&
                 errno == EACCES;
    }
    file_names_free(&names);
    return closed;
}

Err checkpoint_find(char out[PATH_SIZE], const char *folder) {
    FileNames names;
    out[0] = 0;
    TRY(checkpoint_list(&names, folder));
    Err err = OK;
    for (size_t i = names.count; i-- > 0 && err == OK;) {
        err = path_join(out, folder, names.names[i]);
        if (err == OK) err = check_named(out);
        if (err == OK || err == ERR_UNSUPPORTED || is_closed(out)) break;
        err = OK;
        log_warn("passing over a damaged checkpoint: %s", err_message());
        err_clear();
        out[0] = 0;
    }
    file_names_free(&names);
    return err;
}

Err checkpoint_load_frozen(Model *model, const char *path) {
    char name[PATH_SIZE];
    TRY(path_join(name, path, "frozen.safetensors"));
    if (model_spec(model)->mapped) return model_map(model, name);
    return model_has_frozen(model) ? model_load_frozen(model, name) : OK;
}

static Err load_trained(Model *model, const char *path, float *master) {
    char name[PATH_SIZE];
    int found = 0, needed = 0;
    TRY(path_join(name, path, "trained.safetensors"));
    TRY(model_load(model, name, master, &found));
    const Params *params = model_params(model);
    for (int i = 0; i < params->count; i++) needed += params->items[i].trained;
    REQUIRE(found == needed, ERR_INPUT, "%s has %d parameters where the model trains %d", name,
            found, needed);
    return OK;
}

Err checkpoint_load(Optim *optim, const char *path) {
    char name[PATH_SIZE];
    TRY(load_trained(optim->model, path, optim->master));
    TRY(path_join(name, path, "moment1.safetensors"));
    TRY(model_load_flat(optim->model, name, optim->m));
    TRY(path_join(name, path, "moment2.safetensors"));
    TRY(model_load_squares(optim->model, name, optim->v));
    TrainState state;
    TRY(train_state_read(&state, path));
    if (!optim->scaled) state.update.loss_scale = 1;
    optim_set_state(optim, &state.update);
    return exec_status(optim->ex);
}

Err checkpoint_resolve(char resolved[PATH_SIZE], const char *path) {
    char inside[PATH_SIZE];
    TRY(file_reach(path));
    REQUIRE(file_is_directory(path), ERR_INPUT,
            "%s is no folder: a checkpoint or a run folder is expected", path);
    TRY(path_join(inside, path, "manifest.json"));
    if (file_exists(inside)) {
        TRY(manifest_verify(path));
        return path_format(resolved, "%s", path);
    }
    TRY(path_join(inside, path, "checkpoints"));
    if (!file_is_directory(inside)) TRY(path_format(inside, "%s", path));
    TRY(checkpoint_find(resolved, inside));
    REQUIRE(resolved[0], ERR_INPUT, "no checkpoint in %s", path);
    return OK;
}

Err checkpoint_open_model(Model **model, Exec *ex, const Config *config, const char *checkpoint,
                          int vocab) {
    char name[PATH_SIZE];
    *model = NULL;
    ModelSpec spec;
    model_spec_from_config(&spec, config, vocab);
    TRY(path_join(name, checkpoint, "frozen.safetensors"));
    spec.mapped = exec_is_host(ex) && file_exists(name);
    TRY(model_open(model, ex, &spec, precision_dtype(ex, config->precision)));
    Err err = checkpoint_load_frozen(*model, checkpoint);
    if (err == OK) err = load_trained(*model, checkpoint, NULL);
    if (err != OK) model_close(model);
    return err;
}
