"""How fast do photos become normalised batches: ours in the first and in later epochs, beside seven other pipelines?

500x375 JPEG files to float batches of 64 at 224 by random resized crop and flip, no network. Every measurement is a
process of its own; all run in turn, repeated. `--scaling` measures ours from 1,000 to 100,000 images instead. See
README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import BENCHMARKS, RESULTS, markdown_table, provenance, run_process, say, tail, versions, write_result

SIZE = (500, 375)
# name: interpreter by library, library of peers/photo_batches.py, modules that must be there, packages to set up
PEERS = {
    "torchvision_v1": ("torch", ("torch", "torchvision")),
    "torchvision_v2": ("torch", ("torch", "torchvision")),
    "timm": ("timm", ("timm", "torchvision")),
    "fastai": ("fastai", ("fastai.vision.all",)),
    "ultralytics": ("ultralytics", ("ultralytics",)),
    "keras": ("keras", ("keras", "tensorflow")),
    "tf_data": ("keras", ("tensorflow",)),
}
PACKAGES = {
    "torch": ["torch", "torchvision", "pillow", "numpy"],
    "timm": ["timm", "torch", "torchvision"],
    "fastai": ["fastai"],
    "ultralytics": ["ultralytics", "opencv-python-headless"],
    "keras": ["keras", "tensorflow-cpu"],
}
# ours, by what the caches hold: settings, epochs, whether an earlier run has filled the cache on disk
OURS = {
    "ours": ([], 3, False),
    "ours, next run": ([], 2, True),
    "ours, cache in memory": (["--cache-limit", "0"], 2, False),
    "ours, no cache": (["--cache-limit", "0", "--cache-memory", "0"], 2, False),
}


def main() -> None:
    args = arguments()
    work = Path(args.work) if args.work else Path(tempfile.mkdtemp(prefix="input-pipeline-"))
    work.mkdir(parents=True, exist_ok=True)
    os.environ["STRIATE_CACHE"] = str(work / "cache")
    try:
        (scaling if args.scaling else compare)(args, work)
    finally:
        if not args.work:
            shutil.rmtree(work, ignore_errors=True)


def compare(args: argparse.Namespace, work: Path) -> None:
    """All pipelines in turn, with every number of workers."""
    data = photos(Path(args.photos), work / "photos", args.images)
    result = provenance("benchmarks/input_pipeline.py")
    result |= {"images": args.images, "size": list(SIZE), "repeats": args.repeats, "workers": args.workers}
    result |= {"versions": {}, "missing": {}, "runs": []}
    names = available(args, work, result)
    for repeat in range(args.repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            for workers in args.workers:
                record = measure(name, data, workers, args)
                say(f"repeat {repeat + 1}/{args.repeats} {name}, {workers} workers: {told(record)}")
                result["runs"].append({"name": name, "workers": workers, "repeat": repeat, **record})
                result["summary"] = summary(result["runs"])
                write_result(Path(args.out), result)
    print(tables(result))


def available(args: argparse.Namespace, work: Path, result: dict[str, Any]) -> list[str]:
    """Who can run here; versions and reasons go into the result."""
    names = list(OURS)
    result["versions"]["ours"] = versions(sys.executable, ("striate", "torch", "pillow", "numpy"), ("striate", "torch"))
    if "error" in result["versions"]["ours"]:
        sys.exit("error: striate cannot be imported\nhint: install it, or set PYTHONPATH=src")
    for name in args.peers:
        library, modules = PEERS[name]
        python = args.python_of.get(library) or (set_up(library, work) if args.set_up else sys.executable)
        args.python_of[library] = python
        found = versions(python, (*PACKAGES[library], "pillow", "numpy"), modules)
        if "error" in found:
            result["missing"][name] = found["error"]
            say(f"{name}: missing: {found['error']}")
        else:
            result["versions"][name] = found
            names.append(name)
    return names


def set_up(library: str, work: Path) -> str:
    """The interpreter of an environment that has this library, made with uv where it is not there yet."""
    folder = work / "environments" / library
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"setting up {library}: {' '.join(PACKAGES[library])}")
        for command in (
            ["uv", "venv", "-q", "--python", "3.11", str(folder)],
            ["uv", "pip", "install", "-q", "--python", str(python), *PACKAGES[library]],
        ):
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except OSError as error:
                say(f"{library}: {error}")
                break
            if done.returncode:
                say(f"{library}: {tail(done.stderr)}")
                break
    return str(python)


def photos(source: Path, folder: Path, count: int) -> Path:
    """`count` different JPEG files of `SIZE` in train/a and train/b, and a few in val, made from those in `source`."""
    from PIL import Image

    originals = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not originals:
        sys.exit(f"error: no JPEG files in {source}\nhint: --photos FOLDER")
    for number in range(count + 20):
        split = "train" if number < count else "val"
        place = folder / split / "ab"[number % 2] / f"{number:06d}.jpg"
        if place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(originals[number % len(originals)]) as image:
            turn = number // len(originals)
            box = (turn % 7, turn % 5, image.width - turn % 11, image.height - turn % 13)
            image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC, box=box).save(place, quality=90)
    return folder


def measure(name: str, data: Path, workers: int, args: argparse.Namespace) -> dict[str, Any]:
    """One process: images per second of each of its epochs, or the reason why there are none."""
    settings, epochs, warm = OURS.get(name, ([], 2, False))
    library = "ours" if name in OURS else name
    python = sys.executable if name in OURS else args.python_of[PEERS[name][0]]
    script = [python, str(BENCHMARKS / "peers" / "photo_batches.py"), library, str(data), "--workers", str(workers)]
    (data / "train.cache").unlink(missing_ok=True)  # Ultralytics' list of the files: each of its runs is a first one
    cache = Path(os.environ["STRIATE_CACHE"])
    if not warm:
        shutil.rmtree(cache, ignore_errors=True)
    elif not cache.exists():
        run_process([*script, "--epochs", "1"], timeout=args.timeout, keep_path=True)
    command = [*script, "--epochs", str(epochs), *settings]
    done = run_process(command, timeout=args.timeout, keep_path=library == "ours")
    if done.returncode or done.json is None:
        return {"error": tail(done.err), **done.costs()}
    found = done.json
    speeds = [round(one["images"] / one["seconds"], 1) for one in found["epochs"]]
    record = {"images_per_second": speeds, "memory_mib": found["peak_mib"], **done.costs()}
    if library == "ours":  # threads; of other processes it is known at their end only, as `cpu_seconds` of the whole
        record["cpu_ms_per_image"] = [
            round(1000 * one["cpu_seconds"] / max(1, one["images"]), 3) for one in found["epochs"]
        ]
    return record


def scaling(args: argparse.Namespace, work: Path) -> None:
    """Ours alone, by number of images: links to the same files, which differ by a byte after the end of the picture."""
    result = provenance("benchmarks/input_pipeline.py")
    result |= {"counts": args.counts, "versions": versions(sys.executable, ("striate", "torch"), ("striate",))}
    result |= {"repeats": args.repeats, "runs": []}
    source = photos(Path(args.photos), work / "photos", args.images)
    contents = [path.read_bytes() for path in sorted((source / "train").rglob("*.jpg"))]
    for repeat in range(args.repeats):
        for count in args.counts:
            data = work / f"photos-{count}"
            for number, content in enumerate(numbered(contents, count)):
                place = data / ("train" if number % 50 else "val") / "ab"[number // 50 % 2] / f"{number:07d}.jpg"
                if not place.exists():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content)
            for name in ("ours", "ours, no cache"):
                record = measure(name, data, args.workers[0], args)
                say(f"{count} images, {name}: {told(record)}")
                result["runs"].append({"name": name, "count": count, "repeat": repeat, **record})
                write_result(Path(args.out), result)
            if not args.work:
                shutil.rmtree(data)
    head = ("images", "pipeline", "images/s by epoch", "ms of processor an image", "MiB")
    rows = [
        (run["count"], run["name"], run["images_per_second"], run["cpu_ms_per_image"], run["memory_mib"])
        for run in result["runs"]
        if "error" not in run
    ]
    print(markdown_table(head, rows))


def numbered(contents: list[bytes], count: int) -> Iterator[bytes]:
    """`count` different files: decoders stop at the picture's end and do not see the number behind it."""
    for number in range(count):
        yield contents[number % len(contents)] + number.to_bytes(4, "little")


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By pipeline and workers: median, least and greatest of the first and of the last epoch, and the two ratios."""
    rows: dict[str, Any] = {}
    for name, workers in dict.fromkeys((run["name"], run["workers"]) for run in runs):
        good = [r for r in runs if (r["name"], r["workers"]) == (name, workers) and "error" not in r]
        if good:
            rows[f"{name}, {workers} workers"] = {
                "name": name,
                "workers": workers,
                "runs": len(good),
                "first": spread_of([run["images_per_second"][0] for run in good]),
                "later": spread_of([run["images_per_second"][-1] for run in good]),
                "memory_mib": max(run["memory_mib"] for run in good),
            }
    ratios = {}
    for workers in dict.fromkeys(run["workers"] for run in runs):
        rest = [row for row in rows.values() if row["workers"] == workers and row["name"] not in OURS]
        own = rows.get(f"ours, {workers} workers")
        if rest and own:
            # a peer's epochs are alike: the better of its two figures stands against both of ours
            best = max(max(row["first"]["median"], row["later"]["median"]) for row in rest)
            ratios[f"{workers} workers"] = {
                "first_epoch_over_fastest_peer": round(own["first"]["median"] / best, 2),
                "later_epochs_over_fastest_peer": round(own["later"]["median"] / best, 2),
            }
    return {"pipelines": rows, "ratios": ratios}


def spread_of(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def tables(result: dict[str, Any]) -> str:
    """What docs quote."""

    def shown(one: dict[str, float]) -> str:
        return f"{one['median']:.0f} ({one['min']:.0f} to {one['max']:.0f})"

    rows = [
        (row["name"], row["workers"], shown(row["first"]), shown(row["later"]), row["memory_mib"])
        for row in sorted(result["summary"]["pipelines"].values(), key=lambda row: (-row["workers"], row["name"]))
    ]
    head = ("pipeline", "workers", "first epoch, images/s", "last epoch, images/s", "memory, MiB")
    lines = [markdown_table(head, rows), ""]
    lines += [f"{workers}: {ratios}" for workers, ratios in result["summary"]["ratios"].items()]
    lines += [f"missing: {name}: {why}" for name, why in result["missing"].items()]
    return "\n".join(lines)


def told(record: dict[str, Any]) -> str:
    if "error" in record:
        return f"failed: {record['error']}"
    return f"{record['images_per_second']} images/s, {record['memory_mib']} MiB"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", default="../shared/data/photos_fullsize", help="JPEG files that the set is made of")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 0])
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument(
        "--python-of", action="append", default=[], metavar="LIBRARY=PYTHON", help=f"{', '.join(PACKAGES)}"
    )
    parser.add_argument("--set-up", action="store_true", help="make the environments that are not given, with uv")
    parser.add_argument("--scaling", action="store_true", help="ours by number of images, and nothing else")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--timeout", type=float, default=1800.0)
    parser.add_argument("--work", help="folder for images, caches and environments, kept [a temporary one, deleted]")
    parser.add_argument("--out")
    args = parser.parse_args()
    args.out = args.out or str(RESULTS / ("input_pipeline_scaling.json" if args.scaling else "input_pipeline.json"))
    pairs = (item.partition("=") for item in args.python_of)
    args.python_of = {library: python for library, _, python in pairs}
    return args


if __name__ == "__main__":
    main()
