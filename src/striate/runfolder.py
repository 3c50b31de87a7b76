"""The run folder: which file is what, and how each is read. Writing them is the training's business."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.errors import CheckpointError, UnknownNameError
from striate.options import TrainOptions, load_recipe


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One training run on disk."""

    path: Path

    @property
    def recipe(self) -> Path:
        """Every option, resolved."""
        return self.path / "recipe.toml"

    @property
    def manifest(self) -> Path:
        """Path, hash, label, group and split of every image."""
        return self.path / "data.parquet"

    @property
    def environment(self) -> Path:
        """Versions, device, threads, source revision, command, seconds by phase."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One line per epoch, and per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def depth(self) -> Path:
        """Activations, gradients and weights by layer, one line per epoch, where asked for."""
        return self.path / "depth.jsonl"

    @property
    def model(self) -> Path:
        """The best weights, self-describing."""
        return self.path / "model.safetensors"

    @property
    def resume(self) -> Path:
        """Folder of the exact state."""
        return self.path / "resume"

    @property
    def snapshots(self) -> Path:
        """Folder of weights along the way."""
        return self.path / "snapshots"

    @property
    def evaluation(self) -> Path:
        """Scores, confusion, per-class figures; its presence says that the run finished."""
        return self.path / "evaluation.json"

    @property
    def predictions(self) -> Path:
        """One row per evaluated image."""
        return self.path / "predictions.parquet"

    @property
    def evaluations(self) -> Path:
        """Folder of what `striate evaluate` found later: a JSON file and Parquet tables of each evaluation."""
        return self.path / "evaluations"

    @property
    def evaluation_files(self) -> list[Path]:
        """The JSON files below `evaluations`, by name."""
        return sorted(self.evaluations.glob("*.json"))

    @property
    def robustness(self) -> Path:
        """Folder of accuracy on changed images, with pictures."""
        return self.path / "robustness"

    @property
    def pictures(self) -> Path:
        """The few images that the report shows."""
        return self.path / "pictures.npz"

    @property
    def transfer(self) -> Path:
        """What was measured to find where to start and how, and what would help next."""
        return self.path / "transfer.json"

    @property
    def transfer_picture(self) -> Path:
        """Accuracy over depth, beside size and similarity, as SVG; where the run has a report."""
        return self.path / "transfer.svg"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether training and the final evaluation came to their end."""
        return self.evaluation.is_file()

    def read_metrics(self) -> list[dict[str, Any]]:
        """The metrics lines in order; a half-written last line (power loss) is passed over."""
        return _read_lines(self.metrics)

    def read_depth(self) -> list[dict[str, Any]]:
        """The lines of depth.jsonl in order, as `read_metrics` reads them."""
        return _read_lines(self.depth)

    def read_evaluation(self) -> dict[str, Any]:
        """evaluation.json, or {} where the run has not come that far."""
        return read_json(self.evaluation)

    def read_environment(self) -> dict[str, Any]:
        """environment.json, or {}."""
        return read_json(self.environment)

    def read_transfer(self) -> dict[str, Any]:
        """transfer.json, or {}."""
        return read_json(self.transfer)

    def read_recipe(self) -> TrainOptions:
        """The resolved options of the run."""
        return load_recipe(self.recipe)


def find_run(text: str, runs: Path = Path("runs")) -> RunFolder:
    """The run that `text` names: `latest`, the path of a run folder, or its name (or the start of it) under `runs`.

    Raises:
        CheckpointError: `latest` where there is none yet.
        UnknownNameError: no such run; answered with the nearest names.
    """
    there = list_runs(runs)
    if text == "latest":
        if not there:
            raise CheckpointError(f"there is no run in {runs} yet", "train one with `striate train`")
        return there[0]
    if is_run(Path(text)):
        return RunFolder(Path(text))
    matching = [run for run in there if run.name == text] or [run for run in there if run.name.startswith(text)]
    if len(matching) == 1:
        return matching[0]
    hint = f"several begin so: {', '.join(run.name for run in matching[:5])}" if matching else None
    raise UnknownNameError("run", text, [run.name for run in there], hint)


def list_runs(runs: Path) -> list[RunFolder]:
    """The run folders in `runs`, newest first."""
    if not runs.is_dir():
        return []
    there = [RunFolder(path) for path in runs.iterdir() if is_run(path)]
    return sorted(there, key=lambda run: (run.recipe.stat().st_mtime, run.name), reverse=True)


def is_run(path: Path) -> bool:
    """Whether `path` is a run folder."""
    return (path / "recipe.toml").is_file()


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file of a run holds, or {} where there is none.

    Raises:
        CheckpointError: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
