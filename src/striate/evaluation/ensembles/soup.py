"""One network whose weights are the mean of several networks' weights, which were trained from one start.

Wortsman et al. 2022, "Model soups" (arXiv:2203.05482): all of them (uniform), or those that do not lower the score on
validation images, tried from the best on (greedy, their recipe 1). Where batch norm's statistics go with the weights
of each network, those of the mean are measured anew on training images (Izmailov et al. 2018, arXiv:1803.05407,
sec. 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from striate.checkpoint import SavedModel, check_writable, save_model
from striate.data import Dataset, Split, load_data, normalise
from striate.data.batches import EvaluationBatches
from striate.errors import ModelError, UnknownNameError, UsageError
from striate.evaluation.ensembles.members import Member, differently_divided
from striate.evaluation.labels import matched
from striate.inference import logits_of, place
from striate.metrics import score
from striate.metrics.calibration import fit_temperature
from striate.network.calibration import same_data
from striate.network.engines import usual_batch
from striate.progress import Progress
from striate.runfolder import RunFolder, is_run
from striate.runtime import pick_device

KINDS = ("greedy", "uniform")
STATISTICS_IMAGES = 5000  # training images for batch norm's statistics
STATISTICS_BYTES = 2**28  # of them, at most
State = Mapping[str, Tensor]


@dataclass
class Soup:
    """A network of mean weights, and how it came about."""

    saved: SavedModel
    by: str
    kept: list[str]
    left_out: list[str]
    statistics_images: int  # by which batch norm's statistics were measured; 0: they are means of the networks' own
    validation: dict[str, Any] | None  # its top-1 and loss there, and of a greedy one the steps that led to it
    notes: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = ("by", "kept", "left_out", "statistics_images", "validation")
        return {name: getattr(self, name) for name in names} | {"temperature": self.saved.temperature}

    def save(self, path: Path) -> None:
        """Write it as a model file.

        Raises:
            CheckpointError: it cannot be written.
        """
        scores = {"val": {key: self.validation[key] for key in ("top1", "loss")}} if self.validation else {}
        saved, soup = self.saved, {"by": self.by, "kept": self.kept, "left_out": self.left_out}
        save_model(
            path, saved.model, saved.spec, saved.labels, scores=scores, notes={**self.notes, "soup": soup},
            temperature=saved.temperature,
        )  # fmt: skip


def check_file(path: Path, members: Sequence[Member]) -> None:
    """Whether a soup may be written there, before hours are spent on it.

    Raises:
        CheckpointError: it could not be.
        UsageError: it would take the place of one of the networks, or of one that a run keeps.
    """
    check_writable(path)
    place = path.resolve()
    runs = (RunFolder(place.parent), RunFolder(place.parent.parent))
    of_run = any(is_run(run.path) and (place == run.model or place.parent == run.snapshots) for run in runs)
    if path.exists() and (of_run or any(place == one.saved.path.resolve() for one in members)):
        raise UsageError(f"the soup would take the place of the network in {path}", "name another file")


def cook(members: Sequence[Member], first: Member, *, data: Dataset, by: str, device: str, progress: Progress) -> Soup:
    """The mean of the members' weights; the members stay what they are.

    Args:
        members: networks of one architecture, fed and labelled alike.
        first: whose run says which images are for training and for validation; of no run, `data` do.
        data: what is being scored.
        by: `uniform`: of all; `greedy`: of those that do not lower the top-1 on validation images.
        device: where to compute.
        progress: shows bars.

    Raises:
        UnknownNameError: another `by`.
        ModelError: networks that differ in more than their weights.
        UsageError: a greedy soup without validation images, or whose validation images members learned from.
    """
    if by not in KINDS:
        raise UnknownNameError("soup", by, KINDS)
    _check_alike(members)
    _warn_of_starts(members, progress)
    train, val = _own_splits(first, data, progress)
    if words := next(differently_divided(members, first), None):
        if by == "greedy":
            raise UsageError(f"a greedy soup goes by held-out images, and {words}", "--soup-by uniform takes all")
        val = None
    if by == "greedy" and val is None:
        raise UsageError("a greedy soup needs validation images, and there are none", "--soup-by uniform does not")
    states = [{name: one.cpu().clone() for name, one in each.saved.model.state_dict().items()} for each in members]
    kitchen = _Kitchen(first.saved, train, val, pick_device(device), progress)
    names = [one.name for one in members]
    kept, steps = list(range(len(members))), None
    if by == "greedy":
        kept, steps = _tried(kitchen, states, names)
    used = kitchen.fill([states[place] for place in kept])
    saved = replace_temperature(kitchen.saved, 1.0 if len(kept) > 1 else members[kept[0]].saved.temperature)
    validation = None
    if val is not None:
        figures, logits, targets = kitchen.taste()
        saved.temperature = fit_temperature(logits, targets).value
        validation = {**figures, **({"steps": steps} if steps is not None else {})}
    left_out = [name for place_, name in enumerate(names) if place_ not in kept]
    notes = {"data": first.saved.notes.get("data"), "weights": "soup"}
    return Soup(saved, by, [names[place_] for place_ in kept], left_out, used, validation, notes)


def mean_state(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of every floating-point tensor, in double precision on the way; counters are the first's."""
    return {
        name: (sum(one[name].double() for one in states) / len(states)).to(first.dtype)  # type: ignore[union-attr]
        if first.is_floating_point()
        else first.clone()
        for name, first in states[0].items()
    }


def replace_temperature(saved: SavedModel, temperature: float) -> SavedModel:
    """`saved` with another temperature; the network is shared."""
    return SavedModel(model=saved.model, spec=saved.spec, labels=saved.labels, temperature=temperature)


class _Kitchen:
    """One network that is filled with weights, again and again, and scored on validation images."""

    def __init__(
        self, saved: SavedModel, train: Split | None, val: Split | None, device: torch.device, progress: Progress
    ) -> None:
        model = deepcopy(saved.model)
        place(model, device)
        self.saved = SavedModel(model=model, spec=saved.spec, labels=saved.labels)
        self._norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]
        self._device, self._progress = device, progress
        self._pixels = _spread(train, saved) if train is not None and self._norms else None
        self._batches = None
        if val is not None:
            size = usual_batch(saved.spec)
            self._batches = EvaluationBatches(val, saved.spec, batch_size=size, device=device, channels_last=True)

    def fill(self, states: Sequence[State]) -> int:
        """Take the mean of these weights; the images by which batch norm's statistics were measured anew, if any.

        Networks that are the same to the bit keep the statistics that they share.
        """
        model = self.saved.model
        model.load_state_dict(mean_state(states))
        model.eval()
        same = all(torch.equal(one[name], states[0][name]) for one in states[1:] for name in one)
        if same or self._pixels is None:
            return 0
        momenta = [one.momentum for one in self._norms]
        for norm in self._norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over the batches
            norm.train()
        size, count = usual_batch(self.saved.spec), len(self._pixels)
        count -= count % size if count > size else 0  # batches of one size: each counts alike in the plain mean
        with torch.inference_mode():
            for start in range(0, count, size):
                stored = self._pixels[start : min(start + size, count)].to(self._device)
                model(normalise(stored, self.saved.spec))
        for norm, momentum in zip(self._norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval()
        return count

    def taste(self) -> tuple[dict[str, float], Tensor, Tensor]:
        """top-1 and loss on the validation images, and the logits and classes that they are of."""
        assert self._batches is not None
        logits, targets, _ = logits_of(self.saved.model, self._batches, progress=self._progress)
        scores = score(logits, targets, self.saved.labels)
        return {"top1": scores.top1, "loss": scores.loss}, logits, targets


def _tried(kitchen: _Kitchen, states: Sequence[State], names: Sequence[str]) -> tuple[list[int], list[dict[str, Any]]]:
    """Which networks a greedy soup keeps, in the order of `names`, and every step."""
    alone = []
    for state in states:
        kitchen.fill([state])
        alone.append(kitchen.taste()[0])
    order = sorted(range(len(states)), key=lambda place: (-alone[place]["top1"], alone[place]["loss"]))
    kept, best = [order[0]], alone[order[0]]
    steps: list[dict[str, Any]] = [{"name": names[order[0]], "alone": best["top1"], **best, "kept": True}]
    for candidate in order[1:]:
        kitchen.fill([states[one] for one in sorted([*kept, candidate])])
        figures, _, _ = kitchen.taste()
        better = figures["top1"] >= best["top1"]
        steps.append({"name": names[candidate], "alone": alone[candidate]["top1"], **figures, "kept": better})
        if better:
            kept, best = [*kept, candidate], figures
    return sorted(kept), steps


def _check_alike(members: Sequence[Member]) -> None:
    first = members[0]
    for one in members[1:]:
        ours, theirs = first.saved.model.architecture.to_dict(), one.saved.model.architecture.to_dict()
        differing = [key for key in ours if ours[key] != theirs[key]]
        differing += ["the order of their classes"] if one.saved.labels != first.saved.labels else []
        differing += ["what they are fed"] if one.saved.spec != first.saved.spec else []
        if differing:
            raise ModelError(
                f"{one.name} and {first.name} have no common weights to average: they differ in {', '.join(differing)}",
                "average their answers, without --soup",
            )


def _warn_of_starts(members: Sequence[Member], progress: Progress) -> None:
    """Weights that began apart are not averaged: units that do the same stand in different places."""
    runs = {one.run for one in members}
    starts = {one.recipe.model.from_ for one in members if one.recipe is not None}
    seeds = {one.recipe.training.seed for one in members if one.recipe is not None}
    if len(runs) > 1 and "scratch" in starts and len(seeds) > 1:
        progress.warn(
            "these networks began with different random weights: the mean of their weights is hardly ever of use "
            "(their answers can be averaged all the same)"
        )


def _own_splits(first: Member, data: Dataset, progress: Progress) -> tuple[Split | None, Split | None]:
    """The training and the validation images, with targets that number the network's outputs."""
    if first.recipe is not None and not same_data(first.recipe.data.data, _source(data)):
        data = load_data(first.recipe.data, progress=progress)
    there = [data.splits.get(name) for name in ("train", "val")]
    train, val = [matched(one, data.labels, first.saved.labels) if one and len(one) else None for one in there]
    return train, val


def _source(data: Dataset) -> str:
    return str(data.options.data) if data.options is not None else data.name


def _spread(train: Split, saved: SavedModel) -> Tensor:
    """Stored pixels [n, C, H, W] of training images of all classes, in a mixed order that is always the same."""
    size = saved.spec.channels * saved.spec.size[0] * saved.spec.size[1]
    most = min(STATISTICS_IMAGES, max(usual_batch(saved.spec), STATISTICS_BYTES // size))
    chosen = np.random.default_rng(0).permutation(len(train))[:most]
    return train.images.take(chosen, saved.spec)
