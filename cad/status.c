/* Names of what can become of a part. */
#include "cad/worker.h"

#include "core/err.h"

const char *cad_status_name(CadStatus status) {
    static const char *const names[CAD_STATUS_COUNT] = {
        [CAD_OK] = "ok",
        [CAD_PARSE_FAIL] = "parse_fail",
        [CAD_EXEC_FAIL] = "exec_fail",
        [CAD_TIMEOUT] = "timeout",
        [CAD_EMPTY_SOLID] = "empty_solid",
        [CAD_INVALID_SOLID] = "invalid_solid",
        [CAD_NON_MANIFOLD] = "non_manifold",
        [CAD_CRASH] = "crash",
    };
    CHECK((unsigned)status < CAD_STATUS_COUNT, "status %d", (int)status);
    return names[status];
}
