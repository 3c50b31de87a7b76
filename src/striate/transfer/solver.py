"""Many linear classifiers of the same codes at once: every fold, every strength of regularisation, every class.

Cross-validation asks for hundreds of classifiers that differ in which images they may see and in C. They share the
codes, so that a step of all of them is two matrix products. On the codes' principal axes the curvature of every problem
is nearly diagonal and known in advance; scaled by it, L-BFGS (torch's) takes some twenty steps whatever C is.

The problems are those of scikit-learn's `LinearSVC` (liblinear's squared hinge loss, one class against the rest, the
bias as the weight of one more feature) and of `LogisticRegression` (softmax), with the same meaning of C:

    |w|^2 / 2 + C * sum of losses
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

INTERCEPT = 1.0  # value of the feature whose weight is the bias of an SVM: liblinear regularises it like the others
_STEPS = 60  # at most
_TOLERANCE = 1e-4  # of the gradient; answers to held-out images have settled well before
_CURVATURE = {"svm": 2.0, "softmax": 0.25}  # of the losses, about
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
    try:
        squares, vectors = torch.linalg.eigh(gram)
    except torch.linalg.LinAlgError:  # small images made large: nearly all eigenvalues are the rounding of 0
        squares, vectors = (one.float() for one in torch.linalg.eigh(gram.double()))
    squares, vectors = squares.flip(0), vectors.flip(1)
    rank = max(1, int((squares > 1e-6 * squares[0]).sum()))  # float32 knows no smaller ones
    squares, vectors = squares[:rank].clamp_min(1e-30), vectors[:, :rank]
    basis = plain.T @ vectors / squares.sqrt() if wide else vectors
    return Axes(
        values=(plain @ basis).contiguous(), spectrum=squares / n, mean=mean.astype(np.float32),
        scale=scale.astype(np.float32), basis=basis.numpy(),
    )  # fmt: skip


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


def outputs(axes: Axes, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """What B classifiers answer to all n images: float32 [B, n, classes]."""
    problems, classes, rank = weight.shape
    flat = torch.from_numpy(weight.reshape(problems * classes, rank))
    answers = (axes.values @ flat.T).view(-1, problems, classes) + torch.from_numpy(bias)
    return answers.permute(1, 0, 2).numpy()


def _solved(
    kind: str, axes: Axes, targets: np.ndarray, classes: int, trains: np.ndarray, regularization: np.ndarray,
    start: Solution | None,
) -> Solution:  # fmt: skip
    n, rank = axes.values.shape
    problems = len(trains)
    codes = torch.cat([axes.values, torch.full((n, 1), INTERCEPT)], dim=1)
    counts = torch.from_numpy(np.asarray(trains, np.float32))  # [B, n]
    images = counts.sum(1).clamp_min(1)
    share = (counts / images[:, None]).T.contiguous()[:, :, None]  # [n, B, 1]
    pull = 1 / (torch.from_numpy(np.asarray(regularization, np.float32)) * images)  # [B]: of |w|^2 / 2
    spectrum = torch.cat([axes.spectrum, torch.tensor([INTERCEPT**2])])
    pulls = pull.repeat(rank + 1, 1)  # [r + 1, B]
    if kind == "softmax":
        pulls[-1] = 1e-6 * pull  # scikit-learn leaves this bias alone; a trace keeps the common shift in place
    scale = (_CURVATURE[kind] * spectrum[:, None] + pulls).rsqrt()[:, :, None]
    pulls = pulls[:, :, None]
    answers = torch.from_numpy(np.asarray(targets, np.int64))
    sides = torch.nn.functional.one_hot(answers, classes).float()[:, None, :]  # [n, 1, K]
    loss_of = _hinge if kind == "svm" else _cross_entropy
    signs = 2 * sides - 1
    scaled = torch.zeros(rank + 1, problems, classes, requires_grad=True)
    if start is not None:
        before = np.concatenate([start[0], start[1][:, :, None] / INTERCEPT], axis=2)
        with torch.no_grad():
            scaled.copy_(torch.from_numpy(before).permute(2, 0, 1) / scale)
    optimizer = torch.optim.LBFGS(
        [scaled], max_iter=_STEPS, max_eval=2 * _STEPS, history_size=8, tolerance_grad=_TOLERANCE,
        tolerance_change=1e-7, line_search_fn="strong_wolfe",
    )  # fmt: skip

    @torch.no_grad()
    def closure() -> Tensor:
        weight = scaled * scale
        margins = (codes @ weight.view(rank + 1, -1)).view(n, problems, classes)
        loss, slope = loss_of(margins, signs if kind == "svm" else sides, share)
        pulled = pulls * weight
        gradient = (codes.T @ slope.view(n, -1)).view(rank + 1, problems, classes) + pulled
        scaled.grad = gradient.mul_(scale)
        return loss + 0.5 * (pulled * weight).sum()

    optimizer.step(closure)  # type: ignore[arg-type]
    weight = (scaled.detach() * scale).permute(1, 2, 0)  # [B, K, r + 1]
    return weight[:, :, :-1].contiguous().numpy(), (INTERCEPT * weight[:, :, -1]).contiguous().numpy()


def _hinge(margins: Tensor, signs: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """The squared hinge loss of all problems, and its slope: [n, B, K] each image's share of it."""
    missing = margins.mul_(signs).neg_().add_(1).clamp_min_(0)
    slope = missing * share
    loss = (slope * missing).sum()
    return loss, slope.mul_(signs).mul_(-2)


def _cross_entropy(margins: Tensor, sides: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """The same of the cross-entropy."""
    logs = margins.log_softmax(dim=2)
    loss = -(logs * sides * share).sum()
    return loss, logs.exp_().sub_(sides).mul_(share)
