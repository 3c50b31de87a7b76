"""The options of `striate bench`, which no recipe holds: what is measured, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from striate.errors import UsageError
from striate.options.declare import check_options, option

LAYOUTS = ("nhwc", "nchw")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
BACKENDS = ("torch", "eager", "compile", "onnxruntime", "openvino")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchOptions:
    """What is measured, and for how long. Lists are separated by commas."""

    train: bool = option(False, "training steps: forward, backward, update [both, where neither is asked for]")
    infer: bool = option(False, "inference")
    default: bool = option(False, "only the first row of each batch size: what users get by default")
    batch_size: tuple[int, ...] | None = option(
        None, "images per step [training: what `train` would take; inference: 1 and 32]", at_least=1
    )
    input_size: int | None = option(None, "side of the images in pixels [the network's]", at_least=1)
    precision: tuple[str, ...] | None = option(
        None, "fp32, bf16, fp16 (GPU), int8 (inference) [fp32, and bf16 where there is hardware for it]",
        choices=PRECISIONS,
    )  # fmt: skip
    layout: tuple[str, ...] | None = option(
        None, "order in memory, where PyTorch computes: nhwc (channels last), nchw [both]", choices=LAYOUTS
    )
    backend: tuple[str, ...] | None = option(
        None,
        "torch: as `train` and `predict` compute; eager: plain PyTorch, inference only; compile: torch.compile; "
        "onnxruntime, openvino: inference only [all that are installed, but compile]",
        choices=BACKENDS,
    )
    device: str = option("auto", "cpu, cuda, cuda:1, mps, or the best there is")
    threads: int | None = option(None, "processor threads [all cores, whoever else uses them]", at_least=1)
    seconds: float = option(1.0, "time for each row in each repeat", above=0.0)
    repeats: int = option(5, "how often the rows are measured in turn", at_least=1)

    def __post_init__(self) -> None:
        check_options(self, "bench")
        for name in ("batch_size", "precision", "layout", "backend"):
            value = getattr(self, name)
            if value is not None and not value:
                raise UsageError(f"bench.{name} is empty", "leave it out to have the default")
            if value is not None:
                object.__setattr__(self, name, tuple(dict.fromkeys(value)))  # each once, in the order given
