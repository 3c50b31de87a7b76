"""What `striate evaluate --robustness` shows and keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from striate.cli.common import say
from striate.errors import CheckpointError

if TYPE_CHECKING:
    from striate.evaluation import Evaluation
    from striate.evaluation.robustness import Robustness
    from striate.evaluation.robustness.result import Kind, Point
    from striate.progress import Progress

_COLUMNS = 13  # strengths in a row
_TOWARDS = {"right": ", sideways", "down": ", up and down"}


def keep_robustness(
    result: Evaluation, run: str, runs: str, output: str | None, progress: Progress
) -> tuple[Evaluation, Path | None]:
    """Figures and pictures into `output`, else into the run's folder, whose report is written anew where it has one.

    Returns:
        The result with the places of its pictures, and the folder; None where there is none.
    """
    from striate.evaluation.robustness import write_robustness
    from striate.network import read_spelling
    from striate.runfolder import RunFolder

    if result.robustness is None:
        return result, None
    of_run = read_spelling(run, runs).run
    folder = Path(output) if output else RunFolder(of_run).robustness if of_run is not None else None
    if folder is None:
        progress.say("no run folder: --robustness-output FOLDER keeps pictures")
        return result, None
    try:
        result = replace(result, robustness=write_robustness(result.robustness, folder, progress))
    except CheckpointError as error:
        if output is not None:
            raise
        progress.warn(f"{error.message}: no pictures are kept")
        return result, None
    if output is None and of_run is not None and RunFolder(of_run).report.is_file():
        from striate.report import write_report

        write_report(of_run)
    return result, folder


def show_robustness(found: Robustness | None, folder: Path | None) -> None:
    """Accuracy by kind and strength."""
    if found is None:
        return
    clean, of = found.clean, f" of {found.of}" if found.clean.n < found.of else ""
    low, high = clean.interval
    say()
    say(
        f"robustness: {clean.n}{of} images in {found.seconds:.0f} s; {clean.accuracy:.1%} right as they are "
        f"(95 % interval {100 * low:.1f} - {high:.1%})"
    )
    if found.corruptions:
        _show_corruptions(found)
    for kind in found.kinds:
        if kind.axis != "severity":
            _show_kind(kind)
    for name, why in found.left_out.items():
        say(f"{name}: left out, {why}")
    if folder is not None:
        say()
        say(f"pictures: {click.format_filename(str(folder))}")


def _show_corruptions(found: Robustness) -> None:
    kinds = found.corruptions
    width = max(len("severity"), *(len(one.name) for one in kinds))
    severities = [f"{point.strength:.0f}" for point in kinds[0].changed]
    say(f"{'severity':<{width}} " + "".join(f"{one:>7}" for one in severities) + "    mean")
    for one in kinds:
        cells = "".join(f"{point.accuracy:7.1%}" for point in one.changed)
        say(f"{one.name:<{width}} {cells} {one.mean_accuracy:7.1%}")
    row = found.to_dict()
    above = 100 * row["mean_corruption_error_above_clean"]
    say(f"mean corruption error {row['mean_corruption_error']:.1%}, {above:.1f} points above the error without any")


def _show_kind(kind: Kind) -> None:
    for direction in dict.fromkeys(point.direction for point in kind.points):
        points = sorted((one for one in kind.points if one.direction == direction), key=lambda one: one.strength)
        say(f"{kind.name}{_TOWARDS.get(direction, '')}: {kind.axis}")
        for start in range(0, len(points), _COLUMNS):
            several = points[start : start + _COLUMNS]
            say("  strength  " + "".join(f"{one.strength:>7g}" for one in several))
            say("  right     " + "".join(f"{one.accuracy:7.1%}" for one in several))
            say("  unchanged " + "".join(f"{_unchanged(one):7.1%}" for one in several))


def _unchanged(point: Point) -> float:
    return point.same / point.readable if point.readable else 0.0
