"""A trained network on its own data, or on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from striate.data import Dataset, Split, load_data, normalise
from striate.data.sources.sides import ALL
from striate.errors import UsageError
from striate.evaluation.by_column import scores_by
from striate.evaluation.costs import read_costs
from striate.evaluation.labels import matched, numbers_of
from striate.evaluation.protocols import check_views, passes_of, takes_any_size
from striate.evaluation.single_crop import evaluate
from striate.evaluation.table import Evaluation
from striate.network import open_network, read_spelling
from striate.network.calibration import same_data
from striate.network.engines import make_ready, usual_batch
from striate.options import DataOptions, TrainOptions, merged
from striate.progress import Progress, Silent
from striate.runfolder import RunFolder
from striate.spec import InputSpec

_SHOWN = 10  # names of absent classes
_HELD_OUT = {"val", "test"}
_OF_TRAINING = ("val_fraction", "test_fraction", "split_seed", "fold", "limit")  # options that divide training images


def evaluate_run(
    run: str | Path,
    data: str | Path | Dataset | None = None,
    *,
    split: str | None = None,
    data_options: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str | None = None,
    backend: str = "auto",
    calibration: str | Path | None = None,
    threads: int | None = None,
    views: str = "single",
    by: str | None = None,
    costs: str | Path | None = None,
    runs: str | Path = "runs",
    progress: Progress | None = None,
) -> Evaluation:
    """Score the network of a run folder, of a model file, or of published weights.

    On the data it was trained on (`data` None, or the same again) that is the test split, or val where there is none.
    On others it is their test split where they bring one of their own, otherwise every image of theirs: they are only
    scored, so that nothing is held out of them, and no number of images is too small.

    Args:
        run: any spelling of a network (see `striate.network`); only a run folder knows its data.
        data: what `load_data` takes, or a loaded `Dataset`; its classes are matched with the network's by name.
        split: `train`, `val` or `test`, one that the data have, or `all` instead.
        data_options: options of the data that are to differ from the run's, by name.
        batch_size: images passed at once; None takes `usual_batch`: 32 photos of 224 pixels, 256 small images.
        device: see `pick_device`.
        precision: None takes the run's own where device and back end have it, else fp32; for the others see
            `make_ready`.
        backend: what computes; see `make_ready`.
        calibration: images for int8; None takes those that the run was trained on.
        threads: processor threads of back ends other than torch; None for `thread_limit`.
        views: `single`, or several of each image, whose answers are averaged: one of `protocols.VIEWS`.
        by: also score each value of this column apart (see `scores_by`).
        costs: a table of what mistakes cost (see `read_costs`): also say what the cheapest decisions come to.
        runs: the folder that holds the run folders.
        progress: shows bars, and says what the data lack.

    Raises:
        CheckpointError, UnknownNameError, ModelError, OfflineError: no usable network, or views that it does not allow.
        UsageError: a model file without data, a split that the data do not have, options that split other data, or
            views that the back end cannot compute.
        DataError: the data cannot be used, or have classes that the network does not know.
        MissingExtraError: a package of the extra `export` is not installed, and the back end needs it.
    """
    progress = progress or Silent()
    passes = passes_of(views)
    given = dict(data_options or {})
    folder = read_spelling(run, runs).run
    saved = open_network(run, runs=runs, offline=bool(given.get("offline")), progress=progress)
    check_views(views, saved.model, saved.spec, backend="torch" if backend == "auto" else backend)
    recipe = RunFolder(folder).read_recipe() if folder is not None else None
    if isinstance(data, Dataset):
        dataset, own = data, data.name == saved.notes.get("data")
    else:
        options, own = _data_options(data, recipe, given, run)
        dataset = load_data(options, scoring=not own, progress=progress)
        if recipe is None and dataset.name == saved.notes.get("data"):
            own = True
            if set(dataset.splits) - _HELD_OUT:  # the data of a model file are known by name only once they are read
                dataset = load_data(options, progress=progress)
        if not own:
            _refuse_splitting(options)
            for note in dataset.notes:
                progress.say(note)
    table = read_costs(costs, saved.labels) if costs is not None else None
    splits = _chosen(dataset, split, own)
    splits = [matched(one, dataset.labels, saved.labels) for one in splits]
    present = set(numbers_of(dataset.labels, saved.labels))
    absent = [name for number, name in enumerate(saved.labels.names) if number not in present]
    if absent:
        progress.say(f"{dataset.name} has no images of {_in_words(absent, len(saved.labels))}")
    chosen = "torch" if backend == "auto" and takes_any_size(views) else backend
    engine = make_ready(
        saved, backend=chosen, precision=precision,
        recorded=recipe.runtime.precision if recipe is not None else "fp32", device=device, threads=threads,
        calibration=calibration, images=sum(map(len, splits)), views=passes, offline=bool(given.get("offline")),
        progress=progress,
    )  # fmt: skip
    if chosen != backend:
        engine.why = f"the others have the network for its own input size only, {views} views for any"
    engine.compare_on(sum(map(len, splits)), partial(_images_at, splits, saved.spec, engine.device))
    batch_size = usual_batch(saved.spec) if batch_size is None else batch_size
    result = evaluate(saved, splits, batch_size=batch_size, views=views, engine=engine, costs=table, progress=progress)
    names = [one.name for one in splits]
    return replace(
        result,
        groups=scores_by(by, result.predictions, dataset, splits) if by is not None else None,
        model=saved.model.architecture.name,
        data=dataset.name,
        split=names[0] if len(names) == 1 else ALL,
    )


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


def _images_at(splits: list[Split], spec: InputSpec, device: torch.device, positions: Sequence[int]) -> torch.Tensor:
    """Normalised images [B, C, H, W] at positions in all splits one after the other, in order."""
    parts, start = [], 0
    for split in splits:
        here = [position - start for position in positions if start <= position < start + len(split)]
        if here:
            parts.append(normalise(split.images.take(np.array(here), spec).to(device), spec))
        start += len(split)
    return torch.cat(parts)
