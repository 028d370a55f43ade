/* checkpoint: what is saved, what is refused, and what is believed. */
#include <math.h>
#include <signal.h>

#include "checkpoint/base.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/manifest.h"
#include "core/file.h"
#include "core/json.h"
#include "core/signals.h"
#include "tests/support/test.h"
#include "tests/support/tiny.h"
#include "tests/support/train_fixture.h"
#include "trainer/patience.h"

/* A tiny model and its optimiser, and all that goes into a checkpoint beside them. */
typedef struct Saved {
    Comm *comm;
    Tiny tiny;
    Optim optim;
    Config config;
    Lineage lineage;
    TrainState state;
} Saved;

static void saved_open(Saved *s) {
    ModelSpec spec;
    *s = (Saved){.state = {.step = 7,
                           .micro_batches = 2,
                           .update = {.updates = 6, .loss_scale = 1, .patience = 2},
                           .samples = 42,
                           .skipped = 1,
                           .val_loss = 3.5,
                           .validated_step = 6,
                           .best_val_loss = 3.25,
                           .worse = 2,
                           .dataset_count = 2,
                           .dataset_samples = {30, 12}}};
    ASSERT_OK(comm_open(&s->comm));
    config_defaults(&s->config);
    tiny_spec(&spec, TUNE_FROZEN, TUNE_FULL, TUNE_LORA);
    tiny_open(&s->tiny, &spec, DT_F32, 1);
    ASSERT_OK(optim_open(&s->optim, s->tiny.ex, s->tiny.model, &s->config.training));
    fixture_tokenizer(test_path("tokenizer.json"));
}

static void saved_close(Saved *s) {
    optim_close(&s->optim);
    tiny_close(&s->tiny);
    comm_close(&s->comm);
}

static Err save_in(Saved *s, const char *folder) {
    return checkpoint_save(s->comm, folder, &s->config, &s->lineage, test_path("tokenizer.json"),
                           &s->optim, &s->state, 3);
}

/* The one checkpoint of a test. */
static const char *saved_folder(void) {
    static char folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s/checkpoints/step-000000007", test_folder());
    return folder;
}

/* All ranks in one folder. */
static const char *shared_folder(Comm *comm) {
    static char folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s", comm_rank(comm) == 0 ? test_path("checkpoints") : "");
    ASSERT_OK(comm_broadcast(comm, folder, sizeof folder));
    return folder;
}

TEST_RANKS(ranks_whose_weights_differ_save_nothing, 2, 3) {
    Saved s;
    saved_open(&s);
    if (comm_size(s.comm) == 1) { /* run by hand */
        saved_close(&s);
        return;
    }
    const char *folder = shared_folder(s.comm);
    char found[PATH_SIZE];
    float first;
    exec_download(s.tiny.ex, &first, s.optim.master, sizeof first);
    float other = comm_rank(s.comm) == comm_size(s.comm) - 1 ? nextafterf(first, 9) : first;
    exec_upload(s.tiny.ex, s.optim.master, &other, sizeof other);
    ASSERT_ERR(save_in(&s, folder), ERR_COMM, "the run has diverged");
    ASSERT_OK(checkpoint_find(found, folder));
    ASSERT_TEXT(found, "");
    exec_upload(s.tiny.ex, s.optim.master, &first, sizeof first);
    ASSERT_OK(save_in(&s, folder));
    ASSERT_OK(checkpoint_find(found, folder));
    ASSERT_TEXT(path_name(found), "step-000000007");
    ASSERT_OK(comm_barrier(s.comm));
    saved_close(&s);
}

TEST(a_state_is_read_as_it_was_saved) {
    Saved s;
    saved_open(&s);
    ASSERT_OK(save_in(&s, test_path("checkpoints")));
    TrainState t;
    ASSERT_OK(train_state_read(&t, saved_folder()));
    ASSERT_INT(t.step, ==, 7);
    ASSERT_INT(t.micro_batches, ==, 2);
    ASSERT_INT(t.update.updates, ==, 6);
    ASSERT_REAL(t.update.loss_scale, ==, 1);
    ASSERT_INT(t.update.patience, ==, 2);
    ASSERT_INT(t.samples, ==, 42);
    ASSERT_INT(t.skipped, ==, 1);
    ASSERT_REAL(t.val_loss, ==, 3.5);
    ASSERT_INT(t.validated_step, ==, 6);
    ASSERT_REAL(t.best_val_loss, ==, 3.25);
    ASSERT_INT(t.worse, ==, 2);
    ASSERT_INT(t.dataset_count, ==, 2);
    ASSERT_INT(t.dataset_samples[0], ==, 30);
    ASSERT_INT(t.dataset_samples[1], ==, 12);
    saved_close(&s);
}

TEST(a_better_validation_gives_the_run_its_patience_back) {
    static const struct {
        double loss, best;
        int worse;
    } rows[] = {{5, 5, 0}, {6, 5, 1}, {5, 5, 2}, {4, 4, 0}, {4.5, 4, 1}, {NAN, 4, 2}, {3, 3, 0}};
    TrainState state = {.best_val_loss = NAN};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        patience_count(&state, rows[i].loss);
        ASSERT_REAL(state.best_val_loss, ==, rows[i].best);
        ASSERT_INT(state.worse, ==, rows[i].worse);
        ASSERT_INT(patience_is_over(&state, 2), ==, rows[i].worse == 2);
        ASSERT_TRUE(!patience_is_over(&state, 0));
    }
}

TEST(micro_batches_are_read_under_their_earlier_name_too) {
    Saved s;
    saved_open(&s);
    ASSERT_OK(save_in(&s, test_path("checkpoints")));
    char path[PATH_SIZE];
    Buf text = {0};
    TrainState t;
    ASSERT_OK(path_join(path, saved_folder(), "state.json"));
    ASSERT_OK(file_read(&text, path, 1 << 20));
    char *name = strstr(buf_cstr(&text), "\"micro_batches\"");
    ASSERT_TRUE(name);
    memcpy(name, "\"slots\"        ", sizeof "\"micro_batches\"" - 1);
    ASSERT_OK(file_write(path, text.data, text.size));
    ASSERT_OK(train_state_read(&t, saved_folder()));
    ASSERT_INT(t.micro_batches, ==, 2);
    buf_free(&text);
    saved_close(&s);
}

/* ---- what is believed ---- */

/* state.json with one member that is something else. */
static Err read_changed(const char *folder, const char *key, const char *value) {
    char path[PATH_SIZE], text[200];
    Json *root, *changed;
    TrainState state;
    snprintf(path, sizeof path, "%s/state.json", folder);
    ASSERT_OK(js_read(&root, path, 1 << 20));
    snprintf(text, sizeof text, "{\"value\": %s}", value);
    ASSERT_OK(js_parse(&changed, text, strlen(text), "value"));
    js_set(root, key, js_copy(js_get(changed, "value")));
    ASSERT_OK(file_make_directories(test_path("changed")));
    ASSERT_OK(js_write(test_path("changed/state.json"), root));
    js_free(&root);
    js_free(&changed);
    return train_state_read(&state, test_path("changed"));
}

TEST(numbers_that_no_run_can_have_are_refused) {
    static const struct {
        const char *key, *value;
    } wrong[] = {{"format_version", "99"},
                 {"format_version", "0"},
                 {"format_version", "null"},
                 {"step", "-1"},
                 {"step", "9007199254740993"},
                 {"step", "1.5"},
                 {"micro_batches", "-2"},
                 {"micro_batches", "0"},
                 {"micro_batches", "4294967298"},
                 {"updates", "-1"},
                 {"updates", "8"},
                 {"samples", "-42"},
                 {"skipped", "-1"},
                 {"skipped", "8"},
                 {"val_loss", "\"3\""},
                 {"validated_step", "8"},
                 {"validated_step", "-1"},
                 {"best_val_loss", "true"},
                 {"best_step", "-2"},
                 {"best_step", "8"},
                 {"worse_validations", "-1"},
                 {"loss_scale", "0"},
                 {"loss_scale", "-1"},
                 {"loss_scale", "1e300"},
                 {"loss_scale", "\"1\""},
                 {"loss_scale_good_steps", "-1"},
                 {"loss_scale_good_steps", "2147483647"},
                 {"loss_scale_patience", "-1"},
                 {"loss_scale_patience", "4294967296"},
                 {"dataset_samples", "[1, -2]"},
                 {"dataset_samples", "[1, \"2\"]"}};
    Saved s;
    saved_open(&s);
    ASSERT_OK(save_in(&s, test_path("checkpoints")));
    const char *folder = saved_folder();
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        Err err = read_changed(folder, wrong[i].key, wrong[i].value);
        ASSERT(err == ERR_INPUT, "%s: %s is believed", wrong[i].key, wrong[i].value);
        ASSERT_CONTAINS(err_message(), "changed/state.json");
        ASSERT(strstr(err_message(), wrong[i].key) || strstr(err_message(), "version"), "%s: %s",
               wrong[i].key, err_message());
    }
    ASSERT_OK(read_changed(folder, "val_loss", "null"));
    ASSERT_OK(read_changed(folder, "loss_scale", "32768"));
    saved_close(&s);
}

TEST(more_datasets_than_there_can_be_are_refused) {
    Saved s;
    saved_open(&s);
    ASSERT_OK(save_in(&s, test_path("checkpoints")));
    Buf list = {0};
    buf_text(&list, "[0");
    for (int i = 0; i < CONFIG_DATASETS; i++) buf_text(&list, ",0");
    buf_text(&list, "]");
    ASSERT_INT(list.size, <, 190);
    ASSERT_ERR(read_changed(saved_folder(), "dataset_samples", buf_cstr(&list)), ERR_INPUT,
               "65 numbers");
    buf_free(&list);
    saved_close(&s);
}

/* The manifest's list of files, as it is to be. */
static Err verify_with_files(const char *folder, const char *without, const char *extra) {
    char path[PATH_SIZE];
    Json *root, *kept = js_new_array(), *added;
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    ASSERT_OK(js_read(&root, path, 1 << 20));
    const Json *files = js_get(root, "files");
    for (size_t i = 0; i < js_count(files); i++) {
        const char *name = js_text(js_get(js_at(files, i), "name"), NULL);
        if (strcmp(without, "*") != 0 && strcmp(without, name) != 0)
            js_push(kept, js_copy(js_at(files, i)));
    }
    if (extra[0]) {
        ASSERT_OK(js_parse(&added, extra, strlen(extra), "extra"));
        js_push(kept, added);
    }
    Buf before = {0};
    ASSERT_OK(file_read(&before, path, 1 << 20));
    js_set(root, "files", kept);
    ASSERT_OK(js_write(path, root));
    js_free(&root);
    Err err = manifest_verify(folder);
    ASSERT_OK(file_write(path, before.data, before.size));
    buf_free(&before);
    return err;
}

TEST(a_manifest_names_every_file_that_will_be_read) {
    static const char *const files[] = {
        "config.yaml",         "trained.safetensors", "frozen.safetensors", "moment1.safetensors",
        "moment2.safetensors", "state.json",          "tokenizer.json",     "*"};
    Saved s;
    saved_open(&s);
    ASSERT_OK(save_in(&s, test_path("checkpoints")));
    const char *folder = saved_folder();
    ASSERT_OK(verify_with_files(folder, "", ""));
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        Err err = verify_with_files(folder, files[i], "");
        ASSERT(err == ERR_INPUT, "a manifest without %s passes", files[i]);
        ASSERT_CONTAINS(err_message(), "its manifest does not name");
        if (files[i][0] != '*') ASSERT_CONTAINS(err_message(), files[i]);
    }
    ASSERT_ERR(verify_with_files(folder, "", "{\"name\": \"../x\", \"bytes\": 1, \"hash\": \"0\"}"),
               ERR_INPUT, "../x");
    ASSERT_ERR(
        verify_with_files(folder, "", "{\"name\": \"gone\", \"bytes\": -1, \"hash\": \"0\"}"),
        ERR_INPUT, "gone");
    saved_close(&s);
}

/* ---- names ---- */

static void names_are(const char *folder, const char *expected) {
    FileNames names;
    Buf found = {0};
    ASSERT_OK(checkpoint_list(&names, folder));
    for (size_t i = 0; i < names.count; i++) buf_format(&found, "%s ", names.names[i]);
    ASSERT_TEXT(buf_cstr(&found), expected);
    file_names_free(&names);
    buf_free(&found);
}

TEST(names_of_checkpoints_are_numbers_and_come_in_their_order) {
    static const char *const names[] = {
        "step-1000000000", "step-999999999",  "step-000000002", "step-best",      "step-", "step-2",
        "step-00000000x",  "step-0000000003", "step--00000001", "step-000000002b"};
    char path[PATH_SIZE];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/checkpoints/%s", test_folder(), names[i]);
        ASSERT_OK(file_make_directories(path));
    }
    names_are(test_path("checkpoints"), "step-000000002 step-999999999 step-1000000000 ");
    names_are(test_path("nowhere"), "");
}

/* Renamed by hand, say: by its name it would be the newest for ever. */
TEST(a_checkpoint_of_another_step_than_its_name_is_passed_over) {
    Saved s;
    char found[PATH_SIZE];
    saved_open(&s);
    ASSERT_OK(save_in(&s, test_path("checkpoints")));
    ASSERT_OK(file_rename(test_path("checkpoints/step-000000007"),
                          test_path("checkpoints/step-000000009")));
    ASSERT_OK(checkpoint_find(found, test_path("checkpoints")));
    ASSERT_TEXT(found, "");
    saved_close(&s);
}

/* Of whoever made it: its checksum holds. */
TEST(a_mean_of_squares_below_zero_is_refused) {
    Saved s;
    saved_open(&s);
    float one = 1, below = -1e-3f;
    exec_upload(s.tiny.ex, s.optim.v + 5, &one, sizeof one);
    ASSERT_OK(save_in(&s, test_path("checkpoints")));
    ASSERT_OK(checkpoint_load(&s.optim, saved_folder()));
    exec_upload(s.tiny.ex, s.optim.v + 5, &below, sizeof below);
    ASSERT_OK(save_in(&s, test_path("checkpoints")));
    ASSERT_ERR(checkpoint_load(&s.optim, saved_folder()), ERR_INPUT,
               "is -0.001, where a mean of squares is expected");
    saved_close(&s);
}

/* The newest is damaged, the run went on from an earlier one: its next checkpoint is not older than
 * that, and not the one to delete. */
TEST(a_damaged_checkpoint_of_a_later_step_costs_none_that_is_sound) {
    Saved s;
    char found[PATH_SIZE];
    saved_open(&s);
    s.state.step = 20;
    ASSERT_OK(save_in(&s, test_path("checkpoints")));
    ASSERT_OK(file_write(test_path("checkpoints/step-000000020/state.json"), "{}", 2));
    for (s.state.step = 7; s.state.step <= 10; s.state.step++)
        ASSERT_OK(checkpoint_save(s.comm, test_path("checkpoints"), &s.config, &s.lineage,
                                  test_path("tokenizer.json"), &s.optim, &s.state, 1));
    names_are(test_path("checkpoints"), "step-000000010 step-000000020 ");
    ASSERT_OK(checkpoint_find(found, test_path("checkpoints")));
    ASSERT_TEXT(path_name(found), "step-000000010");
    saved_close(&s);
}

/* ---- base.json ---- */

static Err read_origin(const char *name, bool on_hub, const char *weights) {
    Lineage lineage;
    Json *root = js_new_object();
    js_set_text(root, "name", name);
    js_set_bool(root, "on_hub", on_hub);
    js_set_text(root, "folder", "/models/base");
    js_set_text(root, "weights", weights);
    js_set_text(root, "adapter", "");
    js_set_bool(root, "changed", false);
    ASSERT_OK(js_write(test_path("base.json"), root));
    js_free(&root);
    return lineage_read(&lineage, test_folder());
}

TEST(a_base_has_the_name_of_a_base) {
    Buf longest = {0};
    for (int i = 0; i < CONFIG_TEXT; i++) buf_text(&longest, "x");
    ASSERT_OK(read_origin("Yuan-Che/OpenECADv2-SigLIP-0.89B", true, "0123456789abcdef"));
    ASSERT_OK(read_origin("../models/a base", false, ""));
    ASSERT_ERR(read_origin("x\", \"y", true, ""), ERR_INPUT, "no model's id");
    ASSERT_ERR(read_origin("../up", true, ""), ERR_INPUT, "no model's id");
    ASSERT_ERR(read_origin("datasets/a/b", true, ""), ERR_INPUT, "no model's id");
    ASSERT_ERR(read_origin("a\nlicense: mit", false, ""), ERR_INPUT, "control character");
    ASSERT_ERR(read_origin("a", false, "0123"), ERR_INPUT, "16 hexadecimal digits");
    ASSERT_ERR(read_origin("a", false, "0123456789abcdefg"), ERR_INPUT, "16 hexadecimal digits");
    ASSERT_ERR(read_origin(buf_cstr(&longest), false, ""), ERR_INPUT, "longer than 1023 bytes");
    buf_free(&longest);
}

/* A base may be what no config may say; then nobody could read the checkpoints. */
TEST(a_config_that_could_not_be_read_again_is_refused_before_the_run) {
    Config *config = malloc(sizeof *config);
    config_defaults(config);
    strcpy(config->base_model, "a/base"); /* no contradiction: it is not in the checkpoint */
    strcpy(config->model.system_prompt, "Several\nlines, \"quoted\": # ~");
    ASSERT_OK(checkpoint_check_config(config));
    config->model.llm.norm_eps = 5;
    ASSERT_ERR(checkpoint_check_config(config), ERR_CONFIG, "config.yaml of a checkpoint: 1 mis");
    config_defaults(config);
    strcpy(config->model.system_prompt, "a\033[2J");
    ASSERT_ERR(checkpoint_check_config(config), ERR_CONFIG, "1 mistake");
    config_defaults(config);
    config->dataset_count = CONFIG_DATASETS; /* each is taken, all of them are too long a file */
    for (int i = 0; i < CONFIG_DATASETS; i++) {
        config->datasets[i].weight = 1;
        snprintf(config->datasets[i].name, sizeof config->datasets[i].name, "%d", i);
        memset(config->datasets[i].path, 'p', CONFIG_TEXT - 1);
    }
    ASSERT_ERR(checkpoint_check_config(config), ERR_CONFIG, "1 mistake");
    for (int i = 0; i < CONFIG_DATASETS; i++) config->datasets[i].path[100] = 0;
    ASSERT_OK(checkpoint_check_config(config));
    free(config);
}

TEST(a_base_whose_place_cannot_be_kept_is_refused_before_the_run) {
    Lineage lineage = {.name = "base", .folder = "/models/caf\xc3\xa9"}, again;
    ASSERT_OK(lineage_check(&lineage));
    ASSERT_OK(lineage_write(&lineage, test_folder()));
    ASSERT_OK(lineage_read(&again, test_folder()));
    ASSERT_TEXT(again.folder, lineage.folder);
    strcpy(lineage.folder, "/models/caf\xe9");
    ASSERT_ERR(lineage_check(&lineage), ERR_CONFIG, "the base lies in /models/caf\\xe9");
    strcpy(lineage.folder, "/models/a\nb");
    ASSERT_ERR(lineage_check(&lineage), ERR_CONFIG, "the base lies in /models/a\\nb");
    strcpy(lineage.folder, "/models");
    strcpy(lineage.adapter, "/adapters/a\xc2\x9b");
    ASSERT_ERR(lineage_check(&lineage), ERR_CONFIG, "the base lies in /adapters/a\\u009b");
}

/* Reading a base of billions of weights takes minutes. */
TEST(a_signal_ends_the_reading_of_weights) {
    static Config config;
    Base base;
    ModelSpec spec;
    Exec *ex;
    Model *model;
    char folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s/tests/golden/models/openecad_0.55b", test_source_folder());
    config_defaults(&config);
    ASSERT_OK(base_find(&base, folder));
    ASSERT_OK(base_describe(&base, &config));
    model_spec_from_config(&spec, &config, (int)config.model.llm.vocab);
    ASSERT_OK(exec_open(&ex, EXEC_CPU, 1));
    ASSERT_OK(model_open(&model, ex, &spec, DT_F32));
    ASSERT_OK(base_fill(model, &base));
    signals_catch();
    ASSERT_INT(raise(SIGUSR1), ==, 0);
    ASSERT_ERR(base_fill(model, &base), ERR_STOPPED, "stopped by a signal while weights were read");
    err_clear();
    signals_release();
    model_close(&model);
    exec_close(&ex);
}
