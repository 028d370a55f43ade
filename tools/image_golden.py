#!/usr/bin/env python3
"""Writes tests/golden/images/: picture files of every kind, and what Pillow and the image processors
of Hugging Face transformers make of them, for tests/image/test_image.c.

    tools/reference/env.sh                                      # Pillow 10.2.0, transformers 4.39.3
    build/reference-env/bin/python tools/image_golden.py        # rewrites the folder
    build/reference-env/bin/python tools/image_golden.py OUT FILE …   # the same for other pictures,
    CADVLM_IMAGE_GOLDEN=OUT build/cpu/tests/test_image decoded_pixels_are_those_of_pillow   # by hand,
    CADVLM_IMAGE_GOLDEN=OUT build/cpu/tests/test_image fitted_pixels_are_those_of_the_processors

expected.json has three lists; a hash is FNV-1a (64 bits) of the pixels, `first` their first bytes:

    decode   file → width, height, rgb and gray: Image.open(file).convert("RGB"), and of that "L".
             Where we differ on purpose (image/image.h) it is what we mean: transparency pasted on
             white, 16-bit gray cut to its upper byte
    resize   a made picture → Image.resize(…, BICUBIC)
    fit      a made picture, or a file → what the processor gives, before it is normalised:
             squash: SiglipImageProcessor; crop: CLIPImageProcessor; pad: expand2square of
             TinyLLaVA, then CLIPImageProcessor

A made picture is a formula, here and in the test, so that large ones need no files. Files named
bad_* cannot be read and say so."""

import io
import json
import pathlib
import struct
import sys
import zlib

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessor, SiglipImageProcessor

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "images"
FIRST = 24  # bytes of `first`
CLIP_BACKGROUND = tuple(int(255 * m) for m in (0.48145466, 0.4578275, 0.40821073))


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


# ---- made pictures: the same formulas stand in tests/image/test_image.c ----


def make(kind, width, height, channels):
    y, x, c = np.indices((height, width, channels), dtype=np.uint32)
    if kind == "noise":
        v = x * np.uint32(374761393) + y * np.uint32(668265263) + c * np.uint32(2246822519)
        v = (v ^ v >> np.uint32(13)) * np.uint32(1274126177)
        v = (v ^ v >> np.uint32(16)) & np.uint32(255)
    elif kind == "gradient":
        v = (x * np.uint32(255) // np.uint32(width) + y * np.uint32(2) + c * np.uint32(40)) % np.uint32(256)
    else:  # lines: a grid, slanted lines (red where there is colour) and circles on white
        straight = (x % 37 == 0) | (y % 29 == 0) | ((x * x + y * y) % 20011 < 2 * (x + y))
        slanted = ((3 * x + 2 * y) % 101 < 3) & ~straight
        v = np.where(straight | slanted & ~((channels == 3) & (c == 0)), 0, 255)
    return v.astype(np.uint8)


def pillow(array):
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


# ---- PNG files that Pillow cannot write ----


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def scanlines(samples, depth):
    """samples [height, width, channels] below 1 << depth → bytes, each line after the filter "none"."""
    out = b""
    for line in samples.reshape(samples.shape[0], -1):
        bits = (line[:, None] >> np.arange(depth - 1, -1, -1)) & 1
        out += b"\0" + np.packbits(bits.astype(np.uint8)).tobytes()
    return out


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(samples, depth, colour, interlaced=False, chunks=b"", size=None):
    height, width = samples.shape[:2]
    if interlaced:
        passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7]
        lines = b"".join(scanlines(p, depth) for p in passes if p.size)
    else:
        lines = scanlines(samples, depth)
    header = struct.pack(">IIBBBBB", *(size or (width, height)), depth, colour, 0, 0, interlaced)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(lines, 9))
            + chunk(b"IEND", b""))


GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6


def png_files():
    width, height = 61, 47
    noise = make("noise", width, height, 3).astype(np.uint16)
    colour = make("gradient", width, height, 3).astype(np.uint16)
    alpha = make("gradient", width, height, 1).astype(np.uint16)
    wide, wide_alpha = (colour * 256 + noise)[:19, :23], alpha[:19, :23] * 257  # 16 bits
    gray, wide_gray = colour[:, :, :1], wide[:, :, :1]
    palette = chunk(b"PLTE", make("noise", 16, 1, 3).tobytes())
    see_through = chunk(b"tRNS", bytes(range(0, 240, 20)))  # of the palette's first 12
    files = {
        "gray1.png": png(gray >> 7, 1, GRAY),
        "gray2.png": png(gray >> 6, 2, GRAY),
        "gray4.png": png(gray >> 4, 4, GRAY),
        "gray16.png": png(wide_gray, 16, GRAY),
        "gray_key.png": png(gray, 8, GRAY, chunks=chunk(b"tRNS", struct.pack(">H", int(gray[9, 9, 0])))),
        "gray_alpha.png": png(np.concatenate([gray, alpha], 2), 8, GRAY_ALPHA),
        "gray_alpha16.png": png(np.concatenate([wide_gray, wide_alpha], 2), 16, GRAY_ALPHA),
        "rgb_interlaced.png": png(colour, 8, RGB, interlaced=True),
        "rgb16.png": png(wide, 16, RGB),
        "rgb_key.png": png(colour, 8, RGB, chunks=chunk(b"tRNS", struct.pack(">HHH", *map(int, colour[5, 7])))),
        "rgb_gamma.png": png(colour, 8, RGB, chunks=chunk(b"gAMA", struct.pack(">I", 100000))),
        "palette1.png": png(gray >> 7, 1, PALETTE, chunks=palette),
        "palette4.png": png(gray >> 4, 4, PALETTE, chunks=palette),
        "palette_alpha.png": png(gray >> 4, 4, PALETTE, interlaced=True, chunks=palette + see_through),
        "rgba.png": png(np.concatenate([colour, alpha], 2), 8, RGBA),
        "rgba16.png": png(np.concatenate([wide, wide_alpha], 2), 16, RGBA),
        "one.png": png(colour[:1, :1], 8, RGB, interlaced=True),
        "bad_wide.png": png(np.zeros((1, 40000, 1), np.uint8), 1, GRAY),
        "bad_many.png": png(gray, 8, GRAY, size=(16384, 16384)),
        "bad_zero.png": png(gray, 8, GRAY, size=(0, 47)),
    }
    for name, array in (("gray.png", gray), ("rgb.png", colour)):  # with Pillow's filters
        files[name] = saved(array.astype(np.uint8), "PNG", optimize=True)
    files["drawing.png"] = saved(make("lines", 640, 480, 1), "PNG", optimize=True)
    return files


# ---- JPEG and WebP files ----


def saved(array, form, mode=None, **options):
    out = io.BytesIO()
    image = pillow(array) if mode is None else Image.fromarray(array, mode)
    image.save(out, form, **options)
    return out.getvalue()


def patched(data, mark, at, replacement):
    """`data` with other bytes `at` bytes behind the first `mark`."""
    start = data.index(mark) + at
    return data[:start] + replacement + data[start + len(replacement):]


def many_scans(progressive, count):
    """Repeats the first scan of a progressive file, made exact so that repeating it is allowed."""
    start = progressive.index(b"\xff\xda")
    end = progressive.index(b"\xff\xc4", start)
    length = struct.unpack(">H", progressive[start + 2:start + 4])[0]
    scan = bytearray(progressive[start:end])
    scan[1 + length] = 0  # Ah, Al
    return progressive[:start] + bytes(scan) * count + b"\xff\xd9"


def jpeg_files():
    colour, gray = make("gradient", 61, 47, 3), make("gradient", 61, 47, 1)
    lines = make("lines", 61, 47, 3)
    inks = np.concatenate([colour, make("gradient", 61, 47, 1)], 2)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter; nobody does
    cmyk = saved(inks, "JPEG", "CMYK", quality=90)
    plain = saved(lines, "JPEG", quality=75)
    progressive = saved(lines, "JPEG", quality=80, progressive=True)
    files = {
        "420.jpg": plain,
        "422.jpg": saved(lines, "JPEG", quality=50, subsampling="4:2:2", optimize=True),
        "444.jpg": saved(colour, "JPEG", quality=95, subsampling="4:4:4"),
        "gray.jpg": saved(gray, "JPEG", quality=85),
        "rgb.jpg": saved(lines, "JPEG", quality=90, keep_rgb=True),
        "cmyk.jpg": cmyk,
        "ycck.jpg": patched(cmyk, b"Adobe", 11, b"\2"),
        "progressive.jpg": progressive,
        "progressive_gray.jpg": saved(gray, "JPEG", quality=60, progressive=True),
        "restarts.jpg": saved(colour, "JPEG", quality=40, restart_marker_rows=1),
        "turned.jpg": saved(colour, "JPEG", quality=75, exif=exif),
        "shades.jpg": saved(make("gradient", 640, 480, 3), "JPEG", quality=50),
        "bad_wide.jpg": patched(plain, b"\xff\xc0", 7, struct.pack(">H", 40000)),
        "bad_many.jpg": patched(plain, b"\xff\xc0", 5, struct.pack(">HH", 16384, 16384)),
        "bad_zero.jpg": patched(plain, b"\xff\xc0", 5, struct.pack(">H", 0)),
        "bad_scans.jpg": many_scans(progressive, 101),
    }
    for width, height in ((1, 1), (2, 3), (3, 2), (17, 33)):  # upsampling at the edges
        files[f"{width}x{height}.jpg"] = saved(make("noise", width, height, 3), "JPEG", quality=90)
    return files


def webp_files():
    colour, lines = make("gradient", 61, 47, 3), make("lines", 61, 47, 3)
    alpha = make("gradient", 61, 47, 1)
    see_through = np.concatenate([lines, alpha], 2)
    lossless = saved(make("noise", 31, 17, 3), "WEBP", lossless=True)
    frames = [pillow(lines), pillow(colour)]
    animation = io.BytesIO()
    frames[0].save(animation, "WEBP", save_all=True, append_images=frames[1:], quality=20)
    return {
        "lossy.webp": saved(colour, "WEBP", quality=70),
        "lossless.webp": lossless,
        "lossy_alpha.webp": saved(see_through, "WEBP", quality=50),
        "lossless_alpha.webp": saved(see_through, "WEBP", lossless=True),
        "one.webp": saved(colour[:1, :1], "WEBP", quality=70),
        "bad_many.webp": patched(lossless, b"VP8L", 9, struct.pack("<I", 16382 | 16382 << 14)),
        "bad_animation.webp": animation.getvalue(),
    }


# ---- what is expected ----


def decode(data):
    """→ RGB as we mean it: Pillow's, but for transparency and 16-bit gray."""
    image = Image.open(io.BytesIO(data))
    if image.mode == "I":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def expand2square(image, background):
    """Equals TinyLLaVA's: in the middle, the odd pixel to the right or below."""
    side = max(image.size)
    square = Image.new(image.mode, (side, side), background)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def fit(image, how, size):
    if how == "squash":
        processor = SiglipImageProcessor(size={"height": size, "width": size})
    else:
        processor = CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    if how == "pad":
        image = expand2square(image, CLIP_BACKGROUND)
    out = processor.preprocess(image, do_rescale=False, do_normalize=False, return_tensors="np",
                               input_data_format="channels_last", data_format="channels_last")
    return np.asarray(out["pixel_values"][0]).astype(np.uint8)


def told(pixels):
    data = pixels.tobytes()
    return {"hash": fnv(data), "first": data[:FIRST].hex()}


def expect(files, others=False):
    """The three lists for `files`; for other pictures than ours all are fitted, and none are made."""
    decoded, resized, fitted = [], [], []
    for name, data in sorted(files.items()):
        if name.startswith("bad_"):
            continue
        rgb = decode(data)
        decoded.append({"file": name, "width": rgb.width, "height": rgb.height, "rgb": told(np.asarray(rgb)),
                        "gray": told(np.asarray(rgb.convert("L")))})
    made = [("noise", 1, 1, 3), ("noise", 3, 500, 3), ("lines", 640, 480, 3), ("gradient", 479, 641, 3),
            ("noise", 384, 384, 3), ("lines", 384, 384, 1), ("noise", 97, 65, 1), ("gradient", 30, 20, 3)]
    for kind, width, height, channels in [] if others else made:
        of = {"kind": kind, "width": width, "height": height, "channels": channels}
        image = pillow(make(kind, width, height, channels))
        for to in ((384, 384), (224, 299), (7, 5), (1, 1), (700, 3), (width, 100)):
            out = image.resize(to, Image.BICUBIC)
            resized.append(of | {"to": to} | told(np.asarray(out)))
        if channels == 3:
            fitted += [of | {"fit": how, "size": size} | told(fit(image, how, size))
                       for how in ("squash", "crop", "pad") for size in (384, 224, 9)]
    for name in sorted(files) if others else ("drawing.png", "shades.jpg"):
        fitted += [{"file": name, "fit": how, "size": size} | told(fit(decode(files[name]), how, size))
                   for how, size in (("squash", 384), ("crop", 224), ("pad", 224))]
    return {"decode": decoded, "resize": resized, "fit": fitted}


def write(folder, files, others=False):
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    lines = [f'"pad_background": {list(CLIP_BACKGROUND)}']
    for key, entries in expect(files, others).items():
        lines.append(f'"{key}": [\n' + ",\n".join(map(json.dumps, entries)) + "\n]")
    (folder / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(files)} files, {sum(f.stat().st_size for f in folder.iterdir()) / 1000:.0f} kB in {folder}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        others = {f"{i}-{pathlib.Path(f).name}": pathlib.Path(f).read_bytes() for i, f in enumerate(sys.argv[2:])}
        write(pathlib.Path(sys.argv[1]), others, others=True)
    else:
        write(FOLDER, png_files() | jpeg_files() | webp_files())
