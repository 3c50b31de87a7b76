"""The options of `striate explain`, which no recipe holds: what is asked of a network about an image."""

from __future__ import annotations

from dataclasses import dataclass

from striate.errors import UsageError
from striate.options.declare import check_options, option

METHODS = (
    "gradcam",
    "gradcam++",
    "gradient",
    "smoothgrad",
    "integrated-gradients",
    "guided-backprop",
    "deconvnet",
    "occlusion",
)
USUAL_METHODS = ("gradcam", "guided-backprop", "occlusion")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainOptions:
    """What is asked of a network about an image. Lists are separated by commas."""

    method: tuple[str, ...] | None = option(
        None, f"{', '.join(METHODS)}, or all [{', '.join(USUAL_METHODS)}]", choices=(*METHODS, "all")
    )
    layer: str | None = option(
        None,
        "of gradcam, gradcam++ and deconvnet: a place such as conv4_x, or the path of a module [the deepest one whose "
        "maps are 3 by 3 or finer]",
    )
    target: str | None = option(None, "class to ask about, by name or number [the predicted one]")
    unit: int | None = option(
        None, "deconvnet: the map, counted from 0 [the one with the strongest activation]", at_least=0
    )
    samples: int = option(
        25, "smoothgrad: noisy copies whose gradients are averaged", at_least=1, source="Smilkov 2017, 1706.03825"
    )
    noise: float = option(
        0.15, "smoothgrad: deviation of the noise, as part of the image's range", at_least=0.0,
        source="Smilkov 2017, 1706.03825, fig. 3",
    )  # fmt: skip
    steps: int = option(
        50, "integrated-gradients: steps from black to the image", at_least=1,
        source="Sundararajan et al. 2017, 1703.01365, sec. 5",
    )  # fmt: skip
    window: int | None = option(None, "occlusion: side of the grey square in pixels [a sixth of the image]", at_least=1)
    stride: int | None = option(None, "occlusion: pixels that the square moves by [half its side]", at_least=1)
    seed: int = option(0, "smoothgrad: of the noise", at_least=0)

    def __post_init__(self) -> None:
        check_options(self, "explain")
        if self.method is not None and not self.method:
            raise UsageError("explain.method is empty", "leave it out to have the usual ones")

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods to show, each once, in the order asked for."""
        asked = USUAL_METHODS if self.method is None else self.method
        return METHODS if "all" in asked else tuple(dict.fromkeys(asked))
