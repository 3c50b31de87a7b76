"""`write_comparison`: several runs on one page, their curves overlaid and only the options that differ."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.errors import UsageError
from striate.report.charts import Point, Series, line_chart
from striate.report.ensembles import of_runs
from striate.report.figures import (
    digits_for,
    finite,
    interval_of,
    measure_of,
    median,
    number,
    percent,
    points,
    seconds,
    thousands,
)
from striate.report.options_table import flattened, written
from striate.report.page import write_page
from striate.report.pairing import paired_tests
from striate.report.record import Record, epoch_values, read_record
from striate.report.technical import parameters, training_seconds

COLOURS = 8  # line colours of the style sheet; from the ninth run on they come again, dashed
NOT_SETTINGS = frozenset(("training.run_dir", "training.runs", "training.report", "data.data_root"))
REPEATS = frozenset(("training.seed", "data.fold"))  # runs that differ in these alone repeat one another


@dataclass(frozen=True)
class Comparison:
    """A page that was written, and what its tests said."""

    path: Path
    pairs: list[dict[str, Any]]  # see `paired_tests`


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """As `compare_runs`; only the page's path."""
    return compare_runs(runs, out).path


def compare_runs(runs: Sequence[Path], out: Path) -> Comparison:
    """Write one page that sets runs side by side, and test the differences of those that scored the same images.

    Args:
        runs: at least two run folders; unfinished ones take part with what they have.
        out: the page.

    Raises:
        UsageError: fewer than two runs.
        StriateError: one of them is no run folder.
    """
    if len(runs) < 2:
        raise UsageError("a comparison needs at least two runs")
    records = [read_record(Path(run)) for run in runs]
    pairs = paired_tests(records, run_names(records))
    return Comparison(write_page(Path(out), "comparison.html", comparison_values(records, pairs)), pairs)


def comparison_values(records: Sequence[Record], pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything that the template shows."""
    names = run_names(records)
    rows = [_row(record, name, place) for place, (record, name) in enumerate(zip(records, names, strict=True))]
    for split in ("val", "test"):
        scores = [row[split]["value"] for row in rows if row[split]]
        for row in rows:
            if row[split] and len(scores) > 1:
                row[split]["best"] = row[split]["value"] == max(scores)
    return {
        "title": f"{len(records)} runs compared",
        "rows": rows,
        "columns": {key: any(row[key] for row in rows) for key in ("val", "test")},
        "warnings": _warnings(records),
        "repeats": _repeats(records, names),
        "pairs": [_pair(one) for one in pairs],
        "measure": _measure(records)[1],
        "alone": any("only_first" in one for one in pairs),
        "ensembles": of_runs([record.run for record in records]),
        "curves": _curves(records, names),
        "names": names,
        "options": differing_options(records),
    }


def _pair(one: Mapping[str, Any]) -> dict[str, str]:
    digits = digits_for(one["n"])
    return {
        "first": one["first"],
        "second": one["second"],
        "images": f"{thousands(one['n'])} {one['split']}"
        + (f" of {thousands(one['of'])}" if one["of"] > one["n"] else ""),
        "scores": " and ".join(percent(share, digits) for share in one["map" if "map" in one else "top1"]),
        "difference": points(one["difference"], digits),
        "interval": f"{points(one['low'], digits).removesuffix(' points')} to {points(one['high'], digits)}",
        "alone": f"{one['only_first']} and {one['only_second']}" if "only_first" in one else "",
        "p": "below 0.001" if one["p_adjusted"] < 0.001 else f"{one['p_adjusted']:.3f}",
        "verdict": "more than chance" if one["better"] else "may be chance",
    }


def run_names(records: Sequence[Record]) -> list[str]:
    """The folders' names; where two are alike, with the folder above."""
    names = [record.run.resolve().name for record in records]
    if len(set(names)) == len(names):
        return names
    return ["/".join(record.run.resolve().parts[-2:]) for record in records]


def differing_options(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """(key, the value of each run) of every option in which they are not all alike."""
    flat = [flattened(record.options) for record in records]
    keys = sorted({key for one in flat for key in one} - NOT_SETTINGS)
    table = [(key, [written(one.get(key)) for one in flat]) for key in keys]
    return [(key, values) for key, values in table if len(set(values)) > 1]


def _row(record: Record, name: str, place: int) -> dict[str, Any]:
    splits = record.evaluation.get("splits") or {}
    rate = median([value for _, value in epoch_values(record.epochs, "images_per_second")])
    spent = training_seconds(record)
    epochs = 0 if record.without_epochs else len(record.epochs)
    return {
        "name": name,
        "colour": _colour(place),
        "model": record.model_name,
        "data": record.data_name,
        "epochs": f"{epochs}" + ("" if record.finished else " (unfinished)"),
        "epochs_value": epochs,
        "val": _score(splits.get("val")),
        "test": _score(splits.get("test")),
        "loss": number(finite(record.scores.get("loss")), zeros=True),
        "loss_value": finite(record.scores.get("loss")) or 0,
        "params": thousands(parameters(record)) if parameters(record) else "–",
        "params_value": parameters(record),
        "seconds": seconds(spent) if spent else "–",
        "seconds_value": spent,
        "rate": thousands(rate) if rate else "–",
        "rate_value": rate or 0,
    }


def _score(scores: dict[str, Any] | None) -> dict[str, Any] | None:
    if not scores:
        return None
    n = int(scores["n"])
    digits = digits_for(n)
    low, high = interval_of(scores)
    return {
        "value": (value := finite(scores.get(measure_of(scores))) or 0.0),
        "text": percent(value, digits),
        "interval": f"{percent(low, digits)} – {percent(high, digits)}",
        "best": False,
    }


def _warnings(records: Sequence[Record]) -> list[str]:
    """What makes the scores hard to compare."""
    found = []
    if len({record.multi_label for record in records}) > 1:
        found.append("Some of these runs give an image any number of labels, others one class: their scores differ.")
    data = sorted({record.data_name for record in records})
    if len(data) > 1:
        found.append(f"These runs learned from different data ({', '.join(data)}): their scores do not compare.")
    for split in ("val", "test"):
        sizes = {int(one["n"]) for record in records if (one := (record.evaluation.get("splits") or {}).get(split))}
        if len(sizes) > 1 and len(data) == 1:
            listed = ", ".join(thousands(count) for count in sorted(sizes))
            found.append(f"The {split} scores come from sets of different size ({listed} images).")
    seeds = {record.options.get("data", {}).get("split_seed", 0) for record in records}
    if len(seeds) > 1:
        found.append("These runs split their data differently (data.split_seed).")
    missing = [name for record, name in zip(records, run_names(records), strict=True) if not record.finished]
    if missing:
        found.append(f"Not finished: {', '.join(missing)}.")
    return found


def _repeats(records: Sequence[Record], names: Sequence[str]) -> list[dict[str, str]]:
    """Mean and spread over runs that differ in their seed or fold alone."""
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for place, record in enumerate(records):
        flat = flattened(record.options)
        key = tuple(sorted((k, written(v)) for k, v in flat.items() if k not in NOT_SETTINGS | REPEATS))
        groups.setdefault(key, []).append(place)
    found = []
    for places in groups.values():
        for split in ("val", "test"):
            there = [(records[place].evaluation.get("splits") or {}).get(split) for place in places]
            scores = [finite(one.get(measure_of(one))) or 0.0 for one in there if one]
            if len(scores) < 2:
                continue
            digits = digits_for(int(next(one["n"] for one in there if one)))
            found.append(
                {
                    "runs": ", ".join(names[place] for place in places),
                    "count": str(len(scores)),
                    "split": split,
                    "mean": percent(statistics.mean(scores), digits),
                    "spread": f"{100 * statistics.stdev(scores):.{digits}f} points",
                    "range": f"{percent(min(scores), digits)} – {percent(max(scores), digits)}",
                }
            )
    return found


def _curves(records: Sequence[Record], names: Sequence[str]) -> list[Any]:
    def lines(*keys: str) -> list[Series]:
        return [
            Series(name, epoch_values(record.epochs, *keys), _colour(place), dashed=place >= COLOURS)
            for place, (record, name) in enumerate(zip(records, names, strict=True))
        ]

    measure, name = _measure(records)
    title = name if measure == "map" else f"accuracy ({name})"
    timed = [
        Series(name, _over_time(record, measure), _colour(place), dashed=place >= COLOURS)
        for place, (record, name) in enumerate(zip(records, names, strict=True))
    ]

    def share(value: float) -> str:
        return percent(value, 1)

    charts = [
        line_chart(f"Validation {title}", lines("val", measure), form=share, log=False, share=True, keys=False),
        line_chart(
            f"Validation {title.removesuffix(' (top-1)')} over time",
            timed,
            x_label="seconds",
            form=share,
            log=False,
            share=True,
            keys=False,
        ),
        line_chart("Validation loss", lines("val", "loss"), keys=False),
        line_chart("Training loss", lines("train_loss"), keys=False),
        line_chart("Learning rate", lines("lr"), log=False, keys=False),
    ]
    return [chart for chart in charts if chart]


def _measure(records: Sequence[Record]) -> tuple[str, str]:
    """What the runs are compared by, and its name: top-1, or mAP where all give an image any number of labels."""
    return ("map", "mAP") if all(record.multi_label for record in records) else ("top1", "top-1")


def _over_time(record: Record, measure: str) -> list[Point]:
    """The validation score over the seconds of training until then."""
    spent, total = {}, 0.0
    for epoch, value in epoch_values(record.epochs, "seconds"):
        total += value
        spent[epoch] = total
    return [(spent[epoch], value) for epoch, value in epoch_values(record.epochs, "val", measure) if epoch in spent]


def _colour(place: int) -> str:
    return f"run{place % COLOURS}"
