/* cadvlm: one program, its commands in a table. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/text.h"
#include "cuda/backend_cuda.h"
#include "launch/commands.h"
#include "launch/version.h"
#include "ops/ops.h"

/* Commands that are planned. */
static const char *const planned[] = {
    "data export", "data split", "data merge", "plan",   "lr-find",
    "launch",      "serve",      "inspect",    "doctor",
};

static void print_commands(FILE *out) {
    fprintf(out, "cadvlm trains vision-language models that read an engineering drawing and write "
                 "the CAD program of the part.\n\n"
                 "usage: cadvlm COMMAND [options]\n\n");
    const Command *command;
    for (int i = 0; (command = command_at(i)); i++)
        fprintf(out, "  %-16s %s\n", command->name, command->summary);
    fprintf(out, "\n  cadvlm COMMAND --help says more; cadvlm --version names the libraries.\n"
                 "  --verbose, or CADVLM_LOG=debug|info|warn|error, says how much is logged.\n"
                 "  What several ranks share is run as: mpirun -n N cadvlm COMMAND …\n"
                 "  Exit codes: 0 done, 1 failed, 2 wrong usage or config, 75 stopped on a signal "
                 "after saving.\n");
}

/* True when argv starts with the words of `name`; *words is their number. */
static int matches(const char *name, int argc, char **argv, int *words) {
    const char *at = name;
    for (*words = 0; *at; (*words)++) {
        size_t length = strcspn(at, " ");
        if (*words >= argc || strlen(argv[*words]) != length ||
            strncmp(argv[*words], at, length) != 0)
            return 0;
        at += length;
        if (*at) at++;
    }
    return 1;
}

static Err unknown_command(int argc, char **argv) {
    int words;
    for (size_t i = 0; i < sizeof planned / sizeof planned[0]; i++)
        REQUIRE(!matches(planned[i], argc, argv, &words), ERR_UNSUPPORTED,
                "cadvlm %s is not there yet in version %s", planned[i], CADVLM_VERSION);
    char given[128];
    bool two = argc > 1 && argv[1][0] != '-';
    snprintf(given, sizeof given, "%s%s%s", argv[0], two ? " " : "", two ? argv[1] : "");
    const char *names[64];
    int n = 0;
    for (int i = 0; n < 64 && command_at(i); i++) names[n++] = command_at(i)->name;
    const char *near = text_nearest(given, names, n);
    if (!near) near = text_nearest(argv[0], names, n);
    FAIL(ERR_CONFIG, "no command %s%s%s%s; cadvlm --help lists them", given, near ? " (is " : "",
         near ? near : "", near ? " meant?)" : "");
}

/* What is logged: as CADVLM_LOG says, or all (--verbose, before the command or behind it). */
static Err set_log_level(int *argc, char ***argv) {
    const char *level = getenv("CADVLM_LOG");
    if (level && *level) TRY(log_set_level_named(level));
    while (*argc > 1 && !strcmp((*argv)[1], "--verbose")) {
        log_set_level(LOG_DEBUG);
        ++*argv;
        --*argc;
    }
    return OK;
}

static Err run_command(int argc, char **argv) {
    const Command *command;
    int words;
    for (int i = 0; (command = command_at(i)); i++)
        if (matches(command->name, argc, argv, &words))
            return command->run(command, argc - words, argv + words);
    return unknown_command(argc, argv);
}

static Err run(int argc, char **argv) {
    TRY(set_log_level(&argc, &argv));
    if (argc < 2) {
        print_commands(stderr);
        err_clear();
        return ERR_CONFIG;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        print_commands(stdout);
    else if (!strcmp(argv[1], "--version"))
        version_print();
    else
        return run_command(argc - 1, argv + 1);
    return OK;
}

/* Only the last write of what was printed says whether all of it has arrived. */
static Err close_output(void) {
    bool earlier = ferror(stdout) != 0;
    if (fclose(stdout) != 0) FAIL(ERR_IO, "cannot write standard output: %s", strerror(errno));
    REQUIRE(!earlier, ERR_IO, "cannot write standard output: not all of it was taken");
    return OK;
}

/* A file that is opened must not become standard output where that was closed: what is written to
 * it then is an error in the end. */
static void occupy_streams(void) {
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) (void)!open("/dev/null", O_RDONLY);
}

int main(int argc, char **argv) {
    occupy_streams();
    exec_settle_process(argv);
    cuda_backend_register();
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error to report, not an end */
    Err err = run(argc, argv);
    log_outcome(err);
    if (close_output() != OK) {
        log_outcome(ERR_IO);
        if (err == OK) err = ERR_IO;
    }
    return err_exit_code(err);
}
