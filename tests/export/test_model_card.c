/* model_card: the README.md beside weights that are passed on. */
#include <string.h>

#include "export/model_card.h"
#include "tests/support/test.h"

static const ModelCardLine DATA[] = {{"cad|parts", "CC BY 4.0"}, {"own", NULL}},
                           RECIPE[] = {{"r", "4"}}, FIGURES[] = {{"loss", "0.5"}};
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
    model_card_print(&adapter, &CARD, MODEL_CARD_ADAPTER);
    model_card_print(&merged, &CARD, MODEL_CARD_MERGED);
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
    model_card_print(&merged, &local, MODEL_CARD_MERGED);
    ASSERT_TRUE(!strstr(buf_cstr(&merged), "base_model:"));
    ASSERT_TRUE(!strstr(buf_cstr(&merged), "AutoModelForCausalLM"));
    buf_free(&adapter);
    buf_free(&merged);
}

/* Names come from files of others: none of them may become code, front matter or a heading. */
TEST(names_in_a_card_are_text) {
    static const char hostile[] = "x\", trust=1)\nimport os\\ # ```\n---\n# <b>[a](b)|";
    static const ModelCardLine data[] = {{hostile, hostile}}, recipe[] = {{hostile, hostile}};
    ModelCard card = {.base_model = hostile,
                      .base_on_hub = true,
                      .llm_name = hostile,
                      .vision_name = hostile,
                      .data = data,
                      .data_count = 1,
                      .recipe = recipe,
                      .recipe_count = 1};
    Buf text = {0};
    model_card_print(&text, &card, MODEL_CARD_ADAPTER);
    const char *said = buf_cstr(&text);
    ASSERT_TRUE(!strstr(said, "\nimport os")); /* of Python's two imports none is this */
    ASSERT_TRUE(!strstr(said, "\n# <b>"));
    ASSERT_CONTAINS(said, "\nbase_model: \"x\\\", trust=1)\\x0aimport os\\\\ # ```\\x0a---\\x0a# "
                          "<b>[a](b)|\"\n");
    ASSERT_CONTAINS(said, "from_pretrained(\"x\\\", trust=1)\\x0aimport os\\\\ # ```\\x0a---");
    ASSERT_CONTAINS(said,
                    "Fine-tuned from ```` x\", trust=1) import os\\ # ``` --- # <b>[a](b)| ````");
    ASSERT_CONTAINS(said, "| x\", trust=1) import os\\\\ # \\`\\`\\` --- # "
                          "\\<b\\>\\[a\\](b)\\| | ");
    int marks = 0;
    for (const char *at = said; (at = strstr(at, "\n---\n")); at++) marks++;
    ASSERT_INT(marks, ==, 1); /* the end of the front matter */
    buf_free(&text);
}
