"""The nouns that rooms hand to one another: frozen, without behaviour beyond reading and writing themselves.

None of this imports torch, so that `striate --help`, `models` and `runs` stay instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from striate.errors import UsageError

ResizeRule = Literal["crop", "squash", "letterbox", "pad"]
RESIZE_RULES: dict[str, str] = {
    "crop": "resize the short side to size / crop_fraction, then take the centre crop",
    "squash": "resize both sides to size, whatever the aspect ratio",
    "letterbox": "resize the long side to size, fill the rest with the mean colour",
    "pad": "centre the image on a canvas of size filled with 0; larger images are first shrunk to fit",
}
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
CHANNEL_ORDERS = ("RGB", "BGR")
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """What a network is fed: the one record that training, evaluation, prediction and export preprocess by.

    Stored pixels are unsigned integers of `bits` bits, colours in the order RGB; the network sees
    ``(pixel / (2**bits - 1) - mean) / std`` with its channels in `channel_order`. Caffe's "0 to 255 minus the mean" is
    a `mean` of that many 255ths and a `std` of 1/255.
    """

    size: tuple[int, int]  # height, width in pixels
    channels: int
    mean: tuple[float, ...] = (0.5,)  # per channel (or one for all), in units of the full pixel range
    std: tuple[float, ...] = (0.5,)
    resize: ResizeRule = "crop"
    crop_fraction: float = 1.0  # the part of the resized short side that the centre crop keeps
    interpolation: str = "bilinear"  # always antialiased
    bits: int = 8
    channel_order: str = "RGB"  # of the network's input, and of `mean` and `std`; means nothing but for three channels

    def __post_init__(self) -> None:
        if self.channel_order not in CHANNEL_ORDERS:
            raise UsageError(f"unknown channel order {self.channel_order!r}", f"known: {', '.join(CHANNEL_ORDERS)}")
        if self.resize not in RESIZE_RULES:
            raise UsageError(f"unknown resize rule {self.resize!r}", f"known: {', '.join(RESIZE_RULES)}")
        if self.interpolation not in INTERPOLATIONS:
            raise UsageError(f"unknown interpolation {self.interpolation!r}", f"known: {', '.join(INTERPOLATIONS)}")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise UsageError(
                    f"input {name} has {len(getattr(self, name))} values for {self.channels} channels",
                    "give one value, or one per channel",
                )

    @property
    def reverses_channels(self) -> bool:
        """Whether the network wants blue first."""
        return self.channels == 3 and self.channel_order == "BGR"

    @property
    def only_centred(self) -> bool:
        """Whether the network sees stored values less their mean, not divided by their deviation."""
        return all(one == 1 / (2**self.bits - 1) for one in self.std)

    @property
    def stored_mean(self) -> tuple[float, ...]:
        """`mean` in the order of the stored pixels."""
        return self.mean[::-1] if self.reverses_channels else self.mean

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and TOML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InputSpec:
        """The reverse of `to_dict`; lists become tuples."""
        plain: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in values.items()}
        return cls(**plain)


@dataclass(frozen=True, slots=True)
class Labels:
    """The class names in the order of the network's outputs; with `multi_label` an image has any number of them."""

    names: tuple[str, ...]
    multi_label: bool = False

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise UsageError(f"class names occur twice: {', '.join(twice)}")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """The output that stands for class `name`."""
        return self.names.index(name)


def are_characters(labels: Labels) -> bool:
    """Whether the classes are digits or letters, whose mirror images are not of their class."""
    return all(len(name) == 1 or name.isdecimal() or name.lower() in DIGIT_WORDS for name in labels.names)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedScore:
    """What a publication says that a network reached: errors in per cent, as papers print them."""

    dataset: str  # "ImageNet val", "CIFAR-10 test", "MNIST test" ...
    top1_error: float | None = None
    top5_error: float | None = None
    protocol: str = ""  # "1 crop", "10 crops", "144 crops, 4 networks" ...
    source: str = ""  # "table 3", "torchvision IMAGENET1K_V1" ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """One registered architecture: data, not code, so that listing it needs no torch.

    `paper_params`, `paper_macs` are what the paper prints, rounded as it prints them; `params` and `macs` what our
    network has, without auxiliary heads. `differs` says why, wherever they or the reference implementation disagree.
    """

    name: str
    family: str
    build: str  # "module:Class"; the class is called as ``Class(Class.config_type(**config), in_channels=..., ...)``
    config: Mapping[str, Any]  # fields of the family's config that differ from its defaults
    input: InputSpec  # what the paper feeds it
    classes: int
    paper: str
    year: int
    title: str = ""
    params: int = 0  # trainable parameters as registered; a test counts again
    macs: int = 0  # multiply-accumulates of one image as registered; a test counts again
    min_size: int = 1  # the smallest square input whose geometry works out
    aliases: tuple[str, ...] = ()
    paper_params: float | None = None
    paper_macs: float | None = None
    published: tuple[PublishedScore, ...] = ()  # the first is what lists show
    reference: str = ""  # an implementation to compare with: "torchvision:resnet18", "timm:inception_v4"
    differs: str = ""  # from the paper or the reference, in counts or behaviour, and why


@dataclass(frozen=True, slots=True)
class RankedLabel:
    """One class and the probability that the network gives it (0 to 1)."""

    label: str
    probability: float
    chosen: bool | None = None  # whether the image is said to have it; None where an image has one class


@dataclass(frozen=True, slots=True)
class Prediction:
    """The ranked classes of one image, best first; `error` says why there are none."""

    path: str
    labels: tuple[RankedLabel, ...]
    error: str | None = None

    @property
    def label(self) -> str | None:
        """The best class, or None where the image could not be read."""
        return self.labels[0].label if self.labels else None

    @property
    def chosen(self) -> tuple[str, ...] | None:
        """The labels that the image is said to have, possibly none; None of networks that give an image one class."""
        if not self.labels or self.labels[0].chosen is None:
            return None
        return tuple(one.label for one in self.labels if one.chosen)

    def to_dict(self) -> dict[str, Any]:
        """The form that `striate predict --json` prints."""
        row: dict[str, Any] = {"path": self.path, "labels": [_without_none(asdict(one)) for one in self.labels]}
        if self.chosen is not None:
            row["chosen"] = list(self.chosen)
        return row | ({"error": self.error} if self.error else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScores:
    """How one class fared: fractions from 0 to 1, `support` in images."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    precision_interval: tuple[float, float] | None = None  # 95 %, as the other intervals; see `metrics.intervals`
    recall_interval: tuple[float, float] | None = None
    f1_interval: tuple[float, float] | None = None
    average_precision: float | None = None  # of several labels an image; None where no image has the label
    threshold: float | None = None  # of several labels an image: the probability from which the label is chosen


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """A network over a split. Accuracies are fractions; `n` counts the images scored.

    Unreadable images are wrong answers: they count in `n` and in `unreadable`.
    """

    top1: float
    top5: float | None  # None below six classes
    loss: float  # mean cross-entropy (or the head's own loss) of the readable images
    n: int
    unreadable: int = 0
    balanced_accuracy: float | None = None
    ece: float | None = None  # expected calibration error, 15 equal-width bins
    per_class: tuple[ClassScores, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()  # rows: truth, columns: prediction
    top1_interval: tuple[float, float] | None = None
    balanced_accuracy_interval: tuple[float, float] | None = None
    # Of several labels an image, else None. There `top1` is the share of images whose likeliest label is one of theirs,
    # `top5` of those that have one of the five likeliest; an image without labels never counts as right in these.
    map: float | None = None  # mean of the labels' average precision; None where no image has a label, too
    map_interval: tuple[float, float] | None = None
    exact_match: float | None = None  # share of images whose chosen labels are exactly theirs
    micro_f1: float | None = None  # F1 over all pairs of image and label, at the thresholds
    macro_f1: float | None = None  # mean of the labels' F1, at the thresholds

    def summary(self) -> dict[str, Any]:
        """The four fields that every command reports; first the mean average precision where there is one."""
        first = {"map": self.map} if self.exact_match is not None else {}
        return {**first, "top1": self.top1, "top5": self.top5, "loss": self.loss, "n": self.n}

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values for JSON; what only several labels an image have stands only there."""
        row = asdict(self)
        if self.exact_match is None:
            for name in ("map", "map_interval", "exact_match", "micro_f1", "macro_f1"):
                del row[name]
            for one in row["per_class"]:
                del one["average_precision"], one["threshold"]
        return row


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """What a training run came to."""

    run: Path
    model: str
    epochs: int  # 0 where a linear classifier was fitted at once, or a network kept
    seconds: float  # training alone: no imports, loading, final evaluation or report
    val: Scores | None
    test: Scores | None = None
    best_epoch: int | None = None
    report: Path | None = None
    protocol: str | None = "single-crop"  # how val and test were looked at
    transfer: Mapping[str, Any] | None = None  # where it started and why, the plan, and what would help next

    def to_dict(self) -> dict[str, Any]:
        """The form that `striate train --json` prints."""
        row: dict[str, Any] = {
            "run": str(self.run),
            "model": self.model,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "protocol": self.protocol,
            "val": self.val.summary() if self.val else None,
        }
        if self.test is not None:
            row["test"] = self.test.summary()
        if self.report is not None:
            row["report"] = str(self.report)
        if self.transfer is not None:
            row["transfer"] = dict(self.transfer)
        return row


def _without_none(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}
