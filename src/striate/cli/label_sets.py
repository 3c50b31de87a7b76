"""What `striate evaluate` says of a network that gives an image any number of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from striate.cli.common import say

if TYPE_CHECKING:
    from striate.evaluation import Evaluation

_LABELS_SHOWN = 30
_GROUPS_SHOWN = 30
_MISSING_SHOWN = 10


def show_labels(result: Evaluation, by: str | None = None) -> None:
    """The scores, and a table of the labels; of many those that fare worst."""
    scores = result.scores
    figures = {
        "mAP": scores.map, "exactly right": scores.exact_match, "micro F1": scores.micro_f1,
        "macro F1": scores.macro_f1, "likeliest label right": scores.top1, "calibration error": scores.ece,
    }  # fmt: skip
    words = [f"{name} {value:.2%}" for name, value in figures.items() if value is not None]
    say("   ".join([*words, f"loss {scores.loss:.4f}"]))
    if scores.map_interval is not None:
        say(f"95 % interval of mAP: {scores.map_interval[0]:.2%} to {scores.map_interval[1]:.2%}")
    missing = result.trust.get("without_images") or []
    if missing:
        listed = ", ".join(missing[:_MISSING_SHOWN])
        more = f" and {len(missing) - _MISSING_SHOWN} more" if len(missing) > _MISSING_SHOWN else ""
        say(f"no image has {listed}{more}: left out of the mean")
    say()
    _show_table(result)
    _show_groups(result, by)


def _show_table(result: Evaluation) -> None:
    shown = list(result.scores.per_class)
    if len(shown) > _LABELS_SHOWN:
        there = [one for one in shown if one.average_precision is not None]
        shown = sorted(there, key=lambda one: one.average_precision or 0.0)[:_LABELS_SHOWN]
        say(f"the {len(shown)} labels with the lowest average precision (--json has all):")
    width = max(5, *(len(one.label) for one in shown))
    say(f"{'label':<{width}}  average precision  threshold  precision  recall     F1  images")
    for one in shown:
        label = click.format_filename(one.label)
        area = "-" if one.average_precision is None else f"{one.average_precision:.1%}"
        say(
            f"{label:<{width}}  {area:>17} {one.threshold:10.3f} {one.precision:10.1%} {one.recall:7.1%} {one.f1:6.1%} "
            f"{one.support:7d}"
        )


def _show_groups(result: Evaluation, by: str | None) -> None:
    if not result.groups:
        return
    say()
    heading = by or "group"
    width = max(len(heading), *(len(one.group) for one in result.groups))
    say(f"{heading:<{width}}     mAP  exactly right  images")
    for one in result.groups[:_GROUPS_SHOWN]:
        mean = "-" if one.map is None else f"{one.map:.1%}"
        say(f"{click.format_filename(one.group):<{width}}  {mean:>6} {one.exact_match:14.1%} {one.n:7d}")
    if len(result.groups) > _GROUPS_SHOWN:
        say(f"and {len(result.groups) - _GROUPS_SHOWN} more (--json has all)")
