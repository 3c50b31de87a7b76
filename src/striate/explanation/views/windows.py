"""Which pixels a unit sees, from the anatomy of the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from striate.anatomy.fields import Axis, Field
from striate.anatomy.trace import trace
from striate.checkpoint import SavedModel
from striate.errors import ModelError
from striate.explanation.figures import as_pixels
from striate.explanation.places import Place

Window = tuple[int, int, int, int]  # first and last row, first and last column; pixels, both included


@dataclass(frozen=True, slots=True)
class Sight:
    """What the units of one layer see of an image with sides `image`, (height, width) in pixels."""

    image: tuple[int, int]
    field: Field | None  # None: not known, taken as the whole image

    @property
    def size(self) -> tuple[int, int] | None:
        """The theoretical receptive field in pixels, (height, width), padding ignored; None where units differ."""
        sizes = [one and one.size for one in self.field.theories] if self.field else []
        return (sizes[0], sizes[1]) if len(sizes) == 2 and sizes[0] and sizes[1] else None

    @property
    def middle(self) -> tuple[int, int]:
        """Row and column of the unit in the middle."""
        axes = self._axes
        return (len(axes[0]) // 2, len(axes[1]) // 2) if axes else (0, 0)

    def theoretical(self, row: int, column: int) -> Window | None:
        """As if image and maps went on for ever: it may reach beyond the image. None where that is not known."""
        seen = [axis.theory and axis.theory.at(unit) for axis, unit in zip(self._axes, (row, column), strict=False)]
        if len(seen) != 2 or None in seen:
            return None
        return (*seen[0], *seen[1])  # pyright: ignore[reportOptionalIterable,reportReturnType]

    def exact(self, row: int, column: int) -> Window:
        """The pixels of the image that the unit depends on, at most the whole image."""
        whole = (0, self.image[0] - 1, 0, self.image[1] - 1)
        if not self._axes:
            return whole
        seen = [(int(axis.lo[at]), int(axis.hi[at])) for axis, at in zip(self._axes, (row, column), strict=True)]
        return (*seen[0], *seen[1]) if all(lo <= hi for lo, hi in seen) else whole

    def window(self, row: int, column: int) -> Window:
        """What to cut out to show what the unit sees: as large for every unit, unless that is larger than the image.

        The theoretical field, which may reach beyond the image; along a side on which it is longer than the image, the
        whole side.
        """
        seen = self.theoretical(row, column) or self.exact(row, column)
        sides: list[int] = []
        for (low, high), side in zip((seen[:2], seen[2:]), self.image, strict=True):
            sides += (low, high) if high - low + 1 < side else (0, side - 1)
        return sides[0], sides[1], sides[2], sides[3]

    @property
    def _axes(self) -> tuple[Axis, ...]:
        if self.field is None or not self.field.is_map or len(self.field.axes) != 2:
            return ()
        return self.field.axes if self.field.axis_at(2) == 0 else self.field.axes[::-1]


def sights_of(saved: SavedModel, places: list[Place]) -> dict[str, Sight]:
    """What the units of each place see, by its path; the whole image where the network cannot be followed."""
    try:
        found = trace(
            saved.model, (saved.spec.channels, *saved.spec.size), wanted=[place.path for place in places]
        ).outputs
    except ModelError:
        found = {}
    return {
        place.path: Sight(saved.spec.size, found[place.path][1] if place.path in found else None) for place in places
    }


def cut_signal(signal: np.ndarray, window: Window) -> np.ndarray:
    """A signal around 0, [1 or 3, H, W] -> the window as [h, w, 4]: grey is 0, at its own full contrast."""
    made = cut_out(signal.transpose(1, 2, 0), window)
    made[..., :3] = as_pixels(made[..., :3].transpose(2, 0, 1))
    return made


def cut_out(image: np.ndarray, window: Window) -> np.ndarray:
    """[H, W, 1 or 3] from 0 to 1 -> the window as [h, w, 4]; beyond the image it is transparent."""
    top, bottom, left, right = window
    made = np.zeros((bottom - top + 1, right - left + 1, 4), np.float32)
    high, wide = image.shape[:2]
    inner = image[max(top, 0) : min(bottom, high - 1) + 1, max(left, 0) : min(right, wide - 1) + 1]
    y, x = max(-top, 0), max(-left, 0)
    made[y : y + inner.shape[0], x : x + inner.shape[1], :3] = inner if inner.shape[2] == 3 else inner[..., :1]
    made[y : y + inner.shape[0], x : x + inner.shape[1], 3] = 1
    return made
