"""Shapes with places in pixels, written as SVG or PNG. The same shapes give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from striate.anatomy.picture import figure_for, save_figure

INK, SOFT, LINE, PAPER = "#20242a", "#5b636e", "#8a929c", "#ffffff"
_FONTS = "DejaVu Sans, Verdana, Arial, sans-serif"
_ASCENT, _DESCENT = 0.93, 0.24  # of the font's size
_DPI = 130


@dataclass(frozen=True, kw_only=True)
class Text:
    """Words on one line; `anchor` is where x lies: start, middle or end. y is the baseline."""

    x: float
    y: float
    words: str
    size: float = 11
    anchor: str = "start"
    bold: bool = False
    colour: str = INK

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        wide = text_width(self.words, self.size, self.bold)
        left = self.x - {"start": 0.0, "middle": wide / 2, "end": wide}[self.anchor]
        return left, self.y - _ASCENT * self.size, left + wide, self.y + _DESCENT * self.size


@dataclass(frozen=True, kw_only=True)
class Polygon:
    """A filled outline; `about` says what it stands for, and is written to the SVG as data-… attributes."""

    points: tuple[tuple[float, float], ...]
    fill: str
    stroke: str = INK
    width: float = 0.8
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Path_:
    """A line through some points, with a head at its end where it is an arrow."""

    points: tuple[tuple[float, float], ...]
    colour: str = LINE
    width: float = 1.2
    arrow: bool = False


Shape = Text | Polygon | Path_


def rectangle(x: float, y: float, wide: float, tall: float) -> tuple[tuple[float, float], ...]:
    """Its corners, clockwise from the upper left."""
    return (x, y), (x + wide, y), (x + wide, y + tall), (x, y + tall)


@cache
def _font(size: float, bold: bool) -> Any:
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, 100)


def text_width(words: str, size: float = 11, bold: bool = False) -> float:
    """In pixels, in the font that matplotlib brings along and SVG viewers are asked for."""
    return _font(100, bold).getlength(words) * size / 100


def save(shapes: list[Shape], wide: float, tall: float, path: Path, title: str) -> None:
    """Write the shapes to an SVG or PNG file.

    Raises:
        UsageError: neither a PNG nor an SVG file.
    """
    figure = figure_for((wide / 100, tall / 100), path)  # asks for the right ending, too
    if path.suffix.lower() == ".svg":
        path.write_text(_svg(shapes, wide, tall, title), encoding="utf-8")
    else:
        _paint(figure, shapes, wide, tall)
        save_figure(figure, path)


def _svg(shapes: list[Shape], wide: float, tall: float, title: str) -> str:
    size = f'width="{wide:.0f}" height="{tall:.0f}" viewBox="0 0 {wide:.0f} {tall:.0f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family={quoteattr(_FONTS)}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="100%" height="100%" fill="{PAPER}"/>',
    ]
    for shape in shapes:
        match shape:
            case Text():
                weight = ' font-weight="bold"' if shape.bold else ""
                at = f'x="{shape.x:.2f}" y="{shape.y:.2f}" font-size="{shape.size:g}" text-anchor="{shape.anchor}"'
                lines.append(f'<text {at}{weight} fill="{shape.colour}">{escape(shape.words)}</text>')
            case Polygon():
                about = "".join(f" data-{name}={quoteattr(str(value))}" for name, value in shape.about.items())
                look = f'fill="{shape.fill}" stroke="{shape.stroke}" stroke-width="{shape.width:g}"'
                lines.append(f'<polygon points="{_points(shape.points)}" {look} stroke-linejoin="round"{about}/>')
            case Path_():
                look = f'fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}"'
                lines.append(f'<polyline points="{_points(shape.points)}" {look} stroke-linejoin="round"/>')
                if shape.arrow:
                    lines.append(f'<polygon points="{_points(_head(shape))}" fill="{shape.colour}"/>')
    return "\n".join([*lines, "</svg>\n"])


def _points(points: tuple[tuple[float, float], ...]) -> str:
    return " ".join(f"{x:.3f},{y:.3f}" for x, y in points)


def _head(path: Path_) -> tuple[tuple[float, float], ...]:
    (x0, y0), (x1, y1) = path.points[-2:]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1
    dx, dy = 6 * (x1 - x0) / length, 6 * (y1 - y0) / length
    return (x1, y1), (x1 - dx - dy / 2, y1 - dy + dx / 2), (x1 - dx + dy / 2, y1 - dy - dx / 2)


def _paint(figure: Any, shapes: list[Shape], wide: float, tall: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Polygon as Patch

    figure.set_layout_engine("none")
    panel = figure.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(tall, 0))
    panel.axis("off")
    points = 72 / 100  # of one pixel
    sides = {"start": "left", "middle": "center", "end": "right"}
    for place, shape in enumerate(shapes):
        match shape:
            case Text():
                panel.text(
                    shape.x, shape.y, shape.words, fontsize=shape.size * points, ha=sides[shape.anchor], va="baseline",
                    weight="bold" if shape.bold else "normal", color=shape.colour, zorder=place, parse_math=False,
                    family="DejaVu Sans",
                )  # fmt: skip
            case Polygon():
                look = {"facecolor": shape.fill, "edgecolor": shape.stroke, "linewidth": shape.width * points}
                panel.add_patch(Patch(shape.points, closed=True, joinstyle="round", zorder=place, **look))
            case Path_():
                xs, ys = zip(*shape.points, strict=True)
                panel.add_line(Line2D(xs, ys, color=shape.colour, linewidth=shape.width * points, zorder=place))
                if shape.arrow:
                    panel.add_patch(Patch(_head(shape), closed=True, color=shape.colour, linewidth=0, zorder=place))
