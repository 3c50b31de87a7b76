"""What a network can be run by: torch, ONNX Runtime or OpenVINO, in the precisions that each has.

Every engine takes normalised float32 images [B, C, H, W], any number at once, and gives float32 logits [B, classes] on
the processor or, torch's, on its device. ONNX Runtime and OpenVINO read the same graph, which `cache` keeps on the
disk, and compute on the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from striate.errors import MissingExtraError, UnknownNameError, UsageError
from striate.inference.engine_cache import EngineCache, Known, graph_file, known_graph
from striate.inference.parity import Parity
from striate.inference.quantise import Calibration, calibration_of
from striate.spec import InputSpec, Labels

ABLE: dict[str, tuple[str, ...]] = {
    "torch": ("fp32", "bf16", "fp16"),  # fp16 on a GPU only
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
BACKENDS = tuple(ABLE)
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
_BUILDING = ("onnx", "onnxscript")  # to write a graph
_QUANTISING = (*_BUILDING, "onnxruntime")


class Engine(Protocol):
    """A network, ready to run."""

    backend: str
    precision: str
    key: str | None  # names what was built, in the cache; None where there is none
    parity: Parity | None  # as measured, where it was
    settles_after: int  # calls with as many images, after which every further one takes its usual time

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float32 [B, C, H, W] -> logits float32 [B, classes]."""
        ...


class EngineModule(nn.Module):
    """An engine where a module is expected, such as under an evaluation's views."""

    def __init__(self, engine: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.engine = engine

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> logits [B, classes]."""
        return self.engine(images)


def open_engine(
    model: nn.Module,
    spec: InputSpec,
    labels: Labels,
    *,
    backend: str,
    precision: str,
    device: torch.device,
    threads: int | None = None,
    cache: Path | None = None,
    calibration: Calibration | Iterable[torch.Tensor] | None = None,
    known: Known | None = None,
) -> Engine:
    """An engine for `model`, from the cache where it was built before.

    Args:
        model: [B, C, H, W] -> logits [B, classes], a network of ours; it stays as it is.
        spec: what it is fed.
        labels: the class names in the order of its outputs.
        backend: one of `BACKENDS`.
        precision: one that `ABLE` lists for the back end; `int8` is post-training quantisation.
        device: where torch computes; the others have the processor only.
        threads: processor threads of the others (None: `runtime.thread_limit`); torch's are the process's.
        cache: folder of the graphs and parity reports; None keeps nothing.
        calibration: normalised images for `int8`, in batches; not needed where the cache has the network in int8.
        known: what `known_graph` says of these arguments, if the caller has asked already.

    Raises:
        UnknownNameError: no such back end or precision.
        UsageError: a precision that the back end does not have, a device it cannot use, or no calibration.
        MissingExtraError: a package of the extra `export` is not installed.
        ModelError: a network that cannot be exported, or a back end that cannot run it or be loaded.
    """
    check_choice(backend, precision, device)
    kept = EngineCache(cache) if cache is not None else None
    if backend == "torch":
        from striate.inference.engines.torch_engine import TorchEngine

        return TorchEngine(model, precision, device, shape=(spec.channels, *spec.size))
    _require(backend, backend)
    given = calibration_of(calibration)
    known = known or known_graph(model, spec, precision, given, kept)
    key, whole = known.key, known.whole and kept is not None
    if key is None or (precision == "int8" and given is None and not whole):
        raise _uncalibrated()
    if not whole:
        for package in _QUANTISING if precision == "int8" else _BUILDING:
            _require(backend, package)
    with graph_file(model, spec, labels, key, given if precision == "int8" else None, kept, whole=whole) as file:
        made: Any
        if backend == "onnxruntime":
            from striate.inference.engines.onnxruntime_engine import OnnxRuntimeEngine as made
        else:
            from striate.inference.engines.openvino_engine import OpenVinoEngine as made
        engine: Engine = made(file, precision, threads, key)
    if kept is not None:
        engine.parity = kept.read_parity(key, backend, precision)
    return engine


def check_choice(backend: str, precision: str, device: torch.device) -> None:
    """Whether there is such an engine.

    Raises:
        UnknownNameError, UsageError: see `open_engine`.
    """
    if backend not in ABLE:
        raise UnknownNameError("back end", backend, BACKENDS)
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    if precision not in ABLE[backend]:
        able = [f"{name} ({', '.join(kinds)})" for name, kinds in ABLE.items() if precision in kinds]
        raise UsageError(
            f"{backend} has no {precision}: it has {', '.join(ABLE[backend])}", f"with {precision}: {', '.join(able)}"
        )
    if backend != "torch" and device.type != "cpu":
        raise UsageError(f"{backend} computes on the processor, not on {device}", "--device cpu, or --backend torch")
    if precision == "fp16" and device.type == "cpu":
        raise UsageError("fp16 needs a GPU", "use --precision bf16 or fp32 on the processor")


def installed(backend: str, *, building: bool, precision: str = "fp32") -> bool:
    """Whether the packages are there that `backend` needs to run, and with `building` to build an engine too."""
    if backend == "torch":
        return True
    packages = [backend, *((_QUANTISING if precision == "int8" else _BUILDING) if building else ())]
    return all(_there(package) for package in packages)


def _uncalibrated() -> UsageError:
    return UsageError(
        "int8 needs images to calibrate by: the network's own are not known",
        "name some with --calibration FOLDER; 100 or more like those to come, not those to be tested on",
    )


def _require(backend: str, package: str) -> None:
    if not _there(package):
        raise MissingExtraError(f"the back end {backend}", package, "export")


def _there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # hidden from this process
        return False
