#!/usr/bin/env python3
"""Compares our tokenizers with Hugging Face's `tokenizers` library and makes the golden tables of the tests.

    python3 -m venv VENV && VENV/bin/pip install tokenizers==0.23.3
    VENV/bin/python tools/tokenizer_golden.py small               # rewrites tests/golden/tokenizer/{*.json}
    VENV/bin/python tools/tokenizer_golden.py large N OUT.json    # N texts a tokenizer, for a check by hand:
    CADVLM_TOKENIZER_GOLDEN=OUT.json build/cpu/tests/test_tokenizer ids_are_those_of_the_reference_library
    VENV/bin/python tools/tokenizer_golden.py corpus N OUT.txt    # CAD code, texts ended by the byte 0x01

`cad.json` is trained by our own trainer: CADVLM_WRITE_GOLDEN=1 build/cpu/tests/test_tokenizer
trained_file_is_the_golden_one writes it. The others are trained here, each to cover one part of the format."""

import json
import pathlib
import random
import sys

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "tokenizer"

PROSE = (
    "The flange carries six bolt holes on a pitch circle of 62.5 mm; its hub is 18mm high. Don't scale the "
    "drawing, they're only dims! We've 3 views, I'm told: front, top and right-hand. See page 1024, fig. 3.14159. "
    "It isn't what you'd expect, but he'll do it. A slot of 12x40 is cut through (ISO 2768-m). "
)
ODD = [
    "", " ", "\n", "\t\t  \t", "   leading", "trailing   ", "a  b   c    d\n\n\n e", "\r\n mixed \r ends\n",
    "naïve café façade — “quoted” … 50 µm ± 0.1°", "ÅÄÖ åäö ß ẞ ﬁ ﬂ", "日本語の図面 寸法 50 mm", "한국어 도면", "مخطط هندسي ١٢٣",
    "הדפסה", "Ελληνικά ΑΒΓ", "Кириллица чертёж", "👍🏽 👩‍👩‍👧 🏳️‍🌈 emoji", "e\u0301 combining a\u0308o\u0308", "x\u00a0y\u2003z\u3000w\u2028v\u0085u",
    "½ ¾ Ⅷ ² ³ ① ٣ १२", "0", "00", "000 0 -0 --0 0.0 -0.5 .5 ..5 5. 5.. 5.5.5", "-1 - 1 --1 +1 1-1 a-1 1a a1 _1 1_ 1.a a.1 (1) [1] {1}",
    "1 12 123 1234 12345 -1 -12 -123 -1234 007 -007 0x1F 1e-05 1.e+03 -2.5e10", "Line0_0_1 = Line12_3_45; Loops0 = []", "1,2,3;4:5/6*7^8%9=10",
    "<bo s> <|x|> &amp; <", "a" * 300, "ab" * 200, "[0., 0., 0.], normal= [ 0., -1.,  0.]" * 5, "\x00\x01\x02\x7f", "\ufffd \ufeff bom", "\U0010ffff\U00010000",
    "'s 't 're 've 'm 'll 'd 'S 'RE don''t 's's", "1'll 2's", "\u180e mongolian", "tab\tnewline\nvertical\x0bform\x0c", "a\u200bb\u200dc", "ǅ ǆ ʰ ª º",
]


def number(rng):
    kind = rng.random()
    if kind < 0.35:
        return rng.randint(0, 40) * 5
    if kind < 0.7:
        return rng.randint(-150, 150)
    return round(rng.uniform(-120, 120), rng.choice([1, 1, 2, 4]))


def show(value, width=0):
    text = f"{value:.4f}".rstrip("0")
    return text.rjust(width)


def vector(rng, n):
    values = [number(rng) for _ in range(n)]
    texts = [show(v) for v in values]
    width = max(map(len, texts))
    return "[" + ", ".join(t.rjust(width) if rng.random() < 0.8 else t for t in texts) + "]"


def cad_code(rng):
    out = []
    for i in range(rng.randint(1, 4)):
        if i and rng.random() < 0.6:
            kind = rng.choice(["sameplane", "extent_one", "extent_two", "line"])
            line = f", line= Line{i - 1}_0_{rng.randint(0, 3)}" if kind == "line" else ""
            angle = rng.choice(["", ", angle= np.pi/2", ", angle= -np.pi", ", angle= 0.261799", ", reverse= True"])
            out.append(f"SketchPlane{i} = add_sketchplane_ref(\n\tExtrude{i - 1}, origin= {vector(rng, 2)}, type= \"{kind}\"{line}{angle})")
        else:
            normal = rng.choice(["[0., 0., 1.]", "[ 0., -1.,  0.]", "[1., 0., 0.]", "[ 0.7071,  0.    , -0.7071]"])
            out.append(f"SketchPlane{i} = add_sketchplane(\n\torigin= {vector(rng, 3)}, normal= {normal}, x_axis= [ 1.,  0., -0.])")
        out.append(f"Loops{i} = []")
        for j in range(rng.randint(1, 3)):
            out.append(f"Curves{i}_{j} = []")
            if rng.random() < 0.4:
                out.append(f"Circle{i}_{j}_0 = add_circle(center= {vector(rng, 2)}, radius= {show(abs(number(rng)))})")
            else:
                for k in range(rng.randint(3, 8)):
                    if rng.random() < 0.2:
                        out.append(f"Arc{i}_{j}_{k} = add_arc(start= {vector(rng, 2)}, end= {vector(rng, 2)}, mid= {vector(rng, 2)})")
                    else:
                        out.append(f"Line{i}_{j}_{k} = add_line(start= {vector(rng, 2)}, end= {vector(rng, 2)})")
            out.append(f"Loop{i}_{j} = add_loop(Curves{i}_{j})")
        out.append(f"Profile{i} = add_profile(Loops{i})")
        out.append(f"Sketch{i} = add_sketch(sketch_plane= SketchPlane{i}, profile= Profile{i})")
        out.append(f"Extrude{i} = add_extrude(sketch= Sketch{i},\n\toperation= {rng.randint(0, 3)}, type= {rng.randint(0, 2)}, extent_one= {show(number(rng))}, extent_two= 0.)")
    return "\n".join(out) + "\n"


def prose(rng):
    words = PROSE.split(" ")
    return " ".join(rng.choice(words) for _ in range(rng.randint(1, 120)))


def odd(rng):
    if rng.random() < 0.4:
        return "".join(rng.choice(ODD) for _ in range(rng.randint(1, 4)))
    ranges = [(0x20, 0x7E), (0x09, 0x0D), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x900, 0x97F), (0x2000, 0x206F), (0x2150, 0x218F), (0x3040, 0x30FF), (0x4E00, 0x4FFF), (0x1F300, 0x1F64F), (0x30, 0x39), (0x2D, 0x2E)]
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 60)))


def safe(text):
    """U+180E is a space to our engine and none to the library's (docs/formats.md)."""
    return text.replace("\u180e", "")


def trained(kind):
    """A tokenizer of the library's own for each part of the format that `cad.json` does not use."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    rng = random.Random(kind)
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "split"))
    tokenizer.decoder = decoders.ByteLevel()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind in ("gpt2", "added"))
    if kind == "split":
        cl100k = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split("_", "isolated"), pre_tokenizers.Split(Regex(cl100k), "isolated"), pre_tokenizers.Split(Regex(r"(?=[x-z])"), "isolated"), byte_level]
        )
    else:
        tokenizer.pre_tokenizer = byte_level
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<pad>", "<bos>", "<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([cad_code(rng) for _ in range(60)] + [prose(rng) for _ in range(200)], trainer)
    if kind == "added":
        tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(31, 1, -1)] + [AddedToken("\t" * n, normalized=True) for n in range(9, 1, -1)])
        tokenizer.add_tokens([AddedToken("Extrude", normalized=False), AddedToken("Ext", normalized=False), AddedToken("rude0 ", normalized=True)])
    text = json.loads(tokenizer.to_str())
    if kind == "gpt2":  # the older spelling
        text["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m for m in text["model"]["merges"]]
    return json.dumps(text, ensure_ascii=False, indent=0) + "\n"


def table(count, seed):
    from tokenizers import Tokenizer

    rows = []
    for path in sorted(FOLDER.glob("*.json")):
        if path.name == "ids.json":
            continue
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        rng = random.Random(f"{seed} {path.name}")
        texts = [safe(t) for t in ODD] if count < 100 else []
        for _ in range(count):
            texts += [cad_code(rng), prose(rng), safe(odd(rng))]
        for text in texts:
            if "<bos>" in text or "<eos>" in text or "<pad>" in text:
                continue
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert tokenizer.decode(ids) == text or "\ufffd" in tokenizer.decode(ids), (path.name, text)
            rows.append({"tokenizer": path.name, "text": text, "ids": ids})
    return rows


def write_rows(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(r, ensure_ascii=True, separators=(",", ":")) for r in rows) + "\n]\n")


def main():
    if sys.argv[1:] == ["small"]:
        for kind in ("gpt2", "split", "added"):
            (FOLDER / f"{kind}.json").write_text(trained(kind), encoding="utf-8")
        write_rows(FOLDER / "ids.json", table(3, "small"))
    elif len(sys.argv) == 4 and sys.argv[1] == "large":
        write_rows(sys.argv[3], table(int(sys.argv[2]), "large"))
    elif len(sys.argv) == 4 and sys.argv[1] == "corpus":
        rng = random.Random("corpus")
        with open(sys.argv[3], "w", encoding="utf-8") as file:
            for _ in range(int(sys.argv[2])):
                file.write(cad_code(rng) + "\x01")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
