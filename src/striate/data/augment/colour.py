"""What colour a pixel has: everything linear in one pass, then Gaussian noise.

Brightness multiplies, contrast blends with the image's mean grey, saturation blends each pixel with its own grey, hue
turns the colour about the grey axis, and AlexNet's lighting adds one colour to the whole image. All of it together is
one 3 x 3 matrix and one offset per image, applied once and clipped once to the pixel range.
"""

from __future__ import annotations

import numpy as np
import torch

from striate.data.draws import Draws
from striate.options import AugmentOptions

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601

# Principal components of the RGB values of ImageNet's training images, for pixels in 0..1: the constants that ImageNet
# training has commonly used since AlexNet. They are not measured again on other data.
IMAGENET_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
IMAGENET_EIGENVECTORS = np.array(  # a column per component
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ]
)


def recolours(options: AugmentOptions) -> bool:
    """Whether any option changes colours (noise apart)."""
    return any((options.brightness, options.contrast, options.saturation, options.hue, options.lighting))


def channel_means(pixels: torch.Tensor) -> np.ndarray:
    """float64 [B, C]: each image's mean per channel, of whole-number pixels in their own units.

    Summed as whole numbers, so that the result does not depend on how a batch is cut into blocks.
    """
    count = pixels.shape[2] * pixels.shape[3]
    if pixels.device.type == "cpu":
        return pixels.numpy().sum((2, 3), dtype=np.int64) / count
    return pixels.sum((2, 3), dtype=torch.int64).cpu().numpy() / count


def recolour(images: torch.Tensor, means: np.ndarray, options: AugmentOptions, draws: Draws) -> torch.Tensor:
    """Brightness, contrast, saturation, hue and lighting on float [B, C, H, W] in 0..1.

    Args:
        means: float64 [B, C], the images' channel means in 0..1.
    """
    matrix, offset = colour_maps(means, options, draws)
    matrices = torch.from_numpy(matrix.astype(np.float32)).to(images.device)[..., None, None]
    offsets = torch.from_numpy(offset.astype(np.float32)).to(images.device)[..., None, None]
    if not (options.saturation or options.hue):  # the matrix is a multiple of the identity
        return (
            (images * matrices[:, :1, :1, 0] if matrix.shape[1] > 1 else images * matrices[:, 0])
            .add_(offsets)
            .clamp_(0.0, 1.0)
        )
    result = images[:, None, 0] * matrices[:, :, 0]
    for channel in range(1, images.shape[1]):
        result += images[:, None, channel] * matrices[:, :, channel]
    return result.add_(offsets).clamp_(0.0, 1.0)


def colour_maps(means: np.ndarray, options: AugmentOptions, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """float64 [B, C, C] and [B, C]: the colour `c` of a pixel becomes ``matrix @ c + offset``."""
    size, channels = means.shape
    brightness = _factor(draws, "brightness", options.brightness, size)
    contrast = _factor(draws, "contrast", options.contrast, size)
    luma = LUMA if channels == 3 else np.full(channels, 1.0 / channels)
    matrix = np.eye(channels) * (brightness * contrast)[:, None, None]
    grey = brightness * (1.0 - contrast) * (means * luma).sum(axis=1)
    offset = np.repeat(grey[:, None], channels, axis=1)
    if options.saturation:
        kept = _factor(draws, "saturation", options.saturation, size)[:, None, None]
        matrix = (kept * np.eye(3) + (1.0 - kept) * luma) @ matrix  # leaves a grey offset as it is
    if options.hue:
        angle = 2.0 * np.pi * draws.uniform("hue", -options.hue, options.hue)[:, 0]
        matrix = hue_rotation(angle) @ matrix  # so does this
    if options.lighting:
        offset = offset + lighting_offsets(options.lighting, draws)
    return matrix, offset


def hue_rotation(angle: np.ndarray) -> np.ndarray:
    """float64 [B, 3, 3]: a turn of RGB space about its grey axis by `angle` [B] in radians (Rodrigues' formula).

    A third of a circle carries red to green to blue, as in HSV; in between the mean of the channels is kept, where HSV
    would keep the largest.
    """
    axis = np.full((3, 3), 1.0 / 3.0)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3.0)
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    return cos * np.eye(3) + sin * cross + (1.0 - cos) * axis


def lighting_offsets(strength: float, draws: Draws) -> np.ndarray:
    """float64 [B, 3]: the colour that AlexNet adds to every pixel, ``[p1 p2 p3] [a1 l1, a2 l2, a3 l3]``.

    Krizhevsky et al. 2012, sec. 4.1: p and l are the principal components and their eigenvalues, a is drawn from
    N(0, strength), 0.1 in the paper, once per use of an image.
    """
    alphas = strength * draws.normal("lighting", 3)
    return ((alphas * IMAGENET_EIGENVALUES)[:, None, :] * IMAGENET_EIGENVECTORS).sum(axis=2)


def add_noise(images: torch.Tensor, strength: float, draws: Draws) -> torch.Tensor:
    """Independent Gaussian noise on float [B, C, H, W] in 0..1, of standard deviation `strength`; clipped to 0..1."""
    noise = draws.normal_field("noise", images[0].numel(), images.device).view(images.shape)
    return noise.mul_(strength).add_(images).clamp_(0.0, 1.0)


def _factor(draws: Draws, name: str, strength: float | None, size: int) -> np.ndarray:
    """float64 [B] evenly in 1 ± strength; ones, without drawing, where it is off."""
    return draws.uniform(name, 1.0 - strength, 1.0 + strength)[:, 0] if strength else np.ones(size)
