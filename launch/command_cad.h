/* The cad commands that have a file of their own. */
#ifndef CADVLM_LAUNCH_COMMAND_CAD_H
#define CADVLM_LAUNCH_COMMAND_CAD_H

#include "launch/options.h"

Err cad_score_command(const Command *command, int argc, char **argv);

#endif
