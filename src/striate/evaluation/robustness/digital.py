"""Corruptions of what happens to images on their way, of images float32 [n, C, H, W] in 0..1."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from striate.data.augment.geometry import displacements
from striate.data.draws import Draws

_CPU = torch.device("cpu")


def contrast(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Differences from each channel's mean are made smaller."""
    means = images.mean(axis=(2, 3), keepdims=True)
    return (images - means) * np.float32(figures[0]) + means


def pixelate(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Made smaller and large again, both by means over boxes."""
    height, width = images.shape[2:]
    small = (max(1, int(width * figures[0])), max(1, int(height * figures[0])))

    def squares(picture: Image.Image) -> Image.Image:
        return picture.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)

    return through_pillow(images, squares)


def jpeg(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Stored as JPEG and read again."""

    def stored(picture: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=int(figures[0]))
        with Image.open(stream) as read:
            return read.convert(picture.mode)

    return through_pillow(images, stored)


def elastic(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Drawn on rubber: smooth displacements of so many pixels (standard deviation)."""
    from scipy.ndimage import map_coordinates

    by, smoothness = figures[0] * scale, figures[1] * scale
    height, width = images.shape[2:]
    field = displacements(draws, (height, width), smoothness, _CPU).numpy()
    # uniform noise in [-1, 1] that a Gaussian of unit sum has smoothed in two directions
    usual = np.sqrt(1 / 3) / (2 * np.sqrt(np.pi) * smoothness)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    moved = np.empty_like(images)
    for place, image in enumerate(images):
        coordinates = np.stack([y + field[place, ..., 1] * (by / usual), x + field[place, ..., 0] * (by / usual)])
        for channel, plane in enumerate(image):
            map_coordinates(plane, coordinates, output=moved[place, channel], order=1, mode="mirror")
    return moved


def saturate(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Colours paler or stronger, at the same brightness; what is grey stays grey."""
    times, plus = figures
    most, least = images.max(axis=1, keepdims=True), images.min(axis=1, keepdims=True)
    saturation = (most - least) / np.maximum(most, 1e-6)
    wanted = np.clip(saturation * np.float32(times) + np.float32(plus), 0, 1)
    factor = np.where(saturation > 0, wanted / np.maximum(saturation, 1e-6), 1)
    return most - (most - images) * factor


def through_pillow(images: np.ndarray, function: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """`function` of every image as Pillow has it, or of every channel where there are neither one nor three."""
    stored = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    changed = np.empty_like(stored)
    for place, image in enumerate(stored):
        if len(image) == 3:
            changed[place] = np.moveaxis(np.asarray(function(Image.fromarray(np.moveaxis(image, 0, 2)))), 2, 0)
        else:
            for channel, plane in enumerate(image):
                changed[place, channel] = np.asarray(function(Image.fromarray(plane)))
    return changed.astype(np.float32) / np.float32(255)
