#include "data/synth/make.h"

#include <stdio.h>
#include <stdlib.h>

#include "cad/language/code.h"

/* Hashes seen so far; open addressing, 0 is empty. */
typedef struct HashSet {
    uint64_t *slots;
    size_t capacity, count;
} HashSet;

static bool set_add(HashSet *set, uint64_t hash) {
    if (hash == 0) hash = 1;
    if (2 * (set->count + 1) > set->capacity) {
        HashSet larger = {.capacity = set->capacity ? 2 * set->capacity : 1024};
        larger.slots = calloc(larger.capacity, sizeof *larger.slots);
        CHECK(larger.slots, "out of memory: %zu hashes", larger.capacity);
        for (size_t i = 0; i < set->capacity; i++)
            if (set->slots[i]) set_add(&larger, set->slots[i]);
        free(set->slots);
        *set = larger;
    }
    for (size_t at = hash % set->capacity;; at = (at + 1) % set->capacity) {
        if (set->slots[at] == hash) return false;
        if (set->slots[at]) continue;
        set->slots[at] = hash;
        set->count++;
        return true;
    }
}

typedef struct Maker {
    const SynthJob *job;
    uint64_t index; /* the next part to draw */
    HashSet seen;
} Maker;

Split part_split(uint64_t hash, double val_share, double test_share) {
    double place = (double)(hash >> 11) * 0x1p-53;
    if (place < val_share) return SPLIT_VAL;
    return place < val_share + test_share ? SPLIT_TEST : SPLIT_TRAIN;
}

static const double TRAIN_SHIFT = 0.5; /* pixels: what whole-pixel augmentation does not cover */

static Err next_part(void *context, PackItem *item, bool *end) {
    Maker *m = context;
    const SynthJob *job = m->job;
    CadProgram program;
    uint64_t hash, index;
    *end = false;
    for (;;) {
        index = m->index++;
        TRY(synth_part(&program, job->seed, index, job->family, job->convention));
        hash = program_hash(&program);
        if (set_add(&m->seen, hash)) break;
        program_free(&program);
    }
    code_emit(&item->code, &program, CODE_PLAIN);
    item->complexity = program_complexity(&program);
    item->split = part_split(hash, job->val_share, job->test_share);
    double shift = item->split != SPLIT_TRAIN ? job->shift
                   : job->shift < TRAIN_SHIFT ? job->shift
                                              : TRAIN_SHIFT;
    item->style = job->vary ? synth_style(&job->style, job->seed, index, shift) : job->style;
    snprintf(item->id, sizeof item->id, "synth-%llu-%llu", (unsigned long long)job->seed,
             (unsigned long long)index);
    snprintf(item->source, sizeof item->source, "synth");
    program_free(&program);
    return OK;
}

Err synth_make(const SynthJob *job, PackStats *stats) {
    Maker maker = {.job = job};
    DatasetWriter *writer;
    TRY(dataset_writer_open(&writer, job->path, job->provenance, 0));
    PackOptions options = {.workers = job->workers,
                           .wanted = job->count,
                           .seconds = job->seconds,
                           .progress = "drawing"};
    Err err = pack_run(writer, &options, next_part, NULL, &maker, stats);
    free(maker.seen.slots);
    if (err == OK) return dataset_writer_finish(&writer);
    ErrState kept;
    err_save(&kept);
    dataset_writer_abandon(&writer);
    return err_restore(&kept);
}
