"""A network as an ONNX file that says by itself how it is fed.

Input ``images`` [N, C, H, W], output ``logits`` float32 [N, classes]. The record (`packaged.ExportRecord`) is one JSON
text under the key ``striate`` of the file's metadata. The same network gives the same bytes.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from striate.errors import CheckpointError, MissingExtraError, ModelError, UsageError
from striate.inference.packaged import INPUT, OUTPUT, RECORD, ExportRecord, example_input, packaged, record_of
from striate.spec import InputSpec, Labels

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18  # what torch's exporter writes natively; ONNX Runtime reads it since 1.14, OpenVINO since 2023.0
WEIGHTS = ("fp32", "fp16")
_ONE_FILE = 2_000_000_000  # bytes: protobuf holds no more than 2 GiB
_HALF_MAX = 65504.0  # the largest half-precision number
_FEW = 64  # numbers: tensors this small stay as they are


def write_onnx(
    model: nn.Module,
    spec: InputSpec,
    labels: Labels,
    path: Path,
    *,
    preprocessing: str = "declared",
    batch: int | None = None,
    weights: str = "fp32",
    temperature: float = 1.0,
    thresholds: tuple[float, ...] | None = None,
) -> None:
    """Write `model` as ONNX, whole or not at all. The model itself stays as it is.

    Args:
        model: [N, C, H, W] -> logits [N, classes], in any mode, on any device.
        spec: what it is fed.
        labels: the class names in the order of its outputs.
        path: the file; one of more than 2 GB gets its parameters beside it, in ``NAME.data``.
        preprocessing: `declared`: float32 [N, C, H, W], normalised; `inside`: stored pixels [N, C, H, W] at input size,
            uint8 (int32 where they have more than 8 bits), colours as RGB.
        batch: None for any number of images, else always that many.
        weights: `fp16` stores the parameters in half precision; they are widened when the file is loaded, and the
            arithmetic is that of whatever runs it.
        temperature: by which its logits are to be divided before softmax; it goes into the record, not the graph.
        thresholds: of several labels an image, likewise.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ModelError: a network that torch cannot export.
        UsageError: an unknown choice, or a `batch` below 1.
        CheckpointError: the file cannot be written.
    """
    if weights not in WEIGHTS:
        raise UsageError(f"ONNX files have no {weights} parameters", f"they have: {', '.join(WEIGHTS)}")
    record = record_of(model, spec, labels, preprocessing, temperature, thresholds)
    proto = _graph(packaged(model, spec, preprocessing), record, batch)
    if weights == "fp16":
        _halve(proto)
    proto.metadata_props.add(key=RECORD, value=record.to_text())
    _save(proto, Path(path))


def read_onnx_record(path: str | Path) -> ExportRecord:
    """Input, class names and architecture of an ONNX file that `write_onnx` wrote.

    Raises:
        MissingExtraError: onnx is not installed.
        CheckpointError: no such file, or not one of ours.
    """
    onnx = needed("onnx", "reading an ONNX file")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except Exception as error:  # protobuf's DecodeError, which onnx does not name
        raise CheckpointError(f"{path} is no ONNX file", "`striate export` writes one") from error
    texts = {one.key: one.value for one in proto.metadata_props}
    if RECORD not in texts:
        raise CheckpointError(
            f"{path} was not written by Striate: it says neither its input nor its class names",
            "`striate export` writes files that do",
        )
    return ExportRecord.from_text(texts[RECORD], str(path))


def exported_program(model: nn.Module, record: ExportRecord, batch: int | None) -> torch.export.ExportedProgram:
    """`packaged` followed by torch.export, its batch dimension free unless `batch` is given.

    Raises:
        UsageError: `batch` is below 1.
        ModelError: a network that torch.export cannot follow.
    """
    if batch is not None and batch < 1:
        raise UsageError(f"a batch of {batch} images", "give 1 or more, or leave it out for any number")
    shapes = ({0: torch.export.Dim("batch")},) if batch is None else None
    images = example_input(record, batch or 2)
    with _quiet():
        try:
            return torch.export.export(model, (images,), dynamic_shapes=shapes)
        except Exception as error:  # torch raises dozens of kinds here
            raise _cannot(record, batch, error) from error


# the graph ------------------------------------------------------------------------------------------------------------


def _graph(model: nn.Module, record: ExportRecord, batch: int | None) -> ModelProto:
    for package in ("onnx", "onnxscript"):  # the second is what torch's exporter works with
        needed(package, "exporting to ONNX")
    program = exported_program(model, record, batch)
    shapes = ({0: torch.export.Dim("batch")},) if batch is None else None
    with _quiet():
        try:
            written: Any = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT],
                dynamic_shapes=shapes, verbose=False,
            )  # fmt: skip
        except Exception as error:
            raise _cannot(record, batch, error) from error
        proto = written.model_proto
    _forget_where(proto)
    return proto


def _forget_where(proto: ModelProto) -> None:
    """Remove the exporter's notes: source lines with their paths on this machine, and intermediate shapes."""
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.graph.value_info[:]
    for one in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del one.metadata_props[:]
        one.doc_string = ""


def _halve(proto: ModelProto) -> None:
    """Store large float32 parameters in half precision, each followed by a cast back that loading folds away."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor) if tensor.data_type == TensorProto.FLOAT else None
        if values is None or values.size <= _FEW or abs(values).max() > _HALF_MAX:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype("float16"), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.widen", to=TensorProto.FLOAT))
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


# the file -------------------------------------------------------------------------------------------------------------


def _save(proto: ModelProto, path: Path) -> None:
    """One file under a name of its own, then under `path`; beyond 2 GB its parameters go into a second one first."""
    import onnx

    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.part")
    beside = path.with_name(f"{path.name}.data")
    try:
        if proto.ByteSize() <= _ONE_FILE:
            part.write_bytes(proto.SerializeToString(deterministic=True))
        else:
            beside.unlink(missing_ok=True)  # onnx appends to what is there
            onnx.save(proto, str(part), save_as_external_data=True, location=beside.name)
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        reason = (error.strerror or str(error)).lower()
        raise CheckpointError(
            f"cannot write {path}: {reason}", f"is there a folder {path.parent}, with space?"
        ) from error


def _cannot(record: ExportRecord, batch: int | None, error: Exception) -> ModelError:
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else type(error).__name__
    hint = "a fixed batch may do: --batch 1" if batch is None else "--debug shows torch's own words"
    return ModelError(f"torch cannot export {record.architecture.name}: {first}", hint)


def needed(package: str, what: str) -> Any:
    """An optional package, imported.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingExtraError(what, package, "export") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's remarks about itself (opset conversion, torch's own deprecations) are nobody's business here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
