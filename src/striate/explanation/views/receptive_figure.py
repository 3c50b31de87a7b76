"""The figure of a receptive field: on the image, as a gradient, and layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from striate.explanation.figures import GREY, HEAT
from striate.explanation.views.canvas import BEYOND, FAINT, INK, MARGIN, NORMAL, SMALL, Canvas
from striate.explanation.views.reading import flat_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from striate.explanation.views.receptive import ReceptiveField, Step

_PANEL, _TOP = 3.3, 0.85  # inches
_MOST_STEPS = 40  # rows of the chart
_BEYOND = 0.75  # of a side: how much of what lies beyond the image is shown at most
_THEORY, _EFFECT = "#aa3377", "#ee7733"


def draw_field(view: ReceptiveField) -> Figure:
    """Panels: the field on the image with those of the layers before; the effective field; growth."""
    steps = _thinned(view.steps)
    labels = [f"{_short(one.layer)}  {one.op}" for one in steps]
    room = 0.055 * max((len(label) for label in labels), default=10) + 0.15
    panel_high = _PANEL * view.image.shape[0] / view.image.shape[1]
    high = max(2 * panel_high + 1.55, 0.185 * len(steps) + 1.2)
    left = _PANEL + 2.5 * MARGIN + room
    canvas = Canvas(left + 3.7 + MARGIN, _TOP + high)
    canvas.title(f"{view.network} · {view.layer}".lstrip(" ·"), _about(view))
    _on_image(canvas, view, panel_high)
    _gradient(canvas, view, panel_high)
    _growth(canvas.axes(left, _TOP + 0.45, 3.6, high - 1.0), view, steps, labels)
    return canvas.figure


def _on_image(canvas: Canvas, view: ReceptiveField, high: float) -> None:
    """The field of the unit, and those of the layers on the way to it, around the same place."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    axes = _bare(canvas, view, _TOP + 0.25, high)
    rows, columns = view.image.shape[:2]
    axes.imshow(flat_image(view.image), cmap=GREY, vmin=0, vmax=1, interpolation="nearest")
    axes.set_facecolor(BEYOND)
    seen = view.theoretical or view.exact
    beyond = "; blue-grey: beyond the image" if seen != view.exact else ""
    canvas.text(f"theoretical field, and of the layers before{beyond}", MARGIN, _TOP, NORMAL)
    middle = (seen[2] + seen[3]) / 2, (seen[0] + seen[1]) / 2
    own = seen[1] - seen[0] + 1
    before = sorted({size for size, _ in view.sizes.values() if size < own})
    colours = colormaps["cividis"](np.linspace(0.95, 0.25, max(len(before), 1)))
    for size, colour in zip(before, colours, strict=False):
        corner = middle[0] - size / 2, middle[1] - size / 2
        axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor="white", linewidth=2.0, alpha=0.55))
        axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=colour, linewidth=1.1))
    _outline(axes, seen, "white", 3.0, "solid")
    _outline(axes, seen, _THEORY, 1.8, "solid")
    axes.plot(*middle, marker="+", color=_THEORY, markersize=7, markeredgewidth=1.6)
    (left, right), (low, up) = _limits(seen[2], seen[3], columns), _limits(seen[0], seen[1], rows)
    axes.set_xlim(left, right)
    axes.set_ylim(up, low)
    if seen[2] < left or seen[3] > right or seen[0] < low or seen[1] > up:
        words = "the field is larger than what is drawn"
        axes.text(0.5, 0.02, words, fontsize=SMALL, color=INK, ha="center", va="bottom", transform=axes.transAxes)


def _gradient(canvas: Canvas, view: ReceptiveField, high: float) -> None:
    top = _TOP + high + 0.6
    size = view.effective_size
    words = f"about {size:.0f} pixels a side" if size else "none, the unit is silent"
    canvas.text(f"effective field: {words}", MARGIN, top, NORMAL)
    axes = _bare(canvas, view, top + 0.25, high)
    peak = float(view.effective.max()) or 1.0
    drawn = axes.imshow(view.effective / peak, cmap=HEAT, vmin=0, vmax=1, interpolation="nearest")
    seen = view.theoretical or view.exact
    _outline(axes, seen, "white", 1.4, "dashed")
    axes.set_xlim(-0.5, view.image.shape[1] - 0.5)
    axes.set_ylim(view.image.shape[0] - 0.5, -0.5)
    images = f"mean of {view.averaged} images" if view.averaged > 1 else "of this image"
    canvas.bar(drawn, f"gradient by its largest, {images}", MARGIN, top + 0.32 + high, _PANEL)


def _growth(axes: Axes, view: ReceptiveField, steps: tuple[Step, ...], labels: list[str]) -> None:
    """Layers from top to bottom; theory by layer, effect by place."""
    sizes = [one.size for one in steps]
    axes.plot(sizes, range(len(steps)), color=_THEORY, marker="o", markersize=3.5, linewidth=1.5, label="theoretical")
    places = [(effective, _row(sizes, size)) for size, effective in view.sizes.values() if effective]
    if places:
        axes.plot(
            *zip(*places, strict=True), color=_EFFECT, marker="s", markersize=3.5, linewidth=1.2, label="effective"
        )
    side = max(view.image.shape[:2])
    most = max([*sizes, side, *(effective for effective, _ in places)])
    axes.axvline(side, color=FAINT, linestyle=":", linewidth=1)
    axes.text(side, -0.75, f" image {side} ", fontsize=SMALL, color=FAINT, ha="left")
    apart = 1.0
    for row, one in enumerate(steps):
        moved = one.stride is not None and one.stride > apart
        apart = max(apart, one.stride or apart)
        words = f"{one.size}" + (f"   step {one.stride:g}" if moved else "")
        axes.annotate(
            words, (one.size, row), xytext=(6, 0), textcoords="offset points", fontsize=SMALL - 0.5, color=INK,
            va="center",
        )  # fmt: skip
    axes.set_yticks(range(len(steps)), labels, fontsize=SMALL)
    axes.set_ylim(len(steps) - 0.4, -1.1)
    axes.set_xlim(0, 1.25 * most)  # room for the words
    axes.set_xlabel("pixels a side; step: pixels between neighbouring units", fontsize=SMALL + 0.5)
    axes.grid(axis="x", color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(
        fontsize=SMALL, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.1,
    )  # fmt: skip


def _bare(canvas: Canvas, view: ReceptiveField, top: float, high: float) -> Axes:
    axes = canvas.axes(MARGIN, top, _PANEL, high)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _outline(axes: Axes, seen: tuple[int, int, int, int], colour: str, width: float, style: Any) -> None:
    from matplotlib.patches import Rectangle

    top, bottom, left, right = seen
    corner = left - 0.5, top - 0.5
    axes.add_patch(
        Rectangle(
            corner, right - left + 1, bottom - top + 1, fill=False, edgecolor=colour, linewidth=width, linestyle=style
        )
    )


def _limits(first: int, last: int, side: int) -> tuple[float, float]:
    """The whole side, and what is seen beyond it up to a part of it."""
    margin = _BEYOND * side
    return max(min(first - 0.03 * side, -0.5), -margin), min(max(last + 0.03 * side, side - 0.5), side + margin)


def _row(sizes: list[int], size: int) -> int:
    """The row at which the field becomes as large."""
    return next((row for row, one in enumerate(sizes) if one >= size), max(len(sizes) - 1, 0))


def _thinned(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """As many as can be read, the first and the last among them."""
    if len(steps) <= _MOST_STEPS:
        return steps
    kept = np.unique(np.linspace(0, len(steps) - 1, _MOST_STEPS).round().astype(int))
    return tuple(steps[row] for row in kept)


def _short(path: str) -> str:
    words = [part for part in path.split(".") if part not in ("stages", "conv", "features")]
    return ".".join(words[-3:]) or path


def _about(view: ReceptiveField) -> str:
    seen = view.theoretical
    size = f"{seen[1] - seen[0] + 1} by {seen[3] - seen[2] + 1} pixels in theory" if seen else "no theoretical size"
    which = "all maps" if view.unit is None else f"map {view.unit}"
    return f"{which} at row {view.at[0]}, column {view.at[1]}: {size}"
