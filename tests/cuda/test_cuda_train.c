/* cadvlm train with device: cuda, as its users run it, on one and several ranks, beside device:
 * cpu. On a GPU where there is one; in the emu presets over the emulation. */
#include "core/file.h"
#include "core/json.h"
#include "core/system.h"
#include "ops/ops.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

enum { STEPS_MAX = 16 };

typedef struct Losses {
    double loss[STEPS_MAX], norm[STEPS_MAX], val_loss;
    int count;
} Losses;

static void need_gpu(void) {
    const char *why = "";
    if (exec_device_count(&why) == 0) test_skip(why);
}

static void prepare(const char *training, const char *extra) {
    need_gpu();
    fixture_dataset(test_path("data"), 20, 1);
    fixture_tokenizer(test_path("tokenizer.json"));
    fixture_config(test_path("c.yaml"), test_path("data"), test_path("tokenizer.json"),
                   test_path("run"), training, extra);
}

static Losses read_losses(const char *run) {
    char path[PATH_SIZE];
    Buf text = {0};
    Losses l = {.val_loss = NAN};
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    ASSERT_OK(file_read(&text, path, 1 << 30));
    for (char *line = strtok(text.data, "\n"); line; line = strtok(NULL, "\n")) {
        Json *root;
        ASSERT_OK(js_parse(&root, line, strlen(line), path));
        ASSERT_TRUE(l.count < STEPS_MAX);
        if (js_number(js_get(root, "loss"), &l.loss[l.count]) &&
            js_number(js_get(root, "grad_norm"), &l.norm[l.count]))
            l.count++;
        else
            js_number(js_get(root, "val_loss"), &l.val_loss);
        js_free(&root);
    }
    buf_free(&text);
    return l;
}

/* Runs; returns what it said. */
static const char *train(int ranks, const char *output, const char *more) {
    const char *said;
    int code =
        test_run(&said, "%s env CADVLM_EMU_DEVICES=%d ./cadvlm train --config %s output_dir=%s %s",
                 ranks > 1 ? fixture_mpirun(ranks) : "", ranks, test_path("c.yaml"), output, more);
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    return said;
}

static void assert_near(const Losses *found, const Losses *expected, double allowed) {
    ASSERT_INT(found->count, ==, expected->count);
    for (int i = 0; i < found->count; i++) {
        ASSERT_NEAR(found->loss[i] / expected->loss[i], 1, allowed);
        ASSERT_NEAR(found->norm[i] / expected->norm[i], 1, 10 * allowed);
    }
    ASSERT_NEAR(found->val_loss / expected->val_loss, 1, allowed);
}

/* Steps apart, the order of sums differs and AdamW amplifies what is near zero. */
TEST(training_on_one_gpu_follows_the_cpu) {
    prepare("micro_batches: 4, max_steps: 4, eval_steps: 4", "");
    train(1, test_path("cpu"), "device=cpu precision=f32");
    const char *said = train(1, test_path("cuda"), "device=cuda precision=f32");
    ASSERT_CONTAINS(said, "cuda (GPU 0");
    Losses cpu = read_losses(test_path("cpu")), cuda = read_losses(test_path("cuda"));
    ASSERT_INT(cuda.count, ==, 4);
    assert_near(&cuda, &cpu, 2e-4);
}

TEST(several_gpus_follow_one) {
    prepare("micro_batches: 4, max_steps: 3, eval_steps: 3", "");
    train(1, test_path("one"), "device=cuda precision=f32");
    Losses one = read_losses(test_path("one"));
    for (int ranks = 2; ranks <= 3; ranks++) {
        char name[16];
        snprintf(name, sizeof name, "on-%d", ranks);
        train(ranks, test_path(name), "device=cuda precision=f32");
        Losses several = read_losses(test_path(name));
        assert_near(&several, &one, 2e-4);
    }
}

/* Masks of dropout are the same in every type: what differs is rounding, 2⁻⁹ of a number in bf16
 * and 2⁻¹² in fp16, of which a mean over some thousand labels keeps little (measured: losses 8e-5
 * and 7e-6 apart, norms of gradients 1.5e-3 and 4e-4); a fifth of the allowed, since each device
 * adds in an order of its own. */
TEST(recipe_with_lora_trains_in_bf16_and_fp16) {
    static const struct {
        const char *precision;
        double loss, norm;
    } cases[] = {{"bf16", 4e-4, 8e-3}, {"fp16", 4e-5, 2e-3}};
    prepare("micro_batches: 2, max_steps: 4, eval_steps: 4",
            "use_lora: true\nlora: { r: 8, alpha: 16, dropout: 0.05 }\n");
    char more[256];
    train(1, test_path("cpu"), "device=cpu precision=f32 tune.llm=lora tune.vision=frozen");
    Losses cpu = read_losses(test_path("cpu"));
    for (int i = 0; i < 2; i++) {
        snprintf(more, sizeof more, "device=cuda precision=%s tune.llm=lora tune.vision=frozen",
                 cases[i].precision);
        train(1, test_path(cases[i].precision), more);
        Losses found = read_losses(test_path(cases[i].precision));
        ASSERT_INT(found.count, ==, 4);
        for (int k = 0; k < found.count; k++) {
            ASSERT_NEAR(found.loss[k] / cpu.loss[k], 1, cases[i].loss);
            ASSERT_NEAR(found.norm[k] / cpu.norm[k], 1, cases[i].norm);
        }
        ASSERT_NEAR(found.val_loss / cpu.val_loss, 1, cases[i].loss);
    }
}

TEST(training_resumes_on_a_gpu_where_it_stopped) {
    prepare("micro_batches: 2, save_steps: 2, eval_steps: 4, lr_scheduler_type: constant", "");
    train(1, test_path("whole"), "device=cuda precision=f32 training.max_steps=4");
    train(1, test_path("parts"), "device=cuda precision=f32 training.max_steps=2");
    train(1, test_path("parts"), "device=cuda precision=f32 training.max_steps=4");
    Losses whole = read_losses(test_path("whole")), parts = read_losses(test_path("parts"));
    ASSERT_INT(parts.count, ==, 4);
    /* The rate is that of the step alone, and a GPU adds in the same order each time. */
    for (int i = 0; i < 4; i++) {
        ASSERT_REAL(parts.loss[i], ==, whole.loss[i]);
        ASSERT_REAL(parts.norm[i], ==, whole.norm[i]);
    }
    ASSERT_REAL(parts.val_loss, ==, whole.val_loss);
}

/* One step on a GPU of `mb` megabytes. */
static int train_within(const char **said, int mb, int samples) {
    return test_run(said,
                    "env CADVLM_EMU_MEMORY=%d000000 ./cadvlm train --config %s device=cuda "
                    "output_dir=%s/%d training.per_device_batch_size=%d",
                    mb, test_path("c.yaml"), test_folder(), mb, samples);
}

/* What is advised is enough: optimiser, gradients and scratch are counted. From hardly any room to
 * nearly enough. */
TEST(a_gpu_without_room_says_how_many_samples_fit) {
    enum { SAMPLES = 16 };
    prepare("max_steps: 1, micro_batches: 1", "");
    const char *said;
    if (!strstr(test_build_folder(), "emu")) test_skip("only the emulation has a GPU that small");
    int advised = 0;
    for (int mb = 36; mb <= 60; mb += 3) {
        int fit = 0, code = train_within(&said, mb, SAMPLES);
        if (code == 0) continue;
        ASSERT_INT(code, ==, 1);
        ASSERT_CONTAINS(said, "out of memory");
        const char *advice = strstr(said, "lower training.per_device_batch_size from 16 to ");
        if (!advice) continue;
        ASSERT_INT(sscanf(strstr(advice, " to "), " to %d", &fit), ==, 1);
        code = train_within(&said, mb, fit);
        ASSERT(code == 0, "%d MB, %d samples: %s", mb, fit, said);
        advised++;
    }
    ASSERT_INT(advised, >=, 2);
}

/* What cuBLASLt could not do is reported, by whichever rank speaks. */
TEST(a_run_says_how_its_products_were_done) {
    prepare("max_steps: 2, micro_batches: 1", "");
    const char *said = train(1, test_path("fine"), "device=cuda precision=bf16");
    ASSERT_CONTAINS(said, " products, planned ");
    ASSERT_CONTAINS(said, "0 algorithms refused");
    if (!strstr(test_build_folder(), "emu")) return;
    setenv("CADVLM_EMU_REFUSE", "3", 1);
    said = train(1, test_path("plain"), "device=cuda precision=bf16");
    unsetenv("CADVLM_EMU_REFUSE");
    ASSERT_CONTAINS(said, "refuses it: CUBLAS_STATUS_NOT_SUPPORTED");
    ASSERT_CONTAINS(said, "done by a plain kernel, slowly");
    Losses fine = read_losses(test_path("fine")), plain = read_losses(test_path("plain"));
    ASSERT_INT(plain.count, ==, 2);
    for (int i = 0; i < plain.count; i++) ASSERT_NEAR(plain.loss[i] / fine.loss[i], 1, 1e-3);
}

TEST(a_kernel_that_breaks_the_gpu_ends_the_run_with_a_sentence) {
    prepare("max_steps: 2, micro_batches: 1", "");
    const char *said;
    if (!strstr(test_build_folder(), "emu")) test_skip("only the emulation breaks on demand");
    int code =
        test_run(&said,
                 "CADVLM_CUDA_SYNC=1 CADVLM_EMU_FAIL=attention_bwd ./cadvlm train --config %s "
                 "device=cuda precision=bf16",
                 test_path("c.yaml"));
    ASSERT_INT(code, ==, 1);
    ASSERT_CONTAINS(said,
                    "error: attention_bwd: an illegal memory access was encountered on GPU 0");
}

/* Two ranks, of which the second has `fault` in its environment. */
static int train_with_a_hanging_rank(const char **said, const char *fault) {
    return test_run(said,
                    "timeout -k 5 %g %s sh -c 'export CADVLM_EMU_DEVICES=2; [ "
                    "$OMPI_COMM_WORLD_RANK = 0 ] || export "
                    "%s; exec ./cadvlm train --config %s device=cuda precision=f32 ddp_timeout=%g'",
                    test_patience(60), fixture_mpirun(2), fault, test_path("c.yaml"),
                    test_patience(2));
}

/* NCCL says nothing where a rank hangs; the ranks that wait find out which. */
TEST(a_rank_that_hangs_is_named_and_the_job_ends) {
    prepare("max_steps: 2, micro_batches: 2", "");
    const char *said;
    if (!strstr(test_build_folder(), "emu")) test_skip("only the emulation hangs on demand");
    ASSERT_INT(train_with_a_hanging_rank(&said, "CADVLM_EMU_STOP=attention_plain_dq"), !=, 0);
    ASSERT_CONTAINS(said, "hangs, or is busy with something else: rank 1 on ");
    ASSERT_INT(train_with_a_hanging_rank(&said, "CADVLM_EMU_HANG=attention_plain_dq"), !=, 0);
    ASSERT_CONTAINS(said, "for all-reduce ");
    ASSERT_CONTAINS(said, "has not done what comes before (a kernel hangs?): rank 1 on ");
}

/* Runs without a GPU in the emulation: `devices` as CADVLM_EMU_DEVICES has it on each rank. */
static int train_without(const char **said, const char *devices, const char *more) {
    if (!strstr(test_build_folder(), "emu")) test_skip("only the emulation can lose its GPUs");
    return test_run(said, "%s ./cadvlm train --config %s training.max_steps=1 %s", devices,
                    test_path("c.yaml"), more);
}

TEST(without_a_gpu_auto_says_why_and_cuda_is_refused) {
    char file[DEVICE_FILE_SIZE];
    const char *said;
    prepare("max_steps: 1", "");
    if (system_nvidia_file(file, "")) test_skip("this machine has NVIDIA's driver");
    ASSERT_INT(train_without(&said, "CADVLM_EMU_DEVICES=-1", "device=auto"), ==, 0);
    ASSERT_CONTAINS(said, "warning: no GPU: no /dev/nvidia* here, and CUDA says: "
                          "no CUDA driver on this machine, or it is older");
    ASSERT_CONTAINS(said, "trained 1 steps");
    ASSERT_INT(train_without(&said, "CADVLM_EMU_DEVICES=-1", "device=cuda"), ==, 1);
    ASSERT_CONTAINS(said, "error: no CUDA driver on this machine");
    char cpu[PATH_SIZE + 32];
    snprintf(cpu, sizeof cpu, "device=cpu output_dir=%s", test_path("cpu"));
    ASSERT_INT(train_without(&said, "CADVLM_EMU_DEVICES=-1", cpu), ==, 0);
    ASSERT_CONTAINS(said, "trained 1 steps");
    ASSERT_TRUE(!strstr(said, "no GPU"));
}

TEST(ranks_with_and_without_a_gpu_do_not_train_together) {
    char file[DEVICE_FILE_SIZE], ranks[256];
    const char *said;
    prepare("max_steps: 1", "");
    if (system_nvidia_file(file, "")) test_skip("this machine has NVIDIA's driver");
    snprintf(ranks, sizeof ranks,
             "%s sh -c 'CADVLM_EMU_DEVICES=$((1 - OMPI_COMM_WORLD_RANK)) exec \"$@\"' -",
             fixture_mpirun(2));
    ASSERT_INT(train_without(&said, ranks, "device=auto"), ==, 2);
    ASSERT_CONTAINS(said,
                    "rank 1 has the processor alone, rank 0 has a GPU: give every rank a GPU");
}

/* The presets of the published models over tiny ones in their layout: each with something else, so
 * that adapters of the tower, fp16, f32 and checkpointing are all seen. */
TEST(every_preset_of_a_published_model_trains_and_goes_on) {
    const char *why = "", *said;
    if (exec_device_count(&why) == 0) test_skip(why);
    static const struct {
        const char *preset, *more;
    } cases[] = {{"openecad_0.55b", "tune.vision=lora"},
                 {"openecad_0.89b", "precision=fp16"},
                 {"openecad_2.4b", "precision=f32"},
                 {"openecad_3.1b", "gradient_checkpointing=true"}};
    fixture_dataset(test_path("data"), 8, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int steps = 1; steps <= 2; steps++) {
            int code = test_run(
                &said,
                "export CADVLM_PRESETS=%s/config/presets; ./cadvlm train --config %s "
                "base_model=%s/tests/golden/models/%s train_data=%s val_data= output_dir=%s "
                "lora.r=4 device=cuda training.micro_batches=1 training.per_device_batch_size=1 "
                "limit=2 "
                "training.eval_samples=1 training.max_steps=%d %s",
                test_source_folder(), cases[i].preset, test_source_folder(), cases[i].preset,
                test_path("data"), test_path(cases[i].preset), steps, cases[i].more);
            ASSERT(code == 0, "%s: exit code %d:\n%s", cases[i].preset, code, said);
            ASSERT_CONTAINS(said, steps == 1 ? "trained 1 steps" : "resuming after step 1");
        }
}
