/* What the hub answers, with a network of our own: names, the list of files, the choice among
 * them, a file. Pieces: an id, a revision, the list, the file; the first byte says how it comes. */
#include "core/file.h"
#include "hub/fetch_steps.h"
#include "tests/fuzz/fuzz.h"

/* ---- the network ---- */

static const char *answer;
static size_t answer_size;
static HttpReply answer_reply;

Err http_get(Http *http, const HttpGet *get, HttpReply *reply) {
    (void)http;
    *reply = answer_reply;
    if (reply->status != 200 && reply->status != 206) return OK;
    if (get->begin) TRY(get->begin(get->context, reply));
    for (size_t at = 0; at < answer_size; at += 7) {
        size_t piece = answer_size - at < 7 ? answer_size - at : 7;
        TRY(get->body(get->context, answer + at, piece));
    }
    return OK;
}

Err http_open(Http **out, double stall_seconds, bool (*stopped)(void)) {
    (void)stall_seconds, (void)stopped;
    *out = NULL;
    return OK;
}

void http_close(Http **http) {
    *http = NULL;
}

Err http_address(HttpAddress *out, const char *url) {
    (void)url;
    *out = (HttpAddress){.shown = "https://hub"};
    return OK;
}

static void answer_with(uint8_t how, const char *text, size_t size) {
    static const int codes[] = {200, 200, 200, 206, 401, 403, 404, 429};
    answer = text;
    answer_size = size;
    answer_reply = (HttpReply){.status = codes[how & 7],
                               .length = how & 8 ? (int64_t)size : -1,
                               .range_first = how & 16 ? 3 : -1,
                               .range_total = how & 32 ? (int64_t)size : -1,
                               .elsewhere = how & 64};
    strcpy(answer_reply.etag, how & 128 ? "\"e\"" : "");
    strcpy(answer_reply.code, how & 16 ? "GatedRepo" : "");
}

/* ---- what is done with it ---- */

/* It becomes a file below a folder of ours. */
static void check_path(const char *path) {
    char around[PATH_SIZE];
    snprintf(around, sizeof around, "/%s/", path);
    ASSERT_TRUE(!strstr(around, "//") && !strstr(around, "/../") && !strstr(around, "/./"));
    ASSERT_TRUE(!strcasestr(around, "/.git/"));
    for (const char *at = path; *at; at++) ASSERT_TRUE((unsigned char)*at >= ' ' && *at != 0x7f);
}

static void fetch_chosen(const Hub *hub, const Listing *listing, const char *text, size_t size,
                         uint8_t how) {
    Meter meter = {.unit = 1};
    Buf url = {0};
    for (size_t i = 0; i < listing->count; i++) {
        HubFile *file = &listing->files[i];
        hub_file_url(&url, hub, listing->commit, file->path);
        if (!file->chosen || file->size > 1000) continue;
        answer_with(how, text, size);
        IGNORE(file_fetch(hub, file, listing->commit, test_path("target"), &meter));
        break;
    }
    IGNORE(file_remove_tree(test_path("target.incomplete")));
    IGNORE(file_remove_tree(test_path("target.incomplete.etag")));
    IGNORE(file_remove_tree(test_path("target")));
    buf_free(&url);
}

void fuzz_one(const uint8_t *data, size_t size) {
    if (!size) return;
    FetchJob job = {.tries = 1, .folder = test_folder()};
    Hub hub = {.job = &job, .endpoint = "https://hub", .address = {.shown = "https://hub"}};
    FuzzInput input = {data + 1, data + size};
    Listing listing;
    size_t list_size, text_size;
    char *id = fuzz_piece(&input, NULL), *revision = fuzz_piece(&input, NULL),
         *list = fuzz_piece(&input, &list_size), *text = fuzz_piece(&input, &text_size);
    char folder[PATH_SIZE];
    hub.revision = revision;
    if (name_resolve(&hub.repo, id) == OK) IGNORE(hub_repo_folder(folder, &hub.repo));
    IGNORE(hub_check_revision(revision));
    answer_with(data[0], list, list_size);
    Err err = listing_get(&listing, &hub);
    for (size_t i = 0; err == OK && i < listing.count; i++) check_path(listing.files[i].path);
    if (err == OK && listing_choose(&listing, &hub) == OK)
        fetch_chosen(&hub, &listing, text, text_size, data[0]);
    listing_free(&listing);
    free(id);
    free(revision);
    free(list);
    free(text);
}

static void seed(char how, const char *id, const char *list, const char *text) {
    Buf bytes = {0};
    const char *pieces[] = {id, "main", list, text};
    for (int i = 0; i < 4; i++) fuzz_piece_append(&bytes, pieces[i], strlen(pieces[i]));
    Buf whole = {0};
    buf_append(&whole, &how, 1);
    buf_append(&whole, bytes.data, bytes.size);
    fuzz_seed(whole.data, whole.size);
    buf_free(&bytes);
    buf_free(&whole);
}

void fuzz_seeds(void) {
    static const char list[] =
        "{\"sha\":\"0123456789abcdef0123456789abcdef01234567\",\"siblings\":["
        /* of "hello\n": git hash-object */
        "{\"rfilename\":\"config.json\",\"size\":6,\"blobId\":"
        "\"ce013625030ba8dba906f756967f9e9ca394464a\"},"
        "{\"rfilename\":\"a/model.safetensors\",\"size\":6,\"blobId\":\"x\",\"lfs\":{\"sha256\":"
        "\"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\",\"size\":6}}]}";
    seed(0, "owner/name", list, "hello\n");
    seed(8, "datasets/owner/name", list, "hello\n");
    seed(
        0, "o/n",
        "{\"sha\":\"0123456789abcdef0123456789abcdef01234567\",\"siblings\":[{\"rfilename\":\"a/../"
        "../b.json\",\"size\":6,\"blobId\":\"ce013625030ba8dba906f756967f9e9ca394464a\"}]}",
        "hello\n");
    seed(3, "openecad-0.55b", list, "help\n\n");
    seed(4, "o/n", "{}", "");
    seed((char)0x95, "o/n", list, "hello\n");
}
