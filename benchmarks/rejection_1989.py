"""What must be rejected for 1 % error? The zip-code network of 1989 on 16x16 digits, over several seeds.

The Postal Service's digits of 1989 are not to be had; MNIST stands in. As the paper describes its own, every digit's
ink is scaled, its shape kept, to fit 16x16 grey pixels. Each seed draws 7,291 training and 1,000 validation images of
MNIST's training part and 2,007 test images of its test part, and other weights.

One `striate train` for each seed: 23 passes as in the paper, the last epoch counts, so nothing is chosen by any image.
The rejection curve is the run's own, by the probability of the answer, whose temperature the validation images fit. The
paper rejects by the activities of the two strongest outputs: `margin` rejects by their difference, read off the
predictions, of which the logarithm of two probabilities' ratio is that difference but for the temperature.
"""

from __future__ import annotations

import argparse
import gzip
import json
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from harness import RESULTS, markdown_table, run_process, say, spread, striate_command, tail, versions
from PIL import Image
from resumable import ResultFile, Row

SIDE = 16
COUNTS = {"train": 7291, "val": 1000, "test": 2007}
PASSES = 23
WANTED = 0.01
PAPER = {"test_error": 5.0, "rejected_for_1_percent": 12.1}  # per cent; LeCun et al. 1989, Neural Computation 1(4)


def main() -> None:
    args = arguments()
    path = Path(args.out or RESULTS / "rejection_1989.json")
    results = ResultFile(path, "benchmarks/rejection_1989.py", ("seed", "passes"), summary, fresh=args.fresh)
    results.head |= {
        "command": ["striate", "train", "DIGITS", "--recipe", "lecun1989", "--model", "lenet_1989_zip"],
        "versions": versions(sys.executable, ("striate", "torch", "numpy", "pillow"), ("striate",)),
        "paper": PAPER,
        "images": COUNTS,
    }
    parts = {name: mnist(Path(args.mnist), name) for name in ("train", "t10k")}
    for seed in range(args.seeds):
        if results.holds(seed=seed, passes=args.passes):
            continue
        with tempfile.TemporaryDirectory(prefix="rejection-1989-") as scratch:
            write_digits(Path(scratch) / "digits", parts, seed)
            row = {"seed": seed, "passes": args.passes, **train_once(Path(scratch), seed, args)}
        say(f"seed {seed}: {row.get('error') or row['rejected']}")
        results.add(row)
    results.write()
    print(table(results.summary()))


# the digits -----------------------------------------------------------------------------------------------------------


def mnist(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 28, 28] and labels [n] of `train` or `t10k`."""
    arrays = []
    for kind in ("images-idx3", "labels-idx1"):
        content = gzip.decompress((folder / f"{part}-{kind}-ubyte.gz").read_bytes())
        shape = struct.unpack_from(f">{content[3]}I", content, 4)
        arrays.append(np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape))
    return arrays[0], arrays[1]


def small(image: np.ndarray) -> Image.Image:
    """The ink of a digit as large as 16x16 grey pixels hold it, in their middle, white on black."""
    rows, columns = np.flatnonzero(image.max(axis=1) > 0), np.flatnonzero(image.max(axis=0) > 0)
    ink = Image.fromarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = SIDE / max(ink.size)
    width, height = (max(1, round(side * scale)) for side in ink.size)
    canvas = Image.new("L", (SIDE, SIDE))
    canvas.paste(ink.resize((width, height), Image.Resampling.BILINEAR), ((SIDE - width) // 2, (SIDE - height) // 2))
    return canvas


def write_digits(folder: Path, parts: dict[str, tuple[np.ndarray, np.ndarray]], seed: int) -> None:
    """Class folders of PNG files below `train`, `val` and `test`."""
    draw = np.random.default_rng(seed)
    learnt = draw.permutation(len(parts["train"][1]))[: COUNTS["train"] + COUNTS["val"]]
    chosen = {
        "train": ("train", learnt[: COUNTS["train"]]),
        "val": ("train", learnt[COUNTS["train"] :]),
        "test": ("t10k", draw.permutation(len(parts["t10k"][1]))[: COUNTS["test"]]),
    }
    for split, (part, indices) in chosen.items():
        images, labels = parts[part]
        for digit in range(10):
            (folder / split / str(digit)).mkdir(parents=True)
        for index in indices.tolist():
            small(images[index]).save(folder / split / str(labels[index]) / f"{index:05}.png")


# the runs -------------------------------------------------------------------------------------------------------------


def train_once(scratch: Path, seed: int, args: argparse.Namespace) -> Row:
    """One training, whole process: errors and rejections in per cent, or the end of its error message."""
    run = scratch / "run"
    command = [*striate_command(), "train", str(scratch / "digits"), "--recipe", "lecun1989"]
    command += ["--model", "lenet_1989_zip", "--epochs", str(args.passes), "--evaluate-every", str(args.passes)]
    command += ["--seed", str(seed), "--threads", "1", "--no-report", "--run-dir", str(run), "--json"]
    finished = run_process(command, keep_path=True)
    if finished.returncode or finished.json is None:
        return {**finished.costs(), "exit": finished.returncode, "error": tail(finished.err or finished.out)}
    record = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    test = record["splits"]["test"]
    by_probability = next(one for one in test["rejection"]["for_error"] if one["wanted"] == WANTED)
    return {
        **finished.costs(),
        "n": test["n"],
        "test_error": per_cent(1 - test["top1"]),
        "temperature": round(test["calibration"]["temperature"], 3),
        "rejected": {
            "probability": per_cent(by_probability["rejected"]),
            "margin": by_margin(run / "predictions.parquet"),
        },
        "answered_wrong": [by_probability["answered"], by_probability["wrong"]],
        "curve": curve(test["rejection"]),
    }  # fmt: skip


def per_cent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def by_margin(predictions: Path) -> float | None:
    """Per cent of the test images to reject for the wanted error, least difference of the two best outputs first."""
    rows = [row for row in pyarrow.parquet.read_table(predictions).to_pylist() if row["split"] == "test"]
    margins = [float(np.log(row["top"][0]["probability"] / row["top"][1]["probability"])) for row in rows]
    order = np.argsort(-np.array(margins), kind="stable")
    wrong = np.cumsum([not rows[place]["correct"] for place in order])
    fine = np.flatnonzero(wrong <= WANTED * np.arange(1, len(rows) + 1))
    return per_cent(1 - (int(fine[-1]) + 1) / len(rows)) if len(fine) else None


def curve(rejection: dict[str, Any]) -> dict[str, list[float]]:
    """The error that is left, in per cent, where 0, 2, 4, ... 20 % are rejected."""
    rejected = [2.0 * place for place in range(11)]
    left = np.interp([1 - one / 100 for one in rejected], rejection["coverage"], rejection["error"])
    return {"rejected": rejected, "error": [round(100 * one, 2) for one in left.tolist()]}


def summary(rows: list[Row]) -> dict[str, Any]:
    """Over the seeds, for each number of passes; an error out of reach is left out of its figure and counted."""
    found = {}
    for passes in sorted({row["passes"] for row in rows}):
        own = [row for row in rows if row["passes"] == passes]
        figures: dict[str, Any] = {"test_error": spread([row["test_error"] for row in own])}
        for by in ("probability", "margin"):
            there = [row["rejected"][by] for row in own if row["rejected"][by] is not None]
            figures[f"rejected_by_{by}"] = spread(there) if there else None
            figures[f"out_of_reach_by_{by}"] = len(own) - len(there)
        curves = np.array([row["curve"]["error"] for row in own])
        figures["curve"] = {
            "rejected": own[0]["curve"]["rejected"],
            "error": np.round(curves.mean(axis=0), 2).tolist(),
        }
        found[str(passes)] = figures
    return found


def table(figures: Any) -> str:
    """The Markdown table that the documentation quotes: mean ± standard deviation over the seeds."""

    def cell(one: dict[str, Any] | None) -> str:
        return "not within reach" if one is None else f"{one['mean']:.1f} ± {one['sd'] or 0:.1f}"

    rows = [["1989", PAPER["test_error"], PAPER["rejected_for_1_percent"], ""]]
    rows += [
        [
            f"{passes} passes",
            *(cell(one[key]) for key in ("test_error", "rejected_by_margin", "rejected_by_probability")),
        ]
        for passes, one in figures.items()
    ]
    head = ["", "test error, %", "rejected for 1 % error, by outputs, %", "by probability, %"]
    return markdown_table(head, rows)


def arguments() -> argparse.Namespace:
    """The options of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", help="folder with MNIST's IDX files")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--passes", type=int, default=PASSES, help="over the training images")
    parser.add_argument("--out", help="result file [benchmarks/results/rejection_1989.json]")
    parser.add_argument("--fresh", action="store_true", help="forget what the result file holds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
