/* Versions of this program and of the libraries it stands on. */
#ifndef CADVLM_LAUNCH_VERSION_H
#define CADVLM_LAUNCH_VERSION_H

void version_print(void);

#endif
