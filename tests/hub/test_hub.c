/* Names of the Hugging Face hub, its cache on disk, and the digests that name contents. */
#include <sys/stat.h>
#include <unistd.h>

#include "core/digest.h"
#include "core/file.h"
#include "hub/cache.h"
#include "tests/support/test.h"

static const char COMMIT[] = "0123456789abcdef0123456789abcdef01234567";

static const char *digest_of(DigestKind kind, const char *text, size_t piece) {
    static char out[DIGEST_TEXT_SIZE];
    Digest *digest;
    size_t size = strlen(text);
    ASSERT_OK(digest_open(&digest, kind, size));
    for (size_t at = 0; at < size; at += piece)
        digest_add(digest, text + at, size - at < piece ? size - at : piece);
    digest_text(digest, out);
    digest_close(&digest);
    ASSERT_TRUE(!digest);
    return out;
}

/* FIPS 180-2, appendix B; and what `git hash-object` prints. */
TEST(digests_are_the_published_ones) {
    ASSERT_TEXT(digest_of(DIGEST_SHA256, "abc", 1),
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    ASSERT_TEXT(
        digest_of(DIGEST_SHA256, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 7),
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    ASSERT_TEXT(digest_of(DIGEST_SHA256, "", 1),
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    ASSERT_TEXT(digest_of(DIGEST_GIT_BLOB, "", 1), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    ASSERT_TEXT(digest_of(DIGEST_GIT_BLOB, "hello\n", 4),
                "ce013625030ba8dba906f756967f9e9ca394464a");
}

TEST(ids_are_two_plain_names) {
    static const char *const good[] = {"owner/name",
                                       "Yuki-Kokomi/OpenECADv2-SigLIP-0.89B",
                                       "a/b",
                                       "a_b/c.d-e",
                                       "datasets/owner/name",
                                       "datasets/a"};
    static const char *const bad[] = {
        "",       "name",     "/name",     "owner/",         "a/b/c",      "models/a/b",
        "../b",   "a/..",     "a/.b",      "a/-b",           "a/b-",       "a/b..c",
        "a/b--c", "a b/c",    "a/b\n",     "a/b%2e",         "~/b",        "a\\b/c",
        "a/ü",    "datasets", "datasets/", "datasets/a/b/c", "https://a/b"};
    HubRepo repo;
    ASSERT_INT(chdir(test_folder()), ==, 0);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ASSERT(hub_is_id(good[i]), "%s", good[i]);
        ASSERT_OK(hub_repo_parse(&repo, good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ASSERT(!hub_is_id(bad[i]), "%s", bad[i]);
        ASSERT_ERR(hub_repo_parse(&repo, bad[i]), ERR_INPUT, "owner/name is expected");
    }
    ASSERT_OK(hub_repo_parse(&repo, "datasets/owner/name"));
    ASSERT_TRUE(repo.dataset);
    ASSERT_TEXT(repo.id, "owner/name");
    ASSERT_OK(hub_repo_parse(&repo, "datasets/name")); /* an owner who is called so */
    ASSERT_TRUE(!repo.dataset);

    char half[HUB_PART_MAX + 2], id[2 * sizeof half];
    memset(half, 'a', sizeof half);
    half[HUB_PART_MAX] = 0;
    snprintf(id, sizeof id, "%s/%s", half, half);
    ASSERT_OK(hub_repo_parse(&repo, id));
    ASSERT_TEXT(repo.id, id);
    half[HUB_PART_MAX] = 'a', half[HUB_PART_MAX + 1] = 0;
    snprintf(id, sizeof id, "b/%s", half);
    ASSERT_ERR(hub_repo_parse(&repo, id), ERR_INPUT, "owner/name is expected");
}

TEST(a_path_that_exists_is_no_id) {
    ASSERT_INT(chdir(test_folder()), ==, 0);
    ASSERT_TRUE(hub_is_id("shards/openecad"));
    ASSERT_OK(file_make_directories("shards/openecad"));
    ASSERT_TRUE(!hub_is_id("shards/openecad"));
}

TEST(revisions_cannot_leave_the_cache) {
    static const char *const good[] = {"main", "v1.0", "refs/pr/1", "feature/a-b_c", COMMIT};
    static const char *const bad[] = {"",     "..", "../x", "a/../b", "/a",    "a/",   "a//b", ".a",
                                      "a/.b", "-a", "a b",  "a\nb",   "a%2fb", "a\\b", "a:b",  "ü"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ASSERT_OK(hub_check_revision(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ASSERT_ERR(hub_check_revision(bad[i]), ERR_INPUT, "a branch, a tag or a commit");
    char out[PATH_SIZE];
    ASSERT_ERR(hub_resolve(out, "a/b", "../../x"), ERR_INPUT, "a branch, a tag or a commit");
    ASSERT_TRUE(hub_is_commit(COMMIT));
    ASSERT_TRUE(!hub_is_commit("0123456"));
    ASSERT_TRUE(!hub_is_commit("0123456789ABCDEF0123456789abcdef01234567"));
}

/* ---- the cache ---- */

static const char *const PLACES[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                     "XDG_CACHE_HOME"};

static void forget_places(void) {
    for (size_t i = 0; i < sizeof PLACES / sizeof PLACES[0]; i++) unsetenv(PLACES[i]);
    setenv("HOME", test_folder(), 1);
}

/* models--owner--name of `cache` with `ref` -> COMMIT and its snapshot. */
static void make_snapshot(const char *cache, const char *repo, const char *ref) {
    char path[PATH_SIZE], folder[PATH_SIZE];
    ASSERT_OK(path_format(path, "%s/%s/snapshots/%s", cache, repo, COMMIT));
    ASSERT_OK(file_make_directories(path));
    ASSERT_OK(path_format(path, "%s/%s/refs/%s", cache, repo, ref));
    ASSERT_OK(path_format(folder, "%.*s", (int)(path_name(path) - path), path));
    ASSERT_OK(file_make_directories(folder));
    ASSERT_OK(file_write(path, COMMIT, strlen(COMMIT)));
}

TEST(the_snapshot_of_main_is_found) {
    char out[PATH_SIZE], expected[PATH_SIZE];
    forget_places();
    setenv("HF_HUB_CACHE", test_path("hub"), 1);
    make_snapshot(test_path("hub"), "models--owner--name", "main");
    make_snapshot(test_path("hub"), "models--owner--name", "refs/pr/1");
    make_snapshot(test_path("hub"), "datasets--owner--parts", "main");
    ASSERT_OK(
        path_format(expected, "%s/models--owner--name/snapshots/%s", test_path("hub"), COMMIT));
    ASSERT_OK(hub_resolve(out, "owner/name", NULL));
    ASSERT_TEXT(out, expected);
    ASSERT_OK(hub_resolve(out, "owner/name", "refs/pr/1"));
    ASSERT_TEXT(out, expected);
    ASSERT_OK(hub_resolve(out, "owner/name", COMMIT));
    ASSERT_TEXT(out, expected);
    ASSERT_OK(hub_resolve(out, "datasets/owner/parts", NULL));
    ASSERT_CONTAINS(out, "/datasets--owner--parts/snapshots/");
}

TEST(what_is_missing_is_reported_with_the_command_to_get_it) {
    char out[PATH_SIZE];
    forget_places();
    setenv("HF_HUB_CACHE", test_path("hub"), 1);
    ASSERT_ERR(hub_resolve(out, "owner/name", NULL), ERR_INPUT, "cadvlm data fetch owner/name");
    ASSERT_ERR(hub_resolve(out, "owner/name", "v2"), ERR_INPUT,
               "cadvlm data fetch owner/name --revision v2");
    ASSERT_ERR(hub_resolve(out, "datasets/owner/name", NULL), ERR_INPUT,
               "cadvlm data fetch datasets/owner/name");
    make_snapshot(test_path("hub"), "models--owner--name", "main");
    ASSERT_ERR(hub_resolve(out, "owner/name", "v2"), ERR_INPUT, "--revision v2");
    ASSERT_ERR(hub_resolve(out, "owner/name", "ffffffffffffffffffffffffffffffffffffffff"),
               ERR_INPUT, "--revision ffff");
    /* A branch whose snapshot is gone. */
    ASSERT_OK(file_remove_tree(test_path("hub/models--owner--name/snapshots")));
    ASSERT_ERR(hub_resolve(out, "owner/name", NULL), ERR_INPUT, "cadvlm data fetch owner/name");
}

TEST(a_damaged_ref_is_named) {
    static const char *const bad[] = {"", "../../../../etc", "0123", "main"};
    char out[PATH_SIZE];
    forget_places();
    setenv("HF_HUB_CACHE", test_path("hub"), 1);
    make_snapshot(test_path("hub"), "models--owner--name", "main");
    const char *ref = test_path("hub/models--owner--name/refs/main");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ASSERT_OK(file_write(ref, bad[i], strlen(bad[i])));
        ASSERT_ERR(hub_resolve(out, "owner/name", NULL), ERR_INPUT, "refs/main names no commit");
    }
    char line[64];
    snprintf(line, sizeof line, "%s\n", COMMIT);
    ASSERT_OK(file_write(ref, line, strlen(line))); /* some tools end it with a line */
    ASSERT_OK(hub_resolve(out, "owner/name", NULL));
    Buf big = {0};
    while (big.size < 1000) buf_text(&big, COMMIT);
    ASSERT_OK(file_write(ref, big.data, big.size));
    ASSERT_ERR(hub_resolve(out, "owner/name", NULL), ERR_INPUT, "more than the 256 allowed");
    buf_free(&big);
}

/* As huggingface_hub's constants.py reads them. */
TEST(the_cache_is_where_other_tools_have_it) {
    char out[PATH_SIZE], expected[PATH_SIZE];
    HubRepo repo;
    ASSERT_OK(hub_repo_parse(&repo, "owner/name"));
    forget_places();
    ASSERT_OK(
        path_format(expected, "%s/.cache/huggingface/hub/models--owner--name", test_folder()));
    ASSERT_OK(hub_repo_folder(out, &repo));
    ASSERT_TEXT(out, expected);
    setenv("XDG_CACHE_HOME", "/x", 1);
    ASSERT_OK(hub_repo_folder(out, &repo));
    ASSERT_TEXT(out, "/x/huggingface/hub/models--owner--name");
    setenv("HF_HOME", "/h", 1);
    ASSERT_OK(hub_repo_folder(out, &repo));
    ASSERT_TEXT(out, "/h/hub/models--owner--name");
    setenv("HUGGINGFACE_HUB_CACHE", "/old", 1);
    ASSERT_OK(hub_repo_folder(out, &repo));
    ASSERT_TEXT(out, "/old/models--owner--name");
    setenv("HF_HUB_CACHE", "~/mine", 1);
    ASSERT_OK(path_format(expected, "%s/mine/models--owner--name", test_folder()));
    ASSERT_OK(hub_repo_folder(out, &repo));
    ASSERT_TEXT(out, expected);
    setenv("HF_HUB_CACHE", "", 1); /* empty is not set */
    ASSERT_OK(hub_repo_folder(out, &repo));
    ASSERT_TEXT(out, "/old/models--owner--name");
    forget_places();
    unsetenv("HOME");
    ASSERT_ERR(hub_repo_folder(out, &repo), ERR_INPUT, "set HF_HOME");
}
