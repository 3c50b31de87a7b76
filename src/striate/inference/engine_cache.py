"""Graphs that back ends run, kept on the disk, and what was found out about them.

    engines/<key>/network.onnx    the graph: batch norms folded, in float32 or quantised
    engines/<key>/engine.json     what it was made of, and the checksum of the graph
    engines/<key>/parity-<back end>-<version>-<precision>-<features>.json

A key begins with a digest of the network (parameters, architecture, input) and of the versions that write graphs; in
int8 it goes on with one of the calibration. A folder is made under a name of its own and renamed once it is whole: of
two processes that build the same, the one that comes second finds the other's and drops its own. A graph that does not
fit its checksum is built again; what a build that was killed left behind goes after a day.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import torch
from torch import nn

from striate.errors import CheckpointError
from striate.inference.folding import fold_batch_norms
from striate.inference.foreign_code import foreign_code, version_of
from striate.inference.onnx_file import write_onnx
from striate.inference.parity import Parity
from striate.inference.quantise import Calibration, has_vnni, quantise, settings_of_this_processor
from striate.runtime import processor_has_bf16
from striate.spec import InputSpec, Labels
from striate.version import __version__

GRAPH, RECORD = "network.onnx", "engine.json"
_WRITERS = ("torch", "onnx", "onnxscript", "onnxruntime")
_DIGITS = 16
_ABANDONED = 24 * 3600  # seconds: whoever still built there would be done


@dataclass(frozen=True, slots=True)
class EngineCache:
    """A folder of engines."""

    folder: Path

    def graph(self, key: str) -> Path:
        """Where the graph of `key` is, or will be."""
        return self.folder / key / GRAPH

    def keys(self, start: str) -> list[str]:
        """Of whole graphs whose key begins so, the newest first."""
        there = [path.parent for path in self.folder.glob(f"{start}*/{RECORD}")]
        return [path.name for path in sorted(there, key=lambda path: path.stat().st_mtime, reverse=True)]

    def read_parity(self, key: str, backend: str, precision: str) -> Parity | None:
        """The report on an engine, where there is one that can be read."""
        try:
            return Parity(**json.loads(self._report(key, backend, precision).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write_parity(self, key: str, backend: str, precision: str, parity: Parity) -> None:
        """Keep a report; a folder that cannot be written to keeps none."""
        path = self._report(key, backend, precision)
        part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.part")
        with suppress(OSError):
            part.write_text(json.dumps(parity.to_dict()), encoding="utf-8")
            os.replace(part, path)

    def _report(self, key: str, backend: str, precision: str) -> Path:
        name = f"parity-{backend}-{version_of(backend)}-{precision}-{processor_features()}.json"
        return self.folder / key / name


@dataclass(frozen=True, slots=True)
class Known:
    """The graph that an engine runs: its key, None where int8 has nothing to be calibrated by, and whether it is whole.

    Finding out reads and hashes the network and the graph: once is enough.
    """

    key: str | None
    whole: bool


def known_graph(
    model: nn.Module, spec: InputSpec, precision: str, calibration: Calibration | None, cache: EngineCache | None
) -> Known:
    """The graph for an engine of `precision`, and whether `cache` has it.

    In int8 without calibration it is the newest whole one there is of this network.
    """
    network = network_key(model, spec)
    if precision != "int8":
        key = f"{network}-fp32"  # bf16 is the back end's arithmetic on the same graph
    else:
        start = f"{network}-int8-{settings_of_this_processor()}-"
        if calibration is None:
            kept = cache.keys(start) if cache is not None else []
            found = next((one for one in kept if cache is not None and is_kept(cache, one)), None)
            return Known(found, found is not None)
        key = f"{start}{calibration.identity}"
    return Known(key, cache is not None and is_kept(cache, key))


def processor_features() -> str:
    """What the answers of one graph depend on besides the back end: the arithmetic that this processor has."""
    there = {"bf16": processor_has_bf16(), "vnni": has_vnni()}
    return "-".join(name for name, has in there.items() if has) or "plain"


def network_key(model: nn.Module, spec: InputSpec) -> str:
    """A digest of everything in a graph but its precision: the network, its code, its input, and who writes it."""
    architecture: Any = getattr(model, "architecture", None)
    about = {
        "architecture": architecture and architecture.to_dict(),
        "input": spec.to_dict(),
        "writers": {name: version_of(name) for name in _WRITERS},
        "code": foreign_code(model),
    }
    digest = hashlib.sha256(json.dumps([__version__, about], sort_keys=True, default=str).encode())
    for name, tensor in model.state_dict().items():
        values = tensor.detach().cpu().contiguous()
        digest.update(f"\n{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:_DIGITS]


def is_kept(cache: EngineCache, key: str) -> bool:
    """Whether the graph of `key` is there and whole."""
    graph = cache.graph(key)
    try:
        record = json.loads((graph.parent / RECORD).read_text(encoding="utf-8"))
        with open(graph, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == record["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def graph_file(
    model: nn.Module,
    spec: InputSpec,
    labels: Labels,
    key: str,
    calibration: Calibration | None,
    cache: EngineCache | None,
    *,
    whole: bool = False,
) -> Iterator[Path]:
    """The graph of `key`, from the cache or built; without a cache it is gone when the engine has read it.

    `whole` says that `known_graph` has just found it.

    Raises:
        MissingExtraError, ModelError: it cannot be built.
        CheckpointError: the cache cannot be written to.
    """
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="striate-engine-") as folder:
            yield _built(model, spec, labels, key, calibration, Path(folder))
        return
    if not whole:
        _keep(model, spec, labels, key, calibration, cache)
    yield cache.graph(key)


def _keep(
    model: nn.Module, spec: InputSpec, labels: Labels, key: str, calibration: Calibration | None, cache: EngineCache
) -> None:
    """Build into a folder of its own, then give it its name."""
    place = cache.folder / key
    part = place.with_name(f".{key}.{os.getpid()}-{threading.get_native_id()}.part")
    remove_abandoned(cache.folder)
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            _built(model, spec, labels, key, calibration, part)
            _publish(part, place, cache, key)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CheckpointError(
            f"cannot keep the engine in {cache.folder}: {reason}", "free some space, or use --backend torch"
        ) from error


def remove_abandoned(folder: Path, name: str = "") -> None:
    """What processes that were killed have left in `folder` of what was to be `name`; by default of anything."""
    for path in folder.glob(f".{escape(name)}*"):
        with suppress(OSError):
            if path.suffix in (".part", ".damaged") and time.time() - path.stat().st_mtime > _ABANDONED:
                shutil.rmtree(path, ignore_errors=True)


def _publish(part: Path, place: Path, cache: EngineCache, key: str) -> None:
    for _ in range(3):
        try:
            os.rename(part, place)
            return
        except OSError:
            if is_kept(cache, key):  # another process was quicker
                return
            gone = part.with_suffix(".damaged")
            with suppress(OSError):
                os.rename(place, gone)  # so that nobody sees half of it disappear
            shutil.rmtree(gone, ignore_errors=True)
    os.rename(part, place)


def _built(
    model: nn.Module, spec: InputSpec, labels: Labels, key: str, calibration: Calibration | None, folder: Path
) -> Path:
    file = folder / GRAPH
    folded = fold_batch_norms(model, (spec.channels, *spec.size))
    write_onnx(folded, spec, labels, file)
    if calibration is not None:
        plain = file.with_name("fp32.onnx")
        os.replace(file, plain)
        # outputs that have a loss of their own are no plain classes: distances must not lose digits
        quantise(plain, file, calibration.batches(), exact_end=hasattr(getattr(model, "head", None), "loss"))
        plain.unlink()
    with open(file, "rb+") as written:
        checksum = hashlib.file_digest(written, "sha256").hexdigest()
        os.fsync(written.fileno())
    record = {
        "key": key,
        "sha256": checksum,
        "calibration": calibration.about if calibration is not None else None,
        "written_by": {name: version_of(name) for name in _WRITERS} | {"striate": __version__},
    }
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
    return file
