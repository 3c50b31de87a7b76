"""Do plain networks get worse with depth, and residual ones better?

He et al. 2015 (arXiv:1512.03385), sec. 4.2 and fig. 6, on CIFAR-10: plain and residual networks of equal parameters and
operations are trained alike, by the recipe `degradation`, one `striate train … --json` each, kept at every epoch. What
is recorded, in per cent: the training error as each epoch saw it (distorted images, weights still moving), the test
error of the weights at its end, and at last the training error of the final weights on the images as they are.

    python benchmarks/degradation.py --data-root DIR [--epochs 182] [--depths 20 56] [--seeds 1]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
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

import striate

KINDS = ("plain", "resnet")
DEPTHS = (20, 32, 44, 56)  # those that exist of both kinds
FINAL = ("train_error", "test_error", "train_error_still")


def main() -> None:
    args, extra = arguments()
    networks = [f"cifar_{kind}{depth}" for depth in args.depths for kind in KINDS]
    settings = ["--recipe", "degradation", *(["--epochs", str(args.epochs)] if args.epochs else []), *extra]
    path = Path(args.out or RESULTS / "degradation.json")
    shown = [
        "striate",
        "train",
        Path(args.data).name,
        *settings,
    ]  # to be read elsewhere too: folders by their last part
    result = provenance("benchmarks/degradation.py")
    result |= {
        "command": [*shown, "--model", "NETWORK", "--seed", "SEED", "--snapshots", str(args.every)],
        "versions": versions(sys.executable, ("striate", "torch", "numpy"), ("striate",)),
        "runs": former_runs(path, shown) if args.append else [],
    }
    done = {(run["network"], run["seed"]) for run in result["runs"]}
    root = ["--data-root", args.data_root] if args.data_root else []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for network in networks:
            if (network, seed) in done:
                say(f"{network}, seed {seed}: already in {path.name}")
                continue
            words = [args.data, *settings, *root, "--model", network, "--seed", str(seed), "--snapshots"]
            run = train_once([*words, str(args.every)])
            result["runs"].append({"network": network, "seed": seed, "revision": result["revision"], **run})
            say(f"{network}, seed {seed}: {told(run)}")
            result["summary"] = summary(result["runs"])
            write_result(path, result)
    print(table(result))
    if any("error" in run for run in result["runs"]):
        sys.exit(1)


def train_once(words: list[str]) -> dict[str, Any]:
    """One training and the errors of its weights as they moved, or the end of its error message."""
    with tempfile.TemporaryDirectory(prefix="degradation-") as scratch:
        folder = Path(scratch) / "run"
        command = [*striate_command(), "train", *words, "--run-dir", str(folder), "--no-report", "--json"]
        finished = run_process(command, keep_path=True)
        answer = finished.json
        if finished.returncode or answer is None:
            return {**finished.costs(), "exit": finished.returncode, "error": tail(finished.err or finished.out)}
        record = {**finished.costs(), "epochs": answer["epochs"], "seconds": answer["seconds"]}
        return record | errors(folder)


def errors(folder: Path) -> dict[str, Any]:
    """`curve`: errors by epoch in per cent; `final`: those of the last epoch."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = {row["epoch"]: row for row in rows if row["kind"] == "epoch"}
    precision = json.loads((folder / "environment.json").read_text(encoding="utf-8"))["precision"]
    dataset = data_of(folder)
    split = "test" if "test" in dataset.splits else "val"

    def error(weights: Path, images: str) -> float:
        scored = striate.evaluate(weights, dataset, split=images, precision=precision, progress=False)
        return round(100 * (1 - scored.scores.top1), 4)

    kept = {
        int(path.stem.removeprefix("epoch-")): path
        for path in sorted((folder / "snapshots").glob("epoch-????.safetensors"))
    }
    curve = [
        {
            "epoch": epoch,
            "train_error": round(100 * (1 - row["train_top1"]), 4),
            "train_loss": round(row["train_loss"], 5),
            **({"test_error": error(kept[epoch], split)} if epoch in kept else {}),
        }
        for epoch, row in sorted(epochs.items())
    ]
    weights = folder / "model.safetensors"  # the recipe keeps the last epoch
    final = {
        "train_error": curve[-1]["train_error"],
        "test_error": error(weights, split),
        "train_error_still": error(weights, "train"),
    }
    images = {"train": len(dataset.splits["train"]), split: len(dataset.splits[split])}
    return {"scored_on": split, "images": images, "final": final, "curve": curve}


def data_of(folder: Path) -> Any:
    """The images that the run was trained on, split as it split them."""
    import tomllib

    recipe = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
    return striate.load_data(progress=False, **recipe["data"])


def told(run: dict[str, Any]) -> str:
    """A run in one line."""
    if "error" in run:
        return f"failed (exit {run['exit']}): {run['error']}"
    final = run["final"]
    return (
        f"training error {final['train_error']:.2f} % ({final['train_error_still']:.2f} % undistorted), "
        f"{run['scored_on']} error {final['test_error']:.2f} %, {run['epochs']} epochs, {run['seconds']:.0f} s"
    )


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread over the seeds, by network; failed runs are counted, never averaged over in silence."""
    figures: dict[str, Any] = {"failed": sum("error" in run for run in runs), "networks": {}}
    for network in dict.fromkeys(run["network"] for run in runs):
        good = [run for run in runs if run["network"] == network and "error" not in run]
        if good:
            figures["networks"][network] = {
                **{name: spread([run["final"][name] for run in good]) for name in FINAL},
                "seconds": spread([run["seconds"] for run in good]),
            }
    return figures


def former_runs(path: Path, command: list[str]) -> list[dict[str, Any]]:
    """The good runs of an earlier result file, if they were made by the same command."""
    if not path.exists():
        return []
    former = json.loads(path.read_text(encoding="utf-8"))
    if former["command"][: len(command)] != command:
        sys.exit(
            f"error: {path.name} holds another experiment: {' '.join(former['command'])}\nhint: leave out --append"
        )
    return [run for run in former["runs"] if "error" not in run]


def table(result: dict[str, Any]) -> str:
    """Markdown: mean ± standard deviation over the seeds, a row for each network."""
    good = [run for run in result["runs"] if "error" not in run]
    if not good:
        return "every run failed"
    rows = []
    for network, figures in result["summary"]["networks"].items():
        epochs = max(run["epochs"] for run in good if run["network"] == network)
        errors = [f"{plus_minus(figures[name])} %" for name in FINAL]
        rows.append([network, figures["seconds"]["n"], epochs, *errors, f"{figures['seconds']['mean']:.0f}"])
    head = ["network", "seeds", "epochs", "training error, last epoch", f"{good[0]['scored_on']} error"]
    head += ["training error, undistorted", "training, s"]
    failed = result["summary"]["failed"]
    return (
        f"`{' '.join(result['command'])}`\n\n"
        + markdown_table(head, rows)
        + (f"\n\n{failed} runs failed" if failed else "")
    )


def plus_minus(figure: dict[str, Any]) -> str:
    """Mean ± standard deviation."""
    return f"{figure['mean']:.2f}" + (f" ± {figure['sd']:.2f}" if figure["sd"] is not None else "")


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """Our own options, and after `--` those that are handed on to `striate train`."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What follows -- is handed to `striate train`, and recorded: … --epochs 4 -- --limit 400",
    )
    parser.add_argument("--epochs", type=int, help="[182, the paper's 64k steps]; the rate drops at half and 3/4 of it")
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 56], choices=DEPTHS)
    parser.add_argument("--every", type=int, default=1, help="epochs between measurements of the test error")
    parser.add_argument("--seeds", type=int, default=1, help="how many; the paper shows one run of each")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--data", default="cifar10", help="other images, for trying it out")
    parser.add_argument("--data-root", help="folder with the named data sets, as for `striate train`")
    parser.add_argument("--append", action="store_true", help="keep the runs that the result file already has")
    parser.add_argument("--out", help="result file [benchmarks/results/degradation.json]")
    given, extra = sys.argv[1:], []
    if "--" in given:
        cut = given.index("--")
        given, extra = given[:cut], given[cut + 1 :]
    return parser.parse_args(given), extra


if __name__ == "__main__":
    main()
