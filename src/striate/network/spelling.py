"""What a text that names a network means. Nothing is opened here but the first bytes of a file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from striate.checkpoint.model_file import FILE_NAME
from striate.errors import CheckpointError, UnknownNameError, UsageError
from striate.hub.files import SUFFIXES, is_ours
from striate.models import entries, find_entry
from striate.models.sources import full_name, is_own
from striate.runfolder import find_run, is_run, list_runs

_OWN = re.compile(r"(?P<model>.+?\.py:[A-Za-z_]\w*)(?::(?P<rest>.+))?", re.DOTALL)
_TIMM = re.compile(r"(?P<model>timm:[\w-]+)(?:[:.](?P<rest>.+))?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spelling:
    """What a text means. `kind` is saved (a run or a model file of ours), state (a state dict), weights or model."""

    kind: str
    model: str = ""  # registered name, timm:NAME or FILE.py:CLASS; empty where it is for the file to say
    weights: str = ""
    path: Path = Path()

    @property
    def run(self) -> Path | None:
        """The run folder, where it is one."""
        return self.path if self.kind == "saved" and is_run(self.path) else None

    @property
    def absolute(self) -> str:
        """The spelling that means the same tomorrow and from another folder."""
        if self.kind == "saved" and not is_own(self.model):
            return str(self.path.resolve())
        last = str(self.path.resolve()) if self.kind in ("saved", "state") else self.weights
        return ":".join(part for part in (full_name(self.model), last) if part)


def read_spelling(text: str | Path, runs: str | Path = "runs") -> Spelling:
    """What `text` means. A file or run folder of that path comes first, then a network's name, then a run's.

    Raises:
        CheckpointError: a file or run that is not there.
        UnknownNameError: nothing of that name; the nearest runs and networks are given.
        UsageError: a colon with nothing after it.
    """
    text = str(text)
    there = _existing(text, runs)
    if there is not None:
        return there
    if text.rstrip().endswith(":"):  # an empty variable in a script, say: random weights would pass unnoticed
        model = text.rstrip(": ")
        raise UsageError(
            f"{text!r} names no weights after its colon",
            f"{model}:WEIGHTS or {model}:FILE; {model} alone is the network with random weights",
        )
    model, rest = _parted(text)
    if rest:
        inner = _existing(rest, runs)
        if inner is not None:
            return replace(inner, model=model)
        if is_own(model):
            return Spelling(kind="saved", model=model, path=_run_of(rest, runs))
        if _looks_like_a_path(rest):
            raise CheckpointError(f"there is no file {rest}", "MODEL:FILE names a file of weights: check its path")
        return Spelling(kind="weights", model=model, weights=rest)
    if is_own(model) or model.lower().startswith("timm:"):
        return Spelling(kind="model", model=model)
    if model.lower() in {name for entry in entries() for name in (entry.name, *entry.aliases)}:
        return Spelling(kind="model", model=find_entry(model).name)
    return Spelling(kind="saved", path=_run_of(text, runs))


def _existing(text: str, runs: str | Path) -> Spelling | None:
    """A file or run folder of that path, or the newest run."""
    path = Path(text).expanduser()
    if path.is_file():
        return Spelling(kind="saved" if is_ours(path) else "state", path=path)
    if is_run(path) or (path / FILE_NAME).is_file():
        return Spelling(kind="saved", path=path)
    if text == "latest":
        return Spelling(kind="saved", path=find_run(text, Path(runs)).path)
    return None


def _parted(text: str) -> tuple[str, str]:
    """MODEL and what follows its colon, if anything."""
    for pattern in (_OWN, _TIMM):
        match = pattern.fullmatch(text)
        if match:
            return match["model"], match["rest"] or ""
    if re.match(r"[A-Za-z]:[\\/]", text):  # a drive, not a model
        return text, ""
    model, _, rest = text.partition(":")
    return model, rest


def _looks_like_a_path(text: str) -> bool:
    return "/" in text or "\\" in text or text.lower().endswith(SUFFIXES)


def _run_of(text: str, runs: str | Path) -> Path:
    """The run of that name.

    Raises:
        CheckpointError: a file that is not there.
        UnknownNameError: nothing of that name.
    """
    if _looks_like_a_path(text):
        raise CheckpointError(f"there is no model file or run {text}", "`striate runs` lists the runs there are")
    try:
        return find_run(text, Path(runs)).path
    except UnknownNameError as error:
        names = [name for entry in entries() for name in (entry.name, *entry.aliases)]
        names += [run.name for run in list_runs(Path(runs))]
        hint = error.hint if error.hint and error.hint.startswith("several") else None
        other = UnknownNameError("run or network", text, names, hint)
        if hint is None and not other.nearest:
            other.hint = "a run folder, its name or latest; a model file; MODEL, MODEL:WEIGHTS or MODEL:FILE"
        raise other from None
