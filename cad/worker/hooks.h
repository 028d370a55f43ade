/* Workers that misbehave, for tests: with CADVLM_CAD_HOOKS set, code that is only "# hook: WORD"
 * asks for it. */
#ifndef CADVLM_CAD_WORKER_HOOKS_H
#define CADVLM_CAD_WORKER_HOOKS_H

#include "cad/worker/worker.h"

/* True when the reply is the answer; else the code is as any other. */
bool hooks_obey(const CadRequest *request, CadReply *reply);

#endif
