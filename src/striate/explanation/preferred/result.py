"""The noun: the image that a class or a map of a layer responds to most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferredInput:
    """What the ascent came to for one class, or one map of `layer`."""

    label: str  # the class, or "map 3"
    number: int  # of the output or of the map
    layer: str | None = None  # None: the class scores
    activation: float  # of the image: the logit, the mean of the map, or its unit in the middle
    noise: float  # the highest activation of images of noise
    begun: float  # the activation of what the ascent began with
    image: np.ndarray = field(repr=False)  # float32 [H, W, C] from 0 to 1, RGB

    @property
    def silent(self) -> bool:
        """Whether nothing that was tried made it respond."""
        return self.layer is not None and self.activation <= 0 and self.noise <= 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the image."""
        return {
            "label": self.label,
            "number": self.number,
            "layer": self.layer,
            "activation": self.activation,
            "noise": self.noise,
            "begun": self.begun,
            "silent": self.silent,
        }
