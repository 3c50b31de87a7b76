"""Small networks for small machines: SqueezeNet and MobileNet."""

from __future__ import annotations

from striate.spec import ModelEntry

TABLE: tuple[ModelEntry, ...] = ()
