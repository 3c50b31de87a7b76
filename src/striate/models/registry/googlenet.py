"""GoogLeNet and its batch-normalised successor."""

from __future__ import annotations

from striate.spec import ModelEntry

TABLE: tuple[ModelEntry, ...] = ()
