#include "trainer/best_weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"

static const char PREFIX[] = "best-", ENDING[] = ".safetensors";

/* The step and the checksum that a name states. */
static bool parse_name(const char *name, int64_t *step, uint64_t *checksum) {
    int end = 0;
    return sscanf(name, "best-%" SCNd64 "-%" SCNx64 ".safetensors%n", step, checksum, &end) == 2 &&
           end > 0 && !name[end];
}

enum { ONE_STEP, OTHER_STEPS };

/* Deletes the weights of that step that have another checksum, or those of other steps. */
static Err remove_weights(const char *folder, int which, int64_t step, uint64_t checksum) {
    FileNames names;
    TRY(file_list(&names, folder));
    Err err = OK;
    for (size_t i = 0; i < names.count && err == OK; i++) {
        char path[PATH_SIZE];
        int64_t of;
        uint64_t stated;
        if (!parse_name(names.names[i], &of, &stated)) continue;
        if (which == ONE_STEP ? of != step || stated == checksum : of == step) continue;
        err = path_join(path, folder, names.names[i]);
        if (err == OK) err = file_remove_tree(path);
    }
    file_names_free(&names);
    return err;
}

/* A run that went on from an older checkpoint may have left others of the same step. */
static Err write_weights(const char *folder, Optim *optim, int64_t step) {
    char unnamed[PATH_SIZE], named[PATH_SIZE];
    uint64_t checksum, bytes;
    TRY(file_make_directories(folder));
    TRY(path_format(unnamed, "%s/%sunnamed%s", folder, PREFIX, ENDING));
    TRY(model_save_trained(optim->model, unnamed, optim->master));
    TRY(file_checksum(&checksum, &bytes, unnamed));
    TRY(path_format(named, "%s/%s%09" PRId64 "-%016" PRIx64 "%s", folder, PREFIX, step, checksum,
                    ENDING));
    TRY(file_rename(unnamed, named));
    return remove_weights(folder, ONE_STEP, step, checksum);
}

Err best_weights_keep(Comm *comm, const char *folder, Optim *optim, int64_t step) {
    return comm_agree(comm, comm_rank(comm) == 0 ? write_weights(folder, optim, step) : OK);
}

/* The file of a step; ERR_INPUT where there is none that is whole. */
static Err find_weights(char out[PATH_SIZE], const char *folder, int64_t step) {
    FileNames names;
    bool found = false;
    TRY(file_list(&names, folder));
    Err err = OK;
    for (size_t i = 0; i < names.count && err == OK && !found; i++) {
        int64_t of;
        uint64_t stated, is, bytes;
        if (!parse_name(names.names[i], &of, &stated) || of != step) continue;
        err = path_join(out, folder, names.names[i]);
        if (err == OK) err = file_checksum(&is, &bytes, out);
        found = err == OK && is == stated;
    }
    file_names_free(&names);
    TRY(err);
    REQUIRE(found, ERR_INPUT,
            "%s has no undamaged weights of step %lld, whose validation was the best", folder,
            (long long)step);
    return OK;
}

Err best_weights_restore(Comm *comm, const char *folder, Optim *optim, int64_t step,
                         bool *restored) {
    char path[PATH_SIZE];
    int found;
    *restored = false;
    if (comm_agree(comm, find_weights(path, folder, step)) != OK) {
        if (comm_rank(comm) == 0) log_warn("%s: the last weights stay", err_message());
        err_clear();
        return OK;
    }
    TRY(comm_agree(comm, model_load(optim->model, path, optim->master, &found)));
    *restored = true;
    return exec_status(optim->ex);
}

Err best_weights_prune(const char *folder, int64_t step) {
    return remove_weights(folder, OTHER_STEPS, step, 0);
}
