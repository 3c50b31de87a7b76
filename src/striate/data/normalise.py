"""From stored pixels to what a network sees."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from striate.spec import InputSpec

if TYPE_CHECKING:
    import torch  # at run time inside the functions: whoever only looks at data does not load it


_CACHED_BYTES = 2**20


def normalise(pixels: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """Stored pixels [B, C, H, W] to network input: float32, ``(pixel / (2**bits - 1) - mean) / std`` per channel.

    The channels of the result are in the order of `spec.channel_order`. Whole numbers are stored pixels of `spec.bits`
    bits; floating-point numbers already are parts of the full range. The memory layout (channels first or last) is
    kept; the argument is never changed.
    """
    import torch

    scale, offset = factors(spec, floating=pixels.dtype.is_floating_point, device=pixels.device)
    if spec.reverses_channels:
        pixels = pixels.flip(1)
    result = torch.empty_like(pixels, dtype=torch.float32)
    innermost = pixels.shape[1] > 1 and result.is_contiguous(memory_format=torch.channels_last)
    if innermost:  # rows of W * C numbers: a broadcast over three innermost channels would take three times as long
        channels, width = pixels.shape[1], pixels.shape[3]
        scale, offset = scale.expand(channels).repeat(width), offset.expand(channels).repeat(width)
        if pixels.device.type == "cpu" and not pixels.dtype.is_floating_point:
            _normalise_in_one_thread(pixels, scale.numpy(), offset.numpy(), result)
            return result
    else:
        scale, offset = scale[:, None, None], offset[:, None, None]
    # What the processor's caches hold at a time meets main memory once instead of three times. Several threads would
    # have to wait for each other after each part.
    count = len(pixels)
    alone = pixels.device.type == "cpu" and torch.get_num_threads() == 1
    step = _CACHED_BYTES * count // max(1, result.nbytes) if alone else count
    for start in range(0, count, max(1, step)):
        part = result[start : start + max(1, step)]
        part.copy_(pixels[start : start + max(1, step)])
        rows = part.permute(0, 2, 3, 1).flatten(2) if innermost else part
        rows.mul_(scale).add_(offset)
    return result


def _normalise_in_one_thread(pixels: torch.Tensor, scale: np.ndarray, offset: np.ndarray, result: torch.Tensor) -> None:
    """Channels innermost. NumPy's loops give torch's numbers to the bit and have no threads.

    Torch's would wait for each other after each step, and busily, while the cores decode the next photos: half of the
    processor's time of an epoch that is read from the cache.
    """
    count, channels, height, width = pixels.shape
    source = pixels.permute(0, 2, 3, 1).flatten(2).numpy()
    target = result.permute(0, 2, 3, 1).view(count, height, width * channels).numpy()
    step = max(1, _CACHED_BYTES * count // max(1, result.nbytes))
    for start in range(0, count, step):
        part = target[start : start + step]
        part[:] = source[start : start + step]
        np.multiply(part, scale, out=part)
        np.add(part, offset, out=part)


def denormalise(images: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """The reverse, for showing: float32 [B, C, H, W] in parts of the full range, clipped to 0..1, colours as RGB."""
    scale, offset = factors(spec, floating=True, device=images.device)
    shown = ((images - offset[:, None, None]) / scale[:, None, None]).clamp_(0.0, 1.0)
    return shown.flip(1) if spec.reverses_channels else shown


def factors(
    spec: InputSpec, *, floating: bool = False, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """The line ``scale * pixel + offset`` that `normalise` computes: float32 [C or 1] twice, not to be changed."""
    return _factors(spec, floating, device)


@lru_cache(maxsize=32)
def _factors(spec: InputSpec, floating: bool, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 [C or 1] twice: the line ``scale * pixel + offset``."""
    import torch

    full = 1.0 if floating else float(2**spec.bits - 1)
    mean = torch.tensor(spec.mean, dtype=torch.float64)
    std = torch.tensor(spec.std, dtype=torch.float64)
    scale, offset = 1.0 / (full * std), -mean / std
    return scale.float().to(device), offset.float().to(device)
