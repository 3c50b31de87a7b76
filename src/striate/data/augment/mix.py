"""Squares taken out, and images put together: cutout, mixup, cutmix.

All work on normalised images, where 0 is the mean. The partner of an image is the one after it in its batch (the last
one's is the first): the next one in the epoch's order. Its own weight belongs to the image, so a mixture depends on
where a batch ends only for the last image of each batch.
"""

from __future__ import annotations

import numpy as np
import torch

from striate.data.draws import Draws


def cutout(images: torch.Tensor, side: int, draws: Draws) -> torch.Tensor:
    """Set a square of `side` pixels to the mean in each of [B, C, H, W].

    DeVries & Taylor 2017, arXiv:1708.04552: the square's centre is drawn anywhere in the image, so that a part of it
    may lie outside.
    """
    height, width = images.shape[2:]
    centre = np.concatenate([draws.integers("cutout/y", 0, height - 1), draws.integers("cutout/x", 0, width - 1)], 1)
    start = centre - side // 2
    inside = box_mask(start, start + side, images)
    return images.masked_fill(inside, 0.0)


def mix(images: torch.Tensor, mixup: float, cutmix: float, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup and cutmix of [B, C, H, W] with the following image: the mixed images, and float32 [B] own weights.

    Where both are on, each image draws which of the two it gets, with equal chances.
    """
    weights = np.ones(len(images))
    by_area = draws.uniform("mix/kind")[:, 0] < 0.5 if mixup and cutmix else np.full(len(images), bool(cutmix))
    partners = images.roll(-1, 0)
    if mixup:
        weights = np.where(by_area, 1.0, draws.beta("mixup", mixup))
    result = _blend(images, partners, weights) if mixup else images
    if cutmix:
        start, stop, area = cutmix_boxes(images.shape[2:], draws.beta("cutmix", cutmix), draws)
        stop = np.where(by_area[:, None], stop, start)  # an empty box for those that got mixup
        result = torch.where(box_mask(start, stop, images), partners, result)
        weights = np.where(by_area, 1.0 - area, weights)
    return result, torch.from_numpy(weights.astype(np.float32)).to(images.device)


def cutmix_boxes(size: torch.Size, weights: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int64 [B, 2] starts and stops (y, x) of the boxes that come from the partner, and float64 [B] their areas.

    Yun et al. 2019, arXiv:1905.04899: a part ``1 - weight`` of the image in its own aspect ratio, its centre drawn
    evenly; what lies outside is cut off, and the area (a part of the image) is that of what remains.
    """
    extent = np.array(size)
    centre = np.concatenate([draws.integers(f"cutmix/{axis}", 0, n - 1) for axis, n in zip("yx", size, strict=True)], 1)
    half = np.sqrt(1.0 - weights)[:, None] * extent / 2.0
    start = np.clip(np.round(centre - half), 0, extent).astype(np.int64)
    stop = np.clip(np.round(centre + half), 0, extent).astype(np.int64)
    return start, stop, (stop - start).prod(axis=1) / extent.prod()


def box_mask(start: np.ndarray, stop: np.ndarray, images: torch.Tensor) -> torch.Tensor:
    """bool [B, 1, H, W]: inside the boxes from `start` up to `stop`, int [B, 2] (y, x)."""
    first = torch.from_numpy(start).to(images.device)
    last = torch.from_numpy(stop).to(images.device)
    spans = []
    for axis, length in enumerate(images.shape[2:]):
        place = torch.arange(length, device=images.device)
        spans.append((place >= first[:, axis, None]) & (place < last[:, axis, None]))
    return (spans[0][:, :, None] & spans[1][:, None, :])[:, None]


def _blend(images: torch.Tensor, partners: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
    """Zhang et al. 2017, arXiv:1710.09412: ``weight * image + (1 - weight) * partner``."""
    own = torch.from_numpy(weights.astype(np.float32)).to(images.device)[:, None, None, None]
    return images * own + partners * (1.0 - own)
