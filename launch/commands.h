/* The table of commands; one file of launch/ for each group. */
#ifndef CADVLM_LAUNCH_COMMANDS_H
#define CADVLM_LAUNCH_COMMANDS_H

#include "launch/options.h"

extern const Command cad_commands[]; /* cad run, draw, convert, check, score */
extern const int cad_command_count;

extern const Command data_commands[]; /* data info, verify, show, tokenizer */
extern const int data_command_count;

extern const Command train_commands[]; /* train, eval, generate */
extern const int train_command_count;

#endif
