"""Which images a trained network is scored on: those held out of its own data, or others."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from striate.data import Dataset, Split, load_data
from striate.data.sources.sides import ALL
from striate.errors import UsageError
from striate.evaluation.labels import matched, numbers_of
from striate.network.calibration import same_data
from striate.options import DataOptions, TrainOptions, merged
from striate.progress import Progress
from striate.spec import Labels

_SHOWN = 10  # names of absent classes
_HELD_OUT = {"val", "test"}
# options that divide training images
_OF_TRAINING = ("val_fraction", "test_fraction", "split_seed", "fold", "limit", "split_file")


def images_to_score(
    data: str | Path | Dataset | None,
    recipe: TrainOptions | None,
    changes: dict[str, Any],
    *,
    split: str | None,
    trained_on: Collection[str | None],
    run: str | Path,
    progress: Progress,
) -> tuple[Dataset, list[Split]]:
    """The data and the splits of them that are scored, their targets in the data's own numbering.

    Args:
        data: see `evaluate_run`.
        recipe: of the run, which knows its data; None for a model file.
        changes: options of the data that are to differ from the recipe's, by name.
        split: see `evaluate_run`.
        trained_on: names of data that a network was trained on, as model files keep them.
        run: what to call the network in an error.
        progress: shows bars, and says what the data lack.

    Raises:
        UsageError, DataError: see `evaluate_run`.
    """
    if isinstance(data, Dataset):
        return data, _chosen(data, split, data.name in trained_on)
    options, own = _data_options(data, recipe, changes, run)
    dataset = load_data(options, scoring=not own, progress=progress)
    if recipe is None and dataset.name in trained_on:
        own = True
        if set(dataset.splits) - _HELD_OUT:  # the data of a model file are known by name only once they are read
            dataset = load_data(options, progress=progress)
    chosen = _chosen(dataset, split, own)
    names = {one.name for one in chosen}
    if own and recipe is None and names <= _HELD_OUT and not (dataset.official_test and names == {"test"}):
        progress.warn(
            f"{run} does not say how {dataset.name} was divided when it was trained: it may have learned from some of "
            "these images; its run folder knows"
        )
    if not own:
        _refuse_splitting(options)
        for note in dataset.notes:
            progress.say(note)
    return dataset, chosen


def strangers_to_score(
    data: str | Path | Dataset, recipe: TrainOptions | None, changes: dict[str, Any], progress: Progress
) -> tuple[Dataset, list[Split]]:
    """Images that nobody asks the labels of, and which of their splits are scored: their own test split, else all.

    Raises:
        DataError, UnknownNameError, OfflineError: see `load_data`.
    """
    if not isinstance(data, Dataset):
        like = recipe.data if recipe is not None else DataOptions()
        options = DataOptions(data=str(data), data_root=like.data_root, offline=like.offline)
        places = {name: changes[name] for name in ("data_root", "offline", "workers") if name in changes}
        data = load_data(merged(options, places, "data"), scoring=True, labelled=False, progress=progress)
    return data, _chosen(data, None, False)


def matched_and_told(splits: list[Split], dataset: Dataset, labels: Labels, progress: Progress) -> list[Split]:
    """The splits with targets that number the outputs of a network (see `matched`); absent classes are said.

    Raises:
        DataError: see `matched`.
    """
    found = [matched(one, dataset.labels, labels) for one in splits]
    present = set(numbers_of(dataset.labels, labels))
    absent = [name for number, name in enumerate(labels.names) if number not in present]
    if absent:
        progress.say(f"{dataset.name} has no images of {_in_words(absent, len(labels))}")
    return found


def _data_options(
    data: str | Path | None, recipe: TrainOptions | None, changes: dict[str, Any], run: str | Path
) -> tuple[DataOptions, bool]:
    """The data to load, and whether they are what the network was trained on."""
    if data is None and recipe is None:
        raise UsageError(
            f"{run} is no run folder: a network alone does not know its data", "name DATA to evaluate it on"
        )
    if recipe is None:
        return merged(DataOptions(data=str(data)), changes, "data"), False
    own = data is None or same_data(data, recipe.data.data)
    if own:  # split as it was for training, else validation images would be training images
        return merged(recipe.data, changes, "data"), True
    others = DataOptions(data=str(data), data_root=recipe.data.data_root, offline=recipe.data.offline)
    return merged(others, changes, "data"), False


def _in_words(absent: list[str], classes: int) -> str:
    """The absent classes by name, or only their number where they are many and most."""
    if len(absent) <= _SHOWN:
        return ", ".join(absent)
    if len(absent) > classes / 2:
        return f"{len(absent)} of the network's {classes} classes"
    return f"{', '.join(absent[:_SHOWN])} and {len(absent) - _SHOWN} more classes"


def _refuse_splitting(options: DataOptions) -> None:
    """Whoever asks for held-out images of other data must not be given all of them."""
    usual = DataOptions()
    asked = [name for name in _OF_TRAINING if getattr(options, name) != getattr(usual, name)]
    if asked:
        raise UsageError(
            f"{options.data} is only scored, not split: {', '.join(asked)} would change nothing",
            "leave it out; data in folders train, val and test keep these splits",
        )


def _chosen(dataset: Dataset, split: str | None, own: bool) -> list[Split]:
    there = {name: one for name, one in dataset.splits.items() if len(one) or one.unreadable}
    if split is None and "test" in there and (own or dataset.official_test):
        split = "test"
    elif split is None:
        split = "val" if own else ALL
    if split == ALL:
        return list(there.values())
    if split not in there:
        if set(there) == {ALL}:
            raise UsageError(f"{dataset.name} has no {split} split", f"{ALL} its images are scored: leave --split out")
        raise UsageError(f"{dataset.name} has no {split} split", f"it has: {', '.join(there)}, or {ALL} of them")
    return [there[split]]
