"""Learning curves: what fewer images would have come to, and by a power law what more of them would bring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from striate.linear.classifiers import OutOfFold
from striate.linear.solver import Axes, outputs, solve
from striate.transfer.result import CurvePoint, Forecast, PowerLaw, wilson

_SIZES, _REPEATS = 5, 2  # sizes of subsets below the whole, and how many of each are drawn for every fold
_FEWEST = 2  # images of a class, on average, in the smallest subset
_EXPONENTS = np.linspace(0.1, 1.0, 37)  # of power laws: learning curves of classifiers fall by 0.1 to 1
_DRAWS = 200
_MAIN_AXES = 256  # subsets know no more
_MORE = (2, 5, 10)  # times the images there are


def learning_curve(
    axes: Axes, known: OutOfFold, seed: int = 0
) -> tuple[tuple[CurvePoint, ...], np.ndarray, np.ndarray]:
    """Accuracies of classifiers trained on subsets, each scored on the fold that its images are not in.

    Subsets have the same share of each class, and the smaller are parts of the larger. The C of a subset is that of its
    fold. The last point is the cross-validation itself.

    Args:
        axes: of the codes.
        known: what cross-validation said of them.
        seed: of the subsets.

    Returns:
        The points; the images of each, [s]; and how often each held-out image was recognised, float [s, m].
    """
    targets, held = known.targets, known.held_out
    axes = axes.first(_MAIN_AXES)
    present, dense = np.unique(targets, return_inverse=True)
    names = np.unique(known.folds[held])
    if not len(names):
        return (), np.zeros(0, int), np.zeros((0, 0))
    whole = int(np.mean([(known.folds != name).sum() for name in names]))
    sizes = _sizes(whole, _FEWEST * len(present))
    hits = [np.zeros(len(targets)) for _ in sizes]
    generator = np.random.default_rng(seed)
    trains, strengths, jobs = [], [], []
    for fold, name in enumerate(names):
        pool = known.folds != name
        for _ in range(_REPEATS if sizes else 0):
            ranks = _ranks(dense, pool, generator)
            for number, size in enumerate(sizes):
                trains.append(pool & (ranks < size / pool.sum()))
                strengths.append(known.by_fold[fold])
                jobs.append((number, name))
    if jobs:
        solution = solve(known.kind, axes, dense, len(present), np.stack(trains), np.array(strengths))
        for (number, name), weight, bias in zip(jobs, *solution, strict=True):
            rows = known.folds == name
            answers = outputs(axes, (weight[None], bias[None]))[0, rows].argmax(axis=1)
            hits[number][rows] += (answers == dense[rows]) / _REPEATS
    hits.append((known.predicted == targets).astype(float))
    shares = np.stack(hits)[:, held]
    counts = np.array([*sizes, whole])
    classes = known.logits.shape[1]
    points = tuple(_point(int(size), row, targets[held], classes) for size, row in zip(counts, shares, strict=True))
    return points, counts, shares


def fitted_power_law(sizes: np.ndarray, shares: np.ndarray, seed: int = 0) -> PowerLaw | None:
    """The power law of a learning curve, with those of resampled images; None from fewer than three sizes.

    Args:
        sizes: images of each point, [s].
        shares: how often each held-out image was recognised, float [s, m].
        seed: of the resampling.
    """
    if len(sizes) < 3:
        return None
    images = shares.shape[1]
    generator = np.random.default_rng(seed)
    picked = generator.multinomial(images, np.full(images, 1 / images), _DRAWS) / images  # [d, m]
    errors = 1 - np.concatenate([shares.mean(axis=1)[None], picked @ shares.T])  # [1 + d, s]
    spread = errors[0] * (1 - errors[0]) + 0.5 / images
    found = _power_laws(sizes.astype(float), errors, 1 / spread)
    rows = [tuple(map(float, row)) for row in found]
    floor, scale, exponent = rows[0]
    return PowerLaw(floor=floor, scale=scale, exponent=exponent, draws=tuple(rows[1:]))  # type: ignore[arg-type]


def forecasts(law: PowerLaw | None, images: int) -> tuple[Forecast, ...]:
    """What a hundred more images, and several times as many, would come to."""
    if law is None:
        return ()
    sizes = sorted({images + 100, *(factor * images for factor in _MORE)})
    return tuple(_forecast(law, images, size) for size in sizes)


def _forecast(law: PowerLaw, now: int, images: int) -> Forecast:
    low, high = law.interval(images)
    return Forecast(
        images=images, top1=law.top1(images), low=low, high=high, gain=law.top1(images) - law.top1(now)
    )  # fmt: skip


def _sizes(whole: int, fewest: int) -> list[int]:
    """Halves of `whole`, halves of those and so on, the smallest first."""
    sizes = [round(whole / 2**step) for step in range(1, _SIZES + 1)]
    return sorted(size for size in sizes if size >= fewest)


def _ranks(targets: np.ndarray, pool: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[n] in 0..1, evenly spread over the images of each class in the pool: those below s are that share of each."""
    ranks = np.ones(len(targets))
    for target in np.unique(targets[pool]):
        members = generator.permutation(np.flatnonzero(pool & (targets == target)))
        # at random which classes get the image that rounding leaves over
        ranks[members] = (np.arange(len(members)) + generator.random()) / len(members)
        ranks[members[0]] = 0.0  # each class is there
    return ranks


def _point(images: int, shares: np.ndarray, targets: np.ndarray, classes: int) -> CurvePoint:
    low, high = wilson(float(shares.sum()), len(shares))
    counts = np.bincount(targets, minlength=classes)
    right = np.bincount(targets, weights=shares, minlength=classes)
    by_class = np.divide(right, counts, out=np.full(classes, np.nan), where=counts > 0)
    return CurvePoint(
        images=images, top1=float(shares.mean()), low=low, high=high, by_class=tuple(map(float, by_class))
    )  # fmt: skip


def _power_laws(sizes: np.ndarray, errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(floor, scale, exponent) of least weighted squares for each row of errors [d, s]; floor and scale from 0 up."""
    best, found = np.full(len(errors), np.inf), np.zeros((len(errors), 3))
    for exponent in _EXPONENTS:
        x = sizes**-exponent
        for floor, scale in _lines(x, errors, weights):
            misfit = ((errors - floor[:, None] - scale[:, None] * x) ** 2 * weights).sum(axis=1)
            better = (misfit < best) & (floor >= 0) & (scale >= 0)
            best[better] = misfit[better]
            found[better] = np.stack([floor, scale, np.full_like(floor, exponent)], axis=1)[better]
    return found


def _lines(x: np.ndarray, errors: np.ndarray, weights: np.ndarray) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """Least squares of floor + scale * x: free, without a floor, and without a slope."""
    total = weights.sum()
    mean_x, mean = (weights * x).sum() / total, (errors * weights).sum(axis=1) / total
    slope = ((errors - mean[:, None]) * (x - mean_x) * weights).sum(axis=1) / ((x - mean_x) ** 2 * weights).sum()
    through_zero = (errors * x * weights).sum(axis=1) / (x * x * weights).sum()
    none = np.zeros_like(mean)
    return (mean - slope * mean_x, slope), (none, through_zero), (mean, none)
