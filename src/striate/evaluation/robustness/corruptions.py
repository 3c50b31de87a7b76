"""Images made worse: `corrupt` for whole batches, every image by draws of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from striate.data.draws import Draws
from striate.errors import UnknownNameError
from striate.evaluation.robustness import blur, digital, noise, weather
from striate.evaluation.robustness.strengths import SEVERITIES, length_factor, strength

Corruption = Callable[[np.ndarray, tuple[float, ...], float, Draws], np.ndarray]

CORRUPTIONS: dict[str, Corruption] = {  # images float32 [n, C, H, W] in 0..1, figures, factor of lengths, draws
    "gaussian-noise": noise.gaussian,
    "shot-noise": noise.shot,
    "impulse-noise": noise.impulse,
    "speckle-noise": noise.speckle,
    "gaussian-blur": blur.gaussian,
    "defocus-blur": blur.defocus,
    "motion-blur": blur.motion,
    "zoom-blur": blur.zoom,
    "glass-blur": blur.glass,
    "fog": weather.fog,
    "snow": weather.snow,
    "frost": weather.frost,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "pixelate": digital.pixelate,
    "jpeg": digital.jpeg,
    "elastic": digital.elastic,
    "saturate": digital.saturate,
}
OF_COLOURS = {"saturate"}  # nothing happens to grey images


def corrupt(pixels: np.ndarray, kind: str, severity: int, indices: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """uint8 [n, C, H, W] made worse by one kind at severity 1 to 5; 0 leaves them as they are.

    What happens to an image depends on seed, kind, severity and its index alone, not on the others of the batch.

    Args:
        pixels: of at least 8 by 8 pixels; not changed.
        kind: a name in `CORRUPTIONS`.
        severity: 0 to 5; their figures are in `strengths`.
        indices: int [n], by which each image draws.
        seed: of the draws.

    Raises:
        UnknownNameError: no such kind.
    """
    if kind not in CORRUPTIONS:
        raise UnknownNameError("corruption", kind, CORRUPTIONS)
    if severity not in (0, *SEVERITIES):
        raise ValueError(f"severity {severity}, known: 0 to {SEVERITIES[-1]}")
    if severity == 0 or not len(pixels):
        return pixels
    size = (pixels.shape[2], pixels.shape[3])
    draws = Draws(seed, severity, np.asarray(indices, dtype=np.int64))
    images = pixels.astype(np.float32) / np.float32(255)
    return as_bytes(CORRUPTIONS[kind](images, strength(kind, severity, size), length_factor(size), draws))


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Parts of the range as uint8, rounded, what lies beyond it clipped."""
    return np.rint(np.clip(images, 0.0, 1.0) * np.float32(255)).astype(np.uint8)
