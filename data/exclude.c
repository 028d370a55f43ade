/* A sorted list of ids; see the header. */
#include "data/exclude.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/log.h"

enum { LIST_FILE_MAX = 256 << 20 };

typedef struct ExcludedId {
    const char *id;
    bool met; /* some dataset has it */
} ExcludedId;

struct Exclusions {
    char list[PATH_SIZE]; /* as the config has it */
    bool is_file;
    Buf text; /* the ids, each ended by a zero */
    ExcludedId *ids;
    size_t count, capacity;
    uint64_t hash;
    int datasets; /* that it was applied to */
};

/* ---- opening ---- */

static void add(Exclusions *e, const char *id) {
    if (e->count == e->capacity) {
        e->capacity = e->capacity ? 2 * e->capacity : 64;
        e->ids = realloc(e->ids, e->capacity * sizeof *e->ids);
        CHECK(e->ids, "out of memory: %zu ids", e->capacity);
    }
    e->ids[e->count++] = (ExcludedId){.id = id};
}

static bool is_remark(const char *line) {
    return !line[0] || (line[0] == '#' && (!line[1] || line[1] == ' '));
}

/* Without blanks around it; an id has none at its ends. */
static char *trimmed(char *text) {
    text += strspn(text, " \t");
    size_t length = strlen(text);
    while (length && strchr(" \t", text[length - 1])) length--;
    text[length] = 0;
    return text;
}

/* Cuts the text at `ends`; a file's lines may end as Windows has them, which also begins files with
 * a mark of their encoding. */
static void cut(Exclusions *e, const char *ends) {
    char *start = e->text.data;
    if (!strncmp(start, "\xef\xbb\xbf", 3)) start += 3;
    for (char *at = start, *next; at; at = next) {
        next = at + strcspn(at, ends);
        if (*next)
            *next++ = 0;
        else
            next = NULL;
        at = trimmed(at);
        if (e->is_file ? !is_remark(at) : *at != 0) add(e, at);
    }
}

static int by_id(const void *a, const void *b) {
    return strcmp(((const ExcludedId *)a)->id, ((const ExcludedId *)b)->id);
}

static Err read_list(Exclusions *e) {
    e->is_file = file_exists(e->list);
    if (!e->is_file) {
        buf_text(&e->text, e->list);
        cut(e, ",");
    } else {
        TRY(file_read(&e->text, e->list, LIST_FILE_MAX));
        REQUIRE(strlen(buf_cstr(&e->text)) == e->text.size, ERR_INPUT,
                "%s is no text: a zero byte at %zu", e->list, strlen(buf_cstr(&e->text)));
        if (e->text.size) cut(e, "\r\n");
    }
    if (e->count) qsort(e->ids, e->count, sizeof *e->ids, by_id);
    return OK;
}

Err exclusions_open(Exclusions **out, const char *list) {
    Exclusions *e = calloc(1, sizeof *e);
    CHECK(e, "out of memory: a list of samples");
    *out = e;
    Err err = path_format(e->list, "%s", list);
    if (err == OK && list[0]) err = read_list(e);
    if (err == OK) return OK;
    exclusions_close(out);
    return err_prefix(err, "exclude: ");
}

void exclusions_close(Exclusions **exclusions) {
    if (!*exclusions) return;
    buf_free(&(*exclusions)->text);
    free((*exclusions)->ids);
    free(*exclusions);
    *exclusions = NULL;
}

/* ---- applying ---- */

/* An id may stand twice in the list: the first of the same is found by going back. */
static bool is_out(void *context, const char *id) {
    Exclusions *e = context;
    ExcludedId key = {.id = id};
    ExcludedId *found = e->count ? bsearch(&key, e->ids, e->count, sizeof *e->ids, by_id) : NULL;
    if (!found) return false;
    while (found > e->ids && !by_id(found - 1, found)) found--;
    for (; found < e->ids + e->count && !strcmp(found->id, id); found++) found->met = true;
    return true;
}

void exclusions_apply(Exclusions *e, Dataset *dataset, size_t counts[SPLIT_COUNT]) {
    memset(counts, 0, SPLIT_COUNT * sizeof *counts);
    uint64_t which = dataset_leave_out(dataset, is_out, e, counts);
    const uint64_t mixed[] = {e->hash, (uint64_t)e->datasets++, which};
    if (which) e->hash = hash_bytes(mixed, sizeof mixed);
}

Err exclusions_check(const Exclusions *e) {
    size_t unmet = 0;
    const char *first = NULL;
    for (size_t i = e->count; i-- > 0;) {
        if (e->ids[i].met) continue;
        first = e->ids[i].id;
        unmet++;
    }
    REQUIRE(!unmet || e->is_file, ERR_CONFIG,
            "exclude: \"%.130s\" is neither a file nor the id of a sample of these datasets",
            first);
    if (unmet)
        log_warn("exclude: %zu of the %zu ids in %s are of no sample of these datasets, among them "
                 "%.130s",
                 unmet, e->count, e->list, first);
    return OK;
}

uint64_t exclusions_hash(const Exclusions *e) {
    return e->hash;
}
