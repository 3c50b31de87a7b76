"""How much longer than one forward pass over a thousand photos does `striate probe` take, and how long a second time?

SqueezeNet 1.1 with ImageNet weights. Whole processes, in turn, repeated: `striate probe` with an empty cache and then
again, as it comes, which also tries short trainings for its plan, and without (`--no-plan`); beside it one pass over
the same photos by `striate predict` and by a plain torchvision script.
"""

from __future__ import annotations

import argparse
import contextlib
import os
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
    tail,
    versions,
    write_result,
)
from photo_folders import split_folders

PROBE, PLAN = "striate probe --no-plan", "striate probe"
AGAIN = ", again"  # right after the first, which has left its cache
PROBES = (PROBE, PROBE + AGAIN, PLAN, PLAN + AGAIN)
PREDICT = "one pass: striate predict"
PLAIN, TUNED = "one pass: torchvision", "one pass: torchvision, channels last, bf16"
PASSES = (PREDICT, PLAIN, TUNED)
PROGRAMS = (PROBE, PLAN, *PASSES)


def main() -> None:
    args = arguments()
    result = provenance("benchmarks/probe_speed.py")
    result |= {"photos": args.count, "repeats": args.repeats, "runs": []}
    result["versions"] = versions(
        sys.executable, ("striate", "torch", "torchvision", "scikit-learn", "pillow"), ("striate", "torch", "sklearn")
    )
    if "error" in result["versions"]:
        sys.exit(f"error: {result['versions']['error']}\nhint: install striate, or set PYTHONPATH=src")
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="probe-speed-")))
        photos = split_folders(args.data, work / "photos", args.count, max(10, args.count // 20))
        os.environ["STRIATE_CACHE"] = str(work / "cache")
        for repeat in range(args.repeats):
            turn = repeat % len(PROGRAMS)
            for name in PROGRAMS[turn:] + PROGRAMS[:turn]:
                shutil.rmtree(work / "cache", ignore_errors=True)
                for one in (name, name + AGAIN) if name in PROBES else (name,):
                    run = measure(one, photos, args)
                    say(f"repeat {repeat + 1}/{args.repeats}, {one}: {told(run)}")
                    result["runs"].append({"name": one, "repeat": repeat, **run})
                    result["summary"] = summary(result["runs"])
                    write_result(Path(args.out), result)
    print(tables(result))


def measure(name: str, photos: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One process, and what it tells of its own seconds."""
    network = f"squeezenet1_1:{args.weights}"
    command = {
        PLAN: [*striate_command(), "probe", str(photos), "--from", network, "--offline", "--json"],
        PREDICT: [*striate_command(), "predict", network, str(photos / "train"), "--top-k", "1", "--offline", "--json"],
    }
    command[PROBE] = [*command[PLAN], "--no-plan"]
    command[PLAIN] = [sys.executable, str(BENCHMARKS / "peers" / "forward_photos.py"), "--data", str(photos / "train")]
    command[PLAIN] += ["--weights", str(args.weights), "--workers", "2"]
    command[TUNED] = [*command[PLAIN], "--tuned"]
    done = run_process(command[name.removesuffix(AGAIN)], timeout=args.timeout, keep_path=name not in (PLAIN, TUNED))
    answer = done.json
    if done.returncode or answer is None:
        return {**done.costs(), "exit": done.returncode, "error": tail(done.err or done.out)}
    return {**done.costs(), **inside(name, answer)}


def inside(name: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Photos seen and seconds within the process, as each program tells them."""
    if name in (PLAIN, TUNED):
        return {"seen": answer["photos"], "seconds": answer["seconds"], "pass_seconds": answer["seconds"]["pass"]}
    if name == PREDICT:
        return {"seen": len(answer["predictions"])}
    source = answer["sources"][0]
    seconds = {"pass": source["seconds_forward"], "fitting": source["seconds_fitting"]}
    found = {"seen": answer["images"], "seconds": seconds, "from_cache": source["from_cache"]}
    if answer["plan"]:
        seconds["planning"] = answer["plan"]["seconds_planning"]
    return found | {"pass_seconds": None if source["from_cache"] else seconds["pass"]}


def told(run: dict[str, Any]) -> str:
    """A run in one line."""
    if "error" in run:
        return f"failed (exit {run['exit']}): {run['error']}"
    within = f", of it {run['pass_seconds']:.2f} s the pass" if run.get("pass_seconds") is not None else ""
    return f"{run['wall_seconds']:.2f} s{within}, {run['seen']} photos"


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By program: seconds with their spread, and by repeat the probes' seconds over those of each pass."""
    good = [run for run in runs if "error" not in run]
    figures: dict[str, Any] = {}
    for name in dict.fromkeys(run["name"] for run in good):
        own = [run for run in good if run["name"] == name]
        passes = [run["pass_seconds"] for run in own if run.get("pass_seconds") is not None]
        figures[name] = {
            "median_seconds": statistics.median(run["wall_seconds"] for run in own),
            "seconds": spread([run["wall_seconds"] for run in own]),
            "median_pass_seconds": statistics.median(passes) if passes else None,
        }
    for name in PROBES:
        if name in figures:
            figures[name]["times_whole_process"] = {one: ratio(good, name, one, "wall_seconds") for one in PASSES}
            figures[name]["times_pass_alone"] = {one: ratio(good, name, one, "pass_seconds") for one in PASSES}
    return figures


def ratio(runs: list[dict[str, Any]], name: str, other: str, figure: str) -> float | None:
    """The median over the repeats of one program's seconds over another's."""
    mine, theirs = (
        {run["repeat"]: run[figure] for run in runs if run["name"] == one and run.get(figure)} for one in (name, other)
    )
    common = mine.keys() & theirs.keys()
    return statistics.median(mine[repeat] / theirs[repeat] for repeat in common) if common else None


def tables(result: dict[str, Any]) -> str:
    """The Markdown that docs quote."""
    found = result["summary"]
    rows = [
        [
            name,
            f"{one['median_seconds']:.2f}",
            f"{one['seconds']['min']:.2f}–{one['seconds']['max']:.2f}",
            "–" if one["median_pass_seconds"] is None else f"{one['median_pass_seconds']:.2f}",
        ]
        for name, one in found.items()
    ]
    machine = result["machine"]
    head = ["program", "whole process, s (median)", "least–greatest", "pass alone, s"]
    lines = [f"{machine['cpu']}, {machine['cores']} cores, {result['date'][:10]}, {result['revision']}", ""]
    lines += [markdown_table(head, rows), ""]
    for name in PROBES:
        for other, times in found.get(name, {}).get("times_whole_process", {}).items():
            if times is not None:
                lines.append(f"{name} takes {times:.2f} times {other}, whole processes")
        for other, times in found.get(name, {}).get("times_pass_alone", {}).items():
            if times is not None:
                lines.append(f"the pass of {name} takes {times:.2f} times that of {other}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/photos", help="photos in class folders, linked to")
    parser.add_argument("--weights", default="../shared/data/weights/squeezenet1_1_caffe_rgbnorm.pth")
    parser.add_argument("--count", type=int, default=1000, help="photos to probe")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=1800, help="seconds after which a run is ended")
    parser.add_argument("--out", default=str(RESULTS / "probe_speed.json"))
    args = parser.parse_args()
    args.data, args.weights = Path(args.data).resolve(), Path(args.weights).resolve()
    return args


if __name__ == "__main__":
    main()
