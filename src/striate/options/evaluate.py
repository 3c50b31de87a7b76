"""The options of scoring, which `striate train` (for its final scores) and `striate evaluate` share."""

from __future__ import annotations

from dataclasses import dataclass

from striate.options.declare import check_options, option


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOptions:
    """How a trained network is scored; validation during the training always looks once."""

    views: str = option(
        "single",
        "look at every image once, or average the answers to several views: with its mirror image (flip), also moved "
        "both ways along the diagonal (flip+shift); corners, centre and mirror images of a larger version (ten-crop), "
        "of five sizes (multi-scale), of three squares in four sizes (144-crop); the whole of three sizes, the network "
        "run as a convolution (dense); the protocol of the scores says so",
        choices=("single", "flip", "flip+shift", "ten-crop", "multi-scale", "144-crop", "dense"),
        source="Krizhevsky et al. 2012, sec. 4.1; He et al. 2015, 1512.03385, sec. 3.4; Szegedy et al. 2014, "
        "1409.4842, sec. 7; Simonyan & Zisserman 2014, 1409.1556, sec. 3.2; Jordan 2024, arXiv:2404.00498, sec. 3.5",
    )

    def __post_init__(self) -> None:
        check_options(self, "evaluate")
