"""Transfer to a folder of photos: `striate train PHOTOS --from squeezenet1_1:FILE` beside fastai and torchvision.

The same file of weights, the same photos, each program's usual way, whole processes from the start to the exit, all in
turn, repeated. The classes are called `class-0` and so on: ours keeps what a network knows of classes that it knows by
name, which peers cannot; with their own names it is measured apart. Peers tell their validation accuracy after each
epoch and when it was, so that the seconds to any accuracy are known too; see README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import (
    BENCHMARKS,
    RESULTS,
    Finished,
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
from photo_folders import renamed_classes
from time_to_accuracy import environment_phases
from transfer_plan import decided
from transfer_summary import half_width

OURS, KNOWN = "striate", "striate, classes known by name"


@dataclass(frozen=True)
class Peer:
    """A peer's script and settings; `library` picks its interpreter."""

    script: str
    library: str
    settings: tuple[str, ...]


_TUTORIAL, _TUNED = ("--epochs", "8"), ("--epochs", "5", "--style", "tuned")
PEERS = {
    "fastai, fine_tune(1)": Peer("transfer_fastai.py", "fastai", ("--epochs", "1")),
    "fastai, fine_tune(4)": Peer("transfer_fastai.py", "fastai", ("--epochs", "4")),
    "torchvision, head": Peer("transfer_torchvision.py", "torchvision", (*_TUTORIAL, "--frozen")),
    "torchvision, all": Peer("transfer_torchvision.py", "torchvision", _TUTORIAL),
    "torchvision tuned, head": Peer("transfer_torchvision.py", "torchvision", (*_TUNED, "--frozen")),
    "torchvision tuned, all": Peer("transfer_torchvision.py", "torchvision", _TUNED),
}
MODULES = {"fastai": ("fastai.vision.all",), "torchvision": ("torch", "torchvision")}
PACKAGES = {"fastai": ("fastai", "torch", "torchvision"), "torchvision": ("torch", "torchvision", "pillow")}


def main() -> None:
    args = arguments()
    result = provenance("benchmarks/transfer_peers.py")
    result |= {"data": args.data.name, "weights": args.weights.name, "repeats": args.repeats}
    result |= {"settings": {name: peer.settings for name, peer in PEERS.items()}, "runs": [], "missing": {}}
    names = find_programs(args, result)
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transfer-peers-")))
        args.renamed = renamed_classes(args.data, work / "photos")
        for repeat in range(args.repeats):
            turn = repeat % len(names)
            for name in names[turn:] + names[:turn]:  # another one is first each time, so that drift falls on all alike
                measure = measure_peer if name in PEERS else measure_ours
                run = measure(name, repeat, args, work)
                say(f"repeat {repeat + 1}/{args.repeats} {name}: {told(run)}")
                result["runs"].append({"name": name, "repeat": repeat, **run})
                result["summary"] = summary(result["runs"])
                write_result(Path(args.out), result)
    print(tables(result))


def find_programs(args: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    """Who can run here; versions, and the reason of those who cannot, go into the result."""
    ours = versions(sys.executable, ("striate", "torch", "torchvision", "scikit-learn"), ("striate", "torch"))
    if "error" in ours:
        sys.exit(f"error: {ours['error']}\nhint: install striate, or set PYTHONPATH=src")
    result["versions"] = {OURS: ours}
    for library in dict.fromkeys(PEERS[name].library for name in args.peers):
        found = versions(args.python_of[library], PACKAGES[library], MODULES[library])
        result["missing" if "error" in found else "versions"][library] = found.get("error", found)
        if "error" in found:
            say(f"{library}: missing: {found['error']}")
    peers = [name for name in args.peers if PEERS[name].library not in result["missing"]]
    return [OURS, KNOWN, *(f"{OURS} {flags}" for flags in args.variant), *peers]


def measure_ours(name: str, repeat: int, args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One `striate train`, from nothing to the report: no cache of an earlier run."""
    run, cache = work / "run", work / "cache"
    for folder in (run, cache):
        shutil.rmtree(folder, ignore_errors=True)
    os.environ["STRIATE_CACHE"] = str(cache)
    data, flags = (args.data, "") if name == KNOWN else (args.renamed, name.removeprefix(OURS))
    command = [*striate_command(), "train", str(data), "--from", f"squeezenet1_1:{args.weights}", "--json"]
    command += ["--run-dir", str(run), "--seed", str(repeat), *shlex.split(flags)]
    done = run_process(command, timeout=args.timeout, keep_path=True)
    answer = done.json
    if done.returncode or answer is None:
        return failed(done)
    val = answer["val"]
    return {
        **done.costs(),
        "accuracy": val["top1"],
        "n": val["n"],
        "chosen": decided(run),
        "seconds": {"train": answer["seconds"], **environment_phases(run).get("phases", {})},
    }


def measure_peer(name: str, repeat: int, args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One peer; its accuracy is that of its best epoch, which favours it where it keeps the last."""
    peer = PEERS[name]
    command = [args.python_of[peer.library], str(BENCHMARKS / "peers" / peer.script), "--data"]
    command += [str(args.renamed), "--weights", str(args.weights), "--seed", str(repeat), *peer.settings]
    if args.epochs:
        command += ["--epochs", str(args.epochs)]
    done = run_process(command, timeout=args.timeout)
    answer = done.json
    if done.returncode or answer is None:
        return failed(done)
    return {
        **done.costs(),
        "accuracy": max(answer["accuracies"]),
        "last_accuracy": answer["accuracies"][-1],
        "accuracies": answer["accuracies"],
        "epoch_ends": answer["epoch_ends"],
        "seconds": answer["phases"],
    }


def failed(done: Finished) -> dict[str, Any]:
    """A run without a result, and why."""
    return {**done.costs(), "exit": done.returncode, "error": tail(done.err or done.out)}


def told(run: dict[str, Any]) -> str:
    """A run in one line."""
    if "error" in run:
        return f"failed (exit {run['exit']}) after {run['wall_seconds']:.1f} s: {run['error']}"
    chosen = f", chose {run['chosen']}" if "chosen" in run else ""
    return f"{run['accuracy']:.4f} in {run['wall_seconds']:.1f} s{chosen}"


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By program: seconds and accuracy with their spread, seconds over ours, and seconds to our accuracy."""
    good = [run for run in runs if "error" not in run]
    ours = {run["repeat"]: run for run in good if run["name"] == OURS}
    figures: dict[str, Any] = {}
    for name in dict.fromkeys(run["name"] for run in runs):
        own = [run for run in good if run["name"] == name]
        if not own:
            figures[name] = {"failed": sum(run["name"] == name for run in runs)}
            continue
        beside = [(run, ours[run["repeat"]]) for run in own if run["repeat"] in ours]
        one: dict[str, Any] = {
            "seconds": spread([run["wall_seconds"] for run in own]),
            "median_seconds": statistics.median(run["wall_seconds"] for run in own),
            "accuracy": spread([run["accuracy"] for run in own]),
            "times_ours": median([run["wall_seconds"] / mine["wall_seconds"] for run, mine in beside]),
            "accuracy_minus_ours": median([run["accuracy"] - mine["accuracy"] for run, mine in beside]),
        }
        if name in PEERS:
            reached = [seconds_to(run, mine["accuracy"]) for run, mine in beside]
            known = [seconds for seconds in reached if seconds is not None]
            one["seconds_to_our_accuracy"] = reached
            one["reached_our_accuracy"] = f"{len(known)} of {len(reached)}"
        figures[name] = one
    return figures


def median(values: list[float]) -> float | None:
    """The median, or null where there is nothing to compare."""
    return statistics.median(values) if values else None


def seconds_to(run: dict[str, Any], accuracy: float) -> float | None:
    """When a peer's epoch of at least this accuracy ended; None where none was."""
    pairs = zip(run["accuracies"], run["epoch_ends"], strict=True)
    return next((seconds for reached, seconds in pairs if reached >= accuracy - 1e-9), None)


def tables(result: dict[str, Any]) -> str:
    """The Markdown that docs quote."""
    head = ["program", "val accuracy, % (least to greatest)", "median s", "least–greatest s", "times ours"]
    head += ["came to our accuracy"]
    rows = []
    for name, one in result["summary"].items():
        if "seconds" not in one:
            rows.append([name, "failed", "", "", "", ""])
            continue
        accuracy, seconds = one["accuracy"], one["seconds"]
        rows.append(
            [
                name,
                f"{100 * accuracy['mean']:.1f} ({100 * accuracy['min']:.1f} to {100 * accuracy['max']:.1f})",
                f"{one['median_seconds']:.1f}",
                f"{seconds['min']:.1f}–{seconds['max']:.1f}",
                "–" if one["times_ours"] is None else f"{one['times_ours']:.2f}",
                one.get("reached_our_accuracy", ""),
            ]
        )
    machine = result["machine"]
    lines = [f"{machine['cpu']}, {machine['cores']} cores, {result['date'][:10]}, {result['revision']}", ""]
    lines.append(markdown_table(head, rows))
    ours = next((run for run in result["runs"] if run["name"] == OURS and "n" in run), None)
    if ours:
        chance = 100 * half_width(round(ours["accuracy"] * ours["n"]), ours["n"])
        lines += ["", f"{ours['n']} validation images: ± {chance:.1f} points of chance at 95 %."]
    return "\n".join(lines + [f"missing: {name}: {why}" for name, why in result["missing"].items()])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/photos", help="folder with train/CLASS and val/CLASS")
    parser.add_argument("--weights", default="../shared/data/weights/squeezenet1_1_caffe_rgbnorm.pth")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--peers", action="append", metavar="NAME", help=f"several times, or none; [all]: {'; '.join(PEERS)}"
    )
    parser.add_argument(
        "--variant", action="append", default=[], metavar="FLAGS", help="ours once more with these flags of `train`"
    )
    parser.add_argument(
        "--python-of", action="append", default=[], metavar="LIBRARY=PYTHON", help="of fastai or torchvision"
    )
    parser.add_argument("--epochs", type=int, help="of every peer, to try the script [each its own]")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds after which a run is ended")
    parser.add_argument("--out", default=str(RESULTS / "transfer_peers.json"))
    args = parser.parse_args()
    args.peers = [] if args.peers == ["none"] else args.peers or list(PEERS)
    for name in args.peers:
        if name not in PEERS:
            parser.error(f"no peer {name!r}; there are {'; '.join(PEERS)}")
    pairs = (item.partition("=") for item in args.python_of)
    args.python_of = dict.fromkeys(MODULES, sys.executable) | {library: python for library, _, python in pairs}
    args.data, args.weights = Path(args.data).resolve(), Path(args.weights).resolve()
    return args


if __name__ == "__main__":
    main()
