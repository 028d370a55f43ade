/* A fuzz harness: a parser, and inputs to begin with.
 *
 * libFuzzer changes the inputs and watches which of the parser's branches they reach. What counts
 * as a finding: a crash, a CHECK, an ASSERT of the harness, whatever ASan or UBSan see, a leak, and
 * input that takes too long or too much memory. An Err does not. */
#ifndef CADVLM_TESTS_FUZZ_FUZZ_H
#define CADVLM_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "tests/support/test.h"

/* ---- what a harness has ---- */

/* One input. `data` is a copy of its own, so that a byte too many is seen. */
void fuzz_one(const uint8_t *data, size_t size);

/* Makes the inputs to begin with, by fuzz_seed. */
void fuzz_seeds(void);

/* ---- what it may use ---- */

void fuzz_seed(const void *bytes, size_t size);
void fuzz_seed_text(const char *text);
void fuzz_seed_file(const char *path);

/* Writes `name` into this process's folder in memory (test_folder) and returns its path, which is
 * valid until the fourth call after this one. */
const char *fuzz_file(const char *name, const void *bytes, size_t size);

/* An input that stands for several: what is left of it, from the front. A piece ends at a byte 0xff
 * 0x00 0xff, or at the end. */
typedef struct FuzzInput {
    const uint8_t *at, *end;
} FuzzInput;

/* The next piece as text with a zero behind it, in memory of its own; free it. */
char *fuzz_piece(FuzzInput *input, size_t *size);
void fuzz_piece_append(Buf *seed, const void *bytes, size_t size);

/* Pieces as the files of a folder: of those names (ended by NULL), below test_folder. Of an empty
 * piece there is no file. The other way: such a piece for each of the files that `folder` has. */
void fuzz_folder(FuzzInput *input, const char *const *names);
void fuzz_folder_append(Buf *seed, const char *folder, const char *const *names);

/* ---- for those who run a harness (fuzz_main.c, fuzz_replay.c) ---- */

void fuzz_begin(void);
void fuzz_write_seeds(const char *into);

#endif
