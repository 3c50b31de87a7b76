"""Options as keywords: flat names, as they are on the command line, sorted into their sections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from striate.errors import UnknownNameError
from striate.options.declare import options_of
from striate.options.sections import TrainOptions


def sections_of(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Flat option names and values, sorted into the sections they belong to.

    Raises:
        UnknownNameError: no option of that name; answered with the nearest ones.
    """
    section = {one.name.rstrip("_"): one.section for one in options_of(TrainOptions)}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        key = name.rstrip("_")
        if key not in section:
            raise UnknownNameError("option", name, section)
        nested.setdefault(section[key], {})[key] = str(value) if isinstance(value, Path) else value
    return nested
