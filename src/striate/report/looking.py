"""The section on where the network looked when it was wrong: Grad-CAM for what it said, and for what it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.report.pictures import Sprite, make_sprite
from striate.report.record import Record
from striate.report.sections import images

_WORDS = {
    2: "For each of the worst mistakes the image, what speaks for the class that was said, and what for the one that "
    "it is",
    1: "For each of the worst answers the image, and what speaks for a label that was misjudged",
}


def looking(record: Record) -> dict[str, Any] | None:
    """Everything that the template shows; None where the run kept no maps, or no mistakes."""
    maps, classes = record.pictures.get("looked"), record.pictures.get("looked_classes")
    worst = next((one["sprite"] for one in images(record) if one["title"] == "Worst"), None)
    if worst is None or maps is None or classes is None or maps.ndim != 5 or maps.shape[:2] != classes.shape:
        return None
    count = min(len(maps), len(worst.tiles))
    columns = [
        _sprite(f"looked-{place}", maps[:count, place], classes[:count, place]) for place in range(maps.shape[1])
    ]
    if not count or None in columns:
        return None
    return {
        "words": _WORDS.get(len(columns), _WORDS[1]),
        "layer": str(record.pictures.get("looked_layer", "")),
        "columns": columns,
        "rows": [(worst.tiles[row], [column.tiles[row] for column in columns if column]) for row in range(count)],
        "worst": worst,
    }


def _sprite(name: str, pictures: np.ndarray, classes: np.ndarray) -> Sprite | None:
    words = [{"title": f"Grad-CAM for {one}", "caption": f"for {one}"} for one in classes.tolist()]
    return make_sprite(name, pictures, words)
