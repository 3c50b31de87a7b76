"""AlexNet, ZFNet and Network in Network."""

from __future__ import annotations

from striate.spec import ModelEntry

TABLE: tuple[ModelEntry, ...] = ()
