"""How strong each corruption is at severities 1 to 5, for photos and for small images.

The figures are those of ImageNet-C for 224 pixels and of CIFAR-10-C for 32 (Hendrycks & Dietterich 2019, 1903.12261,
and the code published with it). Lengths in pixels are stated for these sides and change with the short side of the
image, but shrink no further for less than 32. Those of the elastic transform are our own: the papers' five settings
are of two sorts. The ice of frost, which they take from photos, is made.
"""

from __future__ import annotations

SEVERITIES = (1, 2, 3, 4, 5)
SMALL_SIDE = 64  # up to this short side, in pixels, the figures for small images hold
SIDES = {"small": 32, "large": 224}  # that lengths are stated for

_LARGE: dict[str, tuple] = {
    "gaussian-noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation, in parts of the range
    "shot-noise": (60, 25, 12, 5, 3),  # photons of white
    "impulse-noise": (0.03, 0.06, 0.09, 0.17, 0.27),  # share of the values
    "speckle-noise": (0.15, 0.2, 0.35, 0.45, 0.6),  # standard deviation, in parts of the value
    "gaussian-blur": (1, 2, 3, 4, 6),  # pixels
    "defocus-blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),  # radius, softness in pixels
    "motion-blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),  # length, fading in pixels
    "zoom-blur": ((1.10, 0.01), (1.15, 0.01), (1.20, 0.02), (1.25, 0.02), (1.30, 0.03)),  # largest zoom, its steps
    "glass-blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),  # blur, reach in pixels, times
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),  # density, how fast finer parts fade
    # mean, deviation, size, threshold, length, fading of flakes, and what is kept of the image's colours
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),  # parts of image and ice
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # kept
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),  # of the side
    "jpeg": (25, 18, 15, 10, 7),  # quality
    "elastic": ((1.2, 9), (2, 9), (3, 9), (4, 9), (5.2, 9)),  # displacement, smoothness in pixels
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),  # times, plus
}  # fmt: skip
_SMALL: dict[str, tuple] = {
    "gaussian-noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot-noise": (500, 250, 100, 75, 50),
    "impulse-noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "speckle-noise": (0.06, 0.1, 0.12, 0.16, 0.2),
    "gaussian-blur": (0.4, 0.6, 0.7, 0.8, 1),
    "defocus-blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "motion-blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom-blur": ((1.05, 0.01), (1.10, 0.01), (1.15, 0.01), (1.20, 0.01), (1.25, 0.01)),
    "glass-blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg": (80, 65, 58, 50, 40),
    "elastic": ((0.5, 3), (0.8, 3), (1.1, 3), (1.4, 3), (1.8, 3)),
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
}  # fmt: skip


def strength(kind: str, severity: int, size: tuple[int, int]) -> tuple[float, ...]:
    """The figures of a corruption at severity 1 to 5 for images of `size` (height, width)."""
    row = (_SMALL if is_small(size) else _LARGE)[kind][severity - 1]
    return row if isinstance(row, tuple) else (row,)


def length_factor(size: tuple[int, int]) -> float:
    """By how much lengths in pixels are multiplied for images of `size` (height, width)."""
    if is_small(size):
        return max(1.0, min(size) / SIDES["small"])
    return min(size) / SIDES["large"]


def is_small(size: tuple[int, int]) -> bool:
    """Whether the figures for small images hold."""
    return min(size) <= SMALL_SIDE
