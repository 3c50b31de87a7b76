"""What asking about changed images comes to: counts, intervals, a few examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from striate.metrics.intervals import exact_interval


@dataclass(frozen=True, slots=True)
class Point:
    """One condition: `right` of n images, unreadable ones among the n; `same` answers as to the image unchanged."""

    strength: float
    right: int
    same: int
    n: int
    readable: int
    direction: str = ""

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self.right / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Of the accuracy, exact, 95 %."""
        low, high = exact_interval(self.right, self.n)
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `unchanged` is a share of the readable images."""
        return {
            **({"direction": self.direction} if self.direction else {}),
            "strength": self.strength,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "unchanged": self.same / self.readable if self.readable else None,
            "n": self.n,
        }


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind at all its strengths; `neutral` is that of the image as it was."""

    name: str
    group: str
    axis: str
    neutral: float
    points: tuple[Point, ...]
    seconds: float

    @property
    def clean(self) -> Point:
        """The image as it was."""
        return next(one for one in self.points if one.strength == self.neutral)

    @property
    def changed(self) -> list[Point]:
        """All but the image as it was."""
        return [one for one in self.points if one.strength != self.neutral]

    @property
    def mean_accuracy(self) -> float:
        """Over all strengths but the neutral one."""
        return float(np.mean([one.accuracy for one in self.changed]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "kind": self.name,
            "group": self.group,
            "axis": self.axis,
            "mean_accuracy": self.mean_accuracy,
            "mean_error_above_clean": self.clean.accuracy - self.mean_accuracy,
            "seconds": self.seconds,
            "points": [one.to_dict() for one in self.points],
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """A picture as the network saw it, uint8 [C, H, W], and what it said."""

    pixels: np.ndarray
    said: str
    probability: float
    right: bool


@dataclass(frozen=True, slots=True)
class Fooled:
    """An image that was answered right, and wrong once it was changed."""

    kind: str
    truth: str
    strength: float
    before: Answer
    after: Answer
    direction: str = ""


@dataclass(frozen=True)
class Robustness:
    """A network on images that are changed in several ways, and the same images as they are."""

    clean: Point
    of: int  # images that there are, of which `clean.n` were drawn
    unreadable: int
    kinds: tuple[Kind, ...]
    left_out: dict[str, str]  # kinds that were asked for, and why they make no sense here
    seconds: float
    seed: int = 0
    model: str = ""
    data: str = ""
    split: str = ""
    examples: dict[str, list[list[Answer]]] = field(default_factory=dict)  # kind -> of every point, some images
    truths: tuple[str, ...] = ()  # of the images in `examples`
    fooled: tuple[Fooled, ...] = ()
    pictures: tuple[str, ...] = ()  # files, where they were written

    @property
    def corruptions(self) -> list[Kind]:
        """The kinds that have severities."""
        return [one for one in self.kinds if one.axis == "severity"]

    def to_dict(self) -> dict[str, Any]:
        """The object `robustness` of `striate evaluate --json`."""
        corrupted = self.corruptions
        error = float(np.mean([1 - one.mean_accuracy for one in corrupted])) if corrupted else None
        return {
            "model": self.model,
            "data": self.data,
            "split": self.split,
            "n": self.clean.n,
            "of": self.of,
            "unreadable": self.unreadable,
            "seed": self.seed,
            "clean": {"accuracy": self.clean.accuracy, "interval": list(self.clean.interval)},
            "mean_corruption_error": error,
            "mean_corruption_error_above_clean": None if error is None else error - (1 - self.clean.accuracy),
            "kinds": [one.to_dict() for one in self.kinds],
            "left_out": self.left_out,
            "seconds": self.seconds,
            "pictures": list(self.pictures),
        }
