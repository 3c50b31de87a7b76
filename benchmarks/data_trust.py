"""How much of what is planted in real images does `striate check` find, and how much else does it report?

CIFAR-10 images become a folder of PNG files, with copies of training images in the test folder (exact, re-encoded,
resized, mirrored), uniform images, and 3 % of all labels moved to another class. `striate check FOLDER --from NETWORK
--json` is asked what it finds, once for each network; then the split file that it writes is checked for leaks.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, markdown_table, provenance, run_process, say, spread, striate_command, tail, write_result
from PIL import Image, ImageOps

COPIES = ("exact", "JPEG quality 75", "JPEG quality 50", "twice the size", "half the size and back", "mirrored")
FIGURES = ("precision", "recall", "found", "planted")


def main() -> None:
    args = arguments()
    result = provenance("benchmarks/data_trust.py")
    result |= {"train": args.train, "test": args.test, "wrong_share": args.wrong, "runs": []}
    result["arguments"] = [word if ":" not in word else shown(word) for word in result["arguments"]]
    images, labels, names = cifar(args.data_root)
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="data-trust-")))
        os.environ["STRIATE_CACHE"] = str(work / "cache")
        for seed in range(args.repeats):
            folder = work / f"photos{seed}"
            planted = plant(folder, images, labels, names, args, seed)
            for network in args.networks:
                run = {"network": shown(network), "seed": seed, **checked(folder, network, planted, args)}
                say(f"seed {seed}, {run['network']}: {told(run)}")
                result["runs"].append(run)
                result["summary"] = summary(result["runs"])
                write_result(Path(args.out), result)
    print(tables(result))


def cifar(root: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """All 60,000 images [n, 32, 32, 3], their labels and the class names; the last 10,000 are the test images."""
    folder = root / "cifar-10-batches-py"
    parts = [folder / f"data_batch_{number}" for number in range(1, 6)] + [folder / "test_batch"]
    loaded = [pickle.loads(part.read_bytes(), encoding="latin-1") for part in parts]
    pixels = np.concatenate([one["data"] for one in loaded]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    names = pickle.loads((folder / "batches.meta").read_bytes(), encoding="latin-1")["label_names"]
    return pixels, np.concatenate([one["labels"] for one in loaded]), names


def plant(
    folder: Path, images: np.ndarray, labels: np.ndarray, names: list[str], args: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """Write the files; what is wrong with them, by their paths below `folder`."""
    draw = np.random.default_rng(seed)
    chosen = {"train": draw.permutation(50_000)[: args.train], "test": 50_000 + draw.permutation(10_000)[: args.test]}
    for split in chosen:
        for name in names:
            (folder / split / name).mkdir(parents=True)
    everything = np.concatenate(list(chosen.values()))
    wrong = set(draw.choice(everything, round(args.wrong * len(everything)), replace=False).tolist())
    given = {row: int(labels[row]) for row in everything.tolist()}
    for row in sorted(wrong):
        given[row] = int((labels[row] + draw.integers(1, len(names))) % len(names))
    planted: dict[str, Any] = {"labels": {}, "copies": {}, "uniform": []}
    for split, rows in chosen.items():
        for row in rows.tolist():
            path = f"{split}/{names[given[row]]}/{row}.png"
            Image.fromarray(images[row]).save(folder / path)
            if row in wrong:
                planted["labels"][path] = names[labels[row]]
    clean = [row for row in chosen["train"].tolist() if row not in wrong]
    sources = iter(draw.permutation(clean).tolist())
    for kind in COPIES:
        for number in range(args.copies):
            row = next(sources)
            stem = f"test/{names[given[row]]}/{COPIES.index(kind)}-{number}"
            path = copy(kind, folder, f"train/{names[given[row]]}/{row}.png", stem)
            planted["copies"][path] = {"kind": kind, "of": f"train/{names[given[row]]}/{row}.png"}
    for number in range(args.copies):
        path = f"train/{names[number % len(names)]}/uniform-{number}.png"
        Image.new("RGB", (32, 32), tuple(draw.integers(0, 256, 3).tolist())).save(folder / path)
        planted["uniform"].append(path)
    return planted


def copy(kind: str, folder: Path, source: str, stem: str) -> str:
    """A copy of one file in one of the ways; its path below `folder`."""
    image = Image.open(folder / source).convert("RGB")
    if kind == "exact":
        (folder / f"{stem}.png").write_bytes((folder / source).read_bytes())
        return f"{stem}.png"
    if kind.startswith("JPEG"):
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=int(kind.split()[-1]))
        (folder / f"{stem}.jpg").write_bytes(stream.getvalue())
        return f"{stem}.jpg"
    made = {
        "twice the size": lambda: image.resize((64, 64), Image.Resampling.BICUBIC),
        "half the size and back": lambda: image.resize((16, 16)).resize((32, 32), Image.Resampling.BICUBIC),
        "mirrored": lambda: ImageOps.mirror(image),
    }[kind]()
    made.save(folder / f"{stem}.png")
    return f"{stem}.png"


def checked(folder: Path, network: str, planted: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """One process, and what it found of what was planted."""
    table = folder.parent / "split.csv"
    words, *settings = network.split()
    command = [*striate_command(), "check", str(folder), "--from", words, *settings, "--json", "--offline"]
    done = run_process([*command, "--fix-split", str(table)], timeout=args.timeout)
    found = done.json
    if done.returncode or found is None:
        return {**done.costs(), "exit": done.returncode, "error": tail(done.err or done.out, 4)}
    again = run_process([*striate_command(), "check", str(table), "--json"], timeout=args.timeout).json or {}
    suspects = [one["path"] for one in found["suspects"]["labels"]]
    wrong = planted["labels"]
    right = [path for path in suspects if path in wrong]
    named = sum(one["suggested"] == wrong.get(one["path"]) for one in found["suspects"]["labels"])
    return {
        **done.costs(),
        "accuracy": found["suspects"]["accuracy"],
        "place": found["suspects"]["place"],
        "labels": {
            "planted": len(wrong), "found": len(suspects), "right": len(right), "true_class_named": named,
            "precision": len(right) / max(1, len(suspects)), "recall": len(right) / max(1, len(wrong)),
        },
        "leaks": leaks(found, planted),
        "uniform": uniform(found, planted),
        "far": len(found["suspects"]["far"]),
        "leaks_after_fix_split": again.get("leaks"),
        "images_after_fix_split": [found["images"], again.get("images")],
    }  # fmt: skip


def leaks(found: dict[str, Any], planted: dict[str, Any]) -> dict[str, Any]:
    """Planted copies by kind, and test images reported as leaks that were not planted."""
    together: dict[str, set[str]] = {}
    for group in found["leaking_groups"]:
        for path in group["paths"]:
            together.setdefault(path, set()).update(group["paths"])
    kinds = {kind: [0, 0] for kind in COPIES}
    for path, one in planted["copies"].items():
        kinds[one["kind"]][1] += 1
        kinds[one["kind"]][0] += one["of"] in together.get(path, ())
    reported = [path for path in together if path.startswith("test/")]
    others = [path for path in reported if path not in planted["copies"]]
    return {
        "by_kind": kinds, "reported": len(reported), "others": sorted(others),
        "precision": 1 - len(others) / max(1, len(reported)),
        "recall": sum(one[0] for one in kinds.values()) / max(1, len(planted["copies"])),
    }  # fmt: skip


def uniform(found: dict[str, Any], planted: dict[str, Any]) -> dict[str, int]:
    odd = {one["path"] for one in found["odd_images"]}
    return {"planted": len(planted["uniform"]), "right": len(odd & set(planted["uniform"])), "found": len(odd)}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By network: mean and range over the seeds."""
    table: dict[str, Any] = {}
    for network in dict.fromkeys(run["network"] for run in runs):
        good = [run for run in runs if run["network"] == network and "labels" in run]
        table[network] = {"failed": sum(run["network"] == network and "labels" not in run for run in runs)}
        if not good:
            continue
        table[network] |= {
            "labels": {name: spread([run["labels"][name] for run in good]) for name in FIGURES},
            "leaks": {name: spread([run["leaks"][name] for run in good]) for name in ("precision", "recall")},
        }
    return table


def told(run: dict[str, Any]) -> str:
    if "error" in run:
        return f"exit {run['exit']}: {run['error']}"
    one, two = run["labels"], run["leaks"]
    kinds = ", ".join(f"{kind} {found}/{count}" for kind, (found, count) in two["by_kind"].items())
    return (
        f"labels: precision {one['precision']:.1%}, recall {one['recall']:.1%} ({one['right']} of {one['planted']}, "
        f"{one['found']} reported); leaks: {kinds}, {len(two['others'])} others; uniform "
        f"{run['uniform']['right']}/{run['uniform']['planted']}; leaks after --fix-split {run['leaks_after_fix_split']}"
    )


def tables(result: dict[str, Any]) -> str:
    rows = [
        [name, *(f"{one['labels'][figure]['mean']:.1%}" for figure in FIGURES[:2]),
         *(f"{one['leaks'][figure]['mean']:.1%}" for figure in ("precision", "recall"))]
        for name, one in result["summary"].items() if "labels" in one
    ]  # fmt: skip
    head = ("network", "labels: precision", "recall", "leaks: precision", "recall")
    return markdown_table(head, rows)


def shown(network: str) -> str:
    """Without the folders of files."""
    words, *settings = network.split()
    model, _, weights = words.partition(":")
    return " ".join([f"{model}:{Path(weights).name}" if weights else model, *settings])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-root", type=Path, required=True, help="folder that holds cifar-10-batches-py")
    parser.add_argument(
        "--networks", nargs="+", required=True, metavar="NETWORK",
        help="as for --from, flags behind a space: 'squeezenet1_1:FILE --input-size 64'",
    )  # fmt: skip
    parser.add_argument("--train", type=int, default=10_000, help="training images [10000]")
    parser.add_argument("--test", type=int, default=2_000, help="test images [2000]")
    parser.add_argument("--wrong", type=float, default=0.03, help="share of wrong labels [0.03]")
    parser.add_argument("--copies", type=int, default=25, help="leaks of each kind [25]")
    parser.add_argument("--repeats", type=int, default=3, help="other images, labels and copies each time [3]")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds a process may take [3600]")
    parser.add_argument("--out", default=str(RESULTS / "data_trust.json"), help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
