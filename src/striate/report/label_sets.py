"""The sections of a network that gives an image any number of labels: scores by label, which are found together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from striate.metrics.reliability import Reliability
from striate.report.charts import Series, figure, line_chart, svg
from striate.report.confusion import label_text, shortened
from striate.report.figures import finite, percent, thousands
from striate.report.record import Counts, Record
from striate.report.technical import bar_width

DRAWN = 3  # precision-recall curves of that many labels from either end
TALL = 40  # rows from which the table scrolls
PAIRS = 15  # of labels, listed
MOST_DRAWN = 30  # labels of the picture of pairs
SHORT = 14  # letters of a label beside the picture


def stored_reliability(scores: Mapping[str, Any]) -> Reliability | None:
    """Of all pairs of image and label."""
    bins = (scores.get("calibration") or {}).get("bins")
    return Reliability.from_dict(bins) if bins else None


def labels(record: Record, counts: Counts | None) -> dict[str, Any] | None:
    """The table of the labels, weakest first, and the curves of the worst and the best; None of single labels."""
    scores = record.scores
    rows = scores.get("per_class") or ()
    if not rows or not record.multi_label:
        return None
    train: dict[str, int] = {}
    if counts is not None and "train" in counts.splits:
        train = dict(zip(counts.classes, counts.splits["train"].tolist(), strict=True))
    table = [_row(row, train.get(str(row["label"]))) for row in rows]
    table.sort(key=lambda row: (row["area_value"] < 0, row["area_value"]))
    missing = [str(name) for name in scores.get("without_images") or ()]
    return {
        "rows": table,
        "train": bool(train),
        "tall": len(table) > TALL,
        "facts": [
            ("mean average precision", percent(finite(scores.get("map")))),
            ("exactly right sets", percent(scores["exact_match"])),
            ("micro F1", percent(scores["micro_f1"])),
            ("macro F1", percent(scores["macro_f1"])),
            ("Hamming loss", percent(finite(scores.get("hamming_loss")), 2)),
            ("label ranking precision", percent(finite(scores.get("label_ranking_average_precision")))),
        ],
        "missing": ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else ""),
        "thresholds": _threshold_words(record),
        "chart": _curves(scores),
        "together": _together(scores.get("together") or {}),
    }


def _row(row: Mapping[str, Any], train: int | None) -> dict[str, Any]:
    area = finite(row.get("average_precision"))
    found: dict[str, Any] = {
        "name": str(row["label"]),
        "area": percent(area),
        "area_value": -1 if area is None else area,
        "bar": bar_width(area or 0.0, 1),
        "threshold": f"{finite(row.get('threshold')) or 0.0:.3f}",
        "threshold_value": row.get("threshold"),
        "support": int(row["support"]),
        "train": train,
    }
    for name in ("precision", "recall", "f1"):
        ends = row.get(f"{name}_interval")
        found[name], found[f"{name}_value"] = percent(row[name]), row[name]
        found[f"{name}_interval"] = f"{100 * ends[0]:.1f} – {percent(ends[1])}" if ends else ""
    return found


def _threshold_words(record: Record) -> str:
    fitted = record.evaluation.get("thresholds")
    if not fitted:
        return "A label is chosen where its probability is at least 0.5."
    words = (
        f"A label is chosen where its probability reaches the label's threshold, which makes its F1 largest on "
        f"{thousands(fitted['images'])} validation images and is kept in the model file. With 0.5 for every label the "
        f"mean F1 is {percent(fitted['macro_f1_before'])}; with thresholds fitted on four of five parts of the images "
        f"it is {percent(fitted['macro_f1_after'])} on the remaining one."
    )
    if record.headline == "val":
        words += " Precision, recall and F1 below are of the very images that the thresholds were fitted on."
    return words


def _curves(scores: Mapping[str, Any]) -> Markup:
    """Precision over recall of the worst and the best labels."""
    there = [row for row in (scores.get("ranking") or {}).get("classes") or () if row.get("precision_recall")]
    there.sort(key=lambda row: row["average_precision"])
    shown = there if len(there) <= 2 * DRAWN else [*there[:DRAWN], *there[-DRAWN:]]
    lines = []
    for place, row in enumerate(shown):
        curve = row["precision_recall"]
        points = [(100 * x, y) for x, y in zip(curve["recall"], curve["precision"], strict=True)]
        points = [(0.0, points[0][1]), *points] if points else []
        best = len(there) > 2 * DRAWN and place >= DRAWN
        lines.append(Series(str(row["label"]), points, f"run{place}", dashed=best))
    note = f"the {DRAWN} worst labels, and dashed the {DRAWN} best" if len(there) > len(shown) else "each label"
    return line_chart(
        "Precision over recall", lines, x_label="recall, %", form=lambda share: percent(share, 0), log=False, note=note
    )


def _together(stored: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which labels are on one image, in truth and as they are chosen: what a confusion matrix is for single labels."""
    names = [str(name) for name in stored.get("labels") or ()]
    if len(names) < 2:
        return None
    true, said = (np.array(stored[key], dtype=np.int64) for key in ("true", "chosen"))
    pairs = [(int(one), int(other)) for one, other in zip(*np.triu_indices(len(names), 1), strict=True)]
    pairs = [pair for pair in pairs if true[pair] or said[pair]]
    pairs.sort(key=lambda pair: (-abs(int(said[pair]) - int(true[pair])), -int(true[pair])))
    kept = np.sort(np.argsort(-np.diagonal(true), kind="stable")[:MOST_DRAWN])
    return {
        "chart": _pair_chart(true[np.ix_(kept, kept)], said[np.ix_(kept, kept)], [names[place] for place in kept]),
        "rows": [
            (names[one], names[other], int(true[one, other]), int(said[one, other]),
             f"{int(said[one, other]) - int(true[one, other]):+d}".replace("-", "−").replace("+0", "0"))
            for one, other in pairs[:PAIRS]
        ],
    }  # fmt: skip


def _pair_chart(true: np.ndarray, said: np.ndarray, names: Sequence[str]) -> Markup:
    """Below the diagonal how often two labels are together, above it how often they are chosen together."""
    count = len(names)
    cell = 42 if count <= 8 else 30 if count <= 14 else max(12, 420 // count)
    margin = 14 + 6.4 * min(max(map(len, names)), SHORT)
    most = max(int(np.triu(one, 1).max()) for one in (true, said)) or 1
    parts: list[str] = []
    for row in range(count):
        middle = margin + (row + 0.5) * cell
        short = shortened(names[row], SHORT)
        parts.append(label_text(margin - 6, middle, short, names[row], "end", small=cell < 14))
        parts.append(label_text(middle, margin - 6, short, names[row], "start", turned=True, small=cell < 14))
        others = [column for column in range(count) if column != row]
        parts.extend(_pair_cell(true, said, names, row, column, margin, cell, most) for column in others)
    side = margin + count * cell
    frame = f'<rect class="frame" x="{margin:.1f}" y="{margin:.1f}" width="{count * cell}" height="{count * cell}"/>'
    drawing = svg(frame + "".join(parts), "Labels together", "", side + 4, side + 4)
    styled = Markup('<div class="matrix" style="max-width:{}px">{}</div>').format(round(side * 1.05) + 4, drawing)
    return figure("Labels together", styled, note="images; below the diagonal in truth, above it as chosen")


def _pair_cell(
    true: np.ndarray, said: np.ndarray, names: Sequence[str], row: int, column: int, margin: float, cell: int, most: int
) -> str:
    below = row > column
    value = int((true if below else said)[row, column])
    words = f"{names[row]} and {names[column]}: together on {true[row, column]} images, chosen on {said[row, column]}"
    strength = 0.85 * value / most
    x, y = margin + column * cell, margin + row * cell
    drawn = Markup(
        '<rect class="{}" fill-opacity="{:.2f}" x="{:.1f}" y="{:.1f}" width="{}" height="{}"><title>{}</title></rect>'
    ).format("right" if below else "wrong", strength, x + 0.5, y + 0.5, cell - 1, cell - 1, words)
    if not value or cell < 24:
        return str(drawn)
    return str(drawn) + str(
        Markup('<text class="inside{}" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
            " strong" if strength > 0.5 else "", x + cell / 2, y + cell / 2 + 4, thousands(value)
        )
    )


def mistakes_in_words(scores: Mapping[str, Any]) -> str:
    """How many images have a wrong set."""
    return f"{thousands(round((1 - scores['exact_match']) * scores['n']))} with a wrong set of labels"


def answer_words(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What stands below the picture of one answer."""
    truth, said = (", ".join(answer.get(key) or ()) or "no label" for key in ("labels", "chosen"))
    right = bool(answer.get("correct"))
    detail = "" if right else f"is {truth}"
    title = f"{answer.get('path')}: {truth}" if right else f"{answer.get('path')}: taken for {said}, is {truth}"
    return {"title": title, "caption": said, "detail": detail, "right": right}
