"""What "decided from the data" comes to: every option that was left open, as one table by the kind of images.

The figures behind the table are in docs/results.md. `resolve` is a fixed point: resolved options resolve to
themselves, which is what lets a run folder's recipe.toml repeat the run.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from striate.checkpoint import SavedModel
from striate.data import Dataset, channel_statistics, resolve_augment
from striate.data.sources.named import canonical_name
from striate.errors import ModelError, UsageError
from striate.layers.normalization import has_normalization
from striate.models import ConvNet, find_entry
from striate.options import DataOptions, TrainOptions
from striate.progress import Progress
from striate.runtime import pick_device, pick_threads, resolve_precision
from striate.spec import InputSpec, ModelEntry, are_characters
from striate.training.transferring import otherwise

# kind of images -> network, then (section, option) -> value. "seen" is the number of training images shown in all,
# from which the epochs follow.
DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {  # small grey images: digits, MNIST and their like
        "model": "compact_s", "seen": 250_000, "epochs": (4, 60), "optimizer": "sgd", "lr": 0.3, "batch_size": 128,
        "weight_decay": 5e-4, "label_smoothing": 0.0, "schedule": "onecycle", "ema": 0.0,
    },
    "small": {  # small colour images: CIFAR and its like
        "model": "compact_l", "seen": 600_000, "epochs": (8, 60), "optimizer": "sgd", "lr": 0.2, "batch_size": 256,
        "weight_decay": 5e-4, "label_smoothing": 0.1, "schedule": "onecycle", "ema": 0.0,
    },
    "photos": {
        "model": "resnet18", "seen": 60_000, "epochs": (10, 60), "optimizer": "sgd", "lr": 0.05, "batch_size": 64,
        "weight_decay": 5e-4, "label_smoothing": 0.1, "schedule": "onecycle", "ema": 0.0,
    },
}  # fmt: skip
FEEDING = ("input_size", "channels", "resize", "crop_fraction", "interpolation", "mean", "std", "channel_order")
# peak rates where the optimiser scales its steps by itself
ADAPTIVE_RATES = {"adamw": 2e-3, "rmsprop": 1e-3, "muon": 0.02}
WITH_MOMENTUM = ("sgd", "muon")


def kind_of(dataset: Dataset) -> str:
    """`digits` (small, grey), `small` (small, colour) or `photos`: the row of DEFAULTS."""
    side = max(dataset.native_size) if dataset.native_size else 10_000
    if side <= 40 and dataset.channels == 1:
        return "digits"
    return "small" if side <= 96 else "photos"


def _best_by(asked: str | None, multi_label: bool) -> str:
    """The validation figure that picks the best epoch: what was asked for, or the usual one.

    Raises:
        UsageError: a figure that these labels do not have.
    """
    usual = "map" if multi_label else "top1"
    refused = {"balanced_accuracy": multi_label, "map": not multi_label}
    if asked is not None and refused.get(asked):
        what = "several labels an image have" if multi_label else "one class an image has"
        raise UsageError(f"--best-by {asked}: {what} no such figure", f"{usual} is the usual one")
    return asked or usual


def data_options(dataset: Dataset, asked: DataOptions) -> DataOptions:
    """What repeats the loading of `dataset`, with what was asked about feeding the network."""
    # a set made by hand cannot be loaded again: a name that `load_data` refuses, rather than another set's
    base = dataset.options or replace(asked, data=f"(in memory) {dataset.name}")
    return replace(base, **{name: value for name in FEEDING if (value := getattr(asked, name)) is not None})


def resolve(
    options: TrainOptions, dataset: Dataset, *, given: ConvNet | None = None, start: SavedModel | None = None
) -> tuple[TrainOptions, InputSpec]:
    """`options` with nothing left open, and what the network is fed.

    `given` is a network not built from the options, `start` the one whose weights are copied.

    Raises:
        UsageError: a combination that cannot be, such as colour augmentation of grey images.
    """
    kind = kind_of(dataset)
    row = DEFAULTS[kind] | otherwise(options, start, dataset.labels, kind)
    train_split, several = dataset.splits["train"], dataset.labels.multi_label
    if given is not None:
        name = given.architecture.name
    else:
        name = options.model.model or (start.model.architecture.name if start is not None else row["model"])
    entry = find_entry(name)
    model = replace(options.model, model=entry.name)
    spec = input_spec(options, dataset, entry, given) if start is None else fed_as(start.spec, options, dataset)
    data = replace(
        options.data, data=_absolute(options.data.data), data_root=_absolute(options.data.data_root),
        split_file=_absolute(options.data.split_file),
        input_size=spec.size[0] if spec.size[0] == spec.size[1] else None, channels=spec.channels, resize=spec.resize,
        crop_fraction=spec.crop_fraction, interpolation=spec.interpolation, mean=spec.mean, std=spec.std,
        channel_order=spec.channel_order,
    )  # fmt: skip
    like = "photos" if kind == "photos" else "tensor"  # a folder of small images is augmented as an array of them
    augment = resolve_augment(
        options.augment, channels=spec.channels, size=spec.size, kind=like, digits=are_characters(dataset.labels)
    )
    name = options.optimizer.optimizer or row["optimizer"]
    # at least sixteen steps an epoch where the images are few
    few = 2 ** max(3, (len(train_split) // 16).bit_length() - 1)
    batch_size = options.optimizer.batch_size or min(row["batch_size"], few)
    optimizer = replace(
        options.optimizer, optimizer=name, batch_size=batch_size,
        momentum=_first(options.optimizer.momentum, 0.9 if name in WITH_MOMENTUM else 0.0),
        nesterov=_first(options.optimizer.nesterov, name in WITH_MOMENTUM),
    )  # fmt: skip
    fewest, most = row["epochs"]
    epochs = min(most, max(fewest, round(row["seen"] / max(1, len(train_split)))))
    if "least_steps" in row:
        needed = math.ceil(row["least_steps"] / max(1, len(train_split) // batch_size))
        epochs = max(epochs, min(DEFAULTS[kind]["epochs"][1], needed))
    epochs = options.schedule.epochs or epochs
    schedule = replace(options.schedule, epochs=epochs, schedule=_first(options.schedule.schedule, row["schedule"]))
    if schedule.warmup and schedule.schedule == "onecycle" and options.schedule.schedule is None:
        schedule = replace(schedule, schedule="cosine")  # a warm-up was asked for: onecycle has its own
    if schedule.cycles is not None and options.schedule.schedule is None:
        schedule = replace(schedule, schedule="cyclic")
    if schedule.cycles is not None and schedule.schedule != "cyclic":
        raise UsageError(
            f"schedule.cycles = {schedule.cycles} is of the schedule cyclic, and {schedule.schedule} was asked for",
            "--schedule cyclic, or no --cycles here and in the recipe",
        )
    regularize = replace(
        options.regularize,
        weight_decay=_first(options.regularize.weight_decay, 0.05 if name == "adamw" else row["weight_decay"]),
        # several labels an image: probabilities are to be compared with thresholds, not moved towards one half
        label_smoothing=_first(options.regularize.label_smoothing, 0.0 if several else row["label_smoothing"]),
    )
    training = replace(
        options.training, ema=_first(options.training.ema, row["ema"]),
        best_by=_best_by(options.training.best_by, several),
    )  # fmt: skip
    resolved = replace(
        options, data=data, model=model, augment=augment, regularize=regularize, optimizer=optimizer,
        schedule=schedule, training=training,
    )  # fmt: skip
    return resolved, spec


def input_spec(options: TrainOptions, dataset: Dataset, entry: ModelEntry, network: ConvNet | None = None) -> InputSpec:
    """What the network is fed: sizes and resize rule from options, else images, else network; statistics measured.

    Networks of papers that only subtract the mean are fed so where they start as in the paper.
    """
    given = options.data
    channels = given.channels or (network.architecture.in_channels if network is not None else dataset.channels)
    if given.input_size:
        size = (given.input_size, given.input_size)
    elif network is not None:
        size = network.architecture.input_size
    elif kind_of(dataset) != "photos" and dataset.native_size and _takes_native(dataset.native_size, entry):
        size = dataset.native_size
    else:
        size = entry.input.size
    spec = InputSpec(
        size=size, channels=channels, mean=(0.5,), std=(0.5,), bits=dataset.bits,
        resize=given.resize or _resize_rule(dataset, size),  # type: ignore[arg-type]
        crop_fraction=given.crop_fraction or (0.875 if kind_of(dataset) == "photos" else 1.0),
        interpolation=given.interpolation or "bilinear", channel_order=given.channel_order or "RGB",
    )  # fmt: skip
    mean, std = given.mean, given.std
    if mean is None or std is None:
        measured_mean, measured_std = channel_statistics(dataset.splits["train"], spec)
        if spec.reverses_channels:
            measured_mean, measured_std = measured_mean[::-1], measured_std[::-1]
        if entry.input.only_centred and spec.bits == entry.input.bits and options.model.init == "paper":
            measured_std = entry.input.std  # the paper's start is made for values of that range
        mean, std = mean or measured_mean, std or measured_std
    return replace(spec, mean=tuple(mean), std=tuple(std))


def fed_as(weights: InputSpec, options: TrainOptions, dataset: Dataset) -> InputSpec:
    """What weights are fed, where the options say nothing else: images come to them, not they to the images.

    Grey images are shown as colours and the other way round; images of other channels get a first layer of their own.
    """
    given = options.data
    convertible = {dataset.channels, weights.channels} <= {1, 3}
    channels = given.channels or (weights.channels if convertible else dataset.channels)
    mean, std = (
        (weights.mean, weights.std)
        if channels == weights.channels
        else ((sum(weights.mean) / len(weights.mean),), (sum(weights.std) / len(weights.std),))
    )
    return InputSpec(
        size=(given.input_size, given.input_size) if given.input_size else weights.size, channels=channels,
        mean=given.mean or mean, std=given.std or std, bits=dataset.bits,
        resize=given.resize or weights.resize,  # type: ignore[arg-type]
        crop_fraction=given.crop_fraction or weights.crop_fraction,
        interpolation=given.interpolation or weights.interpolation,
        channel_order=given.channel_order or (weights.channel_order if channels == 3 else "RGB"),
    )  # fmt: skip


def _resize_rule(dataset: Dataset, size: tuple[int, int]) -> str:
    """Crop photos; pad images a little smaller than the input, as LeNet-5 does with MNIST; squash other small ones."""
    if kind_of(dataset) == "photos":
        return "crop"
    native = dataset.native_size or size
    return "pad" if _slightly_smaller(native, size) else "squash"


def _takes_native(native: tuple[int, int], entry: ModelEntry) -> bool:
    """Whether a network sees small images as they are: unless its paper pads them (LeNet-5), or they are too small."""
    padded = entry.input.resize == "pad" and _slightly_smaller(native, entry.input.size)
    return min(native) >= entry.min_size and not padded


def _slightly_smaller(native: tuple[int, int], size: tuple[int, int]) -> bool:
    return all(0.75 * want <= have <= want for have, want in zip(native, size, strict=True))


def _first(*values: Any) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def resolve_rate(options: TrainOptions, dataset: Dataset, model: ConvNet, share: float = 1.0) -> TrainOptions:
    """The peak learning rate for this batch and network, where none was given; `share` of it where less is wanted.

    Linear in the batch for SGD (Goyal et al. 2017, sec. 2.1), and a third for networks without normalisation: LeNet-5
    on MNIST reaches 99.1 % in three epochs at 0.1, 97.9 % at 0.2. Adaptive optimisers scale each weight by themselves;
    muon does so for all but head and vectors, which have SGD's rate.
    """
    given = options.optimizer
    row, batch_size = DEFAULTS[kind_of(dataset)], given.batch_size or 1
    plain = row["lr"] * min(1.0, batch_size / row["batch_size"]) * (1.0 if has_normalization(model) else 1 / 3) * share
    adaptive = ADAPTIVE_RATES.get(given.optimizer or "")
    rate = _first(given.lr, None if adaptive is None else adaptive * share, plain)
    rest = plain if given.optimizer == "muon" else None
    own = {"head_lr": _first(given.head_lr, rest), "bias_lr": _first(given.bias_lr, rest)}
    return replace(options, optimizer=replace(given, lr=rate, **own))


def resolve_runtime(options: TrainOptions, progress: Progress | None = None) -> TrainOptions:
    """Device, precision, layout and threads as they will be on this machine; `progress` hears what is unusual.
    Of the networks measured, bf16 and NHWC is the fastest for all but compact_s on 8x8 pixels, where fp32 is 7 % ahead
    (`benchmarks/precision_layout.py`).

    Raises:
        UsageError: a device that is not here, or a precision it does not have.
    """
    runtime = options.runtime
    device = pick_device(runtime.device)
    precision = resolve_precision(runtime.precision, device)
    channels_last = _first(runtime.channels_last, True)
    threads = pick_threads(runtime.threads, (progress or Progress()).say)
    resolved = replace(runtime, device=str(device), precision=precision, channels_last=channels_last, threads=threads)
    return replace(options, runtime=resolved)


def _absolute(path: str | None) -> str | None:
    """A path that also means the same elsewhere; names of data sets stay as they are."""
    if path is None or canonical_name(path) is not None or not Path(path).expanduser().exists():
        return path
    return str(Path(path).expanduser().resolve())


def check_feasible(dataset: Dataset, given: ConvNet | None = None) -> None:
    """Refuse what cannot work before anything is written.

    Raises:
        UsageError: fewer than two classes, or a split without images.
        ModelError: a network made elsewhere that is not made for these classes.
    """
    if given is not None and given.architecture.classes != len(dataset.labels):
        raise ModelError(
            f"the network has {given.architecture.classes} classes, {dataset.name} has {len(dataset.labels)}",
            f"create_model(..., classes={len(dataset.labels)})",
        )
    if len(dataset.labels) < 2:
        raise UsageError(f"{dataset.name} has {len(dataset.labels)} class", "classification needs at least two")
    if "train" not in dataset.splits or not len(dataset.splits["train"]):
        raise UsageError(f"{dataset.name} has no readable training images", "`striate check` shows why")
