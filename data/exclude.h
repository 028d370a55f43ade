/* Samples to leave out, by their ids: a picture that cannot be read, a drawing that is wrong. */
#ifndef CADVLM_DATA_EXCLUDE_H
#define CADVLM_DATA_EXCLUDE_H

#include <stdint.h>

#include "core/err.h"
#include "data/shard.h"

typedef struct Exclusions Exclusions;

/* `list`: a text file with an id on each line (lines that are empty or begin with "# " are passed
 * over; `data verify --decode -o` writes such files), or ids with commas between. "": nothing. */
Err exclusions_open(Exclusions **exclusions, const char *list);
void exclusions_close(Exclusions **exclusions);

/* Takes the samples of these ids out of every split of the dataset; counts[split] says how many. */
void exclusions_apply(Exclusions *exclusions, Dataset *dataset, size_t counts[SPLIT_COUNT]);

/* Ids that no dataset had: an error where they stand in the config itself, a warning for a file,
 * which may be for more data than this. */
Err exclusions_check(const Exclusions *exclusions);

/* A hash of which samples of which datasets were taken out; 0: none. */
uint64_t exclusions_hash(const Exclusions *exclusions);

#endif
