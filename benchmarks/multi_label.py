"""Several labels an image: `striate train TABLE --from squeezenet1_1:FILE` beside logistic regression on its codes.

Images are mosaics of photos: one to three in the four quarters of a canvas, the rest grey, each labelled with the
classes that it shows. Mosaics of the test split are made of photos that no other mosaic shows, likewise those of
validation. The peer is scikit-learn's one-vs-rest logistic regression on what the pretrained network says of each
mosaic. Both are scored on the test mosaics by scikit-learn; the intervals are the bootstrap's over images, in pairs.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
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
from PIL import Image
from sklearn.metrics import average_precision_score

SIDE = 224
VAL_SHARE = 5  # every fifth of the photos to learn from is for validation
DRAWS = 1000


def main() -> None:
    args = arguments()
    path = Path(args.out or RESULTS / "multi_label.json")
    result: dict[str, Any] = {
        **provenance("benchmarks/multi_label.py"),
        "versions": versions(sys.executable, ("striate", "torch", "numpy", "scikit-learn"), ("striate",)),
        "mosaics": {"train": args.train, "val": args.val, "test": args.test},
        "runs": [],
    }
    with tempfile.TemporaryDirectory(prefix="multi-label-") as folder:
        work = Path(folder)
        table = write_mosaics(args, work / "mosaics")
        say("scikit-learn")
        peer = ran(
            [sys.executable, str(BENCHMARKS / "peers" / "codes_one_vs_rest.py"), str(table), network(args),
             str(work / "peer.npz")], args,
        )  # fmt: skip
        result["peer"] = {**peer.costs(), **(peer.json or {})}
        stored = np.load(work / "peer.npz", allow_pickle=False)
        theirs = dict(zip(stored["paths"].tolist(), stored["probabilities"], strict=True))
        for seed in range(args.repeats):
            say(f"striate, seed {seed}")
            result["runs"].append(measured(args, table, work / f"seed-{seed}", seed, theirs))
            write_result(path, result)
    result["map"] = spread([run["map"] for run in result["runs"]])
    write_result(path, result)
    print(shown(result))


def network(args: argparse.Namespace) -> str:
    """As both are told it."""
    return f"squeezenet1_1:{args.weights}"


def write_mosaics(args: argparse.Namespace, folder: Path) -> Path:
    """The mosaics as JPEG files, and the table of their labels and splits."""
    learned, held_out = (photos(Path(args.data) / name) for name in ("train", "val"))
    sources = {
        "train": [one for place, one in enumerate(learned) if place % VAL_SHARE],
        "val": learned[::VAL_SHARE],
        "test": held_out,
    }
    folder.mkdir(parents=True)
    draws, rows = np.random.default_rng(0), [("image", "label", "split")]
    for split, there in sources.items():
        for number in range(getattr(args, split)):
            name = f"{split}-{number:05d}.jpg"
            chosen = draws.choice(len(there), draws.integers(1, 4), replace=False)
            canvas = Image.new("RGB", (SIDE, SIDE), (124, 116, 104))
            for cell, place in zip(draws.permutation(4), chosen, strict=False):
                with Image.open(there[place]) as photo:
                    small = photo.convert("RGB").resize((SIDE // 2, SIDE // 2), Image.Resampling.BICUBIC)
                canvas.paste(small, (int(cell) % 2 * SIDE // 2, int(cell) // 2 * SIDE // 2))
            canvas.save(folder / name, quality=92)
            rows.append((name, "|".join(sorted({there[place].parent.name for place in chosen})), split))
    table = folder / "mosaics.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return table


def photos(folder: Path) -> list[Path]:
    """All photos of a folder of class folders, in an order that mixes the classes."""
    found = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [found[place] for place in np.random.default_rng(1).permutation(len(found))]


def measured(
    args: argparse.Namespace, table: Path, run: Path, seed: int, theirs: dict[str, np.ndarray]
) -> dict[str, Any]:
    """One training of ours, and its test score beside the peer's on the same mosaics."""
    command = [
        *striate_command(), "train", str(table), "--label-delimiter", "|", "--from", network(args), "--seed", str(seed),
        "--run-dir", str(run), "--no-report", "--json", "--threads", str(args.threads),
        *(["--epochs", str(args.epochs)] if args.epochs else []),
    ]  # fmt: skip
    finished = ran(command, args)
    answer = finished.json or {}
    predictions = pq.read_table(run / "predictions.parquet")
    rows = [row for row in predictions.to_pylist() if row["split"] == "test"]
    names = json.loads(predictions.schema.metadata[b"labels"])
    truths = np.array([[name in row["labels"] for name in names] for row in rows])
    ours = np.array([row["probabilities"] for row in rows])
    peer = np.array([theirs[Path(row["path"]).name] for row in rows])  # labels of both are in alphabetical order
    scores, differences = resampled(truths, ours, peer)
    record = json.loads((run / "evaluation.json").read_text())
    test = record["splits"]["test"]
    return {
        **finished.costs(),
        "seed": seed,
        "training_seconds": answer.get("seconds"),
        "epochs": answer.get("epochs"),
        "map": float(average_precision_score(truths, ours)),
        "map_striate": test["map"],
        "map_interval": scores[0],
        "map_interval_striate": test["map_interval"],
        "peer_map": float(average_precision_score(truths, peer)),
        "peer_interval": scores[1],
        "difference_interval": differences,
        **{name: test[name] for name in ("micro_f1", "macro_f1", "exact_match", "hamming_loss", "n")},
        "thresholds": record.get("thresholds"),
    }


def resampled(truths: np.ndarray, ours: np.ndarray, peer: np.ndarray) -> tuple[list[list[float]], list[float]]:
    """The 95 % intervals of both mean average precisions, and of their difference, by drawing images anew."""
    generator, drawn = np.random.default_rng(0), []
    while len(drawn) < DRAWS:
        rows = generator.integers(0, len(truths), len(truths))
        if truths[rows].any(axis=0).all():
            drawn.append([average_precision_score(truths[rows], side[rows]) for side in (ours, peer)])
    both = np.array(drawn)
    ends = np.quantile(both, [0.025, 0.975], axis=0).T.tolist()
    return ends, np.quantile(both[:, 0] - both[:, 1], [0.025, 0.975]).tolist()


def shown(result: dict[str, Any]) -> str:
    """The figures as a table."""

    def row(name: str, value: float, ends: list[float], seconds: float) -> tuple[str, ...]:
        return name, f"{value:.1%}", f"{ends[0]:.1%} to {ends[1]:.1%}", f"{seconds:.0f}"

    first = result["runs"][0]
    rows = [row("scikit-learn", first["peer_map"], first["peer_interval"], result["peer"]["wall_seconds"])]
    rows += [
        row(f"Striate, seed {run['seed']}", run["map"], run["map_interval"], run["wall_seconds"])
        for run in result["runs"]
    ]
    return markdown_table(("program", "mAP on test", "95 % interval", "seconds"), rows)


def ran(command: list[str], args: argparse.Namespace) -> Finished:
    """A finished process; what failed ends the benchmark."""
    finished = run_process(command, timeout=args.timeout, keep_path=True)
    if finished.returncode:
        raise SystemExit(f"{command[2:4]} failed:\n{tail(finished.err)}")
    return finished


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train/ and val/ of class folders of photos")
    parser.add_argument("--weights", required=True, help="weights of SqueezeNet 1.1")
    parser.add_argument("--train", type=int, default=1600, help="mosaics to learn from")
    parser.add_argument("--val", type=int, default=400, help="for thresholds and the choice of an epoch")
    parser.add_argument("--test", type=int, default=800)
    parser.add_argument("--epochs", type=int, help="of ours; without it the usual number")
    parser.add_argument("--repeats", type=int, default=3, help="trainings of ours, each from another seed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=7200.0, help="seconds that one process may take")
    parser.add_argument("--out", help="the result file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
