"""The options of augmentation."""

from __future__ import annotations

from dataclasses import dataclass

from striate.errors import UsageError
from striate.options.declare import check_options, option


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentOptions:
    """Distortions of the training images, all off at their stated default; drawn per (seed, epoch, image)."""

    preset: str = option(
        "auto",
        "the starting point that the options below change: auto chooses by the data",
        choices=("auto", "none", "digits", "small", "photos"),
    )
    shift: int | None = option(
        None, "pad by this many pixels and crop at a random place", at_least=0, source="He et al. 2015, sec. 4.2"
    )
    shift_border: str = option(
        "black", "what a shift moves in from outside: black, or the image mirrored", choices=("black", "mirrored")
    )
    flip: float | None = option(None, "probability of a horizontal flip", at_least=0.0, at_most=1.0)
    flip_by: str = option(
        "chance",
        "chance draws each flip anew; turns shows an image and its mirror image in alternate epochs, the side of the "
        "first drawn (needs --flip 0.5)",
        choices=("chance", "turns"),
        source="Jordan 2024, arXiv:2404.00498, sec. 3.6",
    )
    crop_scale: tuple[float, float] | None = option(
        None,
        "random resized crop: range of the area kept, such as 0.35,1",
        above=0.0,
        at_most=1.0,
        source="Szegedy et al. 2014, sec. 6",
    )
    crop_ratio: tuple[float, float] | None = option(
        None, "random resized crop: range of aspect ratios [0.75,1.333]", above=0.0
    )
    scale_jitter: tuple[int, int] | None = option(
        None,
        "resize the short side to a whole number drawn from this range, then crop",
        at_least=1,
        source="Simonyan & Zisserman 2014, sec. 3.1; He et al. 2015, sec. 3.4: 256,480",
    )
    rotate: float | None = option(None, "rotation up to this many degrees either way", at_least=0.0, at_most=180.0)
    zoom: float | None = option(None, "scaling up or down by up to this fraction", at_least=0.0, at_most=0.9)
    shear: float | None = option(None, "shear up to this many degrees either way", at_least=0.0, at_most=60.0)
    translate: float | None = option(
        None, "translation up to this fraction of the side either way", at_least=0.0, at_most=0.9
    )
    elastic: float | None = option(
        None,
        "elastic distortion: displacement scale alpha in pixels",
        at_least=0.0,
        source="Simard et al. 2003, sec. 2",
    )
    elastic_sigma: float | None = option(
        None, "elastic distortion: smoothing of the displacement field in pixels [4]", above=0.0
    )
    brightness: float | None = option(None, "brightness factor drawn from 1 ± this", at_least=0.0, at_most=1.0)
    contrast: float | None = option(None, "contrast factor drawn from 1 ± this", at_least=0.0, at_most=1.0)
    saturation: float | None = option(
        None, "saturation factor drawn from 1 ± this (colour only)", at_least=0.0, at_most=1.0
    )
    hue: float | None = option(
        None, "hue turned by up to this part of the circle (colour only)", at_least=0.0, at_most=0.5
    )
    lighting: float | None = option(
        None,
        "PCA colour noise: standard deviation of the three coefficients (colour only)",
        at_least=0.0,
        source="Krizhevsky et al. 2012, sec. 4.1",
    )
    noise: float | None = option(None, "Gaussian noise: standard deviation in parts of the pixel range", at_least=0.0)
    cutout: int | None = option(
        None, "side of a square set to the mean", at_least=0, source="DeVries & Taylor 2017, arXiv:1708.04552"
    )
    mixup: float | None = option(
        None, "mixup: alpha of the beta distribution", at_least=0.0, source="Zhang et al. 2017, arXiv:1710.09412"
    )
    cutmix: float | None = option(
        None, "cutmix: alpha of the beta distribution", at_least=0.0, source="Yun et al. 2019, arXiv:1905.04899"
    )

    def __post_init__(self) -> None:
        check_options(self, "augment")
        for name in ("crop_scale", "crop_ratio", "scale_jitter"):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
                raise UsageError(f"augment.{name} = {list(pair)}: the first must not exceed the second")
