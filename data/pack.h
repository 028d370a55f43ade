/* Packing: programs are drawn by the workers and written as a dataset, in the order they came. */
#ifndef CADVLM_DATA_PACK_H
#define CADVLM_DATA_PACK_H

#include "cad/worker/worker.h"
#include "data/shard.h"

/* One part to pack. Its texts are copied. */
typedef struct PackItem {
    Buf code;
    char id[128];
    char source[64];
    Split split;
    int complexity;
    DrawStyle style;
} PackItem;

typedef struct PackOptions {
    int workers;          /* 0: one per processor */
    int64_t wanted;       /* stop when so many are written; 0: when the items end */
    double seconds;       /* stop after so long, with what there is; 0: no limit */
    const char *prompt;   /* of every sample; NULL: none */
    bool keep_several;    /* keep parts whose solid is several bodies */
    const char *progress; /* label of the bar */
    int64_t expected;     /* items, for the bar, where nothing is wanted */
} PackOptions;

typedef struct PackStats {
    int64_t written, several_bodies;
    int64_t dropped[CAD_STATUS_COUNT]; /* by status of the part; [CAD_OK] is 0 */
    double seconds;
} PackStats;

/* Yields the next item into *item (cleared before), or sets *end. */
typedef Err (*PackNext)(void *context, PackItem *item, bool *end);

/* Hears of each part that was left out: its id, and a sentence. May be NULL. */
typedef void (*PackDropped)(void *context, const char *id, CadStatus status, const char *message);

/* Draws and writes; the writer is finished by the caller. Stops with ERR_IO when the disk is full.
 */
Err pack_run(DatasetWriter *writer, const PackOptions *options, PackNext next, PackDropped dropped,
             void *context, PackStats *stats);

#endif
