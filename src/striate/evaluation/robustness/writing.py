"""The files of it: the figures as JSON, and the pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from striate.checkpoint import write_atomically
from striate.errors import CheckpointError
from striate.evaluation.robustness.pictures import draw_all
from striate.evaluation.robustness.result import Robustness
from striate.progress import Progress

FIGURES = "robustness.json"


def write_robustness(found: Robustness, folder: str | Path, progress: Progress | None = None) -> Robustness:
    """The figures and a picture of each kind into `folder`, which is made; the result with the places of the pictures.

    Pictures of kinds that an earlier call asked for and this one did not are taken away.

    Raises:
        CheckpointError: they cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = draw_all(found, folder, progress)
        for name in _pictures_before(folder) - {path.name for path in written}:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"cannot write into {folder}: {error.strerror or error}", "name another folder"
        ) from error
    kept = replace(found, pictures=tuple(str(path) for path in written))
    record = {**kept.to_dict(), "pictures": [path.name for path in written]}
    write_atomically(folder / FIGURES, json.dumps(record, indent=1).encode())
    return kept


def _pictures_before(folder: Path) -> set[str]:
    """Those that the figures in the folder list, by their bare names."""
    try:
        names = json.loads((folder / FIGURES).read_text(encoding="utf-8"))["pictures"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in names if Path(name).name == name and name.endswith(".png")}
