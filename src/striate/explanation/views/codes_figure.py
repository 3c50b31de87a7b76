"""The figure of codes: for each projection the points by class, and the images themselves where they lie."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from striate.explanation.views.canvas import INK, MARGIN, NORMAL, SMALL, Canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from striate.explanation.views.codes import Codes

_PANEL, _TOP, _ABOVE = 4.7, 0.9, 0.28  # inches
_CELLS = 19  # thumbnails a side
_NAMED = 30  # classes that are named in the figure
_LETTER, _LINE = 0.014, 0.032  # of a panel's side: a letter's width, a line's height
_TITLES = {"pca": "principal components", "tsne": "t-SNE", "umap": "UMAP"}
# Paul Tol's muted colours and black: told apart by colour-blind people, too; more classes take other marks
_COLOURS = (
    "#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499", "#222222",
)  # fmt: skip
_MARKS = ("o", "s", "^", "D", "v", "P", "X")


def draw_codes(view: Codes) -> Figure:
    """A row of two panels for each projection, and below them which colour is which class."""
    classes = [name for name, _ in Counter(view.labels).most_common()]
    order = sorted((name for name in classes if name is not None), key=_by_number)
    order = order if len(order) <= _NAMED else [name for name in classes if name is not None]
    looks = {name: (_COLOURS[i % 10], _MARKS[i // 10 % len(_MARKS)]) for i, name in enumerate(order)}
    legend = 0.2 * -(-min(len(order), _NAMED) // _columns(order)) + 0.15 if len(order) > 1 else 0.1
    row = _PANEL + _ABOVE + 0.22
    canvas = Canvas(2 * _PANEL + 3 * MARGIN, _TOP + len(view.points) * row + legend)
    canvas.title(f"{view.network} · codes at {view.layer}".lstrip(" ·"), _about(view, len(order)))
    for number, (name, points) in enumerate(view.points.items()):
        top = _TOP + number * row
        canvas.text(_named(view, name), MARGIN, top, NORMAL)
        place = _unit_square(points)
        _scatter(_bare(canvas, MARGIN, top + _ABOVE), view, place, looks, order)
        _images(_bare(canvas, 2 * MARGIN + _PANEL, top + _ABOVE), view, place, looks)
    if len(order) > 1:
        _legend(canvas, looks, order[:_NAMED], _TOP + len(view.points) * row)
    return canvas.figure


def _scatter(axes: Axes, view: Codes, place: np.ndarray, looks: dict[str, tuple[str, str]], order: list[str]) -> None:
    from matplotlib.patheffects import withStroke

    labels = np.array(view.labels, dtype=object)
    size = float(np.clip(9000 / len(labels), 7, 40))
    for name in [None, *order] if None in view.labels else order:
        rows = labels == name
        colour, mark = looks[name] if name is not None else ("#c4c4c4", "o")
        axes.scatter(*place[rows].T, s=size, c=colour, marker=mark, linewidths=0.3, edgecolors="white", alpha=0.85)
    halo = [withStroke(linewidth=2.6, foreground="white")]
    taken: list[tuple[float, float, float]] = []
    for name, _ in Counter(view.labels).most_common(_NAMED) if len(order) > 1 else ():
        if name is None:
            continue
        x, y = np.median(place[labels == name], 0).tolist()
        words = name if len(name) <= 16 else f"{name[:15]}…"
        wide = _LETTER * len(words)
        if any(abs(y - line) < _LINE and abs(x - middle) < (wide + other) / 2 for middle, line, other in taken):
            continue  # the legend has it
        taken.append((x, y, wide))
        axes.text(
            x, y, words, fontsize=SMALL + 0.5, color=INK, weight="bold", va="center", path_effects=halo,
            ha="right" if x > 0.88 else "left" if x < 0.12 else "center",
        )  # fmt: skip


def _images(axes: Axes, view: Codes, place: np.ndarray, looks: dict[str, tuple[str, str]]) -> None:
    """In each cell of a grid the image that lies nearest to its middle, framed in the colour of its class."""
    from matplotlib.colors import to_rgb

    side = view.thumbnails.shape[1]
    frame = max(1, side // 16)
    sheet = np.full((_CELLS * side, _CELLS * side, 3), 255, np.uint8)
    cells = np.clip((place * _CELLS).astype(int), 0, _CELLS - 1)
    far = np.abs(place * _CELLS - cells - 0.5).max(1)
    taken: set[tuple[int, int]] = set()
    for row in np.argsort(far, kind="stable").tolist():
        column, line = cells[row].tolist()
        if (column, line) in taken:
            continue
        taken.add((column, line))
        tile = view.thumbnails[row].copy()
        label = view.labels[row]
        colour = np.array(to_rgb(looks[label][0] if label in looks else "#c4c4c4")) * 255
        inner = tile[frame:-frame, frame:-frame].copy()
        tile[:] = colour.round().astype(np.uint8)
        tile[frame:-frame, frame:-frame] = inner
        top = (_CELLS - 1 - line) * side
        sheet[top : top + side, column * side : (column + 1) * side] = tile
    axes.imshow(sheet, extent=(0, 1, 0, 1), aspect="auto", interpolation="antialiased")


def _legend(canvas: Canvas, looks: dict[str, tuple[str, str]], order: list[str], top: float) -> None:
    columns = _columns(order)
    wide = (canvas.width - 2 * MARGIN) / columns
    for number, name in enumerate(order):
        line, column = divmod(number, columns)
        x, y = MARGIN + 0.08 + column * wide, top + 0.1 + 0.2 * line
        colour, mark = looks[name]
        canvas.sheet.scatter([x], [y], s=28, c=colour, marker=mark, linewidths=0)
        canvas.text(name if len(name) <= 24 else f"{name[:23]}…", x + 0.1, y, SMALL, va="center")


def _columns(order: list[str]) -> int:
    longest = min(24, max((len(name) for name in order), default=1))
    return max(1, min(len(order), int((2 * _PANEL + MARGIN) / (0.35 + 0.07 * longest))))


def _bare(canvas: Canvas, left: float, top: float) -> Axes:
    axes = canvas.axes(left, top, _PANEL, _PANEL)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor="#d0d0d0", linewidth=0.7)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    return axes


def _unit_square(points: np.ndarray) -> np.ndarray:
    """Both coordinates from 0.03 to 0.97."""
    low, span = points.min(0), np.ptp(points, 0)
    return 0.03 + 0.94 * (points - low) / np.where(span > 0, span, 1)


def _named(view: Codes, projection: str) -> str:
    if projection != "pca":
        return _TITLES[projection]
    return f"{_TITLES[projection]}: {view.explained[0]:.0%} of the variance along, {view.explained[1]:.0%} up"


def _about(view: Codes, classes: int) -> str:
    words = f"{len(view.labels):,} of {view.about}" if view.notes else view.about
    if view.answered and classes:
        words += "; coloured by what the network answers"
    near = "" if view.neighbours is None else f"\nthe nearest image is of the same class for {view.neighbours:.1%}"
    words += f"; {classes} classes, the {_NAMED} most frequent below" if classes > _NAMED else ""
    return f"{words}; {view.codes.shape[1]} numbers an image{near}"


def _by_number(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
