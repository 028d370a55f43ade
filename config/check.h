/* Checks that look at several keys at once. */
#ifndef CADVLM_CONFIG_CHECK_H
#define CADVLM_CONFIG_CHECK_H

#include "config/config.h"

/* Logs every contradiction; returns how many there are. Fills in what follows from other keys. */
int config_check(Config *config);

#endif
