/* OpenECAD v2 code: text to program (lexer, parser, interpreter of our own, never Python) and
 * program to text. */
#ifndef CADVLM_CAD_LANGUAGE_CODE_H
#define CADVLM_CAD_LANGUAGE_CODE_H

#include "cad/language/program.h"

enum { CODE_SIZE_MAX = 1 << 20 };

/* Where and why code failed; lines and columns count from 1, columns in bytes. Where it did not,
 * all is zero but the message, which says which of several blocks of code was taken. */
typedef struct CodeError {
    int line, column;
    bool in_syntax; /* true: not a program; false: a program that does not make sense */
    char message[256];
} CodeError;

/* Parses and interprets `size` bytes of code into `program` (empty on failure; free it with
 * program_free). Markdown around the code is left out; of several fenced blocks the last that is a
 * program counts. The error is both in `error` (may be NULL) and in the Err's sentence, which
 * starts with `name`:line:column. */
Err code_parse(CadProgram *program, const char *text, size_t size, const char *name,
               CodeError *error);

/* How numbers are written. */
typedef enum CodeNumbers {
    CODE_NUMPY, /* as the authors' converter does through numpy: [ 0., -1.,  0.], four decimals */
    CODE_PLAIN, /* shortest decimal of at most four places (angles: six): 50, 12.5, -0.7071 */
    CODE_EXACT  /* reads back to the same doubles */
} CodeNumbers;

/* Appends the program as OpenECAD v2 code. The names are SketchPlane0, Line0_0_0, … Loops should
 * have gone through loop_assemble: a line that is referred to means the line as add_loop turns it.
 */
void code_emit(Buf *out, const CadProgram *program, CodeNumbers numbers);

/* The identity of a part: a hash of its CODE_PLAIN text. */
uint64_t program_hash(const CadProgram *program);

#endif
