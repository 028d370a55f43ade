/* Models and datasets of the Hugging Face hub in the local cache that huggingface_hub keeps.
 *
 * Here are names and files only; `cadvlm data fetch` (hub/fetch.h) downloads. The cache is
 * HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, or
 * ~/.cache/huggingface/hub, and holds for each repository
 *
 *     models--owner--name/blobs/HASH                 contents, under the name the hub gives them
 *     models--owner--name/snapshots/COMMIT/PATH      a symbolic link to a blob
 *     models--owner--name/refs/main                  the commit of a branch or tag
 */
#ifndef CADVLM_HUB_CACHE_H
#define CADVLM_HUB_CACHE_H

#include <stdbool.h>

#include "core/err.h"
#include "core/file.h"

enum { HUB_PART_MAX = 96, HUB_ID_SIZE = 2 * HUB_PART_MAX + 2, HUB_COMMIT_SIZE = 65 };

typedef struct HubRepo {
    bool dataset;
    char id[HUB_ID_SIZE]; /* "owner/name" */
} HubRepo;

/* True for text that looks like owner/name (or datasets/owner/name) and is no path that exists. */
bool hub_is_id(const char *text);

/* Reads owner/name or datasets/owner/name. Ids come from configurations and become paths: letters,
 * digits, dots, dashes and underscores only, and nothing that could lead out of the cache. */
Err hub_repo_parse(HubRepo *out, const char *text);

/* A branch, a tag, refs/pr/1 or a commit, safe as a path below refs/. */
Err hub_check_revision(const char *revision);

/* True for the 40 (or 64) hexadecimal digits of a whole commit. */
bool hub_is_commit(const char *text);

/* Where the cache keeps this repository, whether it is there or not. */
Err hub_repo_folder(char out[PATH_SIZE], const HubRepo *repo);

/* The folder of the files of `id` at `revision` (NULL: main). ERR_INPUT when it is not in the
 * cache, with the command that downloads it. */
Err hub_resolve(char out[PATH_SIZE], const char *id, const char *revision);

#endif
