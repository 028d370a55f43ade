/* The one place that names HDF5: writes and reads the arrays of a shard.
 *
 * The library is not thread-safe as Debian builds it, so every use of it stands under one lock. Its
 * own error printing is silenced: its innermost reason becomes part of our sentence.
 *
 * A shard is built in memory and written to disk by plain file calls. Were HDF5 to write it, a full
 * disk would fail its closing, and a file it cannot close crashes the process at exit (1.10.8). */
#include <hdf5.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "data/shard_file.h"

enum { METADATA_BLOCK = 32 << 10, MEMORY_STEP = 1 << 20 };
_Static_assert((int)METADATA_BLOCK + (int)SHARD_PROVENANCE_MAX <= (int)SHARD_HEAD_BYTES,
               "the head covers the structure of a file");

/* The arrays of a shard and their place in the file. */
static const char *const blob_data[BLOB_COUNT] = {"images/data", "prompt/data", "code/data"};
static const char *const blob_offsets[BLOB_COUNT] = {"images/offsets", "prompt/offsets",
                                                     "code/offsets"};

static pthread_mutex_t library = PTHREAD_MUTEX_INITIALIZER;

static void library_take(void) {
    pthread_mutex_lock(&library);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0); /* a file cannot make the library load code */
}

static void library_leave(void) {
    pthread_mutex_unlock(&library);
}

static herr_t keep_innermost(unsigned depth, const H5E_error2_t *error, void *out) {
    if (depth == 0 && error->desc) snprintf(out, 256, "%s", error->desc);
    return 0;
}

/* The innermost reason of the last failure. */
static const char *reason(char text[256]) {
    snprintf(text, 256, "the HDF5 library gives no reason");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, text);
    return text;
}

static hid_t access_list(void) {
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    CHECK(list >= 0 && H5Pset_fclose_degree(list, H5F_CLOSE_STRONG) >= 0,
          "HDF5 file access properties");
    return list;
}

static hid_t text_type(size_t size) {
    hid_t type = H5Tcopy(H5T_C_S1);
    CHECK(type >= 0 && H5Tset_size(type, size) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0,
          "an HDF5 text type of %zu bytes", size);
    return type;
}

void shard_columns_free(ShardColumns *columns) {
    for (int b = 0; b < BLOB_COUNT; b++) free(columns->offsets[b]);
    free(columns->ids);
    free(columns->sources);
    free(columns->complexity);
    free(columns->split);
    free(columns->checksum);
    *columns = (ShardColumns){0};
}

/* ---- writing ---- */

static Err write_array(hid_t file, const char *name, hid_t disk_type, hid_t memory_type,
                       uint64_t count, const void *data) {
    char why[256];
    hsize_t dims[1] = {count};
    hid_t space = H5Screate_simple(1, dims, NULL), plan = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(plan, false); /* the same samples give the same bytes */
    hid_t set = H5Dcreate2(file, name, disk_type, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    herr_t failed = set < 0 ? -1 : 0;
    if (!failed && count) failed = H5Dwrite(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
    if (failed < 0) reason(why);
    if (set >= 0) H5Dclose(set);
    if (plan >= 0) H5Pclose(plan);
    if (space >= 0) H5Sclose(space);
    REQUIRE(failed >= 0, ERR_MEMORY, "cannot build %s of a shard: %s", name, why);
    return OK;
}

static Err write_attribute(hid_t file, const char *name, hid_t type, const void *value) {
    char why[256];
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    herr_t failed = attribute < 0 ? -1 : H5Awrite(attribute, type, value);
    if (failed < 0) reason(why);
    if (attribute >= 0) H5Aclose(attribute);
    if (space >= 0) H5Sclose(space);
    REQUIRE(failed >= 0, ERR_MEMORY, "cannot build the attribute %s of a shard: %s", name, why);
    return OK;
}

static Err write_texts(hid_t file, const char *name, size_t size, uint64_t count,
                       const char *data) {
    hid_t type = text_type(size);
    Err err = write_array(file, name, type, type, count, data);
    H5Tclose(type);
    return err;
}

static Err write_group(hid_t file, const char *name) {
    char why[256];
    hid_t group = H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    REQUIRE(group >= 0, ERR_MEMORY, "cannot build %s of a shard: %s", name, reason(why));
    H5Gclose(group);
    return OK;
}

static Err write_contents(hid_t file, const char *provenance, const ShardColumns *columns,
                          const Buf blobs[BLOB_COUNT]) {
    size_t n = columns->samples;
    int32_t version = SHARD_FORMAT;
    TRY(write_attribute(file, "format_version", H5T_NATIVE_INT32, &version));
    hid_t type = text_type(strlen(provenance) + 1);
    Err err = write_attribute(file, "provenance", type, provenance);
    H5Tclose(type);
    TRY(err);

    TRY(write_group(file, "images"));
    TRY(write_group(file, "prompt"));
    TRY(write_group(file, "code"));
    for (int b = 0; b < BLOB_COUNT; b++)
        TRY(write_array(file, blob_offsets[b], H5T_STD_U64LE, H5T_NATIVE_UINT64, n + 1,
                        columns->offsets[b]));
    TRY(write_texts(file, "id", columns->id_size, n, columns->ids));
    TRY(write_texts(file, "source", columns->source_size, n, columns->sources));
    TRY(write_array(file, "complexity", H5T_STD_I32LE, H5T_NATIVE_INT32, n, columns->complexity));
    TRY(write_array(file, "split", H5T_STD_U8LE, H5T_NATIVE_UINT8, n, columns->split));
    TRY(write_array(file, "checksum", H5T_STD_U64LE, H5T_NATIVE_UINT64, n, columns->checksum));
    for (int b = 0; b < BLOB_COUNT; b++)
        TRY(write_array(file, blob_data[b], H5T_STD_U8LE, H5T_NATIVE_UINT8, columns->offsets[b][n],
                        blobs[b].data));
    return OK;
}

/* Format bounds: from V110 on a file is marked as open for writing, and with V18 as the lower one
 * H5Fget_file_image returns a superblock whose checksum is wrong (1.10.8). */
static hid_t memory_access_list(void) {
    hid_t list = access_list();
    CHECK(H5Pset_fapl_core(list, MEMORY_STEP, false) >= 0 &&
              H5Pset_libver_bounds(list, H5F_LIBVER_EARLIEST, H5F_LIBVER_V18) >= 0 &&
              H5Pset_meta_block_size(list, METADATA_BLOCK) >= 0,
          "HDF5 file access properties");
    return list;
}

static Err take_image(hid_t file, Buf *image) {
    char why[256];
    REQUIRE(H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0, ERR_MEMORY, "cannot build a shard: %s",
            reason(why));
    ssize_t size = H5Fget_file_image(file, NULL, 0);
    REQUIRE(size > 0, ERR_MEMORY, "cannot build a shard: %s", reason(why));
    buf_clear(image);
    buf_reserve(image, (size_t)size);
    REQUIRE(H5Fget_file_image(file, image->data, (size_t)size) == size, ERR_MEMORY,
            "cannot build a shard: %s", reason(why));
    image->size = (size_t)size;
    return OK;
}

Err shard_file_build(Buf *image, const char *provenance, const ShardColumns *columns,
                     const Buf blobs[BLOB_COUNT]) {
    char why[256];
    library_take();
    hid_t access = memory_access_list();
    hid_t file = H5Fcreate("shard in memory", H5F_ACC_TRUNC, H5P_DEFAULT, access);
    Err err = OK;
    REQUIRE_GOTO(err, file >= 0, ERR_MEMORY, "cannot build a shard: %s", reason(why));
    TRY_GOTO(err, write_contents(file, provenance, columns, blobs));
    TRY_GOTO(err, take_image(file, image));
done:
    if (file >= 0) H5Fclose(file);
    H5Pclose(access);
    library_leave();
    return err;
}

/* ---- reading ---- */

typedef struct Reading {
    const char *path;
    hid_t file;
    uint64_t bytes; /* of the file */
} Reading;

typedef struct Array {
    hid_t set;
    const char *name;
    uint64_t count, element; /* elements, bytes of one */
    uint64_t at;             /* where it starts in the file */
} Array;

/* Only hard links are followed: another link could lead into another file. */
static bool hard_link(hid_t file, const char *name) {
    H5L_info_t info;
    return H5Lget_info(file, name, &info, H5P_DEFAULT) >= 0 && info.type == H5L_TYPE_HARD;
}

static bool reachable(hid_t file, const char *name) {
    char group[32];
    const char *slash = strchr(name, '/');
    if (slash) {
        snprintf(group, sizeof group, "%.*s", (int)(slash - name), name);
        if (!hard_link(file, group)) return false;
    }
    return hard_link(file, name);
}

static bool contiguous(hid_t set) {
    hid_t plan = H5Dget_create_plist(set);
    bool good =
        plan >= 0 && H5Pget_layout(plan) == H5D_CONTIGUOUS && H5Pget_external_count(plan) == 0;
    if (plan >= 0) H5Pclose(plan);
    return good;
}

/* Measures an opened array; everything that a foreign file may have otherwise is an error. */
static Err array_measure(const Reading *reading, Array *array, hid_t space) {
    hsize_t dims[1];
    REQUIRE(H5Sget_simple_extent_ndims(space) == 1 &&
                H5Sget_simple_extent_dims(space, dims, NULL) == 1,
            ERR_INPUT, "%s: %s is not an array of one dimension", reading->path, array->name);
    array->count = dims[0];
    REQUIRE(contiguous(array->set), ERR_INPUT, "%s: %s is not stored in one piece", reading->path,
            array->name);
    REQUIRE(array->count <= reading->bytes / array->element, ERR_INPUT,
            "%s: %s claims %llu elements of %llu bytes in a file of %llu bytes", reading->path,
            array->name, (unsigned long long)array->count, (unsigned long long)array->element,
            (unsigned long long)reading->bytes);
    if (!array->count) return OK;
    haddr_t at = H5Dget_offset(array->set);
    uint64_t size = array->count * array->element;
    REQUIRE(at != HADDR_UNDEF && at <= reading->bytes && size <= reading->bytes - at, ERR_INPUT,
            "%s: %s lies outside the file", reading->path, array->name);
    array->at = at;
    return OK;
}

/* Opens an array whose elements have `disk_type`, or texts of less than `text_max` bytes where
 * disk_type is negative. */
static Err array_open(const Reading *reading, Array *array, const char *name, hid_t disk_type,
                      size_t text_max) {
    *array = (Array){.set = H5I_INVALID_HID, .name = name};
    REQUIRE(reachable(reading->file, name), ERR_INPUT, "%s: the array %s is missing", reading->path,
            name);
    array->set = H5Dopen2(reading->file, name, H5P_DEFAULT);
    REQUIRE(array->set >= 0, ERR_INPUT, "%s: %s is not a readable array", reading->path, name);
    hid_t type = H5Dget_type(array->set), space = H5Dget_space(array->set);
    Err err = OK;
    REQUIRE_GOTO(err, type >= 0 && space >= 0, ERR_INPUT, "%s: %s is not a readable array",
                 reading->path, name);
    if (disk_type >= 0)
        REQUIRE_GOTO(err, H5Tequal(type, disk_type) > 0, ERR_INPUT,
                     "%s: the elements of %s have the wrong type", reading->path, name);
    else
        REQUIRE_GOTO(err, H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0,
                     ERR_INPUT, "%s: %s does not hold texts of a fixed size", reading->path, name);
    array->element = H5Tget_size(type);
    REQUIRE_GOTO(err, array->element >= 1 && (disk_type >= 0 || array->element <= text_max),
                 ERR_INPUT, "%s: %s holds texts of %llu bytes, more than the %zu allowed",
                 reading->path, name, (unsigned long long)array->element, text_max);
    TRY_GOTO(err, array_measure(reading, array, space));
done:
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return err;
}

/* The whole array in memory, elements of `size` bytes of `memory_type`. The caller frees. */
static Err array_load(const Reading *reading, const Array *array, uint64_t expected,
                      hid_t memory_type, size_t size, void **out) {
    char why[256];
    REQUIRE(array->count == expected, ERR_INPUT, "%s: %s has %llu elements where %llu are expected",
            reading->path, array->name, (unsigned long long)array->count,
            (unsigned long long)expected);
    *out = calloc(expected, size);
    REQUIRE(*out, ERR_MEMORY, "out of memory: %llu elements of %s in %s",
            (unsigned long long)expected, array->name, reading->path);
    REQUIRE(H5Dread(array->set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *out) >= 0, ERR_INPUT,
            "%s: cannot read %s: %s", reading->path, array->name, reason(why));
    return OK;
}

static Err read_array(const Reading *reading, const char *name, hid_t disk_type, hid_t memory_type,
                      uint64_t expected, void **out) {
    Array array;
    Err err = array_open(reading, &array, name, disk_type, 0);
    if (err == OK) err = array_load(reading, &array, expected, memory_type, array.element, out);
    if (array.set >= 0) H5Dclose(array.set);
    return err;
}

/* Texts come out with one byte more than on disk, so that each has a final zero. */
static Err read_texts(const Reading *reading, const char *name, size_t text_max, uint64_t expected,
                      char **out, size_t *size) {
    Array array;
    void *texts = NULL;
    Err err = array_open(reading, &array, name, H5I_INVALID_HID, text_max + 1);
    if (err == OK) {
        *size = array.element + 1;
        hid_t type = text_type(*size);
        hid_t disk_type = H5Dget_type(array.set);
        H5Tset_cset(type, H5Tget_cset(disk_type)); /* HDF5 converts no character sets */
        H5Tclose(disk_type);
        err = array_load(reading, &array, expected, type, *size, &texts);
        H5Tclose(type);
    }
    *out = texts;
    if (array.set >= 0) H5Dclose(array.set);
    return err;
}

static Err check_offsets(const Reading *reading, const char *name, const uint64_t *offsets,
                         size_t samples, uint64_t end) {
    REQUIRE(offsets[0] == 0 && offsets[samples] == end, ERR_INPUT,
            "%s: %s runs from %llu to %llu where 0 to %llu is expected", reading->path, name,
            (unsigned long long)offsets[0], (unsigned long long)offsets[samples],
            (unsigned long long)end);
    for (size_t i = 0; i < samples; i++)
        REQUIRE(offsets[i] <= offsets[i + 1] && offsets[i + 1] - offsets[i] <= SHARD_BLOB_MAX,
                ERR_INPUT, "%s: %s of sample %zu goes from %llu to %llu", reading->path, name, i,
                (unsigned long long)offsets[i], (unsigned long long)offsets[i + 1]);
    return OK;
}

static Err read_blob(const Reading *reading, Blob blob, size_t samples, uint64_t **offsets,
                     uint64_t *at) {
    Array data;
    Err err = array_open(reading, &data, blob_data[blob], H5T_STD_U8LE, 0);
    if (data.set >= 0) H5Dclose(data.set);
    TRY(err);
    *at = data.at;
    void *loaded = NULL;
    err = read_array(reading, blob_offsets[blob], H5T_STD_U64LE, H5T_NATIVE_UINT64,
                     (uint64_t)samples + 1, &loaded);
    *offsets = loaded;
    TRY(err);
    return check_offsets(reading, blob_offsets[blob], *offsets, samples, data.count);
}

/* The format version is taken from index.json: HDF5 1.10.8 reads over the end of its memory on
 * malformed attributes. */
static Err read_columns(const Reading *reading, size_t samples, ShardColumns *columns,
                        uint64_t blob_at[BLOB_COUNT]) {
    void *loaded = NULL;
    columns->samples = samples;
    for (int b = 0; b < BLOB_COUNT; b++)
        TRY(read_blob(reading, (Blob)b, samples, &columns->offsets[b], &blob_at[b]));
    TRY(read_texts(reading, "id", SHARD_ID_MAX, samples, &columns->ids, &columns->id_size));
    TRY(read_texts(reading, "source", SHARD_SOURCE_MAX, samples, &columns->sources,
                   &columns->source_size));
    Err err = read_array(reading, "complexity", H5T_STD_I32LE, H5T_NATIVE_INT32, samples, &loaded);
    columns->complexity = loaded, loaded = NULL;
    TRY(err);
    err = read_array(reading, "split", H5T_STD_U8LE, H5T_NATIVE_UINT8, samples, &loaded);
    columns->split = loaded, loaded = NULL;
    TRY(err);
    err = read_array(reading, "checksum", H5T_STD_U64LE, H5T_NATIVE_UINT64, samples, &loaded);
    columns->checksum = loaded;
    return err;
}

Err shard_file_read(const char *path, uint64_t file_bytes, size_t samples, ShardColumns *columns,
                    uint64_t blob_at[BLOB_COUNT]) {
    char why[256];
    *columns = (ShardColumns){0};
    library_take();
    hid_t access = access_list();
    /* Shards are immutable, and network file systems often cannot lock. */
    CHECK(H5Pset_file_locking(access, false, true) >= 0, "HDF5 file access properties");
    Reading reading = {path, H5Fopen(path, H5F_ACC_RDONLY, access), file_bytes};
    Err err = OK;
    REQUIRE_GOTO(err, reading.file >= 0, ERR_INPUT, "%s is not a readable HDF5 file: %s", path,
                 reason(why));
    TRY_GOTO(err, read_columns(&reading, samples, columns, blob_at));
done:
    if (reading.file >= 0) H5Fclose(reading.file);
    H5Pclose(access);
    library_leave();
    if (err != OK) shard_columns_free(columns);
    return err;
}
