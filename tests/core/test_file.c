/* core: what is said of files that cannot be opened, and of what stands in their place. */
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/folder.h"
#include "core/json.h"
#include "hub/cache.h"
#include "tests/support/test.h"

/* Nobody may search the folder any more; root may, and becomes another user. */
static void shut(const char *folder) {
    enum { NOBODY = 65534 };
    ASSERT_INT(chmod(folder, 0), ==, 0);
    if (geteuid() == 0) ASSERT_INT(seteuid(NOBODY), ==, 0);
}

static void open_again(const char *folder) {
    if (getuid() == 0) ASSERT_INT(seteuid(0), ==, 0);
    ASSERT_INT(chmod(folder, 0700), ==, 0);
}

TEST(what_may_not_be_seen_is_not_said_to_be_missing) {
    Buf text = {0};
    Json *root;
    const void *data;
    size_t size;
    ASSERT_OK(file_make_directories(test_path("shut/in")));
    ASSERT_OK(file_write(test_path("shut/in/a.json"), "{}", 2));
    char path[PATH_SIZE], folder[PATH_SIZE], absent[PATH_SIZE];
    snprintf(path, sizeof path, "%s", test_path("shut/in/a.json"));
    snprintf(folder, sizeof folder, "%s", test_path("shut"));
    snprintf(absent, sizeof absent, "%s", test_path("none/a.json"));
    shut(folder);
    ASSERT_TRUE(file_exists(path) && !file_is_directory(path));
    ASSERT_ERR(file_reach(path), ERR_INPUT, "a.json: Permission denied");
    ASSERT_ERR(file_read(&text, path, 10), ERR_INPUT, "a.json: Permission denied");
    ASSERT_ERR(file_map(&data, &size, path), ERR_INPUT, "a.json: Permission denied");
    ASSERT_ERR(file_check(path), ERR_INPUT, "a.json: Permission denied");
    ASSERT_ERR(js_read(&root, path, 10), ERR_INPUT, "a.json: Permission denied");
    open_again(folder);
    ASSERT_OK(file_reach(path));
    ASSERT_OK(file_reach(absent));
    ASSERT_TRUE(!file_exists(absent));
    snprintf(absent, sizeof absent, "%s", test_path("shut/in/a.json/more")); /* below a file */
    ASSERT_OK(file_reach(absent));
    ASSERT_TRUE(!file_exists(absent));
    ASSERT_ERR(file_read(&text, absent, 10), ERR_INPUT, "Not a directory");
    ASSERT_INT(symlink("round", test_path("round")), ==, 0);
    ASSERT_TRUE(file_exists(test_path("round")));
    ASSERT_ERR(file_reach(test_path("round")), ERR_INPUT, "symbolic links");
    buf_free(&text);
}

/* As git-lfs writes it (its specification, v1). */
static const char POINTER[] =
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 12345\n";

static void is_refused(const char *content, const char *part) {
    Buf text = {0};
    const void *data;
    size_t size;
    const char *path = test_path("model.safetensors");
    ASSERT_OK(file_write(path, content, strlen(content)));
    ASSERT_ERR(file_read(&text, path, 1 << 20), ERR_INPUT, part);
    ASSERT_ERR(file_map(&data, &size, path), ERR_INPUT, part);
    ASSERT_ERR(file_copy(path, test_path("copy"), 1 << 20), ERR_INPUT, part);
    ASSERT_ERR(file_check(path), ERR_INPUT, part);
    ASSERT_CONTAINS(err_message(), "model.safetensors is a");
    ASSERT_TRUE(!file_exists(test_path("copy")));
    buf_free(&text);
}

TEST(a_pointer_or_a_page_in_the_place_of_a_file_is_called_that) {
    is_refused(POINTER, "is a Git LFS pointer");
    is_refused("<!DOCTYPE html>\n<html><body>404</body></html>", "is an HTML page");
    is_refused("<!doctype HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\">", "is an HTML page");
    is_refused("\n  <html lang=\"en\">", "is an HTML page");
    is_refused("\xef\xbb\xbf<HTML>", "is an HTML page");
    Buf text = {0};
    static const char *const good[] = {
        "version = 1\n", "<!-- a comment -->", "<xml>", "", "<", "{}"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ASSERT_OK(file_write(test_path("a.py"), good[i], strlen(good[i])));
        ASSERT_OK(file_read(&text, test_path("a.py"), 1 << 20));
        ASSERT_TEXT(buf_cstr(&text), good[i]);
    }
    ASSERT_OK(file_write(test_path("report.html"), "<!DOCTYPE html>", 15)); /* it is one */
    ASSERT_OK(file_read(&text, test_path("report.html"), 1 << 20));
    ASSERT_OK(file_write(test_path("report.HTM"), "<html>", 6));
    ASSERT_OK(file_read(&text, test_path("report.HTM"), 1 << 20));
    buf_free(&text);
}

/* They would be gone, for all who use them. */
TEST(devices_and_pipes_are_not_replaced_by_files) {
    static const char *const devices[] = {"/dev/null", "/dev/full", "/dev/stdout", "/dev/nothing"};
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++)
        ASSERT_ERR(file_target(devices[i]), ERR_INPUT, "is a device or a pipe");
    ASSERT_OK(file_target("/dev/shm/a.json"));
    struct stat info;
    ASSERT_INT(mkfifo(test_path("pipe"), 0600), ==, 0);
    ASSERT_INT(symlink("pipe", test_path("link")), ==, 0);
    ASSERT_ERR(file_write(test_path("pipe"), "a", 1), ERR_INPUT, "pipe is a device or a pipe");
    ASSERT_ERR(file_write(test_path("link"), "a", 1), ERR_INPUT, "link is a device or a pipe");
    ASSERT_TRUE(stat(test_path("pipe"), &info) == 0 && S_ISFIFO(info.st_mode));
    ASSERT_OK(file_target(test_path("new")));
    ASSERT_OK(file_write(test_path("new"), "a", 1));
    ASSERT_OK(file_write(test_path("new"), "b", 1));
}

TEST(a_home_that_is_not_there_is_said_to_be) {
    static const char *const none[] = {"/nonexistent/home", "", "relative", "/dev/null"};
    static const char *const names[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                        "XDG_CACHE_HOME"};
    char out[PATH_SIZE];
    HubRepo repo;
    for (int i = 0; i < 4; i++) unsetenv(names[i]);
    ASSERT_OK(hub_repo_parse(&repo, "owner/name"));
    for (int i = 0; i < 5; i++) {
        if (i == 4)
            unsetenv("HOME");
        else
            setenv("HOME", none[i], 1);
        ASSERT_TRUE(path_home() == NULL);
        ASSERT_ERR(hub_repo_folder(out, &repo), ERR_INPUT, "HOME names no folder: set HF_HOME");
        ASSERT_ERR(hub_resolve(out, "owner/name", NULL), ERR_INPUT, "HOME names no folder");
    }
    setenv("HF_HOME", "/somewhere", 1); /* then nobody asks for HOME */
    ASSERT_OK(hub_repo_folder(out, &repo));
    ASSERT_TEXT(out, "/somewhere/hub/models--owner--name");
    unsetenv("HF_HOME");
    setenv("HOME", test_folder(), 1);
    ASSERT_TEXT(path_home(), test_folder());
    ASSERT_OK(hub_repo_folder(out, &repo));
    ASSERT_CONTAINS(out, "/.cache/huggingface/hub/models--owner--name");
}

TEST(a_folder_is_written_whole_or_not_at_all) {
    static const SmallFile files[] = {{"a.txt", "one"}, {"b.txt", "two"}};
    FolderWriter writer;
    FileNames names;
    Buf text = {0};
    ASSERT_OK(folder_writer_open(&writer, test_path("set//")));
    ASSERT_OK(folder_writer_add(&writer, files, 2));
    ASSERT_TRUE(!file_exists(test_path("set")));
    folder_writer_abandon(&writer);
    ASSERT_OK(file_list(&names, test_folder())); /* nothing is left */
    ASSERT_INT(names.count, ==, 0);
    file_names_free(&names);
    ASSERT_OK(file_make_directories(test_path("set"))); /* an empty one may be there */
    ASSERT_OK(folder_writer_open(&writer, test_path("set")));
    ASSERT_OK(folder_writer_add(&writer, files, 2));
    ASSERT_OK(folder_writer_finish(&writer));
    folder_writer_abandon(&writer);
    ASSERT_OK(file_read(&text, test_path("set/b.txt"), 10));
    ASSERT_TEXT(buf_cstr(&text), "two");
    ASSERT_OK(file_remove_tree(test_path("set/b.txt")));
    ASSERT_ERR(folder_writer_open(&writer, test_path("set")), ERR_INPUT,
               "set is not empty: give another folder");
    ASSERT_ERR(folder_writer_open(&writer, test_path("set/a.txt")), ERR_INPUT,
               "a.txt is a file: a folder is to be written there");
    ASSERT_OK(file_list(&names, test_folder()));
    ASSERT_INT(names.count, ==, 1);
    file_names_free(&names);
    buf_free(&text);
}
