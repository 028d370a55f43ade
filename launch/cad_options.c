/* Options that several of the cad commands have. */
#include "launch/command_cad.h"

Option cad_json_option(bool *target) {
    return (Option){.name = "--json",
                    .help = "one JSON object on standard output",
                    .type = OPTION_FLAG,
                    .target = target};
}

Option cad_seconds_option(double *target) {
    return (Option){.name = "--seconds",
                    .value = "S",
                    .help = "of processor time that a part may take (30)",
                    .type = OPTION_REAL,
                    .target = target,
                    .low = 0.1,
                    .high = 86400};
}
