/* The strategies and convergence phases of the OpenECAD training guide as a user types them: preset
 * by preset, from a model of the hub's cache and shards in the working folder, shrunk by overrides
 * alone. The model is a tiny one in the published layout. */
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

static void prepare(void) {
    static const char *const shards[] = {"openecad_quick", "openecad_full", "client",
                                         "openecad",       "fusion360",     "deepcad"};
    const char *said;
    char presets[PATH_SIZE], path[PATH_SIZE];
    snprintf(presets, sizeof presets, "%s/config/presets", test_source_folder());
    setenv("CADVLM_PRESETS", presets, 1);
    setenv("HF_HOME", test_path("hf"), 1);
    ASSERT_INT(test_run(&said,
                        "cd %s && model=hf/hub/models--Yuan-Che--OpenECADv2-SigLIP-0.89B && "
                        "mkdir -p $model/refs $model/snapshots shards && "
                        "printf 0123456789012345678901234567890123456789 >$model/refs/main && "
                        "cp -r %s/tests/golden/models/openecad_0.89b "
                        "$model/snapshots/0123456789012345678901234567890123456789",
                        test_folder(), test_source_folder()),
               ==, 0);
    for (size_t i = 0; i < sizeof shards / sizeof shards[0]; i++) {
        ASSERT_OK(path_format(path, "shards/%s", shards[i]));
        fixture_dataset(test_path(path), 24, i + 1);
    }
}

static const char *train(const char *prefix, const char *preset) {
    const char *said;
    int code = test_run(&said,
                        "cd %s && %s %s/cadvlm train --config %s device=cpu lora.r=4 threads=1 "
                        "training.max_steps=2 training.eval_steps=2 training.save_steps=2",
                        test_folder(), prefix, test_build_folder(), preset);
    ASSERT(code == 0, "%s: exit code %d:\n%s", preset, code, said);
    ASSERT_CONTAINS(said, "trained 2 steps");
    char state[PATH_SIZE];
    ASSERT_OK(path_format(state, "runs/%s/checkpoints/step-000000002/state.json", preset));
    ASSERT(file_exists(test_path(state)), "%s wrote no checkpoint:\n%s", preset, said);
    return said;
}

TEST(every_strategy_of_the_guide_starts_and_ends) {
    prepare();
    train("", "strategy1_quick");
    train("", "strategy2_full");
    train("", "strategy3_stage1");
    ASSERT_CONTAINS(train("", "strategy3_stage2"), "converting runs/strategy3_stage1/checkpoints");
    const char *said = train(fixture_mpirun(2), "strategy4_multi");
    ASSERT_CONTAINS(said, "curriculum: the simplest 20 % of each dataset first");
    ASSERT_CONTAINS(said, "dataset openecad: ");
}

TEST(every_convergence_phase_of_the_guide_starts_and_ends) {
    static const char *const phases[] = {"smoke_1k", "convergence_10k", "medium_100k", "full_919k"};
    prepare();
    for (int i = 0; i < 4; i++) train(i == 3 ? fixture_mpirun(3) : "", phases[i]);
}
