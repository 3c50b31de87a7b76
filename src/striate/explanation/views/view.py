"""What every picture of a network is to those who show it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class View(ABC):
    """A picture of the network itself: numbers, a figure of them, and what there is to say."""

    kind: ClassVar[str]  # one of `options.explain.VIEWS`
    network: str  # what to call it
    layer: str  # that is shown
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Tells it from the other pictures of the network; as the stem of a file."""
        return f"{self.kind}-{self.layer}"

    @abstractmethod
    def figure(self) -> Figure:
        """To be saved as PNG or SVG, or shown in a notebook."""

    def frames(self) -> Sequence[Figure]:
        """What a GIF shows one after the other; nothing where nothing moves."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without arrays of pixels."""
        row: dict[str, Any] = {"show": self.kind, "network": self.network, "layer": self.layer}
        return row | ({"notes": list(self.notes)} if self.notes else {})
