/* DeepCAD construction sequences: JSON files that were derived from Onshape documents.
 *
 * A file holds sketches (planes, and profiles of loops of lines, arcs and circles) and extrude
 * features in the order of their execution; lengths in metres, the plane's axes in space. What is
 * odd about the format stands in docs/cad.md. */
#ifndef CADVLM_DATA_IMPORT_DEEPCAD_H
#define CADVLM_DATA_IMPORT_DEEPCAD_H

#include "cad/language/program.h"
#include "core/json.h"

/* As much as JSON_VALUES_MAX values take, at the 25 bytes each of the dataset's files (the largest
 * seen has 95 kB). */
enum { DEEPCAD_FILE_MAX = 32 << 20 };

typedef struct DeepcadInfo {
    bool has_box;
    Vec3 box_min, box_max; /* millimetres; of the whole Onshape model, also where the exporter
                              stopped before its end */
    int extrusions;        /* of the program: one for each profile of each feature */
    char **dropped;        /* sentences on what of the file is not in the program */
    int dropped_count;
} DeepcadInfo;

/* Converts a parsed file into a program in millimetres, with unrounded numbers, its planes stated
 * by reference where OpenECAD's converter would. `name` opens the sentences. On failure
 * (ERR_INPUT; ERR_UNSUPPORTED for tapered sides and for designs of Fusion 360) `out` is empty.
 * `info` may be NULL; else deepcad_info_free, on failure too. The program is not validated: see
 * program_validate. */
Err deepcad_parse(CadProgram *out, const Json *root, const char *name, DeepcadInfo *info);

/* The same from a file. */
Err deepcad_read(CadProgram *out, const char *path, DeepcadInfo *info);

void deepcad_info_free(DeepcadInfo *info);

#endif
