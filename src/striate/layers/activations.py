"""Activations by name. Each use is a module of its own, never in place, so that hooks see every one of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from striate.errors import UnknownNameError

LEAKY_SLOPE = 0.1


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x/3), any shape: f(±1) = ±1, where the second derivative is largest.

    LeCun et al. 1998, appendix A. The flat ends lie beyond the targets ±1, so that units are not driven into them.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape to shape."""
        return 1.7159 * torch.tanh(inputs * (2 / 3))


class Maxout(nn.Module):
    """The larger of two linear maps, [B, 2C, ...] -> [B, C, ...]: channel i against channel C + i.

    Goodfellow et al. 2013, arXiv:1302.4389, with two pieces. The layer before it needs twice the channels, hence
    twice the weights: see `widening`.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, 2C, ...] -> [B, C, ...]."""
        first, second = inputs.chunk(2, dim=1)
        return torch.maximum(first, second)


class Linear(nn.Identity):
    """No activation: a stack of such layers collapses to one linear map."""


def _leaky_relu() -> nn.Module:
    # The lectures' max(0.1 x, x); torch's own default slope is 0.01.
    return nn.LeakyReLU(LEAKY_SLOPE)


_TABLE = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": _leaky_relu,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "maxout": Maxout,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "scaled_tanh": ScaledTanh,
    "linear": Linear,
}

ACTIVATIONS: tuple[str, ...] = tuple(_TABLE)
# Activations that keep the number of channels, for networks that cannot widen the layer before.
PLAIN_ACTIVATIONS: tuple[str, ...] = tuple(name for name in ACTIVATIONS if name != "maxout")


def make_activation(name: str) -> nn.Module:
    """A new activation module, shape to shape except `maxout`, which halves the channels.

    Raises:
        UnknownNameError: a name that is not in `ACTIVATIONS`.
    """
    if name not in _TABLE:
        raise UnknownNameError("activation", name, ACTIVATIONS)
    return _TABLE[name]()


def widening(name: str) -> int:
    """How many channels the layer before the activation needs for each channel after it: 2 for maxout, else 1."""
    return 2 if name == "maxout" else 1
