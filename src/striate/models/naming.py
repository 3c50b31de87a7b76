"""How a publisher of weights names the parameters of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from striate.spec import InputSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Naming:
    """One publisher's way of naming a family's parameters.

    `patterns` are (regular expression, replacement) pairs that turn their keys into ours, all applied in order.
    """

    publisher: str  # "torchvision", "timm", "caffe" ...
    patterns: tuple[tuple[str, str], ...]
    input: InputSpec | None = None  # what these weights are fed, where it is not what the registry says
    variations: Mapping[str, Any] = field(default_factory=dict)  # fields of the config that these weights need
    shipped: bool = True  # whether they publish this very network; a file alone is taken for one of those first
