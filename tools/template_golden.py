#!/usr/bin/env python3
"""Makes tests/golden/template.json: conversations as TinyLLaVA's templates turn them into ids and labels.

    VENV/bin/python tools/template_golden.py

VENV is the reference environment (transformers 4.39.3). Written after the description of those templates
(docs/formats.md), with the small tokenizers of tools/openecad_tokenizer_golden.py. A row says the template, the
question and the answer as texts, whether there is a picture, the ids (-200: the picture), the place of the first label
(all behind it are labels too), and `blank` where TinyLLaVA learns nothing of the sample ("tokenization mismatch") or
`pictures` where it sees another number of pictures than the sample has: there our rows differ and the test checks
what they are instead. Many ids are their number and FNV-1a hash."""

import json
import pathlib
import sys

from transformers import CodeGenTokenizer, GemmaTokenizer, LlamaTokenizer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from openecad_tokenizer_golden import FOLDER, fnv  # noqa: E402

OUT = FOLDER.parent.parent / "template.json"
IGNORE, PICTURE, LONG = -100, -200, 70
END = {"llama": "</s>", "gemma": "<eos>", "phi": "<|endoftext|>"}
SYSTEM = (
    "A conversation between a curious user and an artificial intelligence assistant. The user wants to create a 3D CAD project but only has a"
    " picture of the desired 3D geometry. The assistant, an expert mechanical part designer, provides detailed answers to the user's questions."
    " The CAD project should be represented using OpenECAD style code in Python 3. Additionally, note that Curve (including Arc, Line, Circle)"
    " and Loop will automatically append to the Curves and Loops lists, respectively."
)
CHAT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the"
    " user's questions."
)
QUESTION = "This image is a view of a 3D model from a certain angle. Please try to use OpenECAD-style API to render this model."
CODE = "SketchPlane0 = add_sketchplane(\n\torigin= [0., 0., 0.], normal= [ 0.,  0., -1.], x_axis= [1., 0., 0.])\nLoops0 = []\n"
ANSWERS = [
    "Of course, here are the codes:\n```python\n" + CODE + "```", "Yes", "```python\n" + CODE + "```", "\nLoops0 = []", "\n\nx", " x", "  x", "    x = 1", "\tx", "\t\tx",
    "5", "12.5 mm", "-3", "'s", "...", "\u00e9tude", "\u65e5\u672c", "\U0001f44d\U0001f3fd", "\u0301x", "\u00a0x", "", " ", "\n", "\t", "x ", "x\n\n", "a:b ASSISTANTS:", "USER: x",
]
HOSTILE = ["a <image> b", "<image>", "a</s>b", "a<eos>b", "a<|endoftext|>b", "</s>", "a ASSISTANT: b", " ASSISTANT: ", "<s>x", "<bos><pad>x", "x<unk>"]
QUESTIONS = [
    ("<image>\n" + QUESTION, True), (QUESTION + "\n<image>", True), ("What <image> is it?", True), ("<image>", True), ("<image>\n  two  spaces \t\n", True), ("<image><image>x", True),
    ("\u3000<image>wide\u2003", True), ("Draw a box.", False), (" a \n", False), ("x", False),
]
HOSTILE_QUESTIONS = [("<image>\n<ima<image>ge>", True), ("<image>\nx ASSISTANT: y", True), ("<image>\nx</s>y<eos>z<|endoftext|>", True)]


# ---- the templates ----


def conversation(system, question, answer, end):
    if "<image>" in question:
        question = ("<image>\n" + question.replace("<image>", "").strip()).strip()
    return f"{system} USER: {question} ASSISTANT: {answer}{end}"


def encode(prompt, tokenizer):
    """A call for every part between pictures; <bos> stays at the front only."""
    parts = [tokenizer(part).input_ids for part in prompt.split("<image>")]
    bos = len(parts[0]) > 0 and parts[0][0] == tokenizer.bos_token_id
    ids = parts[0][:1] if bos else []
    for number, part in enumerate(parts):
        ids += ([PICTURE] if number else []) + part[1 if bos else 0 :]
    return ids


def labels_of(ids, prompt, tokenizer, template):
    """The arithmetic of lengths, and nothing learned where it does not come out."""
    end, bos = END[template], 0 if template == "phi" else 1
    total = sum(i != tokenizer.pad_token_id for i in ids)
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        total += prompt.count(end)
    labels = list(ids)
    at = bos
    labels[:at] = [IGNORE] * at
    for number, part in enumerate(prompt.split(end)):
        pieces = part.split(" ASSISTANT: ")
        if part == "" or len(pieces) != 2:
            break
        length = len(encode(part, tokenizer)) + 1 - bos
        asked = len(encode(pieces[0] + " ASSISTANT: ", tokenizer)) - 1 - bos
        if template == "llama" and number and not tokenizer.legacy:
            length, asked = length - 1, asked - 1
        labels[at : at + asked] = [IGNORE] * asked
        at += length
    labels[at:] = [IGNORE] * (len(labels) - at)
    if at < tokenizer.model_max_length and at != total:
        labels = [IGNORE] * len(labels)
    return labels


# ---- rows ----


def row(template, tokenizer, system, question, answer, picture, hostile):
    prompt = conversation(system, question, answer, END[template])
    ids = encode(prompt, tokenizer)
    labels = labels_of(ids, prompt, tokenizer, template)
    out = {"template": template, "question": question, "answer": answer, "picture": picture}
    if system != SYSTEM:
        out["system"] = system
    pictures = ids.count(PICTURE)
    first = next((i for i, label in enumerate(labels) if label != IGNORE), None)
    if pictures != int(picture):
        assert hostile
        out["pictures"] = pictures
    elif first is None:
        assert hostile, (template, question, answer)
        out["blank"] = True
    else:
        assert labels == [IGNORE] * first + ids[first:]
        special = any(s in question + answer for s in tokenizer.all_special_tokens)
        if special:
            assert hostile
            out["special"] = True
        out["first"] = first
        signed = [i & 0xFFFFFFFF for i in ids]
        out["ids"] = ids if len(ids) <= LONG else [len(ids), fnv(signed)]
    return out


def main():
    tokenizers = {
        "llama": LlamaTokenizer.from_pretrained(str(FOLDER / "llama")),
        "gemma": GemmaTokenizer.from_pretrained(str(FOLDER / "gemma")),
        "phi": CodeGenTokenizer.from_pretrained(str(FOLDER / "codegen")),
    }
    rows = []
    for template, tokenizer in tokenizers.items():
        question = QUESTIONS[0][0]
        rows += [row(template, tokenizer, SYSTEM, question, a, True, False) for a in ANSWERS[:4]]
        rows += [row(template, tokenizer, "S", "<image>\nDraw it.", a, True, False) for a in ANSWERS]
        rows += [row(template, tokenizer, CHAT, q, ANSWERS[0], p, False) for q, p in QUESTIONS]
        rows += [row(template, tokenizer, "S", "<image>\nDraw it.", a, True, True) for a in HOSTILE]
        rows += [row(template, tokenizer, "S", q, "x", p, True) for q, p in HOSTILE_QUESTIONS]
    with open(OUT, "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(r, ensure_ascii=True, separators=(",", ":")) for r in rows) + "\n]\n")
    print(f"{len(rows)} conversations, {sum('blank' in r for r in rows)} blank, {sum('pictures' in r for r in rows)} with other pictures, "
          f"{sum('special' in r for r in rows)} with special tokens in their text")


if __name__ == "__main__":
    main()
