"""Linear classifiers of codes: a linear SVM and a softmax classifier, with C chosen by cross-validation.

Every figure is honest. The images are dealt into folds; each is answered by a classifier that has seen no image of its
fold, with a C that was chosen without them too: by classifiers that have seen neither that fold nor one of its
neighbours, on those neighbours. Two neighbouring folds that are left out together serve both of them, so that choosing
costs no more than plain cross-validation at every C. Only what needs no labels, mean and deviation of the features and
the direction of the axes, is taken from all images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from striate.data.split import ranked_numbers, unit_digests, unit_numbers
from striate.errors import DataError, UsageError
from striate.linear import KINDS
from striate.linear.solver import INTERCEPT, Axes, Solution, axes_of, outputs, solve

FOLDS = 5  # at most
GRID = {"svm": (0.1, 1.0, 10.0, 100.0), "softmax": (3.0, 30.0, 300.0, 3000.0)}  # of C, for codes of mean square 1
USUAL = {"svm": 1.0, "softmax": 30.0}  # where too few images could choose
NEVER = -1  # fold of images that are always trained on
_MAIN_AXES = 128  # that C is chosen on
_MANY_ANSWERS = 10_000_000  # images times classes from which part of the images choose C, and liblinear is too slow
_UNSEEN = 30.0  # by how much a class without images is less likely than the others' mean, in logits
_TEMPERATURES = np.geomspace(0.02, 2000.0, 101)


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A linear classifier of codes as they come from the network; its outputs are logits."""

    weight: np.ndarray  # float32 [classes, D]
    bias: np.ndarray  # float32 [classes]
    regularization: float  # C
    kind: str  # of KINDS
    temperature: float = 1.0  # by which the margins were divided

    def logits(self, codes: np.ndarray) -> np.ndarray:
        """float32 [n, D] -> [n, classes]."""
        return codes @ self.weight.T + self.bias

    def probabilities(self, codes: np.ndarray) -> np.ndarray:
        """float32 [n, D] -> [n, classes]; each row adds up to 1."""
        return softmax(self.logits(codes))

    def predict(self, codes: np.ndarray) -> np.ndarray:
        """float32 [n, D] -> int64 [n]: the most probable class."""
        return self.logits(codes).argmax(axis=1)


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The answers to n images by classifiers that had not seen them."""

    kind: str
    logits: np.ndarray  # float32 [n, classes], divided by `temperature`; NaN for images of no fold
    targets: np.ndarray  # int64 [n]
    folds: np.ndarray  # int64 [n]; NEVER: always trained on, not answered
    regularization: float  # C that is best for a classifier of all images
    by_fold: tuple[float, ...]  # C of each fold's classifier
    temperature: float
    choosing: np.ndarray  # float32 [folds, n]: probability of the true class, by which each fold may choose a place
    looked_at: np.ndarray  # bool [folds, n]: by which images it is judged; never those of the fold itself

    @cached_property
    def held_out(self) -> np.ndarray:
        """bool [n]: which images were answered."""
        return self.folds != NEVER

    @cached_property
    def predicted(self) -> np.ndarray:
        """int64 [n]: the most probable class; -1 where not answered."""
        return np.where(self.held_out, np.nan_to_num(self.logits).argmax(axis=1), -1)

    @property
    def correct(self) -> np.ndarray:
        """bool [m]: of the images that were answered."""
        return (self.predicted == self.targets)[self.held_out]

    @property
    def probabilities(self) -> np.ndarray:
        """float32 [m, classes], of the images that were answered."""
        return softmax(self.logits[self.held_out])


def fold_numbers(
    targets: np.ndarray, *, digests: np.ndarray | None = None, groups: object = None, most: int = FOLDS, seed: int = 0
) -> np.ndarray:
    """The fold of each image, int64 [n]: the same share of each class in each, and twins on one side.

    Images of equal content, or of one group, are one unit and share a fold. A class that is a single unit is never held
    out (`NEVER`): without it nothing could know the class. Where fewer than two classes have more, nothing is.

    Args:
        targets: int [n].
        digests: uint8 [n, 16], the contents' hashes; None: all differ.
        groups: a name or None for each image; None: no groups.
        most: folds, where no class needs fewer.
        seed: another one deals otherwise.
    """
    n = len(targets)
    if digests is None:
        words = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        digests = np.stack([words, words[::-1]], axis=1).view(np.uint8)
    units = unit_digests(digests, groups)  # type: ignore[arg-type]
    keys = np.ascontiguousarray(units).view("<u8")[:, 0]
    _, first, unit_of = np.unique(keys, return_index=True, return_inverse=True)
    unit_of = unit_of.reshape(-1)
    held = np.unique(np.stack([targets, unit_of]), axis=1)[0]  # a class for every unit that has it
    sizes = np.bincount(held) if n else np.zeros(0, int)
    if (sizes >= 2).sum() < 2:
        return np.full(n, NEVER)
    folds = max(2, min(most, int(sizes.max())))
    ranks = ranked_numbers(unit_numbers(units, seed), units, targets)
    # classes begin in different folds, or many small ones would fill the same
    dealt = ((np.floor(ranks * folds).astype(np.int64) + targets) % folds)[first]
    return _none_held_out_whole(dealt, unit_of, targets)[unit_of]


def out_of_fold(
    codes: np.ndarray | Axes, targets: np.ndarray, classes: int, *, kind: str = "svm", folds: np.ndarray | None = None,
    regularization: float | None = None,
) -> OutOfFold:  # fmt: skip
    """Answers to every image by a classifier of the folds that it is not in.

    Args:
        codes: float32 [n, D], or their axes, where several classifiers share them.
        targets: int [n], 0 … classes - 1; classes without images are allowed.
        classes: how many.
        kind: `svm` or `softmax`.
        folds: see `fold_numbers`; None deals them.
        regularization: C; None: chosen for each fold without its images, as the module says.

    Raises:
        DataError: fewer than two classes.
        UsageError: an unknown kind, or arrays that do not fit together.
    """
    axes, targets = _checked(codes, targets, classes, kind, regularization)
    folds = fold_numbers(targets) if folds is None else folds
    present, dense = np.unique(targets, return_inverse=True)
    names = np.unique(folds[folds != NEVER])
    held = folds[None, :] == names[:, None]  # [F, n]
    choosing = np.zeros((len(names), len(targets)), np.float32)
    looked_at, final = choosing > 0, regularization
    chosen = np.full(len(names), USUAL[kind] if regularization is None else regularization)
    start = None
    if regularization is None and len(names) > 2:
        chosen, final, choosing, looked_at, start = _chosen(kind, axes, dense, len(present), held)
    answers = np.full((len(targets), len(present)), np.nan, np.float32)
    if len(names):
        weight, bias = solve(kind, axes, dense, len(present), ~held, chosen, start=start)
        for number, rows in enumerate(held):
            answers[rows] = outputs(axes, (weight[[number]], bias[[number]]), rows)[0]
    answered = held.any(axis=0)
    temperature = fitted_temperature(answers[answered], dense[answered])
    logits = _spread(answers / temperature, present, classes, unseen=_UNSEEN)
    return OutOfFold(
        kind=kind, logits=logits, targets=targets, folds=folds, by_fold=tuple(chosen.tolist()),
        regularization=USUAL[kind] if final is None else float(final), temperature=temperature, choosing=choosing,
        looked_at=looked_at,
    )  # fmt: skip


def fit_svm(
    codes: np.ndarray | Axes, targets: np.ndarray, classes: int, *, regularization: float | None = None,
    folds: np.ndarray | None = None, known: OutOfFold | None = None, exact: bool = True,
) -> Linear:  # fmt: skip
    """A linear SVM of all images, one class against the rest, by scikit-learn's liblinear (Fan et al. 2008).

    Its margins are divided by the temperature at which softmax makes the best probabilities of those of held-out
    images (Guo et al. 2017, arXiv:1706.04599).

    Args:
        codes: float32 [n, D], or their axes.
        targets: int [n]; a class without images is never predicted.
        classes: how many.
        regularization: C, for codes standardised to a mean squared length of 1; None: by cross-validation.
        folds: see `fold_numbers`.
        known: what `out_of_fold` said of these codes, where that was asked before.
        exact: False: by the solver of cross-validation, whose answers are the same but for a few in a thousand, and
            which is quicker with many images.

    Raises:
        DataError: fewer than two classes.
        UsageError: arrays that do not fit together.
    """
    return _fitted("svm", codes, targets, classes, regularization, folds, known, exact=exact)


def fit_softmax(
    codes: np.ndarray | Axes, targets: np.ndarray, classes: int, *, regularization: float | None = None,
    folds: np.ndarray | None = None, known: OutOfFold | None = None, counts: np.ndarray | None = None,
) -> Linear:  # fmt: skip
    """A softmax classifier (multinomial logistic regression) of all images, by L-BFGS; otherwise as `fit_svm`.

    `counts`, float [n], says how often each image counts; C and temperature are chosen without it.
    """
    return _fitted("softmax", codes, targets, classes, regularization, folds, known, counts)


def fitted_temperature(margins: np.ndarray, targets: np.ndarray) -> float:
    """The temperature by which margins [m, K] make the most likely probabilities; 1 where there are none."""
    if not len(margins):
        return 1.0
    rows, doubt = np.arange(len(margins)), 1 / (len(margins) + 2)  # few right answers are no certainty (Platt 1999)

    def surprise(index: int) -> float:
        logits = margins / _TEMPERATURES[index]
        logits = logits - logits.max(axis=1, keepdims=True)
        wanted = (1 - doubt) * logits[rows, targets] + doubt * logits.mean(axis=1)
        return float((np.log(np.exp(logits).sum(axis=1)) - wanted).mean())

    low, high = 0, len(_TEMPERATURES) - 1
    while low < high:  # there is one minimum
        middle = (low + high) // 2
        low, high = (low, middle) if surprise(middle) < surprise(middle + 1) else (middle + 1, high)
    return float(_TEMPERATURES[low])


def softmax(logits: np.ndarray) -> np.ndarray:
    """[n, K] -> [n, K]; each row adds up to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


# inside ---------------------------------------------------------------------------------------------------------------


def _none_held_out_whole(dealt: np.ndarray, unit_of: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The folds of units, but that one of each class that would be held out whole is always trained on."""
    classes, dense = np.unique(targets, return_inverse=True)
    least, most = np.full(len(classes), len(targets)), np.full(len(classes), NEVER)
    np.minimum.at(least, dense, dealt[unit_of])
    np.maximum.at(most, dense, dealt[unit_of])
    for target in classes[(least == most) & (most != NEVER)]:
        own = np.unique(unit_of[targets == target])
        if dealt[own[0]] != NEVER and (dealt[own] == dealt[own[0]]).all():
            dealt[own[0]] = NEVER
    answered = dealt[unit_of] != NEVER
    return dealt if len(np.unique(targets[answered])) >= 2 else np.full_like(dealt, NEVER)


def _checked(
    codes: np.ndarray | Axes, targets: np.ndarray, classes: int, kind: str, regularization: float | None
) -> tuple[Axes, np.ndarray]:
    if kind not in KINDS:
        raise UsageError(f"unknown classifier {kind!r}", f"known: {', '.join(KINDS)}")
    targets = np.asarray(targets, dtype=np.int64)
    count = len(codes.values) if isinstance(codes, Axes) else len(codes)
    if count != len(targets) or (not isinstance(codes, Axes) and codes.ndim != 2):
        raise UsageError(f"{len(targets)} classes for {count} codes", "codes are [n, D], targets [n]")
    if len(targets) and not 0 <= targets.min() <= targets.max() < classes:
        raise UsageError(f"targets from {targets.min()} to {targets.max()} for {classes} classes")
    if regularization is not None and not regularization > 0:
        raise UsageError(f"regularization = {regularization}: must be above 0")
    if len(np.unique(targets)) < 2:
        raise DataError("all images are of one class", "a classifier needs images of two classes or more")
    return codes if isinstance(codes, Axes) else axes_of(np.asarray(codes, np.float32)), targets


def _chosen(
    kind: str, axes: Axes, targets: np.ndarray, classes: int, held: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray, np.ndarray, Solution]:
    """C of each fold, C for all images, what every fold's choices may look at (see `OutOfFold`), and where to start.

    Folds are a ring. Classifier k, at each C, leaves out folds k and k + 1, and answers both: fold k is judged on the
    next by the classifier that has seen neither of the two, and on the one before likewise. The main axes are enough to
    see which C is best.
    """
    count, (ahead, behind) = len(held), (np.roll(held, -1, axis=0), np.roll(held, 1, axis=0))
    main, grid = axes.first(max(_MAIN_AXES, 2 * classes)), GRID[kind]
    costs, least, best = np.zeros((len(grid), count)), np.full(count, np.inf), np.zeros(count, int)
    trust, start = np.zeros(held.shape, np.float32), None
    near: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0))] * count
    for number, strength in enumerate(grid):
        start = solve(kind, main, targets, classes, ~(held | ahead), np.full(count, strength), start=start)
        for fold in range(count):
            # the images of the next fold, answered by one classifier, and of the one before, by another
            rows = np.concatenate([np.flatnonzero(ahead[fold]), np.flatnonzero(behind[fold])])
            sides = ((fold, ahead[fold]), (fold - 1, behind[fold]))
            margins = np.concatenate(
                [outputs(main, (start[0][[one]], start[1][[one]]), wanted)[0] for one, wanted in sides]
            )
            costs[number, fold] = _costs(kind, margins, targets[rows]).sum()
            if costs[number, fold] < least[fold]:
                least[fold], best[fold], near[fold] = costs[number, fold], number, (start[0][fold], start[1][fold])
                trust[fold] = _trust(margins, targets, rows)
    strengths = np.array(grid)
    first = np.stack([one for one, _ in near]), np.stack([one for _, one in near])
    return strengths[best], float(strengths[costs.sum(axis=1).argmin()]), trust, ahead | behind, first


def _trust(margins: np.ndarray, targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The probability of the true class for images `rows`, which have `margins`, and 0 for others: float [n]."""
    found = np.zeros(len(targets), np.float32)
    logits = margins / fitted_temperature(margins, targets[rows])
    found[rows] = softmax(logits)[np.arange(len(logits)), targets[rows]]
    return found


def _costs(kind: str, margins: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """What each answer costs, [m]: softmax by the likelihood, an SVM by mistakes and, among equals, by its loss."""
    true = margins[np.arange(len(margins)), targets]
    if kind == "softmax":
        top = margins.max(axis=1)
        return np.log(np.exp(margins - top[:, None]).sum(axis=1)) + top - true
    losses = (np.maximum(0, 1 + margins) ** 2).sum(axis=1) + np.maximum(0, 1 - true) ** 2 - np.maximum(0, 1 + true) ** 2
    return (margins.argmax(axis=1) != targets) + 1e-3 * np.minimum(losses, 10.0)


def _fitted(
    kind: str, codes: np.ndarray | Axes, targets: np.ndarray, classes: int, regularization: float | None,
    folds: np.ndarray | None, known: OutOfFold | None, counts: np.ndarray | None = None, exact: bool = True,
) -> Linear:  # fmt: skip
    axes, targets = _checked(codes, targets, classes, kind, regularization)
    present, dense = np.unique(targets, return_inverse=True)
    many = len(targets) * len(present) > _MANY_ANSWERS
    if known is None:
        rows = _some(dense, _MANY_ANSWERS // len(present)) if many else np.arange(len(targets))
        some = axes.at(rows) if many else axes
        known = out_of_fold(
            some, targets[rows], classes, kind=kind, folds=None if folds is None else folds[rows],
            regularization=regularization,
        )  # fmt: skip
    strength = known.regularization if regularization is None else regularization
    if kind == "svm" and exact and not many:
        weight, bias = _liblinear(axes, dense, len(present), strength)
    else:
        everything = np.ones((1, len(targets)), bool) if counts is None else counts[None, :]
        weights, biases = solve(kind, axes, dense, len(present), everything, np.array([strength]))
        weight, bias = weights[0], biases[0]
    weight, bias = axes.unfolded(weight / known.temperature, bias / known.temperature)
    return Linear(
        weight=_spread(weight.T, present, classes).T.copy(), bias=_spread(bias, present, classes, unseen=_UNSEEN),
        regularization=strength, kind=kind, temperature=known.temperature,
    )  # fmt: skip


def _some(targets: np.ndarray, count: int) -> np.ndarray:
    """Positions of about `count` images, the same number of each class as far as there are so many, at least two."""
    each = max(2, count // len(np.unique(targets)))
    order = np.argsort(targets, kind="stable")
    rank = np.arange(len(targets)) - np.searchsorted(targets[order], targets[order])
    return np.sort(order[rank < each])


def _spread(values: np.ndarray, present: np.ndarray, classes: int, unseen: float = 0.0) -> np.ndarray:
    """[..., present] as [..., classes]: what no image stands for is `unseen` below the mean of the others."""
    mean = values.mean(axis=-1, keepdims=True) - unseen
    result = np.repeat(mean, classes, axis=-1).astype(np.float32)
    result[..., present] = values
    return result


def _liblinear(axes: Axes, targets: np.ndarray, classes: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.svm import LinearSVC

    settings: dict[str, Any] = {"dual": False, "tol": 1e-3, "intercept_scaling": INTERCEPT, "max_iter": 5000}
    machine = LinearSVC(C=strength, **settings).fit(axes.values.double().numpy(), targets)
    weight, bias = np.asarray(machine.coef_), np.asarray(machine.intercept_)
    if classes == 2:  # one hyperplane stands for both
        weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
    return weight.astype(np.float32), bias.astype(np.float32)
