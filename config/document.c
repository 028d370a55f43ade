/* A YAML document; see the header. libyaml takes time that grows with the square of the depth of
 * brackets, and loads aliases again and again: so its events are looked at one by one, and only a
 * document that is sound is loaded. */
#include "config/document.h"

#include <string.h>

#include "config/config.h"

enum { DEPTH_MAX = 8 };

/* What has been seen of a stream of events. */
typedef struct Seen {
    int depth;
    size_t document; /* the line where it begins; 0: none yet */
} Seen;

const char *node_text(const yaml_node_t *node) {
    return (const char *)node->data.scalar.value;
}

size_t node_line(const yaml_node_t *node) {
    return node->start_mark.line + 1;
}

bool node_is_null(const yaml_node_t *node) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++)
        if (!strcmp(node_text(node), nulls[i])) return true;
    return false;
}

/* Where libyaml stopped. Of a byte that is no character it knows the place, not the line. */
static size_t problem_line(const yaml_parser_t *parser, const char *text, size_t size) {
    if (parser->error != YAML_READER_ERROR) return parser->problem_mark.line + 1;
    size_t line = 1;
    for (size_t i = 0; i < size && i < parser->problem_offset; i++) line += text[i] == '\n';
    return line;
}

static Err tell_problem(const yaml_parser_t *parser) {
    const char *problem = parser->problem ? parser->problem : "?";
    REQUIRE(parser->error != YAML_READER_ERROR || parser->problem_value < 0, ERR_CONFIG,
            "not valid YAML: %s (0x%02X); a config is UTF-8 text", problem,
            (unsigned)parser->problem_value);
    FAIL(ERR_CONFIG, "not valid YAML: %s", problem);
}

static const char *tag_of(const yaml_event_t *event) {
    switch (event->type) {
    case YAML_SCALAR_EVENT: return (const char *)event->data.scalar.tag;
    case YAML_SEQUENCE_START_EVENT: return (const char *)event->data.sequence_start.tag;
    case YAML_MAPPING_START_EVENT: return (const char *)event->data.mapping_start.tag;
    default: return NULL;
    }
}

static Err check_event(Seen *seen, const yaml_event_t *event) {
    size_t line = event->start_mark.line + 1;
    const char *tag = tag_of(event);
    REQUIRE(!tag, ERR_CONFIG, "the tag %s is not understood: write the plain value", tag);
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        REQUIRE(!seen->document, ERR_CONFIG,
                "a second document begins here, the first in line %zu; a config is one",
                seen->document);
        seen->document = line;
        return OK;
    case YAML_ALIAS_EVENT:
        FAIL(ERR_CONFIG, "the alias *%s is not understood: write the value again",
             (const char *)event->data.alias.anchor);
    case YAML_SCALAR_EVENT:
        REQUIRE(strlen((const char *)event->data.scalar.value) == event->data.scalar.length,
                ERR_CONFIG, "a text with a zero byte");
        return OK;
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        REQUIRE(++seen->depth <= DEPTH_MAX, ERR_CONFIG, "nested deeper than %d levels", DEPTH_MAX);
        return OK;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: seen->depth--; return OK;
    default: return OK;
    }
}

static Err check_events(yaml_parser_t *parser, const char *text, size_t size, size_t *line) {
    Seen seen = {0};
    for (bool more = true; more;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            *line = problem_line(parser, text, size);
            return tell_problem(parser);
        }
        *line = event.start_mark.line + 1;
        Err err = check_event(&seen, &event);
        more = event.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
        TRY(err);
    }
    return OK;
}

static void open_parser(yaml_parser_t *parser, const char *text, size_t size) {
    CHECK(yaml_parser_initialize(parser), "out of memory: a YAML parser");
    yaml_parser_set_input_string(parser, (const unsigned char *)text, size);
}

Err document_read(yaml_document_t *out, const char *text, size_t size, size_t *line) {
    yaml_parser_t parser;
    *line = 1;
    REQUIRE(size <= CONFIG_FILE_MAX, ERR_CONFIG, "the file has %zu bytes, more than the %d allowed",
            size, CONFIG_FILE_MAX);
    open_parser(&parser, text, size);
    Err err = check_events(&parser, text, size, line);
    yaml_parser_delete(&parser);
    TRY(err);
    open_parser(&parser, text, size);
    if (!yaml_parser_load(&parser, out)) err = tell_problem(&parser);
    yaml_parser_delete(&parser);
    return err;
}
