/* cadvlm report. */
#include <stdio.h>
#include <time.h>

#include "launch/commands.h"
#include "launch/shown.h"
#include "launch/version.h"
#include "report/report.h"

static Err write_report(const Arguments *runs, const char *title, const char *out,
                        int64_t examples) {
    char place[PATH_SIZE], date[64] = "";
    time_t now = time(NULL);
    struct tm local;
    if (localtime_r(&now, &local)) strftime(date, sizeof date, "%Y-%m-%d %H:%M", &local);
    if (out)
        TRY(path_format(place, "%s", out));
    else
        TRY(path_join(place, runs->items[0], "report.html"));
    ReportOptions options = {.title = title,
                             .version = CADVLM_VERSION,
                             .date = *date ? date : NULL,
                             .examples = (int)examples};
    TRY(report_write(place, runs->items, runs->count, &options));
    printf("%s\n", shown(place));
    return OK;
}

static Err run_report(const Command *command, int argc, char **argv) {
    const char *out = NULL, *title = NULL;
    int64_t examples = 12;
    Option options[] = {
        {"--out", "-o", "report.html", "the page to write (report.html in the first run)",
         OPTION_TEXT, &out, 0, 0},
        {"--title", NULL, "TEXT", "of the page (the names of the runs)", OPTION_TEXT, &title, 0, 0},
        {"--examples", NULL, "N", "of each gallery (12; 0: all)", OPTION_INT, &examples, 0, 1e6},
    };
    Arguments arguments;
    TRY(options_parse(command, options, sizeof options / sizeof options[0], argc, argv, 1, 1000,
                      &arguments));
    Err err = arguments.helped ? OK : write_report(&arguments, title, out, examples);
    arguments_free(&arguments);
    return err;
}

const Command report_commands[] = {
    {"report", "RUN… [-o report.html]", "Write runs as one page to look at",
     "Curves, evaluations and galleries of one or several run folders, in one HTML file that "
     "needs\n"
     "no other. A run may still be going, or never have been evaluated.",
     run_report},
};
const int report_command_count = sizeof report_commands / sizeof report_commands[0];
