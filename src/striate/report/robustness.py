"""The section on changed images: corruptions by severity, accuracy over shift, angle, noise and attack, what fooled."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from striate.report.charts import Series, line_chart
from striate.report.figures import finite, percent, seconds, thousands
from striate.report.pictures import data_uri
from striate.report.record import Record
from striate.report.technical import bar_width

LARGEST_PNG = 300_000  # bytes; a larger picture goes into the page as a JPEG
DIRECTIONS = {"right": "sideways", "down": "up and down"}


def robustness(record: Record) -> dict[str, Any] | None:
    """Everything that the template shows; None where nobody asked."""
    stored = record.robustness
    kinds = stored.get("kinds") or []
    if not kinds:
        return None
    corrupted = [one for one in kinds if one["axis"] == "severity"]
    where = f"{stored.get('data') or 'these images'} {stored.get('split') or ''}".strip()
    n, of = thousands(stored["n"]), thousands(stored["of"])
    return {
        "words": f"All {n} images of {where}."
        if n == of
        else f"{n} of {of} images of {where}, alike from all classes.",
        "facts": _facts(stored),
        "severities": [f"{point['strength']:g}" for point in corrupted[0]["points"][1:]] if corrupted else [],
        "rows": [_row(one) for one in corrupted],
        "charts": [_chart(one) for one in kinds if one["axis"] != "severity"],
        "fooled": _picture(record.robustness_picture),
    }


def _facts(stored: Mapping[str, Any]) -> list[tuple[str, str]]:
    low, high = stored["clean"]["interval"]
    facts = [("right as they are", f"{percent(stored['clean']['accuracy'])}, {100 * low:.1f} to {percent(high)}")]
    if (error := finite(stored.get("mean_corruption_error"))) is not None:
        facts.append(("mean corruption error", percent(error)))
        facts.append(("of it by corruption", percent(finite(stored.get("mean_corruption_error_above_clean")))))
    return [*facts, ("time", seconds(finite(stored.get("seconds"))))]


def _row(kind: Mapping[str, Any]) -> dict[str, Any]:
    shares = [point["accuracy"] for point in kind["points"][1:]]
    return {
        "name": kind["kind"],
        "cells": [(percent(one), bar_width(one, 1)) for one in shares],
        "mean": percent(kind["mean_accuracy"]),
    }


def _chart(kind: Mapping[str, Any]) -> Markup:
    directions = list(dict.fromkeys(point.get("direction", "") for point in kind["points"]))
    lines = []
    for place, direction in enumerate(directions):
        points = [one for one in kind["points"] if one.get("direction", "") == direction]
        found = sorted((one["strength"], one["accuracy"]) for one in points)
        lines.append(Series(DIRECTIONS.get(direction, "answered right"), found, ("train", "val")[place % 2]))
    if len(directions) == 1:
        same = sorted((one["strength"], one["unchanged"]) for one in kind["points"] if one["unchanged"] is not None)
        lines.append(Series("answered as before", same, "ema", dashed=True))
    return line_chart(kind["kind"].capitalize(), lines, x_label=kind["axis"], form=lambda one: percent(one), log=False)


def _picture(png: bytes | None) -> str:
    """As a data URI."""
    if png is None:
        return ""
    if len(png) <= LARGEST_PNG:
        return f"data:image/png;base64,{base64.b64encode(png).decode()}"
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        return data_uri(np.asarray(picture.convert("RGB")), photo=True)
