/* Tokens to a tree, by recursive descent with a bounded depth. */
#include "cad/language/parser.h"

#include <stdlib.h>
#include <string.h>

enum { NODES_MIN = 1024 };

typedef struct Parser {
    Lexer lexer;
    Token token; /* the one to look at */
    Ast *ast;
    int depth; /* of the recursion of this parser */
    CodeError *error;
} Parser;

static Err step(Parser *p) {
    return lexer_next(&p->lexer, &p->token);
}

static bool at(const Parser *p, char symbol) {
    return p->token.kind == TOKEN_SYMBOL && p->token.symbol == symbol;
}

static bool at_word(const Parser *p, const char *word) {
    return p->token.kind == TOKEN_NAME && p->token.length == strlen(word) &&
           memcmp(p->token.text, word, p->token.length) == 0;
}

/* "expected …, but found …" */
static Err unexpected(Parser *p, const char *expected) {
    char name[64];
    return code_fail(p->error, p->token.place, true, "expected %s, but found %s", expected,
                     token_name(&p->token, name));
}

static int new_node(Parser *p, NodeKind kind, Place place) {
    Ast *ast = p->ast;
    if (ast->count == ast->capacity) {
        ast->capacity = ast->capacity ? 2 * ast->capacity : NODES_MIN;
        ast->nodes = realloc(ast->nodes, (size_t)ast->capacity * sizeof(Node));
        CHECK(ast->nodes, "out of memory: a tree of %d nodes", ast->capacity);
    }
    ast->nodes[ast->count] =
        (Node){.kind = (uint8_t)kind, .place = place, .name = -1, .child = -1, .next = -1};
    return ast->count++;
}

static int token_text_number(Parser *p) {
    return names_find(&p->ast->names, p->token.text, p->token.length);
}

/* Puts `child` under `parent`, after `last` (-1: first). */
static Err add_child(Parser *p, int parent, int last, int child) {
    Node *nodes = p->ast->nodes;
    if (last < 0)
        nodes[parent].child = child;
    else
        nodes[last].next = child;
    int height = nodes[child].height + 1;
    if (height > CODE_NESTING_MAX)
        return code_fail(p->error, nodes[parent].place, true,
                         "an expression of more than %d parts or levels", CODE_NESTING_MAX);
    if (height > nodes[parent].height) nodes[parent].height = (uint16_t)height;
    return OK;
}

static Err parse_value(Parser *p, int *out);

/* "a, b, c" up to `close`, as children of `list` after `last`. Sets *comma when there was one. */
static Err parse_values(Parser *p, int list, char close, bool *comma) {
    int last = -1;
    *comma = false;
    while (!at(p, close)) {
        int value;
        TRY(parse_value(p, &value));
        TRY(add_child(p, list, last, value));
        last = value;
        if (at(p, close)) break;
        if (!at(p, ',')) return unexpected(p, close == ']' ? "',' or ']'" : "',' or ')'");
        *comma = true;
        TRY(step(p));
    }
    return step(p);
}

static Err parse_brackets(Parser *p, int *out) {
    bool square = at(p, '['), comma;
    *out = new_node(p, NODE_LIST, p->token.place);
    TRY(step(p));
    if (!square && at(p, ')')) return step(p);
    TRY(parse_values(p, *out, square ? ']' : ')', &comma));
    if (!square && !comma) *out = p->ast->nodes[*out].child; /* plain parentheses */
    return OK;
}

static Err parse_atom(Parser *p, int *out) {
    Place place = p->token.place;
    switch (p->token.kind) {
    case TOKEN_NUMBER:
        *out = new_node(p, NODE_NUMBER, place);
        p->ast->nodes[*out].number = p->token.number;
        return step(p);
    case TOKEN_TEXT:
    case TOKEN_NAME:
        *out = new_node(p, p->token.kind == TOKEN_TEXT ? NODE_TEXT : NODE_NAME, place);
        p->ast->nodes[*out].name = token_text_number(p);
        return step(p);
    default: break;
    }
    if (at(p, '[') || at(p, '(')) return parse_brackets(p, out);
    return unexpected(p, "a value");
}

/* [ NAME "=" ] value. A name is only known to be a keyword once the "=" after it is seen. */
static Err parse_argument(Parser *p, int *out) {
    Place place = p->token.place;
    TRY(parse_value(p, out));
    if (!at(p, '=')) return OK;
    const Node *value = &p->ast->nodes[*out];
    if (value->kind != NODE_NAME) return unexpected(p, "',' or ')'");
    int name = value->name;
    int keyword = new_node(p, NODE_KEYWORD, place);
    p->ast->nodes[keyword].name = name;
    *out = keyword;
    TRY(step(p));
    int given;
    TRY(parse_value(p, &given));
    return add_child(p, keyword, -1, given);
}

static Err parse_arguments(Parser *p, int call, int last) {
    TRY(step(p));
    while (!at(p, ')')) {
        int argument;
        TRY(parse_argument(p, &argument));
        TRY(add_child(p, call, last, argument));
        last = argument;
        if (at(p, ')')) break;
        if (!at(p, ',')) return unexpected(p, "',' or ')'");
        TRY(step(p));
    }
    return step(p);
}

static Err parse_attribute(Parser *p, int *out) {
    TRY(step(p));
    if (p->token.kind != TOKEN_NAME) return unexpected(p, "a name after '.'");
    int attribute = new_node(p, NODE_ATTRIBUTE, p->token.place);
    p->ast->nodes[attribute].name = token_text_number(p);
    TRY(add_child(p, attribute, -1, *out));
    *out = attribute;
    return step(p);
}

static Err parse_call(Parser *p, int *out) {
    TRY(parse_atom(p, out));
    for (;;) {
        if (at(p, '.')) {
            TRY(parse_attribute(p, out));
        } else if (at(p, '(')) {
            int callee = *out;
            *out = new_node(p, NODE_CALL, p->ast->nodes[callee].place);
            TRY(add_child(p, *out, -1, callee));
            TRY(parse_arguments(p, *out, callee));
        } else {
            return OK;
        }
    }
}

static Err parse_signed(Parser *p, int *out) {
    if (!at(p, '-') && !at(p, '+')) return parse_call(p, out);
    if (p->depth == CODE_NESTING_MAX)
        return code_fail(p->error, p->token.place, true, "more than %d signs in a row",
                         CODE_NESTING_MAX);
    bool minus = at(p, '-');
    Place place = p->token.place;
    TRY(step(p));
    p->depth++;
    Err err = parse_signed(p, out);
    p->depth--;
    TRY(err);
    if (!minus) return OK;
    int negated = new_node(p, NODE_NEGATE, place);
    TRY(add_child(p, negated, -1, *out));
    *out = negated;
    return OK;
}

/* `out` becomes (left op right), with `out` on the left. */
static Err join(Parser *p, int *out, char op, Place place, int right) {
    int binary = new_node(p, NODE_BINARY, place);
    p->ast->nodes[binary].op = op;
    TRY(add_child(p, binary, -1, *out));
    TRY(add_child(p, binary, *out, right));
    *out = binary;
    return OK;
}

static Err parse_product(Parser *p, int *out) {
    TRY(parse_signed(p, out));
    while (at(p, '*') || at(p, '/')) {
        char op = p->token.symbol;
        Place place = p->token.place;
        int right;
        TRY(step(p));
        TRY(parse_signed(p, &right));
        TRY(join(p, out, op, place, right));
    }
    return OK;
}

static Err parse_value(Parser *p, int *out) {
    TRY(parse_product(p, out));
    while (at(p, '+') || at(p, '-')) {
        char op = p->token.symbol;
        Place place = p->token.place;
        int right;
        TRY(step(p));
        TRY(parse_product(p, &right));
        TRY(join(p, out, op, place, right));
    }
    return OK;
}

/* "import numpy as np": harmless, and the only import that means anything here. */
static Err parse_import(Parser *p, int *out) {
    *out = new_node(p, NODE_IMPORT, p->token.place);
    TRY(step(p));
    if (p->token.kind != TOKEN_NAME) return unexpected(p, "the name of a module");
    int module = token_text_number(p), alias = module;
    TRY(step(p));
    if (at_word(p, "as")) {
        TRY(step(p));
        if (p->token.kind != TOKEN_NAME) return unexpected(p, "a name");
        alias = token_text_number(p);
        TRY(step(p));
    }
    p->ast->nodes[*out].name = module;
    p->ast->nodes[*out].alias = alias;
    return OK;
}

/* Words that begin a statement of Python that this language does not have. */
static bool is_python_statement(const Parser *p) {
    static const char *const words[] = {"def",    "for",  "if",     "while", "class", "from",
                                        "return", "with", "lambda", "try",   "del",   "assert",
                                        "elif",   "else", "pass",   "raise", "global"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (at_word(p, words[i])) return true;
    return false;
}

/* "a, b": what stands on a line, or left or right of '='. */
static Err parse_line(Parser *p, int *out) {
    Place place = p->token.place;
    TRY(parse_value(p, out));
    if (!at(p, ',')) return OK;
    int list = new_node(p, NODE_LIST, place), last = *out;
    TRY(add_child(p, list, -1, last));
    while (at(p, ',')) {
        TRY(step(p));
        int value;
        TRY(parse_value(p, &value));
        TRY(add_child(p, list, last, value));
        last = value;
    }
    *out = list;
    return OK;
}

/* Left of '=' stands a name, or a list of names. */
static Err check_target(Parser *p, const Node *target, Place place) {
    const Node *nodes = p->ast->nodes;
    int child = target->kind == NODE_LIST ? target->child : -1;
    while (child >= 0 && nodes[child].kind == NODE_NAME) child = nodes[child].next;
    bool names = target->kind == NODE_LIST && target->child >= 0 && child < 0;
    if (names || target->kind == NODE_NAME) return OK;
    return code_fail(p->error, child >= 0 ? nodes[child].place : place, true,
                     "only a name can stand left of '='");
}

/* `out`, which was read, is the target; it becomes the statement. */
static Err parse_assignment(Parser *p, Place place, int *out) {
    const Node *target = &p->ast->nodes[*out];
    TRY(check_target(p, target, place));
    bool single = target->kind == NODE_NAME;
    int name = target->name, value;
    int assign = new_node(p, single ? NODE_ASSIGN : NODE_UNPACK, place);
    p->ast->nodes[assign].name = name;
    if (!single) TRY(add_child(p, assign, -1, *out));
    TRY(step(p));
    TRY(parse_line(p, &value));
    TRY(add_child(p, assign, single ? -1 : *out, value));
    *out = assign;
    return OK;
}

static Err parse_statement(Parser *p, int *out) {
    if (at_word(p, "import")) return parse_import(p, out);
    if (is_python_statement(p))
        return code_fail(p->error, p->token.place, true,
                         "'%.*s': code is made of NAME = function(…) lines only",
                         (int)p->token.length, p->token.text);
    Place place = p->token.place;
    TRY(parse_line(p, out));
    return at(p, '=') ? parse_assignment(p, place, out) : OK;
}

static Err add_statement(Parser *p, int *last) {
    int statement;
    TRY(parse_statement(p, &statement));
    if (p->token.kind != TOKEN_NEWLINE && p->token.kind != TOKEN_END)
        return unexpected(p, "the end of the line");
    if (*last < 0)
        p->ast->first = statement;
    else
        p->ast->nodes[*last].next = statement;
    *last = statement;
    return OK;
}

Err ast_parse(Ast *ast, const CodeBlock *block, CodeError *error) {
    *ast = (Ast){.first = -1};
    Parser p = {.ast = ast, .error = error};
    lexer_open(&p.lexer, block, error);
    TRY(step(&p));
    for (int count = 0, last = -1; p.token.kind != TOKEN_END;) {
        if (p.token.kind == TOKEN_NEWLINE) {
            TRY(step(&p));
            continue;
        }
        if (count++ == CODE_STATEMENTS_MAX)
            return code_fail(error, p.token.place, true, "more than %d statements",
                             CODE_STATEMENTS_MAX);
        TRY(add_statement(&p, &last));
    }
    return OK;
}

void ast_free(Ast *ast) {
    free(ast->nodes);
    names_free(&ast->names);
    *ast = (Ast){0};
}
