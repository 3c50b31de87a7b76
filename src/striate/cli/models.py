"""`striate models`: the architectures, from the registry alone, without loading torch."""

from __future__ import annotations

from dataclasses import asdict
from fnmatch import fnmatch
from textwrap import wrap
from typing import Any

import click

from striate.cli.common import json_flag, print_json, say, striate_command
from striate.errors import UnknownNameError
from striate.hub.published import listed
from striate.spec import ModelEntry

_WIDTH = 120  # characters of a line


@striate_command("models")
@click.argument("pattern", required=False)
@json_flag
def command(pattern: str | None, as_json: bool) -> None:
    """List the architectures: paper, parameters, multiply-accumulates of one image, published errors.

    PATTERN keeps those whose name, alias or family contains it, or matches it where it has wildcards (resnet*).
    """
    from striate.models.registry import entries

    chosen = [entry for entry in entries() if pattern is None or _matches(entry, pattern)]
    if not chosen:
        known = [name for entry in entries() for name in (entry.name, entry.family, *entry.aliases)]
        raise UnknownNameError("model", str(pattern), set(known))
    if as_json:
        print_json({"models": [row_of(entry) for entry in chosen]})
        return
    for line in table_of(chosen):
        say(line)


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


def _matches(entry: ModelEntry, pattern: str) -> bool:
    wanted = pattern.lower()
    names = (entry.name, entry.family, *entry.aliases)
    if any(mark in wanted for mark in "*?["):
        return any(fnmatch(name, wanted) for name in names)
    return any(wanted in name for name in names)
