"""What the ascent paints on: the numbers that it moves, and the image that they stand for.

The numbers are brought to 0..1 by a sigmoid, so that no image is brighter than one can be; at 0 they are the colour
that the network takes for the mean, from where a step goes as far whether that is grey or nearly black.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.data.augment.colour import IMAGENET_EIGENVALUES, IMAGENET_EIGENVECTORS
from striate.data.normalise import factors
from striate.spec import InputSpec

_FAINT = 0.01  # deviation of the spectrum that the ascent begins with
_QUARTER = 4.0  # of the spectrum's image: how far a step of Adam goes (Olah et al. 2017)
_MARGIN = 2  # pixels beyond the farthest move


class Painting:
    """`count` images somewhat larger than what the network sees, so that it can look beside the middle.

    Args:
        spec: what the network is fed.
        seeds: of the noise that each image begins with.
        margin: pixels beyond each side that may be looked at.
        fourier: whether the numbers are amplitudes of frequencies, divided by the frequency, rather than pixels.
        decorrelate: whether they are amounts of the principal colours of photos, rather than of red, green and blue.
    """

    def __init__(
        self, spec: InputSpec, seeds: Sequence[Sequence[int]], *, margin: float, fourier: bool, decorrelate: bool,
        device: torch.device,
    ) -> None:  # fmt: skip
        self._spec, self._margin = spec, math.ceil(margin) + _MARGIN
        self._size = height, width = tuple(side + 2 * self._margin for side in spec.size)
        self._scale = _by_frequency(height, width).to(device) if fourier else None
        shape = (spec.channels, height, width // 2 + 1, 2) if fourier else (spec.channels, height, width)
        starts = [np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) for seed in seeds]
        self.numbers = torch.from_numpy(np.stack(starts)).to(device).mul_(_FAINT).requires_grad_()
        colours = _principal_colours() if decorrelate and spec.channels == 3 else torch.eye(spec.channels)
        self._colours = colours.to(device)
        mean = torch.tensor(spec.mean).expand(spec.channels).clamp(0.05, 0.95)
        mean = mean.flip(0) if spec.reverses_channels else mean
        self._rest = torch.logit(mean)[:, None, None].to(device)
        self._reach = (0.25 / (mean * (1 - mean)))[:, None, None].to(device)

    def whole(self) -> Tensor:
        """The images with what lies beside them, [n, C, H + 2m, W + 2m] from 0 to 1, as RGB."""
        values = self.numbers
        if self._scale is not None:
            spectrum = torch.view_as_complex(values) * self._scale
            values = torch.fft.irfft2(spectrum, s=self._size, norm="ortho") / _QUARTER
        return torch.sigmoid(self._reach * torch.einsum("rc,nchw->nrhw", self._colours, values) + self._rest)

    def images(self) -> Tensor:
        """The images, [n, C, H, W] from 0 to 1, as RGB."""
        (height, width), margin = self._spec.size, self._margin
        return self.whole()[:, :, margin : margin + height, margin : margin + width]

    def seen(self, moves: Tensor) -> Tensor:
        """The images moved, turned and zoomed, [n, C, H, W] from 0 to 1.

        `moves` [n, 4] are pixels down and right, radians, and the factor of enlargement.
        """
        whole, (height, width) = self.whole(), self._spec.size
        down, right, angle, zoom = moves.T
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        rows = torch.arange(height, device=whole.device) - (height - 1) / 2
        columns = torch.arange(width, device=whole.device) - (width - 1) / 2
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        across = cos[:, None, None] * x - sin[:, None, None] * y + right[:, None, None]
        along = sin[:, None, None] * x + cos[:, None, None] * y + down[:, None, None]
        grid = torch.stack((2 * across / self._size[1], 2 * along / self._size[0]), dim=3)
        return F.grid_sample(whole, grid, padding_mode="reflection", align_corners=False)

    @torch.no_grad()
    def blur(self, deviation: float) -> None:
        """Smooth what is painted by a Gaussian of `deviation` pixels."""
        if deviation <= 0:
            return
        height, width = self._size
        damped = torch.exp(-2 * (math.pi * deviation * _frequencies(height, width)) ** 2).to(self.numbers.device)
        if self._scale is not None:
            self.numbers.mul_(damped[..., None])
        else:
            self.numbers.copy_(torch.fft.irfft2(torch.fft.rfft2(self.numbers) * damped, s=self._size))


def as_fed(images: Tensor, spec: InputSpec) -> Tensor:
    """Images from 0 to 1 as RGB, as the network is fed; differentiable, other than `normalise`."""
    scale, offset = factors(spec, floating=True, device=images.device)
    ordered = images.flip(1) if spec.reverses_channels else images
    return ordered * scale[:, None, None] + offset[:, None, None]


def _frequencies(height: int, width: int) -> Tensor:
    """Waves a pixel of each coefficient of a real transform, [H, W // 2 + 1]."""
    return torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])


def _by_frequency(height: int, width: int) -> Tensor:
    """1 / frequency, as photos have it; the constant counts as the longest wave."""
    return 1 / _frequencies(height, width).clamp_min(1 / max(height, width))


def _principal_colours() -> Tensor:
    """RGB by principal component, [3, 3], each as strong as in photos; the strongest has length 1."""
    deviations = np.sqrt(IMAGENET_EIGENVALUES / IMAGENET_EIGENVALUES.max())
    return torch.from_numpy(IMAGENET_EIGENVECTORS * deviations).float()
