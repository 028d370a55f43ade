/* Shards: what is written is read back; damage, foreign files and full disks give a sentence. */
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/file.h"
#include "data/open_files.h"
#include "data/shard.h"
#include "data/shard_file.h"
#include "tests/data/shard_fixture.h"
#include "tests/support/test.h"

/* ---- writing and reading ---- */

TEST(samples_come_back_as_they_were_over_many_shards) {
    const char *path = set_path();
    ASSERT_OK(write_dataset(path, 300, 8000));
    Dataset *dataset;
    ASSERT_OK(dataset_open(&dataset, path));
    ASSERT_INT(dataset_count(dataset), ==, 300);
    Buf memory = {0};
    for (int i = 299; i >= 0; i--) check_sample(dataset, i, &memory);
    buf_free(&memory);
    ASSERT_OK(dataset_verify(dataset));
    DatasetInfo info;
    dataset_info(dataset, &info);
    ASSERT_INT(info.samples, ==, 300);
    ASSERT_INT(info.shards, >=, 10);
    ASSERT_INT(info.splits[SPLIT_TRAIN], ==, 240);
    ASSERT_INT(info.splits[SPLIT_VAL], ==, 30);
    ASSERT_INT(info.splits[SPLIT_TEST], ==, 30);
    ASSERT_INT(info.source_count, ==, 2);
    ASSERT_TEXT(info.sources[0].name, "deepcad");
    ASSERT_INT(info.sources[0].samples, ==, 75);
    ASSERT_INT(info.sources[1].samples, ==, 225);
    ASSERT_INT(info.complexity_min, ==, 0);
    ASSERT_INT(info.complexity_median, ==, 3);
    ASSERT_INT(info.complexity_max, ==, 6);
    ASSERT_INT(info.format_version, ==, 1);
    ASSERT_TEXT(info.provenance, provenance);
    dataset_close(&dataset);
    dataset_close(&dataset);
}

TEST(same_samples_give_the_same_bytes) {
    uint64_t bytes, first, second, head;
    ASSERT_OK(write_dataset(test_path("a"), 20, 0));
    ASSERT_OK(write_dataset(test_path("b"), 20, 0));
    ASSERT_OK(shard_file_hash(test_path("a/shard-00000.h5"), &bytes, &first, &head));
    ASSERT_OK(shard_file_hash(test_path("b/shard-00000.h5"), &bytes, &second, &head));
    ASSERT_TRUE(first == second);
}

TEST(samples_without_any_image_or_prompt_are_kept) {
    DatasetWriter *writer;
    const char *path = set_path();
    ASSERT_OK(dataset_writer_open(&writer, path, "", 0));
    Sample sample = {.image = NULL,
                     .prompt = NULL,
                     .code = "x = 1",
                     .code_size = 5,
                     .id = "one",
                     .source = "text"};
    ASSERT_OK(dataset_writer_add(writer, &sample));
    ASSERT_OK(dataset_writer_finish(&writer));
    ASSERT_TRUE(writer == NULL);
    Dataset *dataset;
    Buf memory = {0};
    ASSERT_OK(dataset_open(&dataset, path));
    ASSERT_OK(dataset_read(dataset, 0, &sample, &memory));
    ASSERT_INT(sample.image_size, ==, 0);
    ASSERT_TEXT(sample.code, "x = 1");
    buf_free(&memory);
    dataset_close(&dataset);
}

TEST(refused_samples_do_not_stop_the_writer) {
    DatasetWriter *writer;
    Made made;
    char name[200];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    ASSERT_OK(dataset_writer_open(&writer, set_path(), provenance, 0));
    ASSERT_OK(dataset_writer_add(writer, make_sample(&made, 0)));
    ASSERT_ERR(dataset_writer_add(writer, make_sample(&made, 0)), ERR_INPUT,
               "part-0000 is repeated");
    Sample sample = *make_sample(&made, 1);
    sample.id = name;
    ASSERT_ERR(dataset_writer_add(writer, &sample), ERR_INPUT, "has 199 bytes; 1 to 127");
    sample.id = "";
    ASSERT_ERR(dataset_writer_add(writer, &sample), ERR_INPUT, "has 0 bytes");
    sample.id = "a\033[2Jb";
    ASSERT_ERR(dataset_writer_add(writer, &sample), ERR_INPUT, "\\x1b");
    sample.id = "good";
    sample.source = name;
    ASSERT_ERR(dataset_writer_add(writer, &sample), ERR_INPUT, "1 to 63");
    sample.source = "x";
    sample.split = (Split)7;
    ASSERT_ERR(dataset_writer_add(writer, &sample), ERR_INPUT, "split 7");
    ASSERT_OK(dataset_writer_add(writer, make_sample(&made, 1)));
    for (int i = 2; i < 200; i++) {
        char source[32];
        sample = *make_sample(&made, i);
        snprintf(source, sizeof source, "source %d", i);
        sample.source = source;
        if (i < 64)
            ASSERT_OK(dataset_writer_add(writer, &sample));
        else
            ASSERT_ERR(dataset_writer_add(writer, &sample), ERR_INPUT, "more than the 64 possible");
    }
    ASSERT_OK(dataset_writer_finish(&writer));
    ASSERT_OK(open_and_verify(set_path()));
}

TEST(dataset_is_there_only_when_it_is_finished) {
    DatasetWriter *writer, *second;
    Made made;
    const char *path = set_path();
    ASSERT_OK(dataset_writer_open(&writer, path, provenance, 600));
    for (int i = 0; i < 20; i++) ASSERT_OK(dataset_writer_add(writer, make_sample(&made, i)));
    ASSERT_TRUE(file_exists(shard_path()));
    ASSERT_ERR(open_and_close(path), ERR_INPUT, "index.json is missing");
    ASSERT_ERR(dataset_writer_open(&second, path, provenance, 0), ERR_INPUT,
               "another process is writing");
    dataset_writer_abandon(&writer);
    ASSERT_TRUE(writer == NULL);
    ASSERT_TRUE(!file_exists(path));
    dataset_writer_abandon(&writer);

    ASSERT_OK(dataset_writer_open(&writer, path, provenance, 600));
    ASSERT_ERR(dataset_writer_finish(&writer), ERR_INPUT, "no sample was added");
    ASSERT_TRUE(!file_exists(path));
    ASSERT_OK(write_dataset(path, 5, 0));
    ASSERT_ERR(dataset_writer_open(&writer, path, provenance, 0), ERR_INPUT,
               "already holds a dataset");
    ASSERT_OK(open_and_verify(path));
}

TEST(leftovers_of_a_killed_writer_are_cleared) {
    const char *path = set_path();
    ASSERT_OK(file_make_directories(path));
    ASSERT_OK(file_write(test_path("set/shard-00007.h5"), "old", 3));
    ASSERT_OK(file_write(test_path("set/shard-00008.h5.tmp.77"), "old", 3));
    ASSERT_OK(file_write(test_path("set/shard-notes.h5"), "mine", 4));
    ASSERT_OK(write_dataset(path, 5, 0));
    ASSERT_TRUE(!file_exists(test_path("set/shard-00007.h5")));
    ASSERT_TRUE(!file_exists(test_path("set/shard-00008.h5.tmp.77")));
    ASSERT_TRUE(file_exists(test_path("set/shard-notes.h5")));
    ASSERT_OK(open_and_verify(path));
}

static void *read_all(void *context) {
    const ReaderThread *mine = context;
    Buf memory = {0};
    for (int i = 0; i < 400; i++) check_sample(mine->dataset, (mine->first + 7 * i) % 100, &memory);
    buf_free(&memory);
    return NULL;
}

static void *open_often(void *context) {
    for (int i = 0; i < 20; i++) ASSERT_OK(open_and_verify(context));
    return NULL;
}

TEST(threads_read_and_open_at_the_same_time) {
    const char *path = set_path();
    ASSERT_OK(write_dataset(path, 100, 4000));
    Dataset *dataset;
    ASSERT_OK(dataset_open(&dataset, path));
    pthread_t threads[4];
    ReaderThread readers[2] = {{dataset, 0}, {dataset, 50}};
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, read_all, &readers[i]);
    for (int i = 2; i < 4; i++)
        pthread_create(&threads[i], NULL, open_often, (void *)(uintptr_t)path);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    dataset_close(&dataset);
}

/* ---- fewer files than shards ---- */

static void limit_files(rlim_t soft, rlim_t hard) {
    struct rlimit limit = {soft, hard};
    ASSERT_INT(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
}

static int open_descriptors(void) {
    FileNames names;
    ASSERT_OK(file_list(&names, "/proc/self/fd"));
    int count = (int)names.count - 1; /* without the one that was listed through */
    file_names_free(&names);
    return count;
}

TEST(more_shards_than_a_process_may_open_are_read_all_the_same) {
    const char *path = set_path();
    ASSERT_OK(write_dataset(path, 100, 600));
    limit_files(24, 24);
    Dataset *dataset;
    DatasetInfo info;
    ASSERT_OK(dataset_open(&dataset, path));
    dataset_info(dataset, &info);
    ASSERT_INT(info.shards, >, 48);
    ASSERT_INT(open_descriptors(), <=, 12 + 6); /* half of the limit, and what a process has */
    pthread_t threads[4];
    ReaderThread readers[4];
    for (int i = 0; i < 4; i++) {
        readers[i] = (ReaderThread){dataset, 25 * i};
        pthread_create(&threads[i], NULL, read_all, &readers[i]);
    }
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    ASSERT_OK(dataset_verify(dataset));
    dataset_close(&dataset);
    ASSERT_INT(open_descriptors(), <=, 6);
}

TEST(a_file_that_is_being_read_is_never_closed_for_another) {
    enum { FILES = 14, MOST = 12 };
    static OpenFile files[FILES];
    char path[PATH_SIZE];
    int descriptors[FILES];
    limit_files(2 * MOST, 2 * MOST);
    for (int i = 0; i < FILES; i++) { /* two more than stay open, all in use */
        snprintf(path, sizeof path, "%s/%d", test_folder(), i);
        ASSERT_OK(file_write(path, &(char){(char)i}, 1));
        ASSERT_OK(open_file_take(&files[i], path, &descriptors[i]));
    }
    for (int i = 0; i < FILES; i++) {
        char byte = 99;
        ASSERT_INT(pread(descriptors[i], &byte, 1, 0), ==, 1);
        ASSERT_INT(byte, ==, i);
    }
    for (int i = 0; i < FILES; i++) open_file_leave(&files[i]);
    for (int i = 0; i < FILES; i++) open_file_close(&files[i]);
    for (int i = 0; i < FILES; i++) ASSERT_INT(files[i].descriptor, ==, 0);
}

TEST(the_file_used_last_stays_open_longest) {
    enum { FILES = 13 };
    static OpenFile files[FILES];
    char path[PATH_SIZE];
    int descriptor;
    limit_files(24, 24); /* 12 stay open */
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%d", test_folder(), i);
        ASSERT_OK(file_write(path, "x", 1));
        if (i == 12) { /* the first is used again */
            ASSERT_OK(open_file_take(&files[0], test_path("0"), &descriptor));
            open_file_leave(&files[0]);
        }
        ASSERT_OK(open_file_take(&files[i], path, &descriptor));
        open_file_leave(&files[i]);
    }
    for (int i = 0; i < FILES; i++) ASSERT_TRUE((files[i].descriptor == 0) == (i == 1));
    for (int i = 0; i < FILES; i++) open_file_close(&files[i]);
}

TEST(where_others_have_taken_all_files_one_of_ours_is_closed) {
    OpenFile files[2] = {{0}};
    int descriptor, taken[24], count = 0;
    ASSERT_OK(file_write(test_path("0"), "x", 1));
    limit_files(24, 24);
    ASSERT_OK(open_file_take(&files[0], test_path("0"), &descriptor));
    while ((descriptor = dup(0)) >= 0) taken[count++] = descriptor;
    ASSERT_ERR(open_file_take(&files[1], test_path("0"), &descriptor), ERR_IO,
               "Too many open files"); /* ours is in use */
    open_file_leave(&files[0]);
    ASSERT_OK(open_file_take(&files[1], test_path("0"), &descriptor));
    ASSERT_INT(files[0].descriptor, ==, 0);
    open_file_leave(&files[1]);
    open_file_close(&files[1]);
    for (int i = 0; i < count; i++) close(taken[i]);
}

TEST(a_soft_limit_of_open_files_is_raised_to_the_hard_one) {
    struct rlimit limit;
    ASSERT_INT(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    rlim_t hard = limit.rlim_max < 300 ? limit.rlim_max : 300;
    ASSERT_OK(write_dataset(set_path(), 100, 600));
    limit_files(24, hard);
    Dataset *dataset;
    ASSERT_OK(dataset_open(&dataset, set_path()));
    ASSERT_INT(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    ASSERT_INT(limit.rlim_cur, ==, hard);
    ASSERT_INT(open_descriptors(), >, 48); /* all of them stay open now */
    dataset_close(&dataset);
}

TEST(a_shard_that_cannot_be_opened_again_is_named) {
    const char *path = set_path();
    ASSERT_OK(write_dataset(path, 100, 600));
    limit_files(24, 24);
    Dataset *dataset;
    Sample sample;
    Buf memory = {0};
    ASSERT_OK(dataset_open(&dataset, path));
    ASSERT_INT(unlink(shard_path()), ==, 0);
    ASSERT_ERR(dataset_read(dataset, 0, &sample, &memory), ERR_IO, "shard-00000.h5: No such file");
    buf_free(&memory);
    dataset_close(&dataset);
}

/* ---- a disk without room ---- */

TEST(full_disk_is_a_sentence_and_leaves_no_dataset) {
    const char *path = set_path();
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    /* Every place where the room may end: in the structure, in the columns, in the images. */
    for (rlim_t room = 0; room < 80000; room += 4000) {
        limit.rlim_cur = room;
        ASSERT_INT(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
        Err err = write_dataset(path, 300, 0);
        limit.rlim_cur = limit.rlim_max;
        ASSERT_INT(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
        ASSERT_INT(err, ==, ERR_IO);
        ASSERT_CONTAINS(err_message(), "File too large");
        ASSERT(!file_exists(path), "%s is left after a limit of %ld bytes", path, (long)room);
    }
    ASSERT_OK(write_dataset(path, 300, 0));
    ASSERT_OK(open_and_verify(path));
}

TEST(full_disk_in_the_second_shard_ends_the_writer) {
    const char *path = set_path();
    DatasetWriter *writer;
    Made made;
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    ASSERT_OK(dataset_writer_open(&writer, path, provenance, 2000));
    int i = 0;
    while (!file_exists(shard_path()))
        ASSERT_OK(dataset_writer_add(writer, make_sample(&made, i++)));
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = 1000;
    ASSERT_INT(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    Err err = OK;
    while (err == OK) err = dataset_writer_add(writer, make_sample(&made, i++));
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
    ASSERT_INT(err, ==, ERR_IO);
    ASSERT_CONTAINS(err_message(), "shard-00001.h5");
    ASSERT_ERR(dataset_writer_add(writer, make_sample(&made, i++)), ERR_IO, "shard-00001.h5");
    ASSERT_ERR(dataset_writer_finish(&writer), ERR_IO, "shard-00001.h5");
    ASSERT_TRUE(!file_exists(path));
}

TEST(writing_where_nothing_can_be_written_is_a_sentence) {
    ASSERT_OK(file_write(test_path("file"), "x", 1));
    DatasetWriter *writer;
    ASSERT_ERR(dataset_writer_open(&writer, test_path("file"), "", 0), ERR_IO, "file");
    ASSERT_ERR(dataset_writer_open(&writer, test_path("file/set"), "", 0), ERR_IO, "file/set");
}
