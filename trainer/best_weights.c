#include "trainer/best_weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/log.h"

static const char PREFIX[] = "best-", ENDING[] = ".safetensors";

static Err file_checksum(uint64_t *out, const char *path) {
    const void *data;
    size_t size;
    TRY(file_map(&data, &size, path));
    *out = hash_bytes(data, size);
    file_unmap(&data, size);
    return OK;
}

/* The step and the checksum that a name states. */
static bool parse_name(const char *name, int64_t *step, uint64_t *checksum) {
    int end = 0;
    return sscanf(name, "best-%" SCNd64 "-%" SCNx64 ".safetensors%n", step, checksum, &end) == 2 &&
           end > 0 && !name[end];
}

static Err write_weights(const char *folder, Optim *optim, int64_t step) {
    char unnamed[PATH_SIZE], named[PATH_SIZE];
    uint64_t checksum;
    TRY(file_make_directories(folder));
    TRY(path_format(unnamed, "%s/%sunnamed%s", folder, PREFIX, ENDING));
    TRY(model_save_trained(optim->model, unnamed, optim->master));
    TRY(file_checksum(&checksum, unnamed));
    TRY(path_format(named, "%s/%s%09" PRId64 "-%016" PRIx64 "%s", folder, PREFIX, step, checksum,
                    ENDING));
    return file_rename(unnamed, named);
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
        uint64_t stated, is;
        if (!parse_name(names.names[i], &of, &stated) || of != step) continue;
        err = path_join(out, folder, names.names[i]);
        if (err == OK) err = file_checksum(&is, out);
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
    FileNames names;
    TRY(file_list(&names, folder));
    Err err = OK;
    for (size_t i = 0; i < names.count && err == OK; i++) {
        char path[PATH_SIZE];
        int64_t of;
        uint64_t checksum;
        if (!parse_name(names.names[i], &of, &checksum) || of == step) continue;
        err = path_join(path, folder, names.names[i]);
        if (err == OK) err = file_remove_tree(path);
    }
    file_names_free(&names);
    return err;
}
