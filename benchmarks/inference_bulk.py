"""`inference.py --bulk`: `striate predict` on a folder of thousands of photos, beside torchvision and a DataLoader.

Whole processes, from the start to the last line written: photos a second, share of all cores, and the peak memory at N
and at 4 N photos, which must be the same. `striate predict` is a first time, with an engine to build where that pays;
`again` finds what the first time kept.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from harness import BENCHMARKS, RESULTS, machine, markdown_table, run_process, say, striate_command, tail, versions
from photo_folders import photo_folder
from resumable import ResultFile, Row

FIRST = "striate predict"
DATALOADER = "by hand: torchvision, DataLoader"


def run_bulk(args: argparse.Namespace, work: Path) -> None:
    """N photos `--repeats` times and 4 N photos once, all programs in turn."""
    from inference import NETWORKS, PEER_PACKAGES, prepare

    if not args.photos:
        sys.exit("error: --bulk needs --photos\nhint: a folder with real photos, of which links are made")
    prepare(args.network, args, work)
    result = ResultFile(
        Path(args.out or RESULTS / "inference_bulk.json"),
        "benchmarks/inference.py --bulk",
        ("network", "name", "photos", "repeat", "threads"),
        summary,
        fresh=args.fresh,
    )
    result.head["versions"] = {
        "striate": versions(args.python_of["striate"], ("striate", "torch", "openvino", "onnxruntime"), ("striate",)),
        "peers": versions(args.python_of["peers"], PEER_PACKAGES, ("torchvision",)),
    }
    os.environ["STRIATE_CACHE"] = str(cache := work / "striate-cache")
    commands = programs(args, work / args.network / "weights.pth", NETWORKS[args.network])
    names = list(commands)
    for count, repeats in ((args.count, args.repeats), (4 * args.count, 1)):
        folder = photo_folder(Path(args.photos).resolve(), work / f"photos-{count}", count)
        for repeat in range(repeats):
            turn = repeat % len(names)
            for name in names[turn:] + names[:turn]:
                key = {"network": args.network, "name": name, "photos": count, "repeat": repeat}
                key["threads"] = args.threads
                if not result.holds(**key):
                    if name == FIRST:
                        shutil.rmtree(cache, ignore_errors=True)
                    elif name.startswith(FIRST):  # whatever is built and kept, outside the clock
                        run_process(commands[name](folder), timeout=args.timeout, keep_path=True)
                    row = predicted(commands[name](folder), key, name.startswith(FIRST), args)
                    say(f"{count} photos, {repeat + 1}/{repeats}, {name}: {told(row)}")
                    result.add(row)
    result.write()
    print(tables(result))


def programs(args: argparse.Namespace, weights: Path, network: tuple[str, str]) -> dict[str, Any]:
    """The command of each program, given the folder."""
    theirs, ours = network
    threads = ["--threads", str(args.threads)] if args.threads else []

    def predict(flags: list[str]) -> Any:
        start = [*striate_command(args.python_of["striate"]), "predict", f"{ours}:{weights}"]
        return lambda folder: [*start, str(folder), "--top-k", "1", "--offline", *threads, *flags]

    script = str(BENCHMARKS / "peers" / "predict_folder.py")
    by_hand = [args.python_of["peers"], script, "--network", theirs, "--weights", str(weights), *threads]
    return {
        FIRST: predict([]),
        f"{FIRST}, again": predict([]),
        **{f"{FIRST} {flags}, again": predict(shlex.split(flags)) for flags in args.variant},
        DATALOADER: lambda folder: [*by_hand, "--photos", str(folder)],
        f"{DATALOADER} without workers": lambda folder: [*by_hand, "--workers", "0", "--photos", str(folder)],
    }


def predicted(command: list[str], key: Row, ours: bool, args: argparse.Namespace) -> Row:
    """One whole process; a line for every photo, or it does not count."""
    done = run_process(command, timeout=args.timeout, keep_path=ours)
    row = {**key, **done.costs()}
    lines = sum(file in line for line in done.out.splitlines() for file in (".jpg", ".jpeg", ".png", ".JPEG"))
    if done.returncode or lines < key["photos"]:
        reason = tail(done.err, 3) if done.returncode else f"{lines} lines for {key['photos']} photos"
        return {**row, "exit": done.returncode, "error": reason}
    row["images_per_second"] = key["photos"] / done.seconds
    row["share_of_cores"] = done.cpu_seconds / done.seconds / machine()["cores"]
    return row


def summary(rows: list[Row]) -> dict[str, Any]:
    """By network and program: photos a second, share of the cores, memory at both counts, cost of one more photo."""
    figures: dict[str, Any] = {}
    for network, name in dict.fromkeys((row["network"], row["name"]) for row in rows):
        here = [row for row in rows if (row["network"], row["name"]) == (network, name)]
        counts = sorted({row["photos"] for row in here})
        by_count = {count: [row for row in here if row["photos"] == count] for count in counts}
        one = {
            str(count): {
                key: {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}
                for key in ("wall_seconds", "images_per_second", "share_of_cores", "peak_mib")
                for values in [[row[key] for row in by_count[count]]]
            }
            for count in counts
        }
        figures.setdefault(network, {})[name] = one
        if len(counts) > 1:
            few, many = one[str(counts[0])], one[str(counts[-1])]
            seconds = many["wall_seconds"]["median"] - few["wall_seconds"]["median"]
            one["steady_images_per_second"] = (counts[-1] - counts[0]) / seconds if seconds > 0 else None
            one["memory_of_many_over_few"] = many["peak_mib"]["median"] / few["peak_mib"]["median"]
    return figures


def tables(result: ResultFile) -> str:
    """The Markdown that docs/results.md quotes."""
    head = ["program", "photos", "photos/s (median)", "min–max", "share of all cores", "peak MiB, largest process"]
    head += ["photos/s without the start"]
    rows = []
    for network, programs in result.summary().items():
        for name, figures in programs.items():
            steady = figures.get("steady_images_per_second")
            for count, one in figures.items():
                if not count.isdigit():
                    continue
                speed = one["images_per_second"]
                rows.append(
                    [
                        f"{name} ({network})",
                        f"{int(count):,}",
                        f"{speed['median']:.1f}",
                        f"{speed['min']:.1f}–{speed['max']:.1f}",
                        f"{100 * one['share_of_cores']['median']:.0f} %",
                        f"{one['peak_mib']['median']:.0f}",
                        f"{steady:.1f}" if steady else "",
                    ]
                )
    failed = sorted({row["name"] for row in result.rows if "error" in row})
    machine = result.head["machine"]
    place = f"{machine['cpu']}, {machine['cores']} cores, {result.head['date'][:10]}, {result.head['revision']}"
    return "\n".join([place, "", markdown_table(head, rows), *([f"\nFailed: {', '.join(failed)}."] if failed else [])])


def told(row: Row) -> str:
    """A process in one line."""
    if "error" in row:
        return f"failed (exit {row['exit']}): {row['error']}"
    share = f"{100 * row['share_of_cores']:.0f} % of the cores"
    return f"{row['images_per_second']:.1f} photos/s, {share}, peak {row['peak_mib']} MiB"
