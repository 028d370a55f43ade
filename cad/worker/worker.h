/* Executing CAD in worker processes.
 *
 * Geometry kernels crash and hang, and code may be anything a model wrote, so solids are built only
 * in `cadvlm-cad`, a small program that is exec'd beside this one, links OpenCASCADE but neither
 * MPI nor CUDA, and lives under limits of time and memory. A pool keeps several busy; one that dies
 * or overruns is replaced, and its item says so. */
#ifndef CADVLM_CAD_WORKER_WORKER_H
#define CADVLM_CAD_WORKER_WORKER_H

#include <stddef.h>

#include "cad/drawing/draw.h"
#include "cad/language/program.h"
#include "core/buf.h"

typedef enum CadStatus {
    CAD_UNKNOWN, /* nobody has answered: where every reply begins */
    CAD_OK,
    CAD_PARSE_FAIL, /* not OpenECAD code */
    CAD_EXEC_FAIL,  /* code, but it cannot be built: refused by the validator or by the kernel */
    CAD_TIMEOUT,
    CAD_EMPTY_SOLID,   /* nothing is left */
    CAD_INVALID_SOLID, /* built, but BRepCheck or the volume law says it is broken */
    CAD_NON_MANIFOLD,  /* built, but an edge has one face or more than two */
    CAD_CRASH,         /* the worker died */
    CAD_UNREADABLE,    /* of files: not there, not allowed, or of no kind that is known */
    CAD_UNSUPPORTED,   /* of files: with features that this version does not have */
    CAD_STATUS_COUNT
} CadStatus;

/* "ok", "parse_fail", … */
const char *cad_status_name(CadStatus status);

/* Whether there is a solid that can be measured, sound or not. */
bool cad_status_executed(CadStatus status);

typedef enum CadExport { CAD_EXPORT_NONE, CAD_EXPORT_STEP, CAD_EXPORT_STL } CadExport;

/* By the extension, in any case; CAD_EXPORT_NONE for another. */
CadExport cad_export_of(const char *path);

/* One solid, and what to do with it. All that it points to is copied by cad_pool_submit. */
typedef struct CadRequest {
    const char *code; /* OpenECAD code, or NULL: then step_path is read */
    size_t code_size;
    const char *step_path;      /* read when its turn comes, by the pool: workers open no files */
    const DrawStyle *draw;      /* not NULL: draw it into reply.png */
    CadExport export_as;        /* not CAD_EXPORT_NONE: the file's bytes into reply.exported */
    const char *reference_code; /* not NULL: score against this program */
    size_t reference_size;
    const char *reference_step; /* or against this STEP file */
    int score_points;           /* points a surface for Chamfer; 0: 8192 */
    void *tag;                  /* the caller's; comes back in the reply */
} CadRequest;

/* Geometric scores of a solid against a reference; see docs/cad.md for the protocol. NaN where one
 * could not be computed; reference_status is CAD_UNKNOWN where the worker died before it said. */
typedef struct CadScore {
    CadStatus reference_status;
    double chamfer; /* mean squared distance both ways, both solids scaled by the reference's box to
                       [0,1]³ */
    double hausdorff, hd95, fscore;
    double iou;         /* 0 … 1, in the code's own units and place: no alignment, no scaling */
    double iou_aligned; /* after centring both bounding boxes and scaling both to unit extent */
    bool iou_exact;     /* by boolean volume; false: by 64 × 64 columns */
    double dims_rel_error; /* mean of |W-W'|/W over the three overall dimensions */
} CadScore;

typedef struct CadReply {
    CadStatus status;
    int line, column;  /* of a parse or execution failure; 0: none */
    char message[256]; /* why not; when ok: "", or what one should know */
    double volume, area;
    Vec3 box_min, box_max;
    int solids, faces;
    bool jittered; /* a boolean worked only with a tool changed by 1e-4, or slits were closed */
    double seconds;
    Buf png, exported; /* the drawing, the file; freed by cad_reply_free */
    CadScore score;
    void *tag;
} CadReply;

/* Nothing is known: CAD_UNKNOWN, and NaN for all that is measured. What a worker never said must
 * not read as a number. */
void cad_reply_clear(CadReply *reply);
void cad_score_clear(CadScore *score);

/* Leaves a clear one. */
void cad_reply_free(CadReply *reply);

/* A worker that waits for a processor is not to blame: an item is limited by the processor time
 * that it uses, and by the clock only so that what uses none ends too. */
typedef struct CadLimits {
    double seconds;      /* of processor time for an item; 0: 30, more under a sanitizer */
    double wall_seconds; /* by the clock; 0: 20 times `seconds` */
    size_t megabytes;    /* address space of a worker; 0: 3072 */
} CadLimits;

typedef struct CadPool CadPool;

/* Starts `workers` workers (0: one per processor). The program is found beside this one, or through
 * CADVLM_CAD. Nothing that belongs to a request is kept after its reply. Use one pool from one
 * thread at a time. */
Err cad_pool_open(CadPool **pool, int workers, CadLimits limits);
void cad_pool_close(CadPool **pool);

/* Queues a request; waits while all workers are busy and 2 · workers more wait. */
Err cad_pool_submit(CadPool *pool, const CadRequest *request);

/* The next finished reply, in the order of completion; waits for it. False when nothing is under
 * way. */
bool cad_pool_next(CadPool *pool, CadReply *reply);

/* Submit one and wait. */
Err cad_pool_run(CadPool *pool, const CadRequest *request, CadReply *reply);

#endif
