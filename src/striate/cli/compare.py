"""`striate compare`: networks side by side, and their accuracy over their operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from striate.cli.common import OneOf, json_flag, prepare_torch, print_json, progress_of, say, striate_command
from striate.cli.models import short
from striate.cli.tables import FORMATS, Column, byte_size, written
from striate.errors import UnknownNameError, UsageError
from striate.spec import ModelEntry, PublishedScore

if TYPE_CHECKING:
    from striate.anatomy import Anatomy

_IMAGENET = "ImageNet val"


@striate_command("compare")
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option("--dataset", metavar="NAME", help="Whose published scores to show [what most of the networks have].")
@click.option("--format", "form", type=OneOf(FORMATS), default="text", help=f"{', '.join(FORMATS)} [text]")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write the table there.")
@click.option("--chart", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw it: PNG or SVG.")
@click.option("--runs", default="runs", show_default=True, metavar="FOLDER", help="Folder that holds the run folders.")
@json_flag
def command(
    models: tuple[str, ...],
    dataset: str | None,
    form: str,
    output: Path | None,
    chart: Path | None,
    runs: str,
    as_json: bool,
) -> None:
    """Show networks side by side: parameters, multiply-accumulates, memory, receptive field, scores.

    MODEL is a registered name or a pattern (resnet*), timm:NAME, FILE.py:CLASS, a run or a model file; without any, all
    ImageNet networks. Published scores stand with their protocol: one crop of one network and ten crops of six are not
    the same. Runs and model files add their own measured scores. The chart has accuracy over operations, with
    parameters as the area.

    \b
    Examples:
      striate compare resnet18 vgg16 googlenet
      striate compare --chart accuracy.svg
      striate compare "cifar_*" latest --chart cifar.png
    """
    chosen = _chosen(models)
    if dataset is not None and dataset not in (known := _datasets()):
        raise UnknownNameError("data set of published scores", dataset, known)
    prepare_torch()
    progress = progress_of()
    found = []
    with progress.task("following networks", len(chosen)) as task:
        for text, entry in chosen:
            found.append(_compared(text, entry, runs))
            task.advance(note=text)
    shown = dataset or _usual_dataset(found)
    rows = [row for one in found for row in [_row(one, shown)]]
    if chart is not None:
        from striate.anatomy.picture import draw_chart

        draw_chart(_bubbles(found, shown), chart, dataset=shown or "measured")
    if as_json:
        print_json({"dataset": shown, "models": rows} | ({"chart": chart} if chart else {}))
    text = written(rows, COLUMNS, form)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
    elif not as_json:
        say(text)
        if form == "text" and shown:
            say(f"\npublished: {shown}, accuracy in per cent; own: as measured, of the run's test split or else val")
    if not as_json:
        for path in filter(None, (output, chart)):
            click.echo(f"wrote {path}", err=True)


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


COLUMNS = (
    Column("model", "model", left=True),
    Column("input", "input", text=lambda shape: "x".join(map(str, shape))),
    Column("params", "params", text=short),
    Column("MACs", "macs", text=short),
    Column("memory", "activation_bytes", text=byte_size),
    Column("field", "receptive_field", text=lambda value: "-" if value is None else str(value)),
    Column("top-1", "top1", text=_per_cent),
    Column("top-5", "top5", text=_per_cent),
    Column("protocol", "protocol", left=True, text=lambda text: text if len(text) <= 30 else text[:29] + "…"),
    Column("own top-1", "own_top1", text=_per_cent),
    Column("own top-5", "own_top5", text=_per_cent, wide=True),
    Column("source", "source", left=True, wide=True),
)


@dataclass(frozen=True, slots=True)
class _Compared:
    text: str  # as it was asked for
    anatomy: Anatomy
    entry: ModelEntry | None
    scores: dict[str, Any]  # measured: by split


def _chosen(models: Sequence[str]) -> list[tuple[str, ModelEntry | None]]:
    """What to compare, patterns resolved; an entry where the name is a registered one."""
    from fnmatch import fnmatch

    from striate.models.registry import entries, find_entry

    if not models:
        return [(one.name, one) for one in entries() if _published(one, _IMAGENET) is not None]
    chosen: list[tuple[str, ModelEntry | None]] = []
    for text in models:
        if any(mark in text for mark in "*?["):
            names = [one for one in entries() if any(fnmatch(name, text.lower()) for name in (one.name, *one.aliases))]
            if not names:
                raise UsageError(f"no network is called like {text}", "`striate models` lists them")
            chosen += [(one.name, one) for one in names]
            continue
        try:
            chosen.append((text, find_entry(text)))
        except UnknownNameError:
            chosen.append((text, None))
    once: dict[str, tuple[str, ModelEntry | None]] = {}
    for text, entry in chosen:
        once.setdefault(entry.name if entry else text, (text, entry))
    return list(once.values())


def _compared(text: str, entry: ModelEntry | None, runs: str) -> _Compared:
    from striate.anatomy import anatomy_of
    from striate.models import create_model
    from striate.network import open_network

    if entry is not None:
        return _Compared(text, anatomy_of(create_model(entry.name, start=False), training=False), entry, {})
    saved = open_network(text, weights=False, runs=runs)
    return _Compared(text, anatomy_of(saved.model, training=False), _entry_of(saved.model), saved.scores)


def _entry_of(model: Any) -> ModelEntry | None:
    from striate.models.registry import find_entry

    try:
        return None if model.architecture.cut else find_entry(model.architecture.name)
    except UnknownNameError:
        return None


def _datasets() -> set[str]:
    """Whatever any registered network has a published score on."""
    from striate.models.registry import entries

    return {score.dataset for entry in entries() for score in entry.published}


def _usual_dataset(found: Sequence[_Compared]) -> str | None:
    """The data set that most of the networks have published scores on."""
    counts = Counter(score.dataset for one in found if one.entry for score in one.entry.published[:1])
    return counts.most_common(1)[0][0] if counts else None


def _published(entry: ModelEntry | None, dataset: str | None) -> PublishedScore | None:
    """The score to show: the first with one crop, which is what most networks have, else the first."""
    scores = [score for score in (entry.published if entry else ()) if score.dataset == dataset]
    scores.sort(key=lambda score: (score.top1_error is None, "network" in score.protocol, score.protocol != "1 crop"))
    return scores[0] if scores else None


def _own(scores: dict[str, Any]) -> dict[str, Any]:
    """The measured scores of the test split where there is one, else of val."""
    return scores.get("test") or scores.get("val") or {}


def _row(one: _Compared, dataset: str | None) -> dict[str, Any]:
    # A run's network has its own data and classes: what was published of the architecture is not about it.
    score = None if one.scores else _published(one.entry, dataset)
    return {
        "model": one.text if one.scores or one.entry is None else one.entry.name,
        "architecture": one.anatomy.model,
        "input": list(one.anatomy.input),
        "params": one.anatomy.params,
        "macs": one.anatomy.macs,
        "flops": one.anatomy.flops,
        "activation_bytes": one.anatomy.activation_bytes,
        "receptive_field": one.anatomy.receptive_field,
        "stride": one.anatomy.stride,
        "top1": _accuracy(score.top1_error if score else None),
        "top5": _accuracy(score.top5_error if score else None),
        "protocol": score.protocol if score else "",
        "source": score.source if score else "",
        "own_top1": _own(one.scores).get("top1"),
        "own_top5": _own(one.scores).get("top5"),
        "published": [asdict(score) for score in one.entry.published] if one.entry else [],
    }


def _accuracy(error: float | None) -> float | None:
    return None if error is None else round(1 - error / 100, 6)


def _bubbles(found: Sequence[_Compared], dataset: str | None) -> list[Any]:
    from striate.anatomy.picture import Bubble

    bubbles = []
    for one in found:
        row = _row(one, dataset)
        own = row["own_top1"] is not None
        accuracy = row["own_top1"] if own else row["top1"]
        if accuracy is not None:
            bubbles.append(
                Bubble(
                    name=row["model"],
                    family=one.entry.family if one.entry else "other",
                    macs=row["macs"],
                    accuracy=accuracy,
                    params=row["params"],
                    protocol=row["protocol"],
                    own=own,
                )
            )
    return bubbles
