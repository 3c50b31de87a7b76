"""Pictures: one network layer by layer, and the accuracy of many over their operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.anatomy.folding import folded_to
from striate.anatomy.table import Anatomy
from striate.errors import UsageError

_ROWS = 44
_BLUE, _ORANGE, _GREEN, _PURPLE, _GREY = "#4477aa", "#ee7733", "#228833", "#aa3377", "#888888"
# For families, told apart also by readers with colour-vision deficiencies as far as so many can be.
_COLOURS = (
    *("#1f77b4", "#e377c2", "#2ca02c", "#b8860b", "#17becf", "#9467bd", "#ff7f0e", "#d62728", "#393b79", "#637939"),
    *("#8c564b", "#008b8b", "#7b4173", "#3c78d8", "#e6550d", "#756bb1", "#636363"),
)


def draw_anatomy(found: Anatomy, path: Path) -> None:
    """Parameters, multiply-accumulates, activation memory and receptive field of every layer, top to bottom.

    Raises:
        UsageError: neither a PNG nor an SVG file.
    """
    rows = folded_to([layer.to_dict() for layer in found.layers], _ROWS)
    figure = figure_for((13, 1.9 + 0.24 * len(rows)), path)
    panels = figure.subplots(1, 4, sharey=True)
    places = range(len(rows))
    draws = (
        ("parameters", "params", _BLUE),
        ("multiply-accumulates", "macs", _ORANGE),
        ("activations, bytes (fp32)", "activation_bytes", _GREEN),
    )
    for panel, (title, key, colour) in zip(panels, draws, strict=False):
        values = [row[key] for row in rows]
        panel.barh(places, values, color=colour, height=0.72)
        total = sum(values)
        panel.set_title(f"{title}\n{_short(total)} in all", fontsize=10)
        panel.set_xlim(0, 1.28 * max(values, default=1) or 1)
        for place, value in zip(places, values, strict=True):
            if total and value / total >= 0.005:
                panel.text(value, place, f" {_short(value)}", va="center", fontsize=7, color="#333333")
        panel.xaxis.set_major_formatter(lambda value, _place: _short(value))
    fields = panels[3]
    known = [(row["receptive_field"], place) for row, place in zip(rows, places, strict=True) if row["receptive_field"]]
    if known:
        fields.plot(*zip(*known, strict=True), color=_PURPLE, marker="o", markersize=3.5, linewidth=1.5)
        side = max(found.input[1:])
        fields.axvline(side, color=_GREY, linestyle=":", linewidth=1)
        fields.text(side, -0.9, f" image {side}", fontsize=7, color=_GREY, va="center")
    size = f"{found.receptive_field} of the last maps" if found.receptive_field else "theoretical"
    fields.set_title(f"receptive field, pixels\n{size}", fontsize=10)
    fields.set_xlim(left=0)
    panels[0].set_yticks(places, [f"{row['name']}  {row['op']}" for row in rows], fontsize=7)
    panels[0].set_ylim(len(rows) - 0.4, -1.4)
    for panel in panels:
        panel.grid(axis="x", color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.tick_params(axis="x", labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{found.model}, input {'x'.join(map(str, found.input))}", fontsize=13)
    save_figure(figure, path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bubble:
    """A network in the chart: operations, accuracy (0 to 1), parameters; `own` for a score measured here."""

    name: str
    family: str
    macs: int
    accuracy: float
    params: int
    protocol: str
    own: bool = False


def draw_chart(bubbles: Sequence[Bubble], path: Path, *, dataset: str) -> None:
    """Top-1 accuracy over multiply-accumulates; area by parameters, colour by family, marker by protocol.

    Raises:
        UsageError: nothing to draw, or neither a PNG nor an SVG file.
    """
    if not bubbles:
        raise UsageError("no network here has a score to draw", "`striate models` shows the published ones")
    figure = figure_for((13, 8.5), path)
    panel = figure.subplots()
    families = list(dict.fromkeys(bubble.family for bubble in bubbles))
    colours = {family: _COLOURS[i % len(_COLOURS)] for i, family in enumerate(families)}
    most = max(bubble.params for bubble in bubbles)

    def area(params: float) -> float:
        return 30 + 900 * params / most

    for bubble in sorted(bubbles, key=lambda one: -one.params):
        panel.scatter(
            bubble.macs,
            100 * bubble.accuracy,
            s=area(bubble.params),
            marker=_marker(bubble),
            color=colours[bubble.family],
            alpha=0.95 if bubble.own else 0.55,
            edgecolors="black" if bubble.own else "white",
            linewidths=1.6 if bubble.own else 0.8,
            zorder=3 if bubble.own else 2,
        )
    panel.set_xscale("log")
    panel.set_xlabel("multiply-accumulates of one image")
    panel.set_ylabel(f"top-1 accuracy, per cent ({dataset})")
    panel.margins(0.08)
    _operations_axis(panel)
    panel.grid(color="#e4e4e4", linewidth=0.6, which="both")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    _legends(panel, bubbles, colours, most, area)
    figure.canvas.draw()
    _label(figure, panel, bubbles, area)
    save_figure(figure, path)


def _operations_axis(panel: Any) -> None:
    """Counts with their unit; between the powers of ten only where there is room."""
    from matplotlib.ticker import NullFormatter

    least, most = panel.get_xlim()
    panel.xaxis.set_major_formatter(lambda value, _place: _short(value))
    few = most / least < 30

    def between(value: float, _place: int) -> str:
        return _short(value) if f"{value:e}"[0] in "25" else ""

    panel.xaxis.set_minor_formatter(between if few else NullFormatter())


# Protocols: marker, and what the legend calls it.
_ONE, _TEN, _OTHER, _OWN = (
    ("o", "one crop, or the whole image"),
    ("s", "ten crops"),
    ("D", "more crops, scales or networks"),
    ("*", "measured here"),
)


def _marker(bubble: Bubble) -> str:
    if bubble.own:
        return _OWN[0]
    protocol = bubble.protocol
    if "network" in protocol or any(word in protocol for word in ("dense", "scales", "fully convolutional")):
        return _OTHER[0]
    if protocol.startswith("10 crops"):
        return _TEN[0]
    single = protocol.startswith("1 crop") or "crops" not in protocol
    return _ONE[0] if single else _OTHER[0]


def _legends(
    panel: Any, bubbles: Sequence[Bubble], colours: dict[str, str], most: int, area: Callable[[float], float]
) -> None:
    """Families, protocols and sizes, beside the chart."""
    used = {_marker(bubble) for bubble in bubbles}
    words = dict([_ONE, _TEN, _OTHER, _OWN])
    heading: dict[str, Any] = {"linestyle": "none", "marker": "none"}
    from matplotlib.lines import Line2D

    rows = [Line2D([], [], label="family", **heading)]
    rows += [Line2D([], [], ls="none", marker="o", ms=7, color=colour, label=name) for name, colour in colours.items()]
    rows += [Line2D([], [], label=" ", **heading), Line2D([], [], label="protocol", **heading)]
    rows += [
        Line2D([], [], ls="none", marker=mark, ms=7, color="#777777", label=word)
        for mark, word in words.items()
        if mark in used
    ]
    rows += [Line2D([], [], label=" ", **heading), Line2D([], [], label="parameters", **heading)]
    for share in (0.5, 0.2, 0.05):
        side = area(share * most) ** 0.5
        rows.append(Line2D([], [], ls="none", marker="o", ms=side, color="#bbbbbb", label=_short(share * most)))
    panel.legend(
        handles=rows,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize=8,
        labelspacing=0.9,
        handletextpad=1.6,
    )


def _label(figure: Any, panel: Any, bubbles: Sequence[Bubble], area: Callable[[float], float]) -> None:
    """A name beside every bubble where there is room for it; networks drawn at one place share the first's."""
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 72
    centres = [panel.transData.transform((bubble.macs, 100 * bubble.accuracy)) for bubble in bubbles]
    taken: list[tuple[float, float, float, float]] = []
    for (x, y), bubble in zip(centres, bubbles, strict=True):
        reach = min(area(bubble.params) ** 0.5 / 2, 5) * scale
        taken.append((x - reach, y - reach, x + reach, y + reach))
    inside = panel.get_window_extent(renderer)
    order = sorted(range(len(bubbles)), key=lambda i: (not bubbles[i].own, -bubbles[i].accuracy))
    seen: list[tuple[float, float]] = []
    for i in order:
        (x, y), bubble = centres[i], bubbles[i]
        if any(abs(x - a) < 2 and abs(y - b) < 2 for a, b in seen) and not bubble.own:
            continue
        seen.append((x, y))
        reach = area(bubble.params) ** 0.5 / 2 + 2
        spots = [(s * (reach + away), t, side) for away in (0, 8, 22, 40) for s, side in ((1, "left"), (-1, "right"))
                 for t in (0, reach, -reach, 2 * reach + 6, -2 * reach - 6)]  # fmt: skip
        for dx, dy, align in spots:
            note = panel.annotate(
                bubble.name,
                (bubble.macs, 100 * bubble.accuracy),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=align,
                va="center",
                fontsize=7,
                color="#222222",
                arrowprops={"arrowstyle": "-", "color": "#aaaaaa", "lw": 0.5}
                if abs(dx) + abs(dy) > reach + 9
                else None,
            )
            box = note.get_window_extent(renderer) if note.arrow_patch is None else _text_box(note, renderer)
            mine = (box.x0, box.y0, box.x1, box.y1)
            free = box.x0 > inside.x0 and box.x1 < inside.x1 and box.y0 > inside.y0 and box.y1 < inside.y1
            if free and not any(_overlap(mine, other) for j, other in enumerate(taken) if j != i):
                taken.append(mine)
                break
            note.remove()


def _text_box(note: Any, renderer: Any) -> Any:
    from matplotlib.text import Text

    note.update_positions(renderer)
    return Text.get_window_extent(note, renderer)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def figure_for(size: tuple[float, float], path: Path) -> Any:
    """A matplotlib figure of that size in inches, to be saved at `path`.

    Raises:
        UsageError: neither a PNG nor an SVG file.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"{path}: a picture is a PNG or an SVG file", "let its name end in .png or .svg")
    # Without pyplot, which would choose a window system: nothing global changes.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure; the same figure gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "striate"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def _short(count: float) -> str:
    """Three digits and a unit: 4.1M."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= factor:
            return f"{count / factor:.3g}{unit}"
    return f"{count:.3g}"
