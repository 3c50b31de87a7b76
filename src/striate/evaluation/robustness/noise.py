"""Corruptions by noise, of images float32 [n, C, H, W] in 0..1: each value draws for itself."""

from __future__ import annotations

import numpy as np
import torch

from striate.data.draws import Draws

_CPU = torch.device("cpu")


def gaussian(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Normal noise is added, as a sensor's in little light."""
    return images + np.float32(figures[0]) * normal_field(draws, "gaussian-noise", images.shape)


def shot(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Every value is counted in photons, which come by Poisson's law."""
    from scipy.special import pdtr

    (photons,) = figures
    levels = np.rint(images * 255).astype(np.intp)
    # One rising list for all 256 levels: of level v the distribution function plus v. A draw u of a pixel at level v
    # finds its count as the place of v + u.
    counts = np.arange(int(photons + 8 * np.sqrt(photons) + 12))
    below = pdtr(counts[None, :], photons * np.arange(256)[:, None] / 255.0)
    below[:, -1] = 1.0
    keys = (below + np.arange(256)[:, None]).ravel()
    drawn = draws.uniform("shot-noise", count=levels[0].size).reshape(levels.shape)
    found = np.searchsorted(keys, levels + drawn, side="right") - levels * len(counts)
    return (found / photons).astype(np.float32)


def impulse(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Some values become the least, as many the most that there is."""
    drawn = draws.uniform("impulse-noise", count=images[0].size).reshape(images.shape)
    half = figures[0] / 2
    return np.where(drawn < half, np.float32(0), np.where(drawn >= 1 - half, np.float32(1), images))


def speckle(images: np.ndarray, figures: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Noise in proportion to the value itself."""
    return images + np.float32(figures[0]) * images * normal_field(draws, "speckle-noise", images.shape)


def normal_field(draws: Draws, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 of `shape` [n, ...], standard normal."""
    return draws.normal_field(name, int(np.prod(shape[1:])), _CPU).numpy().reshape(shape)
