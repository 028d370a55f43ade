/* cadvlm train as its users run it: on ranks, stopped, killed, resumed, and on bad input. */
#include <signal.h>
#include <unistd.h>

#include "core/file.h"
#include "ops/ops.h"
#include "tests/support/run_fixture.h"
#include "tests/support/test.h"
#include "tests/support/train_fixture.h"

TEST(losses_and_weights_have_the_same_bits_on_any_ranks_and_threads) {
    run_prepare(40, "micro_batches: 4, max_steps: 5, eval_steps: 3", "");
    Buf expected = {0};
    uint64_t weights = 0;
    for (int ranks = 1; ranks <= 3; ranks++)
        for (int threads = 1; threads <= 2; threads++) {
            char name[32], more[64];
            snprintf(name, sizeof name, "run-%d-%d", ranks, threads);
            snprintf(more, sizeof more, "threads=%d", threads);
            const char *run = run_folder(name);
            run_train(ranks == 1 ? "" : fixture_mpirun(ranks), run, more);
            Buf losses = {0};
            run_losses(&losses, run);
            uint64_t hash = run_file_hash(run, "trained.safetensors");
            if (ranks == 1 && threads == 1) {
                printf("%s", buf_cstr(&losses));
                buf_text(&expected, buf_cstr(&losses));
                weights = hash;
            }
            ASSERT_TEXT(buf_cstr(&losses), buf_cstr(&expected));
            ASSERT(hash == weights, "%d ranks, %d threads: other weights", ranks, threads);
            buf_free(&losses);
        }
    buf_free(&expected);
}

/* At a rate at which every step makes things worse. */
TEST(a_run_ends_early_when_validations_only_get_worse) {
    run_prepare(
        40,
        "micro_batches: 2, max_steps: 50, warmup_ratio: 0, learning_rate: 0.5, max_grad_norm: 0, "
        "lr_scheduler_type: constant, eval_steps: 1, early_stopping_patience: 2",
        "");
    const char *said;
    int code = test_run(&said, "./cadvlm train --config %s", test_path("c.yaml"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "2 validations in a row were worse than the best");
    Buf losses = {0};
    run_losses(&losses, run_folder("run"));
    ASSERT_TRUE(!strstr(buf_cstr(&losses), "50: "));
    buf_free(&losses);
    /* Run again it does not go on. */
    code = test_run(&said, "./cadvlm train --config %s", test_path("c.yaml"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "stopping early after step");
}

/* srun without PMIx: each of its processes would train alone, over the others' files. */
TEST(a_process_of_srun_that_meets_no_other_does_not_train_alone) {
    run_prepare(20, "micro_batches: 2, max_steps: 1, eval_steps: 1", "");
    const char *said;
    int code =
        test_run(&said, "SLURM_STEP_NUM_TASKS=2 ./cadvlm train --config %s", test_path("c.yaml"));
    ASSERT_INT(code, ==, 2);
    ASSERT_CONTAINS(said, "srun has started 2 processes, but this one has met no other: use srun "
                          "--mpi=pmix");
    code =
        test_run(&said, "SLURM_STEP_NUM_TASKS=1 ./cadvlm train --config %s", test_path("c.yaml"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    /* mpirun inside an allocation: its daemons are tasks of srun, the ranks are MPI's. */
    char prefix[160];
    snprintf(prefix, sizeof prefix, "SLURM_STEP_NUM_TASKS=2 %s", fixture_mpirun(2));
    run_train(prefix, run_folder("several"), "");
}

TEST(one_batch_overfits_on_two_ranks) {
    run_prepare(4, "micro_batches: 2, per_device_batch_size: 2, max_steps: 300, min_lr_ratio: 0.1",
                "");
    run_train(fixture_mpirun(2), run_folder("run"), "");
    Buf losses = {0};
    run_losses(&losses, run_folder("run"));
    const char *last = strstr(buf_cstr(&losses), "\n300: ");
    ASSERT_TRUE(last != NULL);
    printf("%.80s\n", last + 1);
    ASSERT_REAL(atof(last + strlen("\n300: ")), <, 0.05);
    buf_free(&losses);
}

/* A processor that does not multiply bf16 computes in f32, and says so: the same bits as when f32
 * is asked for. */
TEST(precision_bf16_is_f32_where_the_processor_lacks_it) {
    run_prepare(20, "micro_batches: 2, max_steps: 3, eval_steps: 3", "");
    const char *said;
    int code = test_run(&said,
                        "CADVLM_CPU_ISA=avx2 ./cadvlm train --config %s output_dir=%s "
                        "precision=bf16",
                        test_path("c.yaml"), run_folder("narrow"));
    ASSERT(code == 0, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "precision bf16 is run in f32 on this device");
    ASSERT_CONTAINS(said, "weights in f32");
    run_train("CADVLM_CPU_ISA=avx2", run_folder("wide"), "precision=f32");
    ASSERT_TRUE(run_file_hash(run_folder("narrow"), "trained.safetensors") ==
                run_file_hash(run_folder("wide"), "trained.safetensors"));
}

/* What a shell, a format or a file system might stumble over. */
TEST(folders_may_have_any_name) {
    char odd[PATH_SIZE], data[PATH_SIZE], tokenizer[PATH_SIZE], run[PATH_SIZE];
    snprintf(odd, sizeof odd, "%s/odd $name 100%%s; ü", test_folder());
    ASSERT_OK(file_make_directories(odd));
    ASSERT_OK(path_join(data, odd, "the data"));
    ASSERT_OK(path_join(tokenizer, odd, "tokens & more.json"));
    ASSERT_OK(path_join(run, odd, "a run"));
    fixture_dataset(data, 20, 1);
    fixture_tokenizer(tokenizer);
    fixture_config(test_path("c.yaml"), data, tokenizer, run, "micro_batches: 2, max_steps: 2", "");
    const char *said;
    for (int steps = 2; steps <= 3; steps++) {
        int code = test_run(&said, "TMPDIR='%s' ./cadvlm train --config %s training.max_steps=%d",
                            odd, test_path("c.yaml"), steps);
        ASSERT(code == 0, "exit code %d:\n%s", code, said);
    }
    ASSERT_CONTAINS(said, "resuming after step 2");
}

TEST(stop_and_resume_equals_an_unbroken_run) {
    run_prepare(40, "micro_batches: 2, max_steps: 40, eval_steps: 10", "");
    run_train("", run_folder("whole"), "");
    const char *run = run_folder("broken"), *said;
    run_start("", run, 5);
    ASSERT_INT(test_run(&said, "kill -USR1 $(cat %s.pid)", run), ==, 0);
    int code = run_wait(run, &said);
    ASSERT(code == 75, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "stopped by a signal after step");
    /* Going on with two ranks instead of one changes nothing. */
    run_train(fixture_mpirun(2), run, "");
    Buf whole = {0}, broken = {0};
    run_losses(&whole, run_folder("whole"));
    run_losses(&broken, run);
    ASSERT_TEXT(buf_cstr(&broken), buf_cstr(&whole));
    const char *const files[] = {"trained.safetensors", "moment1.safetensors",
                                 "moment2.safetensors"};
    for (int i = 0; i < 3; i++)
        ASSERT_TRUE(run_file_hash(run, files[i]) == run_file_hash(run_folder("whole"), files[i]));
    buf_free(&whole);
    buf_free(&broken);
}

TEST(signal_through_mpirun_saves_and_exits_with_75) {
    run_prepare(40, "micro_batches: 2, max_steps: 4000", "");
    const char *run = run_folder("run"), *said;
    run_start(fixture_mpirun(2), run, 3);
    ASSERT_INT(test_run(&said, "kill -USR1 $(cat %s.pid)", run), ==, 0);
    int code = run_wait(run, &said);
    ASSERT(code == 75, "exit code %d:\n%s", code, said);
    char state[PATH_SIZE];
    snprintf(state, sizeof state, "%s/checkpoints/latest/state.json", run);
    ASSERT_TRUE(file_exists(state));
}

TEST(killed_rank_ends_the_job_and_is_named) {
    run_prepare(40, "micro_batches: 2, max_steps: 100000", "");
    const char *run = run_folder("run"), *said;
    run_start(fixture_mpirun(2), run, 3);
    ASSERT_INT(test_run(&said, "kill -9 $(pgrep -P $(cat %s.pid) | tail -n 1)", run), ==, 0);
    int code = run_wait(run, &said);
    ASSERT_INT(code, !=, 0);
    ASSERT_CONTAINS(said, "rank");
    ASSERT_CONTAINS(said, "signal 9");
}

TEST(damaged_checkpoint_is_passed_over) {
    run_prepare(40, "micro_batches: 2, max_steps: 6, save_steps: 3", "");
    const char *run = run_folder("run"), *said;
    run_train("", run, "");
    uint64_t weights = run_file_hash(run, "trained.safetensors");
    /* One flipped bit in the middle of the newest. */
    char path[PATH_SIZE];
    Buf bytes = {0};
    snprintf(path, sizeof path, "%s/checkpoints/latest/trained.safetensors", run);
    ASSERT_OK(file_read(&bytes, path, 1 << 30));
    bytes.data[bytes.size / 2] ^= 4;
    FILE *file = fopen(path, "wb");
    ASSERT_TRUE(file && fwrite(bytes.data, 1, bytes.size, file) == bytes.size && fclose(file) == 0);
    buf_free(&bytes);
    ASSERT_INT(
        test_run(&said, "./cadvlm train --config %s output_dir=%s", test_path("c.yaml"), run), ==,
        0);
    ASSERT_CONTAINS(said, "damaged checkpoint");
    ASSERT_CONTAINS(said, "trained.safetensors is damaged");
    ASSERT_CONTAINS(said, "resuming after step 3");
    ASSERT_TRUE(run_file_hash(run, "trained.safetensors") == weights);
}

/* To begin anew would cost what may still be mended; so would to go on from an earlier one where
 * the newest is of a later version. */
TEST(a_run_does_not_begin_anew_where_its_checkpoints_cannot_be_used) {
    run_prepare(40, "micro_batches: 2, max_steps: 4, save_steps: 2", "");
    const char *run = run_folder("run"), *said;
    run_train("", run, "");
    int code =
        test_run(&said,
                 "cd %s/checkpoints && sed -i 's/\"format_version\": 1/\"format_version\": "
                 "2/' step-000000004/manifest.json && grep -q 'version\": 2' */manifest.json",
                 run);
    ASSERT_INT(code, ==, 0);
    code = test_run(&said, "./cadvlm train --config %s output_dir=%s training.max_steps=5",
                    test_path("c.yaml"), run);
    ASSERT(code == 2, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "format version 2; this program reads 1");
    ASSERT_INT(test_run(&said, "rm %s/checkpoints/step-*/manifest.json", run), ==, 0);
    code = test_run(&said, "%s ./cadvlm train --config %s output_dir=%s training.max_steps=5",
                    fixture_mpirun(2), test_path("c.yaml"), run);
    ASSERT(code == 1, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "none of the 2 checkpoints in");
    ASSERT_INT(test_run(&said, "ls %s/checkpoints | grep -c step-", run), ==, 0);
    ASSERT_TEXT(said, "2\n");
}

/* What the run writes must not land in a file of its own that took the number of the stream. */
TEST(standard_output_that_is_closed_is_a_failure) {
    run_prepare(20, "micro_batches: 1, max_steps: 2", "");
    const char *run = run_folder("run"), *said;
    int code = test_run(&said, "./cadvlm train --config %s output_dir=%s --json >&-",
                        test_path("c.yaml"), run);
    ASSERT(code == 1, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "cannot write standard output");
    ASSERT_INT(test_run(&said, "grep -q samples_per_s %s/log/*", run), ==, 1);
}

/* Whoever made the folder may have put one there. */
TEST(a_link_in_the_place_of_the_log_is_not_followed) {
    run_prepare(20, "micro_batches: 1, max_steps: 2", "");
    const char *run = run_folder("run"), *said;
    ASSERT_INT(test_run(&said,
                        "mkdir -p %s/log; echo mine > %s/other; ln -s %s/other %s/log/rank-0.txt",
                        run, test_folder(), test_folder(), run),
               ==, 0);
    run_train("", run, "");
    ASSERT_INT(test_run(&said, "cat %s/other; test -s %s/log/rank-0.txt", test_folder(), run), ==,
               0);
    ASSERT_TEXT(said, "mine\n");
}

TEST(full_disk_keeps_the_checkpoint_before) {
    run_prepare(40, "micro_batches: 2, max_steps: 3", "");
    const char *run = run_folder("run"), *said;
    run_train("", run, "");
    uint64_t weights = run_file_hash(run, "trained.safetensors");
    /* Files may not grow beyond 40 kB: the next checkpoint cannot be written. */
    int code = test_run(
        &said, "ulimit -f 40; ./cadvlm train --config %s output_dir=%s training.max_steps=6",
        test_path("c.yaml"), run);
    ASSERT(code == 1, "exit code %d:\n%s", code, said);
    ASSERT_CONTAINS(said, "cannot write");
    ASSERT_TRUE(run_file_hash(run, "trained.safetensors") == weights);
    run_train("", run, "training.max_steps=6");
}

TEST(a_second_run_in_the_same_folder_is_refused) {
    run_prepare(40, "micro_batches: 2, max_steps: 3", "");
    const char *said;
    char run[PATH_SIZE];
    snprintf(run, sizeof run, "%s", run_folder("run"));
    for (int ranks = 1; ranks <= 2; ranks++) {
        int code =
            test_run(&said,
                     "mkdir -p %s && flock %s timeout 600 %s ./cadvlm train --config %s "
                     "output_dir=%s",
                     run, run, ranks == 1 ? "" : fixture_mpirun(2), test_path("c.yaml"), run);
        ASSERT(code == 1 && strstr(said, "another run is under way in"), "exit code %d:\n%s", code,
               said);
    }
    run_train("", run, "");
    ASSERT_INT(
        test_run(&said, "./cadvlm train --config %s output_dir=%s", test_path("c.yaml"), run), ==,
        0);
    ASSERT_CONTAINS(said, "nothing left to train: 3 steps");
    ASSERT_TRUE(!strstr(said, "nan"));
}

TEST(bad_input_is_a_sentence_and_the_right_exit_code) {
    run_prepare(20, "micro_batches: 2, max_steps: 2", "");
    const char *said, *config = test_path("c.yaml");
    static const struct {
        const char *change, *said;
        int code;
    } cases[] = {
        {"training.max_stepz=3", "is training.max_steps meant?", 2},
        {"train_data=/nowhere", "/nowhere", 1},
        {"tokenizer=/nowhere.json", "/data -o /nowhere.json`", 1},
        {"tokenizer=", "tokenizer: not given; one is learned from the data by", 2},
        {"device=cuda", "set device: cpu",
         -1}, /* 2 where the build has none, 1 where the machine has */
        {"model.llm.vocab=20", "vocab 560 in the tokenizer, 20 in the model", 2},
        {"model.vision.image_size=64", "32 × 32", 1},
        {"training.max_length=10", "max_length", 1},
        {"training.per_device_batch_size=65536 training.max_length=65536",
         "training.per_device_batch_size 65536 × training.max_length 65536 rows", 2},
        {"training.num_epochs=0 training.max_steps=0", "no steps to train", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int ranks = 1; ranks <= 2; ranks++) {
            int code = test_run(&said, "%s ./cadvlm train --config %s %s",
                                ranks == 1 ? "" : fixture_mpirun(2), config, cases[i].change);
            if (cases[i].code < 0 && exec_device_count(NULL) > 0) continue;
            ASSERT((cases[i].code < 0 ? code == 1 || code == 2 : code == cases[i].code) &&
                       strstr(said, cases[i].said),
                   "%s on %d ranks: exit code %d:\n%s", cases[i].change, ranks, code, said);
            /* All ranks know of it, and leave together. */
            ASSERT(!strstr(said, "ends the job") && !strstr(said, "MPI_ABORT"),
                   "%s on %d ranks:\n%s", cases[i].change, ranks, said);
        }
    ASSERT_INT(test_run(&said, "./cadvlm train --config /nowhere.yaml"), ==, 2);
    ASSERT_CONTAINS(said, "/nowhere.yaml");
    ASSERT_INT(test_run(&said, "./cadvlm train"), ==, 2);
    ASSERT_CONTAINS(said, "--config");
    ASSERT_INT(test_run(&said, "./cadvlm tain"), ==, 2);
    ASSERT_CONTAINS(said, "is train meant?");
    ASSERT_INT(test_run(&said, "./cadvlm serve"), ==, 2);
    ASSERT_CONTAINS(said, "not there yet");
    /* Other data with a preset's tokenizer. */
    ASSERT_INT(test_run(&said, "./cadvlm train --config demo train_data=%s output_dir=%s",
                        test_path("data"), test_path("demo")),
               ==, 1);
    ASSERT_CONTAINS(said, "no demo/tokenizer.json; one is learned from the data by");
    ASSERT_INT(test_run(&said,
                        "HF_HOME=%s ./cadvlm train --config smoke_1k train_data=%s val_data=",
                        test_folder(), test_path("data")),
               ==, 1);
    ASSERT_CONTAINS(said, "cadvlm data fetch Yuan-Che/OpenECADv2-SigLIP-0.89B");
}

TEST(truncated_shard_stops_every_rank_with_its_name) {
    run_prepare(20, "micro_batches: 2, max_steps: 2", "");
    FileNames names;
    ASSERT_OK(file_list(&names, test_path("data")));
    const char *said;
    for (size_t i = 0; i < names.count; i++)
        if (strstr(names.names[i], ".h5"))
            ASSERT_INT(test_run(&said, "truncate -s -100 %s/%s", test_path("data"), names.names[i]),
                       ==, 0);
    file_names_free(&names);
    int code = test_run(&said, "timeout 600 %s ./cadvlm train --config %s", fixture_mpirun(2),
                        test_path("c.yaml"));
    ASSERT_INT(code, ==, 1);
    ASSERT_CONTAINS(said, ".h5");
}

/* The first losses of a fixed run in f32. Other processors add in another order: 2e-4 leaves room
 * for that over ten steps, and a change of the mathematics is far larger. */
TEST(losses_follow_the_golden_curve) {
    static const double golden[10] = {7.16867168, 7.1974882,  6.93637965, 6.75971901, 6.52530928,
                                      6.18697723, 6.17195025, 5.95240639, 5.9581973,  5.98437709};
    run_prepare(40, "micro_batches: 2, max_steps: 10", "precision: f32");
    run_train("", run_folder("run"), "");
    Buf losses = {0};
    run_losses(&losses, run_folder("run"));
    printf("%s", buf_cstr(&losses));
    char *line = losses.data;
    for (int i = 0; i < 10; i++) {
        double loss = atof(strchr(line, ':') + 1);
        ASSERT_NEAR(loss, golden[i], 2e-4 * golden[i]);
        line = strchr(line, '\n') + 1;
    }
    buf_free(&losses);
}

/* Batch systems, containers and threads leave little; a main thread may have far less than 8 MiB.
 */
TEST(a_small_stack_is_enough) {
#ifdef __SANITIZE_ADDRESS__
    test_skip("frames of the sanitizers are larger");
#endif
    static const char *const isas[] = {"", "ONEDNN_MAX_CPU_ISA=AVX2 CADVLM_CPU_ISA=avx2"};
    run_prepare(20, "micro_batches: 2, save_steps: 2", "threads: 2\nlora: { r: 4 }");
    const char *run = run_folder("run"), *config = test_path("c.yaml"), *said;
    for (int i = 0; i < 2; i++) {
        int code = test_run(&said,
                            "rm -rf %s; ulimit -s 384; export OMP_STACKSIZE=256k %s; "
                            "for steps in 3 4; do ./cadvlm train --config %s output_dir=%s "
                            "tune.llm=lora tune.vision=lora training.max_steps=$steps || exit 1; "
                            "done; ./cadvlm eval -c %s --data %s",
                            run, isas[i], config, run, run, test_path("data"));
        ASSERT(code == 0, "exit code %d:\n%s", code, said);
        ASSERT_CONTAINS(said, "resuming after step 3");
    }
}
