"""The formats that a network can leave in: each written, opened again by what users will run it with, and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from striate.errors import CheckpointError, MissingExtraError, UnknownNameError, UsageError
from striate.inference.onnx_file import (
    OPSET,
    exported_program,
    needed,
    read_onnx_record,
    write_onnx,
)
from striate.inference.packaged import (
    INPUT,
    OUTPUT,
    PREPROCESSING,
    RECORD,
    ExportRecord,
    packaged,
    record_of,
)
from striate.spec import InputSpec, Labels

Run = Callable[[Tensor], Tensor]  # input as the record says -> logits float32 [N, classes]
_CHUNK = 16  # images passed at once where any number goes


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """What one format is called, can hold and needs."""

    name: str
    suffix: str
    packages: tuple[str, ...] = ()  # of the extra `export`, to write it and to open it again
    precisions: tuple[str, ...] = ("fp32",)
    graph: bool = True  # holds the computation, so that it runs without Striate
    opset: int | None = None
    loading: tuple[str, ...] = ()  # three lines of Python; {path} is the file


FORMATS = {
    one.name: one
    for one in (
        Format(
            name="onnx",
            suffix=".onnx",
            packages=("onnx", "onnxscript", "onnxruntime"),
            precisions=("fp32", "fp16"),
            opset=OPSET,
            loading=(
                "import onnxruntime",
                "session = onnxruntime.InferenceSession({path!r})",
                f'(logits,) = session.run(["{OUTPUT}"], {{{{"{INPUT}": images}}}})',
            ),
        ),
        Format(
            name="openvino",
            suffix=".xml",
            packages=("onnx", "onnxscript", "openvino"),
            precisions=("fp32", "fp16"),
            loading=(
                "import openvino",
                'network = openvino.Core().compile_model({path!r}, "CPU")',
                f'logits = network({{{{"{INPUT}": images}}}})["{OUTPUT}"]',
            ),
        ),
        Format(
            name="pt2",
            suffix=".pt2",
            loading=(
                "import torch",
                "network = torch.export.load({path!r}).module()",
                "logits = network(images)",
            ),
        ),
        Format(
            name="safetensors",
            suffix=".safetensors",
            graph=False,
            loading=(
                "import striate",
                "classifier = striate.load({path!r})",
                'predictions = classifier.predict(["photo.jpg"])',
            ),
        ),
    )
}


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in FORMATS:
        hint = "PyTorch has deprecated it: pt2 is its successor" if name.lower() in ("torchscript", "jit") else None
        raise UnknownNameError("format", name, FORMATS, hint)
    return FORMATS[name]


def format_of(path: Path) -> Format:
    """The format that a file's ending stands for.

    Raises:
        UsageError: none of the endings.
    """
    for one in FORMATS.values():
        if path.suffix.lower() == one.suffix:
            return one
    endings = ", ".join(f"{one.suffix} ({one.name})" for one in FORMATS.values())
    raise UsageError(f"{path.name} has no ending of a format", f"endings are {endings}; or name the format: --to onnx")


def check_choices(format: Format, preprocessing: str, precision: str, batch: int | None) -> None:
    """Refuse what a format cannot hold, and what is not installed, before anything is done.

    Raises:
        UnknownNameError, UsageError: an unknown choice, or one that this format does not have.
        MissingExtraError: a package that is needed is not installed.
    """
    if preprocessing not in PREPROCESSING:
        raise UnknownNameError("preprocessing", preprocessing, PREPROCESSING)
    if precision not in format.precisions:
        raise UsageError(f"{format.name} has no precision {precision}", f"it has: {', '.join(format.precisions)}")
    if batch is not None and batch < 1:
        raise UsageError(f"a batch of {batch} images", "give 1 or more, or leave it out for any number")
    if not format.graph and (preprocessing != "declared" or batch is not None):
        what = "a fixed batch" if batch is not None else "preprocessing inside"
        raise UsageError(f"a {format.suffix} file has no graph: it cannot have {what}", "use onnx, openvino or pt2")
    for package in format.packages:
        if find_spec(package) is None:
            raise MissingExtraError(f"exporting to {format.name}", package, "export")


def write_as(
    format: Format,
    model: nn.Module,
    spec: InputSpec,
    labels: Labels,
    path: Path,
    *,
    preprocessing: str = "declared",
    precision: str = "fp32",
    batch: int | None = None,
    temperature: float = 1.0,
    thresholds: tuple[float, ...] | None = None,
) -> ExportRecord:
    """Write a network in a format that holds a graph (see `onnx_file.write_onnx` for the arguments).

    Returns:
        The record that was written into the file.

    Raises:
        ModelError: torch cannot export the network.
        CheckpointError: the file cannot be written.
    """
    record = record_of(model, spec, labels, preprocessing, temperature, thresholds)
    if format.name == "onnx":
        write_onnx(
            model, spec, labels, path, preprocessing=preprocessing, batch=batch, weights=precision,
            temperature=temperature, thresholds=thresholds,
        )  # fmt: skip
    elif format.name == "openvino":
        _write_openvino(model, record, path, batch, precision)
    elif format.name == "pt2":
        _write_program(model, record, path, batch)
    else:
        raise ValueError(f"{format.name} holds no graph")
    return record


def reopened(format: Format, path: Path) -> tuple[Run, ExportRecord]:
    """An exported file as its users will open it, computing in float32 on the processor, and the record in it.

    Raises:
        CheckpointError: the file has no record of ours.
    """
    opening = {"onnx": _open_onnx, "openvino": _open_openvino, "pt2": _open_program}
    return opening[format.name](path)


def run_over(run: Run, images: Tensor, batch: int | None) -> Tensor:
    """The logits of all `images`: a single one first and then larger batches, or always `batch` at once."""
    if batch is None:
        sizes = [1, *[_CHUNK] * (len(images) // _CHUNK + 1)]
        return torch.cat([run(part.contiguous()) for part in images.split(_fitting(sizes, len(images)))])
    rows = []
    for part in images.split(batch):
        filled = torch.cat([part, part[-1:].expand(batch - len(part), *part.shape[1:])])
        rows.append(run(filled.contiguous())[: len(part)])
    return torch.cat(rows)


def _fitting(sizes: list[int], total: int) -> list[int]:
    """The first of `sizes`, the last one cut so that they add up to `total`."""
    kept: list[int] = []
    for size in sizes:
        if total > sum(kept):
            kept.append(min(size, total - sum(kept)))
    return kept


# OpenVINO -------------------------------------------------------------------------------------------------------------


def _write_openvino(model: nn.Module, record: ExportRecord, path: Path, batch: int | None, precision: str) -> None:
    openvino = needed("openvino", "exporting to OpenVINO")
    with TemporaryDirectory(prefix=".striate-", dir=path.parent) as folder:
        file = Path(folder) / "model.onnx"
        write_onnx(model, record.spec, record.labels, file, preprocessing=record.preprocessing, batch=batch)
        network = openvino.Core().read_model(str(file))
        network.set_rt_info(record.to_text(), [RECORD])
        openvino.save_model(network, str(path), compress_to_fp16=precision == "fp16")
        del network  # it reads its parameters from the temporary file


def _open_openvino(path: Path) -> tuple[Run, ExportRecord]:
    openvino = needed("openvino", "opening an OpenVINO model")
    core = openvino.Core()
    network = core.read_model(str(path))
    if not network.has_rt_info([RECORD]):
        raise _without_record(path)
    text = network.get_rt_info([RECORD]).astype(str)
    # the processor's own default is bfloat16 where it has that
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled({INPUT: images.numpy()})[OUTPUT].copy())

    return run, ExportRecord.from_text(text, str(path))


# ONNX -----------------------------------------------------------------------------------------------------------------


def _open_onnx(path: Path) -> tuple[Run, ExportRecord]:
    runtime: Any = needed("onnxruntime", "opening an ONNX file")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])

    return run, read_onnx_record(path)


# PyTorch --------------------------------------------------------------------------------------------------------------


def _write_program(model: nn.Module, record: ExportRecord, path: Path, batch: int | None) -> None:
    program = exported_program(packaged(model, record.spec, record.preprocessing), record, batch)
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            node.meta.pop("stack_trace", None)  # source lines with their paths on this machine
    torch.export.save(program, path, extra_files={f"{RECORD}.json": record.to_text()})


def _open_program(path: Path) -> tuple[Run, ExportRecord]:
    extra: dict[str, Any] = {f"{RECORD}.json": ""}
    module = torch.export.load(path, extra_files=extra).module()
    text = extra[f"{RECORD}.json"]
    if not text:
        raise _without_record(path)

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return module(images)

    return run, ExportRecord.from_text(text if isinstance(text, str) else text.decode(), str(path))


def _without_record(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} was not written by Striate: it says neither its input nor its class names",
        "`striate export` writes files that do",
    )
