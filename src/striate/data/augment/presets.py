"""Starting points: what `augment.preset` fills in where an option is not given."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from striate.data.augment.boxes import CROP_RATIO
from striate.options import AugmentOptions

LARGEST_SMALL_SIDE = 96

# What "off" is for every option that has a number for it; the three ranges stay None.
OFF: dict[str, Any] = {
    "shift": 0,
    "flip": 0.0,
    "rotate": 0.0,
    "zoom": 0.0,
    "shear": 0.0,
    "translate": 0.0,
    "elastic": 0.0,
    "elastic_sigma": 4.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "lighting": 0.0,
    "noise": 0.0,
    "cutout": 0,
    "mixup": 0.0,
    "cutmix": 0.0,
}


def resolve_augment(
    options: AugmentOptions, *, channels: int, size: tuple[int, int], kind: str, digits: bool
) -> AugmentOptions:
    """The options with the preset applied where nothing was given; the result resolves to itself.

    What stays None is off: `crop_scale` (also where it is given as 1,1), `crop_ratio` without it, `scale_jitter`.

    Args:
        channels: of the network's input.
        size: height and width of the network's input in pixels.
        kind: "tensor" or "photos", the data set's.
        digits: the classes are digits or letters, whose mirror images are not of their class; auto never flips them.
    """
    name = options.preset
    if name == "auto":
        name = auto_preset(size=size, kind=kind, digits=digits)
    values = OFF | preset_values(name, channels=channels, size=size)
    if options.preset == "auto" and digits:
        values["flip"] = 0.0
    if options.scale_jitter:  # the two ways of cropping exclude each other
        values.pop("crop_scale", None)
    given = {item.name: getattr(options, item.name) for item in fields(options)}
    values |= {key: value for key, value in given.items() if value is not None}
    if values.get("crop_scale") == (1.0, 1.0):
        values["crop_scale"] = None
    if values.get("crop_scale"):
        values.setdefault("crop_ratio", CROP_RATIO)
    return replace(options, **(values | {"preset": "none"}))


def auto_preset(*, size: tuple[int, int], kind: str, digits: bool) -> str:
    """The preset that suits the data: small digits and letters, other small images, or photos (files, or large)."""
    if max(size) > LARGEST_SMALL_SIDE or (kind == "photos" and not digits):
        return "photos"
    return "digits" if digits else "small"


def preset_values(name: str, *, channels: int, size: tuple[int, int]) -> dict[str, Any]:
    """What a preset switches on.

    - digits: a shift of side / 14 (2 pixels at 28), turns up to 10 degrees, 10 % zoom; never mirrored.
    - small: a shift of side / 8 (4 pixels at 32) and mirroring, as He et al. 2015, sec. 4.2.
    - photos: random resized crops of 35 to 100 % of the area, mirroring, mild changes of brightness, contrast and, in
      colour, saturation. Szegedy et al. 2014 keep 8 % and more; small sets and short trainings want less.
    """
    side = min(size)
    if name == "digits":
        return {"shift": max(1, round(side / 14)), "rotate": 10.0, "zoom": 0.1}
    if name == "small":
        return {"shift": max(1, round(side / 8)), "flip": 0.5}
    if name == "photos":
        colour = {"saturation": 0.2} if channels == 3 else {}
        return {"crop_scale": (0.35, 1.0), "flip": 0.5, "brightness": 0.2, "contrast": 0.2, **colour}
    return {}
