"""Corruptions by blur, of images float32 [n, C, H, W] in 0..1. Beyond its border the image goes on mirrored."""

from __future__ import annotations

import math

import numpy as np

from striate.data.draws import Draws

_TAPS = 60  # of a kernel; of more, the way through Fourier's transform is the shorter one


def gaussian(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """A Gaussian of so many pixels."""
    return smoothed(images, figures[0] * scale)


def defocus(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """A disc, as a lens out of focus makes it, with a soft edge."""
    radius, soft = figures[0] * scale, figures[1]
    reach = math.ceil(radius) + max(1, math.ceil(3 * soft))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (x * x + y * y <= radius * radius).astype(np.float64)
    kernel = smoothed(disc[None, None], soft)[0, 0]
    return np.stack([filtered(image, kernel) for image in images])


def motion(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """A fading trail within 45 degrees of the horizontal, another one for every image."""
    angles = draws.uniform("motion-blur", -45.0, 45.0)[:, 0]
    kernels = (trail(figures[0] * scale, figures[1] * scale, angle) for angle in angles)
    return np.stack([filtered(image, kernel) for image, kernel in zip(images, kernels, strict=True)])


def zoom(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """The mean of the image and of enlargements of its middle, as of a camera that comes nearer."""
    largest, step = figures
    zooms = np.arange(1.0, largest + step / 2, step)
    total = images.astype(np.float64)
    for one in zooms:
        rows, columns = (enlarging(side, one) for side in images.shape[2:])
        total += rows @ images @ columns.T
    return (total / (len(zooms) + 1)).astype(np.float32)


def glass(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Each pixel takes the colour of one nearby, between two slight blurs.

    The paper exchanges pixels one after the other; here all look about at once, so that some are seen twice.
    """
    softness, reach, times = figures[0] * scale, figures[1] * scale + 0.5, int(figures[2])
    images = smoothed(images, softness)
    count, _, height, width = images.shape
    y, x = np.mgrid[:height, :width]
    which = np.arange(count)[:, None, None]
    for turn in range(times):
        steps = draws.uniform(f"glass-blur/{turn}", -reach, reach, 2 * height * width)
        steps = np.rint(steps).astype(int).reshape(count, 2, height, width)
        rows, columns = np.clip(y + steps[:, 0], 0, height - 1), np.clip(x + steps[:, 1], 0, width - 1)
        images = np.moveaxis(images.transpose(0, 2, 3, 1)[which, rows, columns], 3, 1)
    return smoothed(np.ascontiguousarray(images), softness)


def smoothed(images: np.ndarray, sigma: float) -> np.ndarray:
    """[..., H, W] through a Gaussian of `sigma` pixels, cut off at four of them."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images, sigma, mode="mirror", axes=(-2, -1))


def trail(length: float, fading: float, degrees: float) -> np.ndarray:
    """A kernel of sum 1: a line from the middle outwards, falling off as a Gaussian of `fading` pixels."""
    along = np.arange(max(2, round(2 * length) + 1)) / 2.0  # in half pixels, so that the line has no gaps
    weights = np.exp(-0.5 * (along / max(fading, 1e-3)) ** 2)
    reach = math.ceil(along[-1]) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    y, x = reach - along * math.sin(math.radians(degrees)), reach + along * math.cos(math.radians(degrees))
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (y - top)) * np.abs(1 - right - (x - left))
            np.add.at(kernel, (top + down, left + right), weights * share)
    return kernel / kernel.sum()


def filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """float32 [C, H, W] convolved with a kernel of odd sides, which is brought to a sum of 1."""
    from scipy.ndimage import convolve
    from scipy.signal import fftconvolve

    kernel = (kernel / kernel.sum()).astype(np.float32)
    if np.count_nonzero(kernel) <= _TAPS:
        return convolve(image, kernel[None], mode="mirror")
    reach = kernel.shape[0] // 2
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
    return fftconvolve(padded, kernel[None], mode="valid", axes=(1, 2)).astype(np.float32)


def enlarging(side: int, by: float) -> np.ndarray:
    """float32 [side, side]: the linear interpolation that enlarges the middle of a row of `side` pixels."""
    return interpolating(side, (np.arange(side) - (side - 1) / 2) / by + (side - 1) / 2)


def interpolating(side: int, places: np.ndarray) -> np.ndarray:
    """float32 [places, side]: linear interpolation at `places` of a row of `side` pixels, held at its ends."""
    places = np.clip(places, 0, side - 1)
    left = np.minimum(np.floor(places).astype(int), side - 2)
    matrix = np.zeros((len(places), side), np.float32)
    rows = np.arange(len(places))
    matrix[rows, left] = 1 - (places - left)
    matrix[rows, left + 1] = places - left
    return matrix
