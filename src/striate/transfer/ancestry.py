"""Which images a network has seen: those of its run, and those of whatever that run started from.

Published weights and state dicts of others count as having seen none: what they were trained on is nowhere written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from striate.data import Dataset, Split
from striate.errors import StriateError
from striate.network import read_spelling
from striate.options.transfer import KEEP
from striate.progress import Progress
from striate.runfolder import RunFolder, is_run
from striate.training.start import AUTO, SCRATCH

_LONGEST = 8  # runs, one started from the other


@dataclass(frozen=True, slots=True)
class Seen:
    """What a network was trained on."""

    images: frozenset[str] = frozenset()  # hashes of their contents
    is_run: bool = False  # a run here, or a file of one
    unread: str | None = None  # the first of its ancestors, or itself, of which it cannot be told

    def among(self, split: Split) -> np.ndarray:
        """Bool [n]: which images of a split it has seen."""
        return np.array([row.tobytes().hex() in self.images for row in split.digests], dtype=bool)


def seen_by(source: str, longest: int = _LONGEST) -> Seen:
    """What the network that is spelt `source` was trained on, and what it started from before it."""
    if source in (AUTO, SCRATCH):
        return Seen()
    try:
        read = read_spelling(source)
    except StriateError:  # moved or removed since
        return Seen(unread=source)
    if read.kind != "saved":
        return Seen()
    run = run_of(read.path)
    if run is None or not longest:
        return Seen(unread=source)
    own = _learned_from(run)
    if own is None:
        return Seen(is_run=True, unread=str(run.path))
    try:
        recipe = run.read_recipe()
    except (StriateError, OSError):
        return Seen(own, is_run=True, unread=str(run.path))
    start = recipe.model.from_
    if recipe.transfer.scenario == KEEP:  # it has learned from none
        own = frozenset()
    before = seen_by(start, longest - 1) if isinstance(start, str) else Seen(unread=str(run.path))
    return Seen(own | before.images, is_run=True, unread=before.unread)


def run_of(path: Path) -> RunFolder | None:
    """The run that a path is of: its folder, its model file, or one of its snapshots."""
    if is_run(path):
        return RunFolder(path)
    for folder in path.resolve().parents[:2]:
        run = RunFolder(folder)
        if is_run(folder) and path.resolve() in (run.model.resolve(), run.snapshots.resolve() / path.name):
            return run
    return None


def _learned_from(run: RunFolder) -> frozenset[str] | None:
    """The hashes of a run's training images; None where they cannot be told."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(run.manifest, columns=["hash", "split", "reason"])
        rows = list(zip(*(table[name].to_pylist() for name in ("hash", "split", "reason")), strict=True))
    except (OSError, KeyError, pa.ArrowException):
        return None
    hashes = [digest for digest, split, reason in rows if split == "train" and reason is None]
    return frozenset(hashes) if hashes and all(hashes) else None


def warn_of_known_images(source: str, dataset: Dataset, progress: Progress, splits: Iterable[str] = ()) -> None:
    """Say which images of `splits` (none: all there are) a network has seen: what is measured on them flatters it."""
    seen = seen_by(source)
    for name, split in dataset.splits.items():
        known = int(seen.among(split).sum()) if not splits or name in splits else 0
        if known:
            progress.warn(f"{source} was trained on {known} of the {len(split)} {name} images: it is flattered by them")
    if seen.unread is not None:
        what = "it" if seen.unread == source else f"{seen.unread}, from which it comes,"
        progress.say(f"{source}: which images {what} was trained on cannot be told; these may be among them")
