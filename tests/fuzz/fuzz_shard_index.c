/* A dataset's index.json; and a list of samples to leave out. Pieces: the index, the list. */
#include "core/file.h"
#include "data/exclude.h"
#include "data/shard_index.h"
#include "tests/fuzz/fuzz.h"

static void read_exclusions(const char *text, size_t size) {
    Exclusions *exclusions;
    if (exclusions_open(&exclusions, fuzz_file("leave_out.txt", text, size)) != OK) return;
    (void)exclusions_hash(exclusions);
    IGNORE(exclusions_check(exclusions));
    exclusions_close(&exclusions);
}

void fuzz_one(const uint8_t *data, size_t size) {
    static const char *const files[] = {INDEX_NAME, NULL};
    FuzzInput input = {data, data + size};
    DatasetIndex index = {0};
    fuzz_folder(&input, files);
    char *list = fuzz_piece(&input, &size);
    if (index_read(test_folder(), &index) == OK)
        ASSERT_TRUE(index.shard_count > 0 && index.shard_count <= SHARDS_MAX);
    index_free(&index);
    read_exclusions(list, size);
    free(list);
}

void fuzz_seeds(void) {
    static char provenance[] = "{\"made\": \"by hand\"}";
    ShardEntry shards[2] = {{"shard-00000.h5", 3, 5000, 17, 18}, {"shard-00001.h5", 1, 4000, 1, 2}};
    DatasetIndex index = {
        .provenance = provenance,
        .shards = shards,
        .shard_count = 2,
        .counts = {4, {2, 1, 1}, {{"synth", 3}, {"deepcad", 1}}, 2},
    };
    Buf seed = {0};
    ASSERT_OK(index_write(test_folder(), &index));
    fuzz_folder_append(&seed, test_folder(), (const char *const[]){INDEX_NAME, NULL});
    fuzz_piece_append(&seed, "# bad\npart-1\r\npart-2\n", 21);
    fuzz_seed(seed.data, seed.size);
    buf_free(&seed);
}
