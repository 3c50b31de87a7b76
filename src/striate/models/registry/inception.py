"""The later Inception networks and Xception."""

from __future__ import annotations

from striate.spec import ModelEntry

TABLE: tuple[ModelEntry, ...] = ()
