"""How far a score can be trusted: intervals of shares, and of anything else by resampling. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from striate.spec import ClassScores, Scores

LEVEL = 0.95
Z95 = 1.959963984540054  # the 97.5 % point of the standard normal distribution
DRAWS = 1000  # resampled sets: the ends of an interval of 95 % rest on 25 of them each


def wilson_interval(correct: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Score interval of a proportion, as two fractions; (0, 1) for no observations.

    Unlike the textbook p ± z·sqrt(p(1-p)/n), it stays inside [0, 1] and does not shrink to nothing at 0 or 100 %
    (Wilson 1927, "Probable inference, the law of succession, and statistical inference").
    """
    if n <= 0:
        return 0.0, 1.0
    share, squared = correct / n, z * z
    centre = (share + squared / (2 * n)) / (1 + squared / n)
    half = z / (1 + squared / n) * math.sqrt(share * (1 - share) / n + squared / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def exact_interval(
    right: np.ndarray | float, n: np.ndarray | float, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """The interval of a proportion that holds at any n (Clopper & Pearson 1934, Biometrika 26), as two fractions.

    Args:
        right: how often it was seen, of any shape.
        n: of how many; where it is 0 the interval is (0, 1).
        level: how often the interval is to hold the truth, at least.
    """
    right, n = np.broadcast_arrays(np.asarray(right, dtype=float), np.asarray(n, dtype=float))
    tail = (1 - level) / 2
    low, high = np.zeros(right.shape), np.ones(right.shape)
    for place in np.ndindex(right.shape):
        seen, of = round(float(right[place])), round(float(n[place]))
        low[place] = _smallest_share(seen, of, tail)
        high[place] = 1 - _smallest_share(of - seen, of, tail)
    return low, high


def _smallest_share(seen: int, of: int, tail: float) -> float:
    """The share p with which `seen` or more of `of` come with probability `tail`.

    SciPy's quantile of the beta distribution is the same number, but every training ends with this interval and would
    wait for its import.
    """
    if seen <= 0:
        return 0.0
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, of + 1)))))  # of the factorials
    more = np.arange(seen, of + 1)
    ways = logs[of] - logs[more] - logs[of - more]
    low, high = 0.0, seen / of
    share = max(wilson_interval(seen, of)[0], high / (of + 1))
    for _ in range(200):
        terms = ways + more * math.log(share) + (of - more) * math.log1p(-share)
        top = terms.max()
        sum_ = np.exp(terms - top).sum()
        excess = top + math.log(sum_) - math.log(tail)
        low, high = (share, high) if excess < 0 else (low, share)
        # the derivative of the tail is its first term times seen / p; Newton's step on its logarithm
        step = share - excess * share / seen * sum_ / math.exp(terms[0] - top)
        if abs(step - share) <= 1e-14 * share:
            break
        share = step if low < step < high else (low + high) / 2
    return share


def bootstrap_interval(
    statistic: Callable[[np.ndarray], np.ndarray],
    counts: np.ndarray,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of counts (Efron 1979, "Bootstrap methods", Annals of Statistics 7).

    To draw n images anew from n, each of which falls into one of K cells, is to draw the cells' counts from the
    multinomial distribution: no image is copied.

    Args:
        statistic: of counts [draws, K] -> [draws]; NaN of a set that has none, which is left out.
        counts: the images of each cell, int [K].
        draws: how many sets are drawn.
        level: of the interval.
        seed: the same gives the same interval.

    Returns:
        Low and high, NaN without images.
    """
    counts = np.asarray(counts, dtype=np.int64)
    n = int(counts.sum())
    if not n:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=draws)
    low, high = np.nanquantile(statistic(drawn), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def with_intervals(scores: Scores) -> Scores:
    """The same scores with their 95 % intervals: top-1, balanced accuracy, and precision, recall, F1 of each class.

    Shares have the exact interval; F1 and balanced accuracy, which are none, the bootstrap's. None stands for what
    has no observations.
    """
    matrix = np.array(scores.confusion, dtype=np.int64).reshape(len(scores.per_class), len(scores.per_class))
    images = np.array([one.support for one in scores.per_class], dtype=np.int64)
    right, said = np.diag(matrix), matrix.sum(axis=0)
    low, high = exact_interval(round(scores.top1 * scores.n), scores.n)
    return replace(
        scores,
        top1_interval=(float(low), float(high)) if scores.n else None,
        balanced_accuracy_interval=_of_balanced_accuracy(right, images) if scores.n else None,
        per_class=with_class_intervals(scores.per_class, right, said, images, scores.n),
    )


def with_class_intervals(
    rows: Sequence[ClassScores], right: np.ndarray, said: np.ndarray, images: np.ndarray, n: int
) -> tuple[ClassScores, ...]:
    """The same rows with intervals, from how often each class was said rightly, said, and true, [C], of n images."""
    recall = np.stack(exact_interval(right, images), axis=1).tolist()
    precision = np.stack(exact_interval(right, said), axis=1).tolist()
    return tuple(
        replace(
            row,
            recall_interval=tuple(recall[place]) if images[place] else None,
            precision_interval=tuple(precision[place]) if said[place] else None,
            f1_interval=_of_f1(int(right[place]), int(images[place] + said[place]), n),
        )
        for place, row in enumerate(rows)
    )


def _of_f1(right: int, marked: int, n: int) -> tuple[float, float] | None:
    """`marked` counts the images of the class and those said to be of it, so that right ones count twice."""
    either = marked - 2 * right
    return bootstrap_interval(_f1, np.array([right, either, n - right - either])) if marked else None


def _f1(counts: np.ndarray) -> np.ndarray:
    """F1 of [draws, 3]: images that are both of the class and said to be, those that are one of the two, and others."""
    twice = 2 * counts[:, 0]
    return twice / np.maximum(twice + counts[:, 1], 1)


def _of_balanced_accuracy(right: np.ndarray, images: np.ndarray) -> tuple[float, float]:
    """Of the classes that were drawn, as the score itself is of those that occur."""
    occurs = images > 0
    right, wrong = right[occurs], (images - right)[occurs]

    def statistic(counts: np.ndarray) -> np.ndarray:
        hits, all_of = counts[:, : len(right)], counts[:, : len(right)] + counts[:, len(right) :]
        return (hits / np.maximum(all_of, 1)).sum(axis=1) / np.maximum((all_of > 0).sum(axis=1), 1)

    return bootstrap_interval(statistic, np.concatenate([right, wrong]))
