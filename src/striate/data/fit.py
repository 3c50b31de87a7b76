"""From an image of any size to the network's input size: the resize rules of `InputSpec`, and boxes cut from an image.

Everything resamples through Pillow's antialiased filters, image by image, so that evaluation, prediction and serving
give the same bytes for the same image. (Boxes of photos, for training: see `crops`.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from striate.data.arrays import to_bits, to_channels
from striate.spec import InputSpec

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_SLACK = 1e-3  # boxes may leave the image by this many pixels through rounding without being padded


class Placement(NamedTuple):
    """A resize rule worked out for one image size."""

    box: tuple[float, float, float, float]  # top, left, height, width: the source region that is shown
    inner: tuple[int, int]  # height, width it is resampled to
    offset: tuple[int, int]  # top, left of that on the output
    mean_fill: bool = False  # what lies around it: the mean colour, or 0


def placement(height: int, width: int, spec: InputSpec) -> Placement:
    """Where `spec.resize` takes its pixels from and puts them, for an image of `height` by `width` pixels."""
    out_height, out_width = spec.size
    if spec.resize == "squash":
        return Placement((0.0, 0.0, height, width), spec.size, (0, 0))
    if spec.resize == "crop":
        scale = max(out_height / height, out_width / width) / spec.crop_fraction
        # as if the whole image were resized to whole pixels and then cropped at whole pixels
        full_height, full_width = max(out_height, round(height * scale)), max(out_width, round(width * scale))
        top, left = (full_height - out_height) // 2, (full_width - out_width) // 2
        step_y, step_x = height / full_height, width / full_width
        box = (top * step_y, left * step_x, out_height * step_y, out_width * step_x)
        return Placement(box, spec.size, (0, 0))
    scale = min(out_height / height, out_width / width)
    if spec.resize == "pad":
        scale = min(scale, 1.0)
    inner = (
        min(out_height, max(1, round(height * scale))),
        min(out_width, max(1, round(width * scale))),
    )
    offset = ((out_height - inner[0]) // 2, (out_width - inner[1]) // 2)
    return Placement((0.0, 0.0, height, width), inner, offset, mean_fill=spec.resize == "letterbox")


def fit(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """One decoded image as the network's pixels.

    Args:
        image: [H, W, C] uint8 or uint16, as `decode` gives it.
        spec: size, channels, bits and resize rule.

    Returns:
        [spec.channels, *spec.size] uint8, or int32 where `spec.bits` is more than 8.

    Raises:
        NotPixelsError: the channel counts differ and are not grey and colour.
    """
    image = fewer_channels(image, spec)
    place = placement(image.shape[0], image.shape[1], spec)
    inner = resample(image, place.box, place.inner, spec.interpolation)
    return finished(_on_canvas(np.moveaxis(inner, 2, 0), place, spec), spec)


def fit_many(images: np.ndarray, spec: InputSpec) -> np.ndarray:
    """`fit` for [n, C, H, W] images of one size, giving [n, spec.channels, *spec.size]; equal to the byte.

    Whole-pixel placements are one copy for all; only real resampling goes image by image.
    """
    images = np.moveaxis(fewer_channels(np.moveaxis(images, 1, -1), spec), -1, 1)
    place = placement(images.shape[2], images.shape[3], spec)
    slices = _whole_pixels(place.box, place.inner, images.shape[2:])
    if slices is not None:
        inner = images[..., slices[0], slices[1]]
    else:
        inner = np.empty((*images.shape[:2], *place.inner), images.dtype)
        for row, image in zip(inner, images, strict=True):
            row[:] = np.moveaxis(resample(np.moveaxis(image, 0, 2), place.box, place.inner, spec.interpolation), 2, 0)
    return finished(_on_canvas(inner, place, spec), spec)


def cut(image: np.ndarray, box: tuple[float, float, float, float], spec: InputSpec) -> np.ndarray:
    """The region `box` (top, left, height, width in pixels of `image`) resized to `spec.size`; no resize rule applies.

    Outside the image is 0. Arguments and result otherwise as for `fit`.
    """
    image = fewer_channels(image, spec)
    return finished(np.moveaxis(resample(image, box, spec.size, spec.interpolation), 2, 0), spec)


def resample(
    image: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int], interpolation: str
) -> np.ndarray:
    """The region `box` of an [H, W, C] image at `size` (height, width), as [h, w, C] of the same type."""
    slices = _whole_pixels(box, size, image.shape[:2])
    if slices is not None:
        return image[slices]
    image, box = _padded(image, box)
    top, left, height, width = box
    corners = (left, top, min(left + width, image.shape[1]), min(top + height, image.shape[0]))
    result = np.empty((*size, image.shape[2]), image.dtype)
    for planes in _pillow_groups(image):
        source = _pillow_plane(image, planes)
        values = np.asarray(source.resize((size[1], size[0]), FILTERS[interpolation], box=corners))
        result[:, :, planes] = _stored(values, image.dtype).reshape(*size, len(planes))
    return result


def block_means(image: np.ndarray, factor: int) -> np.ndarray:
    """[H, W, C] with every block of `factor` by `factor` pixels as one; sides are rounded up, the type is kept."""
    if factor == 1:
        return image
    result = np.empty((-(-image.shape[0] // factor), -(-image.shape[1] // factor), image.shape[2]), image.dtype)
    for planes in _pillow_groups(image):
        values = np.asarray(_pillow_plane(image, planes).reduce(factor))
        result[:, :, planes] = _stored(values, image.dtype).reshape(*result.shape[:2], len(planes))
    return result


def _pillow_groups(image: np.ndarray) -> list[list[int]]:
    """The channels that Pillow resizes in one call: three 8-bit ones together, else one by one."""
    channels = image.shape[2]
    if image.dtype == np.uint8 and channels == 3:
        return [[0, 1, 2]]
    return [[channel] for channel in range(channels)]


def _pillow_plane(image: np.ndarray, planes: list[int]) -> Image.Image:
    """Channels of an array as a Pillow image; 16 bits go through 32-bit floats, which hold them exactly."""
    plane = image[:, :, planes] if len(planes) == 3 else image[:, :, planes[0]]
    return Image.fromarray(np.ascontiguousarray(plane if image.dtype == np.uint8 else plane.astype(np.float32)))


def _stored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """What Pillow computed as pixels again; in floats, bicubic and Lanczos overshoot."""
    return values if dtype == np.uint8 else np.rint(values).clip(0, 65535)


def _whole_pixels(box: tuple[float, ...], size: tuple[int, int], shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    """The slices that `box` stands for where nothing has to be resampled or padded, else None."""
    top, left, height, width = box
    if (height, width) != tuple(size) or top != int(top) or left != int(left):
        return None
    if top < 0 or left < 0 or top + height > shape[0] or left + width > shape[1]:
        return None
    return slice(int(top), int(top + height)), slice(int(left), int(left + width))


def _padded(
    image: np.ndarray, box: tuple[float, float, float, float]
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """`image` with as much 0 around it as `box` needs, and the box in its coordinates."""
    top, left, height, width = (float(value) for value in box)
    if not (height > 0 and width > 0):
        raise ValueError(f"a box of {height} by {width} pixels holds nothing")
    beyond = (-top, top + height - image.shape[0], -left, left + width - image.shape[1])
    pads = [math.ceil(value) if value > _SLACK else 0 for value in beyond]
    if any(pads):
        image = np.pad(image, ((pads[0], pads[1]), (pads[2], pads[3]), (0, 0)))
    return image, (max(0.0, top + pads[0]), max(0.0, left + pads[2]), height, width)


def _on_canvas(inner: np.ndarray, place: Placement, spec: InputSpec) -> np.ndarray:
    """[..., C, h, w] put on the output canvas [..., C, *spec.size]."""
    if inner.shape[-2:] == tuple(spec.size):
        return inner
    canvas = np.zeros((*inner.shape[:-2], *spec.size), inner.dtype)
    if place.mean_fill:
        top = 255 if inner.dtype == np.uint8 else 65535
        means = np.broadcast_to(np.rint(np.asarray(spec.stored_mean) * top).clip(0, top), spec.channels)
        canvas[:] = means.reshape(-1, 1, 1)
    (top, left), (height, width) = place.offset, inner.shape[-2:]
    canvas[..., top : top + height, left : left + width] = inner
    return canvas


def fewer_channels(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """[..., C]: colour to grey before the resampling, which then has less to do; grey to colour waits until after it.

    (The coloured border of a letterbox needs its channels at once.)
    """
    if image.shape[-1] == 1 and spec.channels == 3 and spec.resize != "letterbox":
        return image
    return to_channels(image, spec.channels)


def finished(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """[..., C, h, w] with the channels and bits of `spec`, contiguous."""
    if pixels.shape[-3] != spec.channels:
        pixels = np.repeat(pixels, spec.channels, axis=-3)
    pixels = to_bits(pixels, spec.bits)
    return np.ascontiguousarray(pixels if spec.bits <= 8 else pixels.astype(np.int32))
