"""The views by name: how many passes each image takes, at what sizes, and what a record says of them."""

from __future__ import annotations

from striate.errors import UnknownNameError
from striate.spec import InputSpec

VIEWS: dict[str, int] = {  # passes of each image; of dense, whose passes are larger, about as many in their cost
    "single": 1,
    "flip": 2,
    "flip+shift": 6,
    "ten-crop": 10,
    "multi-scale": 50,
    "144-crop": 144,
    "dense": 20,
}
USUAL = 224  # the papers' input side, in pixels, for which the short sides below are theirs
TEN_CROP_SIDE = 256  # Krizhevsky et al. 2012, sec. 4.1
SHORT_SIDES: dict[str, tuple[int, ...]] = {
    "multi-scale": (224, 256, 384, 480, 640),  # He et al. 2015, 1512.03385, sec. 3.4
    "144-crop": (256, 288, 320, 352),  # Szegedy et al. 2014, 1409.4842, sec. 7
    "dense": (256, 384, 512),  # Simonyan & Zisserman 2014, 1409.1556, sec. 4.2
}
_FITTED = {
    "single": "single-crop",
    "flip": "2 views averaged: the image and its mirror image",
    "flip+shift": "6 views averaged: the image, shifted both ways along the diagonal, and their mirror images",
}


def passes_of(views: str) -> int:
    """How often each image goes through the network.

    Raises:
        UnknownNameError: views that are not in `VIEWS`.
    """
    if views not in VIEWS:
        raise UnknownNameError("views", views, VIEWS)
    return VIEWS[views]


def takes_any_size(views: str) -> bool:
    """Whether the network is given more than its own input size, which only torch does."""
    return views == "dense"


def least_sizes(views: str, spec: InputSpec) -> list[tuple[int, int]]:
    """The sizes (height, width) that the larger versions of an image just cover, smallest first; [] for fitted views.

    The papers' short sides are those of networks for 224 pixels; for other networks they grow or shrink with the input.
    Ten crops are taken from what the network's own resize rule makes of the image before it crops, where it does.
    """
    if views == "ten-crop" and spec.resize == "crop" and spec.crop_fraction < 1:
        return [_times(spec, 1 / spec.crop_fraction)]
    sides = (TEN_CROP_SIDE,) if views == "ten-crop" else SHORT_SIDES.get(views, ())
    return [_times(spec, side / USUAL) for side in sides]


def in_words(views: str, spec: InputSpec, *, averaged: str, pooled: bool = False) -> str:
    """What is averaged, for records and captions.

    Args:
        views: a name in `VIEWS`.
        spec: what the network is fed.
        averaged: `probabilities`, or `outputs` of networks whose outputs are no logits of a softmax.
        pooled: for dense views, whether the head pools whole maps.
    """
    if views in _FITTED:
        return _FITTED[views]
    sizes, square = least_sizes(views, spec), spec.size[0] == spec.size[1]
    at = ", ".join(str(min(one)) if square else f"{one[0]}x{one[1]}" for one in sizes)
    if spec.resize == "crop":
        source = f"short side{'s' * (len(sizes) > 1)} {at}" if square else f"sizes just covering {at}"
    else:
        source = f"{spec.resize} to {at}"
    crop = f"{spec.size[0]}x{spec.size[1]}"
    parts = {
        "ten-crop": f"10 crops of {crop} from the middle of the image ({source})",
        "multi-scale": f"50 crops of {crop} from the image ({source})",
        "144-crop": f"144 crops of {crop} from three squares of the image ({source})",
    }
    if views in parts:
        whole = ", the whole square" if views == "144-crop" else ""
        return f"{parts[views]}: corners, centre{whole} and mirror images, {averaged} averaged"
    head = "its head pooling whole maps" if pooled else "its head slid over the maps and averaged over places"
    return f"dense: the whole image and its mirror image ({source}), {head}, {averaged} averaged"


def _times(spec: InputSpec, factor: float) -> tuple[int, int]:
    height, width = (max(side, round(side * factor)) for side in spec.size)
    return height, width
