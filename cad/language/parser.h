/* OpenECAD code as a tree.
 *
 *   code       = { statement newline }
 *   statement  = targets "=" values | values | "import" NAME [ "as" NAME ]
 *   targets    = NAME { "," NAME }, in brackets or not
 *   values     = value { "," value }
 *   value      = product { ("+" | "-") product }
 *   product    = signed { ("*" | "/") signed }
 *   signed     = ("-" | "+") signed | call
 *   call       = atom { "." NAME | "(" [ argument { "," argument } ] ")" }
 *   argument   = [ NAME "=" ] value
 *   atom       = NUMBER | TEXT | NAME | "[" [ values ] "]" | "(" values ")"
 *
 * A comma may follow the last element or argument inside brackets; (a, b), or a, b alone, is a list
 * as [a, b] is. */
#ifndef CADVLM_CAD_LANGUAGE_PARSER_H
#define CADVLM_CAD_LANGUAGE_PARSER_H

#include "cad/language/lexer.h"
#include "cad/language/names.h"

typedef enum NodeKind {
    NODE_NUMBER,
    NODE_TEXT,      /* name: its number */
    NODE_NAME,      /* name */
    NODE_ATTRIBUTE, /* name; child: the object */
    NODE_LIST,      /* children */
    NODE_CALL,      /* children: what is called, then its arguments */
    NODE_KEYWORD,   /* name; child: the value (an argument) */
    NODE_NEGATE,    /* child */
    NODE_BINARY,    /* op; two children */
    NODE_ASSIGN,    /* name; child: the value (a statement) */
    NODE_UNPACK,    /* children: the list of names, the value (a statement) */
    NODE_IMPORT     /* name: the module; alias: under which name (a statement) */
} NodeKind;

typedef struct Node {
    uint8_t kind;
    char op;         /* NODE_BINARY: + - * / */
    uint16_t height; /* longest way down: bounds every recursion over the tree */
    Place place;
    int name;
    int child, next; /* first child, next sibling; -1: none */
    union {
        double number;
        int alias;
    };
} Node;

/* Statements are siblings, from `first`. */
typedef struct Ast {
    Node *nodes;
    int count, capacity;
    int first;
    Names names;
} Ast;

/* On failure `error` says where and why; the tree is to be freed either way. */
Err ast_parse(Ast *ast, const CodeBlock *block, CodeError *error);
void ast_free(Ast *ast);

#endif
