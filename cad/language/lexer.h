/* Cuts OpenECAD code into tokens, as Python would where the language needs it: comments, blank
 * lines, lines continued inside brackets or by a backslash. Code that is indented as a whole (in a
 * list of an answer, say) is code all the same. */
#ifndef CADVLM_CAD_LANGUAGE_LEXER_H
#define CADVLM_CAD_LANGUAGE_LEXER_H

#include "cad/language/blocks.h"
#include "cad/language/code.h"

enum { CODE_NESTING_MAX = 64, CODE_STATEMENTS_MAX = 100000 };

typedef enum TokenKind {
    TOKEN_END,
    TOKEN_NEWLINE, /* the end of a statement; ';' too */
    TOKEN_NAME,
    TOKEN_NUMBER,
    TOKEN_TEXT,  /* without its quotes */
    TOKEN_SYMBOL /* one of ( ) [ ] , = + - * / . */
} TokenKind;

typedef struct Token {
    TokenKind kind;
    char symbol;
    const char *text; /* in the code itself, not zero-ended */
    size_t length;
    double number;
    Place place;
} Token;

typedef struct Lexer {
    const char *next, *end;
    Place place;
    int depth; /* open brackets */
    Place opened[CODE_NESTING_MAX];
    int margin; /* the column at which statements stand; 0 before the first */
    bool at_line_start, after_newline;
    CodeError *error;
} Lexer;

/* The block's text must outlive the lexer and its tokens; `error` is filled by what fails. */
void lexer_open(Lexer *lexer, const CodeBlock *block, CodeError *error);

/* Newlines come once between statements, never at the beginning or twice. */
Err lexer_next(Lexer *lexer, Token *token);

/* What a token is called in a message: a bracket, "a number", … `out` holds 64 bytes. */
const char *token_name(const Token *token, char out[64]);

/* Writes the failure into `error` and returns ERR_INPUT with the same sentence. */
Err code_fail(CodeError *error, Place place, bool in_syntax, const char *format, ...)
    __attribute__((format(printf, 4, 5), cold));

#endif
