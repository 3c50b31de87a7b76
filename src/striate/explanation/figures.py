"""Maps as figures, and figures as files: perceptually uniform colours that colour-blind people can tell apart.

viridis from 0 up, a red to blue that meets in white where the sign matters, and grey for 0 in reconstructions. Figures
are made without pyplot: nothing is kept open, and no window system is asked for.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.errors import UsageError
from striate.explanation.attribution import METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from striate.explanation.result import Explanation
    from striate.spec import InputSpec

HEAT, SIGNED, STRENGTH, GREY = "viridis", "RdBu_r", "magma", "gray"
FORMATS = ("png", "svg")
_PANEL, _GAP = 2.9, 0.16  # inches: the width of a panel, and what is beside it
_COLUMNS = 5  # panels in a row
_ABOVE, _BELOW = 0.42, 0.64  # inches: for the title, for the colour bar or the classes that come next
_DPI = 120
_ROBUST = 99.0  # percentile of what is shown at full strength: single pixels would leave the others dark
_ALPHA = 0.62  # of a map that lies over the image


def side_by_side(explanations: Sequence[Explanation]) -> Figure:
    """The image of `explanations`, which are all of it, and next to it their maps, each with its legend.

    Raises:
        UsageError: none given, or of several images.
    """
    if not explanations or any(one.path != explanations[0].path for one in explanations):
        raise UsageError("a figure shows the explanations of one image", "make one for each image")
    first = explanations[0]
    figure, panels = panels_for(len(explanations) + 1, first.image.shape[0] / first.image.shape[1])
    show_image(panels[0], first.image)
    panels[0].set_title(_answer(first), fontsize=9, loc="left")
    panels[0].set_xlabel(_ranks(first), fontsize=7.5, loc="left", linespacing=1.35)
    for panel, one in zip(panels[1:], explanations, strict=True):
        show_map(panel, one)
    return figure


def panels_for(count: int, aspect: float = 1.0) -> tuple[Figure, list[Axes]]:
    """A figure with `count` equal panels of `aspect` (height by width), filled row by row.

    Above each is room for a title of two lines, below each for a colour bar.
    """
    from matplotlib.figure import Figure

    rows = -(-count // _COLUMNS)
    columns = -(-count // rows)
    tall = _ABOVE + _PANEL * aspect + _BELOW
    width, height = columns * (_PANEL + _GAP) + _GAP, rows * tall
    figure = Figure(figsize=(width, height), dpi=_DPI)
    panels = []
    for place in range(count):
        row, column = divmod(place, columns)
        left, bottom = _GAP + column * (_PANEL + _GAP), height - row * tall - _ABOVE - _PANEL * aspect
        panels.append(figure.add_axes((left / width, bottom / height, _PANEL / width, _PANEL * aspect / height)))
    return figure, panels


def show_image(axes: Axes, image: np.ndarray) -> None:
    """An image [H, W, C] from 0 to 1; small ones with their pixels as squares."""
    _bare(axes)
    axes.imshow(image[..., 0] if image.shape[2] != 3 else image, cmap=GREY, vmin=0, vmax=1, interpolation="nearest")


def show_map(axes: Axes, one: Explanation) -> None:
    """One map with its title and colour bar."""
    method = METHODS[one.method]
    _bare(axes)
    if method.shown == "pixels":
        drawn = _draw_pixels(axes, one.map)
    elif method.shown == "signed":
        top = _top(np.abs(one.flat))
        _draw_ground(axes, one.image)
        drawn = axes.imshow(one.flat, cmap=SIGNED, vmin=-top, vmax=top, alpha=_ALPHA + 0.18, interpolation="nearest")
    elif method.shown == "heat":
        _draw_ground(axes, one.image)
        drawn = axes.imshow(one.flat, cmap=HEAT, vmin=0, vmax=_top(one.flat), alpha=_ALPHA, interpolation="nearest")
    else:
        drawn = axes.imshow(one.flat, cmap=STRENGTH, vmin=0, vmax=_top(one.flat), interpolation="nearest")
    axes.set_title(_wrapped(one), fontsize=9, loc="left")
    _bar(axes, drawn, method.legend)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write `figure` as PNG or SVG, by the ending of `path`; the same figure gives the same bytes.

    Raises:
        UsageError: another ending.
    """
    from matplotlib import rc_context

    kind = path.suffix[1:].lower()
    if kind not in FORMATS:
        raise UsageError(f"{path}: figures are saved as {' or '.join(FORMATS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "striate"}):
        figure.savefig(path, format=kind, metadata=metadata)
    return path


def data_uri(figure: Figure, *, dpi: int = _DPI) -> str:
    """`figure` as a PNG that a page holds itself."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def heat_over(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A map [H, W] from 0 up over an image [H, W, C] from 0 to 1, as `show_map` draws it: uint8 [H, W, 3]."""
    from matplotlib import colormaps

    colours = colormaps[HEAT](np.clip(heat / _top(heat), 0, 1))[..., :3]
    mixed = (1 - _ALPHA) * image.mean(2, keepdims=True) + _ALPHA * colours
    return (mixed * 255).round().astype(np.uint8)


def in_rgb(signals: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Signals or kernels [..., C, H, W] in the order of channels that the network is fed, with their colours as RGB."""
    return signals[..., ::-1, :, :] if spec.reverses_channels and signals.shape[-3] == 3 else signals


def as_pixels(signed: np.ndarray) -> np.ndarray:
    """A reconstruction [C, H, W] around 0 as a picture [H, W, C] from 0 to 1, in which grey is 0."""
    return np.clip(0.5 + signed.transpose(1, 2, 0) / (2 * _top(np.abs(signed))), 0, 1)


def _answer(one: Explanation) -> str:
    """Two lines above the image: the answer, and what else one has to know of it."""
    best = one.prediction.labels[0]
    more = " "
    if one.target != best.label:
        more = f"asked: {_short(one.target)}  {one.probability:.1%}"
    elif one.truth is not None and one.truth != best.label:
        more = f"is: {_short(one.truth)}"
    return f"{_short(best.label)}  {best.probability:.1%}\n{more}"


def _ranks(one: Explanation) -> str:
    """The classes that come next, below the image."""
    return "\n".join(f"{label.probability:.1%}  {_short(label.label)}" for label in one.prediction.labels[1:4])


def _short(label: str, most: int = 32) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"


def _wrapped(one: Explanation) -> str:
    """Two lines: the method, and the layer and map where it has them."""
    head, _, tail = one.title.partition(" · ")
    return f"{head}\n{tail or ' '}"


def _draw_ground(axes: Axes, image: np.ndarray) -> None:
    """The image in grey below a map, so that every colour is the map's."""
    axes.imshow(image.mean(2), cmap=GREY, vmin=0, vmax=1, interpolation="nearest")


def _draw_pixels(axes: Axes, signed: np.ndarray) -> Any:
    top = _top(np.abs(signed))
    if signed.shape[0] != 3:
        return axes.imshow(signed.mean(0), cmap=GREY, vmin=-top, vmax=top, interpolation="nearest")
    axes.imshow(as_pixels(signed), interpolation="nearest")
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(-top, top), cmap=GREY)


def _bar(axes: Axes, drawn: Any, legend: str) -> None:
    """A colour bar of its own below the panel, which keeps its size."""
    figure = axes.get_figure()
    assert figure is not None
    high = axes.get_window_extent().height / figure.dpi  # inches
    place = axes.inset_axes((0.0, -0.2 / high, 1.0, 0.1 / high))
    bar = figure.colorbar(drawn, cax=place, orientation="horizontal")
    if bar.solids is not None:
        bar.solids.set_alpha(1)
    from matplotlib.ticker import MaxNLocator

    low, high = sorted(drawn.get_clim())
    span = (high - low) or 1.0
    bar.set_ticks([tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high])
    place.tick_params(labelsize=7, length=2)
    for tick, text in zip(bar.get_ticks(), place.get_xticklabels(), strict=True):  # none reaches into the next panel
        at = (tick - low) / span
        text.set_horizontalalignment("left" if at < 0.05 else "right" if at > 0.95 else "center")
    bar.set_label(legend, fontsize=7.5)
    for spine in place.spines.values():
        spine.set_visible(False)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _top(values: np.ndarray) -> float:
    """What is drawn at full strength; never 0."""
    return float(np.percentile(values, _ROBUST)) or float(values.max()) or 1.0
