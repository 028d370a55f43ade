/* Names of a piece of code, each kept once and known by a number from then on. */
#ifndef CADVLM_CAD_LANGUAGE_NAMES_H
#define CADVLM_CAD_LANGUAGE_NAMES_H

#include <stddef.h>

#include "core/buf.h"

typedef struct Names {
    Buf text;     /* all names, each ended by a zero */
    int *offsets; /* [count] where each begins in `text` */
    int count, capacity;
    int *slots; /* [slot_count] open addressing: name number or -1 */
    int slot_count;
} Names;

void names_free(Names *names);

/* The number of a name: 0, 1, …; new names are added. */
int names_find(Names *names, const char *name, size_t length);

/* Valid until the next names_find. */
const char *names_text(const Names *names, int name);

#endif
