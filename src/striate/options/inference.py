"""The options of running a trained network, which `striate predict` and `striate evaluate` share."""

from __future__ import annotations

from dataclasses import dataclass

from striate.options.declare import check_options, option


@dataclass(frozen=True, kw_only=True, slots=True)
class InferenceOptions:
    """What a trained network is run by."""

    backend: str = option(
        "auto",
        "auto: an engine that was built before, or a new one where so many images come that it pays; else torch",
        choices=("auto", "torch", "onnxruntime", "openvino"),
    )
    precision: str | None = option(
        None,
        "arithmetic of the network; auto: bf16 where there is hardware for it; int8 is calibrated by training images "
        "[predict: fp32; evaluate: the run's own]",
        choices=("auto", "fp32", "bf16", "fp16", "int8"),
    )
    calibration: str | None = option(
        None, "images to calibrate int8 by: a folder, or other data with training images [the run's training images]"
    )
    device: str = option("auto", "cpu, cuda, cuda:1, mps, or the best there is; onnxruntime and openvino: cpu")
    threads: int | None = option(None, "processor threads [all cores that other processes leave free]", at_least=1)

    def __post_init__(self) -> None:
        check_options(self, "inference")
