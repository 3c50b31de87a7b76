"""`striate runs`: what has been trained here, and clearing up."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from striate.cli.common import json_flag, print_json, say, striate_command
from striate.errors import StriateError, UsageError

if TYPE_CHECKING:
    from striate.runfolder import RunFolder

BUSY_SECONDS = 1800  # an unfinished run whose files changed so lately may still be going on; never pruned


@dataclass(frozen=True, slots=True)
class Row:
    """One run folder in figures; None for what it does not know yet."""

    path: Path
    model: str
    data: str
    epochs: int
    val_top1: float | None
    test_top1: float | None
    val_map: float | None  # where an image has any number of labels
    test_map: float | None
    seconds: float
    bytes: int
    finished: bool
    changed: float  # when a file of it was last written, seconds since the epoch

    @property
    def status(self) -> str:
        """`finished` or `unfinished`."""
        return "finished" if self.finished else "unfinished"

    @property
    def busy(self) -> bool:
        """Whether something may be writing to it right now."""
        return not self.finished and time.time() - self.changed < BUSY_SECONDS

    def to_dict(self) -> dict[str, Any]:
        """The form that `--json` prints."""
        return {
            "run": str(self.path),
            "model": self.model,
            "data": self.data,
            "epochs": self.epochs,
            "val_top1": self.val_top1,
            "test_top1": self.test_top1,
            **({"val_map": self.val_map, "test_map": self.test_map} if self.val_map is not None else {}),
            "seconds": self.seconds,
            "bytes": self.bytes,
            "status": self.status,
        }


@striate_command("runs")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"), metavar="[FOLDER]")
@click.option("--model", metavar="PATTERN", help="Only runs of this model, such as resnet*.")
@click.option("--data", metavar="PATTERN", help="Only runs on these data.")
@click.option(
    "--min-top1",
    type=click.FloatRange(0, 1),
    metavar="X",
    help="Only runs with at least this top-1, 0 to 1; of several labels an image this mAP.",
)
@click.option("--status", type=click.Choice(["finished", "unfinished"]), help="Only these.")
@click.option("--prune", is_flag=True, help="Remove run folders: the unfinished ones, or as the next options say.")
@click.option("--below", type=click.FloatRange(0, 1), metavar="X", help="--prune: finished runs with a lower score.")
@click.option("--keep-best", type=click.IntRange(0), metavar="N", help="--prune: all but the best N of each data set.")
@click.option("--keep-newest", type=click.IntRange(0), metavar="N", help="--prune: all but the newest N.")
@click.option("--yes", is_flag=True, help="--prune: really remove; without it, only say what would go.")
@json_flag
def command(
    folder: Path,
    model: str | None,
    data: str | None,
    min_top1: float | None,
    status: str | None,
    prune: bool,
    below: float | None,
    keep_best: int | None,
    keep_newest: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """List the run folders in FOLDER (runs), newest first.

    Columns val and test are top-1, or mAP where an image has any number of labels.

    The score that --min-top1, --below and --keep-best go by is the one shown: that of test where there is one,
    otherwise that of validation. Runs that may still be going on are never removed.

    \b
    Examples:
      striate runs --model "resnet*" --min-top1 0.9
      striate runs --prune                    what unfinished runs would go
      striate runs --prune --keep-best 3 --yes
    """
    from striate.runfolder import list_runs

    rules = {"--below": below, "--keep-best": keep_best, "--keep-newest": keep_newest}
    given = [name for name, value in rules.items() if value is not None]
    if given and not prune:
        raise UsageError(f"{given[0]} says what --prune removes", "add --prune")
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} do not go together", "choose one")
    rows = [row for run in list_runs(folder) if _wanted(row := read_row(run), model, data, min_top1, status)]
    if not prune:
        _show(rows, folder, as_json)
        return
    doomed = chosen(rows, below=below, keep_best=keep_best, keep_newest=keep_newest)
    removed = _remove(doomed) if yes else []
    _report_pruning(doomed, removed, yes, as_json)


def read_row(run: RunFolder) -> Row:
    """The figures of one run; damaged files leave gaps, since a listing must not fail on one folder."""
    try:
        options = _plain_options(run)
        evaluation = run.read_evaluation()
        environment = run.read_environment()
        epochs = [row for row in run.read_metrics() if row.get("kind") == "epoch"]
    except StriateError:
        options, evaluation, environment, epochs = {}, {}, {}, []
    splits = evaluation.get("splits") or {}
    last = next((row["val"] for row in reversed(epochs) if row.get("val")), {})
    val, test = splits.get("val") or last, splits.get("test") or {}
    files = [path.stat() for path in run.path.rglob("*") if path.is_file()]
    data = str(options.get("data", {}).get("data", "?"))
    return Row(
        path=run.path,
        model=str(evaluation.get("model") or options.get("model", {}).get("model") or "?"),
        data=Path(data).name or data,
        epochs=evaluation.get("epochs", len({row.get("epoch") for row in epochs})),
        val_top1=val.get("top1"),
        test_top1=test.get("top1"),
        val_map=val.get("map"),
        test_map=test.get("map"),
        seconds=environment.get("training_seconds") or sum(row.get("seconds") or 0.0 for row in epochs),
        bytes=sum(one.st_size for one in files),
        finished=run.finished,
        changed=max((one.st_mtime for one in files), default=0.0),
    )


def chosen(
    rows: Sequence[Row], *, below: float | None = None, keep_best: int | None = None, keep_newest: int | None = None
) -> list[Row]:
    """Of rows, newest first, those that pruning removes; never a busy one.

    Best is judged among runs on the same data, since scores on different data do not compare; there a run without a
    score comes last.
    """
    if below is not None:
        doomed = [row for row in rows if row.finished and (score := _score(row)) is not None and score < below]
    elif keep_newest is not None:
        doomed = list(rows[keep_newest:])
    elif keep_best is not None:
        kept: set[Path] = set()
        for data in {row.data for row in rows}:
            same = sorted((row for row in rows if row.data == data), key=_rank)
            kept |= {row.path for row in same[:keep_best]}
        doomed = [row for row in rows if row.path not in kept]
    else:
        doomed = [row for row in rows if not row.finished]
    return [row for row in doomed if not row.busy]


def _rank(row: Row) -> tuple[bool, float]:
    score = _score(row)
    return (not row.finished, 1.0 if score is None else -score)


def _score(row: Row) -> float | None:
    """The mean average precision where an image has any number of labels, else top-1."""
    if row.val_map is not None or row.test_map is not None:
        return row.test_map if row.test_map is not None else row.val_map
    return row.test_top1 if row.test_top1 is not None else row.val_top1


def _wanted(row: Row, model: str | None, data: str | None, min_top1: float | None, status: str | None) -> bool:
    if model is not None and not fnmatchcase(row.model.lower(), model.lower()):
        return False
    if data is not None and not fnmatchcase(row.data.lower(), data.lower()):
        return False
    score = _score(row)
    if min_top1 is not None and (score is None or score < min_top1):
        return False
    return status is None or row.status == status


def _plain_options(run: RunFolder) -> dict[str, Any]:
    """recipe.toml without checking it: a recipe of another version must not hide its run."""
    import tomllib

    try:
        return tomllib.loads(run.recipe.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError):
        return {}


def _remove(rows: Sequence[Row]) -> list[Row]:
    """Remove the folders; a link is left alone, since what it points to is not ours to judge."""
    removed = []
    for row in rows:
        if row.path.is_symlink():
            click.echo(f"warning: {row.path} is a link and stays", err=True)
            continue
        shutil.rmtree(row.path)
        removed.append(row)
    return removed


def _report_pruning(doomed: Sequence[Row], removed: Sequence[Row], yes: bool, as_json: bool) -> None:
    if as_json:
        print_json({"removed": [str(row.path) for row in removed], "would_remove": [str(row.path) for row in doomed]})
        return
    shown = removed if yes else doomed
    for row in shown:
        say(f"{'removed' if yes else 'would remove'} {row.path}  {_figures(row)}")
    total = sum(row.bytes for row in shown)
    count = f"{len(shown)} run{'s' if len(shown) != 1 else ''}"
    if not shown:
        say("nothing to remove")
    elif yes:
        say(f"removed {count}, {_size(total)} freed")
    else:
        say(f"{count}, {_size(total)}; add --yes to remove")


def _show(rows: Sequence[Row], folder: Path, as_json: bool) -> None:
    if as_json:
        print_json({"runs": [row.to_dict() for row in rows]})
        return
    if not rows:
        click.echo(f"no such run in {folder}", err=True)
        return
    heads = ("run", "model", "data", "epochs", "val", "test", "seconds", "size", "status")
    table = [heads]
    table += [
        (
            row.path.name,
            row.model,
            row.data,
            str(row.epochs),
            _scored(row.val_top1, row.val_map),
            _scored(row.test_top1, row.test_map),
            f"{row.seconds:.1f}",
            _size(row.bytes),
            row.status + (", in use?" if row.busy else ""),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(heads))]
    for line in table:
        cells = [
            cell.rjust(width) if 3 <= place <= 7 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())
    sys.stdout.flush()


def _figures(row: Row) -> str:
    several = row.val_map is not None or row.test_map is not None
    score = f"{'mAP' if several else 'top-1'} {_percent(_score(row))}"
    return f"{row.model}, {row.data}, {score}, {row.status}, {_size(row.bytes)}"


def _scored(top1: float | None, mean: float | None) -> str:
    """The top-1, or the mean average precision where an image has any number of labels."""
    return _percent(top1) if mean is None else f"mAP {_percent(mean)}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
