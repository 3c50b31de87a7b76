"""A sheet of paper in inches, from the top left, on which tiles, words and legends are put where they belong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN = 0.2  # inches around everything
SMALL, NORMAL, LARGE = 7.0, 8.5, 11.0  # points
INK, FAINT = "#222222", "#6b6b6b"
BEYOND = "#d9dde6"  # pixels that are not in the image
_DPI = 120
_LEAST = 0.5  # inches of a tile of a grid


class Canvas:
    """A figure of `width` by `height` inches; places are inches from its top left corner."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure: Figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
        self.sheet: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.sheet.axis("off")
        self._keep_limits()

    def tile(self, pixels: np.ndarray, left: float, top: float, width: float, height: float, **style: Any) -> Any:
        """An image [H, W] or [H, W, 3 or 4], its pixels as squares."""
        style = {"interpolation": "nearest", "aspect": "auto", **style}
        drawn = self.sheet.imshow(pixels, extent=(left, left + width, top + height, top), **style)
        self._keep_limits()
        return drawn

    def text(self, words: str, left: float, top: float, size: float = NORMAL, **style: Any) -> None:
        """Words, their first line below `top`."""
        style = {"ha": "left", "va": "top", "color": INK, **style}
        self.sheet.text(left, top, words, fontsize=size, **style)

    def title(self, words: str, below: str = "") -> None:
        """A heading at the top, with a fainter line below it; both end at 0.62 inches."""
        self.text(words, MARGIN, 0.16, LARGE)
        if below:
            self.text(below, MARGIN, 0.39, NORMAL, color=FAINT)

    def frame(self, left: float, top: float, width: float, height: float, **style: Any) -> None:
        """The outline of a rectangle."""
        from matplotlib.patches import Rectangle

        style = {
            "fill": False,
            "edgecolor": "#c8c8c8",
            "linewidth": 0.6,
            "zorder": -1 if "facecolor" in style else 1,
        } | style
        self.sheet.add_patch(Rectangle((left, top), width, height, **style))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes of their own in that rectangle."""
        place = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        made = self.figure.add_axes(place)
        made.tick_params(labelsize=SMALL, length=2.5, color=FAINT)
        made.spines[["top", "right"]].set_visible(False)
        return made

    def bar(self, drawn: Any, legend: str, left: float, top: float, width: float) -> None:
        """A colour bar of 0.1 inches with its numbers and words below."""
        place = self.axes(left, top, width, 0.1)
        bar = self.figure.colorbar(drawn, cax=place, orientation="horizontal")
        if bar.solids is not None:
            bar.solids.set_alpha(1)
        place.tick_params(labelsize=SMALL, length=2)
        place.locator_params(nbins=4)
        bar.set_label(legend, fontsize=SMALL + 0.5)
        for spine in place.spines.values():
            spine.set_visible(False)

    def _keep_limits(self) -> None:
        self.sheet.set_xlim(0, self.width)
        self.sheet.set_ylim(self.height, 0)


def grid_of(count: int, aspect: float = 1.0, *, width: float = 8.6, most: float = 1.1) -> Grid:
    """Equal tiles of `aspect` (height by width) as large as fits a sheet that is about as high as wide."""
    columns = max(1, min(count, round((count * aspect) ** 0.5)))
    while columns < count and width / columns > most:
        columns += 1
    columns = -(-count // -(-count // columns))  # as many rows, the last of them as full as can be
    return Grid(count, columns, max(_LEAST, min(most, width / columns)), aspect)


class Grid:
    """Places of `count` tiles, each with a number above it, in rows of `columns`."""

    ABOVE, GAP = 0.15, 0.07  # inches: for the number, between columns

    def __init__(self, count: int, columns: int, pitch: float, aspect: float) -> None:
        self.count, self.columns, self.pitch = count, columns, pitch
        self.tile = pitch - self.GAP, (pitch - self.GAP) * aspect  # width, height
        self.row = self.tile[1] + self.ABOVE + self.GAP
        self.width, self.height = columns * pitch - self.GAP, -(-count // columns) * self.row

    def place(self, number: int) -> tuple[float, float]:
        """Left and top of a tile, from those of the grid."""
        row, column = divmod(number, self.columns)
        return column * self.pitch, row * self.row + self.ABOVE
