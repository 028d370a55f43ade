/* What the files of the data commands share. */
#ifndef CADVLM_LAUNCH_COMMAND_DATA_H
#define CADVLM_LAUNCH_COMMAND_DATA_H

#include "core/json.h"
#include "launch/options.h"

Err data_verify_command(const Command *command, int argc, char **argv);

#endif
