"""Airbench – K. Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498.

image ─ whitening 2x2 ─ act ─ group × 3 ─ max-pool 3 ─ linear × 1/9
                              conv 3x3, pool /2, norm, act, conv 3x3, norm, act
The first layer is fitted, not trained: its filters are the eigenvectors of the covariance of the training images' 2x2
patches, divided by the roots of the eigenvalues, and their negatives (sec. 3.2); only its bias learns. Without padding
it makes 31 pixels of 32, which the groups halve to 15, 7 and 3. Batch normalisation learns shifts but no scales. The
first filters of every later convolution start by passing its input maps on (sec. 3.3).
Departs from the paper: with other channels than three there are 24 first maps too (eigenvectors are repeated, or the
least ones left out); whatever side the last maps have, the head reads the maximum of each.
No published weights to check against: the layers are those of the paper's listing (tests/models/test_airbench.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, make_activation
from striate.layers.initialise import weighted_layers
from striate.models.base import ConvNet, require
from striate.models.compact import Scale

EPSILON = 5e-4  # added to the eigenvalues, as in the paper's listing
NORM_EPSILON = 1e-12
NORM_MOMENTUM = 0.4  # of the new statistics: the paper's 0.6 is that of the old ones


@dataclass(frozen=True, kw_only=True, slots=True)
class AirbenchConfig:
    """Widths, and the one variation."""

    stem: int = 24  # maps of the whitening layer: twice the 3 x 2 x 2 numbers of a patch
    widths: tuple[int, ...] = (64, 256, 256)
    scale: float = 1 / 9  # of the logits
    activation: str = "gelu"

    def __post_init__(self) -> None:
        require("airbench", "activation", self.activation, PLAIN_ACTIVATIONS)


class Airbench(ConvNet):
    """A plain network behind a whitening layer, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = AirbenchConfig

    def __init__(
        self,
        config: AirbenchConfig,
        *,
        in_channels: int = 3,
        classes: int = 10,
        input_size: tuple[int, int] = (32, 32),
        name: str = "airbench94",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        self.stem = nn.Sequential(
            OrderedDict(whiten=Whitening(in_channels, config.stem), activation=make_activation(config.activation))
        )
        channels = config.stem
        self.stages = nn.Sequential()
        for index, width in enumerate(config.widths):
            group = nn.Sequential(
                _unit(channels, width, config.activation, pool=True), _unit(width, width, config.activation)
            )
            self.stages.add_module(f"group{index + 1}", group)
            channels = width
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveMaxPool2d(1),
                flatten=nn.Flatten(),
                linear=nn.Linear(channels, classes, bias=False),
                scale=Scale(config.scale),
            )
        )

    @classmethod
    def last_side(cls, config: AirbenchConfig, side: int) -> int:
        """Side of the last maps: 3 for 32 pixels and three groups."""
        return (side - 1) // 2 ** len(config.widths)

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """U(±1/sqrt(fan_in)), shifts zero; in the groups the first filters pass the input maps on."""
        for _, layer in weighted_layers(self):
            weight: Tensor = layer.weight  # type: ignore[assignment]
            bound = weight[0].numel() ** -0.5
            weight.uniform_(-bound, bound, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.dirac_(module.weight[: module.in_channels])
            if isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

    @property
    def starts_from_images(self) -> bool:
        """Until the whitening layer is fitted."""
        return not self._whiten().fitted

    def fit_start(self, images: Tensor) -> None:
        """The whitening filters from the 2x2 patches of normalised training images [B, in_channels, H, W]."""
        self._whiten().fit(images)

    def _whiten(self) -> Whitening:
        layer = self.stem.get_submodule("whiten")
        assert isinstance(layer, Whitening)
        return layer


class Whitening(nn.Conv2d):
    """A 2x2 convolution without padding whose filters decorrelate patches, [B, C, H, W] -> [B, maps, H - 1, W - 1].

    The filters are random until `fit` has seen images, and are never trained: they are a buffer, not a parameter.
    """

    def __init__(self, in_channels: int, maps: int) -> None:
        super().__init__(in_channels, maps, 2)
        _freeze_weight(self)

    @property
    def fitted(self) -> bool:
        """Whether the second half of the filters are the negatives of the first, as random ones never are."""
        half = self.out_channels // 2
        return torch.equal(self.weight[half : 2 * half], -self.weight[:half])

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Set the filters from the patches of images [B, C, H, W], whose covariance is taken about zero (sec. 3.2)."""
        width = self.in_channels * 4
        covariance = torch.zeros(width, width, dtype=torch.float64)
        count = 0
        for part in images.split(100):
            patches = F.unfold(part.float(), 2).transpose(1, 2).reshape(-1, width)  # a patch a row: C, height, width
            covariance += (patches.T @ patches).double().cpu()
            count += len(patches)
        values, vectors = torch.linalg.eigh(covariance / count)
        filters = (vectors / (values.clamp_min(0) + EPSILON).sqrt()).T.flip(0)  # the largest eigenvalue first
        half = self.out_channels // 2
        chosen = filters[torch.arange(half) % width]
        self.weight.copy_(torch.cat([chosen, -chosen])[: self.out_channels].view_as(self.weight))


class ShiftNorm(nn.BatchNorm2d):
    """Batch normalisation that learns a shift of each map but no scale, [B, C, H, W] to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)
        _freeze_weight(self)


def _freeze_weight(module: nn.Conv2d | nn.BatchNorm2d) -> None:
    weight = module.weight.detach()
    del module.weight
    module.register_buffer("weight", weight)


def _unit(in_channels: int, channels: int, activation: str, *, pool: bool = False) -> nn.Sequential:
    layers: dict[str, nn.Module] = {"conv": nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)}
    if pool:
        layers["pool"] = nn.MaxPool2d(2)
    layers["norm"] = ShiftNorm(channels)
    layers["activation"] = make_activation(activation)
    return nn.Sequential(OrderedDict(layers))
