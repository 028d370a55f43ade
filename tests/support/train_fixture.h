/* Small things to train on, for tests that run the program itself: shards of synthetic parts with
 * simple pictures, a tokenizer, and a config. */
#ifndef CADVLM_TESTS_SUPPORT_TRAIN_FIXTURE_H
#define CADVLM_TESTS_SUPPORT_TRAIN_FIXTURE_H

/* Writes `samples` samples into the dataset folder `path`; every fifth is held out. Pictures are 32
 * × 32 and show the part's overall size as bars, so that there is something to see. */
void fixture_dataset(const char *path, int samples, unsigned long long seed);

/* Learns a tokenizer from such code and writes it to `path`. */
void fixture_tokenizer(const char *path);

/* Writes a config that trains a tiny model from `data`; `extra` is YAML to append (training: keys
 * go in `training`). */
void fixture_config(const char *path, const char *data, const char *tokenizer, const char *output,
                    const char *training, const char *extra);

/* "mpirun -n N …" with what a test machine needs, for test_run. */
const char *fixture_mpirun(int ranks);

#endif
