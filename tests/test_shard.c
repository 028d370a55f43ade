/* Shards: what is written is read back; damage, foreign files and full disks give a sentence. */
#include <hdf5.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/rng.h"
#include "data/open_files.h"
#include "data/shard.h"
#include "data/shard_file.h"
#include "data/shard_index.h"
#include "tests/test.h"

/* ---- fixtures ---- */

typedef struct Made {
    char id[32], prompt[64], code[256];
    uint8_t image[512];
    Sample sample;
} Made;

/* Sample `i` of every test: sizes vary, some parts are empty, bytes are arbitrary. */
static const Sample *make_sample(Made *made, int i) {
    Rng rng;
    rng_open(&rng, 11, RNG_TEST, (uint64_t)i);
    snprintf(made->id, sizeof made->id, "part-%04d", i);
    int prompt = i % 3 == 0 ? 0 : snprintf(made->prompt, sizeof made->prompt, "draw %d", i);
    int code = rng_range(&rng, 0, 255), image = rng_range(&rng, 0, 511);
    for (int k = 0; k < code; k++) made->code[k] = (char)rng_range(&rng, 0, 255);
    for (int k = 0; k < image; k++) made->image[k] = (uint8_t)rng_u32(&rng);
    made->sample = (Sample){.image = made->image,
                            .image_size = (size_t)image,
                            .prompt = made->prompt,
                            .prompt_size = (size_t)prompt,
                            .code = made->code,
                            .code_size = (size_t)code,
                            .id = made->id,
                            .source = i % 4 == 0 ? "deepcad" : "synth",
                            .complexity = i % 7,
                            .split = i % 10 == 9   ? SPLIT_VAL
                                     : i % 10 == 8 ? SPLIT_TEST
                                                   : SPLIT_TRAIN};
    return &made->sample;
}

/* The dataset of a test and its first shard; unlike test_path, these stay valid. */
static const char *set_path(void) {
    static char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s", test_path("set"));
    return path;
}

static const char *shard_path(void) {
    static char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s", test_path("set/shard-00000.h5"));
    return path;
}

static const char provenance[] = "{\"made by\": \"tests/test_shard.c\"}";

static Err write_dataset(const char *path, int count, size_t shard_bytes) {
    DatasetWriter *writer;
    Made made;
    TRY(dataset_writer_open(&writer, path, provenance, shard_bytes));
    for (int i = 0; i < count; i++) {
        Err err = dataset_writer_add(writer, make_sample(&made, i));
        if (err != OK) {
            dataset_writer_abandon(&writer);
            return err;
        }
    }
    return dataset_writer_finish(&writer);
}

static Err open_and_close(const char *path) {
    Dataset *dataset;
    TRY(dataset_open(&dataset, path));
    dataset_close(&dataset);
    return OK;
}

static Err open_and_verify(const char *path) {
    Dataset *dataset;
    TRY(dataset_open(&dataset, path));
    Err err = dataset_verify(dataset);
    dataset_close(&dataset);
    return err;
}

static void check_sample(const Dataset *dataset, int i, Buf *memory) {
    Made made;
    const Sample *expected = make_sample(&made, i);
    Sample found;
    ASSERT_OK(dataset_read(dataset, (size_t)i, &found, memory));
    ASSERT_TEXT(found.id, expected->id);
    ASSERT_TEXT(found.source, expected->source);
    ASSERT_INT(found.image_size, ==, expected->image_size);
    ASSERT_INT(found.prompt_size, ==, expected->prompt_size);
    ASSERT_INT(found.code_size, ==, expected->code_size);
    ASSERT_INT(memcmp(found.image, expected->image, found.image_size), ==, 0);
    ASSERT_INT(memcmp(found.prompt, expected->prompt, found.prompt_size), ==, 0);
    ASSERT_INT(memcmp(found.code, expected->code, found.code_size), ==, 0);
    ASSERT_INT(found.complexity, ==, expected->complexity);
    ASSERT_INT(found.split, ==, expected->split);
    ASSERT_INT(dataset_complexity(dataset, (size_t)i), ==, expected->complexity);
    ASSERT_INT(dataset_split(dataset, (size_t)i), ==, expected->split);
    ASSERT_TEXT(dataset_id(dataset, (size_t)i), expected->id);
}

static void flip(const char *path, uint64_t at) {
    FILE *file = fopen(path, "r+b");
    ASSERT_TRUE(file);
    ASSERT_INT(fseek(file, (long)at, SEEK_SET), ==, 0);
    int byte = fgetc(file);
    ASSERT_INT(byte, !=, EOF);
    ASSERT_INT(fseek(file, (long)at, SEEK_SET), ==, 0);
    ASSERT_INT(fputc(byte ^ 0x10, file), !=, EOF);
    fclose(file);
}

/* Makes the index fit a shard that was replaced, so that only the shard itself is wrong. */
static void reindex(const char *folder, size_t samples) {
    DatasetIndex index;
    char path[PATH_SIZE];
    ASSERT_OK(index_read(folder, &index));
    ASSERT_INT(index.shard_count, ==, 1);
    ASSERT_OK(path_join(path, folder, index.shards[0].file));
    ASSERT_OK(shard_file_hash(path, &index.shards[0].bytes, &index.shards[0].hash,
                              &index.shards[0].head_hash));
    if (samples) index.shards[0].samples = samples;
    ASSERT_OK(index_write(folder, &index));
    index_free(&index);
}

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

typedef struct ReaderThread {
    const Dataset *dataset;
    int first;
} ReaderThread;

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

/* ---- damage ---- */

TEST(missing_things_are_named) {
    ASSERT_ERR(open_and_close(test_path("none")), ERR_INPUT, "there is no such folder");
    ASSERT_OK(file_make_directories(test_path("empty")));
    ASSERT_ERR(open_and_close(test_path("empty")), ERR_INPUT, "index.json is missing");
    ASSERT_OK(write_dataset(set_path(), 30, 2000));
    ASSERT_OK(file_remove_tree(test_path("set/shard-00001.h5")));
    ASSERT_ERR(open_and_close(set_path()), ERR_INPUT, "shard-00001.h5 is missing");
}

TEST(truncated_shard_is_named) {
    uint64_t bytes;
    ASSERT_OK(write_dataset(set_path(), 30, 0));
    const char *shard = shard_path();
    ASSERT_OK(file_size(shard, &bytes));
    uint64_t lengths[] = {bytes - 1, bytes / 2, 512, 1, 0};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        ASSERT_INT(truncate(shard, (off_t)lengths[i]), ==, 0);
        ASSERT_ERR(open_and_close(set_path()), ERR_INPUT, "shard-00000.h5 has");
        /* Even when the index fits the stump. */
        Buf text = {0};
        ASSERT_OK(file_read(&text, test_path("set/index.json"), 100000));
        if (lengths[i] >= 30) {
            reindex(set_path(), 0);
            ASSERT_ERR(open_and_close(set_path()), ERR_INPUT, "shard-00000.h5");
        }
        ASSERT_OK(file_write(test_path("set/index.json"), text.data, text.size));
        buf_free(&text);
    }
}

TEST(any_flipped_byte_is_found) {
    uint64_t bytes;
    ASSERT_OK(write_dataset(set_path(), 300, 0));
    const char *shard = shard_path();
    ASSERT_OK(file_size(shard, &bytes));
    ASSERT_INT(bytes, >, 70000);
    for (uint64_t at = 0; at < bytes; at += 997) {
        flip(shard, at);
        Err err = open_and_verify(set_path());
        ASSERT(err == ERR_INPUT, "byte %llu flipped: %d", (unsigned long long)at, err);
        ASSERT_CONTAINS(err_message(), "shard-00000.h5");
        flip(shard, at);
    }
    ASSERT_OK(open_and_verify(set_path()));
}

TEST(hdf5_parses_only_what_the_head_checksum_covers) {
    /* The structure takes most room with the longest provenance. */
    static char longest[SHARD_PROVENANCE_MAX];
    memset(longest, 'p', sizeof longest - 1);
    DatasetWriter *writer;
    Made made;
    ASSERT_OK(dataset_writer_open(&writer, set_path(), longest, 0));
    for (int i = 0; i < 300; i++) ASSERT_OK(dataset_writer_add(writer, make_sample(&made, i)));
    ASSERT_OK(dataset_writer_finish(&writer));
    ASSERT_OK(open_and_verify(set_path()));
    const char *shard = shard_path();
    hid_t file = H5Fopen(shard, H5F_ACC_RDONLY, H5P_DEFAULT);
    static const char *const objects[] = {"images",       "prompt", "code",
                                          "images/data",  "id",     "images/offsets",
                                          "code/offsets", "split",  "checksum"};
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++) {
        H5O_info_t info;
        hid_t object = H5Oopen(file, objects[i], H5P_DEFAULT);
        ASSERT_INT(H5Oget_info2(object, &info, H5O_INFO_BASIC | H5O_INFO_HDR), >=, 0);
        ASSERT_INT(info.addr + info.hdr.space.total, <=, SHARD_HEAD_BYTES / 2);
        if (info.type == H5O_TYPE_DATASET)
            ASSERT_INT(H5Dget_offset(object), >=, SHARD_HEAD_BYTES / 2);
        H5Oclose(object);
    }
    H5Fclose(file);
}

TEST(damaged_sample_is_named_and_the_others_are_read) {
    uint64_t bytes;
    ASSERT_OK(write_dataset(set_path(), 300, 0));
    const char *shard = shard_path();
    ASSERT_OK(file_size(shard, &bytes));
    ShardColumns columns;
    uint64_t at[BLOB_COUNT];
    ASSERT_OK(shard_file_read(shard, bytes, 300, &columns, at));
    ASSERT_INT(at[BLOB_IMAGE] + columns.offsets[BLOB_IMAGE][123], >, SHARD_HEAD_BYTES);
    flip(shard, at[BLOB_IMAGE] + columns.offsets[BLOB_IMAGE][123]);
    shard_columns_free(&columns);
    Dataset *dataset;
    Sample sample;
    Buf memory = {0};
    ASSERT_OK(dataset_open(&dataset, set_path()));
    ASSERT_ERR(dataset_read(dataset, 123, &sample, &memory), ERR_INPUT,
               "shard-00000.h5: sample 123 (part-0123) is damaged");
    check_sample(dataset, 122, &memory);
    check_sample(dataset, 124, &memory);
    ASSERT_ERR(dataset_verify(dataset), ERR_INPUT, "sample 123 (part-0123)");
    buf_free(&memory);
    dataset_close(&dataset);
}

TEST(shard_cut_while_it_is_open_is_a_sentence) {
    ASSERT_OK(write_dataset(set_path(), 30, 0));
    Dataset *dataset;
    Sample sample;
    Buf memory = {0};
    ASSERT_OK(dataset_open(&dataset, set_path()));
    ASSERT_INT(truncate(shard_path(), 100), ==, 0);
    ASSERT_ERR(dataset_read(dataset, 29, &sample, &memory), ERR_INPUT, "became shorter");
    buf_free(&memory);
    dataset_close(&dataset);
}

TEST(malformed_index_is_a_sentence) {
    static const struct {
        const char *key, *value, *part;
    } cases[] = {
        {"format_version", "2", "format version 2"},
        {"format_version", "\"1\"", "a number is expected"},
        {"format_version", "1.5", "not a whole number"},
        {"shards", "[]", "0 shards"},
        {"shards", "{}", "an array is expected"},
        {"shards", "[1]", "\"file\" is missing"},
        {"samples", "31", "says 31 samples"},
        {"samples", "-1", "\"samples\" is -1"},
        {"splits", "{\"train\": 20, \"val\": 5, \"test\": 5}", "samples for train"},
        {"splits", "{\"train\": 20}", "\"val\" is missing"},
        {"sources", "{\"synth\": 30}", "names 1 sources"},
        {"sources", "{\"synth\": 30, \"other\": 0}", "another number of samples from deepcad"},
    };
    ASSERT_OK(write_dataset(set_path(), 30, 0));
    char path[PATH_SIZE];
    ASSERT_OK(path_join(path, set_path(), INDEX_NAME));
    Json *root, *value;
    ASSERT_OK(js_read(&root, path, 100000));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Json *copy = js_copy(root);
        ASSERT_OK(js_parse(&value, cases[i].value, strlen(cases[i].value), "case"));
        js_set(copy, cases[i].key, value);
        ASSERT_OK(js_write(path, copy));
        ASSERT_ERR(open_and_close(set_path()), ERR_INPUT, cases[i].part);
        js_free(&copy);
    }
    static const struct {
        const char *key, *value, *part;
    } entries[] = {
        {"file", "\"../shard-00000.h5\"", "is not the name of a shard"},
        {"file", "\"/etc/passwd\"", "is not the name of a shard"},
        {"file", "\".h5\"", "is not the name of a shard"},
        {"file", "\"other.h5\"", "other.h5 is missing"},
        {"samples", "0", "claims 0 samples"},
        {"samples", "9223372036854775807", "claims 9223372036854775807 samples"},
        {"samples", "29", "has 31 elements where 30 are expected"},
        {"samples", "31", "has 31 elements where 32 are expected"},
        {"bytes", "9223372036854775807", "says 9223372036854775807"},
        {"hash", "\"12\"", "is not a checksum"},
        {"head_hash", "\"0123456789abcdef\"", "its head has another checksum"},
        {"head_hash", "12", "a text is expected"},
    };
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        Json *copy = js_copy(root);
        ASSERT_OK(js_parse(&value, entries[i].value, strlen(entries[i].value), "case"));
        js_set((Json *)js_at(js_get(copy, "shards"), 0), entries[i].key, value);
        ASSERT_OK(js_write(path, copy));
        ASSERT_ERR(open_and_close(set_path()), ERR_INPUT, entries[i].part);
        js_free(&copy);
    }
    ASSERT_OK(file_write(path, "{\"shards\": [", 12));
    ASSERT_ERR(open_and_close(set_path()), ERR_INPUT, "index.json is not valid JSON");
    js_free(&root);
}

/* ---- shards with wrong contents, under a right index ---- */

/* A shard of two samples, written with what a case changes in it. */
typedef struct Wrong {
    uint64_t offsets[3][3], checksum[2];
    char ids[8], sources[8];
    int32_t complexity[2];
    uint8_t split[2];
} Wrong;

static const char *write_wrong(const Wrong *wrong) {
    static char folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s", test_path("wrong"));
    ASSERT_OK(file_remove_tree(folder));
    ASSERT_OK(write_dataset(folder, 2, 0));
    ShardColumns columns = {.samples = 2,
                            .id_size = 4,
                            .source_size = 4,
                            .ids = (char *)(uintptr_t)wrong->ids,
                            .sources = (char *)(uintptr_t)wrong->sources,
                            .complexity = (int32_t *)(uintptr_t)wrong->complexity,
                            .split = (uint8_t *)(uintptr_t)wrong->split,
                            .checksum = (uint64_t *)(uintptr_t)wrong->checksum};
    Buf blobs[BLOB_COUNT] = {0};
    for (int b = 0; b < BLOB_COUNT; b++) {
        columns.offsets[b] = (uint64_t *)(uintptr_t)wrong->offsets[b];
        for (uint64_t i = 0; i < wrong->offsets[b][2]; i++) buf_text(&blobs[b], "x");
    }
    char path[PATH_SIZE];
    ASSERT_OK(path_join(path, folder, "shard-00000.h5"));
    Buf image = {0};
    ASSERT_OK(shard_file_build(&image, "wrong", &columns, blobs));
    ASSERT_OK(file_write(path, image.data, image.size));
    buf_free(&image);
    for (int b = 0; b < BLOB_COUNT; b++) buf_free(&blobs[b]);
    reindex(folder, 0);
    return folder;
}

TEST(columns_that_cannot_be_are_refused) {
    const Wrong right = {
        .offsets = {{0, 5, 9}, {0, 0, 0}, {0, 3, 6}}, .ids = "a\0\0\0b", .sources = "s\0\0\0t"};
    Wrong wrong = right;
    /* Only the sources in the index and the checksums are wrong then. */
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "another number of samples from s");
    wrong.offsets[0][1] = 10;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "images/offsets of sample 1 goes");
    wrong = right, wrong.offsets[2][1] = ~0ull;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "code/offsets of sample 0 goes");
    wrong = right, wrong.offsets[2][0] = 1;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "code/offsets runs from 1 to 6");
    wrong = right, wrong.split[1] = 3;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "sample 1 (b) has the split 3");
    wrong = right, wrong.ids[0] = 0;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "the id of sample 0 is empty");
    wrong = right, wrong.ids[4] = 7;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "the id of sample 1 is empty or");
    wrong = right, wrong.sources[4] = 0;
    ASSERT_ERR(open_and_close(write_wrong(&wrong)), ERR_INPUT, "the source of sample 1");
}

/* ---- foreign HDF5 files ---- */

typedef enum Foreign {
    FOREIGN_EMPTY,
    FOREIGN_CHUNKED,
    FOREIGN_HUGE,
    FOREIGN_TYPE,
    FOREIGN_MATRIX,
    FOREIGN_SCALAR,
    FOREIGN_GROUP,
    FOREIGN_SOFT_LINK,
    FOREIGN_EXTERNAL_LINK,
    FOREIGN_EXTERNAL_FILE,
    FOREIGN_COUNT
} Foreign;

static void put_array(hid_t file, const char *name, hid_t type, int rank, hsize_t count,
                      Foreign kind) {
    hsize_t dims[2] = {count, 2};
    hid_t space = rank ? H5Screate_simple(rank, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t plan = H5Pcreate(H5P_DATASET_CREATE);
    if (kind == FOREIGN_CHUNKED) H5Pset_chunk(plan, 1, dims);
    if (kind == FOREIGN_EXTERNAL_FILE) H5Pset_external(plan, "/etc/passwd", 0, count);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    ASSERT(set >= 0, "cannot make %s", name);
    H5Dclose(set);
    H5Pclose(plan);
    H5Sclose(space);
}

static void write_foreign(const char *path, Foreign kind) {
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    ASSERT_TRUE(file >= 0);
    if (kind != FOREIGN_EMPTY) {
        H5Gclose(H5Gcreate2(file, "images", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        switch (kind) {
        case FOREIGN_HUGE: put_array(file, "images/data", H5T_STD_U8LE, 1, 1ull << 62, kind); break;
        case FOREIGN_TYPE: put_array(file, "images/data", H5T_IEEE_F64LE, 1, 9, kind); break;
        case FOREIGN_MATRIX: put_array(file, "images/data", H5T_STD_U8LE, 2, 9, kind); break;
        case FOREIGN_SCALAR: put_array(file, "images/data", H5T_STD_U8LE, 0, 9, kind); break;
        case FOREIGN_GROUP:
            H5Gclose(H5Gcreate2(file, "images/data", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
            break;
        case FOREIGN_SOFT_LINK:
            H5Lcreate_soft("/other", file, "images/data", H5P_DEFAULT, H5P_DEFAULT);
            break;
        case FOREIGN_EXTERNAL_LINK:
            H5Lcreate_external("/etc/passwd", "/data", file, "images/data", H5P_DEFAULT,
                               H5P_DEFAULT);
            break;
        default: put_array(file, "images/data", H5T_STD_U8LE, 1, 9, kind); break;
        }
    }
    H5Fclose(file);
}

TEST(foreign_files_are_refused_in_a_sentence) {
    static const char *const blobs[FOREIGN_COUNT] = {
        [FOREIGN_EMPTY] = "the array images/data is missing",
        [FOREIGN_CHUNKED] = "images/data is not stored in one piece",
        [FOREIGN_HUGE] = "claims 4611686018427387904 elements",
        [FOREIGN_TYPE] = "the elements of images/data have the wrong type",
        [FOREIGN_MATRIX] = "is not an array of one dimension",
        [FOREIGN_SCALAR] = "is not an array of one dimension",
        [FOREIGN_GROUP] = "images/data is not a readable array",
        [FOREIGN_SOFT_LINK] = "the array images/data is missing",
        [FOREIGN_EXTERNAL_LINK] = "the array images/data is missing",
        [FOREIGN_EXTERNAL_FILE] = "is not stored in one piece",
    };
    const char *folder = set_path(), *shard = shard_path();
    ASSERT_OK(write_dataset(folder, 2, 0));
    for (int kind = 0; kind < FOREIGN_COUNT; kind++) {
        write_foreign(shard, (Foreign)kind);
        reindex(folder, 0);
        ASSERT_ERR(open_and_close(folder), ERR_INPUT, blobs[kind]);
        ASSERT_CONTAINS(err_message(), "shard-00000.h5");
    }
    ASSERT_OK(file_write(shard, "not an HDF5 file, but text", 26));
    reindex(folder, 0);
    ASSERT_ERR(open_and_close(folder), ERR_INPUT, "is not a readable HDF5 file");
}

/* ---- what verify and checksums hold ---- */

TEST(verify_compares_whole_files_with_the_index) {
    DatasetIndex index;
    ASSERT_OK(write_dataset(set_path(), 20, 0));
    ASSERT_OK(index_read(set_path(), &index));
    index.shards[0].hash ^= 1;
    ASSERT_OK(index_write(set_path(), &index));
    index_free(&index);
    ASSERT_OK(open_and_close(set_path())); /* its head is right, and all samples are */
    ASSERT_ERR(open_and_verify(set_path()), ERR_INPUT, "its checksum is not the one in index.json");
}

TEST(verify_finds_ids_that_are_repeated_in_two_shards) {
    DatasetIndex index;
    ShardEntry twice[2];
    ASSERT_OK(write_dataset(set_path(), 20, 0));
    ASSERT_OK(file_copy(shard_path(), test_path("set/shard-00001.h5"), 1 << 30));
    ASSERT_OK(index_read(set_path(), &index));
    twice[0] = twice[1] = index.shards[0];
    shard_name(twice[1].file, 1);
    DatasetIndex both = index;
    both.shards = twice;
    both.shard_count = 2;
    both.counts.samples *= 2;
    for (int s = 0; s < SPLIT_COUNT; s++) both.counts.splits[s] *= 2;
    for (int s = 0; s < both.counts.source_count; s++) both.counts.sources[s].samples *= 2;
    ASSERT_OK(index_write(set_path(), &both));
    index_free(&index);
    ASSERT_OK(open_and_close(set_path()));
    ASSERT_ERR(open_and_verify(set_path()), ERR_INPUT, "the id part-0000 is repeated");
}

/* Nothing of a sample can change without its checksum. */
TEST(a_checksum_covers_everything_of_a_sample) {
    const Sample good = {.image = "abcdef",
                         .image_size = 4,
                         .prompt = "efgh",
                         .prompt_size = 2,
                         .code = "ghij",
                         .code_size = 2,
                         .id = "one",
                         .source = "test",
                         .complexity = 3,
                         .split = SPLIT_VAL};
    Sample changed[9];
    for (int i = 0; i < 9; i++) changed[i] = good;
    changed[0].image = "abcxef";
    changed[1].prompt = "xfgh";
    changed[2].code = "gxij";
    changed[3].id = "two";
    changed[4].source = "tesT";
    changed[5].complexity = 4;
    changed[6].split = SPLIT_TRAIN;
    changed[7].image_size = 5, changed[7].prompt = "f", changed[7].prompt_size = 1; /* abcde, f */
    changed[8].prompt_size = 3, changed[8].code = "h", changed[8].code_size = 1;    /* efg, h */
    for (int i = 0; i < 9; i++)
        ASSERT(sample_checksum(&changed[i]) != sample_checksum(&good), "change %d", i);
}

TEST(a_shard_cannot_make_the_library_load_code) {
    unsigned mask = ~0u;
    ASSERT_OK(write_dataset(set_path(), 5, 0));
    ASSERT_TRUE(H5PLset_loading_state(H5PL_ALL_PLUGIN) >= 0);
    ASSERT_OK(open_and_close(set_path()));
    ASSERT_TRUE(H5PLget_loading_state(&mask) >= 0);
    ASSERT_INT(mask, ==, 0);
}
