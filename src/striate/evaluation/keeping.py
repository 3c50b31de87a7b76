"""An evaluation is kept in the folder of its run: scores as JSON, and every answer as a row of a Parquet table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.checkpoint import write_atomically
from striate.errors import CheckpointError
from striate.evaluation.table import Evaluation, write_table
from striate.runfolder import RunFolder

_NAMING = ("views", "backend", "precision", "by", "ood")  # what tells evaluations of one split apart, in file names
_LONGEST = 120  # bytes of a file name before its number and ending, of which file systems take 255 in all


@dataclass(frozen=True, slots=True)
class Kept:
    """Where an evaluation lies: None for what was not written."""

    scores: Path | None = None
    predictions: Path | None = None
    ood_images: Path | None = None

    def to_dict(self) -> dict[str, str]:
        """The places that there are, for JSON."""
        names = {"evaluation": self.scores, "predictions": self.predictions, "ood_images": self.ood_images}
        return {name: str(path) for name, path in names.items() if path is not None}


def keep(result: Evaluation, run: RunFolder | None, asked: Mapping[str, Any], predictions: Path | None = None) -> Kept:
    """Write an evaluation into `evaluations` of its run; the run's own end scores are never touched.

    The name tells data, split and what else was asked for. The same asked again takes the place of the former; what
    differs in anything has a number at its name's end.

    Args:
        result: the evaluation.
        run: where to; None writes only what is asked for by `predictions`.
        asked: plain values that say which evaluation it is: the arguments of `evaluate_run` that differ from usual.
        predictions: another place for the table of predictions; strangers are written beside it.

    Raises:
        CheckpointError: something cannot be written.
    """
    asked = {name: str(value) for name, value in sorted(asked.items()) if value is not None}
    base = _free_name(run, _name(result, asked), asked, result.split) if run is not None else None
    table = predictions or (base.with_suffix(".parquet") if base is not None else None)
    if table is None:
        return Kept()
    images = table.with_name(f"{table.stem}.ood.parquet") if result.strangers is not None else None
    try:
        if base is not None:
            base.parent.mkdir(exist_ok=True)
        result.write_predictions(table)
        if images is not None and result.strangers is not None:
            write_table(images, result.strangers.images)
        kept = Kept(base, table, images)
        if base is not None:
            places = {name: _place(path, base.parent.parent) for name, path in kept.to_dict().items()}
            record = {"asked": asked, **result.to_dict(), **places}
            write_atomically(base, json.dumps(record, indent=1, default=str).encode())
    except OSError as error:
        raise CheckpointError(f"cannot keep the evaluation in {table.parent}: {error.strerror or error}") from error
    return kept


def _place(path: str, run: Path) -> str:
    """As the run's own record says it: within the run folder, or from anywhere."""
    whole = Path(path).resolve()
    return whole.relative_to(run.resolve()).as_posix() if whole.is_relative_to(run.resolve()) else str(whole)


def _name(result: Evaluation, asked: Mapping[str, str]) -> str:
    words = [Path(result.data).name or "data", result.split]
    for name in _NAMING:
        if name in asked:
            value = Path(asked[name]).name
            words.append(value if name in ("views", "backend", "precision") else f"{name}-{value}")
    words += [name for name in ("costs", "robustness", "snapshots", "networks") if name in asked]
    text = re.sub(r"[^\w.+-]+", "_", "-".join(words)).strip("._") or "evaluation"
    return text.encode()[:_LONGEST].decode(errors="ignore")


def _free_name(run: RunFolder, name: str, asked: Mapping[str, str], split: str) -> Path:
    """The JSON file of this name, or with a number where the name belongs to something else that was asked for."""
    try:
        there = {path.name for path in run.evaluations.iterdir()}
    except OSError:  # not made yet; or what keeps it from being read will keep it from being written to
        there = set()
    number = 1
    while True:
        path = run.evaluations / f"{name}{f'-{number}' if number > 1 else ''}.json"
        if path.name not in there:
            return path
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if (record.get("asked"), record.get("split")) == (asked, split):
                return path
        except (OSError, ValueError, AttributeError):
            pass  # a file that is none of ours is left as it is
        number += 1
