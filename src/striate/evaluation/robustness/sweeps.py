"""Images moved, turned, enlarged, covered by noise or turned to their negative, over a whole range.

What comes in from beyond the image has the median colour of its border: black around digits, white around their
negatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from striate.data.draws import Draws
from striate.errors import UnknownNameError
from striate.evaluation.robustness.noise import normal_field

DIRECTIONS = {"right": (0, 1), "down": (1, 0)}
_SHIFTS = (1 / 28, 2 / 28, 3 / 28, 4 / 28, 6 / 28, 8 / 28)  # of the side
_FEW_PIXELS = (1, 4)
_TURNS = tuple(range(-165, 181, 15))  # degrees
_SCALES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0)
_NOISES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0)  # standard deviation in parts of the range
_CONTRASTS = (1.0, 0.75, 0.5, 0.25, 0.1, -0.1, -0.25, -0.5, -0.75, -1.0)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep goes over: at `neutral` the image is as it was."""

    axis: str
    neutral: float


SWEEPS = {
    "translation": Sweep("shift in pixels", 0.0),
    "rotation": Sweep("degrees, counter-clockwise", 0.0),
    "scale": Sweep("times as large", 1.0),
    "noise-level": Sweep("standard deviation of the noise, in parts of the range", 0.0),
    "negative": Sweep("contrast; −1 is the negative", 1.0),
}


def strengths_of(kind: str, size: tuple[int, int]) -> list[tuple[str, float]]:
    """The points of a sweep for images of `size`: a direction, "" where there is none, and the strength.

    Raises:
        UnknownNameError: no such sweep.
    """
    if kind == "translation":
        side = min(size)
        steps = {round(side * share) for share in _SHIFTS} | {step for step in _FEW_PIXELS if step <= side / 7}
        steps = sorted({step for step in steps if step > 0})
        signed = [*(-step for step in reversed(steps)), 0, *steps]
        return [(direction, float(step)) for direction in DIRECTIONS for step in signed]
    rows = {"rotation": _TURNS, "scale": _SCALES, "noise-level": _NOISES, "negative": _CONTRASTS}
    if kind not in rows:
        raise UnknownNameError("sweep", kind, SWEEPS)
    return [("", float(one)) for one in rows[kind]]


def changed(
    pixels: np.ndarray, kind: str, strength: float, indices: np.ndarray, *, direction: str = "", seed: int = 0
) -> np.ndarray:
    """uint8 [n, C, H, W] changed by one sweep; at its neutral strength they are as they were.

    Args:
        pixels: not changed.
        kind: a name in `SWEEPS`.
        strength: pixels (whole ones), degrees, factor, standard deviation in parts of the range, or contrast.
        indices: int [n], by which each image draws its noise.
        direction: of a translation, in `DIRECTIONS`; against it where the strength is negative.
        seed: of the draws.

    Raises:
        UnknownNameError: no such sweep.
    """
    if kind not in SWEEPS:
        raise UnknownNameError("sweep", kind, SWEEPS)
    if strength == SWEEPS[kind].neutral or not len(pixels):
        return pixels
    if kind == "noise-level":
        draws = Draws(seed, 0, np.asarray(indices, dtype=np.int64))  # the same noise at every strength
        noisy = pixels + np.float32(255 * strength) * normal_field(draws, "noise-level", pixels.shape)
        return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)
    if kind == "negative":
        return np.rint(127.5 + (pixels - 127.5) * strength).astype(np.uint8)
    if kind == "translation":
        down, right = (round(part * strength) for part in DIRECTIONS[direction])
        return _moved(pixels, down, right)
    made = np.empty_like(pixels)
    for place, (image, fill) in enumerate(zip(pixels, border_colours(pixels), strict=True)):
        for channel, plane in enumerate(image):
            picture, colour = Image.fromarray(plane), int(fill[channel])
            if kind == "rotation":
                turned = picture.rotate(strength, Image.Resampling.BICUBIC, fillcolor=colour)
                made[place, channel] = np.asarray(turned)
            else:
                made[place, channel] = _scaled(picture, strength, colour)
    return made


def border_colours(pixels: np.ndarray) -> np.ndarray:
    """uint8 [n, C]: the median of each channel along the border of [n, C, H, W]."""
    sides = (pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, 1:-1, 0], pixels[:, :, 1:-1, -1])
    return np.median(np.concatenate(sides, axis=2), axis=2).astype(np.uint8)


def _moved(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    height, width = pixels.shape[2:]
    down, right = (max(-side, min(side, by)) for side, by in ((height, down), (width, right)))
    made = np.broadcast_to(border_colours(pixels)[:, :, None, None], pixels.shape).copy()
    to = np.s_[:, :, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    of = np.s_[:, :, max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)]
    made[to] = pixels[of]
    return made


def _scaled(picture: Image.Image, by: float, colour: int) -> np.ndarray:
    """The same canvas with the picture larger or smaller about its middle, antialiased."""
    width, height = picture.size
    if by >= 1:
        left, top = (width - width / by) / 2, (height - height / by) / 2
        box = (left, top, width - left, height - top)
        return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box=box))
    inner = (max(1, round(width * by)), max(1, round(height * by)))
    canvas = Image.new("L", (width, height), colour)
    canvas.paste(picture.resize(inner, Image.Resampling.BICUBIC), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.asarray(canvas)
