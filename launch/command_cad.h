/* What the files of the cad commands share. */
#ifndef CADVLM_LAUNCH_COMMAND_CAD_H
#define CADVLM_LAUNCH_COMMAND_CAD_H

#include "launch/options.h"

Err cad_score_command(const Command *command, int argc, char **argv);

/* Options that several of them have. */
Option cad_json_option(bool *target);
Option cad_seconds_option(double *target); /* CadLimits.seconds */

#endif
