"""Images that a second look may pay for, by the codes of a trained network: labels that are probably wrong, and the
images farthest from all others.

Labels: every image of every split is answered by a linear classifier of the codes that has seen neither it nor a copy
of it nor one of its group; confident learning (`metrics.confident`) then says which labels these answers contradict. Of
those, the ones with some probability left are dropped: a weak classifier contradicts many labels, but few firmly.

Far images: a ranking by the distance to the k-th nearest other image, codes scaled to length 1, copies counted once.
Where "too far" begins nothing says: every set has its farthest. Source: Sun et al., "Out-of-Distribution Detection with
Deep Nearest Neighbors", ICML 2022, arXiv:2204.06507.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from striate.checkpoint import SavedModel
from striate.data import CheckReport, Dataset
from striate.data.parts import digests_of
from striate.data.split_file import units
from striate.errors import UsageError
from striate.linear.classifiers import fold_numbers, out_of_fold
from striate.linear.solver import axes_of
from striate.metrics.confident import confident_labels
from striate.options import TrainOptions
from striate.progress import Progress, Silent
from striate.transfer.codes import code_folder, codes_of
from striate.transfer.probing import opened, probe

DOUBT = (
    0.02  # probability of its label below which an image is listed: of 0.005 to 0.05 the balance between few and wrong
)
KIND = "softmax"  # its probabilities find more than an SVM's, which have only one temperature to be right by
NEIGHBOURS = 5  # k
FARTHEST = 24  # images that are listed, at most; of small sets one in fifty
_REFERENCE = 20_000  # images, at most, among which neighbours are looked for
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class LabelSuspect:
    """An image whose label is probably wrong."""

    path: str
    split: str
    label: str
    suggested: str
    probability: float  # of the label, by a classifier that had not seen the image
    suggested_probability: float


@dataclass(frozen=True, slots=True)
class FarImage:
    """One of the images that are least like all others."""

    path: str
    split: str
    label: str
    distance: float  # to its k-th nearest neighbour, over the median of all images


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """What a network's codes cast doubt on, the gravest first."""

    source: str
    place: str  # of the codes
    kind: str  # of classifier
    images: int  # that were answered
    accuracy: float  # share of labels that the answers agree with
    labels: tuple[LabelSuspect, ...]
    far: tuple[FarImage, ...]

    def to_dict(self) -> dict[str, Any]:
        """The form that `striate check --json` prints."""
        return asdict(self)


def find_suspects(
    dataset: Dataset,
    report: CheckReport,
    source: str | SavedModel,
    options: TrainOptions | None = None,
    *,
    cache: Path | bool | None = True,
    progress: Progress | None = None,
) -> Suspects:
    """Doubtful labels and the farthest images, in all splits.

    The place of the codes is what `probe` finds best on training images.

    Args:
        dataset: loaded for training.
        report: what `examine` found in it.
        source: a network, as it is spelt or opened. One that was trained on these images has learned their labels,
            right or wrong: it finds little.
        options: how the network is fed, device and precision, images of the probe.
        cache: as for `probe`.
        progress: shows bars.

    Raises:
        UsageError: a network without weights, or too few images to hold any out.
        DataError: data of one class.
        Also what `open_network` and `codes_of` raise.
    """
    options, progress = options or TrainOptions(), progress or Silent()
    name = source if isinstance(source, str) else str(source.notes.get("source", source.model.architecture.name))
    saved = opened(source, dataset, options, progress)
    found = probe(dataset, [saved], options, images=options.transfer.probe_images, cache=cache, progress=progress)
    place = found.sources[0].best_place
    images = _Everything(dataset, report)
    codes = _codes(saved, dataset, place, options, cache, progress)
    folds = fold_numbers(images.targets, digests=images.digests, groups=images.units)
    with progress.task("doubtful labels", 1) as task:
        answers = out_of_fold(axes_of(codes), images.targets, len(dataset.labels), kind=KIND, folds=folds)
        task.advance()
    held = np.flatnonzero(answers.held_out)
    if not len(held):
        raise UsageError(f"{dataset.name}: too few images to hold any out", "that takes two of each of two classes")
    chances, targets = answers.probabilities, images.targets[held]
    confident = confident_labels(chances, targets)
    names = dataset.labels.names
    labels = tuple(
        LabelSuspect(
            images.paths[held[row]], images.splits[held[row]], names[targets[row]], names[confident.counted[row]],
            float(chances[row, targets[row]]), float(chances[row, confident.counted[row]]),
        )
        for row in confident.suspects.tolist()
        if chances[row, targets[row]] < DOUBT
    )  # fmt: skip
    return Suspects(
        source=name, place=place, kind=KIND, images=len(held), accuracy=float(answers.correct.mean()),
        labels=labels, far=tuple(_far(codes, images, progress)),
    )  # fmt: skip


class _Everything:
    """The readable images of all splits in one row of columns."""

    def __init__(self, dataset: Dataset, report: CheckReport) -> None:
        splits = dataset.splits.values()
        alike = (*report.duplicate_groups, *report.near_duplicate_groups)
        unit_of, copies = units(dataset, alike), units(dataset, alike, given=False)
        self.names = dataset.labels.names
        self.paths = [path for split in splits for path in split.paths]
        self.splits = [split.name for split in splits for _ in range(len(split))]
        self.targets = np.concatenate([np.asarray(split.targets, np.int64) for split in splits])
        self.digests = np.concatenate([digests_of(split) for split in splits])
        self.units = [unit_of.get(path) for path in self.paths]
        self.copies: Sequence[str] = [copies.get(path, path) for path in self.paths]  # one name for each content


def _codes(
    saved: SavedModel, dataset: Dataset, place: str, options: TrainOptions, cache: Path | bool | None,
    progress: Progress,
) -> np.ndarray:  # fmt: skip
    """float32 [n, D], in the order of the splits."""
    if cache is True:
        try:
            cache = code_folder()
        except RuntimeError:  # the probe has said so
            cache = None
    runtime = options.runtime
    return np.concatenate([
        codes_of(
            saved, split, places=(place,), precision=runtime.precision, device=runtime.device, cache=cache or None,
            progress=progress,
        ).by_place[place]
        for split in dataset.splits.values()
        if len(split)
    ])  # fmt: skip


def _far(codes: np.ndarray, images: _Everything, progress: Progress) -> list[FarImage]:
    _, first, copy_of = np.unique(np.array(images.copies, dtype=object), return_index=True, return_inverse=True)
    distances = neighbour_distances(codes[first], progress=progress)[copy_of.reshape(-1)]
    farthest = np.argsort(-distances, kind="stable")[: min(FARTHEST, max(1, len(distances) // 50))]
    return [
        FarImage(images.paths[row], images.splits[row], images.names[images.targets[row]], float(distances[row]))
        for row in farthest.tolist()
    ]


def neighbour_distances(codes: np.ndarray, *, progress: Progress | None = None) -> np.ndarray:
    """float64 [n]: distance of each code [n, D], scaled to length 1, to its k-th nearest other, over their median.

    Of more than 20,000, neighbours are looked for among as many, evenly chosen.
    """
    n = len(codes)
    unit = torch.from_numpy(codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-12)).float()
    among = torch.from_numpy(np.linspace(0, n - 1, min(n, _REFERENCE)).round().astype(np.int64))
    reference, k = unit[among].T.contiguous(), min(NEIGHBOURS, len(among) - 1)
    if k < 1:
        return np.ones(n)
    likeness = np.empty(n)
    with (progress or Silent()).task("far images", n) as task:
        for start in range(0, n, _CHUNK):
            rows = torch.arange(start, min(start + _CHUNK, n))
            products = unit[rows] @ reference
            products[rows[:, None] == among[None, :]] = -torch.inf
            likeness[rows.numpy()] = products.topk(k, dim=1).values[:, -1].numpy()
            task.advance(len(rows))
    distances = np.sqrt(np.maximum(2 - 2 * likeness, 0))
    return distances / max(float(np.median(distances)), 1e-12)
