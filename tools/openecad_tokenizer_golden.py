#!/usr/bin/env python3
"""Compares the tokenizers of the OpenECAD models with transformers 4.39.3 and makes the golden files of the tests.

    VENV/bin/python tools/openecad_tokenizer_golden.py small           # rewrites tests/golden/tokenizer/openecad/
    VENV/bin/python tools/openecad_tokenizer_golden.py large N FOLDER  # larger models and N texts of each kind, by hand:
    CADVLM_OPENECAD_TOKENIZERS=FOLDER build/cpu/tests/test_tokenizer_openecad ids_are_those_of_transformers

VENV is the reference environment (transformers 4.39.3, tokenizers 0.15.1, sentencepiece 0.1.99). The published
tokenizer.model files may not be passed on, so models are trained here with the options of the published ones, on text
made here. A folder per tokenizer, in the published layout, and rows.json: each text with its ids by each tokenizer,
or the number of its ids and their FNV-1a hash where they are many. Special tokens in a text are special, as
transformers has it, but text in "…_text" (split_special_tokens); ids stand without what is put around a text."""

import json
import pathlib
import random
import shutil
import sys
import sysconfig
import tempfile

import sentencepiece
from tokenizers import ByteLevelBPETokenizer
from transformers import CodeGenTokenizer, GemmaTokenizer, LlamaTokenizer
from transformers.convert_slow_tokenizer import GemmaConvert, LlamaConverter

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from tokenizer_golden import ODD, cad_code, odd, prose  # noqa: E402

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "tokenizer" / "openecad"
LONG = 90  # more ids are hashed

SPECIAL = [
    "<s>", "</s>", "a</s>", "</s>a", "a </s> b", " </s>", "a<s>b</s>c", "<unk>", "x<unk>y", "<s></s><s>", "</s> </s>", "</s", "<</s>>",
    "<eos>", "a<eos> b", "<bos>code<eos>", "<pad><pad>", "<start_of_turn>user\nhi<end_of_turn>\n", "<unused1>x", "<|endoftext|>", "a<|endoftext|>b ",
    "<|endoftext", "<0x0A>", "<0x0a> <0xFF>", "\u2581", "\u2581\u2581a", "a\u2581b \u2581 c", " \u2581", "<unk>\u2581a", "> a", "<unk> a",
]
ADDED = [
    "a<sep>b", "a <sep> b", "<sep>", " <sep>", "<sep><sep2><sep2", "a <L> b", "  <L>  b", "<L>", " <L>", "a <R> b", "<R>  b", "<R>", "a <sys> b", "<sys> x", " <sys> ",
    "a<new>b", "x <pad>", "a  b   c", "<R>  <L>", "<R>   <sep>", "<L>  <R>  add_line", "add_lines = add_line(x)", "\u3000<L>\u2003<R>\u00a0x", "<sys></s>", "</s><sys>",
]
SPACES = [
    "  ", "   ", "a  b", "a   b", " " * 30, " " * 31, " " * 32, " " * 33, "x" + " " * 70 + "y", "\t\t", "\t" * 9, "\t" * 10, "\t" * 19, " \t  \t\t x",
    "\n\n", "\n\n\nx\n\n", "a\n    b\n\t\tc\n        d", "  \n  \n", "\r\n\r\n", "[ 0.,  1., -0.]", ",   2.", " a", "a ", "\na", "a\n",
]
ANSWER = "USER: <image>\nThis image is a view of a 3D model. ASSISTANT: Of course, here are the codes:\n```python\n"


def library(count):
    """Code and prose at hand: modules of Python's own library, in pieces."""
    texts = []
    for path in sorted(pathlib.Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="ignore")
        texts += [text[i : i + 2000] for i in range(0, len(text), 2000)]
    return random.Random("library").sample(texts, min(count, len(texts)))


def corpus(count, seed):
    rng = random.Random(seed)
    texts = library(count) if count > 1000 else []
    for _ in range(count):
        texts += [cad_code(rng), prose(rng), ANSWER]
        if rng.random() < 0.3:
            texts.append(odd(rng).replace("\0", ""))
    return texts


# ---- models ----


def train_spm(folder, count, **options):
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        body = pathlib.Path(temporary) / "body.txt"
        body.write_text("\n".join(corpus(count, "spm")), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(body), model_prefix=str(pathlib.Path(temporary) / "m"), model_type="bpe", normalization_rule_name="identity",
            byte_fallback=True, split_digits=True, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
            character_coverage=0.998, num_threads=1, minloglevel=2, **options)
        shutil.copy(pathlib.Path(temporary) / "m.model", folder / "tokenizer.model")


def token(content, special=True, normalized=False):
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False, "special": special}


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def make_llama(root, vocab, count):
    """Llama-2's options; its tokenizer_config.json as the 0.89B model has it."""
    folder = root / "llama"
    train_spm(folder, count, vocab_size=vocab)
    write_json(folder / "tokenizer_config.json", {
        "add_bos_token": True, "add_eos_token": False, "add_prefix_space": True,
        "added_tokens_decoder": {"0": token("<unk>"), "1": token("<s>"), "2": token("</s>")},
        "bos_token": "<s>", "clean_up_tokenization_spaces": False, "eos_token": "</s>", "legacy": False, "model_max_length": 2048,
        "pad_token": "<unk>", "padding_side": "right", "sp_model_kwargs": {}, "spaces_between_special_tokens": False,
        "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>", "use_default_system_prompt": False})


def make_llama_added(root):
    """The same model with added tokens of every kind. The folder has no tokenizer.model of its own in the tree."""
    folder = root / "llama_added"
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((root / "llama" / "tokenizer_config.json").read_text(encoding="utf-8"))
    model = sentencepiece.SentencePieceProcessor(model_file=str(root / "llama" / "tokenizer.model"))
    size = model.get_piece_size()
    added = [token("<sep>", False), token("<sep2>", False), token("<L>", False), token("<R>", False), token("<sys>", True), token("  ", False), token("add_line", False)]
    added[2]["lstrip"] = added[3]["rstrip"] = added[4]["lstrip"] = added[4]["rstrip"] = True
    for number, entry in enumerate(added):
        config["added_tokens_decoder"][str(size + number)] = entry
    joined = next(i for i in range(259, size) if len(model.id_to_piece(i)) > 3 and model.id_to_piece(i)[0] == "\u2581")
    config["added_tokens_decoder"][str(joined)] = token(model.id_to_piece(joined), False)
    config |= {"additional_special_tokens": ["<sys>", "<new>"], "pad_token": "<pad>"}
    write_json(folder / "tokenizer_config.json", config)
    shutil.copy(root / "llama" / "tokenizer.model", folder)
    tokenizer = LlamaTokenizer.from_pretrained(str(folder))
    if root == FOLDER:
        (folder / "tokenizer.model").unlink()
    return tokenizer


def make_gemma(root, vocab, count):
    folder = root / "gemma"
    symbols = ["<mask>", "<unused0>", "<unused1>", "<start_of_turn>", "<end_of_turn>"]
    symbols += ["\n" * n for n in range(1, 6)] + ["\u2581" * n for n in range(2, 8)] + ["<table>", "</table>", "\t\t", "\t\t\t"]
    train_spm(folder, count, vocab_size=vocab, add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3, user_defined_symbols=symbols)
    write_json(folder / "tokenizer_config.json", {
        "add_bos_token": True, "add_eos_token": False,
        "added_tokens_decoder": {"0": token("<pad>"), "1": token("<eos>"), "2": token("<bos>"), "3": token("<unk>"), "7": token("<start_of_turn>")},
        "additional_special_tokens": ["<start_of_turn>"], "bos_token": "<bos>", "clean_up_tokenization_spaces": False, "eos_token": "<eos>",
        "pad_token": "<unk>", "tokenizer_class": "GemmaTokenizer", "unk_token": "<unk>"})


def make_codegen(root, vocab, count):
    """GPT-2's files and CodeGen's 38 added runs of white space."""
    folder = root / "codegen"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(corpus(count, "codegen"), vocab_size=vocab - 1, min_frequency=2, show_progress=False)
    tokenizer.save_model(str(folder))
    words = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    size = len(words)
    words["<|endoftext|>"] = size
    (folder / "vocab.json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
    runs = [" " * n for n in range(31, 1, -1)] + ["\t" * n for n in range(9, 1, -1)]
    added = {run: size + 1 + i for i, run in enumerate(runs)}
    write_json(folder / "added_tokens.json", added)
    write_json(folder / "special_tokens_map.json", {f"{k}_token": "<|endoftext|>" for k in ("bos", "eos", "unk", "pad")})
    decoder = {str(size): token("<|endoftext|>"), **{str(i): token(run, special=False, normalized=True) for run, i in added.items()}}
    write_json(folder / "tokenizer_config.json", {
        "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": decoder, "bos_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": True, "eos_token": "<|endoftext|>", "errors": "replace", "model_max_length": 2048,
        "pad_token": "<|endoftext|>", "tokenizer_class": "CodeGenTokenizer", "unk_token": "<|endoftext|>"})


def make_fast(root, kind, slow, converter):
    folder = root / f"{kind}_fast"
    folder.mkdir(parents=True, exist_ok=True)
    fast = converter(slow).converted()
    (folder / "tokenizer.json").write_text(fast.to_str() + "\n", encoding="utf-8")
    return fast


def make_all(root, vocab, count):
    make_llama(root, vocab, count)
    make_gemma(root, vocab, count)
    make_codegen(root, 257 + vocab // 2, count)
    llama = LlamaTokenizer.from_pretrained(str(root / "llama"))
    gemma = GemmaTokenizer.from_pretrained(str(root / "gemma"))
    assert not llama.legacy
    slow = {
        "llama": llama,
        "llama_added": make_llama_added(root),
        "llama_legacy": LlamaTokenizer.from_pretrained(str(root / "llama"), legacy=True),
        "gemma": gemma,
        "codegen": CodeGenTokenizer.from_pretrained(str(root / "codegen")),
    }
    published = GemmaTokenizer(str(root / "gemma" / "tokenizer.model"))  # <pad> is its own token there
    fast = {"llama_fast": make_fast(root, "llama", llama, LlamaConverter), "gemma_fast": make_fast(root, "gemma", published, GemmaConvert)}
    return slow, fast


# ---- rows ----


def fnv(ids):
    value = 0xCBF29CE484222325
    for i in ids:
        for byte in i.to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def short(ids):
    return ids if len(ids) <= LONG else [len(ids), fnv(ids)]


def row(text, slow, fast):
    out = {"text": text}
    for name, tokenizer in slow.items():
        ids = tokenizer(text, add_special_tokens=False).input_ids
        out[name] = short(ids)
        if name in ("llama", "gemma") and "\u2581" not in text and "\ufffd" not in text and not any(s in text for s in tokenizer.all_special_tokens):
            assert tokenizer.decode(ids, skip_special_tokens=True) == text, (name, text)
        if name in ("llama", "gemma") and "<" in text and "<start_of_turn>" not in text:
            out[name + "_text"] = short(tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)
    for name, tokenizer in fast.items():
        out[name] = short(tokenizer.encode(text, add_special_tokens=False).ids)
    return out


def write_rows(root, texts, slow, fast):
    with open(root / "rows.json", "w", encoding="utf-8") as file:
        rows = [json.dumps(row(t, slow, fast), ensure_ascii=True, separators=(",", ":")) for t in texts]
        file.write("[\n" + ",\n".join(rows) + "\n]\n")
    print(f"{len(texts)} texts, {sum(len(t.encode()) for t in texts)} bytes")


def main():
    if sys.argv[1:] == ["small"]:
        shutil.rmtree(FOLDER, ignore_errors=True)
        slow, fast = make_all(FOLDER, 480, 60)
        rng = random.Random("small")
        texts = ODD + SPECIAL + ADDED + SPACES + [ANSWER] + [prose(rng), odd(rng), odd(rng), odd(rng)] + [cad_code(rng) for _ in range(3)]
        write_rows(FOLDER, texts, slow, fast)
    elif len(sys.argv) == 4 and sys.argv[1] == "large":
        root = pathlib.Path(sys.argv[3])
        slow, fast = make_all(root, 4000, 3000)
        rng = random.Random("large")
        texts = ODD + SPECIAL + ADDED + SPACES + library(int(sys.argv[2]))
        for _ in range(int(sys.argv[2])):
            mixed = [rng.choice(SPECIAL + ADDED + SPACES + ODD + ["a", "Line", "0"]) for _ in range(rng.randint(1, 5))]
            texts += [cad_code(rng), prose(rng), odd(rng), "".join(mixed)]
        write_rows(root, texts, slow, fast)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
