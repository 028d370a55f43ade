/* The README.md beside weights; see the header. */
#include "export/model_card.h"

#include <ctype.h>
#include <string.h>

/* ---- licences of known parts ---- */

typedef struct Licence {
    const char *component; /* is in the part's name */
    const char *id;        /* as the hub calls it */
    const char *text;
} Licence;

static const Licence LICENCES[] = {
    {"OpenELM", "other", "Apple's licence for OpenELM"},
    {"gemma", "gemma", "Gemma Terms of Use"},
    {"phi-2", "mit", "MIT"},
    {"TinyLlama", "apache-2.0", "Apache-2.0"},
    {"siglip", "apache-2.0", "Apache-2.0"},
    {"clip-vit", "mit", "MIT (openai/CLIP)"},
};

static const Licence *licence_of(const char *component) {
    for (size_t i = 0; component && i < sizeof LICENCES / sizeof LICENCES[0]; i++)
        if (strstr(component, LICENCES[i].component)) return &LICENCES[i];
    return NULL;
}

/* ---- text from elsewhere ---- */

/* In quotes, as Python and YAML both read it. */
static void print_quoted(Buf *out, const char *text) {
    buf_text(out, "\"");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < ' ' || c == 0x7f)
            buf_format(out, "\\x%02x", c);
        else
            buf_format(out, c == '"' || c == '\\' ? "\\%c" : "%c", c);
    }
    buf_text(out, "\"");
}

/* On one line, and nothing in it begins a link, a tag, code or a column. */
static void print_plain(Buf *out, const char *text) {
    for (; text && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (strchr("\\`[]<>|", c)) buf_text(out, "\\");
        buf_append(out, c < ' ' || c == 0x7f ? " " : text, 1);
    }
}

/* As code, between more backticks than it has in a row. */
static void print_code(Buf *out, const char *text) {
    size_t most = 0;
    for (const char *at = text; *at; at++) {
        size_t row = strspn(at, "`");
        if (row > most) most = row;
    }
    for (size_t i = 0; i <= most; i++) buf_text(out, "`");
    if (most) buf_text(out, " ");
    for (; *text; text++)
        buf_append(out, (unsigned char)*text < ' ' || *text == 0x7f ? " " : text, 1);
    if (most) buf_text(out, " ");
    for (size_t i = 0; i <= most; i++) buf_text(out, "`");
}

/* ---- front matter, which the hub reads ---- */

/* What the language model's licence allows bounds what the whole does. */
static const char *hub_licence(const ModelCard *card) {
    const Licence *licence = licence_of(card->llm_name);
    return licence ? licence->id : "other";
}

/* As the hub writes its own ids where it is one. */
static void print_base(Buf *out, const char *base) {
    static const char id[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";
    buf_text(out, "base_model: ");
    if (isalnum((unsigned char)base[0]) && !base[strspn(base, id)])
        buf_text(out, base);
    else
        print_quoted(out, base);
    buf_text(out, "\n");
}

static void print_front(Buf *out, const ModelCard *card, ModelCardKind kind) {
    buf_text(out, "---\n");
    if (card->base_on_hub) print_base(out, card->base_model);
    buf_format(out, "library_name: %s\n", kind == MODEL_CARD_ADAPTER ? "peft" : "transformers");
    buf_format(out, "license: %s\n", hub_licence(card));
    buf_text(out, "pipeline_tag: image-to-text\ntags:\n- cad\n- openecad\n- tinyllava\n");
    if (kind == MODEL_CARD_ADAPTER) buf_text(out, "- lora\n");
    buf_text(out, "---\n\n");
}

/* ---- text ---- */

static void print_table(Buf *out, const char *title, const char *head, const ModelCardLine *lines,
                        int count, const char *otherwise) {
    if (!count) return;
    buf_format(out, "## %s\n\n%s\n| --- | --- |\n", title, head);
    for (int i = 0; i < count; i++) {
        buf_text(out, "| ");
        print_plain(out, lines[i].name);
        buf_text(out, " | ");
        print_plain(out, lines[i].value ? lines[i].value : otherwise);
        buf_text(out, " |\n");
    }
    buf_text(out, "\n");
}

static void print_part(Buf *out, const char *role, const char *component) {
    const Licence *licence = licence_of(component);
    if (!component || !component[0]) return;
    buf_format(out, "- %s ", role);
    print_code(out, component);
    buf_format(out, ": %s\n", licence ? licence->text : "licence not known");
}

static void print_licences(Buf *out, const ModelCard *card) {
    buf_text(out, "## Licences\n\n");
    print_part(out, "language model", card->llm_name);
    print_part(out, "vision tower", card->vision_name);
    for (int i = 0; i < card->data_count; i++) {
        buf_text(out, "- data ");
        print_code(out, card->data[i].name);
        buf_text(out, ": ");
        print_plain(out, card->data[i].value ? card->data[i].value : "licence not stated");
        buf_text(out, "\n");
    }
    buf_text(out, "\nAs their publishers state them; check them before passing this on.\n\n");
}

static void print_adapter_use(Buf *out, const char *base) {
    buf_text(out, "```python\n"
                  "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
                  "base = AutoModelForCausalLM.from_pretrained(");
    print_quoted(out, base);
    buf_text(out, ", trust_remote_code=True)\n"
                  "model = PeftModel.from_pretrained(base, \"this folder\")\n```\n");
}

static void print_use(Buf *out, const ModelCard *card, ModelCardKind kind) {
    buf_text(out, "## Use\n\n    cadvlm generate -c THIS_FOLDER drawing.png -o out\n\n");
    if (kind == MODEL_CARD_ADAPTER)
        print_adapter_use(out, card->base_model ? card->base_model : "the base model");
    else if (card->has_code)
        buf_text(out, "```python\nfrom transformers import AutoModelForCausalLM\n\n"
                      "model = AutoModelForCausalLM.from_pretrained(\"this folder\", "
                      "trust_remote_code=True)\n```\n");
    else
        buf_text(out, "Its config.json names no code, so that transformers alone does not load it: "
                      "TinyLLaVA's model classes do.\n");
}

void model_card_print(Buf *out, const ModelCard *card, ModelCardKind kind) {
    print_front(out, card, kind);
    buf_format(out, "# %s\n\n",
               kind == MODEL_CARD_ADAPTER ? "LoRA adapter for CAD code from drawings"
                                          : "CAD code from drawings");
    buf_text(out, "Reads a picture of a part and writes the OpenECAD code that builds it.");
    if (card->base_model && card->base_model[0]) {
        buf_text(out, " Fine-tuned from ");
        print_code(out, card->base_model);
        buf_format(out, "%s%s.", card->program ? " with " : "", card->program ? card->program : "");
    }
    buf_text(out, "\n\n");
    print_table(out, "Training data", "| dataset | licence |", card->data, card->data_count,
                "not stated");
    print_table(out, "Recipe", "| setting | value |", card->recipe, card->recipe_count, "");
    print_table(out, "Figures", "| measure | value |", card->figures, card->figure_count, "");
    print_licences(out, card);
    print_use(out, card, kind);
}
