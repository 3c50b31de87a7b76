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
VIEWS = ("filters", "maps", "strongest", "field", "codes", "preferred", "evolution")
UNIT_READERS = ("deconvnet", "maps", "strongest", "field", "preferred", "evolution")  # methods and views
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
        "deepest one whose maps are 3 by 3 or finer; filters: the first; codes: the last; preferred: the classes]",
    )
    target: str | None = option(None, "class to ask about, by name or number [the predicted one; preferred: all]")
    unit: int | None = option(
        None, f"{', '.join(UNIT_READERS)}: the map, counted from 0 [deconvnet: the one with the strongest activation; "
        "else all]", at_least=0,
    )  # fmt: skip
    at: tuple[int, int] | None = option(
        None, "field: row and column of the unit [the middle; with --unit where that map is strongest]", at_least=0
    )
    top: int = option(9, "strongest: images of each map", at_least=1, source="Zeiler & Fergus 2013, 1311.2901, fig. 2")
    most: int | None = option(
        None,
        "filters, maps, strongest, preferred: maps or classes in the figure [64; strongest 16; preferred 12]",
        at_least=1,
    )
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
    ascent_steps: int = option(
        256, "preferred: steps of the ascent", at_least=1,
        source="Erhan et al. 2009; Olah et al. 2017, 10.23915/distill.00007",
    )  # fmt: skip
    ascent_rate: float = option(
        0.03, "preferred: its learning rate (Adam), falling to 0 over the second half", above=0.0
    )
    paint: str = option(
        "fourier", "preferred: what is optimised: a spectrum in which all frequencies have the same say, or pixels",
        choices=("fourier", "pixels"), source="Olah et al. 2017, 10.23915/distill.00007, preconditioning",
    )  # fmt: skip
    decorrelate: bool = option(
        True, "preferred: optimise along the principal colours of photos, where there are three channels",
        source="Olah et al. 2017, 10.23915/distill.00007, preconditioning",
    )  # fmt: skip
    jitter: float | None = option(
        None, "preferred: pixels that it is moved by at most in each step [a sixteenth of its side]", at_least=0.0,
        source="Mordvintsev et al. 2015, Inceptionism",
    )  # fmt: skip
    turn: float = option(5.0, "preferred: degrees that it is rotated by at most", at_least=0.0, at_most=180.0)
    zoom: float = option(0.1, "preferred: part by which it is enlarged or reduced at most", at_least=0.0, at_most=0.5)
    variation: float = option(
        0.1, "preferred: weight of its total variation, against a gradient of deviation 1", at_least=0.0,
        source="Mahendran & Vedaldi 2015, 1412.0035",
    )  # fmt: skip
    decay: float = option(
        0.25, "preferred: weight decay of what is painted, times the learning rate: what does not matter goes back to "
        "the mean colour", at_least=0.0, source="Simonyan et al. 2013, 1312.6034, sec. 2",
    )  # fmt: skip
    smooth: float = option(
        0.0, "preferred: deviation in pixels of a blur after each step, falling to 0", at_least=0.0,
        source="Yosinski et al. 2015, 1506.06579",
    )  # fmt: skip
    goal: str = option(
        "map", "preferred: of a layer with maps: the mean of a map, or the unit in its middle", choices=("map", "unit")
    )
    seed: int = option(0, "smoothgrad, field, codes, preferred: of what is drawn at random", at_least=0)

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

    def check_unit_is_read(self) -> None:
        """Whether anything that is asked for looks at `unit`, if that is given.

        Raises:
            UsageError: nothing does.
        """
        asked = self.methods if self.show is None else self.show
        if self.unit is not None and not set(asked) & set(UNIT_READERS):
            raise UsageError(
                f"{', '.join(asked)} look at no single map, so that unit {self.unit} means nothing",
                f"a unit is for {', '.join(UNIT_READERS)}: ask for one of them, or leave it out",
            )

    @property
    def projections(self) -> tuple[str, ...]:
        """The projections to make, each once, in the order asked for."""
        return tuple(dict.fromkeys(self.projection or USUAL_PROJECTIONS))
