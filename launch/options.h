/* Command lines: a table of options per command, read from the front. */
#ifndef CADVLM_LAUNCH_OPTIONS_H
#define CADVLM_LAUNCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/text.h"

typedef enum OptionType {
    OPTION_FLAG,
    OPTION_TEXT,
    OPTION_TEXTS, /* may be given several times */
    OPTION_INT,
    OPTION_REAL
} OptionType;

typedef struct Option {
    const char *name;  /* "--out" */
    const char *brief; /* "-o", or NULL */
    const char *value; /* what stands behind it in the help: "FILE"; NULL for flags */
    const char *help;
    OptionType type;
    void *target;     /* bool *, const char **, Texts *, int64_t * or double *; holds the
                     default */
    double low, high; /* OPTION_INT, OPTION_REAL: allowed range, both ends included (0, 0: any) */
} Option;

/* A command: `cadvlm cad run …`. */
typedef struct Command {
    const char *name;    /* "cad run" */
    const char *usage;   /* "FILE.py -o OUT" */
    const char *summary; /* one line for the list of commands */
    const char *help;    /* some lines more, or NULL */
    Err (*run)(const struct Command *command, int argc,
               char **argv); /* argv[0] is the first word after the name */
} Command;

enum { ARGUMENTS_MAX = 65536 };

/* What is left when the options are taken out; borrowed from argv. */
typedef struct Arguments {
    const char **items;
    int count;
    bool helped; /* --help was asked for and printed: the command has nothing left to do */
} Arguments;

/* Takes the options (--name value, --name=value, -o value) out of argv; "--" ends them. All
 * commands have --help and --verbose. ERR_CONFIG for an unknown option (with the nearest known
 * name), a missing or bad value, or fewer than `least` or more than `most` arguments (most < 0:
 * any). */
Err options_parse(const Command *command, const Option *options, int option_count, int argc,
                  char **argv, int least, int most, Arguments *arguments);
void arguments_free(Arguments *arguments);

/* Runs a command only as far as its table of options, which `visit` is given; nothing else
 * happens. */
typedef void OptionsVisitor(void *context, const Command *command, const Option *options,
                            int option_count);
Err options_visit(const Command *command, OptionsVisitor *visit, void *context);

/* What all commands have beside their own options. */
extern const Option common_options[];
extern const int common_option_count;

#endif
