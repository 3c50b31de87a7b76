"""What the rules of the diagnosis look at, and what they answer with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from striate.metrics.reliability import Reliability
from striate.report.figures import interval_of
from striate.report.record import Counts, epoch_values

if TYPE_CHECKING:
    import numpy as np

Level = Literal["problem", "attention", "note", "good"]
LEVELS: tuple[Level, ...] = ("problem", "attention", "note", "good")  # the order in which findings are shown


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth knowing: a few words, a sentence or two with the next step, and the figures it rests on."""

    level: Level
    title: str
    sentence: str
    figures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """The figures of a run, as the rules read them."""

    epochs: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    evaluation: dict[str, Any]
    environment: dict[str, Any]
    counts: Counts | None = None
    reliability: Reliability | None = None  # of the headline split
    split: str | None = None  # the headline split: test, else val

    @property
    def scores(self) -> dict[str, Any]:
        """Scores of the headline split, or {}."""
        return (self.evaluation.get("splits") or {}).get(self.split) or {}

    @property
    def multi_label(self) -> bool:
        """Whether the network gives an image any number of labels: top-1 then says little."""
        return self.scores.get("exact_match") is not None or bool(self.curve("val", "map"))

    @property
    def units(self) -> str:
        """What the images are sorted by."""
        return "labels" if self.multi_label else "classes"

    @property
    def train(self) -> dict[str, Any]:
        """Scores on the training images as they are, without augmentation, or {}."""
        return self.evaluation.get("train") or {}

    @property
    def classes(self) -> int:
        """How many classes there are; 0 where nothing says."""
        return len(self.scores.get("per_class") or ()) or (len(self.counts.classes) if self.counts else 0)

    @property
    def n(self) -> int:
        """Images behind the headline score, or else validation images of the manifest; 0 where nothing says."""
        if self.scores.get("n"):
            return int(self.scores["n"])
        return self.counts.images.get("val", 0) if self.counts else 0

    def curve(self, *keys: str) -> list[tuple[int, float]]:
        """(epoch, value) wherever it is a finite number."""
        return epoch_values(self.epochs, *keys)

    def interval_width(self) -> float | None:
        """Width of the 95 % interval of the headline top-1, as a fraction."""
        if not self.scores.get("n"):
            return None
        low, high = interval_of(self.scores)
        return high - low

    def standard_error(self, share: float) -> float:
        """Of a share measured on as many images as the validation has; at least that of one image more or less."""
        n = max(int((self.evaluation.get("splits") or {}).get("val", {}).get("n") or self.n), 1)
        return max(math.sqrt(share * (1 - share) / n), 1 / n)


def smoothed(values: list[float]) -> list[float]:
    """Running median of three: one odd epoch does not make a trend."""
    if len(values) < 3:
        return values
    middle = [sorted(values[i - 1 : i + 2])[1] for i in range(1, len(values) - 1)]
    return [values[0], *middle, values[-1]]


def class_list(names: list[str], shown: int = 5) -> str:
    """The first few names, and how many more there are."""
    text = ", ".join(names[:shown])
    return f"{text} and {len(names) - shown} more" if len(names) > shown else text


def share_of(counts: np.ndarray) -> float:
    """Largest count over smallest count that is not zero; 1 where there are none."""
    present = counts[counts > 0]
    return float(present.max() / present.min()) if len(present) else 1.0
