"""What a run folder holds, read once and in the form that the sections need. Whatever is missing is None or empty."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.errors import StriateError
from striate.report.figures import confusion_of, finite
from striate.runfolder import RunFolder, read_json

if TYPE_CHECKING:
    import pyarrow

SEPARATOR = "|"  # between the labels of an image, where it may have several
HEADLINE_ORDER = ("test", "val")
COLUMNS = frozenset(
    (
        "path",
        "hash",
        "label",
        "split",
        "reason",
        "predicted",
        "probability",
        "label_probability",
        "correct",
        "error",
        "labels",
        "chosen",
        "probabilities",
    )
)  # of data.parquet and predictions.parquet: what a report shows


@dataclass(frozen=True, slots=True)
class Omitted:
    """One image that the manifest leaves out."""

    path: str
    reason: str
    split: str


@dataclass(frozen=True, slots=True)
class Counts:
    """The manifest in figures."""

    classes: tuple[str, ...]
    splits: dict[str, np.ndarray]  # split -> images per class, int64 [classes], without those left out
    omitted: tuple[Omitted, ...]
    shared: dict[str, int]  # split -> images whose content is also in the training set
    images: dict[str, int]  # split -> images, of which one may count for any number of classes

    @property
    def used(self) -> int:
        """Images in all splits."""
        return sum(self.images.values())


@dataclass(frozen=True, slots=True)
class Tensor:
    """Name and shape of one tensor of the model file."""

    name: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Numbers in it."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Record:
    """Everything a report draws on."""

    run: Path
    epochs: list[dict[str, Any]]  # metrics of kind "epoch", one per epoch, in order
    steps: list[dict[str, Any]]
    evaluation: dict[str, Any]
    environment: dict[str, Any]
    options: dict[str, dict[str, Any]]  # resolved, by section
    labels: tuple[str, ...]
    manifest: pyarrow.Table | None = None
    predictions: pyarrow.Table | None = None
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)  # the metadata record of model.safetensors
    tensors: tuple[Tensor, ...] = ()
    filters: np.ndarray | None = None  # [out, in, height, width] of the first convolution
    filters_name: str = ""
    model_bytes: int = 0
    transfer: dict[str, Any] = field(default_factory=dict)  # transfer.json
    transfer_picture: bytes | None = None  # SVG
    evaluations: tuple[dict[str, Any], ...] = ()  # what `striate evaluate` found later, by file name
    depth: list[dict[str, Any]] = field(default_factory=list)  # depth.jsonl
    robustness: dict[str, Any] = field(default_factory=dict)  # accuracy on changed images
    robustness_picture: bytes | None = None  # PNG: what fooled the network
    problems: tuple[str, ...] = ()  # files that are there and could not be read

    @property
    def finished(self) -> bool:
        """Whether the final evaluation is there."""
        return bool(self.evaluation.get("splits"))

    @property
    def headline(self) -> str | None:
        """The split whose score stands on top: test where there is one, otherwise validation."""
        there = self.evaluation.get("splits") or {}
        return next((name for name in (*HEADLINE_ORDER, *there) if there.get(name)), None)

    @property
    def scores(self) -> dict[str, Any]:
        """The scores of the headline split, or {}."""
        return self.evaluation["splits"][self.headline] if self.headline else {}

    @property
    def multi_label(self) -> bool:
        """Whether the network gives an image any number of labels."""
        return bool(self.model.get("multi_label")) or self.scores.get("exact_match") is not None

    @property
    def model_name(self) -> str:
        """As the registry calls it."""
        architecture = self.model.get("architecture") or {}
        chosen = self.options.get("model", {}).get("model")
        return str(self.evaluation.get("model") or architecture.get("name") or chosen or "network")

    @property
    def data_name(self) -> str:
        """The set's name, or the last part of its path."""
        data = str(self.options.get("data", {}).get("data") or "data")
        return Path(data).name or data

    @property
    def without_epochs(self) -> bool:
        """Whether nothing was trained epoch by epoch: a linear classifier was fitted at once, or a network kept."""
        return self.evaluation.get("epochs") == 0

    @property
    def planned_epochs(self) -> int | None:
        """Epochs that the options ask for."""
        return self.options.get("schedule", {}).get("epochs")


def read_record(run: Path) -> Record:
    """Read a run folder; only a damaged folder as a whole is an error, a missing or damaged file is said on the page.

    Raises:
        StriateError: `run` is no run folder.
    """
    folder = RunFolder(run)
    if not folder.recipe.is_file() and not folder.metrics.is_file():
        raise StriateError(f"{run} is not a run folder: it has neither recipe.toml nor metrics.jsonl")
    problems: list[str] = []
    metrics = _tolerant(folder.read_metrics, [], folder.metrics, problems)
    epochs = {row["epoch"]: row for row in metrics if row.get("kind") == "epoch" and "epoch" in row}
    evaluation = _tolerant(folder.read_evaluation, {}, folder.evaluation, problems)
    for scores in (evaluation.get("splits") or {}).values():
        if scores:  # once: a matrix of 1,000 classes is a million numbers
            scores["confusion"] = confusion_of(scores)
    model = _tolerant(lambda: _read_model(folder.model), {}, folder.model, problems)
    manifest = _tolerant(lambda: _read_parquet(folder.manifest), None, folder.manifest, problems)
    changed, fooled = folder.robustness / "robustness.json", folder.robustness / "fooled.png"
    return Record(
        run=run,
        epochs=[epochs[key] for key in sorted(epochs)],
        steps=[row for row in metrics if row.get("kind") == "step"],
        evaluation=evaluation,
        environment=_tolerant(folder.read_environment, {}, folder.environment, problems),
        options=_tolerant(lambda: _read_options(folder.recipe), {}, folder.recipe, problems),
        labels=_labels(evaluation, model.get("model", {})),
        manifest=manifest,
        predictions=_tolerant(lambda: _read_parquet(folder.predictions), None, folder.predictions, problems),
        pictures=_tolerant(lambda: _read_pictures(folder.pictures), {}, folder.pictures, problems),
        transfer_picture=_tolerant(folder.transfer_picture.read_bytes, None, folder.transfer_picture, problems),
        evaluations=tuple(
            one
            for path in folder.evaluation_files
            if isinstance(one := _tolerant(lambda path=path: read_json(path), {}, path, problems), dict) and one
        ),
        depth=_tolerant(folder.read_depth, [], folder.depth, problems),
        robustness=_tolerant(lambda: read_json(changed), {}, changed, problems),
        robustness_picture=_tolerant(fooled.read_bytes, None, fooled, problems),
        transfer=_tolerant(folder.read_transfer, {}, folder.transfer, problems),
        problems=tuple(problems),
        **model,
    )


BEYOND_LIMIT = (
    "beyond the limit"  # the manifest's word for images that `--limit` leaves aside: nothing is wrong with them
)


def count_manifest(manifest: pyarrow.Table, labels: Sequence[str] = (), *, multi_label: bool = False) -> Counts:
    """Images per split and class, what was left out, and content that a split shares with the training set.

    `labels` gives the order of classes; those that only the manifest knows follow, sorted as people count. With
    `multi_label` an image has any number of them, joined to one text.
    """
    splits, split_codes = _codes(manifest, "split")
    names, label_codes = _codes(manifest, "label")
    reasons = manifest["reason"].to_pylist() if "reason" in manifest.column_names else [None] * len(manifest)
    used = np.array([reason is None for reason in reasons], dtype=bool)
    known = {name: position for position, name in enumerate(labels)}
    sets = [[part for part in name.split(SEPARATOR) if part] if multi_label else [name] for name in names]
    for name in sorted({part for one in sets for part in one if part not in known}, key=natural_key):
        known[name] = len(known)
    members = np.zeros((len(names) + 1, len(known)), dtype=np.int64)  # the last row is that of images without a name
    for row, one in zip(members, sets, strict=False):
        row[[known[part] for part in one]] = 1
    counts, images = {}, {}
    for code, split in sorted(enumerate(splits), key=lambda item: split_key(item[1])):
        rows = used & (split_codes == code) & (label_codes >= 0)
        if rows.any():
            counts[split] = np.bincount(label_codes[rows], minlength=len(members)) @ members
            images[split] = int(rows.sum())
    rows = [] if used.all() else [row for row in manifest.filter(~used).to_pylist() if row["reason"] != BEYOND_LIMIT]
    omitted = tuple(Omitted(str(row.get("path")), str(row["reason"]), str(row.get("split") or "")) for row in rows)
    return Counts(tuple(known), counts, omitted, _shared(manifest, splits, split_codes, used), images)


def natural_key(text: str) -> tuple[Any, ...]:
    """Sorts "10" after "9"."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text))


def split_key(name: str) -> tuple[int, str]:
    """Train before validation before test before the rest."""
    order = ("train", "val", "test")
    return (order.index(name) if name in order else len(order), name)


def _shared(manifest: pyarrow.Table, splits: list[str], split_codes: np.ndarray, used: np.ndarray) -> dict[str, int]:
    if "hash" not in manifest.column_names or "train" not in splits:
        return {}
    values, codes = _codes(manifest, "hash")
    hashed = used & (codes >= 0)
    in_train = np.zeros(len(values) + 1, dtype=bool)
    in_train[codes[hashed & (split_codes == splits.index("train"))]] = True
    return {
        name: int(in_train[codes[hashed & (split_codes == code)]].sum())
        for code, name in enumerate(splits)
        if name != "train"
    }


def _codes(table: pyarrow.Table, column: str) -> tuple[list[str], np.ndarray]:
    """The distinct values of a column as text, and for each row the position of its value, -1 for null."""
    if column not in table.column_names:
        return [], np.full(len(table), -1)
    encoded = table[column].combine_chunks()
    if not hasattr(encoded, "indices"):
        encoded = encoded.dictionary_encode()
    if hasattr(encoded, "combine_chunks"):  # several chunks were left
        encoded = encoded.combine_chunks()
    return [str(value) for value in encoded.dictionary.to_pylist()], encoded.indices.fill_null(-1).to_numpy()


def _tolerant(read: Any, otherwise: Any, path: Path, problems: list[str]) -> Any:
    """What `read` gives; on a damaged file `otherwise`, and a line in `problems`: half a report beats none."""
    if not path.is_file():
        return otherwise
    try:
        return read()
    except Exception as error:  # readers of five formats: each has its own exceptions
        message = error.message if isinstance(error, StriateError) else f"{type(error).__name__}: {error}"
        problems.append(f"{path.name} could not be read ({message})")
        return otherwise


def _labels(evaluation: dict[str, Any], model: dict[str, Any]) -> tuple[str, ...]:
    stored = model.get("labels") or ()
    stored = stored.get("names", ()) if isinstance(stored, dict) else stored
    if stored:
        return tuple(str(name) for name in stored)
    for scores in (evaluation.get("splits") or {}).values():
        if scores and scores.get("per_class"):
            return tuple(str(row["label"]) for row in scores["per_class"])
    return ()


def _read_options(path: Path) -> dict[str, dict[str, Any]]:
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    return {section: table for section, table in values.items() if isinstance(table, dict)}


def _read_parquet(path: Path) -> pyarrow.Table:
    import pyarrow.parquet

    there = pyarrow.parquet.read_schema(path).names
    return pyarrow.parquet.read_table(path, columns=[name for name in there if name in COLUMNS])


def _read_pictures(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _read_model(path: Path) -> dict[str, Any]:
    """Metadata, shapes, and the values of the first convolution alone: torch is not needed for a report."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as stored:
        metadata = stored.metadata() or {}
        shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        tensors = tuple(Tensor(name, shapes[name]) for name in sorted(shapes, key=_depth_key))
        first = next((tensor for tensor in tensors if len(tensor.shape) == 4 and min(tensor.shape[2:]) > 1), None)
        filters = None
        if first is not None:
            try:
                filters = np.asarray(stored.get_tensor(first.name), dtype=np.float32)
            except (TypeError, ValueError):  # a number format that NumPy does not have, such as bfloat16
                first = None
    return {
        "model": json.loads(metadata.get("striate", "{}")),
        "tensors": tensors,
        "filters": filters,
        "filters_name": first.name if first else "",
        "model_bytes": path.stat().st_size,
    }


def _depth_key(name: str) -> tuple[Any, ...]:
    """In the order in which the image meets them: stem, stages, head."""
    rooms = ("stem", "stages", "head")
    first = name.split(".")[0]
    return (rooms.index(first) if first in rooms else len(rooms), natural_key(name))


def epoch_values(epochs: list[dict[str, Any]], *keys: str) -> list[tuple[int, float]]:
    """(epoch, value) wherever the nested key holds a finite number: ``epoch_values(rows, "val", "top1")``."""
    found = []
    for row in epochs:
        value: Any = row
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        number = finite(value)
        if number is not None:
            found.append((int(row["epoch"]), number))
    return found
