"""Telling images of what the network knows from strangers by its answers alone: scores that are high for known images,
and how well they separate the two. NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from striate.metrics.intervals import DRAWS, LEVEL
from striate.metrics.ranking import area_under_roc, average_precision, for_recall, operating_points

KEPT = 0.95  # of the known images, at the threshold that figures are stated for
BINS = 40  # of a histogram
CELLS = 1000  # of scores, in which the bootstrap counts images


def max_probability(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The probability of the likeliest class, [n] of logits [n, C] (Hendrycks & Gimpel 2017, arXiv:1610.02136)."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return np.exp(scaled.max(axis=1) - _log_sum_exp(scaled))


def max_logit(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The largest logit, [n] of [n, C] (Hendrycks et al. 2022, arXiv:1911.11132); a temperature keeps their order."""
    return np.asarray(logits, dtype=np.float64).max(axis=1) / temperature


def negative_energy(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """T log sum exp(logits / T), [n] of [n, C] (Liu et al. 2020, arXiv:2010.03759): minus the energy."""
    return temperature * _log_sum_exp(np.asarray(logits, dtype=np.float64) / temperature)


SCORES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "max_probability": max_probability,
    "max_logit": max_logit,
    "negative_energy": negative_energy,
}


@dataclass(frozen=True, slots=True)
class Separation:
    """How well a score tells `known` images from `strangers`; fractions, None where one of the two is missing.

    Intervals are of 95 %, by the bootstrap over images of either kind.
    """

    known: int
    strangers: int
    auroc: float | None  # how often a known image scores above a stranger
    auroc_interval: tuple[float, float] | None
    aupr_known: float | None  # average precision of picking out the known
    aupr_known_interval: tuple[float, float] | None
    aupr_strangers: float | None  # of picking out the strangers
    aupr_strangers_interval: tuple[float, float] | None
    threshold: float | None  # the highest at or above which at least 95 % of the known images lie
    kept: float | None  # of the known images, those at or above it
    let_in: float | None  # of the strangers, those at or above it: the false-positive rate at 95 % true positives
    let_in_interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def separation(known: np.ndarray, strangers: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> Separation:
    """How well scores, finite and high for known images, separate `known` [n] from `strangers` [m].

    The bootstrap draws either kind anew by how many of its images lie in each of up to 1,000 cells of equally many.
    """
    known, strangers = np.asarray(known, dtype=np.float64), np.asarray(strangers, dtype=np.float64)
    n, m = len(known), len(strangers)
    if not n or not m:
        return Separation(n, m, *[None] * 10)
    scores, positive = np.concatenate([known, strangers]), np.arange(n + m) < n
    points, reverse = operating_points(scores, positive), operating_points(-scores, ~positive)
    chosen = for_recall(points, KEPT)
    assert chosen is not None
    intervals = _intervals(*_cells(scores, positive), draws, seed)
    return Separation(
        n, m, area_under_roc(points), intervals[0], average_precision(points), intervals[1],
        average_precision(reverse), intervals[2], chosen.threshold, chosen.recall, chosen.false_positive_rate,
        intervals[3],
    )  # fmt: skip


def _cells(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Known images and strangers in cells of the scores from the highest down, int [k] each."""
    values, places = np.unique(-scores, return_inverse=True)
    if len(values) > CELLS:
        edges = np.quantile(-scores, np.linspace(0, 1, CELLS + 1)[1:-1])
        places = np.searchsorted(edges, -scores, side="right")
    places = places.reshape(-1)
    known, strangers = (np.bincount(places[one], minlength=int(places.max()) + 1) for one in (positive, ~positive))
    return known, strangers


def _intervals(known: np.ndarray, strangers: np.ndarray, draws: int, seed: int) -> list[tuple[float, float]]:
    """Of the area under ROC, the two average precisions, and the share of strangers let in."""
    generator = np.random.default_rng(seed)
    n, m = int(known.sum()), int(strangers.sum())
    drawn = [generator.multinomial(total, one / total, size=draws) for one, total in ((known, n), (strangers, m))]
    hits, alarms = (np.cumsum(one, axis=1) for one in drawn)
    recall, false_alarms = hits / n, alarms / m
    before = np.pad(recall, ((0, 0), (1, 0)))[:, :-1]
    area = ((recall + before) / 2 * (drawn[1] / m)).sum(axis=1)
    precision = hits / np.maximum(hits + alarms, 1)
    of_known = (drawn[0] / n * precision).sum(axis=1)
    fewer, fewer_known = m - alarms + drawn[1], n - hits + drawn[0]  # at this cell or below it
    of_strangers = (drawn[1] / m * (fewer / np.maximum(fewer + fewer_known, 1))).sum(axis=1)
    place = (hits >= KEPT * n).argmax(axis=1)
    let_in = np.take_along_axis(false_alarms, place[:, None], axis=1)[:, 0]
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    found = [np.quantile(one, ends).tolist() for one in (area, of_known, of_strangers, let_in)]
    return [(low, high) for low, high in found]


def histogram(known: np.ndarray, strangers: np.ndarray, bins: int = BINS) -> dict[str, list[float]]:
    """`edges` [bins + 1] over all scores, and the share of `known` and of `strangers` in each bin."""
    both = np.concatenate([known, strangers])
    if not len(both):
        return {"edges": [], "known": [], "strangers": []}
    edges = np.histogram_bin_edges(both, bins)
    return {"edges": edges.tolist()} | {
        name: (np.histogram(one, edges)[0] / max(len(one), 1)).tolist()
        for name, one in (("known", known), ("strangers", strangers))
    }


def _log_sum_exp(values: np.ndarray) -> np.ndarray:
    top = values.max(axis=1)
    return top + np.log(np.exp(values - top[:, None]).sum(axis=1))
