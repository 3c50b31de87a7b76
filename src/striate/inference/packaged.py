"""What leaves the house: a network made ready to run elsewhere, and the record that says how it is fed.

`declared` leaves the preprocessing to whoever runs the network and writes it down; `inside` makes the arithmetic part
of the network, so that it takes stored pixels. Decoding and resizing stay outside both times: images come in all sizes,
and a batch has one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from striate.data.normalise import factors
from striate.errors import CheckpointError, ModelError, StriateError, UnknownNameError
from striate.inference.folding import fold_batch_norms
from striate.models.base import Architecture
from striate.spec import RESIZE_RULES, InputSpec, Labels
from striate.version import __version__

PREPROCESSING = {
    "declared": "float32 input, normalised by whoever runs the network, as its record says",
    "inside": "stored pixels as input, normalised by the network itself",
}
INPUT, OUTPUT = "images", "logits"  # names in every graph
RECORD = "striate"  # the key of the record in every format's metadata
FORMAT_VERSION = 2  # 2: several labels an image; 1 is still read


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportRecord:
    """Everything about an exported network that its graph does not say."""

    architecture: Architecture
    spec: InputSpec
    labels: Labels
    preprocessing: str  # a key of PREPROCESSING
    versions: Mapping[str, str]
    temperature: float = 1.0  # probabilities are softmax(logits / temperature)
    thresholds: tuple[float, ...] | None = None  # of several labels an image, whose probabilities are sigmoid(logits)

    @property
    def input_dtype(self) -> str:
        """What the graph takes: `float32`, or stored pixels as `uint8` (`int32` where they have more than 8 bits)."""
        if self.preprocessing == "declared":
            return "float32"
        return "uint8" if self.spec.bits <= 8 else "int32"

    @property
    def probabilities(self) -> str:
        """What `predict` makes of the logits, as a formula."""
        logits = "logits" if self.temperature == 1 else f"logits / {self.temperature:.6g}"
        return f"{'sigmoid' if self.labels.multi_label else 'softmax'}({logits})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values: those to read back, and `feed`, the same said for whoever writes the code that feeds it."""
        row: dict[str, Any] = {
            "format_version": FORMAT_VERSION if self.labels.multi_label else 1,
            "architecture": self.architecture.to_dict(),
            "input": self.spec.to_dict(),
            "labels": list(self.labels.names),
            "preprocessing": self.preprocessing,
            "feed": self.feed(),
            "probabilities": self.probabilities,
            "versions": dict(self.versions),
        }
        if self.temperature != 1:
            row["temperature"] = self.temperature
        if self.labels.multi_label:
            row["multi_label"] = True
        if self.thresholds is not None:
            row["thresholds"] = list(self.thresholds)
        return row

    def feed(self) -> dict[str, str]:
        """How an image becomes the input, step by step, in words and formulas."""
        spec = self.spec
        crop = f" (crop_fraction {spec.crop_fraction:g})" if spec.resize == "crop" else ""
        steps = {
            "resize": f"{RESIZE_RULES[spec.resize]}{crop}; {spec.interpolation}, antialiased",
            "layout": f"[N, {spec.channels}, {spec.size[0]}, {spec.size[1]}], {self.input_dtype}",
        }
        if spec.channels == 3:
            order = spec.channel_order if self.preprocessing == "declared" else "RGB"
            steps["channels"] = order
        top = 2**spec.bits - 1
        mean, std = (", ".join(f"{one:.6g}" for one in values) for values in (spec.mean, spec.std))
        steps["values"] = f"0 to {top}, as stored"
        if self.preprocessing == "declared":
            steps["values"] = f"(pixel / {top} - mean) / std, mean {mean}, std {std}"
        return steps

    def to_text(self) -> str:
        """JSON in ASCII, the same for the same network."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_text(cls, text: str, where: str) -> ExportRecord:
        """The reverse of `to_text`; `where` is the file that errors name.

        Raises:
            CheckpointError: not the record of an export, or of a newer Striate.
        """
        try:
            values = json.loads(text)
            version = int(values["format_version"])
            if version > FORMAT_VERSION:
                hint = f"it was written by Striate {values.get('versions', {}).get('striate', '?')}: upgrade Striate"
                raise CheckpointError(f"{where} has format version {version}, newer than {FORMAT_VERSION}", hint)
            return cls(
                architecture=Architecture.from_dict(values["architecture"]),
                spec=InputSpec.from_dict(values["input"]),
                labels=Labels(tuple(values["labels"]), multi_label=values.get("multi_label", False) is True),
                preprocessing=values["preprocessing"],
                versions=values["versions"],
                temperature=float(values.get("temperature", 1.0)),
                thresholds=tuple(map(float, values["thresholds"])) if "thresholds" in values else None,
            )
        except CheckpointError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, StriateError) as error:
            raise CheckpointError(f"the description in {where} cannot be read: {error}", "export it again") from error


class Packaged(nn.Module):
    """A network with its preprocessing: input as its record says -> logits float32 [N, classes].

    Args:
        network: in evaluation mode, on the processor.
        spec: what it is fed.
        preprocessing: `declared` or `inside`.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, network: nn.Module, spec: InputSpec, preprocessing: str) -> None:
        super().__init__()
        self.network = network
        self.inside = preprocessing == "inside"
        self.reverses = spec.reverses_channels
        if self.inside:
            scale, offset = factors(spec)
            self.register_buffer("scale", scale[:, None, None].clone())
            self.register_buffer("offset", offset[:, None, None].clone())

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] -> logits [N, classes]."""
        if self.inside:
            pixels = images.to(torch.float32)
            images = (pixels.flip(1) if self.reverses else pixels) * self.scale + self.offset
        return self.network(images)


def packaged(model: nn.Module, spec: InputSpec, preprocessing: str) -> Packaged:
    """A copy of `model` to be exported: evaluation mode, float32 on the processor, norms folded, no auxiliary heads.

    Raises:
        UnknownNameError: no such `preprocessing`.
        ModelError: the network does not take what `spec` says.
    """
    if preprocessing not in PREPROCESSING:
        raise UnknownNameError("preprocessing", preprocessing, PREPROCESSING)
    network = fold_batch_norms(copy.deepcopy(model).to("cpu", torch.float32), (spec.channels, *spec.size))
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if isinstance(getattr(network, "auxiliary", None), nn.ModuleDict):
        network.auxiliary = nn.ModuleDict()  # only training asks them
    return Packaged(network, spec, preprocessing).eval()


def record_of(
    model: nn.Module, spec: InputSpec, labels: Labels, preprocessing: str, temperature: float = 1.0,
    thresholds: tuple[float, ...] | None = None,
) -> ExportRecord:  # fmt: skip
    """The record that goes with `packaged` of the same arguments; the graph gives logits, whatever the temperature.

    Raises:
        ModelError: `model` has another number of classes than there are labels.
    """
    architecture = getattr(model, "architecture", None)
    if not isinstance(architecture, Architecture):
        raise ModelError(f"a {type(model).__name__} has no record of its architecture", "open it with striate.load")
    if architecture.classes != len(labels):
        raise ModelError(f"{len(labels)} class names for a network of {architecture.classes} classes")
    return ExportRecord(
        architecture=architecture,
        spec=spec,
        labels=labels,
        preprocessing=preprocessing,
        versions={"striate": __version__, "torch": torch.__version__},
        temperature=temperature,
        thresholds=thresholds,
    )


def example_input(record: ExportRecord, count: int) -> Tensor:
    """An input of the right shape and type, [count, C, H, W], in the middle of its range."""
    spec = record.spec
    shape = (count, spec.channels, *spec.size)
    if record.preprocessing == "declared":
        return torch.zeros(shape)
    return torch.full(shape, 2 ** (spec.bits - 1), dtype=getattr(torch, record.input_dtype))
