/* The manifest of a checkpoint: length and checksum of each of its files. */
#ifndef CADVLM_CHECKPOINT_MANIFEST_H
#define CADVLM_CHECKPOINT_MANIFEST_H

#include "core/err.h"

/* Writes manifest.json for what lies in the folder; to be called last. */
Err manifest_write(const char *folder);

/* Checks every file of a checkpoint against its manifest, which must name all that are ours. */
Err manifest_verify(const char *folder);

#endif
