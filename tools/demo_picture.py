#!/usr/bin/env python3
"""Makes docs/demo.png of the gallery of the demo's first stage: every second example, none left out.

    tools/demo_picture.py demo/stage1/eval/step-…-old-gallery docs/demo.png

Needs Pillow (pip install pillow)."""

import pathlib
import sys

from PIL import Image, ImageDraw

SIDE, GAP, HEAD, COLUMNS = 180, 24, 26, 2
PARTS = ("drawing", "target", "result")


def main(gallery, out):
    examples = sorted(p for p in pathlib.Path(gallery).iterdir() if p.is_dir())[::2]
    width, height = 3 * SIDE + 2 * GAP, SIDE + GAP
    rows = -(-len(examples) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * width, HEAD + rows * height), 255)
    pen = ImageDraw.Draw(sheet)
    for i, example in enumerate(examples):
        left, top = i % COLUMNS * width, HEAD + i // COLUMNS * height
        for k, part in enumerate(PARTS):
            x = left + k * (SIDE + GAP // 2)
            if top == HEAD:
                pen.text((x + SIDE // 2, HEAD // 2), part, anchor="mm", fill=90)
            if (example / f"{part}.png").exists():  # there is no result where the code did not execute
                picture = Image.open(example / f"{part}.png").convert("L")
                sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, top))
    sheet.quantize(16).save(out, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
