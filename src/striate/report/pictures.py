"""Pictures inside the page: many small ones as one sprite each, so that a report stays one small file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LARGEST_TILE = 192  # pixels of a side in the page: larger pictures are reduced
SHARP = 64  # up to this side pixels are shown as squares
MOST_FILTERS = 128


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of a sprite: where it lies (CSS background position), and what is written with it."""

    position: str
    title: str
    caption: str = ""
    detail: str = ""
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class Sprite:
    """One picture file that holds many."""

    name: str
    uri: str
    columns: int
    rows: int
    aspect: str  # CSS aspect ratio of a tile
    sharp: bool
    tiles: tuple[Tile, ...]


def make_sprite(name: str, images: np.ndarray, words: Sequence[dict[str, Any]]) -> Sprite | None:
    """Pictures uint8 [count, H, W, 1 or 3] as one sprite; `words` are the other fields of each `Tile`."""
    images = images[: len(words)]
    if images.ndim != 4 or not len(images):
        return None
    images = _reduced(images)
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    sheet[:count] = images
    sheet = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    sharp = max(height, width) <= SHARP
    tiles = tuple(
        Tile(position=_position(place, columns, rows), **fields)
        for place, fields in zip(range(count), words, strict=False)
    )
    return Sprite(name, data_uri(sheet, photo=not sharp), columns, rows, f"{width} / {height}", sharp, tiles)


def data_uri(pixels: np.ndarray, *, photo: bool = False) -> str:
    """uint8 [H, W, 1, 3 or 4] as a data URI: JPEG for photos, PNG otherwise."""
    from PIL import Image

    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    stream = io.BytesIO()
    if photo:
        image.save(stream, "JPEG", quality=85)
    else:
        image.save(stream, "PNG", compress_level=6)
    return f"data:image/{'jpeg' if photo else 'png'};base64,{base64.b64encode(stream.getvalue()).decode()}"


def filter_sprite(weight: np.ndarray) -> Sprite | None:
    """First-layer filters [out, in, height, width] as pictures.

    Three input channels are shown as colours, each filter stretched to the full range; otherwise grey, where the
    middle is zero and all filters share one scale, so that a filter that does little looks flat. Filters over more than
    three channels show their mean over the channels.
    """
    weight = np.nan_to_num(weight[:MOST_FILTERS].astype(np.float32))
    outputs, inputs = weight.shape[:2]
    if inputs == 3:
        low = weight.min(axis=(1, 2, 3), keepdims=True)
        span = np.maximum(weight.max(axis=(1, 2, 3), keepdims=True) - low, 1e-12)
        pixels = ((weight - low) / span * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    else:
        grey = weight.mean(axis=1)
        scale = max(float(np.abs(grey).max()), 1e-12)
        pixels = (127.5 + 127.5 * grey / scale).round().astype(np.uint8)[..., None]
    size = weight.reshape(outputs, -1)
    words = [
        {"title": f"filter {place}: norm {np.linalg.norm(size[place]):.3g}", "caption": ""} for place in range(outputs)
    ]
    return make_sprite("filters", pixels, words)


def _reduced(images: np.ndarray) -> np.ndarray:
    """Large pictures at a half, a third … of their size, by the mean over squares of pixels."""
    factor = math.ceil(max(images.shape[1:3]) / LARGEST_TILE)
    if factor <= 1:
        return images
    height, width = (side // factor * factor for side in images.shape[1:3])
    squares = images[:, :height, :width].reshape(
        len(images), height // factor, factor, width // factor, factor, images.shape[3]
    )
    return squares.mean(axis=(2, 4)).round().astype(np.uint8)


def _position(place: int, columns: int, rows: int) -> str:
    """CSS percentages: 0 % is the first, 100 % the last column or row."""
    row, column = divmod(place, columns)
    across = 100 * column / (columns - 1) if columns > 1 else 0
    down = 100 * row / (rows - 1) if rows > 1 else 0
    return f"{across:.4g}% {down:.4g}%"
