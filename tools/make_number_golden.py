#!/usr/bin/env python3
"""Writes tests/cad/number_golden.inc: arrays and scalars with the text that numpy makes of them after rounding to four decimals,
and angles as Python prints them after rounding to six. Needs numpy (1.26 and 2 give the same).

    make_number_golden.py [--rows N] [--seed S] > tests/cad/number_golden.inc
"""

import argparse
import random

import numpy as np

HAND = [
    [0.0], [-0.0], [50.8], [12.7], [1e-5], [-1e-5], [4.9e-5], [1e-4], [0.00015], [1e8], [99999999.0], [123456789.123],
    [-2.5e9], [1e100], [2.675], [1.00005],
    [0.0, 0.0], [-0.0, 0.0], [0.0, 50.8], [-50.8, 0.0], [12.7, -12.7], [1.0, 1000.0], [1.0, 1000.1], [0.5, 501.0],
    [0.0001, 0.05], [0.0001, 0.2], [-0.0001, 123.4567], [1e8, 1.0], [1e-9, 5.0], [0.3333, 0.0], [9999.9999, 10.0],
    [1e8, 2e8], [1e100, 1.0], [-1e8, 3.25], [100.0, 0.1], [100.1, 0.1],
    [0.0, -1.0, 0.0], [1.0, 0.0, -0.0], [0.70710678, 0.0, -0.70710678], [25.4, 0.0254, 0.0], [25.5, 0.0254, 0.0],
    [-5.9e-18, 0.0, 1e-17], [1.23456789, -12.3456789, 123.456789], [0.0, 0.0, 1500.25], [1.0, 2000.0, 0.0],
]


def random_array(rng):
    count = rng.choice([1, 2, 2, 3, 3])
    kind = rng.randrange(4)
    if kind == 0:
        return [rng.uniform(-200, 200) for _ in range(count)]
    if kind == 1:
        return [round(rng.uniform(-100, 100), rng.randrange(5)) for _ in range(count)]
    if kind == 2:
        return [rng.choice([-1, 1]) * 10 ** rng.uniform(-6, 9) for _ in range(count)]
    return [rng.choice([0.0, -0.0, 0.5, 25.4, -12.7, 1e-4, 3.0, 0.0001, 99.9999, rng.uniform(-9, 9)]) for _ in range(count)]


def numpy_text(values):
    if len(values) == 1:
        return np.array2string(np.float64(values[0]).round(4), separator=", ")
    return np.array2string(np.array(values).round(4), separator=", ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    rows = HAND + [random_array(rng) for _ in range(options.rows)]
    angles = [0.5235987755982988 + 1e-3, -2.0, 1e-6, -4e-7, 0.1, 3.0, 1.23456789, 12345.678]
    angles += [rng.uniform(-np.pi, np.pi) for _ in range(options.rows // 6)]
    print("/* Made by tools/make_number_golden.py; numpy's own texts. */")
    print("static const NumberGolden number_golden[] = {")
    for values in rows:
        print("    {%d, {%s}, \"%s\"}," % (len(values), ", ".join(float(v).hex() for v in values), numpy_text(values)))
    print("};")
    print("static const NumberGolden angle_golden[] = {")
    for angle in angles:
        print("    {1, {%s}, \"%s\"}," % (float(angle).hex(), str(np.float64(angle).round(6))))
    print("};")


if __name__ == "__main__":
    main()
