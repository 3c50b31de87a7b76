"""Normalisations by name, [B, C, H, W] to the same shape."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.errors import UnknownNameError

NORMALIZATIONS: tuple[str, ...] = ("batch", "group", "local_response", "contrast", "none")
EPSILON = 1e-5
# These begin by removing the mean of each channel (or group), so a bias before them has no effect.
_OWN_SHIFT = ("batch", "group")


def make_normalization(name: str, channels: int, *, epsilon: float | None = None) -> nn.Module:
    """A new normalisation for `channels` feature maps; `epsilon` is that of batch and group, 1e-5 unless said.

    Raises:
        UnknownNameError: a name that is not in `NORMALIZATIONS`.
    """
    match name:
        case "batch":
            return nn.BatchNorm2d(channels, eps=epsilon or EPSILON)
        case "group":
            return nn.GroupNorm(group_count(channels), channels, eps=epsilon or EPSILON)
        case "local_response":
            return LocalResponse()
        case "contrast":
            return Contrast()
        case "none":
            return nn.Identity()
    raise UnknownNameError("normalization", name, NORMALIZATIONS)


def needs_bias(normalization: str) -> bool:
    """Whether a convolution before this normalisation needs a bias of its own (Ioffe & Szegedy 2015, sec. 3.2)."""
    return normalization not in _OWN_SHIFT


def has_normalization(model: nn.Module) -> bool:
    """Whether any layer keeps the size of what passes it, by batch or group; local response does not."""
    return any(isinstance(module, nn.BatchNorm2d | nn.GroupNorm) for module in model.modules())


def group_count(channels: int) -> int:
    """Groups for group normalisation: at most 32 (Wu & He 2018, arXiv:1803.08494, sec. 4.1), at least 2 maps each."""
    most = min(32, max(1, channels // 2))
    return next(count for count in range(most, 0, -1) if channels % count == 0)


def sum_across_maps(inputs: Tensor, window: int) -> Tensor:
    """For each map the sum over the `window` (odd) maps around it, clipped at the first and last map; [B, C, H, W]."""
    # As a 1x1 convolution with ones in a band about the diagonal: of all ways the one that moves least memory.
    channels, half = inputs.shape[1], window // 2
    band = torch.ones(channels, channels, dtype=inputs.dtype, device=inputs.device).triu(-half).tril(half)
    return F.conv2d(inputs, band[:, :, None, None])


def _no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Sums of squares want the precision they come in, also where convolutions are cast."""
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _single(inputs: Tensor) -> Tensor:
    """At least single precision, which sums of squares need."""
    return inputs.float() if inputs.dtype in (torch.bfloat16, torch.float16) else inputs


class LocalResponse(nn.Module):
    """b_i = a_i / (k + alpha * sum of a_j^2 over the `window` maps around i) ** beta, [B, C, H, W].

    Krizhevsky et al. 2012, sec. 3.3. `nn.LocalResponseNorm` divides alpha by the window; this is the paper's form, so
    alpha = 1e-4 here is 5e-4 there.
    """

    def __init__(self, *, k: float = 2.0, window: int = 5, alpha: float = 1e-4, beta: float = 0.75) -> None:
        super().__init__()
        self.k, self.window, self.alpha, self.beta = k, window, alpha, beta

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        with _no_autocast(inputs.device):
            return _LocalResponse.apply(_single(inputs), self.k, self.window, self.alpha, self.beta)

    def multiply_accumulates(self, output: torch.Size) -> int:
        """None: normalisation is no layer of weights."""
        return 0


class _LocalResponse(torch.autograd.Function):
    """y = x d^-beta with d = k + alpha * sum of x^2, its gradient by hand: a third of autograd's passes over memory.

    Only x is kept; what follows from it is computed again, which also makes the gradient differentiable.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, k: float, window: int, alpha: float, beta: float) -> Tensor:
        return x * _factor(_base(x, k, window, alpha), beta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *ctx.constants = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        # dL/dx_i = g_i f_i - 2 alpha beta x_i * sum over j around i of g_j x_j f_j / d_j
        (x,) = ctx.saved_tensors
        k, window, alpha, beta = ctx.constants
        with _no_autocast(x.device):
            base = _base(x, k, window, alpha)
            direct = gradient * _factor(base, beta)
            through = sum_across_maps(direct * x / base, window)
            return torch.addcmul(direct, through, x, value=-2 * alpha * beta), None, None, None, None


def _base(x: Tensor, k: float, window: int, alpha: float) -> Tensor:
    return sum_across_maps(x.square(), window) * alpha + k


def _factor(base: Tensor, beta: float) -> Tensor:
    """base ** -beta."""
    if beta != 0.75:
        return base**-beta
    root = base.rsqrt()  # the exponent of every paper: two roots are far quicker than a power
    return root * root.sqrt()


class Contrast(nn.Module):
    """Contrast normalisation across maps, [B, C, H, W]: like `LocalResponse`, but of the deviation from the local mean.

    Zeiler & Fergus 2013 (arXiv:1311.2901, fig. 3) name it and give no formula. This reading takes AlexNet's constants
    and b_i = a_i / (k + alpha * sum of (a_j - m_i)^2) ** beta, with m_i the mean of the maps in the window around i.
    """

    def __init__(self, *, k: float = 2.0, window: int = 5, alpha: float = 1e-4, beta: float = 0.75) -> None:
        super().__init__()
        self.k, self.window, self.alpha, self.beta = k, window, alpha, beta

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        with _no_autocast(inputs.device):
            inputs = _single(inputs)
            count = sum_across_maps(inputs.new_ones(1, inputs.shape[1], 1, 1), self.window)
            total = sum_across_maps(inputs, self.window)
            # Squared deviations as sum of squares minus n times the squared mean; rounding must not take it below 0.
            spread = (sum_across_maps(inputs.square(), self.window) - total.square() / count).clamp_min(0)
            return inputs / (self.k + self.alpha * spread) ** self.beta

    def multiply_accumulates(self, output: torch.Size) -> int:
        """None: normalisation is no layer of weights."""
        return 0
