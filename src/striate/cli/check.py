"""`striate check`: the data doctor's findings, for people or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from striate.cli.common import json_flag, options_from, prepare_torch, print_json, progress_of, say, striate_command
from striate.options import TrainOptions, merged

if TYPE_CHECKING:
    from striate.data.doctor import CheckReport, ImageGroup

_SHOWN = 10  # files or groups listed; --json has all


@striate_command("check")
@click.argument("data", required=False)
@options_from(TrainOptions, sections=("data",), leave_out=("data",))
@json_flag
def command(data: str | None, options: TrainOptions, as_json: bool) -> None:
    """Examine DATA without changing it: counts, unreadable files, duplicates, leaks between splits, imbalance.

    DATA is as for `striate train`, or for `striate evaluate`: what can be scored but not trained on is examined too,
    with a warning that says why. Without DATA: digits.

    \b
    Examples:
      striate check photos/
      striate check labels.csv --group patient --json
    """
    prepare_torch()
    from striate.data import check

    chosen = merged(options, {"data": {"data": data}} if data else {})
    report = check(chosen.data, progress=progress_of())
    if as_json:
        print_json(report)
    else:
        _show(report)


def _show(report: CheckReport) -> None:
    """The report in a screenful; long lists are cut and say so."""
    from striate.data.wording import counted

    splits = ", ".join(f"{name} {count:,}" for name, count in report.splits.items())
    images, classes = counted(report.images, "image", "images"), counted(report.classes, "class", "classes")
    _line("data", f"{report.name}: {images}, {classes} ({splits})")
    _line("sizes", _in_words(report.sizes))
    _line("modes", ", ".join(f"{mode} {count:,}" for mode, count in report.modes.items()))
    if report.exif_rotated:
        lying = counted(report.exif_rotated, "image lies on its", "images lie on their")
        _line("rotated", f"{lying} side or head by EXIF: turned upright before use")
    if "train" in report.splits:
        counts, what = [one.train for one in report.per_class], "training images"
    else:
        counts, what = [one.val + one.test + one.all for one in report.per_class], "images"
    _line("per class", f"{min(counts):,} to {max(counts):,} {what}")
    _line("unreadable", f"{report.unreadable:,}")
    _lines([f"{one.path}: {one.reason}" for one in report.unreadable_files])
    _line("duplicates", f"{report.duplicates:,} exact, {report.near_duplicates:,} near")
    _lines(list(map(_group, (*report.duplicate_groups, *report.near_duplicate_groups))))
    _line("leaks", counted(report.leaks, "held-out image", "held-out images") + " with a copy in another split")
    _lines([_group(one, with_splits=True) for one in report.leaking_groups])
    if report.label_conflicts:
        _line("conflicts", counted(report.label_conflicts, "image", "images") + " under more than one label")
        _lines([_group(one, with_labels=True) for one in report.conflicting_groups])
    for note in report.notes:
        _line("note", note)
    for warning in report.warnings:
        _line("warning", warning)
    if not report.warnings:
        _line("result", "nothing to worry about")


def _line(title: str, text: str) -> None:
    say(f"{title:<11} {text}")


def _lines(rows: list[str]) -> None:
    for row in rows[:_SHOWN]:
        _line("", row)
    if len(rows) > _SHOWN:
        _line("", f"... and {len(rows) - _SHOWN:,} more, all in --json")


def _in_words(sizes: dict) -> str:
    smallest, median, largest = (f"{width} × {height}" for height, width in (sizes[name] for name in _SIZES))
    if sizes["distinct"] == 1:
        return f"all {median} pixels"
    return f"{smallest} to {largest} pixels, median {median}"


_SIZES = ("smallest", "median", "largest")


def _group(group: ImageGroup, *, with_splits: bool = False, with_labels: bool = False) -> str:
    beside = group.splits if with_splits else group.labels
    names = [
        f"{path} ({word})" if with_splits or with_labels else path
        for path, word in zip(group.paths, beside, strict=True)
    ]
    return " = ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
