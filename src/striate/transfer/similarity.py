"""How similar data are to what a network was trained on: without labels from its batch norms, with labels by depth."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np
import torch
from torch import Tensor, nn

from striate.transfer.result import Similarity

_WATCHED = 128  # images whose statistics are compared: more change the second digit
_DRAWS = 400  # of the bootstrap
SMALL, LARGE = 1_000, 20_000  # training images: up to here few, from here many; the rule of thumb gives no numbers
SIMILAR = 0.5  # of `Similarity.figure`, likewise


class StatisticsWatch:
    """Compares what each batch norm is fed with what it saw in training, as a context around forward passes.

    For every channel, the squared Wasserstein distance of two normal distributions in units of the trained deviation,
    ``d2 = ((mean - running_mean)^2 + (std - running_std)^2) / running_var``; `closeness` is the mean of
    ``1 / (1 + d2)`` over all channels of all batch norms: near 1 for images such as
    those that the network was trained on.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
        self._layers = [one for one in self._layers if one.running_mean is not None and one.running_var is not None]
        self._sums: dict[nn.Module, tuple[Tensor, Tensor, int]] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._images = 0

    def __enter__(self) -> StatisticsWatch:
        self._hooks = [layer.register_forward_pre_hook(self._look) for layer in self._layers]
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._unhook()

    def batch_done(self, images: int) -> None:
        """Count the images of a pass; after enough of them nothing is watched any more."""
        self._images += images
        if self._images >= _WATCHED:
            self._unhook()

    @property
    def closeness(self) -> float | None:
        """0 to 1; None for a network without batch norms, or one that was not run."""
        found = [values for layer, sums in self._sums.items() for values in _closeness(layer, *sums)]
        return float(np.mean(found)) if found else None

    def _look(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].float()
        others = [axis for axis in range(values.ndim) if axis != 1]
        count = values.numel() // values.shape[1]
        total, squares, before = self._sums.get(layer, (0.0, 0.0, 0))
        total, squares = total + values.sum(others).double(), squares + values.square().sum(others).double()
        self._sums[layer] = (total, squares, before + count)

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


def _closeness(layer: nn.Module, total: Tensor, squares: Tensor, count: int) -> list[float]:
    """Of every channel of one batch norm."""
    trained_mean, trained_var = layer.running_mean, layer.running_var
    assert isinstance(trained_mean, Tensor)
    assert isinstance(trained_var, Tensor)
    variance = trained_var.double() + float(layer.eps)  # type: ignore[arg-type]
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    distance = (mean - trained_mean.double()).square() + (deviation - variance.sqrt()).square()
    return (1 / (1 + distance / variance)).tolist()


def similarity_of(
    pixels: np.ndarray, depths: Sequence[np.ndarray], best: int, statistics: float | None, seed: int = 0
) -> Similarity:
    """The figures of one network on one data set.

    Args:
        pixels: bool [m], which held-out images a linear classifier of the shrunken pixels got right.
        depths: the same for the codes of each place, shallow to deep; the first and the pixels are where it begins.
        best: index of the best place.
        statistics: see `StatisticsWatch`.
        seed: of the bootstrap over images.
    """
    if not len(pixels):
        nothing = float("nan")
        return Similarity(
            figure=nothing, low=0.0, high=1.0, climb=nothing, kept=nothing, best_depth=1.0, statistics=statistics
        )  # fmt: skip
    first = max(pixels, depths[0], key=np.count_nonzero)
    wrong = ~np.stack([first, depths[best], depths[-1]])
    counts = wrong.sum(axis=1).astype(np.float64)
    figure, climb, kept = _figures(counts)
    generator = np.random.default_rng(seed)
    images = wrong.shape[1]
    draws = wrong[:, generator.integers(0, images, (_DRAWS, images))].sum(axis=2).astype(np.float64)
    low, high = np.quantile([_figures(one)[0] for one in draws.T], (0.025, 0.975))
    return Similarity(
        figure=figure, low=float(low), high=float(high), climb=climb, kept=kept,
        best_depth=best / max(1, len(depths) - 1), statistics=statistics,
    )  # fmt: skip


def _figures(counts: np.ndarray) -> tuple[float, float, float]:
    """`figure`, `climb` and `kept` from the mistakes at the beginning, at the best place and at the last."""
    first, best, last = counts.tolist()
    best = min(best, last)  # in a resample the last place may be the better one
    # one mistake more everywhere: where there are hardly any, nothing can be said, and the figure is low
    climb = max(0.0, 1 - (best + 1) / (first + 1))
    kept = min(1.0, max(0.0, (first - last) / (first - best))) if first > best else 0.0
    return climb * kept, climb, kept


def rule_of_thumb(images: int, similarity: float) -> str:
    """What the lectures' rule says for so many training images, by their similarity to those of the network."""
    if images >= LARGE:
        return "many images: fine-tune everything"
    if np.isnan(similarity):
        return "hardly any images: a linear classifier, on last codes if they are similar"
    if similarity >= SIMILAR:
        if images <= SMALL:
            return "few images, similar: a linear classifier on the last codes"
        return "enough images, similar: fine-tune everything"
    if images <= SMALL:
        return "few images, different: a linear classifier on earlier codes"
    return "enough images, different: fine-tune the upper layers, keep the lower ones"
