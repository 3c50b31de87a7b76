"""The sections on the machinery: time, network, options, environment; and the facts that the others borrow."""

from __future__ import annotations

from collections import Counter
from typing import Any

from striate.report.charts import Series, line_chart, stacked_bar
from striate.report.figures import finite, median, percent, seconds, size, thousands
from striate.report.options_table import option_groups
from striate.report.pictures import filter_sprite
from striate.report.record import Record, Tensor, epoch_values

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def parameters(record: Record) -> int:
    """As evaluated; for an unfinished run as stored."""
    return int(record.evaluation.get("params") or 0) or sum(tensor.count for tensor in _weights(record))


def training_seconds(record: Record) -> float:
    """Seconds of training alone."""
    whole = finite(record.environment.get("training_seconds")) or phases(record).get("train")
    return whole or sum(value for _, value in epoch_values(record.epochs, "seconds"))


def _weights(record: Record) -> list[Tensor]:
    """The stored tensors but for the running figures of batch normalisation, which are no parameters."""
    return [tensor for tensor in record.tensors if not tensor.name.endswith(STATISTICS)]


def phases(record: Record) -> dict[str, float]:
    """Seconds by phase."""
    there = record.environment.get("phases") or {}
    return {name: value for name, raw in there.items() if (value := finite(raw)) is not None}


def seen_size(record: Record) -> str:
    """What the network is fed, in a few words."""
    spec = record.model.get("spec") or record.model.get("input") or {}
    if not spec.get("size"):
        return ""
    height, width = spec["size"]
    colour = {1: "grey", 3: "colour"}.get(spec.get("channels") or 0, f"{spec.get('channels')} channels")
    return f"{height} × {width} pixels, {colour}, fitted by “{spec.get('resize', 'crop')}”"


def bar_width(value: float, most: float) -> str:
    """CSS width of a bar, in per cent of the widest."""
    return f"{100 * value / (most or 1):.1f}"


def timing(record: Record) -> dict[str, Any] | None:
    """Where the seconds went."""
    parts = list(phases(record).items())
    rates = epoch_values(record.epochs, "images_per_second")
    waits, spent = dict(epoch_values(record.epochs, "data_wait_share")), dict(epoch_values(record.epochs, "seconds"))
    facts = []
    if spent:
        facts.append(("seconds per epoch, median", seconds(median(list(spent.values())))))
        facts.append(("first epoch", seconds(next(iter(spent.values())))))
    if rates:
        facts.append(("images per second, median", thousands(median([value for _, value in rates]) or 0)))
    both = waits.keys() & spent.keys()
    if total := sum(spent[epoch] for epoch in both):
        waited = sum(waits[epoch] * spent[epoch] for epoch in both)
        facts.append(("waiting for data", f"{percent(waited / total)} ({seconds(waited)})"))
    chart = stacked_bar("Where the time went", parts, seconds)
    speed = line_chart("Images per second", [Series("", rates, "ink")], log=False) if len(rates) > 1 else ""
    return {"chart": chart, "facts": facts, "speed": speed} if facts or chart else None


def network(record: Record) -> dict[str, Any] | None:
    """Parameters by part, what the model file holds, and the first layer's filters."""
    if not record.tensors and not record.evaluation.get("params"):
        return None
    facts = [("architecture", record.model_name), ("parameters", thousands(parameters(record)))]
    if record.model_bytes:
        facts.append(("model file", size(record.model_bytes)))
    if record.labels:
        facts.append(("labels" if record.multi_label else "classes", thousands(len(record.labels))))
    if seen := seen_size(record):
        facts.append(("input", seen))
    spec = record.model.get("spec") or record.model.get("input") or {}
    facts += [
        (f"input {name}", ", ".join(f"{value:.4g}" for value in spec[name]))
        for name in ("mean", "std")
        if spec.get(name)
    ]
    parts: Counter[str] = Counter()
    for tensor in _weights(record):
        parts[_part(tensor.name)] += tensor.count
    most = max(parts.values(), default=1)
    filters = filter_sprite(record.filters) if record.filters is not None else None
    shape = " × ".join(str(side) for side in record.filters.shape) if record.filters is not None else ""
    return {
        "facts": facts,
        "parts": [(name, thousands(count), bar_width(count, most)) for name, count in parts.items()],
        "filters": filters,
        "filters_words": f"{record.filters_name}, {shape}",
        "tensors": [(one.name, " × ".join(map(str, one.shape)), thousands(one.count)) for one in record.tensors],
    }


def _part(name: str) -> str:
    """`stages.layer1.0.conv1.weight` → `stages.layer1`; the stem and the head are one part each."""
    pieces = name.split(".")
    return ".".join(pieces[:2]) if pieces[0] == "stages" and len(pieces) > 2 else pieces[0]


def options(record: Record) -> list[dict[str, Any]]:
    """Every option, what differs from the defaults first."""
    return option_groups(record.options)


def environment(record: Record) -> list[tuple[str, str]]:
    """What the run was made with, phases left to their own section."""
    return [
        (name.replace("_", " "), str(value))
        for name, value in record.environment.items()
        if name != "phases" and value is not None and not isinstance(value, (dict, list))
    ] + [
        (f"{name} {key}".replace("_", " "), str(one))
        for name, value in record.environment.items()
        if isinstance(value, dict) and name != "phases"
        for key, one in value.items()
    ]
