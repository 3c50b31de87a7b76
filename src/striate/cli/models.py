"""`striate models`: the architectures, from the registry alone, without loading torch; and timm's, where asked for."""

from __future__ import annotations

from dataclasses import asdict
from fnmatch import fnmatch
from textwrap import wrap
from typing import Any

import click

from striate.cli.common import json_flag, prepare_torch, print_json, say, striate_command
from striate.errors import UnknownNameError
from striate.hub.published import listed
from striate.models.sources import TIMM
from striate.spec import ModelEntry

_WIDTH = 120  # characters of a line


@striate_command("models")
@click.argument("pattern", required=False)
@json_flag
def command(pattern: str | None, as_json: bool) -> None:
    """List the architectures: paper, parameters, multiply-accumulates of one image, published errors.

    PATTERN is a name, alias or family, or a part of one, or has wildcards (resnet*). timm:PATTERN lists timm's networks
    and weights likewise.

    \b
    Examples:
      striate models resnet20
      striate models 'timm:convnext*'
    """
    if pattern is not None and pattern.lower().startswith(TIMM):
        rows = timm_rows(pattern)
        lines = timm_table_of(rows)
    else:
        chosen = chosen_by(pattern)
        rows = [row_of(entry) for entry in chosen]
        lines = table_of(chosen)
    if as_json:
        print_json({"models": rows})
        return
    for line in lines:
        say(line)


def chosen_by(pattern: str | None) -> list[ModelEntry]:
    """The architectures that PATTERN names: where it is a name or an alias, that one and those of a family so called.

    Raises:
        UnknownNameError: there is none.
    """
    from striate.models.registry import entries

    everything = list(entries())
    if pattern is None:
        return everything
    wanted = pattern.lower()
    if any(wanted in (entry.name, *entry.aliases) for entry in everything):
        return [entry for entry in everything if wanted in (entry.name, entry.family, *entry.aliases)]
    chosen = [entry for entry in everything if _matches(entry, wanted)]
    if not chosen:
        known = [name for entry in everything for name in (entry.name, entry.family, *entry.aliases)]
        raise UnknownNameError("model", pattern, set(known))
    return chosen


def row_of(entry: ModelEntry) -> dict[str, Any]:
    """What `--json` prints of an architecture; `input` is [channels, height, width]."""
    return {
        "name": entry.name,
        "family": entry.family,
        "paper": entry.paper,
        "year": entry.year,
        "input": [entry.input.channels, *entry.input.size],
        "params": entry.params,
        "macs": entry.macs,
        "aliases": list(entry.aliases),
        "title": entry.title,
        "published": [asdict(score) for score in entry.published],
        "weights": listed(entry),
    }


def timm_rows(pattern: str) -> list[dict[str, Any]]:
    """What `--json` prints of timm's networks: the same fields, null where it would take building them to know.

    Raises:
        MissingExtraError, UnknownNameError: timm is not installed, or has none such.
    """
    prepare_torch()
    from striate.models.sources import timm_config, timm_names

    unknown = dict.fromkeys(("paper", "year", "params", "macs"))
    return [
        {
            "name": f"{TIMM}{name}",
            "family": "timm",
            **unknown,
            "input": list(timm_config(f"{TIMM}{name}").input_size) if tags else None,
            "aliases": [],
            "title": f"timm's {name}",
            "published": [],
            "weights": [f"{TIMM}{name}:{tag}" for tag in tags],
        }
        for name, tags in timm_names(pattern).items()
    ]


def timm_table_of(rows: list[dict[str, Any]]) -> list[str]:
    """A line of headings, then those of each network of timm's."""
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'name':{width}}  {'input':>9}  weights"]
    for row in rows:
        size = "x".join(map(str, row["input"])) if row["input"] else "?"
        start = f"{row['name']:{width}}  {size:>9}  "
        tags = ", ".join(spelling.rpartition(":")[2] for spelling in row["weights"]) or "none"
        lines += wrap(tags, max(_WIDTH, len(start) + 40), initial_indent=start, subsequent_indent=" " * len(start))
    return lines


def table_of(chosen: list[ModelEntry]) -> list[str]:
    """A line of headings, then the lines of each architecture and one for each paper at its first occurrence."""
    name_width = max(len(entry.name) for entry in chosen)
    lines = [f"{'name':{name_width}}  {'input':>9}  {'params':>11}  {'MACs':>7}  what"]
    paper = None
    for entry in chosen:
        if entry.paper != paper:
            paper = entry.paper
            lines += ["", entry.paper]
        size = "x".join(str(side) for side in (entry.input.channels, *entry.input.size))
        figures = f"{entry.name:{name_width}}  {size:>9}  {entry.params:>11,}  {short(entry.macs):>7}  "
        also = f"; also {', '.join(entry.aliases)}" if entry.aliases else ""
        text = f"{entry.title}{_published(entry)}{also}"
        lines += wrap(text, _WIDTH, initial_indent=figures, subsequent_indent=" " * len(figures))
    return [line.rstrip() for line in lines]


def short(count: int) -> str:
    """A count with three significant digits and its unit: 417 k, 40.6 M, 1.81 G."""
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= factor:
            return f"{count / factor:.3g}{unit}"
    return str(count)


def _published(entry: ModelEntry) -> str:
    """The first of the published errors, in a few words; `--json` has them all."""
    for score in entry.published[:1]:
        errors = [f"{error:g}" for error in (score.top1_error, score.top5_error) if error is not None]
        return f": {'/'.join(errors)} % error, {score.dataset}"
    return ""


def _matches(entry: ModelEntry, wanted: str) -> bool:
    names = (entry.name, entry.family, *entry.aliases)
    if any(mark in wanted for mark in "*?["):
        return any(fnmatch(name, wanted) for name in names)
    return any(wanted in name for name in names)
