"""How much a step computes and moves, and what the machine's peaks allow it at most.

A share of the matrix peak alone misleads where memory is the limit: normalisation, activations and sums move every
value and compute next to nothing. So every layer is held against both peaks, and takes at least the longer of its two
times (the roofline of Williams et al. 2009, layer by layer).

Bytes are what a step must move at least if it computes layer after layer and keeps nothing of a layer in the caches:

- Inference reads and writes every value once: 2 passes over each layer's output (its input counts with the layer that
  made it). Batch norms and activations are taken to be folded into what comes before them: none.
- Training: 2 forward; backward the gradient and what was kept are read and the gradient of the input written: 3.
  Batch normalisation reads its input twice each way, for the statistics and for the values: 8 in all.
- Parameters: once at inference; in training 8 times (forward, backward, gradient written, and the update's reading and
  writing of weight, gradient and momentum).

Values have 4 bytes in fp32, 2 in bf16 and fp16, 1 in int8; parameters in training always 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from striate.anatomy import Anatomy, Layer
from striate.bench.peaks import Peaks
from striate.bench.settings import Setting

VALUE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
FP32_BYTES = 4  # in which the anatomy counts
TRAINING_PASSES, NORM_TRAINING_PASSES, INFERENCE_PASSES = 5, 8, 2
TRAINING_PARAMETER_PASSES, INFERENCE_PARAMETER_PASSES = 8, 1
FUSED = ("batch norm", "relu", "relu6", "leaky relu", "elu", "sigmoid", "tanh", "hardtanh")


@dataclass(frozen=True, slots=True)
class Limit:
    """The most images per second that the machine's peaks allow one setting; `bound_by` is what takes the most time."""

    images_per_second: float
    arithmetic: float | None  # if memory were free; None where there is no peak of the precision
    memory: float  # if arithmetic were free
    bound_by: str  # "arithmetic" or "memory traffic"
    bytes_per_image: float


def operations(anatomy: Anatomy, work: str) -> int:
    """Floating-point operations for one image: 2 × MACs, in training 2 × (3 × MACs − the first layer's).

    Backward computes the gradients of weights and of inputs, each as much as forward; nobody needs that of the image.
    """
    if work == "infer":
        return 2 * anatomy.macs
    first = next((layer.macs for layer in anatomy.layers if layer.macs), 0)
    return 2 * (3 * anatomy.macs - first)


def limit_of(anatomy: Anatomy, setting: Setting, peaks: Peaks) -> Limit:
    """What the peaks allow `setting`."""
    batch, peak = setting.batch_size, (peaks.gflops(setting.precision) or 0.0) * 1e9
    arithmetic = memory = moved = 0.0
    longer = {"arithmetic": 0.0, "memory traffic": 0.0}  # seconds by what binds
    first = next((layer for layer in anatomy.layers if layer.macs), None)
    for layer in anatomy.layers:
        directions = 1 if setting.work == "infer" else 2 if layer is first else 3
        computing = 2 * directions * layer.macs * batch / peak if peak else 0.0
        output = layer.activation_bytes / FP32_BYTES * VALUE_BYTES[setting.precision] * batch
        values, parameters = _passes(layer, setting.work) * output, _parameter_bytes(layer, setting)
        moving = values / peaks.copy_bandwidth(output) + parameters / peaks.copy_bandwidth(parameters)
        arithmetic += computing
        memory += moving
        moved += values + parameters
        longer["arithmetic" if computing > moving else "memory traffic"] += max(computing, moving)
    return Limit(
        images_per_second=batch / sum(longer.values()),
        arithmetic=batch / arithmetic if arithmetic else None,
        memory=batch / memory,
        bound_by=max(longer, key=lambda one: longer[one]),
        bytes_per_image=moved / batch,
    )


def memory_needed(anatomy: Anatomy, setting: Setting) -> int:
    """Bytes that a step holds at least at one time: to tell beforehand that a batch cannot fit."""
    values = anatomy.training_bytes if setting.work == "train" else anatomy.peak_bytes
    share = min(VALUE_BYTES[setting.precision], FP32_BYTES) / FP32_BYTES
    copies = 3 if setting.work == "train" else 1  # weight, gradient, momentum
    return int(values * share * setting.batch_size + copies * FP32_BYTES * anatomy.params)


def _passes(layer: Layer, work: str) -> int:
    if work == "infer":
        return 0 if layer.op in FUSED else INFERENCE_PASSES
    return NORM_TRAINING_PASSES if layer.op == "batch norm" else TRAINING_PASSES


def _parameter_bytes(layer: Layer, setting: Setting) -> float:
    if setting.work == "train":
        return TRAINING_PARAMETER_PASSES * FP32_BYTES * layer.params
    return INFERENCE_PARAMETER_PASSES * VALUE_BYTES[setting.precision] * layer.params
