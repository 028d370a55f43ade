"""Small tokenizers of the three kinds the OpenECAD models use, for folders of random weights:
trained in a second on lines of CAD code, with the real ones' options, saved by transformers' own
slow tokenizers, so that the files beside them are as published."""

import pathlib
import tempfile

import sentencepiece
from tokenizers import ByteLevelBPETokenizer
from transformers import CodeGenTokenizer, GemmaTokenizer, LlamaTokenizer

PIECES = 320          # the vocabulary of a tiny model: 256 bytes, the special ids, a few merges
BYTE_LEVEL = 274      # of these 38 more are added; a tiny Phi has 320
EOT = "<|endoftext|>"


def corpus():
    lines = ["Of course, here are the codes:", "```python", "Loops0 = []", "Curves0_0 = []"]
    for i in range(40):
        size, depth = 2.5 * i, 1.27 * (i % 7)
        lines += [
            f"SketchPlane{i} = add_sketchplane(",
            "\torigin= [0., 0., 0.], normal= [0., 0., 1.], x_axis= [1., 0., 0.])",
            f"Line{i}_0_1 = add_line(start= [{size}, 0.], end= [{size}, {depth}])",
            f"Circle{i}_0_0 = add_circle(center= [{depth}, 0.], radius= {size})",
            f"Loop{i}_0 = add_loop(Curves{i}_0)",
            f"Profile{i} = add_profile(Loops{i})",
            f"Extrude{i} = add_extrude(sketch= Sketch{i},",
            f"\toperation= 0, type= 0, extent_one= {depth}, extent_two= 0.)",
        ]
    return lines


def train_sentencepiece(path, **options):
    """Writes a SentencePiece model with byte fallback and single digits, text left as it is."""
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus()), model_writer=file, model_type="bpe",
            vocab_size=PIECES, byte_fallback=True, split_digits=True, num_threads=1,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
            character_coverage=0.98, minloglevel=2, **options)


def write_llama(folder, length):
    train_sentencepiece(folder / "tokenizer.model")
    LlamaTokenizer(str(folder / "tokenizer.model"), legacy=False, pad_token="<unk>",
                   padding_side="right", model_max_length=length).save_pretrained(folder)


def write_gemma(folder, length):
    train_sentencepiece(
        folder / "tokenizer.model", pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>",
        eos_piece="<eos>", bos_piece="<bos>", add_dummy_prefix=False,
        user_defined_symbols=["\n", "\n\n", "\t", "\u2581\u2581", "\u2581\u2581\u2581"])
    GemmaTokenizer(str(folder / "tokenizer.model"), padding_side="right",
                   model_max_length=length).save_pretrained(folder)


def write_phi(folder, length):
    """GPT-2's kind with CodeGen's runs of 31 to 2 spaces and 9 to 2 tabs behind the vocabulary."""
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(corpus(), vocab_size=BYTE_LEVEL - 1, special_tokens=[],
                                show_progress=False)
    trainer.add_special_tokens([EOT])
    with tempfile.TemporaryDirectory() as scratch:
        vocab, merges = trainer.save_model(scratch)
        tokenizer = CodeGenTokenizer(vocab, merges, padding_side="right", model_max_length=length)
        tokenizer.add_tokens([" " * n for n in range(31, 1, -1)])
        tokenizer.add_tokens(["\t" * n for n in range(9, 1, -1)])
        tokenizer.save_pretrained(folder)


def write_tokenizer(model_type, folder, length):
    writers = {"openelm": write_llama, "llama": write_llama, "gemma": write_gemma, "phi": write_phi}
    writers[model_type](pathlib.Path(folder), length)
