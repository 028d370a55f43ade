/* What can become of a part: names, and a reply before anybody has answered. */
#include "cad/worker/worker.h"

#include <math.h>
#include <strings.h>

#include "core/err.h"
#include "core/file.h"

const char *cad_status_name(CadStatus status) {
    static const char *const names[CAD_STATUS_COUNT] = {
        [CAD_UNKNOWN] = "unknown",
        [CAD_OK] = "ok",
        [CAD_PARSE_FAIL] = "parse_fail",
        [CAD_EXEC_FAIL] = "exec_fail",
        [CAD_TIMEOUT] = "timeout",
        [CAD_EMPTY_SOLID] = "empty_solid",
        [CAD_INVALID_SOLID] = "invalid_solid",
        [CAD_NON_MANIFOLD] = "non_manifold",
        [CAD_CRASH] = "crash",
        [CAD_UNREADABLE] = "unreadable",
        [CAD_UNSUPPORTED] = "unsupported",
    };
    CHECK((unsigned)status < CAD_STATUS_COUNT, "status %d", (int)status);
    return names[status];
}

bool cad_status_executed(CadStatus status) {
    return status == CAD_OK || status == CAD_INVALID_SOLID || status == CAD_NON_MANIFOLD;
}

CadExport cad_export_of(const char *path) {
    const char *extension = path_extension(path);
    if (!strcasecmp(extension, ".step") || !strcasecmp(extension, ".stp")) return CAD_EXPORT_STEP;
    return !strcasecmp(extension, ".stl") ? CAD_EXPORT_STL : CAD_EXPORT_NONE;
}

void cad_score_clear(CadScore *score) {
    const double none = (double)NAN;
    *score = (CadScore){.chamfer = none,
                        .hausdorff = none,
                        .hd95 = none,
                        .fscore = none,
                        .iou = none,
                        .iou_aligned = none,
                        .dims_rel_error = none};
}

void cad_reply_clear(CadReply *reply) {
    const double none = (double)NAN;
    const Vec3 nowhere = {none, none, none};
    *reply = (CadReply){.volume = none, .area = none, .box_min = nowhere, .box_max = nowhere};
    cad_score_clear(&reply->score);
}

void cad_reply_free(CadReply *reply) {
    buf_free(&reply->png);
    buf_free(&reply->exported);
    cad_reply_clear(reply);
}
