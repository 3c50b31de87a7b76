"""The network whose head is a linear classifier of codes: cut where it reads, scaling and all.

Of a blend, which reads several places, each adds its own linear layer (see `models.cut`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from striate.data.parts import digests_of, thinned
from striate.linear.blending import BLEND
from striate.linear.by_depth import answers_by_depth, blend_of, fit_blend
from striate.linear.classifiers import Linear, fit_softmax, fit_svm, fold_numbers
from striate.metrics import score
from striate.models import ConvNet
from striate.models.cut import HEAD, cut_at, modules_up_to, new_classifier, places, side_classifiers
from striate.options import TrainOptions
from striate.transfer.codes import Codes, codes_of
from striate.transfer.made import Job, Made
from striate.transfer.probing import folder_of_codes, most_images

Part = tuple[str, Linear]  # a place, and what reads it
FITS: dict[str, Callable[..., Linear]] = {"svm": fit_svm, "softmax": fit_softmax}


def linear_network(job: Job) -> Made:
    """Cut as deep as classifiers read, which are fitted to the codes of all training images and are its head.

    Raises:
        ModelError: the network has no such place as `--cut` names.
        DataError: images of fewer than two classes.
    """
    labels, scenario = job.dataset.labels, job.options.transfer.scenario
    assert scenario is not None
    if scenario == BLEND:
        parts, found = _blended(job)
    else:
        found = _codes(job, places_read(job.options, job.network.model))
        place = found.places[-1]
        folds = _folds(job, found.targets)
        parts = [(place, FITS[scenario](found.by_place[place], found.targets, len(labels), folds=folds))]
    logits = np.sum([linear.logits(found.by_place[place]) for place, linear in parts], axis=0, dtype=np.float32)
    seen = score(torch.from_numpy(logits), torch.from_numpy(found.targets), labels)
    notes = {
        "classifier": scenario,
        "reads": [f"{place} ({linear.kind}, C {linear.regularization:g})" for place, linear in parts],
    }
    model = with_classifiers(job.network.model, parts)
    return Made(model, figures={"train_top1": seen.top1, "train_loss": seen.loss}, notes=notes)


def unfitted(options: TrainOptions, model: ConvNet, classes: int) -> ConvNet:
    """The network that `linear_network` fits, with places for all classifiers that it may have.

    Raises:
        ModelError: the network has no such place as `--cut` names.
    """
    *before, at = places_read(options, model)
    return cut_at(model, at, classes, sides=[place for place in before if not place.startswith(HEAD)])


def _blended(job: Job) -> tuple[list[Part], Codes]:
    """What the classifiers add that `blend_of` weighs; where too few images could choose, the SVM of the last place.

    Weights, C and temperatures are chosen on as many images as probing looks at. The classifiers are fitted to all, of
    which the codes of no other places are held.
    """
    train, classes = job.dataset.splits["train"], len(job.dataset.labels)
    rows = thinned(train, np.arange(len(train)), most_images(job.options.transfer.probe_images, job.dataset))
    some = _codes(job, places_read(job.options, job.network.model), rows)
    folds = _folds(job, some.targets, rows)
    blend, tried = None, {}
    if len(np.unique(some.targets)) > 1:
        tried = answers_by_depth(some.by_place, some.targets, folds, classes, job.progress)
        blend = blend_of(some.places, tried)
    wanted = some.places[-1:] if blend is None else [place for place, _ in blend.weights]
    found = some if len(rows) == len(train) else _codes(job, wanted)
    if blend is None:
        svm = fit_svm(found.by_place[wanted[0]], found.targets, classes, folds=_folds(job, found.targets))
        return [(wanted[0], svm)], found
    fitted = fit_blend(blend, tried, found.by_place, found.targets, classes)
    return [(place, part) for (place, _), part in fitted.items()], found


def _folds(job: Job, targets: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """The fold of each image, copies and groups on one side, as in probing."""
    train = job.dataset.splits["train"]
    chosen = np.arange(len(train)) if rows is None else rows
    groups = None if train.groups is None else [train.groups[row] for row in chosen.tolist()]
    return fold_numbers(targets, digests=digests_of(train)[chosen], groups=groups)


def _codes(job: Job, wanted: Sequence[str], rows: np.ndarray | None = None) -> Codes:
    return codes_of(
        job.network, job.dataset.splits["train"], places=wanted, precision=job.options.runtime.precision,
        device=job.device, indices=rows, cache=folder_of_codes(True, job.progress), progress=job.progress,
    )  # fmt: skip


def with_classifiers(model: ConvNet, parts: Sequence[Part]) -> ConvNet:
    """A new network: `model` up to the deepest of some places, and linear classifiers there, scaling and all.

    What those of one network give is added up.

    Args:
        model: any network.
        parts: at least one, in any order; several may be of one place.

    Raises:
        ModelError: no such place.
    """
    order = {place: depth for depth, place in enumerate(places(model))}
    read = sorted({place for place, _ in parts}, key=lambda place: order.get(place, -1))
    cut = cut_at(model, read[-1], len(parts[0][1].bias), sides=read[:-1])
    head, sides = new_classifier(cut), side_classifiers(cut)
    with torch.no_grad():
        head.weight.zero_()
        for place, linear in parts:
            sides.get(place, head).weight.add_(torch.from_numpy(linear.weight))
            head.bias.add_(torch.from_numpy(linear.bias))
    return cut.eval()


def places_read(options: TrainOptions, model: ConvNet) -> tuple[str, ...]:
    """The places that are read: for a blend all, down to where the network is cut; shallow to deep.

    Raises:
        ModelError: no such place.
    """
    known, cut = places(model), options.transfer.cut
    if cut is not None:
        modules_up_to(model, cut)
    if options.transfer.scenario != BLEND:
        assert cut is not None
        return (cut,)
    return known if cut is None else known[: known.index(cut) + 1]
