/* Where the converted weights of a base lie; see the header. */
#include "checkpoint/weight_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/preprocessor.h"
#include "core/hash.h"
#include "core/text.h"

static uint64_t hash_text(uint64_t hash, const char *text) {
    uint64_t both[2] = {hash, hash_bytes(text, strlen(text))};
    return hash_bytes(both, sizeof both);
}

/* Names, sizes and times of the weights in a folder and of what describes them; `deep`: also of a
 * run folder's components. */
static uint64_t hash_files(uint64_t hash, const char *folder, bool deep) {
    static const char *const components[] = {"connector", "language_model", "vision_tower"};
    FileNames names;
    char path[PATH_SIZE], line[PATH_SIZE + 80];
    if (file_list(&names, folder) != OK) {
        err_clear();
        return hash;
    }
    for (size_t i = 0; i < names.count; i++) {
        const char *name = names.names[i];
        struct stat s;
        bool ours = !strncmp(name, "cadvlm-", 7) || !strcmp(name, PREPROCESSOR_FILE);
        bool wanted = text_ends_with(name, ".safetensors") || text_ends_with(name, ".json") ||
                      text_ends_with(name, ".yaml");
        if (ours || !wanted || path_join(path, folder, name) != OK || stat(path, &s) != 0) continue;
        snprintf(line, sizeof line, "%s %lld %lld.%09ld", name, (long long)s.st_size,
                 (long long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
        hash = hash_text(hash, line);
    }
    file_names_free(&names);
    for (int i = 0; deep && i < 3; i++)
        if (path_join(path, folder, components[i]) == OK && file_is_directory(path))
            hash = hash_files(hash, path, false);
    return hash;
}

/* Where programs keep what they can make again. */
static Err cache_folder(char out[PATH_SIZE], const Base *base) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = path_home();
    if (cache && cache[0] == '/') return path_join(out, cache, "cadvlm");
    REQUIRE(home, ERR_IO,
            "no place for the weights of %s in the type that is computed in: its folder cannot be "
            "written, and neither XDG_CACHE_HOME nor HOME says where a cache is",
            base->folder);
    return path_format(out, "%s/.cache/cadvlm", home);
}

/* The place in a folder. */
static Err place_in(WeightCache *out, const char *folder, const Model *model, const Base *base) {
    uint64_t whose = model_layout_hash(model), state = hash_files(0, base->folder, true);
    TRY(path_format(out->folder, "%s", folder));
    if (strcmp(folder, base->folder) != 0) whose = hash_text(whose, base->folder);
    if (base->adapter[0]) {
        whose = hash_text(whose, base->adapter);
        state = hash_files(state, base->adapter, true);
    }
    snprintf(out->whose, sizeof out->whose, "cadvlm-%s-%016llx-", dtype_name(model_dtype(model)),
             (unsigned long long)whose);
    return path_format(out->path, "%s/%s%016llx.safetensors", folder, out->whose,
                       (unsigned long long)state);
}

/* Beside a published base, where the file is there already or can be written. */
Err weight_cache_find(WeightCache *out, const Model *model, const Base *base, const char *folder) {
    char cache[PATH_SIZE];
    if (base->kind == BASE_PUBLISHED) {
        TRY(place_in(out, base->folder, model, base));
        if (access(out->path, R_OK) == 0 || access(base->folder, W_OK) == 0) return OK;
    }
    if (!folder) TRY(cache_folder(cache, base));
    TRY(place_in(out, folder ? folder : cache, model, base));
    return file_make_directories(out->folder);
}

/* Of another state, or left by a process that was killed while it wrote, a day ago. */
static bool is_old(const WeightCache *place, const char *name, const char *path) {
    enum { DAY = 24 * 60 * 60 };
    struct stat s;
    if (strncmp(name, place->whose, strlen(place->whose)) != 0 || !strcmp(path, place->path))
        return false;
    if (text_ends_with(name, ".safetensors")) return true;
    return strstr(name, ".safetensors.tmp.") && stat(path, &s) == 0 &&
           s.st_mtim.tv_sec < time(NULL) - DAY;
}

Err weight_cache_remove_old(const WeightCache *place) {
    FileNames names;
    TRY(file_list(&names, place->folder));
    Err err = OK;
    for (size_t i = 0; i < names.count && err == OK; i++) {
        char path[PATH_SIZE];
        err = path_join(path, place->folder, names.names[i]);
        if (err == OK && is_old(place, names.names[i], path)) err = file_remove_tree(path);
    }
    file_names_free(&names);
    return err;
}
