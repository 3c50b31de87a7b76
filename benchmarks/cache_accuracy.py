"""Does decoding photos at reduced scale for training cost accuracy?

The recipe `photos` with `--reduced-decoding` and with `--no-reduced-decoding`, one process per seed and side, in turn.
Evaluations decode all pixels on both sides.
"""

from __future__ import annotations

import argparse
import os
import statistics
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

SIDES = {"reduced": "--reduced-decoding", "whole": "--no-reduced-decoding"}


def main() -> None:
    args, extra = arguments()
    result = provenance("benchmarks/cache_accuracy.py")
    result |= {"data": Path(args.data).name, "settings": settings(args, extra), "runs": []}
    result["versions"] = versions(sys.executable, ("striate", "torch", "pillow"), ("striate",))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STRIATE_CACHE"] = str(Path(folder) / "cache")
        for seed in range(args.seeds):
            for side in (*SIDES,) if seed % 2 == 0 else (*reversed(SIDES),):
                command = [*striate_command(), "train", args.data, *settings(args, extra), SIDES[side]]
                command += ["--seed", str(seed), "--run-dir", str(Path(folder) / f"{side}-{seed}"), "--json"]
                done = run_process(command, timeout=args.timeout, keep_path=True)
                record = outcome(done.json) if done.returncode == 0 and done.json else {"error": tail(done.err)}
                say(f"seed {seed}, {side}: {record}")
                result["runs"].append({"seed": seed, "side": side, **record, **done.costs()})
                result["summary"] = summary(result["runs"])
                write_result(Path(args.out), result)
    rows = [
        (side, row["n"], *(f"{100 * row[key]:.2f}" for key in ("mean", "min", "max")))
        for side, row in result["summary"]["top1"].items()
    ]
    print(markdown_table(("decoding", "seeds", "val top-1, % (last epoch)", "least", "greatest"), rows))
    print(f"reduced minus whole, by seed: {result['summary']['differences']}")


def settings(args: argparse.Namespace, extra: list[str]) -> list[str]:
    """What both sides train with; the last epoch counts, so that none is chosen by its score."""
    chosen = ["--recipe", "photos", "--input-size", str(args.input_size), "--best-by", "last", "--no-report"]
    return [*chosen, *(["--epochs", str(args.epochs)] if args.epochs else []), *extra]


def outcome(found: dict[str, Any]) -> dict[str, Any]:
    """The scores of one training."""
    return {"top1": found["val"]["top1"], "loss": found["val"]["loss"], "training_seconds": found["seconds"]}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy by side, and the difference of each seed."""
    by_side = {
        side: {run["seed"]: run["top1"] for run in runs if run["side"] == side and "top1" in run} for side in SIDES
    }
    both = sorted(by_side["reduced"].keys() & by_side["whole"].keys())
    differences = [round(by_side["reduced"][seed] - by_side["whole"][seed], 4) for seed in both]
    return {
        "top1": {side: spread(list(values.values())) for side, values in by_side.items() if values},
        "differences": differences,
        "mean_difference": statistics.fmean(differences) if differences else None,
    }


def arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, epilog="What follows -- goes to striate train.")
    parser.add_argument("--data", default="../shared/data/photos", help="folder of class folders")
    parser.add_argument(
        "--input-size", type=int, default=96, help="less than 7/16 of the photos' short side, or nothing is reduced"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="[the recipe's]")
    parser.add_argument("--timeout", type=float, default=7200.0)
    parser.add_argument("--out", default=str(RESULTS / "cache_accuracy.json"))
    words = sys.argv[1:]
    own, extra = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    return parser.parse_args(own), extra


if __name__ == "__main__":
    main()
