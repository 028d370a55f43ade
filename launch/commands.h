/* The table of commands; one file of launch/ for each group. */
#ifndef CADVLM_LAUNCH_COMMANDS_H
#define CADVLM_LAUNCH_COMMANDS_H

#include "launch/options.h"

/* Of all commands in the order in which they are listed; NULL behind the last. */
const Command *command_at(int index);

extern const Command cad_commands[]; /* cad run, draw, convert, check, score */
extern const int cad_command_count;

extern const Command data_commands[]; /* data info, verify, show, tokenizer */
extern const int data_command_count;

extern const Command synth_commands[]; /* data synth, import */
extern const int synth_command_count;

extern const Command fetch_commands[]; /* data fetch */
extern const int fetch_command_count;

extern const Command train_commands[]; /* train */
extern const int train_command_count;

extern const Command eval_commands[]; /* eval */
extern const int eval_command_count;

extern const Command generate_commands[]; /* generate */
extern const int generate_command_count;

extern const Command report_commands[]; /* report */
extern const int report_command_count;

extern const Command export_commands[]; /* export */
extern const int export_command_count;

extern const Command describe_commands[]; /* describe */
extern const int describe_command_count;

#endif
