"""The noun: one picture of why a network answers as it does for one image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.explanation.attribution import METHODS, Unit
from striate.spec import Prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What `method` shows of the network's score for `target`, for one image."""

    path: str
    prediction: Prediction  # ranked, best first
    target: str  # the class that was asked about
    probability: float  # of the target
    truth: str | None = None  # the image's class, where it is known
    method: str  # a key of `attribution.METHODS`
    layer: str | None = None  # that was looked at
    unit: Unit | None = None  # the activation that is shown (deconvnet)
    notes: tuple[str, ...] = ()
    image: np.ndarray = field(repr=False)  # as the network sees it: float32 [H, W, C] from 0 to 1
    map: np.ndarray = field(repr=False)  # float32 [H, W], or [C, H, W] with colours as RGB, of the image's size

    @property
    def title(self) -> str:
        """The method, with the layer and unit where it has one."""
        parts = [METHODS[self.method].title]
        if self.layer is not None:
            parts.append(self.layer if self.unit is None else f"{self.layer}, map {self.unit.channel}")
        return " · ".join(parts)

    @property
    def flat(self) -> np.ndarray:
        """The map as [H, W]: signed ones summed over the colours, others by the largest absolute value of a colour."""
        if self.map.ndim == 2:
            return self.map
        return self.map.sum(0) if METHODS[self.method].shown == "signed" else np.abs(self.map).max(0)

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the pixel that the answer depends on most."""
        row, column = np.unravel_index(int(np.argmax(self.flat)), self.flat.shape)
        return int(row), int(column)

    @property
    def wrong_by(self) -> float | None:
        """How sure of a wrong class the network is, from 0 to 1; None where the truth is unknown, -1 where it is right.

        By this, galleries put the worst mistakes first.
        """
        best = self.prediction.labels[0]
        if self.truth is None:
            return None
        return best.probability if best.label != self.truth else -1.0

    def figure(self) -> Figure:
        """The image and the map side by side, with a legend; to be saved as PNG or SVG, or shown in a notebook."""
        from striate.explanation.figures import side_by_side

        return side_by_side([self])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the arrays."""
        row: dict[str, Any] = self.prediction.to_dict() | {
            "target": self.target,
            "probability": self.probability,
            "method": self.method,
            "layer": self.layer,
            "peak": list(self.peak),
        }
        if self.unit is not None:
            unit = self.unit
            row["unit"] = {"channel": unit.channel, "row": unit.row, "column": unit.column, "value": unit.value}
        if self.truth is not None:
            row["truth"] = self.truth
        return row | ({"notes": list(self.notes)} if self.notes else {})
