/* Runs of `cadvlm train` on tiny things, for tests that start, stop and look at them. */
#ifndef CADVLM_TESTS_SUPPORT_RUN_FIXTURE_H
#define CADVLM_TESTS_SUPPORT_RUN_FIXTURE_H

#include <stdint.h>

#include "core/buf.h"

/* A folder with data, tokenizer and a config "c.yaml" whose run goes to "run". */
void run_prepare(int samples, const char *training, const char *extra);

/* A run's folder, by its name; sixteen of them are valid in turn. */
const char *run_folder(const char *name);

/* Trains; `prefix` stands before the command, `more` behind it. */
void run_train(const char *prefix, const char *output, const char *more);

/* Of a file of the newest checkpoint. */
uint64_t run_file_hash(const char *run, const char *name);

/* Appends the losses of a run, as they were written: "1: 6.1234 …". */
void run_losses(Buf *out, const char *run);

/* Starts a run in the background and waits until it has done `steps` steps. Its process id goes to
 * RUN.pid, its exit code in the end to RUN.code. */
void run_start(const char *prefix, const char *run, int steps);

/* Waits until it has ended: its exit code, and what it said. */
int run_wait(const char *run, const char **said);

#endif
