"""What acts in training only: dropout's relatives and stochastic depth, which are layers, and limits of filters.

The layers draw from torch's global generator of the tensor's device, whose state training saves and restores.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from striate.errors import ModelError


class StochasticDepth(nn.Module):
    """Drops a residual branch f(x) as a whole: b f(x) in training, (1 - rate) f(x) at test.

    Huang et al. 2016, arXiv:1603.09382, eq. 2 and 5: b is one Bernoulli draw for the whole batch, and the test branch
    is scaled by its survival probability (torchvision and timm draw per image and scale in training instead). Departs
    from the paper: a dropped branch is computed and multiplied by zero rather than skipped, so the step costs the same,
    and the running statistics of batch normalisation inside the branch still move.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = _probability("stochastic depth", rate)

    def forward(self, branch: Tensor) -> Tensor:
        """[B, ...] to the same shape."""
        survival = 1.0 - self.rate
        if not self.training:
            return branch * survival
        return branch * torch.empty((), dtype=branch.dtype, device=branch.device).bernoulli_(survival)


def linear_drop_rates(blocks: int, last: float) -> tuple[float, ...]:
    """Drop rates of residual blocks 1 to L, growing linearly: rate_l = l/L * last. Huang et al. 2016, eq. 4."""
    return tuple(last * (index + 1) / blocks for index in range(blocks))


class GaussianNoise(nn.Module):
    """x + N(0, deviation²) in training, x at test; any shape."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        if not deviation >= 0:
            raise ModelError(f"Gaussian noise: deviation {deviation} must not be negative")
        self.deviation = deviation

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape to the same."""
        return inputs + self.deviation * torch.randn_like(inputs) if self.training else inputs


class GaussianDropout(nn.Module):
    """x * N(1, rate / (1 - rate)) in training, x at test: dropout's mean and variance without zeros; any shape.

    Srivastava et al. 2014, sec. 10.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = _probability("Gaussian dropout", rate)

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape to the same."""
        if not self.training:
            return inputs
        deviation = (self.rate / (1 - self.rate)) ** 0.5
        return inputs * (1 + deviation * torch.randn_like(inputs))


def make_dropout(rate: float) -> nn.Module:
    """Inverted dropout (kept units divided by 1 - rate in training, nothing at test); no layer at all for rate 0."""
    return nn.Dropout(_probability("dropout", rate)) if rate else nn.Identity()


@torch.no_grad()
def limit_filters(model: nn.Module, radius: float) -> None:
    """Set every convolution filter of `model` whose root mean square exceeds `radius` back to it, in place.

    Zeiler & Fergus 2013, arXiv:1311.2901, sec. 3, with a radius of 0.1, after each step: it keeps a few filters from
    outgrowing the rest, in the first layer above all. A filter is all weights of one output map, without its bias.
    Filters that take no gradient stay as they are.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.requires_grad:
            size = layer.weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            layer.weight.mul_(radius / size.clamp_min(radius))


@torch.no_grad()
def normalise_kernels(model: nn.Module) -> None:
    """Scale the trained weights [maps, ...] of every convolution of `model` to the norm sqrt(maps), in place.

    Filters then have a norm of about one. Normalisation behind a convolution undoes any factor of its weights, so that
    this changes no output, only how far a step of a given length turns them (as in K. Jordan's cifar10-airbench).
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and isinstance(layer.weight, nn.Parameter) and layer.weight.requires_grad:
            layer.weight.mul_(len(layer.weight) ** 0.5 / layer.weight.norm())


def _probability(what: str, rate: float) -> float:
    if not 0 <= rate < 1:
        raise ModelError(f"{what}: rate {rate} must be at least 0 and below 1", "it is the probability of dropping")
    return rate
