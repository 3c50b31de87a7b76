"""Probing: what linear classifiers make of the codes at every depth of trained networks, on the training images.

The images pass through each network once. What is then measured, and how, is told in docs/transfer.md. Validation and
test images are never looked at.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from striate.checkpoint import SavedModel
from striate.data import Dataset
from striate.data.parts import digests_of, thinned
from striate.data.wording import counted
from striate.errors import UsageError
from striate.linear.blending import Blend
from striate.linear.by_depth import Member, Tried, answers_by_depth, blend_of, trust
from striate.linear.classifiers import NEVER, OutOfFold, fold_numbers
from striate.linear.solver import axes_of
from striate.network import open_network, read_spelling, refitted
from striate.options import TrainOptions
from striate.progress import Progress, Silent
from striate.training.defaults import check_feasible, fed_as
from striate.transfer.codes import PIXELS, code_folder, codes_of
from striate.transfer.curve import fitted_power_law, forecasts, learning_curve
from striate.transfer.result import (
    KINDS,
    Accuracy,
    Answers,
    BlendMember,
    BlendProbe,
    DepthProbe,
    ProbeResult,
    SourceProbe,
)
from striate.transfer.similarity import rule_of_thumb, similarity_of

IMAGES, OF_EACH = 2000, 5  # looked at, at most, and of each class in any case, where nothing is said
_FEW = 10  # images of a class, on average, below which figures are rough


def probe(
    dataset: Dataset,
    sources: Sequence[str | SavedModel],
    options: TrainOptions | None = None,
    *,
    images: int | None = None,
    cache: Path | bool | None = True,
    progress: Progress | None = None,
) -> ProbeResult:
    """Look at the training images of `dataset` through each of `sources`.

    Args:
        dataset: its training split alone is used.
        sources: networks, as they are spelt or opened.
        options: how the network is fed, device and precision; the rest does not matter.
        images: how many of the training images at most, the same share of each class; None: `IMAGES`, or `OF_EACH` of
            each class where that is more.
        cache: a folder for codes; True for `code_folder()`; None or False keeps nothing.
        progress: shows bars, and hears what is left out.

    Raises:
        UsageError: no network, one without weights, or data of one class.
        Also what `open_network` and `codes_of` raise.
    """
    options, progress = options or TrainOptions(), progress or Silent()
    if not sources:
        raise UsageError("no network to probe with", "--from NETWORK names one: a run, MODEL:WEIGHTS or MODEL:FILE")
    check_feasible(dataset)
    if dataset.labels.multi_label:
        raise UsageError(
            f"probing takes one class an image; those of {dataset.name} have several labels",
            "striate train --from NETWORK trains on them by gradients",
        )
    seen = _seen(dataset, images)
    folder = folder_of_codes(cache, progress)
    found = tuple(_probed(source, dataset, seen, options, folder, progress) for source in sources)
    best = _best_of(found)
    available = len(dataset.splits["train"])
    return ProbeResult(
        data=dataset.name, images=len(seen.rows), available=available, classes=len(dataset.labels),
        largest_class=float(np.bincount(seen.targets).max() / len(seen.targets)), folds=seen.folds, sources=found,
        best_source=best.source, rule=rule_of_thumb(available, best.similarity.figure), notes=seen.notes,
    )  # fmt: skip


def opened(
    source: str | SavedModel, dataset: Dataset, options: TrainOptions, progress: Progress | None = None
) -> SavedModel:
    """A network with its weights, fed with the images of `dataset` as a run that starts from it would be.

    Raises:
        UsageError: no weights.
        Also what `open_network` raises.
    """
    if isinstance(source, SavedModel):
        saved = source
    else:
        saved = open_network(
            source, weights=read_spelling(source, options.training.runs).kind != "model", runs=options.training.runs,
            offline=options.data.offline, progress=progress,
        )  # fmt: skip
        if saved.notes.get("weights") == "none":
            raise UsageError(f"--from {source} names no weights", f"{source}:WEIGHTS or {source}:FILE")
    spec, record = fed_as(saved.spec, options, dataset), saved.model.architecture
    if (record.in_channels, record.input_size) != (spec.channels, spec.size):
        adapted = refitted(
            saved, saved.labels, in_channels=spec.channels, input_size=spec.size, progress=progress
        )  # fmt: skip
        return replace(adapted, spec=spec)
    return replace(saved, spec=spec)


def _best_of(found: Sequence[SourceProbe]) -> SourceProbe:
    """The network with the most right answers; of those as good within chance, the one that trusts the truth most."""
    first = max(found, key=lambda one: -1.0 if math.isnan(one.expected.top1) else one.expected.top1)
    if first.answers is None or not len(first.answers.rows):
        return first

    def as_good(one: SourceProbe) -> bool:
        # all networks answer the same images: only those count that one of two knows
        assert one.answers is not None
        assert first.answers is not None
        differ = np.count_nonzero(one.answers.correct != first.answers.correct)
        return (first.expected.top1 - one.expected.top1) * first.expected.n <= math.sqrt(differ)

    return max((one for one in found if as_good(one)), key=lambda one: one.answers.trust if one.answers else 0.0)


# one network ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """The images that are looked at, and the fold of each."""

    rows: np.ndarray  # int64 [n]: positions in the training split
    targets: np.ndarray  # int64 [n]
    numbers: np.ndarray  # int64 [n]: fold
    notes: tuple[str, ...]

    @property
    def folds(self) -> int:
        return len(np.unique(self.numbers[self.numbers != NEVER]))


def _seen(dataset: Dataset, most: int | None) -> _Seen:
    split = dataset.splits["train"]
    rows = thinned(split, np.arange(len(split)), most_images(most, dataset))
    targets = np.asarray(split.targets, np.int64)[rows]
    groups = None if split.groups is None else [split.groups[row] for row in rows.tolist()]
    numbers = fold_numbers(targets, digests=digests_of(split)[rows], groups=groups)
    return _Seen(rows, targets, numbers, tuple(_notes(dataset, rows, targets, numbers)))


def _notes(dataset: Dataset, rows: np.ndarray, targets: np.ndarray, numbers: np.ndarray) -> Iterator[str]:
    counts = np.bincount(targets, minlength=len(dataset.labels))
    names = np.array(dataset.labels.names, dtype=object)
    if len(rows) < len(dataset.splits["train"]):
        yield f"looked at {len(rows):,} of {len(dataset.splits['train']):,} training images (--probe-images)"
    if (counts == 0).any():
        yield f"no training images of {_listed(names[counts == 0])}: never predicted"
    if (numbers == NEVER).all():
        yield "no accuracy can be measured: that takes two different images each of two classes at least"
        return
    single = [name for name in np.unique(targets) if (numbers[targets == name] == NEVER).all()]
    if single:
        yield f"a single image, or group, of {_listed(names[single])}: trained on, never held out"
    if len(targets) < _FEW * np.count_nonzero(counts):
        some = counted(len(targets), "image", "images")
        yield f"{some} of {np.count_nonzero(counts)} classes: the figures are rough, see their intervals"


def _listed(names: np.ndarray) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more classes" if len(names) > 5 else shown


def _probed(
    source: str | SavedModel, dataset: Dataset, seen: _Seen, options: TrainOptions, folder: Path | None,
    progress: Progress,
) -> SourceProbe:  # fmt: skip
    saved = opened(source, dataset, options, progress)
    codes = codes_of(
        saved, dataset.splits["train"], precision=options.runtime.precision, device=options.runtime.device,
        indices=seen.rows, cache=folder, progress=progress,
    )  # fmt: skip
    started = time.perf_counter()
    looked_at = {**codes.by_place, PIXELS: codes.pixels}
    tried = answers_by_depth(looked_at, codes.targets, seen.numbers, len(dataset.labels), progress)
    place, kind = _best(codes.places, tried)
    known = tried[place, kind]
    blend = blend_of(codes.places, tried)
    points, sizes, shares = learning_curve(axes_of(codes.by_place[place]), known)
    law = fitted_power_law(sizes, shares) if len(points) else None
    correct = [tried[one, kind].correct for one in codes.places]
    similarity = similarity_of(
        tried[PIXELS, kind].correct, correct, codes.places.index(place), codes.statistics
    )  # fmt: skip
    depths = tuple(_depth(one, codes.by_place[one].shape[1], tried) for one in codes.places)
    at_cut = next((tried[one.place, one.best_kind] for one in depths if one.place == options.transfer.cut), None)
    name = source if isinstance(source, str) else str(saved.notes.get("source", saved.model.architecture.name))
    return SourceProbe(
        source=name, model=saved.model.architecture.name,
        depths=depths,
        pixels=_depth(PIXELS, codes.pixels.shape[1], tried), best_place=place,
        single_kind=kind, single=_expected(codes.places, tried, known),
        blend=None if blend is None else _record_of(blend, codes.places),
        similarity=similarity, learning_curve=points, power_law=law,
        forecast=forecasts(law, len(dataset.splits["train"])),
        answers=_answers(seen, known if blend is None else blend.answers),
        answers_at_cut=None if at_cut is None else _answers(seen, at_cut),
        seconds_forward=codes.seconds_forward, seconds_per_image=codes.seconds_per_image,
        seconds_fitting=time.perf_counter() - started,
        from_cache=codes.from_cache,
    )  # fmt: skip


def _best(places: Sequence[str], tried: Tried) -> tuple[str, str]:
    """For each classifier the place where it gives the true classes the highest probability; the better of the two.

    Probabilities tell how nearly wrong and right answers are, too: of 40 to 300 images they choose the place better
    than a count. The two classifiers are not equally sure of what they know equally well: between them right answers
    are counted, and of equals it is the SVM.
    """
    if not tried[places[0], KINDS[0]].looked_at.any():  # too few images to choose by
        return places[-1], KINDS[0]
    trusted = {kind: [trust(tried[place, kind]) for place in places] for kind in KINDS}
    chosen = {kind: places[_last_best(trusted[kind])] for kind in KINDS}
    kind = max(KINDS, key=lambda one: int(tried[chosen[one], one].correct.sum()))  # the first of equals
    return chosen[kind], kind


def _record_of(blend: Blend[Member], places: Sequence[str]) -> BlendProbe:
    members = tuple(
        BlendMember(place=place, kind=kind, weight=blend.weights[place, kind])
        for place in places
        for kind in KINDS
        if (place, kind) in blend.weights
    )
    return BlendProbe(accuracy=Accuracy.of(blend.answers.correct), members=members)


def _last_best(values: Sequence[float] | np.ndarray) -> int:
    """Where the greatest is; of equals the last, which is the deepest."""
    return len(values) - 1 - int(np.asarray(values)[::-1].argmax())


def _expected(places: Sequence[str], tried: Tried, known: OutOfFold) -> Accuracy:
    """What choosing comes to: for each fold place and classifier are those that were best without its images."""
    if not known.looked_at.any():
        return Accuracy.of(known.correct, known.regularization)
    by_kind = {kind: [tried[place, kind] for place in places] for kind in KINDS}
    scores = {kind: np.array([one.choosing.sum(axis=1) for one in found]) for kind, found in by_kind.items()}
    right = []
    for fold, name in enumerate(np.unique(known.folds[known.held_out])):
        others = known.held_out & (known.folds != name)
        chosen = [found[_last_best(scores[kind][:, fold])] for kind, found in by_kind.items()]
        best = max(chosen, key=lambda one: int((one.predicted == one.targets)[others].sum()))
        rows = best.folds == name
        right.append(best.predicted[rows] == best.targets[rows])
    return Accuracy.of(np.concatenate(right), known.regularization)


def _depth(place: str, features: int, tried: Tried) -> DepthProbe:
    svm, softmax = (Accuracy.of(one.correct, one.regularization) for one in (tried[place, kind] for kind in KINDS))
    return DepthProbe(place=place, features=features, svm=svm, softmax=softmax)


def _answers(seen: _Seen, known: OutOfFold) -> Answers:
    held = known.held_out
    return Answers(rows=seen.rows[held], targets=seen.targets[held], probabilities=known.probabilities)


def most_images(asked: int | None, dataset: Dataset) -> int:
    """How many training images are looked at, at most."""
    return max(IMAGES, OF_EACH * len(dataset.labels)) if asked is None else asked


def folder_of_codes(cache: Path | bool | None, progress: Progress) -> Path | None:
    """Where codes are kept; None: nowhere."""
    if cache is not True:
        return cache or None
    try:
        return code_folder()
    except RuntimeError as error:  # nobody's home
        progress.warn(f"codes are not kept: {error}")
        return None
