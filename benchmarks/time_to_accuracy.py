"""How long from a cold start to a network with at least 99.0 % MNIST test accuracy, whole process?

Ours is `striate train mnist` from the start of the process to its exit, the report written; its settings were chosen on
the validation split and it meets the test images once, at the end. Each peer looks at the test images after every epoch
and exits after the first one at the target. All run in turn, repeated; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
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
    striate_command,
    tail,
    versions,
    write_result,
)
from mnist_layouts import prepare

# Ours: chosen on the validation split (see docs/results.md). The seed is added: the number of the repeat.
OUR_SETTINGS = ["--model", "compact_xs", "--epochs", "1", "--batch-size", "128", "--lr", "0.45", "--rise", "0.15"]
OUR_SETTINGS += ["--preset", "none", "--shift", "1", "--label-smoothing", "0.1"]

TARGET = 0.99
MAX_EPOCHS = 20


@dataclass(frozen=True)
class Peer:
    """A peer's script and settings; `library` picks its interpreter, `data` the prepared form of the images."""

    script: str
    library: str
    data: str
    modules: tuple[str, ...]
    packages: tuple[str, ...]
    settings: tuple[str, ...] = ()


_PYTORCH = Peer(
    script="mnist_pytorch.py",
    library="pytorch",
    data="raw",
    modules=("torch", "torchvision"),
    packages=("torch", "torchvision", "numpy", "pillow"),
)
_KERAS = Peer(
    script="mnist_keras.py",
    library="keras",
    data="mnist.npz",
    modules=("tensorflow", "keras"),
    packages=("keras", "tensorflow-cpu", "numpy"),
)
_LIGHTNING = Peer(
    script="mnist_lightning.py",
    library="lightning",
    data="raw",
    modules=("lightning", "torchvision"),
    packages=("lightning", "torch", "torchvision", "numpy", "pillow"),
)
PEERS = {
    "pytorch": _PYTORCH,
    "pytorch-workers": replace(_PYTORCH, settings=("--workers", "2")),
    "pytorch-example-net": replace(_PYTORCH, settings=("--net", "example")),
    "lightning": _LIGHTNING,
    "lightning-workers": replace(_LIGHTNING, settings=("--workers", "2")),
    "keras": _KERAS,
    "keras-convnet": replace(_KERAS, settings=("--net", "convnet")),
    "fastai": Peer(
        script="mnist_fastai.py",
        library="fastai",
        data="png",
        modules=("fastai.vision.all",),
        packages=("fastai", "torch", "torchvision", "numpy", "pillow"),
        settings=("--cycle", "3", "--lr", "1e-2"),  # of the cycles tried, the one that got there first
    ),
}
DEFAULT_PEERS = ("pytorch", "lightning", "keras", "keras-convnet", "fastai")


def main() -> None:
    args = arguments()
    work = Path(args.work) if args.work else Path(tempfile.mkdtemp(prefix="time-to-accuracy-"))
    try:
        run(args, work)
    finally:
        if not args.work:
            shutil.rmtree(work, ignore_errors=True)


def run(args: argparse.Namespace, work: Path) -> None:
    """Prepare, measure in turn, write after every run, print the table."""
    result = provenance("benchmarks/time_to_accuracy.py")
    result |= {"target": args.target, "max_epochs": args.max_epochs, "repeats": args.repeats, "limit": args.limit}
    result |= {"our_settings": OUR_SETTINGS, "versions": {}, "missing": {}, "runs": []}
    names = find_programs(args, result)
    prepare(Path(args.data_root), work, {PEERS[name].data for name in names if name != "striate"})
    for repeat in range(args.repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:  # another one is first each time, so that drift falls on all alike
            record = measure_ours(args, work, repeat) if name == "striate" else measure_peer(name, args, work, repeat)
            say(f"repeat {repeat + 1}/{args.repeats} {name}: {told(record)}")
            result["runs"].append({"name": name, "repeat": repeat, **record})
            result["summary"] = summary(result["runs"], names)
            write_result(Path(args.out), result)
    print(tables(result))


def find_programs(args: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    """Who can run here: versions into the result, those who cannot into its `missing`, with the reason.

    Each is imported once, so that the first one measured does not alone pay for reading cold files.
    """
    packages = ("striate", "torch", "torchvision", "numpy", "pillow", "pyarrow")
    found = {"striate": versions(args.python_of["striate"], packages, ("striate", "torch", "pyarrow"))}
    for name in args.peers:
        peer = PEERS[name]
        found[name] = versions(args.python_of[peer.library], peer.packages, peer.modules)
    for name, record in found.items():
        if "error" in record:
            result["missing"][name] = record["error"]
            say(f"{name}: missing: {record['error']}")
        else:
            result["versions"][name] = record
    if "striate" in result["missing"]:
        sys.exit("error: striate itself cannot be imported\nhint: install it, or set PYTHONPATH=src")
    return [name for name in found if name not in result["missing"]]


def measure_ours(args: argparse.Namespace, work: Path, repeat: int) -> dict[str, Any]:
    """One `striate train mnist`, from nothing to the report."""
    folder = work / f"run-{repeat}"
    shutil.rmtree(folder, ignore_errors=True)
    command = [*striate_command(args.python_of["striate"]), "train", "mnist", "--data-root", args.data_root]
    command += ["--run-dir", str(folder), "--seed", str(repeat), *OUR_SETTINGS, "--json"]
    if args.limit:
        command += ["--limit", str(args.limit)]
    done = run_process(command, timeout=args.timeout, keep_path=True)
    answer = done.json
    if done.returncode or answer is None:
        return failed(done)
    accuracy = answer["test"]["top1"]
    phases = environment_phases(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return {
        **done.costs(),
        "reached": accuracy >= args.target,
        "epochs": answer["epochs"],
        "accuracies": [accuracy],
        "val_top1": answer["val"]["top1"],
        "seconds": {"train": answer["seconds"], **phases},
    }


def environment_phases(folder: Path) -> dict[str, Any]:
    """Seconds by phase as the run folder recorded them; nothing where it has none."""
    import json

    try:
        return {"phases": json.loads((folder / "environment.json").read_text(encoding="utf-8"))["phases"]}
    except (OSError, KeyError, json.JSONDecodeError):
        return {}


def measure_peer(name: str, args: argparse.Namespace, work: Path, repeat: int) -> dict[str, Any]:
    """One peer, from the start of its process to its exit after the first epoch at the target."""
    peer = PEERS[name]
    command = [args.python_of[peer.library], str(BENCHMARKS / "peers" / peer.script), "--data", str(work / peer.data)]
    command += ["--target", str(args.target), "--max-epochs", str(args.max_epochs), "--seed", str(repeat)]
    command += peer.settings
    if args.limit:
        command += ["--limit", str(args.limit)]
    done = run_process(command, timeout=args.timeout)
    answer = done.json
    if done.returncode or answer is None:
        return failed(done)
    return {**done.costs(), **{key: answer[key] for key in ("reached", "epochs", "accuracies", "seconds")}}


def failed(done: Finished) -> dict[str, Any]:
    """A run without a result: it did not reach the target, and why is kept."""
    return {**done.costs(), "reached": False, "exit": done.returncode, "error": tail(done.err or done.out)}


def told(record: dict[str, Any]) -> str:
    """A run in one line."""
    if "error" in record:
        return f"failed (exit {record['exit']}) after {record['wall_seconds']:.1f} s: {record['error']}"
    verdict = "reached" if record["reached"] else "NOT reached"
    return f"{record['wall_seconds']:.1f} s, {verdict} at {record['accuracies'][-1]:.4f} in {record['epochs']} epochs"


def summary(runs: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """Median, least and greatest seconds by program; the best peer's time over ours by repeat, and the median of that.

    A run that did not reach the target counts as slower than any that did: a median can then be null.
    """
    never = float("inf")
    times = {
        name: {run["repeat"]: run["wall_seconds"] if run["reached"] else never for run in runs if run["name"] == name}
        for name in names
    }
    figures = {
        name: {
            "reached": sum(value != never for value in by_repeat.values()),
            "of": len(by_repeat),
            **{key: finite(pick(by_repeat.values())) for key, pick in PICKS.items()},
        }
        for name, by_repeat in times.items()
        if by_repeat
    }
    ratios = []
    for repeat, ours in times["striate"].items():
        peers = [times[name][repeat] for name in names if name != "striate" and repeat in times[name]]
        best = min(peers, default=never)
        ratios.append(best / ours if best != never and ours != never else 0.0 if ours == never else None)
    known = [ratio for ratio in ratios if ratio is not None]
    return {
        "seconds": figures,
        "best_peer_over_ours": ratios,
        "best_peer_over_ours_median": statistics.median(known) if known else None,
    }


PICKS = {"median": statistics.median, "min": min, "max": max}


def finite(value: float) -> float | None:
    """JSON has no infinity: null instead."""
    return None if value == float("inf") else round(value, 3)


def tables(result: dict[str, Any]) -> str:
    """The Markdown that docs/results.md quotes."""
    rows = []
    for name, figures in result["summary"]["seconds"].items():
        runs = [run for run in result["runs"] if run["name"] == name and "accuracies" in run]
        epochs = sorted({run["epochs"] for run in runs})
        accuracy = f"{100 * statistics.median(run['accuracies'][-1] for run in runs):.2f} %" if runs else "–"
        cells = [f"{figures[key]:.1f}" if figures[key] is not None else "not reached" for key in PICKS]
        span = "–".join(str(n) for n in dict.fromkeys((epochs[0], epochs[-1]))) if epochs else "–"
        rows.append([name, *cells, f"{figures['reached']}/{figures['of']}", span, accuracy])
    rows += [[name, "missing", "", "", "", "", reason] for name, reason in result["missing"].items()]
    head = ["program", "seconds (median)", "min", "max", "reached", "epochs", "test accuracy at the end (median)"]
    machine = result["machine"]
    ratio = result["summary"]["best_peer_over_ours_median"]
    lines = [
        f"MNIST to {100 * result['target']:.1f} % test accuracy, whole process; {machine['cpu']}, {machine['cores']} "
        f"cores, {result['date'][:10]}, revision {result['revision']}",
        "",
        markdown_table(head, rows),
        "",
        f"Best peer of each repeat over ours, median: {ratio:.1f}"
        if ratio is not None
        else "No ratio: nobody to compare.",
        "",
        markdown_table(["program", "where the time goes, seconds (medians)"], where_time_goes(result["runs"])),
    ]
    return "\n".join(lines)


def where_time_goes(runs: list[dict[str, Any]]) -> list[list[str]]:
    """Median seconds of each phase that a program reports."""
    gathered: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        seconds = run.get("seconds", {})
        phases = {**seconds, **seconds.get("phases", {})}
        if "epochs" in phases:
            phases["an epoch"] = statistics.fmean(phases["epochs"])
        for phase, value in phases.items():
            if isinstance(value, int | float):
                gathered.setdefault(run["name"], {}).setdefault(phase, []).append(value)
    return [
        [name, ", ".join(f"{phase} {statistics.median(values):.2f}" for phase, values in phases.items())]
        for name, phases in gathered.items()
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, help="folder with the four MNIST files, gzipped or not")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--target", type=float, default=TARGET)
    parser.add_argument("--max-epochs", type=int, default=MAX_EPOCHS, help="a peer that is not there by then gives up")
    parser.add_argument(
        "--peers", default=",".join(DEFAULT_PEERS), help=f"comma-separated, or all, or none: {', '.join(PEERS)}"
    )
    parser.add_argument(
        "--python-of",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="interpreter of striate, pytorch, lightning, keras or fastai [the one that runs this]",
    )
    parser.add_argument("--work", help="keep the prepared data here for another time [a temporary folder]")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds after which a run is ended")
    parser.add_argument("--limit", type=int, help="a few images only, to try the script; measures nothing")
    parser.add_argument("--out", default=str(RESULTS / "time_to_accuracy.json"))
    args = parser.parse_args()
    several = {"all": list(PEERS), "none": []}
    args.peers = several[args.peers] if args.peers in several else args.peers.split(",")
    for name in args.peers:
        if name not in PEERS:
            parser.error(f"no peer {name!r}; there are {', '.join(PEERS)}")
    args.python_of = interpreters(parser, args.python_of)
    args.data_root = str(Path(args.data_root).resolve())
    return args


def interpreters(parser: argparse.ArgumentParser, given: list[str]) -> dict[str, str]:
    """Interpreter by library, the current one by default."""
    known = dict.fromkeys(("striate", *(peer.library for peer in PEERS.values())), sys.executable)
    for item in given:
        name, _, python = item.partition("=")
        if name not in known or not python:
            parser.error(f"--python-of {item!r}: expected one of {', '.join(known)}, = and a path")
        known[name] = python
    return known


if __name__ == "__main__":
    main()
