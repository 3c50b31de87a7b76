"""The networks of an ensemble, opened: each with its own preprocessing, its classes in one order with the others'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from striate.checkpoint import SavedModel
from striate.data import Dataset, Split
from striate.errors import ModelError, UsageError
from striate.models.sources import is_own
from striate.network import open_network, read_spelling
from striate.network.calibration import same_data
from striate.network.engines import run_of
from striate.options import TrainOptions
from striate.progress import Progress
from striate.runfolder import RunFolder
from striate.spec import Labels

SNAPSHOT = "epoch-????.safetensors"  # the raw weights; their Polyak averages end otherwise
_DIVIDING = ("split_file", "split_column", "group", "val_fraction", "test_fraction", "split_seed", "fold")
_SHOWN = 5


@dataclass
class Member:
    """One network of an ensemble."""

    name: str
    spelling: str
    saved: SavedModel
    run: Path | None  # the run folder that it is of, or that its file lies in
    recipe: TrainOptions | None  # of that run
    order: list[int]  # the place among its outputs of each class of the ensemble


def open_members(
    networks: Sequence[str | Path], *, snapshots: bool, runs: str | Path, offline: bool, progress: Progress
) -> list[Member]:
    """The networks, or with `snapshots` the weights that each run kept along its way, in the order of their epochs.

    Raises:
        UsageError: fewer than two, one of them twice, a network that has no snapshots, or images of several labels.
        ModelError: they do not know the same classes.
        CheckpointError, UnknownNameError, OfflineError: see `open_network`.
    """
    spelt = [one for text in networks for one in _spelt(str(text), snapshots, runs, alone=len(networks) == 1)]
    if len(spelt) < 2:
        raise UsageError(
            f"{networks[0]} has a single snapshot" if snapshots else "an ensemble needs at least two networks",
            "train with --schedule cyclic or --snapshots N" if snapshots else "name several",
        )
    found: list[Member] = []
    for name, text in _told_apart(spelt):
        saved = open_network(text, runs=runs, offline=offline, progress=progress)
        if saved.labels.multi_label:
            raise UsageError(
                "networks for several labels an image are not averaged: their answers are no classes that exclude "
                "another",
                "evaluate each alone",
            )
        first = found[0] if found else None
        order = _order(saved.labels, first.saved.labels, (name, first.name)) if first is not None else None
        run = run_of(saved)
        recipe = RunFolder(run).read_recipe() if run is not None else None
        found.append(Member(name, text, saved, run, recipe, order or list(range(len(saved.labels)))))
        _refuse_twice(found)
    _warn_of_copies(found, progress)
    return found


def knows_the_data(members: Sequence[Member], data: str | Path | Dataset | None) -> Member:
    """The member whose run divides the data into splits: the first of these data, else the first of a run."""
    of_runs = [one for one in members if one.recipe is not None]
    if isinstance(data, (str, Path)):
        of_runs.sort(key=lambda one: not (one.recipe is not None and same_data(data, one.recipe.data.data)))
    return (of_runs or list(members))[0]


def refuse_seen_images(members: Sequence[Member], by: Member, dataset: Dataset, splits: Sequence[Split]) -> None:
    """Images that one run held out must not be those that another one learned from.

    Raises:
        UsageError: runs on the same data that divide them otherwise, where held-out images are scored.
    """
    held_out = {one.name for one in splits} <= {"val", "test"}
    official = dataset.official_test and {one.name for one in splits} == {"test"}
    if by.recipe is None or not held_out or official:
        return
    for words in differently_divided(members, by):
        raise UsageError(words, "score them on DATA of their own, or on the official test split where there is one")


def differently_divided(members: Sequence[Member], by: Member) -> Iterator[str]:
    """Of each member that divided the data of the run `by` otherwise than that run did, that and in what it differs."""
    for one in members:
        if one.recipe is None or by.recipe is None or not same_data(one.recipe.data.data, by.recipe.data.data):
            continue
        differing = [name for name in _DIVIDING if getattr(one.recipe.data, name) != getattr(by.recipe.data, name)]
        if differing:
            yield (
                f"{one.name} and {by.name} divide their data differently ({', '.join(differing)}): what one held out, "
                "the other learned from"
            )


def _spelt(text: str, snapshots: bool, runs: str | Path, *, alone: bool) -> list[tuple[str, str]]:
    """Name and spelling of each network that a word stands for."""
    read = read_spelling(text, runs)
    if not snapshots:
        name = read.run.resolve().name if read.run is not None else text
        return [(name, read.absolute if read.kind == "saved" else text)]
    kept = sorted(RunFolder(read.run).snapshots.glob(SNAPSHOT)) if read.run is not None else []
    if not kept or read.run is None:
        raise UsageError(f"{text} has kept no snapshots", "train with --schedule cyclic or --snapshots N")
    before, code = ("" if alone else f"{read.run.resolve().name}/"), (f"{read.model}:" if is_own(read.model) else "")
    return [(before + path.stem, f"{code}{path.resolve()}") for path in kept]


def _told_apart(spelt: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Runs in several folders may have one name: these go by their spelling."""
    times = Counter(name for name, _ in spelt)
    return [(name if times[name] == 1 else text, text) for name, text in spelt]


def _refuse_twice(members: Sequence[Member]) -> None:
    """Raises:
    UsageError: the last of the members is one of the others, whatever it was called.
    """
    last = members[-1]
    for one in members[:-1]:
        file = one.saved.path
        if one.spelling == last.spelling or (file.name and file.resolve() == last.saved.path.resolve()):
            words = f" as {one.name} and as {last.name}" if one.name != last.name else ""
            raise UsageError(f"{last.spelling} is named twice{words}: it would count twice", "name each network once")


def _warn_of_copies(members: Sequence[Member], progress: Progress) -> None:
    """Other files may hold the same weights: a copy, or a snapshot that became the run's model."""
    for place, one in enumerate(members):
        ours = one.saved.model.state_dict()
        for other in members[:place]:
            theirs = other.saved.model.state_dict()
            if ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours):
                progress.warn(f"{one.name} and {other.name} have the same weights: that network counts twice")
                break


def _order(theirs: Labels, ours: Labels, names: tuple[str, str]) -> list[int]:
    """The place in `theirs` of each class of `ours`.

    Raises:
        ModelError: not the same classes.
    """
    only = [sorted({*one.names} - {*other.names}) for one, other in ((theirs, ours), (ours, theirs))]
    if any(only):
        parts = [
            f"{name} alone knows {', '.join(some[:_SHOWN])}"
            + (f" and {len(some) - _SHOWN} more" * (len(some) > _SHOWN))
            for name, some in zip(names, only, strict=True)
            if some
        ]
        raise ModelError(
            f"the networks do not know the same classes: {'; '.join(parts)}",
            "average networks that were trained on the same classes; their order does not matter",
        )
    place = {name: number for number, name in enumerate(theirs.names)}
    return [place[name] for name in ours.names]
