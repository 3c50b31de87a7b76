"""Which images a page shows: those that are named, or that a run held out; of many those that tell most."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from striate.checkpoint import SavedModel
from striate.data import Images, load_data
from striate.data.given import expand, pixels_or_reason
from striate.data.normalise import normalise
from striate.data.wording import counted
from striate.errors import UsageError
from striate.explanation.attribution.question import logits_of
from striate.explanation.explaining import chances_of, class_called, folder_truth
from striate.explanation.undisturbed import undisturbed
from striate.network.engines import run_of, usual_batch
from striate.options import DataOptions
from striate.progress import Progress
from striate.runfolder import RunFolder

_LOOKED_AT = 2000  # of the images that a run held out, spread evenly: more would take long and show the same


@dataclass(frozen=True, slots=True)
class Chosen:
    """Images in order, with their names and, where they are known, their classes."""

    images: Sequence[Any]
    names: Sequence[str]
    truths: Sequence[str | None]
    page: bool  # whether they make a page
    about: str  # which they are, in a few words
    labels: Sequence[str | None] | None = None  # what data call each, known to the network or not; None: the truths


def chosen_images(
    saved: SavedModel, given: Sequence[str], *, limit: int, data: str | None = None, offline: bool = False,
    progress: Progress | None = None,
) -> Chosen:  # fmt: skip
    """`found_images`; those that make a page, and are more than `limit`, are chosen from.

    The network answers to each, and the surest mistakes are taken, then those of unknown class as they come, then the
    least sure of the right answers.

    Raises:
        As `found_images`.
    """
    progress = progress or Progress()
    found = found_images(saved, given, data=data, offline=offline, progress=progress)
    return _telling(saved, found, limit, progress) if found.page and len(found.images) > limit else found


def found_images(
    saved: SavedModel, given: Any, *, data: str | None = None, offline: bool = False, progress: Progress | None = None
) -> Chosen:
    """The images that `given` names, those of `data`, or without any those that the run of `saved` held out.

    Folders and patterns, `data` and images that were held out make a page. Of a run's own images there are at most
    2000, spread evenly.

    Args:
        saved: the network.
        given: paths, folders and patterns, or other images that `predict` takes.
        data: a data set, spelt as for `evaluate`: all of its images.
        offline: never use the network.
        progress: is told how far the reading is.

    Raises:
        UsageError: no image is named and the network is not that of a run, or images and `data` are.
        DataError: the data cannot be had.
    """
    progress = progress or Progress()
    named = _is_named(given)
    if data is not None:
        if named:
            raise UsageError("images are named and --data, too", "leave one of them out")
        return _of_data(data, saved, offline, progress)
    if not named:
        return _held_out(saved, offline, progress)
    found = list(expand(given))
    names = [name for name, _ in found]
    truths = [folder_truth(name, saved.labels) for name in names]
    several = isinstance(given, list | tuple)
    paths = [str(one) for one in (given if several else [given]) if isinstance(one, str | Path)]
    page = any(os.path.isdir(one) or (glob.has_magic(one) and not os.path.exists(one)) for one in paths)
    of = f" of {', '.join(map(_shortened, paths))}" if paths else ""
    return Chosen([source for _, source in found], names, truths, page, f"{counted(len(found), 'image', 'images')}{of}")


def has_images(saved: SavedModel, given: Any, data: str | None = None) -> bool:
    """Whether `found_images` has anything to go by."""
    return data is not None or _is_named(given) or run_of(saved) is not None


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` rows, evenly spread: data sets are often in the order of their classes."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def _shortened(path: str, most: int = 44) -> str:
    return path if len(path) <= most else f"…{path[1 - most :]}"


def _is_named(given: Any) -> bool:
    return given is not None and not (isinstance(given, list | tuple) and not given)


def _of_data(name: str, saved: SavedModel, offline: bool, progress: Progress) -> Chosen:
    """All images of a data set; where it has several splits, one split after the other."""
    data = load_data(DataOptions(data=name, offline=offline), scoring=True, progress=progress)
    splits = list(data.splits.values())
    images = _Lazily([(split.images, row) for split in splits for row in range(len(split))])
    names = [str(path) for split in splits for path in split.paths]
    labels: list[str | None] = [None] * len(images)
    if not data.labels.multi_label:
        labels = [data.labels.names[target] for split in splits for target in split.targets.tolist()]
    truths = [None if one is None else class_called(one, saved.labels) for one in labels]
    return Chosen(
        images, names, truths, True, f"{counted(len(images), 'image', 'images')} of {_shortened(name)}", labels
    )


def _held_out(saved: SavedModel, offline: bool, progress: Progress) -> Chosen:
    folder = run_of(saved)
    if folder is None:
        raise UsageError(
            "no image is named",
            "name images or a folder, or --data with a data set; only a run knows images of its own",
        )
    options = RunFolder(folder).read_recipe().data
    data = load_data(replace(options, offline=options.offline or offline), progress=progress)
    split = data.splits.get("val") or data.splits.get("test") or data.splits["train"]
    rows = spread(len(split), _LOOKED_AT)
    truths: list[str | None] = [None] * len(rows)
    if split.targets.ndim == 1:  # one class an image
        truths = [data.labels.names[split.targets[row]] for row in rows]
    images = _Lazily([(split.images, row) for row in rows])
    names = [str(split.paths[row]) for row in rows]
    return Chosen(images, names, truths, True, f"{options.data}, {split.name} images")


class _Lazily(Sequence[Any]):
    """Images of data sets by their rows, each decoded when it is its turn."""

    def __init__(self, places: Sequence[tuple[Images, int]]) -> None:
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: Any) -> Any:
        images, row = self._places[place]
        return images.raw(row)


def _telling(saved: SavedModel, chosen: Chosen, limit: int, progress: Progress) -> Chosen:
    """The `limit` of the images that tell most."""
    keys: list[tuple[int, float, int]] = []
    names, several = saved.labels.names, saved.labels.multi_label
    with progress.task("choosing", len(chosen.images)) as task:
        for start, chances in _answers(saved, chosen.images):
            best, classes = chances.max(1)
            for row, (chance, number) in enumerate(zip(best.tolist(), classes.tolist(), strict=True), start):
                truth = chosen.truths[row]
                if truth is None or several:
                    keys.append((1, row, row))
                else:
                    keys.append((2, chance, row) if names[number] == truth else (0, -chance, row))
            task.advance(len(chances))
    kept = [row for _, _, row in sorted(keys)[:limit]]
    wrong = sum(kind == 0 for kind, _, _ in keys)
    known = any(truth is not None for truth in chosen.truths) and not several
    about = f"{chosen.about}: {len(kept)} of {len(keys)}" + (
        f"; {wrong} of the {len(keys)} are mistaken" if known else ""
    )
    return Chosen(
        [chosen.images[row] for row in kept], [chosen.names[row] for row in kept], [chosen.truths[row] for row in kept],
        chosen.page, about,
    )  # fmt: skip


def _answers(saved: SavedModel, images: Sequence[Any]) -> Iterator[tuple[int, torch.Tensor]]:
    """Probabilities batch by batch, with the number of the first image; unreadable ones count as black."""
    device = next((one.device for one in saved.model.parameters()), torch.device("cpu"))
    numbers = iter(range(len(images)))
    while chunk := list(islice(numbers, usual_batch(saved.spec))):
        read = [pixels_or_reason(images[row], saved.spec) for row in chunk]
        shape = (saved.spec.channels, *saved.spec.size)
        stored = np.stack([np.zeros(shape, np.uint8) if isinstance(one, str) else one for one in read])
        with undisturbed(saved.model), torch.no_grad():
            logits = logits_of(saved.model, normalise(torch.from_numpy(stored).to(device), saved.spec))
        yield chunk[0], chances_of(logits, saved)
