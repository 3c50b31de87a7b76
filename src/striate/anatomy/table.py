"""The nouns: one row for each layer of a network, and the totals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from striate.anatomy.fields import Field

BYTES = 4  # of a value: fp32


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer, for one image. Shapes leave out the batch; memory is in bytes of fp32."""

    name: str  # path of the module; of an operation between modules that of the module it happens in, and the operation
    op: str  # "conv 3x3/2", "max 3x3/2", "add", "linear" ...
    output: tuple[int, ...]
    params: int  # counted where they are first used
    weights: int  # parameters without biases and the scales of normalisation
    macs: int
    other_ops: int  # arithmetic beside the multiply-accumulates: see `Anatomy`
    activation_bytes: int  # of the output; 0 where it is the input seen differently (flatten, dropout at test)
    training_bytes: int = 0  # what autograd keeps for the backward pass, where it was not kept already
    field: Field | None = field(default=None, repr=False)  # None: does not depend on the image
    note: str = ""
    inputs: tuple[int, ...] = ()  # places of the rows that it reads; -1 is the image
    lost: bool = False  # no rule for its operation: what its units see is not known

    @property
    def flops(self) -> int:
        """2 x macs, the convention of the literature's tables."""
        return 2 * self.macs

    @property
    def receptive_field_hw(self) -> tuple[int | None, ...]:
        """Theoretical size in pixels for each axis of the image, None where units differ without a pattern."""
        return () if self.field is None else tuple(one and one.size for one in self.field.theories)

    @property
    def receptive_field(self) -> int | None:
        """Theoretical size in pixels, padding ignored, on the longest path; the larger of both axes."""
        sizes = self.receptive_field_hw
        return max((size for size in sizes if size is not None), default=None) if None not in sizes else None

    @property
    def stride_hw(self) -> tuple[int | float | None, ...]:
        """Pixels between the fields of neighbouring units, for each axis; None where there are no neighbours."""
        if self.field is None:
            return ()
        axes = enumerate(self.field.theories)
        known = [one if one and one.shift and i in self.field.map_axes else None for i, one in axes]
        return tuple(one and _number(abs(one.stride)) for one in known)

    @property
    def stride(self) -> int | float | None:
        """The larger of `stride_hw`: cumulative, towards the image. The layer's own stride is in `op`."""
        strides = self.stride_hw
        return max((one for one in strides if one is not None), default=None) if None not in strides else None

    @property
    def centre(self) -> tuple[tuple[int, int] | None, ...]:
        """For each axis of the image the first and last pixel that the unit in the middle really depends on."""
        if self.field is None:
            return ()
        middle = [(int(one.lo[len(one) // 2]), int(one.hi[len(one) // 2])) for one in self.field.axes]
        return tuple(pair if pair[0] <= pair[1] else None for pair in middle)

    def to_dict(self) -> dict[str, Any]:
        """The row that `striate anatomy --json` prints."""
        row = {
            "name": self.name,
            "op": self.op,
            "output": list(self.output),
            "params": self.params,
            "weights": self.weights,
            "macs": self.macs,
            "flops": self.flops,
            "other_ops": self.other_ops,
            "activation_bytes": self.activation_bytes,
            "training_bytes": self.training_bytes,
            "stride": self.stride,
            "stride_hw": list(self.stride_hw),
            "receptive_field": self.receptive_field,
            "receptive_field_hw": list(self.receptive_field_hw),
            "centre_field": [list(pair) if pair else None for pair in self.centre],
        }
        return row | ({"note": self.note} if self.note else {})


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A network, layer by layer in order of execution, and its totals for one image. Auxiliary heads stand beside.

    `macs` are the multiply-accumulates of convolutions, linear layers and matrix products; `flops` twice that.
    `other_ops` are the rest: one for each value that is added as bias, activated, scaled or shifted (so two for batch
    normalisation at test), added, and one for each value that a pooling window reads.
    """

    model: str
    input: tuple[int, ...]  # channels, height, width
    params: int
    weights: int  # parameters without biases and the scales of normalisation
    params_aux: int
    layers: tuple[Layer, ...]
    auxiliary_layers: tuple[Layer, ...] = ()
    peak_bytes: int = 0  # the most that values other than parameters take at any moment of inference
    training_bytes: int = 0  # what autograd keeps between forward and backward, without parameters

    @property
    def macs(self) -> int:
        """Multiply-accumulates without auxiliary heads."""
        return sum(layer.macs for layer in self.layers)

    @property
    def macs_aux(self) -> int:
        """Multiply-accumulates of the auxiliary heads."""
        return sum(layer.macs for layer in self.auxiliary_layers)

    @property
    def flops(self) -> int:
        """2 x macs."""
        return 2 * self.macs

    @property
    def other_ops(self) -> int:
        """Arithmetic beside the multiply-accumulates."""
        return sum(layer.other_ops for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """All layer outputs, fp32, one image."""
        return sum(layer.activation_bytes for layer in self.layers)

    @property
    def last_map(self) -> Layer | None:
        """The last layer before flattening or global pooling; None where an operation without a rule follows it."""
        maps = [place for place, layer in enumerate(self.layers) if layer.field is not None and layer.field.is_map]
        if not maps:
            return None
        after = self.layers[maps[-1] + 1 :]
        if any(layer.lost and len(layer.output) > 2 and max(layer.output[1:]) > 1 for layer in after):
            return None
        return self.layers[maps[-1]]

    @property
    def receptive_field(self) -> int | None:
        """That of `last_map`, in pixels."""
        return self.last_map.receptive_field if self.last_map else None

    @property
    def receptive_field_note(self) -> str:
        """Why there is no receptive field: the note of the first layer without one."""
        if self.receptive_field is not None:
            return ""
        return next((f"{one.name}: {one.note}" for one in self.layers if one.note and one.receptive_field is None), "")

    @property
    def stride(self) -> int | float | None:
        """That of `last_map`, in pixels."""
        return self.last_map.stride if self.last_map else None

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, name: str) -> Layer:
        """The first row of this name, auxiliary heads included."""
        return next(layer for layer in (*self.layers, *self.auxiliary_layers) if layer.name == name)

    def to_dict(self) -> dict[str, Any]:
        """What `striate anatomy --json` prints, without the published figures."""
        last = self.last_map
        found = {
            "model": self.model,
            "input": list(self.input),
            "params": self.params,
            "weights": self.weights,
            "macs": self.macs,
            "flops": self.flops,
            "other_ops": self.other_ops,
            "params_aux": self.params_aux,
            "macs_aux": self.macs_aux,
            "activation_bytes": self.activation_bytes,
            "peak_bytes": self.peak_bytes,
            "training_bytes": self.training_bytes,
            "receptive_field": self.receptive_field,
            "receptive_field_hw": list(last.receptive_field_hw) if last else [],
            "receptive_field_at": last.name if last else None,
            "stride": self.stride,
            "layers": [layer.to_dict() for layer in self.layers],
            "auxiliary_layers": [layer.to_dict() for layer in self.auxiliary_layers],
        }
        return found | ({"receptive_field_note": self.receptive_field_note} if self.receptive_field_note else {})


def _number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)
