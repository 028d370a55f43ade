/* Damaged STEP files through the CAD workers. The geometry kernel crashes at many of them; what is
 * asked is that this program does not, that each file gets a reply with a status and a sentence,
 * and that a sound part is still built when all is over.
 *
 *     fuzz_step SECONDS FOLDER [SEED]
 *
 * Files are pure functions of the seed and their number; one that a CHECK ends at is left in
 * FOLDER. This is no harness of libFuzzer: what it would watch happens in another process. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cad/worker/worker.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/text.h"
#include "tests/cad/parts.h"

enum { SEEDS = 12, WORKERS = 2, IN_FLIGHT = 2 * WORKERS, EDITS_MAX = 6 };

typedef struct Item {
    char path[PATH_SIZE];
    bool busy;
} Item;

static Buf seeds[SEEDS];
static Item items[IN_FLIGHT];
static long counts[CAD_STATUS_COUNT];

/* ---- seeds ---- */

static void make_seed(CadPool *pool, Buf *out, CadProgram program) {
    const char *code = part_code(&program);
    CadReply reply;
    CadRequest request = {.code = code, .code_size = strlen(code), .export_as = CAD_EXPORT_STEP};
    Err err = cad_pool_run(pool, &request, &reply);
    CHECK(err == OK, "%s", err_message());
    buf_append(out, buf_cstr(&reply.exported), reply.exported.size);
    cad_reply_free(&reply);
}

/* The flange, and random parts, some of which are empty and export nothing. */
static void make_seeds(CadPool *pool) {
    make_seed(pool, &seeds[0], flange_program());
    CHECK(seeds[0].size, "the flange was not exported");
    for (uint64_t i = 0, made = 1; made < SEEDS; i++) {
        make_seed(pool, &seeds[made], random_program(3, i));
        made += seeds[made].size > 0;
    }
}

/* ---- damage ---- */

static void replace(Buf *text, size_t at, size_t old, const char *bytes, size_t size) {
    Buf tail = {0};
    buf_append(&tail, text->data + at + old, text->size - at - old);
    text->size = at;
    buf_append(text, bytes, size);
    buf_append(text, buf_cstr(&tail), tail.size);
    buf_free(&tail);
}

static size_t place(Rng *rng, const Buf *text) {
    return (size_t)rng_below(rng, text->size);
}

/* The next run of `characters` behind `at`; its size may be 0. */
static size_t run_of(const Buf *text, size_t *at, const char *characters) {
    *at += strcspn(text->data + *at, characters);
    return strspn(text->data + *at, characters);
}

static void change_number(Buf *text, Rng *rng) {
    static const char *const numbers[] = {"0.", "-1.", "1.E308", "-1.E-300", "1.E12", "NAN", "7",
                                          "$",  "*",   "()",     "'x'",      ".T.",   ""};
    const char *number = numbers[rng_below(rng, sizeof numbers / sizeof *numbers)];
    size_t at = place(rng, text), size = run_of(text, &at, "0123456789.E-");
    replace(text, at, size, number, strlen(number));
}

static void change_reference(Buf *text, Rng *rng) {
    char number[24];
    size_t at = place(rng, text);
    at += strcspn(text->data + at, "#");
    if (at == text->size) return;
    at++;
    int length = snprintf(number, sizeof number, "%d", rng_range(rng, 1, 400));
    replace(text, at, strspn(text->data + at, "0123456789"), number, (size_t)length);
}

static void copy_lines(Buf *text, Rng *rng) {
    size_t from = place(rng, text), to = place(rng, text);
    size_t size = strcspn(text->data + from, "\n");
    char *line = strndup(text->data + from, size);
    CHECK(line, "out of memory: a line");
    replace(text, to, rng_range(rng, 0, 1) ? strcspn(text->data + to, "\n") : 0, line, size);
    free(line);
}

static void change_name(Buf *text, Rng *rng) {
    static const char *const names[] = {"PLANE",        "CYLINDRICAL_SURFACE", "LINE",
                                        "CIRCLE",       "CARTESIAN_POINT",     "ORIENTED_EDGE",
                                        "CLOSED_SHELL", "MANIFOLD_SOLID_BREP", "DIRECTION"};
    const char *name = names[rng_below(rng, sizeof names / sizeof *names)];
    size_t at = place(rng, text), size = run_of(text, &at, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");
    replace(text, at, size, name, strlen(name));
}

static void edit(Buf *text, Rng *rng) {
    char byte = (char)rng_range(rng, 0, 255);
    size_t at = place(rng, text), left = text->size - at;
    switch (rng_range(rng, 0, 9)) {
    case 0: replace(text, at, 1, &byte, 1); break;
    case 1: replace(text, at, rng_below(rng, left < 200 ? left : 200), "", 0); break;
    case 2: copy_lines(text, rng); break;
    case 3: change_name(text, rng); break;
    case 4: text->size = rng_range(rng, 0, 9) ? text->size : at + 1; break;
    case 5:
    case 6: change_reference(text, rng); break;
    default: change_number(text, rng); break;
    }
}

static void write_damaged(const char *path, uint64_t seed, uint64_t number) {
    Rng rng;
    Buf text = {0};
    rng_open(&rng, seed, RNG_TEST, number);
    const Buf *whole = &seeds[rng_below(&rng, SEEDS)];
    buf_append(&text, whole->data, whole->size);
    for (int left = rng_range(&rng, 1, EDITS_MAX); left > 0 && text.size; left--) {
        edit(&text, &rng);
        buf_append(&text, "", 0); /* the zero behind it */
    }
    Err err = file_write(path, buf_cstr(&text), text.size);
    CHECK(err == OK, "%s", err_message());
    buf_free(&text);
}

/* ---- replies ---- */

static void check_reply(const CadReply *reply, const char *path) {
    size_t left = strlen(reply->message), length;
    CHECK(reply->status > CAD_UNKNOWN && reply->status < CAD_STATUS_COUNT, "%s: no status", path);
    CHECK(reply->status == CAD_OK || left, "%s: %s and no sentence", path,
          cad_status_name(reply->status));
    for (const char *at = reply->message; left; at += length, left -= length)
        CHECK(text_kind(at, left, &length) == TEXT_PLAIN, "%s: a sentence that is not plain", path);
    CHECK(reply->status != CAD_OK || reply->volume > 0, "%s: ok, with a volume of %g", path,
          reply->volume);
}

static bool take_reply(CadPool *pool) {
    CadReply reply;
    if (!cad_pool_next(pool, &reply)) return false;
    Item *item = reply.tag;
    check_reply(&reply, item->path);
    counts[reply.status]++;
    unlink(item->path);
    item->busy = false;
    cad_reply_free(&reply);
    return true;
}

static Item *free_item(CadPool *pool) {
    for (;;) {
        for (int i = 0; i < IN_FLIGHT; i++)
            if (!items[i].busy) return &items[i];
        CHECK(take_reply(pool), "replies are missing");
    }
}

static long run(CadPool *pool, double seconds, const char *folder, uint64_t seed) {
    const double end = clock_seconds() + seconds;
    uint64_t number = 0;
    for (; clock_seconds() < end; number++) {
        Item *item = free_item(pool);
        snprintf(item->path, sizeof item->path, "%s/step-%llu.step", folder,
                 (unsigned long long)number);
        item->busy = true;
        write_damaged(item->path, seed, number);
        CadRequest request = {.step_path = item->path, .tag = item};
        Err err = cad_pool_submit(pool, &request);
        CHECK(err == OK, "%s", err_message());
    }
    while (take_reply(pool)) {
    }
    return (long)number;
}

static void check_sound(CadPool *pool) {
    const char *code = box_code(10, 20, 30);
    CadReply reply;
    CadRequest request = {.code = code, .code_size = strlen(code)};
    Err err = cad_pool_run(pool, &request, &reply);
    CHECK(err == OK && reply.status == CAD_OK && fabs(reply.volume - 6000) < 1e-6,
          "a sound part after all of them: %s, %g", reply.message, reply.volume);
    cad_reply_free(&reply);
}

int main(int argc, char **argv) {
    CadPool *pool;
    if (argc < 3) {
        fprintf(stderr, "usage: fuzz_step SECONDS FOLDER [SEED]\n");
        return 2;
    }
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : (uint64_t)time(NULL);
    Err err = cad_pool_open(&pool, WORKERS, (CadLimits){.seconds = 10});
    CHECK(err == OK, "%s", err_message());
    make_seeds(pool);
    long files = run(pool, strtod(argv[1], NULL), argv[2], seed), replies = 0;
    check_sound(pool);
    cad_pool_close(&pool);
    for (int i = 0; i < SEEDS; i++) buf_free(&seeds[i]);
    printf("files %ld seed %llu:", files, (unsigned long long)seed);
    for (int s = 0; s < CAD_STATUS_COUNT; s++) {
        replies += counts[s];
        if (counts[s])
            printf(" %s %.1f %%", cad_status_name((CadStatus)s),
                   100.0 * (double)counts[s] / (double)files);
    }
    printf("\n");
    CHECK(replies == files, "%ld replies to %ld files", replies, files);
    return 0;
}
