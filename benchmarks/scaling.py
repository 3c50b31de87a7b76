"""What do more cores gain, and what does one more image cost: from 1,000 to 100,000 images, in time and memory?

Whole processes of `striate`, held to the first so many cores by `taskset`. Small images are generated, of one size and
all different; photos to predict are hard links to a few real ones, photos to train on are copies that differ in bytes
after the end of the picture, so that each counts as an image of its own and none is found in the cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import struct
import sys
import tempfile
from collections.abc import Callable
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

from harness import RESULTS, markdown_table, run_process, say, striate_command, tail, versions
from photo_folders import photo_folder, photos_under
from resumable import ResultFile, Row

SIZES = (1_000, 10_000, 100_000)
TRAIN_PHOTO_SIZES = (1_000, 10_000)
FEW = 500  # photos predicted with more and more cores
SIDE = 28
ONE_EPOCH = ("--epochs", "1", "--batch-size", "128", "--model", "compact_s", "--from", "scratch", "--no-report")


def main() -> None:
    args = arguments()
    work = Path(args.work) if args.work else Path(tempfile.mkdtemp(prefix="scaling-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        run(args, work)
    finally:
        if not args.work:
            shutil.rmtree(work, ignore_errors=True)


def run(args: argparse.Namespace, work: Path) -> None:
    """Every experiment that was asked for, repeat by repeat, the file written after each process."""
    keys = ("experiment", "images", "cores", "repeat")
    result = ResultFile(Path(args.out), "benchmarks/scaling.py", keys, summary, fresh=args.fresh)
    packages = ("striate", "torch", "numpy", "pillow", "openvino", "onnxruntime")
    result.head["versions"] = versions(sys.executable, packages, ("striate", "torch"))
    everyone = sorted(os.sched_getaffinity(0))
    for name in args.only:
        make, by_cores, sizes = EXPERIMENTS[name]
        counts = [count for count in args.cores if count <= len(everyone)] if by_cores else [len(everyone)]
        for repeat in range(args.repeats):
            for images in [size for size in sizes(args) if size is None or size <= args.most]:
                for cores in counts:
                    key = {"experiment": name, "images": images, "cores": cores, "repeat": repeat}
                    if result.holds(**key):
                        continue
                    held = ["taskset", "--cpu-list", ",".join(map(str, everyone[:cores]))]
                    row = measured([*held, *make(args, work, images)], key, args, work)
                    what = f"{images:,} images, " if images else ""
                    say(f"{name}, {what}{cores} core{'s' * (cores > 1)}, {repeat + 1}/{args.repeats}: {told(row)}")
                    result.add(row)
    result.write()
    print(tables(result))


def measured(command: list[str], key: Row, args: argparse.Namespace, work: Path) -> Row:
    """One process, with caches of its own that are empty before it and gone after it."""
    cache = work / "striate-cache"
    shutil.rmtree(cache, ignore_errors=True)
    os.environ["STRIATE_CACHE"] = str(cache)
    shutil.rmtree(work / "run", ignore_errors=True)
    done = run_process(command, timeout=args.timeout, keep_path=True)
    shutil.rmtree(cache, ignore_errors=True)
    row = {**key, **done.costs()}
    if done.returncode:
        return {**row, "exit": done.returncode, "error": tail(done.err or done.out, 3)}
    answer = done.json or {}  # `predict` writes lines, which it need not hold in memory
    if "train" in answer:  # of `striate bench`: the steps alone
        return {**row, "images_per_second": answer["train"]["images_per_second"]}
    row["images_per_second"] = key["images"] / done.seconds
    if "seconds" in answer:  # of `striate train`; those of `striate bench` are a setting
        row["training_seconds"] = answer["seconds"]
    return row


def bench(model: str, batch_size: int) -> Callable[..., list[str]]:
    """Training steps of a network as `striate train` does them by default."""

    def make(args: argparse.Namespace, work: Path, images: int | None) -> list[str]:
        return [
            *striate_command(),
            "bench",
            model,
            "--train",
            "--default",
            "--batch-size",
            str(batch_size),
            "--json",
            *args.bench,
        ]

    return make


def predict(args: argparse.Namespace, work: Path, images: int) -> list[str]:
    """`striate predict` on photos, with random weights; by torch at any size, where `auto` would change to another."""
    folder = photo_folder(needed(args), work / f"links-{images}", images)
    return [*striate_command(), "predict", args.network, str(folder), "--top-k", "1", "--backend", "torch", "--offline"]


def train_small(args: argparse.Namespace, work: Path, images: int) -> list[str]:
    """One epoch over generated small images."""
    data = generated(work / f"small-{images}", images)
    return [*striate_command(), "train", str(data), "--run-dir", str(work / "run"), *ONE_EPOCH, "--json"]


def train_photos(args: argparse.Namespace, work: Path, images: int) -> list[str]:
    """One epoch over photos, seen at 64 pixels so that reading them is the larger part."""
    data = distinct_photos(needed(args), work / f"copies-{images}", images)
    command = [*striate_command(), "train", str(data), "--run-dir", str(work / "run"), *ONE_EPOCH]
    return [*command, "--input-size", "64", "--json"]


EXPERIMENTS: dict[
    str, tuple[Callable[..., list[str]], bool, Callable[[argparse.Namespace], tuple[int | None, ...]]]
] = {
    "cores-train-resnet18": (bench("resnet18", 64), True, lambda args: (None,)),
    "cores-train-resnet20": (bench("cifar_resnet20", 128), True, lambda args: (None,)),
    "cores-predict": (predict, True, lambda args: (args.few,)),
    "images-train-small": (train_small, False, lambda args: args.sizes),
    "images-predict-photos": (predict, False, lambda args: args.sizes),
    "images-train-photos": (train_photos, False, lambda args: args.train_photo_sizes),
}


def needed(args: argparse.Namespace) -> Path:
    """The folder of real photos, which some experiments cannot do without."""
    if not args.photos:
        sys.exit("error: photos are needed\nhint: --photos FOLDER with class folders, or leave those out by --only")
    return Path(args.photos).resolve()


def generated(target: Path, count: int) -> Path:
    """IDX files like MNIST's with `count` training and 1,000 test images: ten patterns, shifted, under noise."""
    import numpy as np

    if target.is_dir():
        return target
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    generator = np.random.default_rng(0)
    patterns = np.kron(generator.integers(0, 2, (10, 7, 7)), np.ones((4, 4))) * 160
    for prefix, images in (("train", count), ("t10k", 1_000)):
        labels = generator.permutation(np.arange(images) % 10).astype(np.uint8)
        with (part / f"{prefix}-images-idx3-ubyte").open("wb") as file:
            file.write(struct.pack(">4I", 2051, images, SIDE, SIDE))
            for some in np.array_split(labels, -(-images // 10_000)):
                noise = generator.integers(0, 96, (len(some), SIDE, SIDE))
                file.write((patterns[some] + noise).astype(np.uint8).tobytes())
        with (part / f"{prefix}-labels-idx1-ubyte").open("wb") as file:
            file.write(struct.pack(">2I", 2049, images) + labels.tobytes())
    part.rename(target)
    return target


def distinct_photos(source: Path, target: Path, count: int) -> Path:
    """`count` photos in the class folders of `source`, in turn, each with its number after the end of the picture."""
    if target.is_dir():
        return target
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for number, file in enumerate(islice(cycle(photos_under(source)), count)):
        copy = part / file.parent.name / f"{number:06d}{file.suffix.lower()}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes() + str(number).encode())
    part.rename(target)
    return target


def summary(rows: list[Row]) -> dict[str, Any]:
    """Medians by experiment and size or cores; the gain over one core; the cost of each further image."""
    figures: dict[str, Any] = {}
    for name in dict.fromkeys(row["experiment"] for row in rows):
        here = [row for row in rows if row["experiment"] == name]
        axis = "cores" if name.startswith("cores") else "images"
        points = {
            value: medians([row for row in here if row[axis] == value]) for value in sorted({row[axis] for row in here})
        }
        if axis == "cores" and 1 in points:
            for one in points.values():
                one["over_one_core"] = one["images_per_second"] / points[1]["images_per_second"]
        for few, many in pairwise(points if axis == "images" else ()):
            further = many - few
            points[many] |= {
                f"{key}_of_each_further_image": (points[many][field] - points[few][field]) * factor / further
                for key, field, factor in (
                    ("milliseconds", "wall_seconds", 1000),
                    ("cpu_milliseconds", "cpu_seconds", 1000),
                    ("kib", "peak_mib", 1024),
                )
            }
        figures[name] = {str(value): one for value, one in points.items()}
    return figures


def medians(rows: list[Row]) -> Row:
    """Median of every figure, with least and greatest of the speed."""
    keys = [key for key in ("wall_seconds", "cpu_seconds", "peak_mib", "images_per_second") if key in rows[0]]
    figures: Row = {key: statistics.median(row[key] for row in rows) for key in keys}
    speeds = [row["images_per_second"] for row in rows]
    return {**figures, "n": len(rows), "min": min(speeds), "max": max(speeds)}


def tables(result: ResultFile) -> str:
    """The Markdown that docs/results.md quotes."""
    by_cores, by_images = [], []
    for name, points in result.summary().items():
        for value, one in points.items():
            speed = f"{one['images_per_second']:.1f} ({one['min']:.1f}–{one['max']:.1f})"
            if name.startswith("cores"):
                gain = f"{one['over_one_core']:.2f}" if "over_one_core" in one else "–"
                by_cores.append([name.removeprefix("cores-"), value, speed, gain])
                continue
            each = [
                f"{one[key]:.2f}" if (key := f"{unit}_of_each_further_image") in one else "–"
                for unit in ("milliseconds", "cpu_milliseconds", "kib")
            ]
            cells = [f"{int(value):,}", f"{one['wall_seconds']:.1f}", speed, f"{one['peak_mib']:.0f}"]
            by_images.append([name.removeprefix("images-"), *cells, *each])
    machine = result.head["machine"]
    texts = [f"{machine['cpu']}, {machine['cores']} cores, {result.head['date'][:10]}, {result.head['revision']}"]
    if by_cores:
        texts += ["", markdown_table(["work", "cores", "images/s", "over one core"], by_cores)]
    if by_images:
        head = ["work", "images", "seconds", "images/s, start included", "peak MiB"]
        head += ["ms a further image", "CPU ms a further image", "KiB a further image"]
        texts += ["", markdown_table(head, by_images)]
    failed = sorted({f"{row['experiment']} ({row['images'] or row['cores']})" for row in result.rows if "error" in row})
    return "\n".join([*texts, *([f"\nFailed: {', '.join(failed)}."] if failed else [])])


def told(row: Row) -> str:
    """A process in one line."""
    if "error" in row:
        return f"failed (exit {row['exit']}): {row['error']}"
    return f"{row['images_per_second']:.1f} images/s, {row['wall_seconds']:.1f} s, peak {row['peak_mib']} MiB"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", help="folder of class folders with real photos")
    parser.add_argument("--only", help=f"comma-separated, of {', '.join(EXPERIMENTS)}; the rows of others stay")
    parser.add_argument("--sizes", type=numbers, default=SIZES, help="images, comma-separated [1000,10000,100000]")
    parser.add_argument("--train-photo-sizes", type=numbers, default=TRAIN_PHOTO_SIZES, help="[1000,10000]")
    parser.add_argument("--most", type=int, default=sys.maxsize, help="leave out larger sizes")
    parser.add_argument("--cores", type=numbers, default=(1, 2), help="comma-separated [1,2]")
    parser.add_argument("--few", type=int, default=FEW, help="photos predicted with more and more cores")
    parser.add_argument("--network", default="squeezenet1_1", help="what predicts photos: random weights will do")
    parser.add_argument("--bench", type=str.split, default=[], help="further flags of `striate bench`, in quotes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", help="keep generated images here for another time [a temporary folder]")
    parser.add_argument("--timeout", type=float, default=7200)
    parser.add_argument("--fresh", action="store_true", help="forget what the result file holds")
    parser.add_argument("--out", default=str(RESULTS / "scaling.json"))
    args = parser.parse_args()
    args.only = args.only.split(",") if args.only else list(EXPERIMENTS)
    for name in args.only:
        if name not in EXPERIMENTS:
            parser.error(f"no experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
    if shutil.which("taskset") is None:
        parser.error("taskset is not there: it is part of util-linux, and Linux alone has it")
    return args


def numbers(text: str) -> tuple[int, ...]:
    """Comma-separated whole numbers."""
    return tuple(int(word) for word in text.split(","))


if __name__ == "__main__":
    main()
