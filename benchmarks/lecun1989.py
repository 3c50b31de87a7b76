"""Does constraining the weights help? The five networks of LeCun's comparison of 1989, over several seeds.

The report's 480 bitmaps, 12 of each digit drawn by one person with a mouse, each at four horizontal positions, are not
to be had; MNIST stands in. A drawing is a MNIST digit, its ink scaled to fit 16 rows by 13 columns and thresholded.

    drawn    as the report describes: 12 drawings of a digit, each at four neighbouring positions of a 16x16 image,
             then 32 images a digit at random to learn from and the 16 others to test on (mostly shifted copies)
    unseen   48 drawings of a digit, each at one position at random; 32 to learn from, 16 to test on

Every seed draws other digits, another split and other weights, the same for all five networks. One `striate train`
for each network and seed; the test images are its `val` split, and its last epoch is what counts, so nothing is chosen
by them. Each network has the rate, of 0.0003, 0.001, 0.003 and 0.01, that did best on the digits of seeds 100 and 101,
which are not among the results: at one rate for all, the unconstrained networks saturate and fare far worse.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import random
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import (
    RESULTS,
    markdown_table,
    provenance,
    run_process,
    say,
    spread,
    striate_command,
    tail,
    versions,
    write_result,
)
from PIL import Image

ROWS, COLUMNS, SIDE = 16, 13, 16
POSITIONS = SIDE - COLUMNS + 1
LEARNT, TESTED = 32, 16  # images of each digit
PAPER = {  # per cent correct of the report's 160
    "lecun1989_net1": 80.0,
    "lecun1989_net2": 87.0,
    "lecun1989_net3": 88.5,
    "lecun1989_net4": 94.0,
    "lecun1989_net5": 98.4,
}
RATES = {
    "lecun1989_net1": 0.0003,
    "lecun1989_net2": 0.001,
    "lecun1989_net3": 0.003,
    "lecun1989_net4": 0.003,
    "lecun1989_net5": 0.003,
}
SETS = ("drawn", "unseen")


def main() -> None:
    args = arguments()
    path = Path(args.out or RESULTS / "lecun1989.json")
    images, labels = mnist(Path(args.mnist))
    result = provenance("benchmarks/lecun1989.py") | {
        "command": ["striate", "train", "SET", "--recipe", "lecun1989", "--model", "NETWORK", "--lr", "RATE"],
        "versions": versions(sys.executable, ("striate", "torch", "numpy", "pillow"), ("striate",)),
        "paper": PAPER,
        "rates": RATES,
        "threads": 1,
        "runs": [],
    }
    for seed in range(args.seeds):
        for kind in SETS:
            with tempfile.TemporaryDirectory(prefix="lecun1989-") as scratch:
                folder = Path(scratch) / "digits"
                write_set(folder, images, labels, kind, seed)
                for network in PAPER:
                    run = {"set": kind, "network": network, "seed": seed, **train_once(folder, network, seed, scratch)}
                    say(f"{kind}, seed {seed}, {network}: {run.get('correct', run.get('error'))}")
                    result["runs"].append(run)
            result["summary"] = summary(result["runs"])
            write_result(path, result)
    print(table(result))


# the digits -----------------------------------------------------------------------------------------------------------


def mnist(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's training images, uint8 [60000, 28, 28], and their labels."""
    arrays = []
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        content = gzip.decompress((folder / name).read_bytes())
        dimensions = content[3]
        shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
        arrays.append(np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape))
    return arrays[0], arrays[1]


def bitmap(image: np.ndarray) -> np.ndarray:
    """The ink of a grey digit, scaled to fit 16 rows by 13 columns, thresholded; uint8 [16, 13] of 0 and 255."""
    rows, columns = np.flatnonzero(image.max(1) > 127), np.flatnonzero(image.max(0) > 127)
    ink = Image.fromarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = min(ROWS / ink.height, COLUMNS / ink.width)
    size = (max(1, round(ink.width * scale)), max(1, round(ink.height * scale)))
    small = np.asarray(ink.resize(size, Image.Resampling.BILINEAR))
    canvas = np.zeros((ROWS, COLUMNS), np.uint8)
    top, left = (ROWS - size[1]) // 2, (COLUMNS - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return np.where(canvas > 127, 255, 0).astype(np.uint8)


def placed(drawing: np.ndarray, position: int) -> np.ndarray:
    """The drawing on a 16x16 image, `position` columns from the left edge."""
    return np.pad(drawing, ((0, 0), (position, SIDE - COLUMNS - position)))


def digit_images(
    images: np.ndarray, labels: np.ndarray, digit: int, kind: str, draw: random.Random
) -> list[np.ndarray]:
    """The 48 images of one digit in an order at random."""
    own = np.flatnonzero(labels == digit).tolist()
    if kind == "drawn":
        drawings = [bitmap(images[index]) for index in draw.sample(own, (LEARNT + TESTED) // POSITIONS)]
        made = [placed(drawing, position) for drawing in drawings for position in range(POSITIONS)]
        return draw.sample(made, len(made))
    return [placed(bitmap(images[index]), draw.randrange(POSITIONS)) for index in draw.sample(own, LEARNT + TESTED)]


def write_set(folder: Path, images: np.ndarray, labels: np.ndarray, kind: str, seed: int) -> None:
    """The 320 and 160 images as class folders of PNG files below `train` and `val`."""
    draw = random.Random(f"{kind} {seed}")
    for digit in range(10):
        for number, image in enumerate(digit_images(images, labels, digit, kind, draw)):
            place = folder / ("train" if number < LEARNT else "val") / str(digit)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number:02}.png")


# the runs -------------------------------------------------------------------------------------------------------------


def train_once(folder: Path, network: str, seed: int, scratch: str) -> dict[str, Any]:
    """One training, whole process: per cent correct of the test images, or the end of its error message."""
    run_folder = Path(scratch) / network
    command = [*striate_command(), "train", str(folder), "--recipe", "lecun1989", "--model", network]
    command += [
        "--lr",
        str(RATES[network]),
        "--seed",
        str(seed),
        "--threads",
        "1",
        "--no-report",
        "--run-dir",
        str(run_folder),
        "--json",
    ]
    finished = run_process(command, keep_path=True)
    answer = finished.json
    if finished.returncode or answer is None:
        return {**finished.costs(), "exit": finished.returncode, "error": tail(finished.err or finished.out)}
    return {
        **finished.costs(),
        "epochs": answer["epochs"],
        "seconds": round(answer["seconds"], 2),
        "n": answer["val"]["n"],
        "correct": round(100 * answer["val"]["top1"], 2),
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Per cent correct by set and network over the seeds, and how often each network beat the one before it.

    A seed of which any run failed is left out of its set, so that all five are compared on the same digits.
    """
    figures: dict[str, Any] = {"failed": sum("error" in run for run in runs)}
    for kind in SETS:
        own = [run for run in runs if run["set"] == kind]
        seeds = sorted({run["seed"] for run in own} - {run["seed"] for run in own if "error" in run})
        if not seeds:
            continue
        found = {(run["network"], run["seed"]): run["correct"] for run in own if "error" not in run}
        scores = {network: [found[network, seed] for seed in seeds] for network in PAPER}
        figures[kind] = {
            "seeds": seeds,
            "correct": {network: spread(values) for network, values in scores.items()},
            "better_than_the_one_before": {
                network: sum(a > b for a, b in zip(scores[network], scores[before], strict=True))
                for before, network in itertools.pairwise(PAPER)
            },
        }
    return figures


def table(result: dict[str, Any]) -> str:
    """The Markdown table that the documentation quotes: mean ± standard deviation over the seeds, per cent correct."""
    kinds = [kind for kind in SETS if kind in result["summary"]]
    rows = []
    for network, paper in PAPER.items():
        figures = [result["summary"][kind]["correct"][network] for kind in kinds]
        rows.append([network, paper, *(f"{f['mean']:.1f} ± {f['sd'] or 0:.1f}" for f in figures)])
    return markdown_table(["network", "report, %", *(f"{kind}, %" for kind in kinds)], rows)


def arguments() -> argparse.Namespace:
    """The options of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", help="folder with MNIST's IDX files")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--out", help="result file [benchmarks/results/lecun1989.json]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
