"""Every image once in every condition: framed once as the network sees it, then changed in all the ways asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from striate.checkpoint import SavedModel
from striate.data.normalise import normalise
from striate.errors import UsageError
from striate.evaluation.robustness.attacks import EPSILONS, EPSILONS_SMALL, answers_to, fgsm, pgd
from striate.evaluation.robustness.corruptions import CORRUPTIONS, OF_COLOURS, corrupt
from striate.evaluation.robustness.result import Answer, Fooled, Kind, Point, Robustness
from striate.evaluation.robustness.sampling import Sample, sample_of
from striate.evaluation.robustness.strengths import SEVERITIES, is_small
from striate.evaluation.robustness.sweeps import SWEEPS, changed, strengths_of
from striate.inference.forward import evaluating, forward
from striate.metrics import predicted, probabilities
from striate.options.robustness import GROUPS, kinds_of
from striate.progress import Progress, Silent, Task
from striate.spec import InputSpec

if TYPE_CHECKING:
    from striate.data import Split

FEW, MANY = 200, 1000  # images where nothing is said: of large and of small ones
EXAMPLES = 3  # images shown
_CANDIDATES = 6  # to be shown as fooled
Ask = Callable[[torch.Tensor], torch.Tensor]  # normalised images on the device -> logits
_ATTACKS = {"fgsm": fgsm, "pgd": pgd}


def robustness_of(
    saved: SavedModel,
    splits: Split | Sequence[Split],
    kinds: Iterable[str] | str = "all",
    *,
    images: int | None = None,
    batch_size: int = 64,
    ask: Ask | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Robustness:
    """Accuracy on images that are corrupted, swept over or attacked, each image once in every condition.

    Args:
        saved: the network, on its device.
        splits: their targets number the network's outputs; several count as one.
        kinds: words of `options.robustness`: kinds, groups of them, or `all`.
        images: how many, drawn alike from all classes; None takes 1,000 of up to 64 pixels and 200 of more.
        batch_size: images changed and passed at once; the result does not depend on it beyond rounding.
        ask: computes in place of the network (attacks always go through the network itself, in float32).
        seed: of all draws.
        progress: shows a bar over images and conditions.

    Raises:
        UnknownNameError: no such kind.
        UsageError: a network of several labels an image.
        DataError: an image changed since the data were loaded.
    """
    check_robustness(saved)
    began = time.perf_counter()
    progress = progress or Silent()
    splits = [splits] if not isinstance(splits, Sequence) else list(splits)
    names = kinds_of(kinds if isinstance(kinds, str) else tuple(kinds))
    left_out = {name: "the images are grey" for name in names if name in OF_COLOURS and saved.spec.channels == 1}
    for name, why in left_out.items():
        progress.say(f"robustness: {name} is left out, {why}")
    most = images or (MANY if is_small(saved.spec.size) else FEW)
    sample = sample_of(splits, most, saved.labels.names, seed=seed)
    if sample.n < sample.of:
        progress.say(f"robustness: {sample.n} of {sample.of} images, drawn alike from all classes")
    asking = _Asking(saved, ask or _torch(saved), sample, [one for one in names if one not in left_out], seed)
    conditions = sum(len(one.points) for one in asking.tallies)
    with progress.task("robustness", sample.readable * conditions) as task:
        for split, positions, start in zip(splits, sample.positions, sample.starts, strict=True):
            for first in range(0, len(positions), batch_size):
                chosen = positions[first : first + batch_size]
                stored = split.images.take(chosen, saved.spec)
                asking.batch(stored, np.asarray(split.targets)[chosen], chosen + start, task)
    return asking.result(left_out, time.perf_counter() - began)


def check_robustness(saved: SavedModel, views: str = "single") -> None:
    """Whether changed images can be asked about.

    Raises:
        UsageError: a network of several labels an image, or several views of each.
    """
    if saved.labels.multi_label:
        raise UsageError("robustness is measured of networks with one label an image", "leave --robustness out")
    if views != "single":
        raise UsageError(f"changed images are looked at once, not in {views} views", "leave --views out")


@dataclass(frozen=True)
class _Candidate:
    """An image that was fooled: the better the smaller its `key`."""

    key: tuple[float, float]  # how strong the change was, less the probability of the wrong answer
    index: int
    found: Fooled


@dataclass
class _Tally:
    """One kind while it is counted; `points` are (direction, strength)."""

    name: str
    group: str
    axis: str
    neutral: float
    points: list[tuple[str, float]]
    right: list[int] = field(init=False)
    same: list[int] = field(init=False)
    seconds: float = 0.0
    shown: list[list[Answer]] = field(init=False)
    fooled: list[_Candidate] = field(default_factory=list)  # the best few, the least change first

    def __post_init__(self) -> None:
        self.right, self.same = [0] * len(self.points), [0] * len(self.points)
        self.shown = [[] for _ in self.points]


class _Asking:
    """Counts over all batches."""

    def __init__(self, saved: SavedModel, ask: Ask, sample: Sample, names: Sequence[str], seed: int) -> None:
        self.saved, self.ask, self.sample, self.seed = saved, ask, sample, seed
        self.spec, self.device = saved.spec, next(saved.model.parameters()).device
        self.tallies = [_tally(name, saved.spec) for name in names]
        self.right = 0
        self.truths: list[str] = []  # of the images shown

    def batch(self, stored: torch.Tensor, targets: np.ndarray, indices: np.ndarray, task: Task) -> None:
        """Ask about images [B, C, H, W] as they are, and in every condition."""
        pixels = _eight_bits(stored, self.spec)
        before, sure = self._said(self._ask(stored))
        self.right += int((before == targets).sum())
        shown = _examples(before, targets, EXAMPLES - len(self.truths))
        self.truths += [self.saved.labels.names[targets[place]] for place in shown.tolist()]
        for tally in self.tallies:
            start = time.perf_counter()
            clean = None
            if tally.name in _ATTACKS:  # against what the very arithmetic that is attacked says of the images
                floats = torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).to(self.device)
                clean = self._said(answers_to(self.saved.model, floats, self.spec))
            first, chances = clean or (before, sure)
            for number, (direction, strength) in enumerate(tally.points):
                if strength == tally.neutral:
                    made, (after, surely) = pixels, (first, chances)
                elif tally.name in _ATTACKS:
                    made = self._attacked(tally.name, pixels, targets, indices, strength)
                    floats = torch.from_numpy(made.astype(np.float32) / np.float32(255)).to(self.device)
                    after, surely = self._said(answers_to(self.saved.model, floats, self.spec))
                else:
                    made = self._changed(tally, pixels, indices, direction, strength)
                    after, surely = self._said(self._ask(_as_stored(made, self.spec)))
                tally.right[number] += int((after == targets).sum())
                tally.same[number] += int((after == first).sum())
                tally.shown[number] += [self._answer(made, after, surely, targets, place) for place in shown.tolist()]
                fooled = np.flatnonzero((first == targets) & (after != targets) & (after >= 0))
                for place in fooled[np.argsort(-surely[fooled])][:_CANDIDATES].tolist():
                    key = (abs(strength - tally.neutral), -float(surely[place]))
                    if len(tally.fooled) == _CANDIDATES and key >= tally.fooled[-1].key:
                        break
                    said = (
                        self._answer(pixels, first, chances, targets, place),
                        self._answer(made, after, surely, targets, place),
                    )
                    truth = self.saved.labels.names[targets[place]]
                    found = Fooled(tally.name, truth, strength, *said, direction)
                    tally.fooled.append(_Candidate(key, int(indices[place]), found))
                    tally.fooled.sort(key=lambda one: one.key)
                    del tally.fooled[_CANDIDATES:]
                task.advance(len(targets), tally.name)
            tally.seconds += time.perf_counter() - start

    def result(self, left_out: dict[str, str], seconds: float) -> Robustness:
        """What has been counted."""
        n, readable = self.sample.n, self.sample.readable
        kinds = []
        for one in self.tallies:
            rows = zip(one.points, one.right, one.same, strict=True)
            points = tuple(
                Point(strength, right, same, n, readable, direction) for (direction, strength), right, same in rows
            )
            kinds.append(Kind(one.name, one.group, one.axis, one.neutral, points, one.seconds))
        return Robustness(
            clean=Point(0.0, self.right, readable, n, readable),
            of=self.sample.of,
            unreadable=self.sample.unreadable,
            kinds=tuple(kinds),
            left_out=left_out,
            seconds=seconds,
            seed=self.seed,
            examples={one.name: one.shown for one in self.tallies},
            truths=tuple(self.truths),
            fooled=_various([one.fooled for one in self.tallies]),
        )

    def _ask(self, stored: torch.Tensor) -> torch.Tensor:
        return self.ask(normalise(stored.to(self.device), self.spec)).float()

    def _said(self, logits: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The answers, -1 for none, and the probabilities given to them."""
        logits = logits.cpu()
        chances = probabilities(logits, self.saved.temperature).max(dim=1).values
        return predicted(logits).numpy(), chances.nan_to_num().numpy()

    def _changed(
        self, tally: _Tally, pixels: np.ndarray, indices: np.ndarray, direction: str, strength: float
    ) -> np.ndarray:
        if tally.name in CORRUPTIONS:
            return corrupt(pixels, tally.name, int(strength), indices, seed=self.seed)
        return changed(pixels, tally.name, strength, indices, direction=direction, seed=self.seed)

    def _attacked(
        self, name: str, pixels: np.ndarray, targets: np.ndarray, indices: np.ndarray, strength: float
    ) -> np.ndarray:
        """As whole 255ths, which lie within the bound if the bound is one of them."""
        floats = torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).to(self.device)
        wanted = torch.from_numpy(targets.astype(np.int64)).to(self.device)
        settings = {"indices": indices, "seed": self.seed} if name == "pgd" else {}
        found = _ATTACKS[name](self.saved.model, floats, wanted, self.spec, strength / 255, **settings)
        return (found * 255).round().to(torch.uint8).cpu().numpy()

    def _answer(
        self, pixels: np.ndarray, said: np.ndarray, sure: np.ndarray, targets: np.ndarray, place: int
    ) -> Answer:
        name = self.saved.labels.names[said[place]] if said[place] >= 0 else "nothing"
        return Answer(pixels[place].copy(), name, float(sure[place]), bool(said[place] == targets[place]))


def _tally(name: str, spec: InputSpec) -> _Tally:
    group = next(group for group, kinds in GROUPS.items() if name in kinds)
    if name in CORRUPTIONS:
        return _Tally(name, group, "severity", 0.0, [("", float(one)) for one in (0, *SEVERITIES)])
    if name in _ATTACKS:
        bounds = (0, *(EPSILONS_SMALL if is_small(spec.size) else EPSILONS))
        return _Tally(name, group, "largest change, 255ths", 0.0, [("", float(one)) for one in bounds])
    sweep = SWEEPS[name]
    return _Tally(name, group, sweep.axis, sweep.neutral, strengths_of(name, spec.size))


def _torch(saved: SavedModel) -> Ask:
    def ask(images: torch.Tensor) -> torch.Tensor:
        with evaluating(saved.model):
            return forward(saved.model, images.contiguous(memory_format=torch.channels_last), "fp32")

    return ask


def _examples(answers: np.ndarray, targets: np.ndarray, most: int) -> np.ndarray:
    """Places of up to `most` images to show: answered right, of different classes, where there are such."""
    right = np.flatnonzero(answers == targets)
    _, firsts = np.unique(targets[right], return_index=True)
    chosen = np.sort(right[firsts])[:most]
    others = [place for place in (*right, *range(len(targets))) if place not in chosen]
    return np.array([*chosen, *dict.fromkeys(others)][:most], dtype=np.int64)


def _various(candidates: Sequence[Sequence[_Candidate]]) -> tuple[Fooled, ...]:
    """One of each kind, among those of the least change that it took one whose image was not shown before."""
    shown: dict[int, int] = {}
    chosen = []
    for several in candidates:
        if several:
            least = [one for one in several if one.key[0] == several[0].key[0]]
            best = min(least, key=lambda one: shown.get(one.index, 0))
            shown[best.index] = shown.get(best.index, 0) + 1
            chosen.append(best.found)
    return tuple(chosen)


def _eight_bits(stored: torch.Tensor, spec: InputSpec) -> np.ndarray:
    """uint8 [B, C, H, W] of stored pixels."""
    if spec.bits <= 8:
        return np.ascontiguousarray(stored.cpu().numpy())
    return ((stored.cpu().numpy() + 128) // 257).astype(np.uint8)


def _as_stored(pixels: np.ndarray, spec: InputSpec) -> torch.Tensor:
    """The reverse: the full range onto the full range."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))
    return tensor if spec.bits <= 8 else tensor.to(torch.int32) * 257
