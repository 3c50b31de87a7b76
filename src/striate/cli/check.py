"""`striate check`: the data doctor's findings, for people or as JSON."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from striate.cli.common import json_flag, options_from, prepare_torch, print_json, progress_of, say, striate_command
from striate.errors import UsageError
from striate.options import TrainOptions, merged

if TYPE_CHECKING:
    from striate.data import Dataset
    from striate.data.doctor import CheckReport, ImageGroup
    from striate.progress import Progress
    from striate.transfer.suspects import Suspects

_FILE = click.Path(dir_okay=False, path_type=Path)
_SHOWN = 10  # files or groups listed; --json has all


@striate_command("check")
@click.argument("data", required=False)
@click.option("--html", type=_FILE, metavar="PAGE", help="Write what was found with pictures: one page, no network.")
@click.option(
    "--from", "source", metavar="NETWORK",
    help="Also look for doubtful labels and the images farthest from all others, by the codes of this network, spelt "
    "as for `striate train`.",
)  # fmt: skip
@click.option(
    "--fix-split", type=_FILE, metavar="FILE.csv",
    help="Write a table of all images with a split that has no leak; `striate train FILE.csv` reads it, of data in "
    "arrays `striate train DATA --split-file FILE.csv`.",
)  # fmt: skip
@click.option("--runs", default="runs", show_default=True, metavar="FOLDER", help="Folder that holds the run folders.")
@options_from(TrainOptions, sections=("data", "runtime"), leave_out=("data",))
@json_flag
def command(
    data: str | None,
    html: Path | None,
    source: str | None,
    fix_split: Path | None,
    runs: str,
    options: TrainOptions,
    as_json: bool,
) -> None:
    """Examine DATA without changing it: counts, unreadable files, duplicates, leaks between splits, odd images.

    DATA is as for `striate train`, or for `striate evaluate`: what can be scored but not trained on is examined too,
    with a warning that says why. Without DATA: digits. How it is found, and how well: docs/data.md.

    \b
    Examples:
      striate check photos/ --html photos.html
      striate check photos/ --from squeezenet1_1:weights.pth --html photos.html
      striate check labels.csv --group patient --fix-split split.csv --json
    """
    if html is not None and (html.suffix.lower() not in (".html", ".htm") or not html.parent.is_dir()):
        raise UsageError(f"{html}: a page is an HTML file in a folder that is there")
    prepare_torch()
    from striate.data import examine
    from striate.data.doctor import load_to_check

    options = merged(options, {"training": {"runs": runs}} | ({"data": {"data": data}} if data else {}))
    progress = progress_of()
    dataset, refused = load_to_check(options.data, progress=progress)
    report = examine(dataset, refused=refused, progress=progress)
    suspects = _suspects(dataset, report, source, options, progress) if source is not None else None
    fixed = None
    if fix_split is not None:
        from striate.data.split_file import write_split_file

        fixed = write_split_file(dataset, report, fix_split)
    if html is not None:
        from striate.report.data_page import write_data_page

        write_data_page(html, dataset, report, suspects)
    if as_json:
        found = report.to_dict() | ({"suspects": suspects.to_dict()} if suspects is not None else {})
        found |= {"fixed_split": asdict(fixed)} if fixed is not None else {}
        print_json(found | ({"html": html} if html is not None else {}))
        return
    _show(report, suspects)
    if fixed is not None:
        sides = ", ".join(f"{name} {count:,}" for name, count in fixed.splits.items())
        _line("fixed split", f"{fixed.file}: {sides}; {len(fixed.moved):,} changed sides")
        _lines([f"{one.path}: {one.before} → {one.now}" for one in fixed.moved])
        what = shlex.quote(str(fixed.file))
        if dataset.kind != "photos":
            root = f" --data-root {shlex.quote(options.data.data_root)}" if options.data.data_root else ""
            what = f"{shlex.quote(options.data.data)}{root} --split-file {what}"
        from striate.data.dataset import SEPARATOR

        several = f" --label-delimiter '{SEPARATOR}'" if dataset.labels.multi_label else ""
        _line("next", f"striate train {what}{several}")
    if html is not None:
        click.echo(f"wrote {html}", err=True)


def _suspects(
    dataset: Dataset, report: CheckReport, source: str, options: TrainOptions, progress: Progress
) -> Suspects:
    """What the network casts doubt on, after a warning where it was trained on these very images."""
    from striate.network import read_spelling
    from striate.runtime import set_threads
    from striate.training.defaults import resolve_runtime
    from striate.transfer.ancestry import warn_of_known_images
    from striate.transfer.suspects import find_suspects

    warn_of_known_images(read_spelling(source, options.training.runs).absolute, dataset, progress)
    options = resolve_runtime(options, progress)
    set_threads(options.runtime.threads)
    return find_suspects(dataset, report, source, options, progress=progress)


def _show(report: CheckReport, suspects: Suspects | None = None) -> None:
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
    if report.labels_per_image is None:
        _line("per class", f"{min(counts):,} to {max(counts):,} {what}")
    else:
        _line("per label", f"{min(counts):,} to {max(counts):,} {what}")
        _lines([f"{one.label}: {count:,}" for one, count in zip(report.per_class, counts, strict=True)])
        shares = ", ".join(f"{number}: {count:,}" for number, count in report.labels_per_image.items())
        _line("labels", f"images by how many they have: {shares}")
    _line("unreadable", f"{report.unreadable:,}")
    _lines([f"{one.path}: {one.reason}" for one in report.unreadable_files])
    _line("duplicates", f"{report.duplicates:,} exact, {report.near_duplicates:,} near")
    _lines(list(map(_group, (*report.duplicate_groups, *report.near_duplicate_groups))))
    _line("leaks", counted(report.leaks, "held-out image", "held-out images") + " with a copy in another split")
    _lines([_group(one, with_splits=True) for one in report.leaking_groups])
    if report.label_conflicts:
        under = "more than one label" if report.labels_per_image is None else "different labels"
        _line("conflicts", counted(report.label_conflicts, "image", "images") + f" under {under}")
        _lines([_group(one, with_labels=True) for one in report.conflicting_groups])
    if report.odd_images:
        _line("odd", counted(report.odd, "image", "images"))
        _lines([f"{one.path}: {one.kind}, {one.detail}" for one in report.odd_images])
    if suspects is not None:
        _show_suspects(suspects)
    for note in report.notes:
        _line("note", note)
    for warning in report.warnings:
        _line("warning", warning)
    if not report.warnings and (suspects is None or not suspects.labels):
        _line("result", "nothing to worry about")


def _show_suspects(suspects: Suspects) -> None:
    agreed = f"{suspects.accuracy:.1%} of {suspects.images:,} labels"
    _line("asked", f"{suspects.source}, {suspects.kind} on {suspects.place}: it agrees with {agreed}")
    _line("labels", f"{len(suspects.labels):,} doubtful")
    _lines([
        f"{one.path} ({one.split}): {one.label} {one.probability:.1%}, rather {one.suggested} "
        f"{one.suggested_probability:.0%}"
        for one in suspects.labels
    ])  # fmt: skip
    _line("farthest", "least like the others, for a look")
    _lines([f"{one.path} ({one.split}, {one.label}): {one.distance:.2f} times the usual" for one in suspects.far])


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
