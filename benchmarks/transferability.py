"""How general are the layers of each depth? The experiment of Yosinski et al. 2014 (arXiv:1411.1792, sec. 3, fig. 2).

The classes of a set are divided at random into halves A and B, and a network is trained on each. Then, for every depth
n, networks learn B whose first n places are copied and whose others start anew:

    BnB   copied from B's own network and frozen: what breaks apart that had learned together?
    BnB+  the same, but all of it goes on learning
    AnB   copied from A's and frozen: how general is what A's network found?
    AnB+  the same, but all of it goes on learning

Every network is trained alike, as the two it came from. Where batch norm is frozen its statistics are, too.

    python benchmarks/transferability.py --data-root DIR [--data cifar10] [--model cifar_resnet20] [--epochs 8]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import RESULTS, markdown_table, say
from resumable import ResultFile, Row

import striate
from striate.data import Dataset, load_data
from striate.data.parts import part_of
from striate.models import ConvNet, create_model
from striate.models.cut import modules_up_to, places
from striate.network import open_network
from striate.options import DataOptions
from striate.progress import Silent
from striate.spec import Labels

TREATMENTS = {"BnB": ("B", True), "BnB+": ("B", False), "AnB": ("A", True), "AnB+": ("A", False)}  # from, frozen
BASE = "base"


def main() -> None:
    args = arguments()
    key = ("data", "model", "epochs", "limit", "split", "treatment", "place")
    result = ResultFile(Path(args.out), "benchmarks/transferability.py", key, summary, fresh=args.fresh)
    whole = load_data(DataOptions(data=args.data, data_root=args.data_root, limit=args.limit), progress=Silent())
    for split in range(args.splits):
        halves = in_halves(whole, split)
        bases = {name: trained(None, halves[name], args, split, result, f"{BASE} {name}", "") for name in "AB"}
        for place in places(bases["B"]):
            for treatment, (source, frozen) in TREATMENTS.items():
                begun = upper_part_anew(bases[source], place, seed=split + 1)
                frozen_to = place if frozen else None
                trained(begun, halves["B"], args, split, result, treatment, place, frozen_to=frozen_to)
    result.write()
    print(table(result.rows))


def in_halves(whole: Dataset, seed: int) -> dict[str, Dataset]:
    """The classes divided at random into two sets of as many; each has its images alone."""
    order = np.random.default_rng(seed).permutation(len(whole.labels))
    half = len(order) // 2
    return {"A": of_classes(whole, np.sort(order[:half])), "B": of_classes(whole, np.sort(order[half : 2 * half]))}


def of_classes(whole: Dataset, classes: np.ndarray) -> Dataset:
    splits = {}
    for name, split in whole.splits.items():
        part = part_of(split, np.flatnonzero(np.isin(split.targets, classes)))
        splits[name] = replace(part, targets=np.searchsorted(classes, part.targets).astype(np.int64))
    names = tuple(whole.labels.names[number] for number in classes.tolist())
    return replace(whole, splits=splits, labels=Labels(names), options=None)


def upper_part_anew(base: ConvNet, place: str, seed: int) -> ConvNet:
    """A copy of `base` in which everything behind `place` starts at random."""
    anew = copy.deepcopy(base)
    anew.reset_parameters(torch.Generator().manual_seed(seed))
    for ours, theirs in zip(modules_up_to(anew, place), modules_up_to(base, place), strict=True):
        ours.load_state_dict(theirs.state_dict())
    return anew


def trained(
    begun: ConvNet | None,
    data: Dataset,
    args: argparse.Namespace,
    split: int,
    result: ResultFile,
    treatment: str,
    place: str,
    frozen_to: str | None = None,
) -> ConvNet:
    """One training, told to the result file; of one that it holds already only a base is trained again."""
    row: Row = {"data": args.data, "model": args.model, "epochs": args.epochs, "limit": args.limit, "split": split}
    row |= {"treatment": treatment, "place": place}
    if begun is not None and result.holds(**row):
        return begun
    if begun is None:
        torch.manual_seed(split)
        channels, size = data.channels, data.native_size
        begun = create_model(args.model, classes=len(data.labels), in_channels=channels, input_size=size)
    with tempfile.TemporaryDirectory(prefix="transferability-") as folder:
        told = striate.train(
            data, model=begun, epochs=args.epochs, seed=split, freeze_to=frozen_to, best_by="last", report=False,
            evaluate_every=10**6, run_dir=str(Path(folder) / "run"), threads=args.threads, progress=False,
        )  # fmt: skip
        network = open_network(told.run).model
    assert told.test is not None
    if not result.holds(**row):
        row |= {"top1": told.test.top1, "n": told.test.n, "seconds": round(told.seconds, 2)}
        result.add(row)
        say(f"split {split}, {treatment} {place}: {told.test.top1:.4f} of {told.test.n}, {told.seconds:.0f} s")
    return network


def summary(rows: list[Row]) -> dict[str, Any]:
    """By network, treatment and place: the mean over splits, and the mean difference to B's own network."""
    own = {setting(row): row["top1"] for row in rows if row["treatment"] == f"{BASE} B"}
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if setting(row) in own:
            name = " ".join(str(row[part]) for part in ("data", "model", "epochs", "limit", "treatment", "place"))
            found.setdefault(name.strip(), []).append((row["top1"], row["top1"] - own[setting(row)]))
    return {
        name: {
            "splits": len(pairs),
            "top1": statistics.fmean(top1 for top1, _ in pairs),
            "to_base": statistics.fmean(ahead for _, ahead in pairs),
            "to_base_of_splits": [ahead for _, ahead in pairs],
        }
        for name, pairs in found.items()
    }


def setting(row: Row) -> tuple[Any, ...]:
    """What is alike for the rows that are compared."""
    return tuple(row[part] for part in ("data", "model", "epochs", "limit", "split"))


def table(rows: list[Row]) -> str:
    """Difference to B's own network, in points, by place."""
    own = {setting(row): row["top1"] for row in rows if row["treatment"] == f"{BASE} B"}
    lines = []
    for place in dict.fromkeys(row["place"] for row in rows if row["place"]):
        cells = []
        for treatment in TREATMENTS:
            here = [r for r in rows if (r["place"], r["treatment"]) == (place, treatment) and setting(r) in own]
            ahead = [100 * (row["top1"] - own[setting(row)]) for row in here]
            cells.append(f"{statistics.fmean(ahead):+.1f}" if ahead else "–")
        lines.append([place, *cells])
    base = f"base B: {100 * statistics.fmean(own.values()):.1f} %, mean of {len(own)}" if own else ""
    return "\n".join([base, "", markdown_table(["copied up to", *TREATMENTS], lines)])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="a named set with test images, of four classes or more")
    parser.add_argument("--data-root", help="where it lies")
    parser.add_argument("--model", default="cifar_resnet20")
    parser.add_argument("--epochs", type=int, default=8, help="of every training")
    parser.add_argument("--limit", type=int, help="training images of all classes together [all]")
    parser.add_argument("--splits", type=int, default=1, help="random divisions of the classes")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--fresh", action="store_true", help="forget what the result file holds")
    parser.add_argument("--out", default=str(RESULTS / "transferability.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
