"""The sections on how far single answers can be trusted: calibration, rejection, thresholds of single classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from striate.metrics.reliability import Reliability
from striate.report.charts import Series, line_chart, reliability_diagram
from striate.report.diagnosis import reliability_of
from striate.report.figures import finite, number, percent, thousands
from striate.report.label_sets import stored_reliability
from striate.report.record import Record

# where all areas are at least so large, the ROC chart ends at that false-positive rate, and begins at half the recall
ENDS = ((0.999, 0.01), (0.98, 0.1))
CLASS_BY_CLASS = (
    "Each class against the rest, by its probability alone: said where it reaches a threshold, weakest class first."
)
LABEL_BY_LABEL = "Each label by itself: chosen where its probability reaches a threshold, weakest label first."
DRAWN = 4  # ROC curves of that many classes, the worst
TALL = 15  # rows from which the table scrolls
SHOWN_WISHES = (("recall", 0.95, "precision"), ("precision", 0.95, "recall"), ("false_positive_rate", 0.01, "recall"))
WISH_WORDS = {"recall": "recall", "precision": "precision", "false_positive_rate": "false-positive rate"}


def calibration(record: Record) -> dict[str, Any] | None:
    """Reliability diagram and expected calibration error of the headline split, before and after the temperature."""
    bins = bins_of(record)
    if bins is None or bins.n < 2:
        return None
    accuracy = float(np.nansum(bins.accuracy * bins.counts) / bins.n)
    facts = [
        ("expected calibration error", percent(bins.ece)),
        ("mean claimed probability", percent(accuracy + bins.overconfidence)),
        ("share correct", percent(accuracy)),
        ("pairs of image and label" if record.multi_label else "images", thousands(bins.n)),
    ]
    stored = record.scores.get("calibration") or {}
    temperature, before = finite(stored.get("temperature")) or 1.0, ""
    if temperature != 1:
        before = reliability_diagram(Reliability.from_dict(stored["bins_before"]), "Reliability without temperature")
        facts += [
            ("temperature", number(temperature)),
            ("error without it", percent(finite(stored.get("ece_before")))),
            ("negative log-likelihood", number(finite(stored.get("loss_after")), zeros=True)),
            ("without temperature", number(finite(stored.get("loss_before")), zeros=True)),
        ]
    return {"chart": reliability_diagram(bins), "before": before, "facts": facts, "words": _temperature_words(record)}


def bins_of(record: Record) -> Reliability | None:
    """Calibration bins of the headline split: of its images, or of all pairs of image and label."""
    if record.multi_label:
        return stored_reliability(record.scores)
    return reliability_of(record.predictions, record.headline)


def _temperature_words(record: Record) -> str:
    fitted = record.evaluation.get("temperature")
    if not fitted:
        return ""
    if fitted["value"] == 1:
        return f"No temperature: {fitted['why']}. The probabilities are as the network gives them."
    errors = [percent(finite(fitted.get(f"ece_{when}"))) for when in ("before", "after")]
    losses = [number(finite(fitted.get(f"loss_{when}"))) for when in ("before", "after")]
    held_out = (
        f" On validation images that it was not fitted on, the calibration error went from {errors[0]} to {errors[1]}, "
        f"and the negative log-likelihood from {losses[0]} to {losses[1]}."
    )
    same = " The figures beside are of the very images that it was fitted on." if record.headline == "val" else ""
    return (
        f"All logits are divided by {number(fitted['value'])} before they become probabilities, fitted on "
        f"{thousands(fitted['images'])} validation images and kept in the model file; no answer changes by it."
        f"{held_out}{same}"
    )


def rejection(record: Record) -> dict[str, Any] | None:
    """The error on what is answered over what is rejected, and what must be rejected for a wanted error."""
    stored = record.scores.get("rejection") or {}
    coverage, errors = stored.get("coverage") or [], stored.get("error") or []
    if len(coverage) < 2:
        return None
    points = [(100 * (1 - share), error) for share, error in zip(reversed(coverage), reversed(errors), strict=True)]
    perfect = next((place for place, (_, error) in enumerate(points) if error == 0), len(points))
    points = points[: max(2, perfect + 1 + perfect // 4)]  # what follows lies on the axis
    rows, full = [], errors[-1]
    for row in stored.get("for_error") or []:
        if row["wanted"] >= full:
            continue  # no image need be rejected for it
        if row["rejected"] is None:
            rows.append(
                {
                    "wanted": percent(row["wanted"]),
                    "rejected": "not within reach",
                    "threshold": "",
                    "left": "",
                    "interval": "",
                }
            )
            continue
        low, high = row.get("error_interval") or (None, None)
        rows.append(
            {
                "wanted": percent(row["wanted"]),
                "rejected": percent(row["rejected"]),
                "threshold": percent(row["threshold"], 2),
                "left": f"{row['wrong']} of {thousands(row['answered'])}",
                "interval": f"{100 * low:.2f} to {percent(high, 2)}" if low is not None else "",
            }
        )
    return {
        "chart": line_chart(
            "Error of what is answered", [Series("", points, "val")], x_label="rejected, %",
            form=lambda share: percent(share, 2 if full < 0.02 else 1), log=False,
            note="the least sure images are rejected first",
        ),
        "rows": rows,
        "facts": [
            ("error without rejection", percent(full, 2)),
            ("area under the curve", percent(finite(stored.get("area")), 2)),
        ],
    }  # fmt: skip


def thresholds(record: Record) -> dict[str, Any] | None:
    """Each class against the rest: areas, and where few classes are thresholds and the ROC curves of the worst."""
    stored = record.scores.get("ranking") or {}
    classes = [row for row in stored.get("classes") or [] if finite(row.get("auc")) is not None]
    if not classes:
        return None
    classes.sort(key=lambda row: row["average_precision"])
    detailed = all("thresholds" in row for row in classes)
    two = len(stored["classes"]) == 2 and not record.multi_label
    return {
        "unit": "label" if record.multi_label else "class",
        "words": LABEL_BY_LABEL if record.multi_label else CLASS_BY_CLASS,
        "chart": _roc_chart(classes, "labels" if record.multi_label else "classes", two) if detailed else Markup(""),
        "rows": [_class_row(row, detailed) for row in classes],
        "wishes": [f"{WISH_WORDS[kind]} {percent(at, 0)}" for kind, at, _ in SHOWN_WISHES] if detailed else [],
        "all": [(row["label"], _wishes(row)) for row in classes] if detailed and two else [],
        "facts": [
            ("mean area under ROC", number(finite(stored.get("macro_auc")), 4, zeros=True)),
            ("mean average precision", number(finite(stored.get("macro_average_precision")), 4, zeros=True)),
        ],
        "tall": len(classes) > TALL,
    }


def _class_row(row: Mapping[str, Any], detailed: bool) -> dict[str, Any]:
    cells = []
    for kind, at, other in SHOWN_WISHES if detailed else ():
        chosen = next(one for one in row["thresholds"] if (one["wanted"], one["at"]) == (kind, at))
        cells.append(
            (percent(chosen["threshold"], 1), f"{WISH_WORDS[other]} {percent(chosen[other])}")
            if chosen["threshold"] is not None
            else ("–", "")
        )
    return {
        "name": str(row["label"]),
        "auc": number(row["auc"], 4, zeros=True),
        "auc_value": row["auc"],
        "precision": number(row["average_precision"], 4, zeros=True),
        "precision_value": row["average_precision"],
        "cells": cells,
    }


def _wishes(row: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            f"{WISH_WORDS[one['wanted']]} {percent(one['at'], 0)}",
            *(percent(one[key]) for key in ("threshold", "recall", "precision", "false_positive_rate")),
        )
        for one in row["thresholds"]
    ]


def _roc_chart(classes: Sequence[Mapping[str, Any]], units: str, two: bool) -> Markup:
    shown = sorted(classes, key=lambda row: row["auc"])[: 1 if two else DRAWN]
    worst = shown[0]["auc"]
    end = next((end for area, end in ENDS if worst >= area), 1.0)
    lines = [Series(str(row["label"]), _until(row["roc"], end), f"run{place}") for place, row in enumerate(shown)]
    rest = " against the rest" if units == "classes" else ""
    note = f"the worst {units}{rest}" if len(classes) > DRAWN else f"all {units}{rest}"
    return line_chart(
        "ROC: found over false alarms", lines, x_label="false alarms, % of the other images",
        form=lambda share: percent(share, 1), log=False, share=end < 1, note=shown[0]["label"] if two else note,
    )  # fmt: skip


def _until(roc: Mapping[str, Sequence[float]], end: float) -> list[tuple[float, float]]:
    """The curve up to a false-positive rate, in per cent."""
    x, y = np.array(roc["false_positive_rate"]), np.array(roc["recall"])
    inside = (x < end) & (y >= (0.5 if end < 1 else 0))
    kept = [(100 * one, other) for one, other in zip(x[inside].tolist(), y[inside].tolist(), strict=True)]
    return [*kept, (100 * end, float(np.interp(end, x, y)))]
