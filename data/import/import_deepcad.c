/* DeepCAD files to a dataset. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cad/language/code.h"
#include "core/file.h"
#include "core/log.h"
#include "core/text.h"
#include "data/import/deepcad.h"
#include "data/import/import.h"
#include "data/synth/make.h"

enum { DEPTH_MAX = 8 };

typedef struct Files {
    char **paths;
    size_t count, capacity;
} Files;

static Err find_files(Files *files, const char *path, int depth) {
    if (!file_is_directory(path)) {
        TRY(file_reach(path));
        if (strcasecmp(path_extension(path), ".json") != 0) return OK;
        if (files->count == files->capacity) {
            files->capacity = files->capacity ? 2 * files->capacity : 64;
            files->paths = realloc(files->paths, files->capacity * sizeof *files->paths);
            CHECK(files->paths, "out of memory: %zu files", files->capacity);
        }
        files->paths[files->count] = strdup(path);
        CHECK(files->paths[files->count], "out of memory: a path");
        files->count++;
        return OK;
    }
    REQUIRE(depth < DEPTH_MAX, ERR_INPUT, "%s: folders are nested more than %d deep", path,
            DEPTH_MAX);
    FileNames names;
    TRY(file_list(&names, path));
    Err err = OK;
    for (size_t i = 0; i < names.count && err == OK; i++) {
        char child[PATH_SIZE];
        err = path_join(child, path, names.names[i]);
        if (err == OK) err = find_files(files, child, depth + 1);
    }
    file_names_free(&names);
    return err;
}

typedef struct Importer {
    const ImportJob *job;
    ImportStats *stats;
    Files files;
    size_t next;
} Importer;

static Err next_file(void *context, PackItem *item, bool *end) {
    Importer *im = context;
    CadProgram program;
    for (;; im->next++) {
        *end = im->next == im->files.count;
        if (*end) return OK;
        if (deepcad_read(&program, im->files.paths[im->next], NULL) == OK) break;
        log_warn("left out: %s", err_message());
        err_clear();
        im->stats->unreadable++;
    }
    const char *name = path_name(im->files.paths[im->next]);
    code_emit(&item->code, &program, CODE_PLAIN);
    item->complexity = program_complexity(&program);
    item->split = part_split(program_hash(&program), im->job->val_share, im->job->test_share);
    item->style =
        im->job->vary ? synth_style(&im->job->style, im->job->seed, im->next, 0) : im->job->style;
    text_escape_some(item->id, sizeof item->id, name, strlen(name) - strlen(".json"));
    snprintf(item->source, sizeof item->source, "deepcad");
    program_free(&program);
    im->next++;
    return OK;
}

static void left_out(void *context, const char *id, CadStatus status, const char *message) {
    (void)context;
    log_warn("left out: %s: %s%s%s", id, cad_status_name(status), *message ? ": " : "", message);
}

static Err import(Importer *im, DatasetWriter *writer) {
    PackOptions options = {.workers = im->job->workers,
                           .keep_several = true,
                           .progress = "drawing",
                           .expected = (int64_t)im->files.count};
    return pack_run(writer, &options, next_file, left_out, im, &im->stats->pack);
}

Err import_deepcad(const ImportJob *job, ImportStats *stats) {
    Importer im = {.job = job, .stats = stats};
    *stats = (ImportStats){0};
    DatasetWriter *writer = NULL;
    Err err = find_files(&im.files, job->source, 0);
    stats->files = (int64_t)im.files.count;
    if (err == OK && !im.files.count)
        err = err_raise(ERR_INPUT, __FILE__, __LINE__, "no .json file in %s", job->source);
    if (err == OK) err = dataset_writer_open(&writer, job->path, job->provenance, 0);
    if (err == OK) err = import(&im, writer);
    for (size_t i = 0; i < im.files.count; i++) free(im.files.paths[i]);
    free(im.files.paths);
    if (err == OK) return dataset_writer_finish(&writer);
    ErrState kept;
    err_save(&kept);
    dataset_writer_abandon(&writer);
    return err_restore(&kept);
}
