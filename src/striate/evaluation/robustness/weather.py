"""Corruptions that look like weather, of images float32 [n, C, H, W] in 0..1, made without a single file."""

from __future__ import annotations

import numpy as np

from striate.data.draws import Draws
from striate.evaluation.robustness.blur import filtered, interpolating, trail
from striate.evaluation.robustness.noise import normal_field

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_ICE = np.array([0.86, 0.93, 1.0], np.float32)  # red, green, blue of it
_CRYSTALS = 24  # patches of them on an image
_GRAIN = 128  # side of the noise that needles are cut from


def fog(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Clouds are added, and the whole brought back to the range that the image had."""
    density, fading = figures
    most = images.max(axis=(1, 2, 3), keepdims=True)
    veil = clouds(draws, "fog", images.shape, fading)
    return (images + np.float32(density) * veil) * most / np.maximum(most + np.float32(density), 1e-6)


def snow(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Flakes with trails, once as drawn and once turned about, over a paler image."""
    mean, deviation, size, least, length, fading, kept = figures
    count, _, height, width = images.shape
    coarse = (max(2, int(np.ceil(height / size))), max(2, int(np.ceil(width / size))))
    flakes = mean + deviation * normal_field(draws, "snow", (count, *coarse))
    flakes = _enlarged(flakes.astype(np.float32), (height, width))
    flakes = np.clip(np.where(flakes < least, 0, flakes), 0, 1).astype(np.float32)
    angles = draws.uniform("snow/angle", -135.0, -45.0)[:, 0]
    layer = np.stack(
        [
            filtered(one[None], trail(length * scale, fading * scale, angle))
            for one, angle in zip(flakes, angles, strict=True)
        ]
    )
    paler = np.maximum(images, 1.5 * grey(images) + 0.5)
    return np.float32(kept) * images + np.float32(1 - kept) * paler + layer + layer[:, :, ::-1, ::-1]


def frost(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Crystals of ice that have grown over a pane before the image."""
    image_part, ice_part = figures
    ice = crystals(draws, images.shape)[:, None]
    colour = _ICE if images.shape[1] == 3 else np.ones(images.shape[1], np.float32)
    return np.float32(image_part) * images + np.float32(ice_part) * ice * colour[:, None, None]


def brightness(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """So much is added to the largest of a pixel's values, its hue and saturation kept."""
    most = images.max(axis=1, keepdims=True)
    brighter = np.minimum(most + np.float32(figures[0]), 1)
    return np.where(most > 0, images * (brighter / np.maximum(most, 1e-6)), brighter)


def clouds(draws: Draws, name: str, shape: tuple[int, ...], fading: float) -> np.ndarray:
    """float32 [n, 1, H, W] in 0..1: noise of every size from the whole image to a pixel, finer ones fainter."""
    count, _, height, width = shape
    total, weight, cells = np.zeros((count, height, width), np.float32), 1.0, 2
    while cells <= max(height, width):
        coarse = draws.uniform(f"{name}/{cells}", -1.0, 1.0, (cells + 1) ** 2).reshape(count, cells + 1, cells + 1)
        total += np.float32(weight) * _enlarged(coarse.astype(np.float32), (height, width))
        weight, cells = weight / fading, 2 * cells
    low, high = total.min(axis=(1, 2), keepdims=True), total.max(axis=(1, 2), keepdims=True)
    return ((total - low) / np.maximum(high - low, 1e-6))[:, None]


def crystals(draws: Draws, shape: tuple[int, ...]) -> np.ndarray:
    """float32 [n, H, W] in 0..1: needles of ice, in patches that grow in one direction each, thickest at the edges."""
    from scipy.ndimage import map_coordinates
    from scipy.spatial import KDTree

    count, _, height, width = shape
    y, x = np.mgrid[:height, :width] / float(min(height, width))
    sides = np.array([y.max(), x.max()])
    centres = draws.uniform("frost/centres", -0.1, 1.1, 2 * _CRYSTALS).reshape(count, _CRYSTALS, 2)
    turns = draws.uniform("frost/turns", 0.0, 2 * np.pi, _CRYSTALS)
    grain = draws.uniform("frost/grain", count=_GRAIN**2).reshape(count, _GRAIN, _GRAIN)
    bent = clouds(draws, "frost/bent", (count, 1, height, width), 1.5)[:, 0] - 0.5
    patches = clouds(draws, "frost/patches", (count, 1, height, width), 1.6)[:, 0]
    edge = np.minimum(np.minimum(y, sides[0] - y), np.minimum(x, sides[1] - x))
    found = np.empty((count, height, width), np.float32)
    for place in range(count):
        points = np.stack([y + 0.25 * bent[place], x - 0.25 * bent[place]], axis=-1)
        nearest = KDTree(centres[place] * sides).query(points)[1]
        away, turn = points - (centres[place] * sides)[nearest], turns[place][nearest]
        along = away[..., 0] * np.sin(turn) + away[..., 1] * np.cos(turn)
        across = np.abs(away[..., 0] * np.cos(turn) - away[..., 1] * np.sin(turn))
        branches = (along - across, across)  # to both sides of a spine, as on a feather
        needles = sum(
            map_coordinates(
                grain[place], [branches[0] * size, branches[1] * size / 7 + size], order=1, mode="grid-wrap"
            )
            for size in (40.0, 90.0)
        )
        spine = np.exp(-across / 0.012)
        cover = np.clip(1.6 * (patches[place] + 0.5 * np.exp(-edge / 0.2) - 0.2), 0, 1)
        found[place] = cover * (0.2 + 0.9 * (needles / 2) ** 1.5 + 0.3 * spine) + 0.12
    return np.clip(found, 0, 1)


def grey(images: np.ndarray) -> np.ndarray:
    """float32 [n, 1, H, W]: the luma of colours, else the mean of the channels."""
    if images.shape[1] != 3:
        return images.mean(axis=1, keepdims=True)
    return (images * _LUMA[:, None, None]).sum(axis=1, keepdims=True)


def _enlarged(coarse: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float32 [n, h, w] -> [n, H, W] by linear interpolation from corner to corner."""
    rows, columns = (
        interpolating(old, np.linspace(0, old - 1, new)) for old, new in zip(coarse.shape[1:], size, strict=True)
    )
    return rows @ coarse @ columns.T
