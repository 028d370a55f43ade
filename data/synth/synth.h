/* Synthetic parts: families of things a workshop makes, drawn at random.
 *
 * A part is a pure function of (seed, index). Every dimension of every family has at least 50
 * values (halves of a millimetre, or tenths where it is computed), features are never smaller than
 * what a drawing of 128 pixels shows, and bodies never float: the caller still checks each solid.
 * Families: docs/data.md. */
#ifndef CADVLM_DATA_SYNTH_SYNTH_H
#define CADVLM_DATA_SYNTH_SYNTH_H

#include "cad/drawing/draw.h"
#include "cad/language/program.h"
#include "core/rng.h"

/* How code is written: where the part stands. */
typedef enum SynthConvention {
    SYNTH_CORNER, /* the corner of the bounding box at the origin: all coordinates are positive */
    SYNTH_CENTRED /* the middle of the base at the origin, as a client may want it */
} SynthConvention;

extern const char *const synth_families[]; /* names, NULL-ended */
int synth_family_count(void);

/* Draws part `index` of `family` (-1: any). The program is the caller's to free. */
Err synth_part(CadProgram *program, uint64_t seed, uint64_t index, int family,
               SynthConvention convention);

/* The style of sample `index`'s drawing: line weights, dashes and ink varied about `base`,
 * everything shifted by up to ± `shift` pixels. */
DrawStyle synth_style(const DrawStyle *base, uint64_t seed, uint64_t index, double shift);

#endif
