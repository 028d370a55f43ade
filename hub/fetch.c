/* All of a download: list, choose, see what is there, fetch, link. */
#include "hub/fetch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "hub/fetch_steps.h"

/* Where the files of this run go. In the cache, `folder` is the snapshot, full of links. */
typedef struct Place {
    bool cache;
    char repo[PATH_SIZE]; /* cache: models--owner--name */
    char folder[PATH_SIZE];
} Place;

/* ---- places ---- */

static Err place_open(Place *place, const Hub *hub, const char *commit) {
    *place = (Place){.cache = !hub->job->folder};
    if (!place->cache) return path_format(place->folder, "%s", hub->job->folder);
    TRY(hub_repo_folder(place->repo, &hub->repo));
    return path_format(place->folder, "%s/snapshots/%s", place->repo, commit);
}

/* Where the content of a file lies: in the cache, under its hash. */
static Err place_of(char out[PATH_SIZE], const Place *place, const HubFile *file) {
    if (place->cache) return path_format(out, "%s/blobs/%s", place->repo, file->hash);
    return path_join(out, place->folder, file->path);
}

/* snapshots/COMMIT/a/b -> ../../../blobs/HASH */
static Err link_file(const Place *place, const HubFile *file) {
    char link[PATH_SIZE], folder[PATH_SIZE], fresh[PATH_SIZE], wanted[PATH_SIZE], now[PATH_SIZE];
    Buf up = {0};
    for (const char *at = file->path; (at = strchr(at, '/')); at++) buf_text(&up, "../");
    Err err = path_format(wanted, "../../%sblobs/%s", buf_cstr(&up), file->hash);
    buf_free(&up);
    TRY(err);
    TRY(path_join(link, place->folder, file->path));
    ssize_t length = readlink(link, now, sizeof now - 1);
    now[length < 0 ? 0 : length] = 0;
    if (!strcmp(now, wanted)) return OK;
    TRY(path_format(folder, "%.*s", (int)(path_name(link) - link), link));
    TRY(file_make_directories(folder));
    TRY(file_temporary(fresh, link));
    REQUIRE(symlink(wanted, fresh) == 0, ERR_IO,
            "cannot link %s: %s. Where links are not possible, name a folder: cadvlm data fetch "
            "NAME FOLDER",
            link, strerror(errno));
    return file_rename(fresh, link);
}

/* ---- what is there ---- */

/* A blob in the cache was verified before it got its name; a file in a folder of the user's may
 * have been changed since, and is read. */
static Err look_around(FetchStats *stats, Listing *listing, const Hub *hub, const Place *place) {
    uint64_t to_read = 0;
    for (size_t i = 0; i < listing->count; i++)
        if (listing->files[i].chosen) to_read += listing->files[i].size;
    if (!place->cache && file_exists(place->folder) && to_read > 1000000000)
        log_info("comparing the files in %s with those of %s (%s at most)", place->folder,
                 stats->id, fetch_bytes(to_read));
    for (size_t i = 0; i < listing->count; i++) {
        HubFile *file = &listing->files[i];
        char path[PATH_SIZE];
        if (!file->chosen) continue;
        TRY(place_of(path, place, file));
        TRY(file_is_there(&file->there, hub, file, path, !place->cache));
        if (!file->there && file_exists(path))
            log_info("%s is there with other contents, and is replaced", path);
        stats->files++;
        stats->bytes += file->size;
        stats->there += file->there;
    }
    return OK;
}

/* The bytes of files that are finished, and those of files that are begun. */
static Err count_bytes(uint64_t *finished, uint64_t *begun, const Listing *listing,
                       const Place *place) {
    *finished = *begun = 0;
    for (size_t i = 0; i < listing->count; i++) {
        const HubFile *file = &listing->files[i];
        char path[PATH_SIZE];
        if (!file->chosen) continue;
        TRY(place_of(path, place, file));
        if (file->there)
            *finished += file->size;
        else
            *begun += file_bytes_started(file, path);
    }
    return OK;
}

static Err check_space(const char *folder, uint64_t missing) {
    struct statvfs info;
    REQUIRE(statvfs(folder, &info) == 0, ERR_IO, "cannot ask for the space at %s: %s", folder,
            strerror(errno));
    uint64_t free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    REQUIRE(missing <= free_bytes, ERR_IO,
            "%s to download, and %s free at %s: make space, name another folder, or set HF_HOME",
            fetch_bytes(missing), fetch_bytes(free_bytes), folder);
    return OK;
}

/* ---- the download ---- */

/* The name of a file as a note behind the bar. */
static const char *short_name(const char *path) {
    const char *name = path_name(path);
    size_t length = strlen(name);
    return length > 40 ? name + length - 40 : name;
}

static Err fetch_missing(Meter *meter, const Listing *listing, const Hub *hub, const Place *place) {
    for (size_t i = 0; i < listing->count; i++) {
        const HubFile *file = &listing->files[i];
        char path[PATH_SIZE];
        if (!file->chosen || file->there) continue;
        TRY(place_of(path, place, file));
        meter->note = short_name(file->path);
        TRY(file_fetch(hub, file, listing->commit, path, meter));
        meter->before += file->size;
    }
    return OK;
}

static Err download(FetchStats *stats, const Listing *listing, const Hub *hub, const Place *place) {
    uint64_t finished, begun;
    const char *ground = place->cache ? place->repo : place->folder;
    TRY(file_make_directories(ground));
    TRY(count_bytes(&finished, &begun, listing, place));
    TRY(check_space(ground, stats->bytes - finished - begun));
    if (stats->there == stats->files) return OK;
    /* The bar counts whole units; a small repository in kB. */
    Meter meter = {.unit = stats->bytes < 10000000 ? 1000 : 1000000, .before = finished};
    progress_open(&meter.bar, hub->repo.id, meter.unit == 1000 ? "kB" : "MB",
                  (int64_t)((finished + begun) / meter.unit), (int64_t)(stats->bytes / meter.unit));
    Err err = fetch_missing(&meter, listing, hub, place);
    if (err == OK) progress_set(&meter.bar, meter.bar.total, NULL);
    progress_close(&meter.bar, NULL);
    stats->downloaded = meter.downloaded;
    return err;
}

/* Last, so that a snapshot which has a name is complete. */
static Err publish(const Listing *listing, const Hub *hub, const Place *place) {
    char path[PATH_SIZE], folder[PATH_SIZE];
    if (!place->cache) return OK;
    for (size_t i = 0; i < listing->count; i++)
        if (listing->files[i].chosen) TRY(link_file(place, &listing->files[i]));
    if (hub_is_commit(hub->revision)) return OK;
    TRY(path_format(path, "%s/refs/%s", place->repo, hub->revision));
    TRY(path_format(folder, "%.*s", (int)(path_name(path) - path), path));
    TRY(file_make_directories(folder));
    return file_write(path, listing->commit, strlen(listing->commit));
}

/* ---- the whole ---- */

static const char *from_environment(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* The hub's address without a slash at its end. */
static void read_endpoint(Buf *out) {
    const char *value = from_environment("HF_ENDPOINT");
    buf_text(out, value ? value : "https://huggingface.co");
    while (out->size && out->data[out->size - 1] == '/') out->data[--out->size] = 0;
}

/* A secret that everyone on the way can read is worth a word. */
static void warn_of_plain_http(const Hub *hub) {
    const HttpAddress *a = &hub->address;
    if (a->encrypted || a->local || (!hub->token && !a->has_password)) return;
    log_warn("%s goes unencrypted to %s, where HF_ENDPOINT points: anyone on the way can read it. "
             "Use https, or unset it for what is public",
             hub->token ? "HF_TOKEN" : "the password in HF_ENDPOINT", a->shown);
}

static Err open_endpoint(Hub *hub, Buf *endpoint) {
    read_endpoint(endpoint);
    hub->endpoint = buf_cstr(endpoint);
    Err err = http_address(&hub->address, hub->endpoint);
    if (err != OK) return err_prefix(err, "HF_ENDPOINT: ");
    warn_of_plain_http(hub);
    return OK;
}

Err fetch_run(FetchStats *stats, const FetchJob *job) {
    double start = clock_seconds();
    *stats = (FetchStats){0};
    Hub hub = {.job = job,
               .token = from_environment("HF_TOKEN"),
               .revision = job->revision ? job->revision : "main"};
    Listing listing = {0};
    Place *place = malloc(sizeof *place);
    CHECK(place, "out of memory: a place");
    Buf endpoint = {0};
    Err err = OK;
    TRY_GOTO(err, name_resolve(&hub.repo, job->name));
    TRY_GOTO(err, hub_check_revision(hub.revision));
    if (!job->folder) TRY_GOTO(err, hub_repo_folder(place->repo, &hub.repo)); /* there is a cache */
    TRY_GOTO(err, http_open(&hub.http, job->stall, job->stopped));
    snprintf(stats->id, sizeof stats->id, "%s%s", hub.repo.dataset ? "datasets/" : "", hub.repo.id);
    TRY_GOTO(err, open_endpoint(&hub, &endpoint));
    TRY_GOTO(err, listing_get(&listing, &hub));
    TRY_GOTO(err, listing_choose(&listing, &hub));
    snprintf(stats->commit, sizeof stats->commit, "%s", listing.commit);
    TRY_GOTO(err, place_open(place, &hub, listing.commit));
    TRY_GOTO(err, path_format(stats->folder, "%s", place->folder));
    TRY_GOTO(err, look_around(stats, &listing, &hub, place));
    TRY_GOTO(err, download(stats, &listing, &hub, place));
    TRY_GOTO(err, publish(&listing, &hub, place));
done:
    stats->seconds = clock_seconds() - start;
    http_close(&hub.http);
    listing_free(&listing);
    buf_free(&endpoint);
    free(place);
    return err;
}
