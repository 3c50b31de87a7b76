"""What is measured: every combination of back end, layout, precision and batch size that was asked for and can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch

from striate.errors import MissingExtraError, UsageError
from striate.inference.engines import ABLE, installed
from striate.options.bench import LAYOUTS, BenchOptions
from striate.runtime import processor_has_bf16, resolve_precision

EXTRAS = ("onnxruntime", "openvino")  # back ends that are packages of their own
INFERENCE_BATCHES = (1, 32)
# What each back end computes in; whether the device can is asked separately. Those of `train`, then those of `infer`.
TRAIN_PRECISIONS = {"torch": ("fp32", "bf16", "fp16"), "compile": ("fp32", "bf16", "fp16")}
INFER_PRECISIONS = {**ABLE, "eager": ("fp32", "bf16", "fp16"), "compile": ("fp32", "bf16", "fp16")}


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    work: str  # "train" or "infer"
    backend: str
    layout: str | None  # None: the back end's own
    precision: str
    batch_size: int

    def __str__(self) -> str:
        parts = (self.work, self.backend, self.layout, self.precision, f"batch {self.batch_size}")
        return " ".join(part for part in parts if part)


def settings_of(options: BenchOptions, device: torch.device, training_batch: int) -> list[Setting]:
    """The rows, what users get by default first, as far as the options leave it in.

    Raises:
        UsageError: something was asked for that no row can have here, such as fp16 on a processor.
        MissingExtraError: a back end that is not installed.
    """
    for name in options.backend or ():
        if name in EXTRAS and not installed(name, building=True):
            raise MissingExtraError(f"--backend {name}", name, "export")
    for name in options.precision or ():
        if name != "int8":
            resolve_precision(name, device)  # says why not
    both = not options.train and not options.infer
    rows: list[Setting] = []
    if options.train or both:
        rows += _training(options, device, training_batch)
    if options.infer or both:
        rows += _inference(options, device)
    _check_all_used(options, rows)
    if options.default:
        firsts = {(row.work, row.batch_size): row for row in reversed(rows)}
        rows = [row for row in rows if firsts[row.work, row.batch_size] is row]
    return rows


def _training(options: BenchOptions, device: torch.device, batch_size: int) -> list[Setting]:
    backends = [name for name in options.backend or ("torch",) if name in TRAIN_PRECISIONS]
    return [
        Setting("train", backend, layout, precision, size)
        for size, backend, precision, layout in product(
            options.batch_size or (batch_size,), backends, _precisions(options, device), options.layout or LAYOUTS
        )
        if precision in TRAIN_PRECISIONS[backend]
    ]


def _inference(options: BenchOptions, device: torch.device) -> list[Setting]:
    """As `predict` computes first: by torch and in fp32.

    Back ends with a layout of their own are left out where a layout was asked for.
    """
    wanted = options.backend
    there = [name for name in EXTRAS if installed(name, building=True)]
    if wanted is None:
        wanted = ("eager",) if options.layout else ("torch", "eager", *there)
    precisions = options.precision or sorted(_precisions(options, device), key=lambda name: name != "fp32")
    rows = []
    for size, backend, precision in product(options.batch_size or INFERENCE_BATCHES, wanted, precisions):
        if precision not in INFER_PRECISIONS[backend] or (backend in EXTRAS and device.type != "cpu"):
            continue
        has_layout = backend in ("eager", "compile")
        layouts = (options.layout or LAYOUTS) if has_layout else (None,)
        rows += [Setting("infer", backend, layout, precision, size) for layout in layouts]
    return rows


def _precisions(options: BenchOptions, device: torch.device) -> tuple[str, ...]:
    """As asked, or what the hardware has, the default's first."""
    if options.precision:
        return options.precision
    best = resolve_precision("auto", device)
    if device.type == "cpu":
        return ("bf16", "fp32") if processor_has_bf16() else ("fp32",)
    return (best, "fp32") if best != "fp32" else ("fp32",)


def _check_all_used(options: BenchOptions, rows: list[Setting]) -> None:
    """Whatever was asked for by name is in some row, or it is said why it cannot be."""
    asked: tuple[tuple[str, tuple[str, ...] | None, Callable[[Setting], str | None]], ...] = (
        ("--backend", options.backend, lambda row: row.backend),
        ("--precision", options.precision, lambda row: row.precision),
        ("--layout", options.layout, lambda row: row.layout),
    )
    for flag, values, of_row in asked:
        for value in values or ():
            if not any(of_row(row) == value for row in rows):
                raise UsageError(f"{flag} {value} goes with nothing else that was asked for", _table())


def _table() -> str:
    training = "; ".join(f"{name} in {', '.join(kinds)}" for name, kinds in TRAIN_PRECISIONS.items())
    inference = "; ".join(f"{name} in {', '.join(kinds)}" for name, kinds in INFER_PRECISIONS.items())
    return f"train: {training}. infer: {inference}. --layout is for train, eager and compile"
