"""Which part of a photo the network sees: boxes for `Images.take`, which cuts and resizes in one go."""

from __future__ import annotations

import numpy as np

from striate.data.draws import Draws
from striate.options import AugmentOptions
from striate.spec import InputSpec

TRIES = 10
CROP_RATIO = (3 / 4, 4 / 3)


def training_boxes(sizes: np.ndarray, spec: InputSpec, options: AugmentOptions, draws: Draws) -> np.ndarray | None:
    """float64 [B, 4] (top, left, height, width in source pixels), or None where nothing random is asked for.

    Args:
        sizes: int [B, 2], height and width of the images.
    """
    if options.crop_scale:
        return resized_crop_boxes(sizes, options.crop_scale, options.crop_ratio or CROP_RATIO, draws)
    if options.scale_jitter:
        return scale_jitter_boxes(sizes, spec.size, options.scale_jitter, draws)
    return None


def resized_crop_boxes(
    sizes: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float], draws: Draws
) -> np.ndarray:
    """Boxes of random area (a part of the image, drawn from `scale`) and aspect ratio (width / height, from `ratio`).

    Szegedy et al. 2014, sec. 6: 8 to 100 % of the area, ratio between 3/4 and 4/3. The ratio's logarithm is drawn, so
    that wide and tall are alike. The first of ten tries that fits is taken; where none fits, the largest centred box of
    an allowed ratio.
    """
    height, width = sizes[:, 0, None].astype(np.float64), sizes[:, 1, None].astype(np.float64)
    area = draws.uniform("crop/area", *scale, TRIES) * height * width
    log_ratio = draws.uniform("crop/ratio", np.log(ratio[0]), np.log(ratio[1]), TRIES)
    heights = np.sqrt(area) * np.exp(-0.5 * log_ratio)
    widths = np.sqrt(area) * np.exp(0.5 * log_ratio)
    fits = (heights <= height) & (widths <= width)
    first = (np.arange(len(sizes)), fits.argmax(axis=1))
    place = draws.uniform("crop/place", count=2)
    place[~fits.any(axis=1)] = 0.5
    wanted = np.clip(width / height, *ratio)[:, 0]  # for those without a fit
    box_height = np.where(fits.any(axis=1), heights[first], np.minimum(height[:, 0], width[:, 0] / wanted))
    box_width = np.where(fits.any(axis=1), widths[first], np.minimum(width[:, 0], height[:, 0] * wanted))
    top = place[:, 0] * (height[:, 0] - box_height)
    left = place[:, 1] * (width[:, 0] - box_width)
    return np.stack([top, left, box_height, box_width], axis=1)


def scale_jitter_boxes(sizes: np.ndarray, size: tuple[int, int], jitter: tuple[int, int], draws: Draws) -> np.ndarray:
    """The boxes that a resize of the short side to a whole number from `jitter`, then a random crop of `size`, keep.

    Simonyan & Zisserman 2014, sec. 3.1; He et al. 2015, sec. 3.4 (256 to 480, crops of 224). The aspect ratio is
    kept, up to the rounding of the long side. With one number, such as (256, 256), it is AlexNet's: 33 x 33 places for
    a 224 crop of a 256 x 256 image. The range starts at the larger side of `size` or above (see `check_augment`).
    """
    short = draws.integers("jitter/side", *jitter)
    # as if the whole image were resized to whole pixels and then cropped at whole pixels
    resized = np.maximum(np.round(sizes * (short / sizes.min(axis=1, keepdims=True))), size)
    room = resized - np.array(size)
    place = np.minimum(np.floor(draws.uniform("jitter/place", count=2) * (room + 1)), room)
    step = sizes / resized
    return np.concatenate([place * step, np.array(size) * step], axis=1)
