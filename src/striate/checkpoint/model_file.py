"""The model file: one `.safetensors` file that holds a network and everything needed to use it.

The parameters are ordinary safetensors tensors. The header's metadata hold, under ``striate``, one JSON text::

    {"format_version": 3, "architecture": {...}, "input": {...}, "labels": [...],
     "scores": {...}, "notes": {...}, "versions": {...}, "sha256": ...}

and a "temperature" where the logits are to be divided by one before they become probabilities. Where an image may have
several labels, "multi_label" is true and "thresholds" has for each label the probability from which it is chosen.

The checksum is over all the rest of that text and every parameter, so that a flipped bit is noticed. There is no date
in it, and one metadata key only (safetensors writes several in random order): the same network gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as as_safetensors

from striate.checkpoint.atomic import write_atomically
from striate.errors import CheckpointError, StriateError
from striate.runtime import kept_random_state
from striate.spec import InputSpec, Labels
from striate.version import __version__

if TYPE_CHECKING:
    from striate.models import ConvNet

FORMAT_VERSION = 4  # 2: cut networks; 3: several labels an image; 4: cut ones read at several places; all are read
FILE_NAME = "model.safetensors"  # inside a run folder
_RECORD = "striate"


@dataclass
class SavedModel:
    """A network with all that belongs to it. The model is in evaluation mode."""

    model: ConvNet
    spec: InputSpec
    labels: Labels
    scores: dict[str, Any] = field(default_factory=dict)  # as measured when it was saved
    notes: dict[str, Any] = field(default_factory=dict)  # anything plain: epoch, recipe, which weights
    path: Path = Path()
    temperature: float = 1.0  # by which logits are divided before softmax; the order of the classes stays
    thresholds: tuple[float, ...] | None = None  # of several labels an image: from which probability each is chosen


def save_model(
    path: Path,
    model: ConvNet,
    spec: InputSpec,
    labels: Labels,
    *,
    scores: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
    temperature: float = 1.0,
    thresholds: Sequence[float] | None = None,
) -> None:
    """Write a network and all that belongs to it as one file, whole or not at all.

    Args:
        path: the file, customarily ``model.safetensors``; what is there is replaced.
        model: on any device, in any memory layout.
        spec: what the network is fed.
        labels: the class names in the order of its outputs.
        scores: figures measured with these weights, plain values.
        notes: anything else worth keeping, plain values.
        temperature: by which logits are divided before they become probabilities (see `metrics.calibration`).
        thresholds: of several labels an image, the probability from which each is chosen.

    Raises:
        CheckpointError: the file cannot be written (disk full, folder missing); what was there stays.
    """
    if len(labels) != model.architecture.classes:
        raise ValueError(f"{len(labels)} class names for a network of {model.architecture.classes} classes")
    record = {
        "format_version": FORMAT_VERSION,
        "architecture": asdict(model.architecture),
        "input": spec.to_dict(),
        "labels": list(labels.names),
        "scores": dict(scores or {}),
        "notes": dict(notes or {}),
        "versions": {"striate": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    if temperature != 1:
        record["temperature"] = _checked(temperature)
    if labels.multi_label:
        record["multi_label"] = True
    if thresholds is not None:
        record["thresholds"] = list(_all_checked(thresholds, labels))
    record = json.loads(_text(record))  # paths, tuples and NumPy scalars become what reading will give
    tensors = _separate(model.state_dict())
    record["sha256"] = _checksum(record, tensors)
    write_atomically(Path(path), as_safetensors(tensors, {_RECORD: _text(record)}))


def load_model(path: str | Path, *, device: str | torch.device = "cpu", code: str | None = None) -> SavedModel:
    """Read a model file of ours, or that of a run folder. Nothing in it can run code; random states stay as they are.

    The network of a class of somebody's own is built where `code` names that class, as `FILE.py:CLASS`; its file is run
    then. Where that file has changed since, `notes["code_changed"]` says so.

    Raises:
        CheckpointError: missing, damaged, written by something else or by a newer Striate, or of a network that
            cannot be built here. The hint says what to do.
    """
    file = _find(Path(path))
    metadata, tensors = _read(file)
    if _RECORD not in metadata:
        raise CheckpointError(
            f"{file} was not written by Striate: it holds parameters, but neither network, input nor class names",
            "use a model.safetensors that `striate train` wrote",
        )
    record = _record(file, metadata[_RECORD])
    if record.pop("sha256", None) != _checksum(record, tensors):
        raise _damaged(file, "its checksum does not match what it holds")
    try:
        spec, labels = InputSpec.from_dict(record["input"]), labels_of(record)
        model = _build(record["architecture"], code)
        model.load_state_dict(tensors)
        temperature = _checked(record.get("temperature", 1.0))
        thresholds = _all_checked(record["thresholds"], labels) if "thresholds" in record else None
    except (StriateError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        hint = getattr(error, "hint", None) or f"it was written by {_writer(record)}, this is Striate {__version__}"
        raise CheckpointError(f"the network of {file} cannot be built: {reason}", hint) from error
    notes = record.get("notes", {})
    if code is not None and record["architecture"]["config"].get("sha256") != model.architecture.config.get("sha256"):
        notes = {**notes, "code_changed": True}
    return SavedModel(
        model=model.to(device).eval(),
        spec=spec,
        labels=labels,
        scores=record.get("scores", {}),
        notes=notes,
        path=file,
        temperature=temperature,
        thresholds=thresholds,
    )


def labels_of(record: Mapping[str, Any]) -> Labels:
    """The class names that a record has, and whether an image may have several."""
    return Labels(tuple(record["labels"]), multi_label=record.get("multi_label", False) is True)


def _build(architecture: Mapping[str, Any], code: str | None) -> ConvNet:
    from striate.models import rebuild

    with kept_random_state():  # a network of somebody's own may draw weights all the same
        return rebuild(dict(architecture), start=False, code=code)


def _checked(temperature: float) -> float:
    if not (isinstance(temperature, (int, float)) and 0 < temperature < math.inf):
        raise ValueError(f"a temperature of {temperature!r}: it must be a number above 0")
    return float(temperature)


def _all_checked(thresholds: Sequence[float], labels: Labels) -> tuple[float, ...]:
    found = tuple(map(float, thresholds))
    if not labels.multi_label:
        raise ValueError("thresholds belong to networks that give an image any number of labels")
    if len(found) != len(labels) or not all(0 <= one <= 1 for one in found):
        raise ValueError(f"{len(found)} thresholds for {len(labels)} labels: each needs one from 0 to 1")
    return found


def _find(path: Path) -> Path:
    if path.is_dir():
        file = path / FILE_NAME
        if not file.is_file():
            raise CheckpointError(
                f"{path} holds no {FILE_NAME}",
                "a run that was stopped before its first validation has none yet: `striate train --resume` goes on",
            )
        return file
    if not path.exists():
        raise CheckpointError(f"there is no model file {path}", "`striate runs` lists the runs there are")
    return path


def _read(file: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        with open(file, "rb") as opened:
            start = opened.read(9)
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {(error.strerror or str(error)).lower()}") from error
    # torch.save's archive, or a bare pickle; but \x80 is also what the length of one header in 32 begins with
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05") and start[8:] != b"{":
        raise CheckpointError(
            f"{file} is a pickled PyTorch file, which can run code when it is opened",
            "a model file is a .safetensors file of Striate's own; weights of others are spelt MODEL:FILE",
        )
    try:
        with safe_open(file, framework="pt") as archive:
            return archive.metadata() or {}, {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        size = file.stat().st_size
        if size == 0:
            raise _damaged(file, "it is empty") from error
        detail = " ".join(str(error).split())
        raise _damaged(file, f"{size:,} bytes that are no whole safetensors file ({detail})") from error


def _record(file: Path, text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
        version = record["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(file, "its description cannot be read") from error
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _damaged(file, f"its format version is {version!r}")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{file} has format version {version}; this Striate reads up to {FORMAT_VERSION}",
            f"it was written by {_writer(record)}: upgrade Striate",
        )
    return record


def _writer(record: Mapping[str, Any]) -> str:
    versions = record.get("versions")
    return f"Striate {versions.get('striate', '?')}" if isinstance(versions, dict) else "another Striate"


def _damaged(file: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{file} is damaged: {why}",
        "copy it again from where it is whole, or train again (a run that is not finished goes on with --resume)",
    )


def _separate(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous tensors on the processor, none sharing memory with another (safetensors refuses those)."""
    seen: set[int] = set()
    result = {}
    for name, tensor in state.items():
        tensor = tensor.detach().to("cpu").contiguous()
        storage = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return result


def _checksum(record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the description and, by name, every parameter's name, type, shape and bytes."""
    digest = hashlib.sha256(_text(record).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _text(record: Mapping[str, Any]) -> str:
    """Canonical JSON; ASCII only, since a class name from a folder need not be valid Unicode."""
    return json.dumps(record, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    """The JSON form of what is nearly plain: paths, NumPy scalars, our nouns."""
    if isinstance(value, Path):
        return str(value)
    for method in ("to_dict", "tolist"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"a model file holds plain values, not {type(value).__name__}")
