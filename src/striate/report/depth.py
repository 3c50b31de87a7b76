"""The section on what reaches each depth: gradients, activations, dead rectifiers, histograms of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from striate.report.charts import Point, Series, figure, legend, line_chart, svg
from striate.report.figures import finite, number, percent, seconds, thousands
from striate.report.record import Record
from striate.report.technical import training_seconds

MOST_LINES = 4  # epochs drawn in one chart
MOST_HISTOGRAMS = 12
STARVED = 1e-3  # of the deepest hidden layer's gradient: less is called vanishing, the inverse exploding
PANEL, PANEL_HEIGHT, COLUMNS = 280.0, 120.0, 4  # in the drawing, which is as wide as the page where there are many


def depth(record: Record) -> dict[str, Any] | None:
    """Everything that the template shows; None where it was not recorded."""
    rows = [row for row in record.depth if row.get("layers")]
    if not rows:
        return None
    first, last, shown = rows[0], rows[-1], _chosen(rows)
    charts = [
        line_chart(
            "Gradient by depth", _lines(shown, _gradients), x_label="layer",
            note="norm of the gradient of one image’s loss by the layer’s outputs",
        ),
        line_chart(
            "Activations by depth", _lines(shown, _deviations), x_label="layer",
            note="standard deviation of the layer’s outputs",
        ),
    ]  # fmt: skip
    if any(one.get("dead") for row in shown for one in row.get("rectifiers") or ()):
        charts.append(
            line_chart(
                "Dead rectifiers by depth", _lines(shown, _dead), x_label="rectifier", form=percent, log=False,
                note=f"share of units that are 0 for all {first.get('images')} images",
            )
        )  # fmt: skip
    return {
        "words": _reach(first, last),
        "facts": _facts(record, rows),
        "images": first.get("images"),
        "charts": [chart for chart in charts if chart],
        "weights": _histograms(first, last),
        "rows": _table(last),
        "epoch": last.get("epoch"),
        "tall": len(last["layers"]) > 25,
    }


def _chosen(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first, the last and those evenly between on the scale of ratios: most happens early."""
    last = len(rows) - 1
    share = [place / (MOST_LINES - 1) for place in range(MOST_LINES)]
    return [rows[one] for one in sorted({round((last + 1) ** part) - 1 for part in share} | {last}) if one <= last]


def _lines(shown: Sequence[Mapping[str, Any]], values: Any) -> list[Series]:
    lines = []
    for place, row in enumerate(shown):
        age = MOST_LINES - 1 if place == len(shown) - 1 else place
        lines.append(Series(_when(row), values(row), f"age{age}", dashed=not row.get("epoch")))
    return lines


def _when(row: Mapping[str, Any]) -> str:
    return f"after epoch {row['epoch']}" if row.get("epoch") else "at the start"


def _gradients(row: Mapping[str, Any]) -> list[Point]:
    """Above zero: what a chart of powers can show."""
    found = [(place, finite(one.get("gradient"))) for place, one in enumerate(row["layers"], 1)]
    return [(place, value) for place, value in found if value]


def _deviations(row: Mapping[str, Any]) -> list[Point]:
    found = [(place, finite(one.get("deviation"))) for place, one in enumerate(row["layers"], 1)]
    return [(place, value) for place, value in found if value]


def _dead(row: Mapping[str, Any]) -> list[Point]:
    rectifiers = row.get("rectifiers") or ()
    return [(place, one["dead"] / one["units"]) for place, one in enumerate(rectifiers, 1) if one.get("units")]


def _reach(first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """How much of the gradient at the deepest hidden layer comes down to the first, in words."""
    ratio, before = _ratio(last), _ratio(first)
    if ratio is None:
        return ""
    hidden = _hidden(last)
    words = f"Of the gradient at `{hidden[-1]['name']}`, {_share(ratio)} comes down to `{hidden[0]['name']}`"
    if before is not None and first is not last:
        words += f" ({_share(before)} at the start)"
    if lost := [one for one in last.get("rectifiers") or () if one.get("units") and one["dead"] == one["units"]]:
        return words + (
            f": every unit after `{lost[0]['after']}` is dead, and dead units do not come back. A lower rate, a "
            "warm-up or normalisation keeps them alive."
        )
    if ratio < STARVED:
        return words + (
            ": it vanishes on the way, and the first layers hardly learn. What keeps it alive: rectifiers with He’s "
            "start, normalisation, residual sums."
        )
    if ratio > 1 / STARVED:
        return words + ": it explodes on the way. What holds it: normalisation, a smaller start, `--clip-norm`."
    return words + "."


def _hidden(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The layers that learn, but for the last, whose outputs are the answer."""
    return [one for one in row["layers"][:-1] if finite(one.get("gradient")) is not None]


def _ratio(row: Mapping[str, Any]) -> float | None:
    hidden = _hidden(row)
    if len(hidden) < 2 or not hidden[-1]["gradient"]:
        return None
    return hidden[0]["gradient"] / hidden[-1]["gradient"]


def _share(ratio: float) -> str:
    if ratio == 0:
        return "nothing"
    if ratio >= 2:
        return f"{number(ratio, 2)} times as much"
    return percent(ratio, 0) if ratio >= 0.01 else f"1 part in {number(1 / ratio, 1)}"


def _facts(record: Record, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    first, last = rows[0], rows[-1]
    facts = []
    for words, row in (("at the start", first), ("at the end", last)):
        if (rectifiers := row.get("rectifiers")) and (row is last or first is not last):
            dead, units = (sum(int(one.get(key) or 0) for one in rectifiers) for key in ("dead", "units"))
            facts.append((f"dead units {words}", f"{thousands(dead)} of {thousands(units)}"))
    for words, row in (("at the start", first), ("at the end", last)):
        sparse = [value for one in row["layers"] if (value := finite(one.get("sparsity"))) is not None]
        if sparse and (row is last or first is not last):
            facts.append((f"sparsity of weights {words}", number(sum(sparse) / len(sparse), 2)))
    spent, whole = sum(finite(row.get("seconds")) or 0.0 for row in rows), training_seconds(record)
    facts.append(("time to record", seconds(spent) + (f", {percent(spent / whole)} of training" if whole else "")))
    return facts


def _histograms(first: Mapping[str, Any], last: Mapping[str, Any]) -> Markup:
    """The weights of up to `MOST_HISTOGRAMS` layers, evenly chosen, at the start and at the end."""
    before = {one.get("name"): one for one in first["layers"]}
    there = [one for one in last["layers"] if one.get("histogram") and finite(one.get("edge"))]
    if not there:
        return Markup("")
    whole, most = len(there), min(len(there), MOST_HISTOGRAMS)
    there = [there[round(place * (whole - 1) / max(most - 1, 1))] for place in range(most)]
    columns = min(COLUMNS, len(there))
    parts = [
        _panel(one, before.get(one.get("name"), {}), place % columns * PANEL, place // columns * (PANEL_HEIGHT + 36))
        for place, one in enumerate(there)
    ]
    rows = math.ceil(len(there) / columns)
    keys = legend([Series("at the start", (), "age0"), Series(_when(last), (), "age3")])
    title = "Weights" if most == whole else f"Weights of {most} of {whole} layers"
    drawing = svg("".join(parts), title, "histograms", COLUMNS * PANEL, rows * (PANEL_HEIGHT + 36))
    return figure(
        title, drawing, keys, "how many weights (upwards) have which value; the scale of each layer is its own"
    )


def _panel(now: Mapping[str, Any], start: Mapping[str, Any], left: float, top: float) -> Markup:
    """One layer: its histogram, and behind it that of the start on the same scale of values."""
    width, base = PANEL - 20, top + PANEL_HEIGHT
    edge = max(finite(now.get("edge")) or 0.0, finite(start.get("edge")) or 0.0)
    shapes = []
    for one, colour in ((start, "age0"), (now, "age3")):
        counts, own = one.get("histogram") or [], finite(one.get("edge")) or 0.0
        if not counts or not own:
            continue
        density = [count / own for count in counts]
        column = width * own / edge / len(counts)
        begin = left + width / 2 - column * len(counts) / 2
        heights = [(PANEL_HEIGHT - 20) * value / max(density) for value in density]
        points = [f"{begin:.1f},{base:.1f}"]
        for place, height in enumerate(heights):
            points += [f"{begin + (place + side) * column:.1f},{base - height:.1f}" for side in (0, 1)]
        points.append(f"{begin + len(counts) * column:.1f},{base:.1f}")
        shapes.append(f'<polygon class="spread {colour}" points="{" ".join(points)}"/>')
    words = f"{now['name']}: sparsity {number(finite(now.get('sparsity')), 2)}"
    if start:
        words += f", {number(finite(start.get('sparsity')), 2)} at the start"
    name = now["name"] if len(now["name"]) <= 36 else f"…{now['name'][-35:]}"
    return Markup(
        '<g><title>{}</title><rect class="hover" x="{}" y="{}" width="{}" height="{}"/>{}'
        '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text x="{}" y="{}">{}</text><text x="{}" y="{}">−{}</text>'
        '<text x="{}" y="{}" text-anchor="end">{}</text></g>'
    ).format(
        words, f"{left:.1f}", f"{top:.1f}", f"{width:.1f}", f"{PANEL_HEIGHT:.1f}", Markup("".join(shapes)),
        f"{left:.1f}", f"{left + width:.1f}", f"{base:.1f}", f"{base:.1f}",
        f"{left:.1f}", f"{top + 9:.1f}", name,
        f"{left:.1f}", f"{base + 15:.1f}", number(edge, 2), f"{left + width:.1f}", f"{base + 15:.1f}", number(edge, 2),
    )  # fmt: skip


def _table(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layers at the end; what rectifies a layer's outputs stands with it."""
    rectifiers = {one.get("after"): one for one in row.get("rectifiers") or ()}
    table = []
    for place, one in enumerate(row["layers"], 1):
        rectifier = rectifiers.get(one["name"])
        pull, size = finite(one.get("weight_gradient")), finite(one.get("weight_rms"))
        table.append(
            {
                "place": place,
                "name": one["name"],
                "mean": number(finite(one.get("mean"))).replace("-", "−"),
                "deviation": number(finite(one.get("deviation"))),
                "gradient": number(finite(one.get("gradient"))),
                "ratio": number(pull / size if pull is not None and size else None),
                "active": percent(finite(rectifier.get("active"))) if rectifier else "",
                "dead": f"{rectifier['dead']} of {rectifier['units']}" if rectifier else "",
                "sparsity": number(finite(one.get("sparsity")), 2),
            }
        )
    return table
