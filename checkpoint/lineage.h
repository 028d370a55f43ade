/* The published model that a checkpoint began as: base.json beside its weights, so that an export
 * knows the base's name, and its exact numbers where the folder is still there. */
#ifndef CADVLM_CHECKPOINT_LINEAGE_H
#define CADVLM_CHECKPOINT_LINEAGE_H

#include "config/config.h"
#include "core/file.h"

typedef struct Lineage {
    char name[CONFIG_TEXT];  /* as the user named it: a hub id or a folder; "": there is none */
    bool on_hub;             /* it was a hub id */
    char folder[PATH_SIZE];  /* where it was */
    char weights[20];        /* base_fingerprint of the folder and the adapter */
    char adapter[PATH_SIZE]; /* a PEFT adapter merged into it before training; or "" */
    bool changed;            /* an adapter of cadvlm was merged into it too: of an earlier stage */
} Lineage;

/* Whether base.json can keep where the base lies; to be asked before the first step. */
Err lineage_check(const Lineage *lineage);

/* Writes base.json into a folder; nothing where there is no lineage. */
Err lineage_write(const Lineage *lineage, const char *folder);

/* Reads it; a folder without one has no lineage. */
Err lineage_read(Lineage *lineage, const char *folder);

#endif
