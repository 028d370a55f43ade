/* All commands, in the order in which they are listed. */
#include "launch/commands.h"

#include <stddef.h>

static const struct {
    const Command *commands;
    const int *count;
} groups[] = {
    {cad_commands, &cad_command_count},           {data_commands, &data_command_count},
    {synth_commands, &synth_command_count},       {fetch_commands, &fetch_command_count},
    {train_commands, &train_command_count},       {eval_commands, &eval_command_count},
    {generate_commands, &generate_command_count}, {report_commands, &report_command_count},
    {export_commands, &export_command_count},     {describe_commands, &describe_command_count},
};

const Command *command_at(int index) {
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
        if (index < *groups[g].count) return &groups[g].commands[index];
        index -= *groups[g].count;
    }
    return NULL;
}
