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
VIEWS = ("filters", "maps", "strongest", "field", "codes")
PROJECTIONS = ("pca", "tsne", "umap")
USUAL_PROJECTIONS = ("pca", "tsne")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainOptions:
    """What is asked of a network about an image. Lists are separated by commas."""

    method: tuple[str, ...] | None = option(
        None, f"{', '.join(METHODS)}, or all [{', '.join(USUAL_METHODS)}]", choices=(*METHODS, "all")
    )
    show: tuple[str, ...] | None = option(
        None, f"the network itself instead of the reasons of an answer: {', '.join(VIEWS)}", choices=VIEWS
    )
    layer: str | None = option(
        None,
        "of gradcam, gradcam++, deconvnet, and of what is shown: a place such as conv4_x, or the path of a module [the "
        "deepest one whose maps are 3 by 3 or finer; filters: the first; codes: the last]",
    )
    target: str | None = option(None, "class to ask about, by name or number [the predicted one]")
    unit: int | None = option(
        None, "deconvnet, maps, strongest, field: the map, counted from 0 [deconvnet: the one with the strongest "
        "activation; else all]", at_least=0,
    )  # fmt: skip
    at: tuple[int, int] | None = option(
        None, "field: row and column of the unit [the middle; with --unit where that map is strongest]", at_least=0
    )
    top: int = option(9, "strongest: images of each map", at_least=1, source="Zeiler & Fergus 2013, 1311.2901, fig. 2")
    most: int | None = option(None, "filters, maps, strongest: maps in the figure [64; strongest 16]", at_least=1)
    projection: tuple[str, ...] | None = option(
        None, f"codes: into two dimensions by {', '.join(PROJECTIONS)}, which needs umap-learn "
        f"[{', '.join(USUAL_PROJECTIONS)}]", choices=PROJECTIONS,
    )  # fmt: skip
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
    seed: int = option(0, "smoothgrad, field, codes: of what is drawn at random", at_least=0)

    def __post_init__(self) -> None:
        check_options(self, "explain")
        if self.method is not None and not self.method:
            raise UsageError("explain.method is empty", "leave it out to have the usual ones")
        if self.show is not None and not self.show:
            raise UsageError("explain.show is empty", f"choose from {', '.join(VIEWS)}, or leave it out")

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods to show, each once, in the order asked for."""
        asked = USUAL_METHODS if self.method is None else self.method
        return METHODS if "all" in asked else tuple(dict.fromkeys(asked))

    @property
    def projections(self) -> tuple[str, ...]:
        """The projections to make, each once, in the order asked for."""
        return tuple(dict.fromkeys(self.projection or USUAL_PROJECTIONS))
