"""How accurate do the shipped defaults and recipes become, over several seeds?

One `striate train … --json` per seed, each its own process; the scores are those that the command prints. The table row
printed at the end is what docs/results.md quotes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Experiment:
    """What is trained: the data by name (None: `--data` must say where it lies) and the settings that differ."""

    data: str | None
    settings: tuple[str, ...] = ()


# chosen on the validation images of seed 0, among four settings
_LENET5 = ("--epochs", "20", "--ema", "0.99", "--weight-decay", "1e-3", "--label-smoothing", "0.1")
EXPERIMENTS = {
    "digits": Experiment("digits"),
    "lenet5": Experiment("mnist", ("--model", "lenet5", "--preset", "none", *_LENET5)),
    "lenet5-distorted": Experiment("mnist", ("--recipe", "lenet5-distorted")),
    "lenet5-1998": Experiment("mnist", ("--recipe", "lenet5-1998")),
    "cifar-fast": Experiment("cifar10", ("--recipe", "cifar-fast")),
    "resnet-2015-cifar": Experiment("cifar10", ("--recipe", "resnet-2015-cifar")),
    "photos": Experiment(None, ("--recipe", "photos")),
}
SPLITS = ("val", "test")


def main() -> None:
    args, extra = arguments()
    experiment = EXPERIMENTS[args.experiment]
    data = args.data or experiment.data
    if data is None:
        sys.exit(f"error: {args.experiment} needs --data\nhint: the folder of class folders to train on")
    settings = [*experiment.settings, *(("--data-root", args.data_root) if args.data_root else ()), *extra]
    path = Path(args.out or RESULTS / f"learning_{args.experiment}.json")
    # The results file is to be read elsewhere too: it names the folders by their last part.
    shown = ["striate", "train", Path(data).name, *experiment.settings, *extra]
    result = provenance("benchmarks/learning.py")
    result |= {
        "experiment": args.experiment,
        "command": shown,
        "versions": versions(sys.executable, ("striate", "torch", "torchvision", "numpy"), ("striate",)),
        "runs": former_runs(path, shown) if args.append else [],
    }
    done = {run["seed"] for run in result["runs"]}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        if seed in done:
            say(f"seed {seed}: already in {path.name}")
            continue
        run = train_once(data, settings, seed, args)
        say(f"seed {seed}: {told(run)}")
        result["runs"].append({"seed": seed, "revision": result["revision"], **run})
        result["summary"] = summary(result["runs"])
        write_result(path, result)
    print(table(result))
    if any("error" in run for run in result["runs"]):
        sys.exit(1)


def train_once(data: str, settings: list[str], seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training, whole process; its scores, or the end of its error message."""
    with tempfile.TemporaryDirectory(prefix="learning-") as scratch:
        folder = Path(args.keep_runs) / f"{args.experiment}-{seed}" if args.keep_runs else Path(scratch) / "run"
        command = [*striate_command(), "train", data, *settings, "--seed", str(seed), "--run-dir", str(folder)]
        finished = run_process([*command, "--json"], keep_path=True)
    answer = finished.json
    if finished.returncode or answer is None:
        return {**finished.costs(), "exit": finished.returncode, "error": tail(finished.err or finished.out)}
    record = {**finished.costs(), "model": answer["model"], "epochs": answer["epochs"], "seconds": answer["seconds"]}
    for split in SPLITS:
        if answer.get(split):
            record[split] = {key: answer[split].get(key) for key in ("top1", "top5", "loss", "n")}
            record[split]["errors"] = round((1 - answer[split]["top1"]) * answer[split]["n"])
    return record


def told(run: dict[str, Any]) -> str:
    """A run in one line."""
    if "error" in run:
        return f"failed (exit {run['exit']}): {run['error']}"
    scores = [f"{split} {run[split]['top1']:.4f} ({run[split]['errors']} errors)" for split in SPLITS if split in run]
    return f"{', '.join(scores)}, {run['epochs']} epochs, {run['seconds']:.1f} s training"


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread over the seeds of every figure; failed runs are counted, never averaged over in silence."""
    good = [run for run in runs if "error" not in run]
    figures: dict[str, Any] = {"failed": len(runs) - len(good)}
    if not good:
        return figures
    for key in ("seconds", "wall_seconds"):
        figures[key] = spread([run[key] for run in good])
    for split in SPLITS:
        if all(split in run for run in good):
            keys = [key for key in good[0][split] if all(run[split][key] is not None for run in good)]
            figures[split] = {key: spread([run[split][key] for run in good]) for key in keys}
    return figures


def former_runs(path: Path, command: list[str]) -> list[dict[str, Any]]:
    """The good runs of an earlier result file, if they were made by the same command."""
    if not path.exists():
        return []
    former = json.loads(path.read_text(encoding="utf-8"))
    if former["command"] != command:
        sys.exit(
            f"error: {path.name} holds another experiment: {' '.join(former['command'])}\nhint: leave out --append"
        )
    return [run for run in former["runs"] if "error" not in run]


def table(result: dict[str, Any]) -> str:
    """The Markdown row that docs/results.md quotes: mean ± standard deviation over the seeds."""
    figures, good = result["summary"], [run for run in result["runs"] if "error" not in run]
    if not good:
        return f"{result['experiment']}: every run failed"
    head = ["experiment", "network", "epochs", "seeds"]
    row: list[Any] = [result["experiment"], good[0]["model"]]
    row += [round(statistics.median(run["epochs"] for run in good)), len(good)]
    for split in SPLITS:
        if split in figures:
            head += [f"{split} top-1", f"{split} errors"]
            row += [plus_minus(figures[split]["top1"], lambda value: f"{100 * value:.2f}") + " %"]
            row += [plus_minus(figures[split]["errors"], lambda value: f"{value:.1f}") + f" of {good[0][split]['n']:,}"]
    for name, key in (("training, s", "seconds"), ("whole process, s", "wall_seconds")):
        head.append(name)
        row.append(plus_minus(figures[key], lambda value: f"{value:.1f}"))
    if figures["failed"]:
        head.append("failed runs")
        row.append(figures["failed"])
    return f"`{' '.join(result['command'])}`\n\n" + markdown_table(head, [row])


def plus_minus(figure: dict[str, Any], written: Callable[[float], str]) -> str:
    """Mean ± standard deviation, as `written` writes a number."""
    return written(figure["mean"]) + (f" ± {written(figure['sd'])}" if figure["sd"] is not None else "")


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """Our own options, and after `--` those that are handed on to `striate train`."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What follows -- is handed to `striate train`, and recorded: … lenet5 -- --epochs 3",
    )
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--data-root", help="folder with the named data sets, as for `striate train`")
    parser.add_argument("--data", help="the data itself, in place of the experiment's name for it")
    parser.add_argument("--append", action="store_true", help="keep the seeds that the result file already has")
    parser.add_argument("--keep-runs", metavar="DIR", help="keep the run folders here [thrown away]")
    parser.add_argument("--out", help="result file [benchmarks/results/learning_<experiment>.json]")
    given, extra = sys.argv[1:], []
    if "--" in given:
        cut = given.index("--")
        given, extra = given[:cut], given[cut + 1 :]
    return parser.parse_args(given), extra


if __name__ == "__main__":
    main()
