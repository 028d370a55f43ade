/* A part in code, for the tests of the language and of programs. */
#ifndef CADVLM_TESTS_CAD_CAD_FIXTURE_H
#define CADVLM_TESTS_CAD_CAD_FIXTURE_H

#include "cad/language/code.h"
#include "tests/support/test.h"

/* A block with a hole: the layout of the authors' converter to the byte. */
static const char block[] =
    "SketchPlane0 = add_sketchplane(\n"
    "\torigin= [0., 0., 0.], normal= [ 0., -1.,  0.], x_axis= [ 1.,  0., -0.])\n"
    "Loops0 = []\n"
    "Curves0_0 = []\n"
    "Line0_0_0 = add_line(start= [-40.5,   0. ], end= [0., 0.])\n"
    "Line0_0_1 = add_line(start= [0., 0.], end= [ 0. , 30.2])\n"
    "Arc0_0_2 = add_arc(start= [ 0. , 30.2], end= [-40.5,  30.2], mid= [-20.25,  40.  ])\n"
    "Line0_0_3 = add_line(start= [-40.5,  30.2], end= [-40.5,   0. ])\n"
    "Loop0_0 = add_loop(Curves0_0)\n"
    "Curves0_1 = []\n"
    "Circle0_1_0 = add_circle(center= [-20.,  15.], radius= 5.25)\n"
    "Loop0_1 = add_loop(Curves0_1)\n"
    "Profile0 = add_profile(Loops0)\n"
    "Sketch0 = add_sketch(sketch_plane= SketchPlane0, profile= Profile0)\n"
    "Extrude0 = add_extrude(sketch= Sketch0,\n"
    "\toperation= 0, type= 0, extent_one= 50.8, extent_two= 0.)\n"
    "SketchPlane1 = add_sketchplane_ref(\n"
    "\tExtrude0, origin= [10.5, 25.4], type= \"line\", line= Line0_0_1, angle= -np.pi/2, reverse= "
    "True)\n"
    "Loops1 = []\n"
    "Curves1_0 = []\n"
    "Circle1_0_0 = add_circle(center= [0., 0.], radius= 2.)\n"
    "Loop1_0 = add_loop(Curves1_0)\n"
    "Profile1 = add_profile(Loops1)\n"
    "Sketch1 = add_sketch(sketch_plane= SketchPlane1, profile= Profile1)\n"
    "Extrude1 = add_extrude(sketch= Sketch1,\n"
    "\toperation= 2, type= 2, extent_one= -5., extent_two= 12.5)\n"
    "SketchPlane2 = add_sketchplane_ref(\n"
    "\tExtrude0, origin = [-20.,  15.], type = \"extent_one\", angle = 0.25, reverse = True)\n"
    "Loops2 = []\n"
    "Curves2_0 = []\n"
    "Circle2_0_0 = add_circle(center= [0., 0.], radius= 4.)\n"
    "Loop2_0 = add_loop(Curves2_0)\n"
    "Profile2 = add_profile(Loops2)\n"
    "Sketch2 = add_sketch(sketch_plane= SketchPlane2, profile= Profile2)\n"
    "Extrude2 = add_extrude(sketch= Sketch2,\n"
    "\toperation= 1, type= 1, extent_one= 3., extent_two= 0.)\n";

static inline CadProgram parsed(const char *code) {
    CadProgram program;
    ASSERT_OK(code_parse(&program, code, strlen(code), "test.py", NULL));
    return program;
}

/* The text is valid until the next call. */
static inline const char *emitted(const CadProgram *program, CodeNumbers numbers) {
    static Buf text;
    buf_clear(&text);
    code_emit(&text, program, numbers);
    return buf_cstr(&text);
}

/* The parts of a small complete program, to be written in different manners. */
#define PLANE "SketchPlane0 = add_sketchplane(origin=[0,0,0], normal=[0,0,1], x_axis=[1,0,0])\n"

#define SMALL_HEAD PLANE "Loops0 = []\nCurves0_0 = []\n"

#define SMALL_LOOP "Circle0_0_0 = add_circle([1,2], 3)\nLoop0_0 = add_loop(Curves0_0)\n"

#define SMALL_TAIL                                                                                 \
    "Profile0 = add_profile(Loops0)\n"                                                             \
    "Sketch0 = add_sketch(SketchPlane0, Profile0)\n"                                               \
    "Extrude0 = add_extrude(Sketch0, 0, 0, 10, 0)\n"
#define SMALL SMALL_HEAD SMALL_LOOP SMALL_TAIL

#endif
