"""Many linear classifiers of the same codes at once: every fold, every strength of regularisation, every class.

Cross-validation asks for hundreds of classifiers that differ in which images they may see and in C. They share the
codes, so that a step of all of them is two matrix products. On the codes' principal axes the curvature of every problem
is nearly diagonal and known in advance; scaled by it, L-BFGS takes some twenty steps whatever C is.

The problems are those of scikit-learn's `LinearSVC` (liblinear's squared hinge loss, one class against the rest, the
bias as the weight of one more feature) and of `LogisticRegression` (softmax), with the same meaning of C:

    |w|^2 / 2 + C * sum of losses
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

INTERCEPT = 1.0  # value of the feature whose weight is the bias of an SVM: liblinear regularises it like the others
_STEPS, _HISTORY = 60, 8  # at most
_TOLERANCE = 1e-3  # of the gradient: of 1000 answers to held-out images, 4 change when it is a thousandth of that
_CURVATURE = {"svm": 2.0, "softmax": 0.1}  # of the losses, about
_MOST_VALUES = 12_000_000  # outputs of all problems together that are held at once


Solution = tuple[np.ndarray, np.ndarray]  # weights [B, classes, r] and biases [B, classes]


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """Codes standardised and turned to their principal axes.

    Each feature has mean 0, and all that vary the same deviation, so that the mean squared length of a code is 1: one
    range of C serves every place of every network. The turn changes no classifier, since none depends on the
    orientation of the axes, and leaves at most as many axes as there are images.
    """

    values: Tensor  # float32 [n, r]
    spectrum: Tensor  # float32 [r]: mean squares of the columns, falling
    mean: np.ndarray  # float32 [D]
    scale: np.ndarray  # float32 [D]: 0 for features that are constant
    basis: np.ndarray  # float32 [D, r]: orthonormal columns

    def first(self, count: int) -> Axes:
        """The axes along which codes vary most."""
        if count >= len(self.spectrum):
            return self
        return replace(
            self,
            values=self.values[:, :count].contiguous(),
            spectrum=self.spectrum[:count],
            basis=self.basis[:, :count],
        )

    def at(self, rows: np.ndarray) -> Axes:
        """The same axes of some of the images alone."""
        return replace(self, values=self.values[torch.from_numpy(rows)].contiguous())

    def unfolded(self, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights [K, r] and biases [K] on the axes as [K, D] and [K] on plain codes."""
        plain = (weight.astype(np.float64) @ self.basis.T.astype(np.float64)) * self.scale
        return plain.astype(np.float32), (bias - plain @ self.mean.astype(np.float64)).astype(np.float32)


def axes_of(codes: np.ndarray) -> Axes:
    """The principal axes of codes, float32 [n, D]."""
    n = len(codes)
    mean = codes.mean(axis=0, dtype=np.float64)
    deviation = codes.std(axis=0, dtype=np.float64)
    varies = deviation > 1e-6 * max(float(deviation.max(initial=0.0)), 1e-30)
    live = max(1, int(varies.sum()))
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0) / np.sqrt(live), 0.0)
    plain = torch.from_numpy(((codes - mean.astype(np.float32)) * scale.astype(np.float32)).astype(np.float32))
    wide = plain.shape[1] > n
    gram = plain @ plain.T if wide else plain.T @ plain
    squares, vectors = _eigen(gram)
    squares, vectors = squares.flip(0), vectors.flip(1)
    rank = max(1, int((squares > 1e-6 * squares[0]).sum()))  # float32 knows no smaller ones
    squares, vectors = squares[:rank].clamp_min(1e-30), vectors[:, :rank]
    basis = plain.T @ vectors / squares.sqrt() if wide else vectors
    return Axes(
        values=(plain @ basis).contiguous(), spectrum=squares / n, mean=mean.astype(np.float32),
        scale=scale.astype(np.float32), basis=basis.numpy(),
    )  # fmt: skip


def _eigen(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, rising, and eigenvectors. Where nearly all are the rounding of 0, single precision may find none."""
    try:
        squares, vectors = torch.linalg.eigh(gram)
        if torch.isfinite(squares).all() and torch.isfinite(vectors).all():
            return squares, vectors
    except RuntimeError:  # LinAlgError
        pass
    squares, vectors = torch.linalg.eigh(gram.double())
    return squares.float(), vectors.float()


def solve(
    kind: str, axes: Axes, targets: np.ndarray, classes: int, trains: np.ndarray, regularization: np.ndarray, *,
    start: Solution | None = None,
) -> Solution:  # fmt: skip
    """The weights of B classifiers.

    Args:
        kind: `svm` or `softmax`.
        axes: of n codes.
        targets: int [n], 0 … classes - 1.
        classes: how many, at least 2.
        trains: bool or float [B, n], which images each of them is trained on, or how often each counts.
        regularization: [B], C of each.
        start: the solution of problems much like these.

    Returns:
        Weights float32 [B, classes, r] and biases float32 [B, classes].
    """
    step = max(1, _MOST_VALUES // (len(targets) * classes))
    parts = []
    for first in range(0, len(trains), step):
        chosen = slice(first, first + step)
        begin = None if start is None else (start[0][chosen], start[1][chosen])
        parts.append(_solved(kind, axes, targets, classes, trains[chosen], regularization[chosen], begin))
    return np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts])


def outputs(axes: Axes, solution: Solution, rows: np.ndarray | None = None) -> np.ndarray:
    """What B classifiers answer to all n images, or to those at `rows`, bool [n]: float32 [B, n, classes]."""
    weight, bias = solution
    problems, classes, rank = weight.shape
    flat = torch.from_numpy(weight.reshape(problems * classes, rank))
    values = axes.values if rows is None else axes.values[torch.from_numpy(rows)]
    answers = (flat @ values.T).view(problems, classes, -1) + torch.from_numpy(bias)[:, :, None]
    return answers.transpose(1, 2).numpy()


def _solved(
    kind: str,
    axes: Axes,
    targets: np.ndarray,
    classes: int,
    trains: np.ndarray,
    regularization: np.ndarray,
    start: Solution | None,
) -> Solution:
    n, rank = axes.values.shape
    problems = len(trains)
    codes = torch.cat([axes.values, torch.full((n, 1), INTERCEPT)], dim=1)
    counts = torch.from_numpy(np.asarray(trains, np.float32))  # [B, n]
    images = counts.sum(1).clamp_min(1)
    share = (counts / images[:, None])[:, None, :]  # [B, 1, n]
    pull = 1 / (torch.from_numpy(np.asarray(regularization, np.float32)) * images)  # [B]: of |w|^2 / 2
    pulls = pull[:, None, None].repeat(1, 1, rank + 1)  # [B, 1, r + 1]
    if kind == "softmax":
        pulls[..., -1] *= 1e-6  # scikit-learn leaves this bias alone; a trace keeps the common shift in place
    spectrum = torch.cat([axes.spectrum, torch.tensor([INTERCEPT**2])])
    scale = (_CURVATURE[kind] * spectrum + pulls).rsqrt()
    step = max(1, _MOST_VALUES // (problems * classes))  # images at a time
    parts = []
    for first in range(0, n, step):
        own = targets[first : first + step]
        loss_of = _Hinge(own, classes) if kind == "svm" else _CrossEntropy(own, problems)
        parts.append((codes[first : first + step], share[..., first : first + step], loss_of))

    def at(scaled: Tensor) -> tuple[Tensor, Tensor]:
        weight = scaled.view(problems, classes, rank + 1) * scale
        pulled = pulls * weight
        loss = 0.5 * _dot(pulled.view(problems, -1), weight.view(problems, -1))
        gradient = pulled
        for some, counted, loss_of in parts:
            margins = (weight.view(-1, rank + 1) @ some.T).view(problems, classes, -1)
            lost, slope = loss_of(margins, counted)
            loss = loss + lost
            gradient.view(-1, rank + 1).addmm_(slope.view(problems * classes, -1), some)
        return loss, gradient.mul_(scale).view(problems, -1)

    first = torch.zeros(problems, classes, rank + 1)
    if start is not None:
        known = start[0].shape[2]  # fewer axes than here, perhaps
        first[:, :, :known] = torch.from_numpy(start[0])
        first[:, :, -1] = torch.from_numpy(start[1]) / INTERCEPT
    found = _least(at, (first / scale).view(problems, -1)).view_as(first)
    weight = (found * scale).numpy()
    return np.ascontiguousarray(weight[:, :, :-1]), INTERCEPT * weight[:, :, -1]


def _least(at: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """The minima of B convex functions by L-BFGS, each with steps of its own (Nocedal & Wright 2006, algorithm 7.4).

    torch's own L-BFGS knows one function and one step; the sum of all would have to wait for the slowest, and the first
    use of any of torch's optimisers imports its compiler, which takes longer than all of this.

    Args:
        at: [B, P] -> values [B] and gradients [B, P].
        x: where to begin, [B, P].
    """
    value, gradient = at(x)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # steps, changes of the gradient, and 1 / their product
    for _ in range(_STEPS):
        going = gradient.abs().amax(1) > _TOLERANCE
        if not going.any():
            break
        direction = _direction(gradient, pairs)
        slope = _dot(direction, gradient)
        length = going.float()  # those that have arrived stay
        while True:
            there = x + length[:, None] * direction
            new_value, new_gradient = at(there)
            failed = new_value > value + 1e-4 * length * slope + 1e-6 * value.abs()
            if not failed.any() or float(length[failed].max()) < 1e-3:
                break
            length = torch.where(failed, length / 4, length)
        step, change = there - x, new_gradient - gradient
        product = _dot(step, change)
        pairs = [*pairs[1 - _HISTORY :], (step, change, torch.where(product > 1e-12, 1 / product, 0.0))]
        x, value, gradient = there, new_value, new_gradient
    return x


def _direction(gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Minus the gradients times the inverse Hessians that the last steps speak of."""
    direction, factors = -gradient, []
    for step, change, inverse in reversed(pairs):
        factor = inverse * _dot(step, direction)
        direction = torch.addcmul(direction, factor[:, None], change, value=-1)
        factors.append(factor)
    if pairs:
        _, change, inverse = pairs[-1]
        usual = inverse * _dot(change, change)
        direction = direction / torch.where(usual > 0, usual, 1.0)[:, None]
    for (step, change, inverse), factor in zip(pairs, reversed(factors), strict=True):
        factor = factor - inverse * _dot(change, direction)
        direction = torch.addcmul(direction, factor[:, None], step)
    return direction


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """[B, P] and [B, P] -> [B]."""
    return torch.linalg.vecdot(one, other)


class _Hinge:
    """The squared hinge loss of all problems, and its slope [B, K, n], from margins [B, K, n] that it may overwrite."""

    def __init__(self, targets: np.ndarray, classes: int) -> None:
        own = torch.from_numpy(np.asarray(targets)[None, :] == np.arange(classes)[:, None])
        self._signs = 2 * own.float() - 1  # [K, n]

    def __call__(self, margins: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        missing = margins.mul_(self._signs).neg_().add_(1).clamp_min_(0)
        slope = missing * share
        loss = _dot(slope.view(len(slope), -1), missing.view(len(slope), -1))
        return loss, slope.mul_(self._signs).mul_(-2)


class _CrossEntropy:
    """The same of the cross-entropy."""

    def __init__(self, targets: np.ndarray, problems: int) -> None:
        self._own = torch.from_numpy(np.asarray(targets, np.int64))[None, None, :].expand(problems, 1, -1)

    def __call__(self, margins: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        logs = margins.log_softmax(dim=1)
        loss = -(logs.gather(1, self._own) * share).sum((1, 2))
        slope = logs.exp_().mul_(share)
        return loss, slope.scatter_add_(1, self._own, -share)
