/* Versions of this program and of the libraries it stands on. */
#ifndef CADVLM_LAUNCH_VERSION_H
#define CADVLM_LAUNCH_VERSION_H

#include "core/json.h"
#include "launch/version_numbers.h"

void version_print(void);

/* The same as an object, for version.json; the caller frees it. */
Json *version_json(void);

#endif
