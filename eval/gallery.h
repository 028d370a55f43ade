/* A gallery: a folder of examples that people can look at.
 *
 *     FOLDER/gallery.json                 {"format_version", "items": [...]}
 *     FOLDER/03-part_17/drawing.png       what the model saw, as it is stored
 *                       target.py .png    the reference
 *                       result.py .png    what the model wrote; no picture where it is no solid
 *
 * (docs/evaluation.md). It is written under a temporary name and put in place when it is complete.
 */
#ifndef CADVLM_EVAL_GALLERY_H
#define CADVLM_EVAL_GALLERY_H

#include "core/file.h"
#include "data/shard.h"
#include "eval/summary.h"

enum { GALLERY_MAX = 1000, GALLERY_PICTURE = 360 /* pixels a side of target and result */ };

/* One example. Plain memory: entries travel between ranks as they are. */
typedef struct GalleryEntry {
    int32_t there; /* 0: of another rank */
    int32_t line;  /* of the code that failed; 0: none */
    char folder[80], id[128], dataset[64];
    char message[256]; /* why there is no sound solid */
    EvalRecord record;
} GalleryEntry;

/* Makes room for a gallery at `folder`, in a new folder beside it. A folder of that name that is
 * not a gallery is refused. */
Err gallery_begin(const char *folder);

/* Fills names and writes what is known before any solid is built; `code` is the model's.
 * number: of the example, from 0. */
Err gallery_add(GalleryEntry *entry, const char *folder, int number, const char *dataset,
                const Sample *sample, const Buf *code);

/* Writes "target.png" or "result.png" of an example; nothing for an empty picture. */
Err gallery_picture(const GalleryEntry *entry, const char *folder, const char *name,
                    const Buf *png);

/* Writes gallery.json and puts the gallery in place of the one before. */
Err gallery_finish(const char *folder, const GalleryEntry *entries, int count);

/* Deletes what was begun and not finished. */
void gallery_abandon(const char *folder);

/* Which sample of `total` is example `number` of `count`: spread evenly. */
size_t gallery_sample(int number, int count, size_t total);

#endif
