/* card: the README.md beside weights that are passed on. */
#include <string.h>

#include "tests/test.h"
#include "trainer/card.h"

static const CardLine DATA[] = {{"cad|parts", "CC BY 4.0"}, {"own", NULL}}, RECIPE[] = {{"r", "4"}},
                      FIGURES[] = {{"loss", "0.5"}};
static const ModelCard CARD = {.base_model = "Yuan-Che/OpenECADv2-SigLIP-0.89B",
                               .base_on_hub = true,
                               .has_code = true,
                               .llm_name = "google/gemma-2b-it",
                               .vision_name = "google/siglip-so400m-patch14-384",
                               .data = DATA,
                               .data_count = 2,
                               .recipe = RECIPE,
                               .recipe_count = 1,
                               .figures = FIGURES,
                               .figure_count = 1,
                               .program = "cadvlm 1"};

TEST(the_card_has_what_the_hub_reads_and_the_licences) {
    Buf adapter = {0}, merged = {0};
    card_print(&adapter, &CARD, CARD_ADAPTER);
    card_print(&merged, &CARD, CARD_MERGED);
    const char *text = buf_cstr(&adapter);
    ASSERT_INT(strncmp(text,
                       "---\nbase_model: Yuan-Che/OpenECADv2-SigLIP-0.89B\n"
                       "library_name: peft\nlicense: gemma\n",
                       strlen("---\nbase_model: Yuan-Che/OpenECADv2-SigLIP-0.89B\n"
                              "library_name: peft\nlicense: gemma\n")),
               ==, 0);
    ASSERT_CONTAINS(text, "- lora\n");
    ASSERT_CONTAINS(text, "| cad\\|parts | CC BY 4.0 |");
    ASSERT_CONTAINS(text, "| own | not stated |");
    ASSERT_CONTAINS(text, "| loss | 0.5 |");
    ASSERT_CONTAINS(text, "`google/siglip-so400m-patch14-384`: Apache-2.0");
    ASSERT_CONTAINS(buf_cstr(&merged), "library_name: transformers\n");
    ASSERT_CONTAINS(buf_cstr(&merged), "AutoModelForCausalLM");
    ASSERT_TRUE(!strstr(buf_cstr(&merged), "- lora\n"));
    buf_clear(&merged);
    ModelCard local = CARD;
    local.base_model = "models/base"; /* a folder, whatever it looks like */
    local.base_on_hub = local.has_code = false;
    card_print(&merged, &local, CARD_MERGED);
    ASSERT_TRUE(!strstr(buf_cstr(&merged), "base_model:"));
    ASSERT_TRUE(!strstr(buf_cstr(&merged), "AutoModelForCausalLM"));
    buf_free(&adapter);
    buf_free(&merged);
}
