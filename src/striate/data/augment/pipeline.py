"""The order of things: move stored pixels, resample, recolour, add noise, normalise, cut out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from striate.data.augment.colour import add_noise, channel_means, recolour, recolours
from striate.data.augment.geometry import distort, distorts, flip, shift
from striate.data.augment.mix import cutout
from striate.data.draws import Draws
from striate.data.normalise import normalise
from striate.errors import UsageError
from striate.options import AugmentOptions
from striate.spec import InputSpec


def augment(
    pixels: torch.Tensor,
    spec: InputSpec,
    options: AugmentOptions,
    draws: Draws,
    *,
    boxes: np.ndarray | None = None,
    channels_last: bool = False,
) -> torch.Tensor:
    """Stored pixels [B, C, H, W] to distorted network input, float32 of the same shape, on the same device.

    Args:
        options: resolved (see `resolve_augment`); None counts as off. Mixing is not done here.
        boxes: float [B, 4] (top, left, height, width in pixels) still to be cut out; None where `Images.take` did.
    """
    if options.shift:
        pixels = shift(pixels, draws.integers("shift", -options.shift, options.shift, 2), options.shift_border)
    if options.flip and options.flip_by == "turns":
        first = replace(draws, epoch=0).uniform("flip")[:, 0] < options.flip
        pixels = flip(pixels, first ^ bool(draws.epoch % 2))
    elif options.flip:
        pixels = flip(pixels, draws.uniform("flip")[:, 0] < options.flip)
    if boxes is not None or distorts(options) or recolours(options) or options.noise:
        images = normalise(_distorted(pixels, spec, options, draws, boxes), spec)
    else:
        if channels_last:  # a quarter of the work before the pixels become floating-point numbers
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        images = normalise(pixels, spec)
    if options.cutout:
        images = cutout(images, options.cutout, draws)
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


def check_augment(options: AugmentOptions, spec: InputSpec) -> None:
    """Refuse what cannot be done with images of this kind.

    Raises:
        UsageError: an unresolved preset, flips by turns that are not one in two, colour options on images that do not
            have three channels, two ways of cropping at once, or a scale jitter below the input size.
    """
    if options.preset != "none":
        raise UsageError(
            f"augment.preset = {options.preset!r} has not been resolved", "call striate.data.resolve_augment first"
        )
    if options.flip_by == "turns" and options.flip not in (0.0, None, 0.5):
        raise UsageError(
            f"augment.flip_by = 'turns' mirrors every image half of the time, not {options.flip:g}",
            "give --flip 0.5 with it",
        )
    for name in ("saturation", "hue", "lighting"):
        if getattr(options, name) and spec.channels != 3:
            raise UsageError(f"augment.{name} needs colour images; these have {spec.channels} channel(s)")
    if options.crop_scale and options.scale_jitter:
        raise UsageError(
            "augment.crop_scale and augment.scale_jitter are both set", "choose one way of cropping; leave one out"
        )
    if options.scale_jitter and options.scale_jitter[0] < max(spec.size):
        raise UsageError(
            f"augment.scale_jitter starts at {options.scale_jitter[0]} pixels, below the input size {max(spec.size)}",
            f"start at {max(spec.size)} or more",
        )


def _distorted(
    pixels: torch.Tensor, spec: InputSpec, options: AugmentOptions, draws: Draws, boxes: np.ndarray | None
) -> torch.Tensor:
    """float32 [B, C, H, W] in 0..1: what needs resampling or arithmetic on pixels."""
    full = float(2**spec.bits - 1)
    images = pixels.to(torch.float32).mul_(1.0 / full)
    if boxes is not None or distorts(options):
        images = distort(images, options, draws, boxes)
    if recolours(options):
        images = recolour(images, channel_means(pixels) / full, options, draws)
    if options.noise:
        images = add_noise(images, options.noise, draws)
    return images
