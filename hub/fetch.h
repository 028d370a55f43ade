/* Downloads of public models and datasets from the Hugging Face hub. */
#ifndef CADVLM_HUB_FETCH_H
#define CADVLM_HUB_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/file.h"
#include "core/text.h"

/* Short names of what OpenECAD's authors published. */
typedef struct FetchName {
    const char *name, *id, *what; /* "openecad-0.89b", "owner/name" as hub_repo_parse reads it */
} FetchName;

extern const FetchName fetch_names[];
extern const int fetch_name_count;

typedef struct FetchJob {
    const char *name;     /* a short name, owner/name, or datasets/owner/name */
    const char *folder;   /* plain files go here; NULL: into the Hugging Face cache */
    const char *revision; /* NULL: main */
    Texts include, exclude;
    bool all;              /* of a model, also what is neither read nor safe to open */
    int tries;             /* in a row without progress, before a transfer is given up */
    double wait;           /* seconds before the second try; doubled for each that follows */
    double stall;          /* seconds without movement after which a connection counts as broken */
    bool (*stopped)(void); /* asked often; true ends with ERR_STOPPED, ready to go on */
} FetchJob;

typedef struct FetchStats {
    char id[256], commit[65], folder[PATH_SIZE];
    int64_t files, there;       /* chosen; of these, finished before */
    uint64_t bytes, downloaded; /* of all files; what came over the network */
    double seconds;
} FetchStats;

/* What is finished is complete and verified; a second run does only what is missing, and goes on
 * within a file where the last one stopped. */
Err fetch_run(FetchStats *stats, const FetchJob *job);

/* "1.9 GB", in one of four buffers in turn. */
const char *fetch_bytes(uint64_t bytes);

#endif
