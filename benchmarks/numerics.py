"""Is accuracy unharmed by the defaults that change numbers? Everything beside float32, with the spread over seeds.

Training: the same seed once in the precision that `auto` takes (bf16 where the processor has it) and once in fp32, so
that data order, start and augmentation are the same, and the difference is taken seed by seed. Inference: one trained
network over the whole test set, by every back end and precision, image by image beside torch in fp32.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import RESULTS, markdown_table, run_process, say, striate_command, tail, versions
from resumable import ResultFile, Row

CALIBRATION_IMAGES = 512


@dataclass(frozen=True)
class Training:
    """What is trained, and over how many seeds."""

    settings: tuple[str, ...]
    seeds: int


TRAININGS = {
    "mnist": Training(("mnist",), 5),
    "cifar10-resnet20": Training(("cifar10", "--recipe", "resnet-2015-cifar", "--epochs", "6"), 3),
}
TRAINING_PRECISIONS = ("auto", "fp32")
# the first of these is what the others are compared with
ENGINES = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
INFERENCE = "cifar10-inference"


def main() -> None:
    args = arguments()
    result = ResultFile(
        Path(args.out), "benchmarks/numerics.py", ("experiment", "setting", "seed", "extra"), summary, fresh=args.fresh
    )
    packages = ("striate", "torch", "onnxruntime", "openvino", "numpy")
    result.head["versions"] = versions(sys.executable, packages, ("striate", "torch"))
    for name in args.only:
        if name == INFERENCE:
            with contextlib.ExitStack() as stack:
                work = args.work or stack.enter_context(tempfile.TemporaryDirectory(prefix="numerics-"))
                infer(args, result, Path(work))
        else:
            train(name, args, result)
    result.write()
    print(tables(result))


def train(name: str, args: argparse.Namespace, result: ResultFile) -> None:
    """Both precisions of each seed, one after the other, the order changing with the seed."""
    experiment = TRAININGS[name]
    for seed in range(args.seeds or experiment.seeds):
        turn = seed % 2
        for precision in TRAINING_PRECISIONS[turn:] + TRAINING_PRECISIONS[:turn]:
            key = {"experiment": name, "setting": precision, "seed": seed, "extra": args.extra}
            if result.holds(**key):
                continue
            with tempfile.TemporaryDirectory(prefix="numerics-") as scratch:
                command = [*striate_command(), "train", *experiment.settings, "--data-root", args.data_root]
                command += ["--precision", precision, "--seed", str(seed), "--run-dir", f"{scratch}/run", *args.extra]
                done = run_process([*command, "--json"], timeout=args.timeout, keep_path=True)
                row = {**key, **done.costs(), **trained(done, Path(scratch, "run", "environment.json"))}
            say(f"{name}, seed {seed}, {precision}: {told(row)}")
            result.add(row)


def trained(done: Any, environment: Path) -> Row:
    """The scores of a run, and the precision that it really had."""
    if done.returncode or done.json is None:
        return {"exit": done.returncode, "error": tail(done.err or done.out, 3)}
    answer = done.json
    return {
        "precision": json.loads(environment.read_text(encoding="utf-8"))["precision"],
        "model": answer["model"],
        "epochs": answer["epochs"],
        "seconds": answer["seconds"],
        **{split: {key: answer[split][key] for key in ("top1", "loss", "n")} for split in ("val", "test")},
    }


def infer(args: argparse.Namespace, result: ResultFile, work: Path) -> None:
    """The published ResNet-20 on CIFAR-10's test images by every engine; predictions compared image by image."""
    if args.weights is None:
        sys.exit("error: inference needs --weights\nhint: a CIFAR-10 ResNet-20, or leave it out by --only")
    work.mkdir(parents=True, exist_ok=True)
    os.environ["STRIATE_CACHE"] = str(work / "striate-cache")  # engines are built here, not taken from the user's
    reference = work / "predictions-torch-fp32.parquet"
    for backend, precision in ENGINES:
        key = {"experiment": INFERENCE, "setting": f"{backend} {precision}", "seed": None, "extra": []}
        file = work / f"predictions-{backend}-{precision}.parquet"
        if result.holds(**key) and (file != reference or file.exists()):
            continue
        command = [*striate_command(), "evaluate", f"cifar_resnet20:{args.weights}", "cifar10", "--split", "test"]
        command += ["--data-root", args.data_root, "--backend", backend, "--precision", precision]
        command += ["--predictions", str(file), "--json"]
        if precision == "int8":
            command += ["--calibration", str(calibration_folder(Path(args.data_root), work))]
        done = run_process(command, timeout=args.timeout, keep_path=True)
        if done.returncode or done.json is None:
            row = {**key, **done.costs(), "exit": done.returncode, "error": tail(done.err or done.out, 3)}
        else:
            scores = {name: done.json[name] for name in ("top1", "loss", "n")}
            row = {**key, **done.costs(), "precision": precision, "test": scores, **beside(file, reference)}
        say(f"{backend} {precision}: {told(row)}")
        if not result.holds(**key):
            result.add(row)


def beside(file: Path, reference: Path) -> Row:
    """How many test images only one of the two gets right, and on how many they agree."""
    import pyarrow.parquet as pq

    mine, theirs = (pq.read_table(path).sort_by("path").to_pydict() for path in (file, reference))
    if mine["path"] != theirs["path"]:
        sys.exit(f"error: {file.name} has other images than {reference.name}\nhint: use another --work folder")
    pairs = list(zip(mine["correct"], theirs["correct"], strict=True))
    return {
        "only_this_right": sum(this and not fp32 for this, fp32 in pairs),
        "only_fp32_right": sum(fp32 and not this for this, fp32 in pairs),
        "agreement": sum(a == b for a, b in zip(mine["predicted"], theirs["predicted"], strict=True)) / len(pairs),
    }


def calibration_folder(data_root: Path, work: Path) -> Path:
    """Training images of CIFAR-10 as PNG files, to calibrate int8 by; never test images."""
    from PIL import Image

    folder = work / "calibration"
    if folder.is_dir():
        return folder
    batch = next(data_root.rglob("data_batch_1"), None)
    if batch is None:
        sys.exit(f"error: no data_batch_1 under {data_root}\nhint: unpack cifar-10-python.tar.xz there")
    with batch.open("rb") as file:  # CIFAR-10's own form, from the folder that the user names
        pixels = pickle.load(file, encoding="bytes")[b"data"][:CALIBRATION_IMAGES]
    part = folder.with_name("calibration.part")
    part.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)):
        Image.fromarray(image).save(part / f"{number:04d}.png")
    part.rename(folder)
    return folder


def summary(rows: list[Row]) -> dict[str, Any]:
    """Mean and spread by setting, and the differences from fp32 with their 95 % confidence interval."""
    figures: dict[str, Any] = {}
    for name in dict.fromkeys(row["experiment"] for row in rows):
        here = [row for row in rows if row["experiment"] == name]
        figures[name] = inference_summary(here) if name == INFERENCE else training_summary(here)
    return figures


def training_summary(rows: list[Row]) -> dict[str, Any]:
    """Test accuracy by precision over the seeds, and the paired difference; by the flags that were handed on."""
    figures: dict[str, Any] = {}
    for extra in dict.fromkeys(tuple(row["extra"]) for row in rows):
        here = [row for row in rows if tuple(row["extra"]) == extra]
        by_seed = {
            setting: {row["seed"]: row for row in here if row["setting"] == setting} for setting in TRAINING_PRECISIONS
        }
        one: dict[str, Any] = {
            setting: {
                "precision": next(iter(runs.values()))["precision"],
                **mean_and_spread([row["test"]["top1"] for row in runs.values()]),
                "seconds": statistics.fmean(row["seconds"] for row in runs.values()),
            }
            for setting, runs in by_seed.items()
            if runs
        }
        common = sorted(set(by_seed["auto"]) & set(by_seed["fp32"]))
        one["auto_minus_fp32"] = interval(
            [by_seed["auto"][seed]["test"]["top1"] - by_seed["fp32"][seed]["test"]["top1"] for seed in common]
        )
        figures[" ".join(extra) or "as it is"] = one
    return figures


def inference_summary(rows: list[Row]) -> dict[str, Any]:
    """Accuracy by engine, and the difference from torch in fp32 with the interval of paired answers."""
    return {
        row["setting"]: {
            "top1": row["test"]["top1"],
            "agreement": row["agreement"],
            "difference": paired(row["only_this_right"], row["only_fp32_right"], row["test"]["n"]),
        }
        for row in rows
    }


def mean_and_spread(values: list[float]) -> Row:
    """Mean, standard deviation of the sample, least and greatest."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"n": len(values), "mean": statistics.fmean(values), "sd": sd, "min": min(values), "max": max(values)}


def interval(differences: list[float]) -> Row:
    """Mean difference over the seeds, and Student's 95 % interval; null below two seeds."""
    from scipy.stats import t

    if len(differences) < 2:
        return {"n": len(differences), "mean": differences[0] if differences else None, "low": None, "high": None}
    mean, sd = statistics.fmean(differences), statistics.stdev(differences)
    half = float(t.ppf(0.975, len(differences) - 1)) * sd / len(differences) ** 0.5
    return {"n": len(differences), "mean": mean, "low": mean - half, "high": mean + half, "each": differences}


def paired(only_this: int, only_fp32: int, images: int) -> Row:
    """Difference of two accuracies on the same images, and its 95 % interval from the answers that differ."""
    mean = (only_this - only_fp32) / images
    variance = (only_this + only_fp32) / images**2 - mean**2 / images
    half = 1.96 * max(0.0, variance) ** 0.5
    return {"n": images, "mean": mean, "low": mean - half, "high": mean + half}


def tables(result: ResultFile) -> str:
    """The Markdown that docs/results.md quotes."""
    training, inference = [], []
    for name, figures in result.summary().items():
        if name == INFERENCE:
            inference = [
                [setting, f"{one['top1']:.2%}", points(one["difference"]), f"{one['agreement']:.2%}"]
                for setting, one in figures.items()
            ]
            continue
        for extra, one in figures.items():
            cells = [
                f"{mean(side)} ({side['precision']}, {side['n']} seeds)" if (side := one.get(setting)) else "–"
                for setting in TRAINING_PRECISIONS
            ]
            training.append([name, extra, *cells, points(one["auto_minus_fp32"])])
    machine = result.head["machine"]
    texts = [f"{machine['cpu']}, {machine['cores']} cores, {result.head['date'][:10]}, {result.head['revision']}"]
    if training:
        head = ["training", "flags", "test top-1, auto", "test top-1, fp32", "difference in points (95 %)"]
        texts += ["", markdown_table(head, training)]
    if inference:
        head = ["inference", "test top-1", "difference from torch fp32 in points (95 %)", "same answers"]
        texts += ["", markdown_table(head, inference)]
    failed = [f"{row['experiment']} {row['setting']} seed {row['seed']}" for row in result.rows if "error" in row]
    return "\n".join([*texts, *([f"\nFailed: {', '.join(failed)}."] if failed else [])])


def mean(figure: Row) -> str:
    """Mean ± standard deviation, in per cent."""
    return f"{100 * figure['mean']:.2f}" + (f" ± {100 * figure['sd']:.2f}" if figure["sd"] is not None else "") + " %"


def points(figure: Row) -> str:
    """A difference in points of a per cent, with its interval."""
    if figure["mean"] is None:
        return "–"
    known: Callable[[float], str] = lambda value: f"{100 * value:+.2f}"  # noqa: E731
    around = f" ({known(figure['low'])} to {known(figure['high'])})" if figure["low"] is not None else ""
    return known(figure["mean"]) + around


def told(row: Row) -> str:
    """A row in one line."""
    if "error" in row:
        return f"failed (exit {row['exit']}): {row['error']}"
    return f"test top-1 {row['test']['top1']:.4f} in {row['precision']}, {row['wall_seconds']:.1f} s"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What follows -- is handed to `striate train`, and recorded; its rows stand beside those without it.",
    )
    names = (*TRAININGS, INFERENCE)
    parser.add_argument("--data-root", required=True, help="folder with the named data sets, as for `striate train`")
    parser.add_argument("--weights", help="file of the CIFAR-10 ResNet-20 that inference is tried on")
    parser.add_argument("--only", help=f"comma-separated, of {', '.join(names)}; the rows of others stay")
    parser.add_argument("--seeds", type=int, help="[5 for mnist, 3 for cifar10-resnet20]")
    parser.add_argument("--work", help="keep predictions and calibration images here [a temporary folder]")
    parser.add_argument("--timeout", type=float, default=3600)
    parser.add_argument("--fresh", action="store_true", help="forget what the result file holds")
    parser.add_argument("--out", default=str(RESULTS / "numerics.json"))
    given, extra = sys.argv[1:], []
    if "--" in given:
        cut = given.index("--")
        given, extra = given[:cut], given[cut + 1 :]
    args = parser.parse_args(given)
    args.extra = extra
    args.only = args.only.split(",") if args.only else list(names)
    for name in args.only:
        if name not in names:
            parser.error(f"no experiment {name!r}; there are {', '.join(names)}")
    args.data_root = str(Path(args.data_root).resolve())
    return args


if __name__ == "__main__":
    main()
