/* Command lines; see the header. */
#include "launch/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/text.h"

static const Option *find(const Option *options, int count, const char *word, size_t length) {
    for (int i = 0; i < count; i++) {
        if (strlen(options[i].name) == length && !strncmp(options[i].name, word, length))
            return &options[i];
        if (options[i].brief && strlen(options[i].brief) == length &&
            !strncmp(options[i].brief, word, length))
            return &options[i];
    }
    return NULL;
}

static Err unknown_option(const Command *command, const Option *options, int count,
                          const char *word, size_t length) {
    char given[64];
    text_escape_some(given, sizeof given, word, length);
    const char *names[64];
    int n = 0;
    for (int i = 0; i < count && n < 62; i++) names[n++] = options[i].name;
    names[n++] = "--verbose";
    names[n++] = "--help";
    const char *near = text_nearest(given, names, n);
    FAIL(ERR_CONFIG, "cadvlm %s has no option %s%s%s%s; see cadvlm %s --help", command->name, given,
         near ? " (is " : "", near ? near : "", near ? " meant?)" : "", command->name);
}

static Err set_value(const Option *option, const char *text) {
    char *end = NULL;
    errno = 0;
    double number = 0;
    if (option->type == OPTION_TEXT) {
        *(const char **)option->target = text;
        return OK;
    }
    if (option->type == OPTION_TEXTS) {
        Texts *texts = option->target;
        REQUIRE(texts->count < TEXTS_MAX, ERR_CONFIG, "%s is given more than %d times",
                option->name, TEXTS_MAX);
        texts->items[texts->count++] = text;
        return OK;
    }
    if (option->type == OPTION_INT) {
        long long whole = strtoll(text, &end, 10);
        REQUIRE(*text && !*end && errno == 0, ERR_CONFIG, "%s %s: a whole number is expected",
                option->name, text);
        *(int64_t *)option->target = whole;
        number = (double)whole;
    } else {
        number = strtod(text, &end);
        REQUIRE(*text && !*end && isfinite(number), ERR_CONFIG, "%s %s: a number is expected",
                option->name, text);
        *(double *)option->target = number;
    }
    if (option->low != 0 || option->high != 0)
        REQUIRE(number >= option->low && number <= option->high, ERR_CONFIG,
                "%s %s: %g to %g is possible", option->name, text, option->low, option->high);
    return OK;
}

const Option common_options[] = {
    {.name = "--verbose", .help = "more lines of the log: an error with the way it took"},
    {.name = "--help", .help = "this text"},
};
const int common_option_count = sizeof common_options / sizeof common_options[0];

static void print_option(const Option *option) {
    char left[80];
    snprintf(left, sizeof left, "%s%s%s%s%s", option->brief ? option->brief : "",
             option->brief ? ", " : "", option->name, option->value ? " " : "",
             option->value ? option->value : "");
    printf("  %-26s %s\n", left, option->help);
}

static void print_help(const Command *command, const Option *options, int count) {
    printf("cadvlm %s %s\n\n%s.\n", command->name, command->usage, command->summary);
    if (command->help) printf("\n%s\n", command->help);
    if (count) printf("\n");
    for (int i = 0; i < count; i++) print_option(&options[i]);
    for (int i = 0; i < common_option_count; i++) print_option(&common_options[i]);
}

/* While a command's options are asked for, and not its work. */
static OptionsVisitor *visitor;
static void *visitor_context;

Err options_visit(const Command *command, OptionsVisitor *visit, void *context) {
    visitor = visit;
    visitor_context = context;
    Err err = command->run(command, 0, NULL);
    visitor = NULL;
    return err;
}

static Err parse_into(const Command *command, const Option *options, int option_count, int argc,
                      char **argv, Arguments *arguments) {
    bool only_arguments = false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (only_arguments || word[0] != '-' || !word[1]) {
            REQUIRE(arguments->count < ARGUMENTS_MAX, ERR_CONFIG, "more than %d arguments",
                    ARGUMENTS_MAX);
            arguments->items[arguments->count++] = word;
            continue;
        }
        if (!strcmp(word, "--")) {
            only_arguments = true;
            continue;
        }
        if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
            print_help(command, options, option_count);
            arguments->helped = true;
            return OK;
        }
        if (!strcmp(word, "--verbose")) {
            log_set_level(LOG_DEBUG);
            continue;
        }
        const char *equals = strchr(word, '=');
        size_t length = equals ? (size_t)(equals - word) : strlen(word);
        const Option *option = find(options, option_count, word, length);
        if (!option) return unknown_option(command, options, option_count, word, length);
        if (option->type == OPTION_FLAG) {
            REQUIRE(!equals, ERR_CONFIG, "%s takes no value", option->name);
            *(bool *)option->target = true;
            continue;
        }
        REQUIRE(equals || i + 1 < argc, ERR_CONFIG, "%s needs a value: %s", option->name,
                option->value);
        TRY(set_value(option, equals ? equals + 1 : argv[++i]));
    }
    return OK;
}

Err options_parse(const Command *command, const Option *options, int option_count, int argc,
                  char **argv, int least, int most, Arguments *arguments) {
    *arguments = (Arguments){.items = calloc((size_t)argc + 1, sizeof *arguments->items)};
    CHECK(arguments->items, "out of memory: %d arguments", argc);
    if (visitor) {
        visitor(visitor_context, command, options, option_count);
        arguments->helped = true;
        return OK;
    }
    Err err = parse_into(command, options, option_count, argc, argv, arguments);
    if (err == OK && !arguments->helped &&
        (arguments->count < least || (most >= 0 && arguments->count > most)))
        err = err_raise(ERR_CONFIG, __FILE__, __LINE__,
                        "cadvlm %s was given %d argument%s; it is: cadvlm %s %s", command->name,
                        arguments->count, arguments->count == 1 ? "" : "s", command->name,
                        command->usage);
    if (err != OK) arguments_free(arguments);
    return err;
}

void arguments_free(Arguments *arguments) {
    free(arguments->items);
    *arguments = (Arguments){0};
}
