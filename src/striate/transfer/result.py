"""What probing found, as plain frozen records; `to_dict` is what `striate probe --json` prints.

Accuracies are fractions from 0 to 1, intervals hold 95 %, and every image was answered by classifiers that had not
been trained on it (see docs/transfer.md).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from striate.linear import KINDS as KINDS
from striate.linear.blending import BLEND
from striate.metrics.intervals import wilson_interval as wilson


class Plan(Protocol):
    """What `plan_transfer` makes of a probe."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Right answers among `n` images, with their 95 % interval (Wilson 1927)."""

    top1: float
    low: float
    high: float
    n: int
    regularization: float | None = None  # C of the classifier for all images; None where there is no single one

    @classmethod
    def of(cls, correct: np.ndarray, regularization: float | None = None) -> Accuracy:
        """The accuracy of answers `correct`, bool [n]."""
        n, right = len(correct), int(np.count_nonzero(correct))
        low, high = wilson(right, n)
        return cls(top1=right / n if n else math.nan, low=low, high=high, n=n, regularization=regularization)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthProbe:
    """What linear classifiers make of the codes at one place."""

    place: str
    features: int  # length of a code
    svm: Accuracy
    softmax: Accuracy

    def by_kind(self, kind: str) -> Accuracy:
        """The accuracy of one of `KINDS`."""
        return self.svm if kind == "svm" else self.softmax

    @property
    def best_kind(self) -> str:
        """The better of both classifiers; of equals the SVM."""
        return max(KINDS, key=lambda one: self.by_kind(one).top1)

    @property
    def best(self) -> Accuracy:
        """That of the better of both classifiers."""
        return self.by_kind(self.best_kind)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "place": self.place,
            "features": self.features,
            "svm": self.svm.to_dict(),
            "softmax": self.softmax.to_dict(),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class BlendMember:
    """A classifier at one place, and how much it counts."""

    place: str
    kind: str  # of KINDS
    weight: float  # of 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlendProbe:
    """What the classifiers of all places make of the images together, each as far as it is to be trusted."""

    accuracy: Accuracy
    members: tuple[BlendMember, ...]  # shallow to deep

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self.accuracy.to_dict(), "members": [one.to_dict() for one in self.members]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Similarity:
    """How much of what the network was made for is of use here, 0 to 1: `figure` = `climb` x `kept`.

    `climb` is the part of a linear classifier's mistakes at the beginning (on shrunken pixels, or on the first codes,
    whichever are fewer) that the best codes avoid, `kept` how much of that improvement is still there at the last
    place. Pictures like those the network was trained on are told apart best by its last codes; of others, these codes
    have thrown away what earlier ones still had.
    """

    figure: float
    low: float  # 95 % interval of `figure`, by resampling the images
    high: float
    climb: float
    kept: float
    best_depth: float  # of the best place: 0 the first, 1 the last
    statistics: float | None = (
        None  # without labels: closeness of batch-norm inputs to those of training; None: has none
    )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """The accuracy of classifiers that were trained on `images` images, at the best place."""

    images: int
    top1: float
    low: float
    high: float
    by_class: tuple[float, ...] = ()  # part of each class's images that was recognised; NaN where none was asked

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"images": self.images, "top1": self.top1, "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerLaw:
    """error(images) = floor + scale * images ** -exponent, fitted to a learning curve; draws of a bootstrap beside."""

    floor: float
    scale: float
    exponent: float
    draws: tuple[tuple[float, float, float], ...] = ()  # (floor, scale, exponent) of resampled curves

    def top1(self, images: float) -> float:
        """The accuracy to expect of a classifier trained on `images` images."""
        return _held(1 - self.floor - self.scale * images**-self.exponent)

    def interval(self, images: float) -> tuple[float, float]:
        """What 95 % of the resampled curves say."""
        if not self.draws:
            return math.nan, math.nan
        values = [_held(1 - floor - scale * images**-exponent) for floor, scale, exponent in self.draws]
        low, high = np.quantile(values, (0.025, 0.975))
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the draws."""
        return {"floor": self.floor, "scale": self.scale, "exponent": self.exponent}


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What so many training images would come to by the power law: `gain` over those there are."""

    images: int
    top1: float
    low: float
    high: float
    gain: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answers:
    """What held-out images were answered, for comparisons image by image; not part of the JSON."""

    rows: np.ndarray  # int64 [m]: positions in the training split that were held out once each
    targets: np.ndarray  # int64 [m]
    probabilities: np.ndarray  # float32 [m, classes], of the classifier that was best

    @property
    def predicted(self) -> np.ndarray:
        """int64 [m]: the most probable class of each."""
        return self.probabilities.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """bool [m]."""
        return self.predicted == self.targets

    @property
    def trust(self) -> float:
        """The mean probability of the true class."""
        return float(self.probabilities[np.arange(len(self.targets)), self.targets].mean())


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceProbe:
    """One network, looked at from its first place to its last."""

    source: str  # as it was spelt
    model: str
    depths: tuple[DepthProbe, ...]
    pixels: DepthProbe  # the same classifiers on the shrunken images themselves
    best_place: str  # of a single one
    single_kind: str  # of KINDS: the best at `best_place`
    single: Accuracy  # place, classifier and C of a single place chosen without the images that they are scored on
    similarity: Similarity
    blend: BlendProbe | None = None  # of all places; it is what is best, wherever there is one
    learning_curve: tuple[CurvePoint, ...] = ()
    power_law: PowerLaw | None = None
    forecast: tuple[Forecast, ...] = ()
    answers: Answers | None = field(default=None, compare=False)  # of what is best
    # of the better classifier at the place to cut at, where one was asked for
    answers_at_cut: Answers | None = field(default=None, compare=False)
    # of the head as it is, where it knows all the classes, to images that are new to it
    own_answers: Answers | None = field(default=None, compare=False)
    seconds_forward: float = 0.0
    seconds_per_image: float = 0.0  # what the codes of one cost that is not in the cache
    seconds_fitting: float = 0.0
    from_cache: bool = False

    @property
    def best(self) -> DepthProbe:
        """The record of the best place."""
        return next(one for one in self.depths if one.place == self.best_place)

    @property
    def best_kind(self) -> str:
        """Of KINDS, or `blend` where several places share the answer."""
        return self.single_kind if self.blend is None else BLEND

    @property
    def expected(self) -> Accuracy:
        """Of what is best, every choice in it made without the images that it is scored on."""
        return self.single if self.blend is None else self.blend.accuracy

    @property
    def best_measured(self) -> Accuracy:
        """Of what is best: of a single place by the answers that it was chosen by, which flatters it a little."""
        return self.best.by_kind(self.single_kind) if self.blend is None else self.blend.accuracy

    @property
    def own_head(self) -> Accuracy | None:
        """Of the head as it is, where it knows all the classes."""
        return None if self.own_answers is None else Accuracy.of(self.own_answers.correct)

    def best_by_kind(self, kind: str) -> DepthProbe:
        """Where classifiers of one of KINDS do best; of equal places the deeper one."""
        if kind == self.single_kind:
            return self.best
        known = [one for one in reversed(self.depths) if not math.isnan(one.by_kind(kind).top1)]
        return max(known, key=lambda one: one.by_kind(kind).top1, default=self.depths[-1])

    @property
    def top(self) -> DepthProbe:
        """The record of the last place."""
        return self.depths[-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "source": self.source,
            "model": self.model,
            "depths": [one.to_dict() for one in self.depths],
            "pixels": self.pixels.to_dict(),
            "best_place": self.best_place,
            "best": {
                "place": self.best_place if self.blend is None else None,
                "kind": self.best_kind,
                **self.expected.to_dict(),
            },
            "blend": self.blend.to_dict() if self.blend is not None else None,
            "similarity": self.similarity.to_dict(),
            "learning_curve": [one.to_dict() for one in self.learning_curve],
            "power_law": self.power_law.to_dict() if self.power_law else None,
            "forecast": [one.to_dict() for one in self.forecast],
            "own_head": self.own_head.to_dict() if self.own_head else None,
            "seconds_forward": self.seconds_forward,
            "seconds_per_image": self.seconds_per_image,
            "seconds_fitting": self.seconds_fitting,
            "from_cache": self.from_cache,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResult:
    """Every network that was probed, on the training images of one data set."""

    data: str
    images: int  # looked at
    available: int  # training images there are
    classes: int
    largest_class: float  # share of the images: what always answering that class comes to
    folds: int
    sources: tuple[SourceProbe, ...]
    best_source: str  # spelling of the best
    rule: str  # what the rule of thumb by size and similarity says
    plan: Plan | None = None
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> SourceProbe:
        """The best network."""
        return next(one for one in self.sources if one.source == self.best_source)

    def with_plan(self, plan: Plan | None) -> ProbeResult:
        """The same with a plan."""
        return replace(self, plan=plan)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "data": self.data,
            "images": self.images,
            "available": self.available,
            "classes": self.classes,
            "largest_class": self.largest_class,
            "folds": self.folds,
            "sources": [one.to_dict() for one in self.sources],
            "best": self.best_source,
            "rule": self.rule,
            "plan": self.plan.to_dict() if self.plan is not None else None,
            "notes": list(self.notes),
        }


def _held(value: float) -> float:
    return min(1.0, max(0.0, value))
