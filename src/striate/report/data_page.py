"""`write_data_page`: what the data doctor found, on one page with pictures that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.data import CheckReport, Dataset
from striate.data.doctor import FEW_IMAGES, IMBALANCE, ImageGroup
from striate.data.wording import counted
from striate.report.evidence import Finding
from striate.report.figures import percent, thousands
from striate.report.page import write_page
from striate.report.pictures import Sprite, make_sprite
from striate.report.thumbnails import Thumbnails
from striate.report.transferring import short

if TYPE_CHECKING:
    from striate.transfer.suspects import Suspects

MOST_GROUPS = 24  # of each kind on the page; --json has all
MOST_OF_GROUP = 6
MOST_IMAGES = 48
MOST_ROWS = 200
_KINDS = {"exact": "the same content", "near": "nearly the same", "mirrored": "nearly the same, or its mirror image"}


def write_data_page(path: Path, dataset: Dataset, report: CheckReport, suspects: Suspects | None = None) -> Path:
    """Write the page and return its path.

    Args:
        path: the page.
        dataset: where the pictures come from.
        report: what `examine` found in it.
        suspects: what a network's codes cast doubt on, where one was asked.

    Raises:
        OSError: the page cannot be written.
    """
    return write_page(path, "data.html", page_values(dataset, report, suspects))


def page_values(dataset: Dataset, report: CheckReport, suspects: Suspects | None = None) -> dict[str, Any]:
    """Everything that the template shows."""
    pictures = Thumbnails(dataset)
    units = "labels" if dataset.labels.multi_label else "classes"
    leaking = list(report.leaking_groups)
    conflicting = [one for one in report.conflicting_groups if one not in leaking]
    seen = {id(one) for one in (*leaking, *conflicting)}
    exact = [one for one in report.duplicate_groups if id(one) not in seen]
    near = [one for one in report.near_duplicate_groups if id(one) not in seen]
    return {
        "title": f"{report.name}: the images",
        "unit": "label" if dataset.labels.multi_label else "class",
        "units": units,
        "facts_shown": _facts(report, suspects, units),
        "findings": list(_findings(report, suspects)),
        "notes": report.notes,
        "groups": [
            one
            for one in (
                _groups("leaks", "Leaks between splits", leaking, pictures),
                _groups("conflicts", "The same image under several labels", conflicting, pictures),
                _groups("exact", "Exact copies", exact, pictures),
                _groups("near", "Nearly the same", near, pictures),
            )
            if one is not None
        ],
        "suspects": _suspects(suspects, pictures),
        "far": _far(suspects, pictures),
        "odd": _odd(report, pictures),
        "unreadable": _unreadable(report),
        "classes": _classes(report),
        "more": thousands,
    }


def _facts(report: CheckReport, suspects: Suspects | None, units: str) -> list[tuple[str, str]]:
    sizes = [f"{width} × {height}" for height, width in (report.sizes["smallest"], report.sizes["largest"])]
    facts = [("images", thousands(report.images)), (units, thousands(report.classes))]
    facts += [(name, thousands(count)) for name, count in report.splits.items()]
    facts.append(("pixels", sizes[0] if sizes[0] == sizes[1] else f"{sizes[0]} to {sizes[1]}"))
    if suspects is not None:
        facts += [
            ("asked", short(suspects.source)),
            ("its answers agree with", percent(suspects.accuracy, 1)),
        ]
    return facts


# findings -------------------------------------------------------------------------------------------------------------


def _findings(report: CheckReport, suspects: Suspects | None) -> Iterator[Finding]:
    """The gravest first."""
    if not report.trainable:
        yield Finding("problem", "Not to be trained on", f"{report.warnings[0]}.")
    if report.leaks:
        held_out = counted(report.leaks, "held-out image has", "held-out images have")
        yield Finding(
            "problem", "Leaks between splits",
            f"{held_out} a copy in another split, so that scores flatter the network. "
            "`--fix-split split.csv` writes a split without.", {"groups": thousands(len(report.leaking_groups))},
        )  # fmt: skip
    if report.label_conflicts:
        several = counted(report.label_conflicts, "image is", "images are")
        yield Finding("problem", "Contradictory labels", f"{several} there under different labels.")
    if suspects is not None and suspects.labels:
        found = counted(len(suspects.labels), "label is", "labels are")
        yield Finding(
            "attention", "Doubtful labels",
            f"{found} contradicted by a classifier that had not seen the image. Look at them: hard images are among "
            "them.", {"of": thousands(suspects.images)},
        )  # fmt: skip
    if report.unreadable:
        files = counted(report.unreadable, "file", "files")
        yield Finding(
            "attention", "Unreadable files", f"{files}: left out in training, counted as wrong in an evaluation."
        )
    if report.imbalance is not None and report.imbalance >= IMBALANCE:
        yield Finding(
            "attention", "Unequal classes",
            f"The largest class has {report.imbalance:.1f} times the training images of the smallest. "
            "`--sampling balanced` or `--class-weights balanced` make up for it.",
        )  # fmt: skip
    few = [one.label for one in report.per_class if one.train < FEW_IMAGES]
    if few and report.trainable:
        classes = counted(len(few), "class has", "classes have")
        yield Finding("attention", "Small classes", f"{classes} fewer than {FEW_IMAGES} training images.")
    if report.duplicates or report.near_duplicates:
        figures = {"exact": thousands(report.duplicates), "near": thousands(report.near_duplicates)}
        yield Finding("note", "Copies", "Images that are there more than once count more than others.", figures)
    if report.odd:
        found = counted(report.odd, "image is", "images are")
        yield Finding("note", "Odd images", f"{found} uniform, blank, tiny or very long.")
    if not report.warnings and (suspects is None or not suspects.labels):
        yield Finding("good", "Nothing to worry about", "No leaks, copies, odd images or unreadable files.")


# pictures -------------------------------------------------------------------------------------------------------------


def _groups(name: str, title: str, groups: Sequence[ImageGroup], pictures: Thumbnails) -> dict[str, Any] | None:
    """Groups of pictures, cut to what a page can show."""
    if not groups:
        return None
    shown = [list(zip(one.paths, one.splits, one.labels, strict=True))[:MOST_OF_GROUP] for one in groups[:MOST_GROUPS]]
    flat = [image for one in shown for image in one]
    words = [{"title": path, "caption": label, "detail": f"{split} · {_file(path)}"} for path, split, label in flat]
    sprite = make_sprite(name, pictures.of([path for path, _, _ in flat]), words)
    assert sprite is not None
    rows, start = [], 0
    for group, images in zip(groups, shown, strict=False):
        rest = len(group.paths) - len(images)
        rows.append({
            "kind": _KINDS[group.kind], "tiles": sprite.tiles[start : start + len(images)],
            "rest": f"and {thousands(rest)} more" if rest else "",
        })  # fmt: skip
        start += len(images)
    return {"name": name, "title": title, "sprite": sprite, "rows": rows, "rest": max(0, len(groups) - len(rows))}


def _suspects(suspects: Suspects | None, pictures: Thumbnails) -> dict[str, Any] | None:
    if suspects is None:
        return None
    shown = suspects.labels[:MOST_IMAGES]
    words = [
        {
            "title": f"{one.path}: labelled {one.label} ({percent(one.probability, 1)}), "
            f"rather {one.suggested} ({percent(one.suggested_probability, 1)})",
            "caption": f"{one.label} → {one.suggested}?",
            "detail": f"{one.split} · {_file(one.path)}",
            "right": False,
        }
        for one in shown
    ]
    return {
        "sprite": _sprite("suspects", [one.path for one in shown], words, pictures),
        "source": short(suspects.source),
        "kind": suspects.kind,
        "place": suspects.place,
        "accuracy": percent(suspects.accuracy, 1),
        "count": thousands(len(suspects.labels)),
        "images": thousands(suspects.images),
        "rest": max(0, len(suspects.labels) - len(shown)),
    }


def _far(suspects: Suspects | None, pictures: Thumbnails) -> dict[str, Any] | None:
    if suspects is None or not suspects.far:
        return None
    shown = suspects.far
    words = [
        {
            "title": f"{one.path}: {one.distance:.2f} times the usual distance to its neighbours",
            "caption": f"{one.distance:.2f} × the usual",
            "detail": _dotted(one.label, one.split, _file(one.path)),
        }
        for one in shown
    ]
    sprite = _sprite("far", [one.path for one in shown], words, pictures)
    return {"sprite": sprite}


def _odd(report: CheckReport, pictures: Thumbnails) -> dict[str, Any] | None:
    if not report.odd_images:
        return None
    shown = report.odd_images[:MOST_IMAGES]
    words = [
        {
            "title": f"{one.path}: {one.detail}",
            "caption": f"{one.kind}: {one.detail}",
            "detail": _dotted(one.label, _file(one.path)),
        }
        for one in shown
    ]
    sprite = _sprite("odd", [one.path for one in shown], words, pictures)
    return {"sprite": sprite, "rest": max(0, len(report.odd_images) - len(shown))}


def _dotted(*words: str) -> str:
    """Of several labels an image there may be none."""
    return " · ".join(word for word in words if word)


def _file(path: str) -> str:
    """What fits below a picture; its title has the whole path."""
    return path.rpartition("/")[2]


def _sprite(name: str, paths: list[str], words: list[dict[str, Any]], pictures: Thumbnails) -> Sprite | None:
    return make_sprite(name, pictures.of(paths), words) if paths else None


# tables ---------------------------------------------------------------------------------------------------------------


def _unreadable(report: CheckReport) -> dict[str, Any] | None:
    if not report.unreadable_files:
        return None
    return {"rows": report.unreadable_files[:MOST_ROWS], "rest": max(0, len(report.unreadable_files) - MOST_ROWS)}


def _classes(report: CheckReport) -> dict[str, Any]:
    """A row for each class, with bars that share one scale for each split."""
    most = {name: max((getattr(one, name) for one in report.per_class), default=0) for name in report.splits}
    rows = [
        {
            "label": one.label,
            "cells": [
                (thousands(getattr(one, name)), 100 * getattr(one, name) / most[name] if most[name] else 0.0,
                 getattr(one, name))
                for name in report.splits
            ],
            "unreadable": one.unreadable,
        }
        for one in report.per_class
    ]  # fmt: skip
    return {"splits": list(report.splits), "rows": rows, "unreadable": any(row["unreadable"] for row in rows)}
