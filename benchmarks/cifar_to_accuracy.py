"""How long from a cold start to a network with at least 94 % CIFAR-10 test accuracy, whole process?

Ours is `striate train --recipe cifar10-94` from the start of the process to its exit, the report written; it meets the
test images once, at the end. The peer is the same recipe in plain PyTorch (peers/cifar_pytorch.py): the same network,
batches, epochs and optimisers, with DataLoader and torchvision's transforms. All run in turn, repeated; see README.md.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import (
    BENCHMARKS,
    RESULTS,
    markdown_table,
    provenance,
    run_process,
    say,
    spread,
    striate_command,
    versions,
    write_result,
)
from time_to_accuracy import environment_phases, failed

RECIPE, TARGET, LIMIT_MINUTES = "cifar10-94", 0.94, 20
# What a peer adds to its script: eager float32 as PyTorch comes, or what its documentation advises for processors.
PEERS = {"pytorch": (), "pytorch-workers": ("--workers", "2"), "pytorch-tuned": ("--tuned",)}


def main() -> None:
    args = arguments()
    result = provenance("benchmarks/cifar_to_accuracy.py")
    result |= {"recipe": RECIPE, "target": TARGET, "repeats": args.repeats, "limit": args.limit, "runs": []}
    packages = ("striate", "torch", "torchvision", "numpy", "pillow", "pyarrow")
    result["versions"] = versions(sys.executable, packages, ("striate", "torch", "torchvision", "pyarrow"))
    if "error" in result["versions"]:
        sys.exit(f"error: {result['versions']['error']}\nhint: install striate, or set PYTHONPATH=src")
    names = ["striate", *args.peers]
    for repeat in range(args.repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            done = measure_ours(args, repeat) if name == "striate" else measure_peer(name, args, repeat)
            say(f"repeat {repeat + 1}/{args.repeats} {name}: {told(done)}")
            result["runs"].append({"name": name, "repeat": repeat, **done})
            result["summary"] = summary(result["runs"], names)
            write_result(Path(args.out), result)
    print(table(result["summary"]))


def measure_ours(args: argparse.Namespace, repeat: int) -> dict[str, Any]:
    """One training from nothing to the report; then, outside the clock, the score of a single look at each image."""
    work = Path(tempfile.mkdtemp(prefix="cifar-to-accuracy-"))
    try:
        command = [*striate_command(), "train", "--recipe", RECIPE, "--data-root", args.data_root]
        command += ["--run-dir", str(work / "run"), "--seed", str(repeat), "--json"]
        if args.limit:
            command += ["--limit", str(args.limit), "--batch-size", str(args.limit // 2), "--epochs", "1"]
        done = run_process(command, timeout=args.timeout, keep_path=True)
        answer = done.json
        if done.returncode or answer is None:
            return failed(done)
        again = run_process([*striate_command(), "evaluate", str(work / "run"), "--json"], keep_path=True).json
        single = again["top1"] if again else None
        return {
            **done.costs(),
            "protocol": answer["protocol"],
            "test": {"single": single, "flip+shift": answer["test"]["top1"]},
            "val_top1": answer["val"]["top1"],
            "seconds": {"train": answer["seconds"], **environment_phases(work / "run")},
        }
    finally:
        shutil.rmtree(work, ignore_errors=True)


def measure_peer(name: str, args: argparse.Namespace, repeat: int) -> dict[str, Any]:
    """The same number of epochs in plain PyTorch, and the test images once."""
    command = [sys.executable, str(BENCHMARKS / "peers" / "cifar_pytorch.py"), "--data", args.data_root]
    command += ["--seed", str(repeat), "--max-epochs", "1" if args.limit else str(args.epochs), *PEERS[name]]
    if args.limit:
        command += ["--limit", str(args.limit)]
    done = run_process(command, timeout=args.timeout)
    answer = done.json
    if done.returncode or answer is None:
        return failed(done)
    return {**done.costs(), "test": answer["test"], "seconds": answer["seconds"]}


def told(run: dict[str, Any]) -> str:
    """A run in one line."""
    if "error" in run:
        return f"failed (exit {run['exit']}) after {run['wall_seconds']:.1f} s: {run['error']}"
    return (
        f"{run['wall_seconds']:.1f} s, {run['test']['flip+shift']:.4f} of 6 views, {run['test']['single']:.4f} of one"
    )


def summary(runs: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """By program: seconds and accuracies with their spread, and the median of its seconds over ours by repeat."""
    whole = [run for run in runs if "error" not in run]
    ours = {run["repeat"]: run["wall_seconds"] for run in whole if run["name"] == "striate"}
    result: dict[str, Any] = {}
    for name in names:
        own = [run for run in whole if run["name"] == name]
        if not own:
            continue
        ratios = [run["wall_seconds"] / ours[run["repeat"]] for run in own if run["repeat"] in ours]
        result[name] = {
            "seconds": spread([run["wall_seconds"] for run in own]),
            "median_seconds": statistics.median(run["wall_seconds"] for run in own),
            "test_6_views": spread([run["test"]["flip+shift"] for run in own]),
            "test_single": spread([run["test"]["single"] for run in own]),
            "at_target": sum(run["test"]["flip+shift"] >= TARGET for run in own),
            "within_the_limit": sum(run["wall_seconds"] <= 60 * LIMIT_MINUTES for run in own),
            "times_ours": statistics.median(ratios) if ratios else None,
        }
    return result


def table(figures: dict[str, Any]) -> str:
    """The summary as Markdown."""
    head = ("program", "median s", "times ours", "test, 6 views", "test, one look", f"at {TARGET:.0%}", "runs")
    rows = [
        (
            name,
            f"{one['median_seconds']:.0f}",
            "–" if one["times_ours"] is None else f"{one['times_ours']:.2f}",
            f"{one['test_6_views']['mean']:.2%}",
            f"{one['test_single']['mean']:.2%}",
            one["at_target"],
            one["seconds"]["n"],
        )
        for name, one in figures.items()
    ]
    return markdown_table(head, rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, help="folder that holds cifar-10-batches-py")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=11, help="of the peers: those of the recipe")
    parser.add_argument("--peers", default="pytorch", help=f"comma-separated, or none: {', '.join(PEERS)}")
    parser.add_argument("--timeout", type=float, default=3 * 3600, help="seconds after which a run is ended")
    parser.add_argument("--limit", type=int, help="a few images only, to try the script; measures nothing")
    parser.add_argument("--out", default=str(RESULTS / "cifar_to_accuracy.json"))
    args = parser.parse_args()
    args.peers = [] if args.peers == "none" else args.peers.split(",")
    for name in args.peers:
        if name not in PEERS:
            parser.error(f"no peer {name!r}; there are {', '.join(PEERS)}")
    args.data_root = str(Path(args.data_root).resolve())
    return args


if __name__ == "__main__":
    main()
