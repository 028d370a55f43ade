/* cadvlm describe: the man page and the completions of shells, written from the tables of commands
 * and options, so that they say what the program says. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/keys.h"
#include "core/buf.h"
#include "core/text.h"
#include "launch/commands.h"
#include "launch/version.h"

/* A command with its options, whose texts outlive the command's run. */
typedef struct Described {
    const Command *command;
    Option *options;
    int count;
} Described;

typedef struct Tables {
    Described *commands;
    int count;
} Tables;

/* ---- the tables ---- */

static void keep(void *context, const Command *command, const Option *options, int count) {
    Described *out = context;
    int all = count + common_option_count;
    *out = (Described){command, calloc((size_t)all, sizeof *options), all};
    CHECK(out->options, "out of memory: %d options", all);
    if (count) memcpy(out->options, options, (size_t)count * sizeof *options);
    memcpy(out->options + count, common_options, (size_t)common_option_count * sizeof *options);
}

static void tables_free(Tables *tables) {
    for (int i = 0; i < tables->count; i++) free(tables->commands[i].options);
    free(tables->commands);
    *tables = (Tables){0};
}

static Err tables_collect(Tables *tables) {
    int count = 0;
    while (command_at(count)) count++;
    *tables = (Tables){.commands = calloc((size_t)count, sizeof *tables->commands), .count = count};
    CHECK(tables->commands, "out of memory: %d commands", count);
    for (int i = 0; i < count; i++) TRY(options_visit(command_at(i), keep, &tables->commands[i]));
    return OK;
}

/* The first word of "cad run". */
static int first_word(const char *name) {
    return (int)strcspn(name, " ");
}

static const char *second_word(const char *name) {
    const char *space = strchr(name, ' ');
    return space ? space + 1 : NULL;
}

/* Whether an option's value is a file or a folder. */
static bool is_path(const Option *option) {
    static const char *const words[] = {"FILE", "DIR", "PATH", "OUT", "SHARDS", "PICTURE"};
    if (!strcmp(option->name, "--out")) return true;
    for (size_t i = 0; option->value && i < sizeof words / sizeof words[0]; i++)
        if (!strncmp(option->value, words[i], strlen(words[i]))) return true;
    return false;
}

/* Whether it may also be the name of a preset. */
static bool is_config(const Option *option) {
    return !strcmp(option->name, "--config");
}

/* ---- the man page (man(7)) ---- */

/* Text in which nothing is a request or an escape; ASCII alone, as every troff reads it. */
static void put_roff(Buf *out, const char *text) {
    bool starts = true;
    size_t length;
    for (const char *c = text; *c; c += length) {
        length = utf8_length(c, strlen(c));
        CHECK(length, "a text of the program is no UTF-8: %s", text);
        if (starts && (*c == '.' || *c == '\'')) buf_text(out, "\\&");
        starts = *c == '\n';
        if (*c == '\\')
            buf_text(out, "\\e");
        else if (*c == '-')
            buf_text(out, "\\-");
        else if (length > 1)
            buf_format(out, "\\[u%04X]", (unsigned)utf8_code(c, length));
        else
            buf_append(out, c, 1);
    }
}

static void put_option_roff(Buf *out, const Option *option) {
    buf_text(out, ".TP\n");
    if (option->brief) {
        buf_text(out, "\\fB");
        put_roff(out, option->brief);
        buf_text(out, "\\fR, ");
    }
    buf_text(out, "\\fB");
    put_roff(out, option->name);
    buf_text(out, "\\fR");
    if (option->value) {
        buf_text(out, " \\fI");
        put_roff(out, option->value);
        buf_text(out, "\\fR");
    }
    buf_text(out, "\n");
    put_roff(out, option->help);
    buf_text(out, "\n");
}

static void put_command_roff(Buf *out, const Described *described) {
    const Command *command = described->command;
    buf_text(out, ".SS \"cadvlm ");
    put_roff(out, command->name);
    buf_text(out, "\"\n.B cadvlm ");
    put_roff(out, command->name);
    buf_text(out, "\n.I \"");
    put_roff(out, command->usage);
    buf_text(out, "\"\n.PP\n");
    put_roff(out, command->summary);
    buf_text(out, ".\n");
    if (command->help) {
        buf_text(out, ".PP\n.nf\n");
        put_roff(out, command->help);
        buf_text(out, "\n.fi\n");
    }
    for (int i = 0; i < described->count; i++) put_option_roff(out, &described->options[i]);
}

static void put_man(Buf *out, const Tables *tables) {
    buf_format(out, ".TH CADVLM 1 \"\" \"cadvlm %s\" \"User Commands\"\n", CADVLM_VERSION);
    buf_text(out, ".SH NAME\ncadvlm \\- train and run models that read an engineering drawing and "
                  "write the CAD program of the part\n"
                  ".SH SYNOPSIS\n.B cadvlm\n.I COMMAND\n.RI [ options ]\n.br\n"
                  ".B mpirun \\-n\n.I N\n.B cadvlm\n.I COMMAND\n.RI [ options ]\n"
                  ".SH COMMANDS\n");
    for (int i = 0; i < tables->count; i++) put_command_roff(out, &tables->commands[i]);
    buf_text(out, ".SH \"EXIT STATUS\"\n"
                  ".TP\n.B 0\ndone\n.TP\n.B 1\nfailed\n.TP\n.B 2\nwrong usage or config\n"
                  ".TP\n.B 75\nstopped on a signal, after saving\n"
                  ".SH ENVIRONMENT\n"
                  ".TP\n.B CADVLM_LOG\nhow much is logged: debug, info, warn or error\n"
                  ".TP\n.B CADVLM_PRESETS\na folder of presets that is looked at first\n"
                  ".TP\n.B CADVLM_CAD\nthe CAD worker, if it does not lie beside the program\n"
                  ".PP\nThe page docs/debugging.md lists all variables.\n"
                  ".SH FILES\n"
                  ".TP\n.I PREFIX/bin/cadvlm\\-cad\nthe CAD worker, which cadvlm starts by itself\n"
                  ".TP\n.I PREFIX/share/cadvlm/presets\nconfigs that \\fB\\-\\-config\\fR takes by "
                  "their name\n"
                  ".TP\n.I PREFIX/share/doc/cadvlm\nthe pages, and examples of configs\n"
                  ".SH EXAMPLES\n.nf\n"
                  "cadvlm cad run part.py \\-o part.step\n"
                  "cadvlm data synth shards \\-\\-count 1000\n"
                  "cadvlm data tokenizer shards \\-o tokenizer.json\n"
                  "mpirun \\-n 2 cadvlm train \\-\\-config demo train_data=shards "
                  "tokenizer=tokenizer.json output_dir=run\n"
                  "cadvlm generate \\-\\-checkpoint run drawing.png \\-o out\n"
                  ".fi\n"
                  ".SH \"SEE ALSO\"\n.BR mpirun (1),\n.BR srun (1)\n");
}

/* ---- bash ---- */

/* Commands of one word, and the first words of those of two; each once. */
static void put_first_words(Buf *out, const Tables *tables) {
    for (int i = 0; i < tables->count; i++) {
        const char *name = tables->commands[i].command->name;
        bool again = false;
        for (int k = 0; k < i; k++) {
            const char *before = tables->commands[k].command->name;
            again = again || (first_word(before) == first_word(name) &&
                              !strncmp(before, name, (size_t)first_word(name)));
        }
        if (!again) buf_format(out, "%.*s ", first_word(name), name);
    }
}

static void put_second_words(Buf *out, const Tables *tables) {
    for (int i = 0; i < tables->count; i++) {
        const char *name = tables->commands[i].command->name;
        if (i &&
            !strncmp(tables->commands[i - 1].command->name, name, (size_t)first_word(name) + 1))
            continue; /* its group is there; groups stand together */
        if (!second_word(name)) continue;
        buf_format(out, "        %.*s) words=\"", first_word(name), name);
        for (int k = 0; k < tables->count; k++) {
            const char *other = tables->commands[k].command->name;
            if (!strncmp(other, name, (size_t)first_word(name) + 1))
                buf_format(out, "%s ", second_word(other));
        }
        buf_text(out, "\" ;;\n");
    }
}

/* The names of options of one sort, with | or blanks between. */
static void put_names(Buf *out, const Described *d, bool (*is)(const Option *),
                      const char *between) {
    int n = 0;
    for (int i = 0; i < d->count; i++) {
        if (is && !is(&d->options[i])) continue;
        buf_format(out, "%s%s", n++ ? between : "", d->options[i].name);
        if (d->options[i].brief) buf_format(out, "%s%s", between, d->options[i].brief);
    }
    if (!n && is) buf_text(out, "-");
}

static bool takes_other(const Option *option) {
    return option->value && !is_path(option) && !is_config(option);
}

static bool is_plain_path(const Option *option) {
    return is_path(option) && !is_config(option);
}

static void put_bash(Buf *out, const Tables *tables) {
    buf_text(
        out,
        "# Completion of cadvlm for bash, by: cadvlm describe bash\n"
        "_cadvlm() {\n"
        "    local COMP_WORDS=(\"${COMP_WORDS[@]}\") COMP_CWORD=$COMP_CWORD\n"
        "    while ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} == --verbose ]]; do\n"
        "        COMP_WORDS=(\"${COMP_WORDS[0]}\" \"${COMP_WORDS[@]:2}\")\n"
        "        ((COMP_CWORD--))\n"
        "    done\n"
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words=\"\" "
        "set=\"\"\n"
        "    COMPREPLY=()\n"
        "    # bash takes --name=value and key=value apart at the sign\n"
        "    if [[ $word == = ]]; then\n"
        "        word=\"\" set=1\n"
        "    elif [[ $before == = ]]; then\n"
        "        before=${COMP_WORDS[COMP_CWORD-2]} set=1\n"
        "    fi\n"
        "    if ((COMP_CWORD == 1)); then\n        words=\"");
    put_first_words(out, tables);
    buf_text(out, "--help --version --verbose\"\n"
                  "    elif ((COMP_CWORD == 2)) && [[ $word != -* ]]; then\n"
                  "        case ${COMP_WORDS[1]} in\n");
    put_second_words(out, tables);
    buf_text(out, "        esac\n"
                  "    fi\n"
                  "    if [[ -n $words ]]; then\n"
                  "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
                  "        return\n"
                  "    fi\n"
                  "    local options=\"\" paths=- configs=- others=- keys=\"\"\n"
                  "    case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
    for (int i = 0; i < tables->count; i++) {
        const Described *d = &tables->commands[i];
        bool one = !second_word(d->command->name);
        buf_format(out, "        \"%s%s\"%s) options=\"", d->command->name, one ? " " : "",
                   one ? "*" : "");
        put_names(out, d, NULL, " ");
        buf_text(out, "\" paths=\"");
        put_names(out, d, is_plain_path, "|");
        buf_text(out, "\" configs=\"");
        put_names(out, d, is_config, "|");
        buf_text(out, "\" others=\"");
        put_names(out, d, takes_other, "|");
        buf_format(out, "\"%s ;;\n", strstr(d->command->usage, "key=value") ? " keys=1" : "");
    }
    buf_text(out,
             "    esac\n"
             "    if [[ $before =~ ^($configs)$ ]]; then\n"
             "        local program presets name\n"
             "        program=$(readlink -f -- \"$(type -P -- \"${COMP_WORDS[0]}\")\")\n"
             "        for presets in \"$CADVLM_PRESETS\" \"${program%/*}/../share/cadvlm/presets\" "
             "\"${program%/*}/../../config/presets\"; do\n"
             "            [[ -n $presets && -d $presets ]] || continue\n"
             "            for name in \"$presets\"/*.yaml; do\n"
             "                name=${name##*/} name=${name%.yaml}\n"
             "                [[ $name != '*' && $name == \"$word\"* ]] && COMPREPLY+=(\"$name\")\n"
             "            done\n"
             "        done\n"
             "        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- \"$word\")\n"
             "        compopt -o filenames 2>/dev/null\n"
             "    elif [[ $before =~ ^($others)$ ]]; then\n"
             "        return\n"
             "    elif [[ $word == -* ]]; then\n"
             "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$word\")\n"
             "    elif [[ -n $keys && ! $before =~ ^($paths)$ && $word != */* && -z $set ]]; then\n"
             "        mapfile -t COMPREPLY < <(compgen -S = -W \"");
    for (int i = 0; i < config_key_count; i++) buf_format(out, "%s ", config_keys[i].path);
    buf_text(out, "\" -- \"$word\")\n"
                  "        compopt -o nospace 2>/dev/null\n"
                  "    else\n"
                  "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
                  "        compopt -o filenames 2>/dev/null\n"
                  "    fi\n"
                  "}\n"
                  "complete -F _cadvlm cadvlm\n");
}

/* ---- zsh ---- */

/* Text inside '…[…]…' of _arguments, or behind a colon of _describe. */
static void put_zsh(Buf *out, const char *text) {
    for (const char *c = text; *c; c++) {
        if (*c == '\'')
            buf_text(out, "'\\''");
        else if (strchr("[]:\\", *c))
            buf_format(out, "\\%c", *c);
        else
            buf_append(out, *c == '\n' ? " " : c, 1);
    }
}

static void put_option_zsh(Buf *out, const Option *option) {
    const char *names[] = {option->name, option->brief};
    for (int i = 0; i < 2; i++) {
        if (!names[i]) continue;
        buf_format(out, " \\\n                '%s%s%s[", option->type == OPTION_TEXTS ? "*" : "",
                   names[i],
                   !option->value       ? ""
                   : names[i][1] == '-' ? "="
                                        : "+");
        put_zsh(out, option->help);
        buf_text(out, "]");
        if (option->value) {
            buf_text(out, ":");
            put_zsh(out, option->value);
            buf_text(out, is_config(option) ? ":_cadvlm_configs"
                          : is_path(option) ? ":_files"
                                            : ": ");
        }
        buf_text(out, "'");
    }
}

static void put_words_zsh(Buf *out, const Tables *tables, const char *group) {
    for (int i = 0; i < tables->count; i++) {
        const Command *command = tables->commands[i].command;
        const char *second = second_word(command->name);
        bool mine = group ? second &&
                                !strncmp(command->name, group, (size_t)first_word(command->name)) &&
                                first_word(group) == first_word(command->name)
                          : !second;
        if (!mine) continue;
        buf_format(out, " '%s:", second ? second : command->name);
        put_zsh(out, command->summary);
        buf_text(out, "'");
    }
}

static void put_zsh_page(Buf *out, const Tables *tables) {
    buf_text(out, "#compdef cadvlm\n# Completion of cadvlm for zsh, by: cadvlm describe zsh\n"
                  "_cadvlm_configs() {\n"
                  "    local program=${commands[cadvlm]:A:h}\n"
                  "    local -a names=($program/../share/cadvlm/presets/*.yaml(N:t:r) "
                  "${CADVLM_PRESETS:+$CADVLM_PRESETS/*.yaml(N:t:r)})\n"
                  "    compadd -a names\n"
                  "    _files\n"
                  "}\n"
                  "_cadvlm_keys() {\n"
                  "    local -a keys=(");
    for (int i = 0; i < config_key_count; i++) buf_format(out, "%s ", config_keys[i].path);
    buf_text(out, ")\n    compadd -S = -a keys\n}\n"
                  "_cadvlm() {\n"
                  "    local -a names\n"
                  "    if ((CURRENT == 2)); then\n"
                  "        names=(");
    Buf firsts = {0};
    put_first_words(&firsts, tables);
    buf_format(out, "%s)\n        compadd -a names\n        return\n    fi\n", buf_cstr(&firsts));
    buf_free(&firsts);
    buf_text(out, "    if ((CURRENT == 3)); then\n        case $words[2] in\n");
    for (int i = 0; i < tables->count; i++) {
        const char *name = tables->commands[i].command->name;
        bool again = i && !strncmp(tables->commands[i - 1].command->name, name,
                                   (size_t)first_word(name) + 1);
        if (!second_word(name) || again) continue;
        buf_format(out, "            %.*s) names=(", first_word(name), name);
        put_words_zsh(out, tables, name);
        buf_text(out, "); _describe command names; return ;;\n");
    }
    buf_text(out, "        esac\n    fi\n"
                  "    case \"$words[2] $words[3]\" in\n");
    for (int i = 0; i < tables->count; i++) {
        const Described *d = &tables->commands[i];
        bool one = !second_word(d->command->name);
        buf_format(out,
                   "        '%s%s'%s)\n            shift %d words; ((CURRENT -= %d))\n            "
                   "_arguments",
                   d->command->name, one ? " " : "", one ? "*" : "", one ? 1 : 2, one ? 1 : 2);
        for (int k = 0; k < d->count; k++) put_option_zsh(out, &d->options[k]);
        buf_format(out, " \\\n                '*:argument:%s' ;;\n",
                   strstr(d->command->usage, "key=value") ? "_cadvlm_keys" : "_files");
    }
    buf_text(out, "    esac\n}\n_cadvlm \"$@\"\n");
}

/* ---- the command ---- */

static Err run_describe(const Command *command, int argc, char **argv) {
    static const struct {
        const char *name;
        void (*put)(Buf *out, const Tables *tables);
    } kinds[] = {{"man", put_man}, {"bash", put_bash}, {"zsh", put_zsh_page}};
    Arguments arguments;
    Tables tables = {0};
    Buf out = {0};
    TRY(options_parse(command, NULL, 0, argc, argv, 1, 1, &arguments));
    Err err = OK;
    if (arguments.helped) goto done;
    size_t kind = 0;
    while (kind < 3 && strcmp(kinds[kind].name, arguments.items[0]) != 0) kind++;
    REQUIRE_GOTO(err, kind < 3, ERR_CONFIG, "describe %s: man, bash or zsh is expected",
                 arguments.items[0]);
    TRY_GOTO(err, tables_collect(&tables));
    kinds[kind].put(&out, &tables);
    fputs(buf_cstr(&out), stdout);
done:
    buf_free(&out);
    tables_free(&tables);
    arguments_free(&arguments);
    return err;
}

const Command describe_commands[] = {
    {"describe", "man|bash|zsh", "Print the man page, or the completions of a shell",
     "An installation has them. Elsewhere: source <(cadvlm describe bash)", run_describe},
};
const int describe_command_count = sizeof describe_commands / sizeof describe_commands[0];
