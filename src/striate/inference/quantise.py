"""Post-training quantisation: weights and activations as 8-bit integers, by what the network does on some images.

ONNX Runtime's static quantisation, written as QuantizeLinear and DequantizeLinear nodes, which both back ends read.
Weights are symmetric with a scale for each output map; activations have a range each, from the images of the
calibration. (Jacob et al. 2017, arXiv:1712.05877; Krishnamoorthi 2018, arXiv:1806.08342, sec. 3.)
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from striate.errors import UsageError
from striate.inference.packaged import INPUT

IMAGES = 128  # calibrated by; more changed nothing on CIFAR-10
BATCH = 16  # images passed at once: every activation of them is held
_LAYERS = ("Conv", "Gemm", "MatMul")  # as the exporter writes what has weights


@dataclass(frozen=True, slots=True)
class Calibration:
    """Images to calibrate by, loaded only where they are needed."""

    identity: str  # names the images: the same name, the same images
    batches: Callable[[], Iterable[torch.Tensor]]  # normalised float32 [B, C, H, W], more than once
    about: str = ""  # in words


def calibration_of(given: Calibration | Iterable[torch.Tensor] | None) -> Calibration | None:
    """Plain batches as a calibration that is named after what they hold."""
    if given is None or isinstance(given, Calibration):
        return given
    batches = list(given)
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(f"{tuple(batch.shape)}".encode())
        digest.update(batch.detach().float().cpu().contiguous().numpy().data)
    count = sum(len(batch) for batch in batches)
    return Calibration(digest.hexdigest()[:12], lambda: batches, f"{count} images given as tensors")


def quantise(source: Path, target: Path, batches: Iterable[torch.Tensor], *, exact_end: bool = False) -> None:
    """Write the float32 graph `source` in int8 to `target`, calibrated by normalised images [B, C, H, W].

    With `exact_end` everything after the last layer with weights stays in floating point.

    Raises:
        UsageError: no image at all.
    """
    with _quiet():
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        reader = _reader(batches)
        prepared = source.with_name("prepared.onnx")
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=not has_vnni(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_after_the_last_layer(prepared) if exact_end else [],
            extra_options={"ActivationSymmetric": False},
        )
        prepared.unlink()


def settings_of_this_processor() -> str:
    """What a quantised graph depends on besides the network and the images: 8 bits, or 7 where sums overflow."""
    return "8" if has_vnni() else "7"


def _after_the_last_layer(graph: Path) -> list[str]:
    """The names of the nodes behind the last convolution or matrix product; nodes are in the order of computation."""
    import onnx

    nodes = onnx.load(str(graph), load_external_data=False).graph.node
    last = max((place for place, node in enumerate(nodes) if node.op_type in _LAYERS), default=-1)
    return [node.name for node in nodes[last + 1 :] if node.name]


def _reader(batches: Iterable[torch.Tensor]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(_parts(batches))
            self.first = next(self.rest, None)
            if self.first is None:
                raise UsageError("there is no image to calibrate int8 by", "name a folder of some with --calibration")

        def get_next(self) -> Any:
            images, self.first = self.first, None
            images = next(self.rest, None) if images is None else images
            return None if images is None else {INPUT: images.numpy()}

    return Reader()


def _parts(batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    for batch in batches:
        for part in batch.detach().float().cpu().contiguous().split(BATCH):
            yield part.contiguous()


@cache
def has_vnni() -> bool:
    """Whether the processor adds products of 8-bit numbers in 32 bits; elsewhere pairs of them overflow 16 bits."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return os.uname().machine in ("arm64", "aarch64") if hasattr(os, "uname") else False
    return "vnni" in flags or "asimd" in flags


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser logs advice to the root logger and warns about its own dependencies."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
