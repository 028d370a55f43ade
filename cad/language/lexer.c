/* Code to tokens. */
#include "cad/language/lexer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_LENGTH_MAX = 64 };

Err code_fail(CodeError *error, Place place, bool in_syntax, const char *format, ...) {
    va_list args;
    va_start(args, format);
    error->line = place.line;
    error->column = place.column;
    error->in_syntax = in_syntax;
    vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    FAIL(ERR_INPUT, "%s", error->message);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

void lexer_open(Lexer *lexer, const CodeBlock *block, CodeError *error) {
    *lexer = (Lexer){.next = block->text,
                     .end = block->text + block->size,
                     .place = block->place,
                     .at_line_start = block->place.column == 1,
                     .after_newline = true,
                     .error = error};
}

static char peek(const Lexer *lexer, int ahead) {
    return lexer->end - lexer->next > ahead ? lexer->next[ahead] : 0;
}

static void advance(Lexer *lexer, int bytes) {
    lexer->next += bytes;
    lexer->place.column += bytes;
}

/* Steps over a line end of any kind. */
static void next_line(Lexer *lexer) {
    lexer->next += peek(lexer, 0) == '\r' && peek(lexer, 1) == '\n' ? 2 : 1;
    lexer->place.line++;
    lexer->place.column = 1;
    lexer->at_line_start = true;
}

static bool at_line_end(const Lexer *lexer, int ahead) {
    char c = peek(lexer, ahead);
    return c == '\n' || c == '\r';
}

/* Steps over blanks, comments, and line ends that mean nothing; true at one that ends a statement.
 */
static bool skip_blanks(Lexer *lexer) {
    while (lexer->next < lexer->end) {
        char c = *lexer->next;
        if (c == ' ' || c == '\t' || c == '\f') {
            advance(lexer, 1);
        } else if (c == '#') {
            while (lexer->next < lexer->end && !at_line_end(lexer, 0)) advance(lexer, 1);
        } else if (c == '\\' && at_line_end(lexer, 1)) {
            advance(lexer, 1);
            next_line(lexer);
            lexer->at_line_start = false;
        } else if (c == '\n' || c == '\r') {
            if (!lexer->depth && !lexer->after_newline) return true;
            next_line(lexer);
        } else {
            return false;
        }
    }
    return false;
}

static Err read_number(Lexer *lexer, Token *token) {
    int n = 0;
    while (is_digit(peek(lexer, n))) n++;
    if (peek(lexer, n) == '.') n++;
    while (is_digit(peek(lexer, n))) n++;
    if (peek(lexer, n) == 'e' || peek(lexer, n) == 'E') {
        n++;
        if (peek(lexer, n) == '+' || peek(lexer, n) == '-') n++;
        if (!is_digit(peek(lexer, n)))
            return code_fail(lexer->error, token->place, true,
                             "a number whose exponent has no digits");
        while (is_digit(peek(lexer, n))) n++;
    }
    if (is_name(peek(lexer, n)))
        return code_fail(lexer->error, token->place, true, "a number that runs into '%c'",
                         peek(lexer, n));
    if (n > NUMBER_LENGTH_MAX)
        return code_fail(lexer->error, token->place, true,
                         "a number of %d characters; %d are the most", n, NUMBER_LENGTH_MAX);
    char copy[NUMBER_LENGTH_MAX + 1];
    memcpy(copy, lexer->next, (size_t)n);
    copy[n] = 0;
    token->kind = TOKEN_NUMBER;
    token->number = strtod(copy, NULL);
    token->length = (size_t)n;
    if (!isfinite(token->number))
        return code_fail(lexer->error, token->place, false, "the number %s is too large", copy);
    advance(lexer, n);
    return OK;
}

static Err read_text(Lexer *lexer, Token *token) {
    char quote = *lexer->next;
    const char *start = lexer->next + 1, *c = start;
    while (c < lexer->end && *c != quote && *c != '\n' && *c != '\r' && *c) c++;
    if (c == lexer->end || *c != quote)
        return code_fail(lexer->error, token->place, true, "a text that is not closed by %c",
                         quote);
    token->kind = TOKEN_TEXT;
    token->text = start;
    token->length = (size_t)(c - start);
    advance(lexer, (int)token->length + 2);
    return OK;
}

static Err read_symbol(Lexer *lexer, Token *token) {
    char c = *lexer->next;
    if ((unsigned char)c >= 0x80 || c < 0x20 || c == 0x7F)
        return code_fail(lexer->error, token->place, true,
                         "the byte 0x%02X has no meaning outside a comment or a text",
                         (unsigned char)c);
    if (!strchr("()[],=+-*/.", c))
        return code_fail(lexer->error, token->place, true, "the character '%c' has no meaning here",
                         c);
    if (c == '(' || c == '[') {
        if (lexer->depth == CODE_NESTING_MAX)
            return code_fail(lexer->error, token->place, true, "brackets are nested deeper than %d",
                             CODE_NESTING_MAX);
        lexer->opened[lexer->depth++] = token->place;
    } else if ((c == ')' || c == ']') && lexer->depth) {
        lexer->depth--;
    }
    token->kind = TOKEN_SYMBOL;
    token->symbol = c;
    token->length = 1;
    advance(lexer, 1);
    return OK;
}

/* Statements stand at one column, the first one's; the language has no blocks that would be
 * indented further. */
static Err check_margin(Lexer *lexer) {
    if (!lexer->at_line_start || lexer->depth) return OK;
    if (lexer->margin && lexer->place.column > lexer->margin)
        return code_fail(lexer->error, lexer->place, true,
                         "this line is indented, but continues no bracket");
    lexer->margin = lexer->place.column;
    return OK;
}

Err lexer_next(Lexer *lexer, Token *token) {
    bool ends = skip_blanks(lexer);
    *token = (Token){.text = lexer->next, .place = lexer->place};
    if (lexer->next == lexer->end) {
        if (lexer->depth) {
            Place opened = lexer->opened[lexer->depth - 1];
            return code_fail(lexer->error, token->place, true,
                             "the code ends inside the bracket opened at line %d, column %d",
                             opened.line, opened.column);
        }
        token->kind = TOKEN_END;
        return OK;
    }
    char c = *lexer->next;
    if (ends || (c == ';' && !lexer->depth)) {
        token->kind = TOKEN_NEWLINE;
        lexer->after_newline = true;
        if (ends)
            next_line(lexer);
        else
            advance(lexer, 1);
        return OK;
    }
    TRY(check_margin(lexer));
    lexer->at_line_start = false;
    lexer->after_newline = false;
    if (is_digit(c) || (c == '.' && is_digit(peek(lexer, 1)))) return read_number(lexer, token);
    if (c == '"' || c == '\'') return read_text(lexer, token);
    if (!is_name(c)) return read_symbol(lexer, token);
    token->kind = TOKEN_NAME;
    while (is_name(peek(lexer, (int)token->length))) token->length++;
    advance(lexer, (int)token->length);
    return OK;
}

const char *token_name(const Token *token, char out[64]) {
    int shown = token->length < 40 ? (int)token->length : 40;
    switch (token->kind) {
    case TOKEN_END: return "the end of the code";
    case TOKEN_NEWLINE: return "the end of the line";
    case TOKEN_NUMBER:
    case TOKEN_NAME: snprintf(out, 64, "'%.*s'", shown, token->text); return out;
    case TOKEN_TEXT: return "a text";
    case TOKEN_SYMBOL: snprintf(out, 64, "'%c'", token->symbol); return out;
    }
    return "?";
}
