/* Items go out to the workers and come back in any order; a window keeps them until their turn to
 * be written. */
#include "data/pack.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/progress.h"

enum { WINDOW = 256 }; /* items under way */

typedef struct Place {
    PackItem item;
    CadReply reply;
    bool back; /* the reply is here */
} Place;

typedef struct Packer {
    DatasetWriter *writer;
    const PackOptions *options;
    PackNext next;
    PackDropped dropped;
    void *context;
    PackStats *stats;
    CadPool *pool;
    Progress progress;
    Place *places;         /* [WINDOW], item n in place n % WINDOW */
    int64_t sent, settled; /* items sent out; items written or dropped */
    bool ended;
} Packer;

static Err send_one(Packer *p) {
    Place *place = &p->places[p->sent % WINDOW];
    Buf code = place->item.code;
    buf_clear(&code);
    place->item = (PackItem){.code = code};
    place->back = false;
    TRY(p->next(p->context, &place->item, &p->ended));
    if (p->ended) return OK;
    CadRequest request = {.code = buf_cstr(&place->item.code),
                          .code_size = place->item.code.size,
                          .draw = &place->item.style,
                          .tag = place};
    p->sent++;
    return cad_pool_submit(p->pool, &request);
}

static void receive_one(Packer *p) {
    CadReply reply;
    CHECK(cad_pool_next(p->pool, &reply), "nothing is under way");
    Place *place = reply.tag;
    place->reply = reply;
    place->back = true;
}

static Err write_one(Packer *p, const Place *place) {
    const PackItem *item = &place->item;
    const char *prompt = p->options->prompt ? p->options->prompt : "";
    Sample sample = {.image = place->reply.png.data,
                     .image_size = place->reply.png.size,
                     .prompt = prompt,
                     .prompt_size = strlen(prompt),
                     .code = buf_cstr(&item->code),
                     .code_size = item->code.size,
                     .id = item->id,
                     .source = item->source,
                     .complexity = item->complexity,
                     .split = item->split};
    TRY(dataset_writer_add(p->writer, &sample));
    p->stats->written++;
    return OK;
}

/* The oldest item's turn: written, or dropped with its reason. */
static Err settle_one(Packer *p) {
    Place *place = &p->places[p->settled % WINDOW];
    const CadReply *reply = &place->reply;
    Err err = OK;
    p->settled++;
    if (reply->status != CAD_OK) {
        p->stats->dropped[reply->status]++;
        if (p->dropped) p->dropped(p->context, place->item.id, reply->status, reply->message);
    } else if (reply->solids != 1 && !p->options->keep_several) {
        p->stats->several_bodies++;
        if (p->dropped) p->dropped(p->context, place->item.id, CAD_OK, "several bodies");
    } else {
        err = write_one(p, place);
    }
    cad_reply_free(&place->reply);
    progress_set(&p->progress, p->options->wanted ? p->stats->written : p->settled, NULL);
    return err;
}

static Err run(Packer *p) {
    int64_t wanted = p->options->wanted;
    double began = clock_seconds(), limit = p->options->seconds;
    while (!wanted || p->stats->written < wanted) {
        if (limit > 0 && clock_seconds() - began > limit) return OK;
        while (!p->ended && p->sent - p->settled < WINDOW) TRY(send_one(p));
        if (p->sent == p->settled) return OK;
        while (!p->places[p->settled % WINDOW].back) receive_one(p);
        TRY(settle_one(p));
    }
    return OK;
}

Err pack_run(DatasetWriter *writer, const PackOptions *options, PackNext next, PackDropped dropped,
             void *context, PackStats *stats) {
    Packer p = {.writer = writer,
                .options = options,
                .next = next,
                .dropped = dropped,
                .context = context,
                .stats = stats};
    double began = clock_seconds();
    *stats = (PackStats){0};
    TRY(cad_pool_open(&p.pool, options->workers, (CadLimits){0}));
    p.places = calloc(WINDOW, sizeof *p.places);
    CHECK(p.places, "out of memory: %d items", WINDOW);
    progress_open(&p.progress, options->progress ? options->progress : "drawing", "parts", 0,
                  options->wanted ? options->wanted : options->expected);
    Err err = run(&p);
    progress_close(&p.progress, NULL);
    for (CadReply reply; cad_pool_next(p.pool, &reply);) cad_reply_free(&reply);
    for (int i = 0; i < WINDOW; i++) {
        if (p.places[i].back) cad_reply_free(&p.places[i].reply);
        buf_free(&p.places[i].item.code);
    }
    free(p.places);
    cad_pool_close(&p.pool);
    stats->seconds = clock_seconds() - began;
    return err;
}
