"""Scores where an image may have several labels, one, or none. NumPy only.

Each label is a yes-or-no question of its own: it is chosen where its probability is at least the label's threshold.
Scores are probabilities (or anything of the same order), [n, L]; truths 0 or 1, [n, L]. Conventions:

- A row that holds a NaN, as an image that could not be read is given, chooses no label and finds none at any threshold:
  its labels are missed, and its set of labels is wrong, even where it has none.
- A label without positives has no average precision (NaN) and is left out of means over labels.
- An image without labels has no label that could be hit: it counts as not hit.
- A quotient 0 / 0 is 0, as in scikit-learn with ``zero_division=0``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from striate.metrics.intervals import DRAWS, LEVEL, bootstrap_interval
from striate.metrics.ranking import OperatingPoints, average_precision, operating_points

USUAL_THRESHOLD = 0.5  # where nothing says otherwise
LEAST_DRAWS = 200  # of the bootstrap, however large the set
FOLDS = 5  # in which thresholds are tried
MOST_WORK = 5e8  # draws x images x labels of a bootstrap: some seconds


@dataclass(frozen=True, slots=True)
class SetScores:
    """How the sets of chosen labels fare; fractions from 0 to 1."""

    exact_match: float  # images whose set of labels is entirely right
    hamming_loss: float  # pairs of image and label that are wrong
    micro_f1: float  # of all pairs at once: frequent labels weigh more
    macro_f1: float  # mean over the labels that occur or are chosen
    ranking_precision: float  # label ranking average precision

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PairedPrecisions:
    """The mean average precisions of two networks on the same n images."""

    n: int
    first: float
    second: float
    difference: float  # of the second less the first
    low: float  # the 95 % interval of the difference
    high: float
    p: float  # two-sided, by the bootstrap: twice the share of sets drawn where the order is the other way round

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedThresholds:
    """From which probability each label is chosen, and what that does to images which did not decide it."""

    values: tuple[float, ...]
    images: int
    unfitted: int  # labels that no image has, or every one: 0.5
    macro_f1_before: float  # with 0.5 for every label
    macro_f1_after: float  # of each fold at the thresholds of the others
    micro_f1_before: float
    micro_f1_after: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def in_words(self) -> str:
        """One line for people."""
        return (
            f"thresholds of {len(self.values) - self.unfitted} labels, fitted on {self.images} images: mean F1 "
            f"{self.macro_f1_before:.1%} with 0.5, {self.macro_f1_after:.1%} on images that they were not fitted on"
        )


def points_of(scores: np.ndarray, truths: np.ndarray) -> OperatingPoints:
    """All thresholds of one label; [n] both. Positives without a score are found at none of them."""
    scores, truths = np.asarray(scores), np.asarray(truths, dtype=bool)
    there = ~np.isnan(scores)
    points = operating_points(scores[there], truths[there])
    return OperatingPoints(
        points.thresholds, points.hits, points.false_alarms,
        positives=int(truths.sum()), negatives=int(len(truths) - truths.sum()),
    )  # fmt: skip


def answered(scores: np.ndarray) -> np.ndarray:
    """Which rows hold no NaN, bool [n]."""
    return np.asarray(~np.isnan(scores).any(axis=1))


def average_precisions(scores: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """The average precision of each label, float64 [L], without interpolation; NaN without positives."""
    scores, truths = _checked(scores, truths)
    found = [average_precision(points_of(scores[:, label], truths[:, label])) for label in range(scores.shape[1])]
    return np.array([np.nan if one is None else one for one in found])


def mean_average_precision(scores: np.ndarray, truths: np.ndarray) -> float | None:
    """The mean of the average precisions of the labels that have positives (macro mAP); None where none has."""
    return mean_of(average_precisions(scores, truths))


def mean_of(values: np.ndarray) -> float | None:
    """The mean of what is not NaN; None of nothing."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else None


def precision_interval(
    scores: np.ndarray, truths: np.ndarray, *, level: float = LEVEL, seed: int = 0
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of `mean_average_precision` over images; None where it has none.

    Of each set drawn the labels count that have a positive in it; a set without any is left out. 1,000 sets are drawn,
    of large data fewer, 200 at least, so that it takes seconds.
    """
    scores, truths = _checked(scores, truths)
    if not truths.any():
        return None
    return bootstrap_interval(
        lambda counts: _drawn_means(scores, truths, counts), np.ones(len(scores)), draws=_draws(scores), level=level,
        seed=seed,
    )  # fmt: skip


def compare_precisions(
    first: np.ndarray, second: np.ndarray, truths: np.ndarray, *, level: float = LEVEL, seed: int = 0
) -> PairedPrecisions:
    """Compare two networks by their mean average precision, [n, L] scores each; images are drawn in pairs.

    The bootstrap's interval and p-value are of the same sets (Efron & Tibshirani 1993, "An introduction to the
    bootstrap", sec. 16.4 for the test; one is added to both counts, so that p is never 0).

    Raises:
        ValueError: the shapes differ, or no image has a label.
    """
    first, truths = _checked(first, truths)
    second, truths = _checked(second, truths)
    of_first, of_second = mean_average_precision(first, truths), mean_average_precision(second, truths)
    if of_first is None or of_second is None:
        raise ValueError("no image has a label: there is no average precision to compare")
    seen: list[np.ndarray] = []

    def difference(counts: np.ndarray) -> np.ndarray:
        seen.append(_drawn_means(second, truths, counts) - _drawn_means(first, truths, counts))
        return seen[-1]

    low, high = bootstrap_interval(difference, np.ones(len(first)), draws=_draws(first), level=level, seed=seed)
    drawn = seen[0][~np.isnan(seen[0])]
    below, above = ((1 + int(side.sum())) / (1 + len(drawn)) for side in (drawn <= 0, drawn >= 0))
    return PairedPrecisions(
        len(first), of_first, of_second, of_second - of_first, low, high, min(1.0, 2 * min(below, above))
    )


def chosen_labels(
    probabilities: np.ndarray, thresholds: np.ndarray | Sequence[float] | float = USUAL_THRESHOLD
) -> np.ndarray:
    """Which labels are at or above their threshold, bool [n, L]; none of a row that holds a NaN."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    return (probabilities >= np.asarray(thresholds, dtype=np.float64)) & answered(probabilities)[:, None]


def best_thresholds(probabilities: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """The threshold of each label under which its F1 is largest on these images, float64 [L].

    It lies in the middle between the lowest probability that is to be chosen and the next one below (or 0). Of equal
    F1 the highest threshold is taken; it is 0.5 for a label without positives or without negatives.
    """
    probabilities, truths = _checked(probabilities, truths)
    usable = answered(probabilities)
    probabilities, truths = probabilities[usable], truths[usable]
    return np.array([_best_threshold(*columns) for columns in zip(probabilities.T, truths.T, strict=True)])


def _best_threshold(probabilities: np.ndarray, truths: np.ndarray) -> float:
    if truths.all() or not truths.any():
        return USUAL_THRESHOLD
    points = operating_points(probabilities, truths)
    f1 = 2 * points.hits / (points.positives + points.hits + points.false_alarms)
    place = int(f1.argmax())
    below = points.thresholds[place + 1] if place + 1 < len(points.thresholds) else 0.0
    middle = (points.thresholds[place] + below) / 2
    return float(middle if below < middle else points.thresholds[place])


def fit_thresholds(probabilities: np.ndarray, truths: np.ndarray) -> FittedThresholds:
    """`best_thresholds`, and what such thresholds come to on images that did not decide them."""
    probabilities, truths = _checked(probabilities, truths)
    n = len(truths)
    fold = np.arange(n) % FOLDS
    unseen = np.full(truths.shape, USUAL_THRESHOLD)
    for number in range(FOLDS if n >= FOLDS else 0):
        rest = fold != number
        unseen[~rest] = best_thresholds(probabilities[rest], truths[rest])
    usual, held_out = (set_scores(probabilities, truths, limit) for limit in (USUAL_THRESHOLD, unseen))
    return FittedThresholds(
        values=tuple(best_thresholds(probabilities, truths).tolist()),
        images=n,
        unfitted=int((truths.all(axis=0) | ~truths.any(axis=0)).sum()),
        macro_f1_before=usual.macro_f1,
        macro_f1_after=held_out.macro_f1,
        micro_f1_before=usual.micro_f1,
        micro_f1_after=held_out.micro_f1,
    )


def label_counts(chosen: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each label how often it was chosen rightly, chosen, and true, int64 [L] each."""
    truths = np.asarray(truths, dtype=bool)
    return (chosen & truths).sum(axis=0), chosen.sum(axis=0), truths.sum(axis=0)


def set_scores(
    probabilities: np.ndarray, truths: np.ndarray, thresholds: np.ndarray | Sequence[float] | float
) -> SetScores:
    """The scores of the sets of labels that thresholds [L] choose; all 0 without images, as is their loss."""
    probabilities, truths = _checked(probabilities, truths)
    if not len(truths):
        return SetScores(0.0, 0.0, 0.0, 0.0, 0.0)
    chosen = chosen_labels(probabilities, thresholds)
    right, said, there = label_counts(chosen, truths)
    f1 = _quotient(2 * right, said + there)
    return SetScores(
        exact_match=float((right_sets(probabilities, chosen, truths)).mean()),
        hamming_loss=float((chosen != truths).mean()),
        micro_f1=float(_quotient(2 * right.sum(), said.sum() + there.sum())),
        macro_f1=float(f1[(said + there) > 0].mean()) if (said + there).any() else 0.0,
        ranking_precision=label_ranking_precision(probabilities, truths),
    )


def right_sets(probabilities: np.ndarray, chosen: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Whether the set of chosen labels is entirely right, bool [n]; never of a row that holds a NaN."""
    return (chosen == np.asarray(truths, dtype=bool)).all(axis=1) & answered(probabilities)


def hits(scores: np.ndarray, truths: np.ndarray, k: int) -> np.ndarray:
    """Whether one of the k labels that stand first is true, bool [n]; of equal scores the lower label stands first."""
    scores, truths = _checked(scores, truths)
    first = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(truths, first, axis=1).any(axis=1) & answered(scores)


def label_ranking_precision(scores: np.ndarray, truths: np.ndarray) -> float:
    """Of the labels at or above each true one, the share that is true: mean over an image's labels, then over images.

    An image with no label or all of them counts 1, as in scikit-learn (Schapire & Singer 2000, "BoosTexter", Machine
    Learning 39); one without an answer 0. It is 0 without images.
    """
    scores, truths = _checked(scores, truths)
    if not truths.size:
        return 0.0
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked, true = np.take_along_axis(scores, order, axis=1), np.take_along_axis(truths, order, axis=1)
    places = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    ends = np.where(np.append(ranked[:, 1:] != ranked[:, :-1], np.ones((len(ranked), 1), bool), axis=1), places, np.inf)
    last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1].astype(int)  # of the labels of equal score
    shares = np.take_along_axis(true.cumsum(axis=1), last, axis=1) / (last + 1)
    counts = true.sum(axis=1)
    means = np.where((counts == 0) | (counts == scores.shape[1]), 1.0, (shares * true).sum(axis=1) / counts.clip(1))
    return float((means * answered(scores)).mean())


def together(labels: np.ndarray) -> np.ndarray:
    """How often two labels are on one image, int64 [L, L], of 0 or 1 [n, L]; on the diagonal how often each is."""
    labels = np.asarray(labels, dtype=np.float32)  # exact to 16 million images
    return np.rint(labels.T @ labels).astype(np.int64)


def _drawn_means(scores: np.ndarray, truths: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean average precision of each set drawn, [draws], of how often it has each image, [draws, n].

    NaN of a set in which no label has a positive.

    Average precision needs the images only in heaps: down to each threshold at which a positive is found.
    """
    of_image = np.ascontiguousarray(counts.T, dtype=np.float32)  # whole numbers, exact to 16 million images
    total = np.zeros((2, counts.shape[0]))
    there = answered(scores)
    for label in np.flatnonzero(truths.any(axis=0)):
        rows = np.flatnonzero(there)[np.argsort(-scores[there, label])]
        value, positive = scores[rows, label], truths[rows, label]
        positives = of_image[truths[:, label]].sum(axis=0, dtype=np.float64)
        ends = np.append(np.flatnonzero(np.diff(value)), len(value) - 1) + 1 if len(value) else np.zeros(0, int)
        before = np.append(0, np.cumsum(positive))
        ends = ends[np.diff(before[ends], prepend=0) > 0]  # heaps that add a positive
        precision = 0.0
        if len(ends):
            drawn = of_image[rows[: ends[-1]]]
            seen = np.cumsum(np.add.reduceat(drawn, np.append(0, ends[:-1]), axis=0), axis=0)
            drawn_positive = of_image[rows[positive]]
            heaps = np.append(0, before[ends[:-1]])
            gained = np.add.reduceat(drawn_positive, heaps, axis=0)
            precision = (gained * _quotient(np.cumsum(gained, axis=0), seen)).sum(axis=0)
        total += np.stack([_quotient(precision + np.zeros(len(positives)), positives), positives > 0])
    return np.where(total[1] > 0, _quotient(total[0], total[1]), np.nan)


def _draws(scores: np.ndarray) -> int:
    return int(min(DRAWS, max(LEAST_DRAWS, MOST_WORK // max(scores.size, 1))))


def _quotient(over: Any, under: Any) -> np.ndarray:
    over, under = np.asarray(over, dtype=float), np.asarray(under, dtype=float)
    return np.divide(over, under, out=np.zeros(over.shape), where=under > 0)


def _checked(scores: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, truths = np.asarray(scores), np.asarray(truths, dtype=bool)
    if scores.ndim != 2 or scores.shape != truths.shape:
        raise ValueError(f"scores are {scores.shape} and truths {truths.shape}: both must be [n, labels]")
    return scores, truths
