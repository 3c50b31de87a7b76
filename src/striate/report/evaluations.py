"""The section on what `striate evaluate` found after the run: each evaluation that lies in the run's folder, its scores
by camera or site, what mistakes cost, and how strangers are told from what the network knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from striate.report.charts import Series, line_chart
from striate.report.ensembles import ensemble
from striate.report.figures import digits_for, finite, measure_of, number, percent, thousands
from striate.report.record import Record
from striate.report.technical import bar_width

SCORE_WORDS = {
    "max_probability": "largest probability",
    "max_logit": "largest logit",
    "negative_energy": "negative energy",
}
MEASURES = {"top1": "top-1", "map": "mAP"}
SHOWN_GROUPS = 200
TALL = 15  # rows from which a table scrolls
_IN_NAME = ("data", "split")
_HARDLY = 1e-3  # of the images: bins that hold less at the ends of a histogram are not drawn


def evaluations(record: Record) -> dict[str, Any] | None:
    """All of them in one table, then what each has beside its scores; None where there is none."""
    kept = [one for one in record.evaluations if one.get("n") is not None]
    if not kept:
        return None
    names = _names(kept)
    parts = [
        {
            "name": name,
            "ensemble": ensemble(one, name),
            "groups": _groups(one),
            "costs": _costs(one),
            "ood": _strangers(one),
        }
        for name, one in zip(names, kept, strict=True)
    ]
    return {
        "measure": MEASURES[measure_of(kept[0])],
        "rows": [_row(name, one) for name, one in zip(names, kept, strict=True)],
        "ood": any(part["ood"] and part["ood"]["rows"] for part in parts),
        "parts": [part for part in parts if any(part[kind] for kind in ("ensemble", "groups", "costs", "ood"))],
    }


def _names(kept: Sequence[Mapping[str, Any]]) -> list[str]:
    """Data and split, and what else was asked for where that is needed to tell one from another."""
    names = [f"{one.get('data') or 'data'} {one.get('split') or ''}".strip() for one in kept]
    if len(set(names)) == len(names):
        return names
    return [f"{name}{_asked(one)}" for name, one in zip(names, kept, strict=True)]


def _asked(one: Mapping[str, Any]) -> str:
    asked = one.get("asked") or {}
    words = [
        key.replace("_", " ") + ("" if str(value) == "True" else f" {last_part(value)}")
        for key, value in asked.items()
        if key not in _IN_NAME
    ]
    return f" ({', '.join(words)})" if words else ""


def last_part(text: object) -> str:
    """A path by its last part, as the page of a run is for other machines, too."""
    return Path(str(text)).name or str(text)


def _row(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    digits = digits_for(int(one["n"]))
    measure = measure_of(one)
    low, high = one.get(f"{measure}_interval") or (None, None)
    engine = one.get("engine") or {}
    computed = " ".join(str(engine[key]) for key in ("backend", "precision") if engine.get(key))
    unreadable = int(one.get("unreadable") or 0)
    return {
        "name": name,
        "how": str(one.get("protocol") or "") + (f"; {computed}" if computed else ""),
        "n": thousands(one["n"]) + (f", {thousands(unreadable)} unreadable" if unreadable else ""),
        "n_value": one["n"],
        "score": percent(finite(one.get(measure)), digits),
        "score_value": one.get(measure),
        "interval": f"{100 * low:.{digits}f} – {percent(high, digits)}" if low is not None else "",
        "balanced": percent(finite(one.get("balanced_accuracy")), digits),
        "ece": percent(finite(one.get("ece"))),
        "predictions": str(one.get("predictions") or ""),
    }


def _groups(one: Mapping[str, Any]) -> dict[str, Any] | None:
    rows = one.get("groups")
    if not rows:
        return None
    by = str((one.get("asked") or {}).get("by") or "group")
    measure = "map" if "map" in rows[0] else "top1"
    table = [
        {
            "name": str(row["group"]),
            "score": percent(finite(row[measure])),
            "value": row[measure],
            "bar": bar_width(row[measure] or 0.0, 1),
            "interval": f"{100 * row['low']:.1f} – {percent(row['high'])}" if measure == "top1" else "",
            "balanced": percent(finite(row.get("balanced_accuracy"))),
            "n": thousands(row["n"]),
        }
        for row in rows[:SHOWN_GROUPS]
    ]
    apart = _apart(rows) if measure == "top1" else ""  # the intervals are those of top-1
    return {
        "by": by,
        "measure": MEASURES[measure],
        "rows": table,
        "more": max(0, len(rows) - SHOWN_GROUPS),
        "tall": len(table) > TALL,
        "apart": apart,
    }


def _apart(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether the worst and the best can be told apart by their intervals."""
    if len(rows) < 2:
        return ""
    worst, best = min(rows, key=lambda row: row["top1"]), max(rows, key=lambda row: row["top1"])
    names = f"{worst['group']} ({percent(worst['top1'])}) and {best['group']} ({percent(best['top1'])})"
    if worst["high"] < best["low"]:
        return f"The intervals of {names} do not meet: the difference is hardly chance."
    return f"The intervals of {names} overlap: the difference may be chance."


def _costs(one: Mapping[str, Any]) -> dict[str, Any] | None:
    found = one.get("costs")
    if not found or not found.get("n"):
        return None
    likeliest, cheapest = finite(found["mean_likeliest"]), finite(found["mean_cheapest"])
    facts = [
        ("mean cost, likeliest class", number(likeliest)),
        ("mean cost, cheapest decision", number(cheapest)),
        ("decided otherwise", f"{thousands(found['changed'])} of {thousands(found['n'])}"),
        ("given no answer", thousands(found["rejected"])),
    ]
    saved = 1 - cheapest / likeliest if likeliest and cheapest is not None else None
    words = "The decision of least expected cost is taken by the probabilities and the table of costs."
    if saved is not None and saved > 0:
        words += f" Here it saves {percent(saved, 0)} of what always naming the likeliest class costs."
    elif saved is not None and saved < 0:
        words += " Here it costs more than naming the likeliest class: the probabilities are not to be trusted so far."
    return {"facts": facts, "words": words, "table": last_part((one.get("asked") or {}).get("costs") or "")}


def _strangers(one: Mapping[str, Any]) -> dict[str, Any] | None:
    found = one.get("ood")
    if not found:
        return None
    facts = [
        ("known images", thousands(found["known"])),
        (f"images of {found['data']}", thousands(found["strangers"])),
        ("unreadable", thousands(found["unreadable"])),
        ("temperature", number(finite(found["temperature"]))),
    ]
    there = {name: row for name, row in found["scores"].items() if row.get("auroc") is not None}
    best = max(there, key=lambda name: there[name]["auroc"], default=None)
    words = ""
    if best is not None:
        row = there[best]
        words = (
            f"A threshold of {number(row['threshold'], 4)} on the {SCORE_WORDS.get(best, best)} keeps "
            f"{percent(row['kept'])} of the known images and lets in {percent(row['let_in'])} of the strangers."
        )
    shared = int(found.get("shared") or 0)
    return {
        "data": str(found["data"]),
        "facts": [fact for fact in facts if fact != ("unreadable", "0")],
        "rows": [_stranger_row(name, row) for name, row in there.items()],
        "charts": [chart for name, row in there.items() if (chart := _histogram(name, str(found["data"]), row))],
        "words": words,
        "warning": f"{thousands(shared)} of these are among the known images, and no strangers." if shared else "",
    }


def _stranger_row(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    def cell(key: str) -> tuple[str, str, float]:
        low, high = row[f"{key}_interval"]
        return percent(row[key]), f"{100 * low:.1f} – {percent(high)}", row[key]

    return {
        "name": SCORE_WORDS.get(name, name),
        "cells": [cell(key) for key in ("auroc", "aupr_known", "aupr_strangers", "let_in")],
        "threshold": number(row["threshold"], 4),
    }


def _histogram(name: str, data: str, row: Mapping[str, Any]) -> Any:
    """The share of the known images and of the strangers at each score, without the emptiest ends."""
    bars = row["histogram"]
    edges, known, strangers = bars["edges"], bars["known"], bars["strangers"]
    filled = [place for place, pair in enumerate(zip(known, strangers, strict=True)) if max(pair) >= _HARDLY]
    if len(filled) < 2:
        return ""
    shown = range(filled[0], filled[-1] + 1)

    def steps(values: Sequence[float]) -> list[tuple[float, float]]:
        return [(edges[place + side], values[place]) for place in shown for side in (0, 1)]

    return line_chart(
        f"{SCORE_WORDS.get(name, name).capitalize()}, {data}",
        [Series("known", steps(known), "run0"), Series("strangers", steps(strangers), "run1")],
        x_label=SCORE_WORDS.get(name, name), form=lambda share: percent(share, 0), log=False,
        note="share of the images at each score",
        mark=(row["threshold"], "keeps 95 %"),
    )  # fmt: skip
