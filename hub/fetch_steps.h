/* The steps of a download, one file of code each: which files the hub has (fetch_list.c), which of
 * them are wanted (fetch_choose.c), one of them (fetch_file.c), all of them (fetch.c). */
#ifndef CADVLM_HUB_FETCH_STEPS_H
#define CADVLM_HUB_FETCH_STEPS_H

#include "core/digest.h"
#include "core/progress.h"
#include "hub/cache.h"
#include "hub/fetch.h"
#include "hub/http.h"

typedef struct Hub {
    const FetchJob *job;
    Http *http;
    HubRepo repo;
    const char *endpoint, *token; /* HF_ENDPOINT, HF_TOKEN (NULL: none) */
    HttpAddress address;          /* of the endpoint; its `shown` is for sentences */
    const char *revision;
} Hub;

/* ---- what the hub has ---- */

typedef struct HubFile {
    char *path; /* relative and safe (listing_read) */
    uint64_t size;
    DigestKind kind;
    char hash[DIGEST_TEXT_SIZE];
    bool chosen;
    bool there; /* finished before this run */
} HubFile;

typedef struct Listing {
    char commit[HUB_COMMIT_SIZE];
    HubFile *files;
    size_t count;
} Listing;

/* Asks the hub, with retries. */
Err listing_get(Listing *out, const Hub *hub);
void listing_free(Listing *listing);

/* The address of a file of that commit. */
void hub_file_url(Buf *out, const Hub *hub, const char *commit, const char *path);

/* ---- which are wanted ---- */

/* The repository behind a short name or an id. */
Err name_resolve(HubRepo *out, const char *name);

/* Sets `chosen`; an error when nothing is left. Says what was left out and why. */
Err listing_choose(Listing *listing, const Hub *hub);

/* ---- tries ---- */

typedef struct Retry {
    int failed; /* tries in a row */
    double wait;
} Retry;

/* After a try that ended with `err`, or with the refusal in `reply`: waits and returns OK when
 * another may help, else the error. `what` opens its sentences. */
Err retry_pause(Retry *retry, const Hub *hub, Err err, const HttpReply *reply, const char *what);

/* ---- one file ---- */

/* Progress over all files. */
typedef struct Meter {
    Progress bar;
    uint64_t unit;       /* bytes the bar counts as one */
    uint64_t before;     /* bytes of the finished files */
    uint64_t downloaded; /* bytes that came over the network */
    const char *note;    /* the file under way */
} Meter;

/* Downloads `file` to `target`, by way of target.incomplete, and verifies it. */
Err file_fetch(const Hub *hub, const HubFile *file, const char *commit, const char *target,
               Meter *meter);

/* Whether the file at `path` is `file`; with `read_all`, by its hash, else by its size alone. */
Err file_is_there(bool *out, const Hub *hub, const HubFile *file, const char *path, bool read_all);

/* What lies at target.incomplete and would not be downloaded again. */
uint64_t file_bytes_started(const HubFile *file, const char *target);

#endif
