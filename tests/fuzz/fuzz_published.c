/* A published model's config.json: what was understood, written, is understood again. */
#include "core/json.h"
#include "model/files/published.h"
#include "tests/fuzz/fuzz.h"

void fuzz_one(const uint8_t *data, size_t size) {
    static Config config;
    static const char *const files[] = {"config.json", NULL};
    FuzzInput input = {data, data + size};
    Published published, again;
    fuzz_folder(&input, files);
    if (published_read(&published, test_folder()) != OK) return;
    config_defaults(&config);
    published_into_config(&config, &published);
    if (published_write_config(&published, DT_BF16, test_folder()) == OK)
        ASSERT_OK(published_read(&again, test_folder()));
}

static void seed(const Json *config) {
    Buf text = {0};
    js_print(&text, config, JSON_ONE_LINE, 17);
    fuzz_seed(buf_cstr(&text), text.size);
    buf_free(&text);
}

void fuzz_seeds(void) {
    static const char *const models[] = {"openecad_0.55b", "openecad_0.89b", "openecad_2.4b",
                                         "openecad_3.1b", "tinyllama"};
    char path[512];
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        Json *root;
        snprintf(path, sizeof path, "%s/tests/golden/models/%s/config.json", test_source_folder(),
                 models[i]);
        ASSERT_OK(js_read(&root, path, 1 << 20));
        seed(root);
        js_free(&root);
    }
    fuzz_seed_text("{\"text_config\": {\"rope_parameters\": {\"rope_theta\": 1e6, \"rope_type\": "
                   "\"default\"}}}");
}
