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
from striate.data import load_data
from striate.data.given import expand, pixels_or_reason
from striate.data.normalise import normalise
from striate.errors import UsageError
from striate.explanation.attribution.question import logits_of
from striate.explanation.explaining import chances_of, folder_truth
from striate.explanation.undisturbed import undisturbed
from striate.network.engines import usual_batch
from striate.progress import Progress
from striate.runfolder import RunFolder, is_run

_LOOKED_AT = 2000  # of the images that a run held out, spread evenly: more would take long and show the same


@dataclass(frozen=True, slots=True)
class Chosen:
    """Images in order, with their names and, where they are known, their classes."""

    images: Sequence[Any]
    names: Sequence[str]
    truths: Sequence[str | None]
    page: bool  # whether they make a page
    about: str  # which they are, in a few words


def chosen_images(
    saved: SavedModel, given: Sequence[str], *, limit: int, offline: bool = False, progress: Progress | None = None
) -> Chosen:
    """The images that `given` names, or without any those that the run of `saved` held out.

    Folders and patterns, and images that were held out, make a page: if they are more than `limit`, the network answers
    to each and the surest mistakes are taken, then those of unknown class as they come, then the least sure of the
    right answers.

    Raises:
        UsageError: no image is named, and the network is not that of a run.
        DataError: the data of the run cannot be had any more.
    """
    progress = progress or Progress()
    if given:
        found = list(expand(list(given)))
        names = [name for name, _ in found]
        truths = [folder_truth(name, saved.labels) for name in names]
        page = any(os.path.isdir(one) or (glob.has_magic(one) and not os.path.exists(one)) for one in given)
        chosen = Chosen(
            [source for _, source in found], names, truths, page, f"{len(found)} images of {', '.join(given)}"
        )
    else:
        chosen = _held_out(saved, offline, progress)
    return _telling(saved, chosen, limit, progress) if chosen.page and len(chosen.images) > limit else chosen


def _held_out(saved: SavedModel, offline: bool, progress: Progress) -> Chosen:
    if saved.path == Path() or not is_run(saved.path.parent):
        raise UsageError("no image is named", "name images or a folder; only a run knows images of its own")
    options = RunFolder(saved.path.parent).read_recipe().data
    data = load_data(replace(options, offline=options.offline or offline), progress=progress)
    split = data.splits.get("val") or data.splits.get("test") or data.splits["train"]
    rows = np.unique(np.linspace(0, len(split) - 1, min(len(split), _LOOKED_AT)).round().astype(int)).tolist()
    truths: list[str | None] = [None] * len(rows)
    if split.targets.ndim == 1:  # one class an image
        truths = [data.labels.names[split.targets[row]] for row in rows]
    images = _Lazily(split.images, rows)
    names = [str(split.paths[row]) for row in rows]
    return Chosen(images, names, truths, True, f"{options.data}, {split.name} images")


class _Lazily(Sequence[Any]):
    """Some images of a data set, each decoded when it is its turn."""

    def __init__(self, images: Any, rows: Sequence[int]) -> None:
        self._images, self._rows = images, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        return self._images.raw(self._rows[place])


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
    """Probabilities batch by batch, with the number of the first image; unreadable ones count as grey."""
    device = next((one.device for one in saved.model.parameters()), torch.device("cpu"))
    numbers = iter(range(len(images)))
    while chunk := list(islice(numbers, usual_batch(saved.spec))):
        read = [pixels_or_reason(images[row], saved.spec) for row in chunk]
        shape = (saved.spec.channels, *saved.spec.size)
        stored = np.stack([np.zeros(shape, np.uint8) if isinstance(one, str) else one for one in read])
        with undisturbed(saved.model), torch.no_grad():
            logits = logits_of(saved.model, normalise(torch.from_numpy(stored).to(device), saved.spec))
        yield chunk[0], chances_of(logits, saved)
