/* Running parts through a pool, for its tests. */
#ifndef CADVLM_TESTS_CAD_POOL_FIXTURE_H
#define CADVLM_TESTS_CAD_POOL_FIXTURE_H

#include "cad/worker/worker.h"
#include "core/sanitized.h"
#include "tests/cad/parts.h"

static inline CadPool *open_pool(int workers, CadLimits limits) {
    CadPool *pool;
    setenv("CADVLM_CAD_HOOKS", "1", 1);
    ASSERT_OK(cad_pool_open(&pool, workers, limits));
    return pool;
}

static inline CadReply run_code(CadPool *pool, const char *code) {
    CadReply reply;
    ASSERT_OK(cad_pool_run(pool, &(CadRequest){.code = code, .code_size = strlen(code)}, &reply));
    return reply;
}

static inline CadReply run_program(CadPool *pool, CadProgram program) {
    return run_code(pool, part_code(&program));
}

static inline void expect(const char *what, CadReply reply, CadStatus status, const char *part) {
    printf("%s: %s %s\n", what, cad_status_name(reply.status), reply.message);
    ASSERT_TEXT(cad_status_name(reply.status), cad_status_name(status));
    ASSERT_CONTAINS(reply.message, part);
}

#endif
