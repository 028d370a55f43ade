/* The templates' words, and the code fence. */
#include "data/template.h"

#include <string.h>

#include "core/text.h"
#include "data/tokenizer/byte_level.h"

static const char *const names[TEMPLATE_COUNT] = {"plain", "llama", "gemma", "phi"};

const char *template_name(Template template) {
    CHECK(template <TEMPLATE_COUNT, "template %d", (int)template);
    return names[template];
}

Err template_parse(Template *out, const char *name) {
    for (int i = 0; i < TEMPLATE_COUNT; i++)
        if (!strcmp(name, names[i])) {
            *out = (Template)i;
            return OK;
        }
    const char *near = text_nearest(name, names, TEMPLATE_COUNT);
    FAIL(ERR_CONFIG, "the template \"%.40s\" is not known (%s%s%splain, llama, gemma and phi are)",
         name, near ? "did you mean " : "", near ? near : "", near ? "? " : "");
}

const char *template_end_token(Template template) {
    static const char *const tokens[TEMPLATE_COUNT] = {NULL, "</s>", "<eos>", "<|endoftext|>"};
    CHECK(template <TEMPLATE_COUNT, "template %d", (int)template);
    return tokens[template];
}

const char template_system_openecad[] =
    "A conversation between a curious user and an artificial intelligence assistant. The user "
    "wants "
    "to create a 3D CAD project but only has a picture of the desired 3D geometry. The assistant, "
    "an "
    "expert mechanical part designer, provides detailed answers to the user's questions. The CAD "
    "project should be represented using OpenECAD style code in Python 3. Additionally, note that "
    "Curve (including Arc, Line, Circle) and Loop will automatically append to the Curves and "
    "Loops "
    "lists, respectively.";

const char template_system_tinyllava[] =
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions.";

const char template_question[] =
    "This image is a view of a 3D model from a certain angle. Please try to use OpenECAD-style API "
    "to render this model.";

const char template_answer_start[] = "Of course, here are the codes:\n```python\n";
const char template_answer_end[] = "```";

static const char fence_start[] = "```python", fence_end[] = "```", picture_mark[] = "<image>";

/* Where `part` is in the text, or NULL. */
static const char *find(const char *text, size_t size, const char *part) {
    return size ? memmem(text, size, part, strlen(part)) : NULL;
}

void template_answer(Buf *out, const char *code, size_t size) {
    bool fenced = find(code, size, fence_start);
    if (!fenced) buf_text(out, template_answer_start);
    buf_append(out, code, size);
    if (!fenced) buf_text(out, template_answer_end);
}

void template_extract_code(const char *text, size_t size, const char **code, size_t *code_size) {
    const char *end = text + size, *start = find(text, size, fence_start);
    *code = text;
    *code_size = size;
    if (!start) return;
    start += strlen(fence_start);
    if (start < end && *start == '\n') start++; /* it belongs to the fence */
    const char *stop = find(start, (size_t)(end - start), fence_end);
    *code = start;
    *code_size = (size_t)((stop ? stop : end) - start);
}

void template_question_of(Buf *out, const char *prompt, size_t size, bool picture) {
    size_t first = out->size;
    const char *end = prompt + size, *mark;
    bool marked = false;
    while ((mark = find(prompt, (size_t)(end - prompt), picture_mark))) {
        buf_append(out, prompt, (size_t)(mark - prompt));
        prompt = mark + strlen(picture_mark);
        marked = true;
    }
    buf_append(out, prompt, (size_t)(end - prompt));
    if (!marked && !picture) return;
    const char *text = buf_cstr(out) + first;
    size_t length = out->size - first;
    utf8_strip_front(&text, &length);
    utf8_strip_end(text, &length);
    if (length) memmove(out->data + first, text, length);
    out->size = first + length;
}
