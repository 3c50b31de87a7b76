"""Where a pixel comes from: shifts, flips, and affine and elastic distortion in one resampling.

Empty places are black (0), unless a shift mirrors the image into them. Shift and flip only move stored pixels; on a
processor they go through NumPy, whose copies of strided windows are three to four times as fast as torch's indexing.

Only sums and products of two numbers are used on whole batches (no fused multiply-add, no library convolution), so that
an image's pixels have the same bits in every batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from striate.data.draws import Draws
from striate.options import AugmentOptions

_ONE_THREAD = 32_768  # numbers up to which torch leaves an operation to one thread


def shift(pixels: torch.Tensor, by: np.ndarray, border: str = "black") -> torch.Tensor:
    """Move each image of [B, C, H, W] by whole pixels, `by` int [B, 2] (down, right): padding, then a crop.

    He et al. 2015, sec. 4.2: 4 pixels padded on each side of 32 x 32, and a random crop. With `border` "mirrored" the
    padding is the image reflected about its outermost pixels (Jordan 2024, 2404.00498), as far as it reaches.
    """
    reach = int(np.abs(by).max(initial=0))
    if reach == 0:
        return pixels
    height, width = pixels.shape[2:]
    if pixels.device.type == "cpu":
        shape = (*pixels.shape[:2], height + 2 * reach, width + 2 * reach)
        padded = np.zeros(shape, dtype=pixels.numpy().dtype)
        padded[:, :, reach : reach + height, reach : reach + width] = pixels.numpy()
        if border == "mirrored":
            _mirror(padded, reach)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))  # type: ignore[call-overload]
        return torch.from_numpy(windows[np.arange(len(by)), :, reach - by[:, 0], reach - by[:, 1]])
    return shift_by_indexing(pixels, by, reach, border)


def shift_by_indexing(pixels: torch.Tensor, by: np.ndarray, reach: int, border: str = "black") -> torch.Tensor:
    """`shift` in torch alone, for every device."""
    height, width = pixels.shape[2:]
    padded = functional.pad(pixels, (reach, reach, reach, reach))
    if border == "mirrored":
        _mirror(padded, reach)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5)
    starts = torch.from_numpy(reach - by).to(pixels.device)
    return windows[torch.arange(len(by), device=pixels.device), starts[:, 0], starts[:, 1]]


def _mirror(padded: Any, reach: int) -> None:
    """Fill the `reach` outermost rows and columns of an array or tensor [B, C, H, W] by reflecting what is inside."""
    height, width = padded.shape[2] - 2 * reach, padded.shape[3] - 2 * reach
    for step in range(1, reach + 1):
        up = min(step, height - 1)
        padded[:, :, reach - step] = padded[:, :, reach + up]
        padded[:, :, reach + height - 1 + step] = padded[:, :, reach + height - 1 - up]
    for step in range(1, reach + 1):
        left = min(step, width - 1)
        padded[..., reach - step] = padded[..., reach + left]
        padded[..., reach + width - 1 + step] = padded[..., reach + width - 1 - left]


def flip(pixels: torch.Tensor, which: np.ndarray) -> torch.Tensor:
    """Mirror the images of [B, C, H, W] that `which` (bool [B]) names, left to right."""
    if not which.any():
        return pixels
    if pixels.device.type == "cpu" and pixels.shape[1] > 1 and pixels.is_contiguous(memory_format=torch.channels_last):
        result = torch.from_numpy(pixels.permute(0, 2, 3, 1).numpy().copy()).permute(0, 3, 1, 2)
        # Whole pixels at a time: twice as fast as NumPy's strides. As many rows as torch does in one thread: several
        # would wait for each other while the cores decode the next photos.
        step = max(1, _ONE_THREAD // (pixels.shape[1] * pixels.shape[3]))
        for row in np.flatnonzero(which).tolist():
            for top in range(0, pixels.shape[2], step):
                part = np.s_[row, :, top : top + step]
                result[part] = pixels[part].flip(-1)
        return result
    if pixels.device.type == "cpu":
        result = pixels.numpy().copy()
        result[which] = result[which][..., ::-1]
        return torch.from_numpy(result)
    mask = torch.from_numpy(which).to(pixels.device)[:, None, None, None]
    return torch.where(mask, pixels.flip(-1), pixels)


def distorts(options: AugmentOptions) -> bool:
    """Whether any option asks for resampling."""
    return any((options.rotate, options.zoom, options.shear, options.translate, options.elastic))


def distort(
    images: torch.Tensor, options: AugmentOptions, draws: Draws, boxes: np.ndarray | None = None
) -> torch.Tensor:
    """Crop, rotate, zoom, shear, translate and elastically deform float [B, C, H, W] in one bilinear resampling.

    Args:
        boxes: float [B, 4] (top, left, height, width in pixels): the part of each image that is enlarged to the whole.
    """
    size = np.array([images.shape[3], images.shape[2]], dtype=np.float64)
    maps, moves = affine_maps(images.shape, options, draws)
    enlarged = np.ones((len(images), 2))
    if boxes is not None:  # what is bent is the crop; beyond its border the image goes on
        enlarged = boxes[:, [3, 2]] / size
        moves = moves * enlarged + boxes[:, [1, 0]] + boxes[:, [3, 2]] / 2 - size / 2
        maps = maps * enlarged[:, :, None]
    grid = affine_grid(maps, moves, images)
    if options.elastic:
        field = displacements(draws, (images.shape[2], images.shape[3]), options.elastic_sigma or 4.0, images.device)
        alpha = torch.from_numpy((2 * options.elastic * enlarged / size).astype(np.float32)).to(images.device)
        grid += field * alpha[:, None, None, :]
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def affine_maps(shape: torch.Size, options: AugmentOptions, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """float64 [B, 2, 2] and [B, 2]: from a place in the result to its place in the image, both (x, y) from the centre.

    The picture itself is sheared along x, scaled, turned (counter-clockwise where the angle is positive) and moved, in
    that order; a pixel's source is found by the inverse.
    """
    size = len(draws.indices)
    angle = np.deg2rad(_either_way(draws, "rotate", options.rotate, size))
    scale = 1.0 + _either_way(draws, "zoom", options.zoom, size)
    slope = np.tan(np.deg2rad(_either_way(draws, "shear", options.shear, size)))
    move = _either_way(draws, "translate", options.translate, size, 2) * np.array([shape[3], shape[2]])
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    # inverse of turn * scale * shear, with y pointing down: shear back after turning back
    maps = np.stack([cos - slope * sin, -sin - slope * cos, sin, cos], axis=1).reshape(size, 2, 2)
    return maps, -(maps * move[:, None, :]).sum(axis=2)


def affine_grid(maps: np.ndarray, moves: np.ndarray, images: torch.Tensor) -> torch.Tensor:
    """float32 [B, H, W, 2] of `grid_sample`'s coordinates (-1 and 1 are the outer edges) for maps in pixels."""
    height, width = images.shape[2:]
    x = torch.arange(width, device=images.device, dtype=torch.float32) - (width - 1) / 2
    y = torch.arange(height, device=images.device, dtype=torch.float32) - (height - 1) / 2
    scale = 2.0 / np.array([width, height])
    slopes = torch.from_numpy((maps * scale[:, None]).astype(np.float32)).to(images.device)
    starts = torch.from_numpy((moves * scale).astype(np.float32)).to(images.device)
    grid = torch.empty(len(maps), height, width, 2, device=images.device)
    for axis in (0, 1):  # each coordinate is the sum of a row and a column
        row = slopes[:, axis, 0, None] * x
        column = slopes[:, axis, 1, None] * y + starts[:, axis, None]
        torch.add(row[:, None, :], column[:, :, None], out=grid[..., axis])
    return grid


def displacements(draws: Draws, size: tuple[int, int], sigma: float, device: torch.device) -> torch.Tensor:
    """float32 [B, H, W, 2] (x, y): noise in [-1, 1], smoothed by a Gaussian of `sigma` pixels and unit sum.

    Simard, Steinkraus & Platt 2003, sec. 2. The field is zero outside the image. The paper leaves open how the smoothed
    field is scaled before alpha; with a Gaussian of unit sum alpha = 34 and sigma = 4 move a 28 x 28 digit's pixels by
    1.4 pixels (standard deviation), which are the values in common use.

    The smoothing is a matrix product of small whole numbers that float32 holds exactly: noise of 9 bits (odd numbers
    up to 255), weights of 11 bits that sum to about 2048, the first pass rounded to multiples of 2**8. No order of
    summation, batch size or device can then change a bit.
    """
    height, width = size
    noise = draws.byte_field("elastic", 2 * height * width, device).to(torch.float32)
    noise = noise.mul_(2).add_(1).view(-1, 2, height, width)
    rows = (_smoothing(height, sigma, device) @ noise).mul_(2.0**-8).round_()  # below 2**11
    smooth = rows @ _smoothing(width, sigma, device)  # below 2**22: matrices of this kind are symmetric
    return smooth.mul_(2.0**-22).permute(0, 2, 3, 1)


@lru_cache(maxsize=16)
def _smoothing(length: int, sigma: float, device: torch.device) -> torch.Tensor:
    """float32 [length, length]: each row a Gaussian about its own place, in units of 1/2048, cut off at the borders."""
    offsets = np.arange(-4 * length, 4 * length + 1)
    total = np.exp(-0.5 * (offsets / sigma) ** 2).sum()
    places = np.arange(length)
    weights = np.exp(-0.5 * ((places[:, None] - places) / sigma) ** 2) / total
    return torch.from_numpy(np.round(2048 * weights).astype(np.float32)).to(device)


def _either_way(draws: Draws, name: str, strength: float | None, size: int, count: int = 0) -> np.ndarray:
    """float64 [B] (or [B, count]) evenly in [-strength, strength); zeros, without drawing, where it is off."""
    if not strength:
        return np.zeros((size, count) if count else size)
    drawn = draws.uniform(name, -strength, strength, count or 1)
    return drawn if count else drawn[:, 0]
