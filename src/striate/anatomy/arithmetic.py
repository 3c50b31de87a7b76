"""The arithmetic of one layer: output size, padding, parameters, operations. No tensors, no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any

from striate.errors import UnknownNameError, UsageError, nearest

KINDS = ("conv", "transposed", "pool")
PADDINGS: dict[str, str] = {
    "valid": "none: only windows that lie in the image, N - M + 1 at stride 1",
    "same": "output ceil(N / stride), the size of the input at stride 1",
    "full": "M - 1 on both sides: every window that touches the image, N + M - 1 at stride 1",
    "causal": "M - 1 before and none after: no output depends on what comes later",
}
WORDS: dict[str, str] = {
    "input": "side of the image, or HxW",
    "kernel": "side of the window, or HxW",
    "stride": "step of the window, or HxW [1]",
    "padding": f"pixels on each side, HxW, or {', '.join(PADDINGS)} [0]",
    "dilation": "distance of the window's taps, or HxW [1]",
    "channels": "input channels [1]",
    "filters": "output channels [1; pooling: as many as come in]",
    "groups": "parts that the channels are divided into [1]",
    "extra": "output padding of a transposed convolution [0]",
}
SHORT = {"pad": "padding"}
FLAGS: dict[str, str] = {
    "ceil": "pooling: round the output up, so that the last window may hang over the border",
    "no bias": "convolutions: weights alone",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One axis, in pixels."""

    input: int
    kernel: int
    stride: int
    dilation: int
    before: int  # padding
    after: int
    output: int
    exact: float  # the output's formula before rounding down
    unused: int  # padded pixels at the end that no window reaches
    formula: str  # with the numbers filled in

    @property
    def extent(self) -> int:
        """Pixels from the first to the last tap of a window: D (M - 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def seen_by_transposed(self) -> int:
        """Input pixels, first to last, that one output of a transposed convolution sees at most: ceil(extent / S)
        without dilation. Output o reads the inputs i with i S = o - D tap."""
        seen = [
            [
                (phase - self.dilation * tap) // self.stride
                for tap in range(self.kernel)
                if (phase - self.dilation * tap) % self.stride == 0
            ]
            for phase in range(self.stride)
        ]
        return max(max(inputs) - min(inputs) + 1 for inputs in seen if inputs)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerArithmetic:
    """One layer for one image."""

    kind: str
    sides: tuple[Side, Side]  # height, width
    channels: int
    filters: int
    groups: int
    padding: str  # the word for it, as far as there is one
    weights: int
    biases: int
    macs: int

    @property
    def output(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.filters, self.sides[0].output, self.sides[1].output

    @property
    def flops(self) -> int:
        """2 x macs."""
        return 2 * self.macs

    @property
    def receptive_field_hw(self) -> tuple[int, int]:
        """Pixels of the layer's input that one output sees, first to last; of a transposed convolution the most."""
        first, second = (one.seen_by_transposed if self.kind == "transposed" else one.extent for one in self.sides)
        return first, second

    def to_dict(self) -> dict[str, Any]:
        """What `striate anatomy --conv ... --json` prints."""
        return {
            "kind": self.kind,
            "input": [self.channels, *(side.input for side in self.sides)],
            "output": list(self.output),
            "padding": self.padding,
            "weights": self.weights,
            "params": self.weights + self.biases,
            "macs": self.macs,
            "flops": self.flops,
            "receptive_field": max(self.receptive_field_hw),
            "receptive_field_hw": list(self.receptive_field_hw),
            "sides": [asdict(side) for side in self.sides],
        }


def layer_arithmetic(
    input: int | tuple[int, int],
    kernel: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | str | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    channels: int = 1,
    filters: int | None = None,
    groups: int = 1,
    extra: int | tuple[int, int] = 0,
    kind: str = "conv",
    ceil: bool = False,
    bias: bool = True,
) -> LayerArithmetic:
    """Sizes and counts of one convolution, transposed convolution or pooling layer.

    Output of a convolution or pool: floor((N + before + after - D (M - 1) - 1) / S) + 1; of a transposed convolution:
    (N - 1) S - before - after + D (M - 1) + 1 + extra. One number stands for both axes (height, width). With `ceil` a
    pool rounds up, but every window begins in the image or in the padding before it.

    Raises:
        UsageError: numbers out of range, groups that do not divide the channels, or a window larger than the image.
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of layer", kind, KINDS)
    filters = (channels if kind == "pool" else 1) if filters is None else filters
    for name, value in (("channels", channels), ("filters", filters), ("groups", groups)):
        if value < 1:
            raise UsageError(f"{name} {value}: must be at least 1")
    if channels % groups or filters % groups:
        raise UsageError(f"{groups} groups do not divide {channels} channels and {filters} filters")
    if kind == "pool" and filters != channels:
        raise UsageError(f"pooling {channels} channels gives {channels}, not {filters}", "leave `filters` away")
    if ceil and kind != "pool":
        raise UsageError("`ceil` belongs to pooling", "`pool input 55 kernel 3 stride 2 ceil`")
    if not bias and kind == "pool":
        raise UsageError("pooling has no biases to leave away")
    pads = (padding, padding) if isinstance(padding, str) else _pair("padding", padding)
    numbers = {"input": input, "kernel": kernel, "stride": stride, "dilation": dilation, "extra": extra}
    pairs = {name: _pair(name, value) for name, value in numbers.items()}
    make = _enlarged if kind == "transposed" else _window
    first, second = (
        make(
            pairs["input"][i],
            pairs["kernel"][i],
            stride=pairs["stride"][i],
            dilation=pairs["dilation"][i],
            extra=pairs["extra"][i],
            padding=pads[i],
            up=ceil,
        )
        for i in (0, 1)
    )
    weights = 0 if kind == "pool" else first.kernel * second.kernel * channels * filters // groups
    positions = first.input * second.input if kind == "transposed" else first.output * second.output
    return LayerArithmetic(
        kind=kind,
        sides=(first, second),
        channels=channels,
        filters=filters,
        groups=groups,
        padding=padding if isinstance(padding, str) else _word(kind, (first, second)),
        weights=weights,
        biases=0 if kind == "pool" or not bias else filters,
        macs=weights * positions,
    )


def parse(text: str) -> LayerArithmetic:
    """The layer that a text such as "input 227 kernel 11 stride 4 channels 3 filters 96 padding same" describes.

    Words and values in any order, also as `kernel=11`, and `pad` for padding; `conv`, `pool` or `transposed` says the
    kind. `ceil` and `no bias` take no value.

    Raises:
        UsageError: a word that is not known, a value that is missing or no number.
    """
    settings: dict[str, Any] = {}
    words = text.replace("=", " ").replace(",", " ").split()
    while words:
        word = words.pop(0).lower()
        if word in KINDS:
            settings["kind"] = word
            continue
        if word == "ceil":
            settings["ceil"] = True
            continue
        if word == "no" and words and words[0].lower() in ("bias", "biases"):
            words.pop(0)
            settings["bias"] = False
            continue
        word = SHORT.get(word, word)
        if word not in WORDS:
            raise UnknownNameError("word", word, (*WORDS, *KINDS, *FLAGS), _known(word))
        if not words:
            raise UsageError(f"{word} is followed by nothing", f"{word}: {WORDS[word]}")
        if word in settings:
            raise UsageError(f"{word} is given twice")
        settings[word] = _value(word, words.pop(0))
    for needed in ("input", "kernel"):
        if needed not in settings:
            raise UsageError(f"the layer needs `{needed}`", _known(needed))
    return layer_arithmetic(**settings)


def _known(word: str) -> str:
    near = nearest(word, (*WORDS, *KINDS, *FLAGS), 1)
    hint = f"did you mean {near[0]}? " if near and near[0] != word else ""
    words = ", ".join((*WORDS, *FLAGS))
    return f"{hint}words: {words}; kinds: {', '.join(KINDS)}. Example: input 227 kernel 11 stride 4"


def _value(word: str, text: str) -> Any:
    if word == "padding" and text.lower() in PADDINGS:
        return text.lower()
    try:
        numbers = [int(part) for part in text.lower().split("x")]
    except ValueError:
        raise UsageError(f"{word} {text!r} cannot be read", f"{word}: {WORDS[word]}") from None
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) > 2 or word in ("channels", "filters", "groups"):
        raise UsageError(f"{word} {text!r} has {len(numbers)} values", f"{word}: {WORDS[word]}")
    return tuple(numbers)


def _pair(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else (value[0], value[1])
    least = 0 if name in ("padding", "extra") else 1
    if min(pair) < least:
        raise UsageError(f"{name} {min(pair)}: must be at least {least}")
    return pair


def _window(size: int, kernel: int, *, stride: int, dilation: int, extra: int, padding: int | str, up: bool) -> Side:
    if extra:
        raise UsageError("`extra` belongs to transposed convolutions")
    extent = dilation * (kernel - 1) + 1
    before, after = _padding(padding, size, extent, stride)
    room = size + before + after - extent
    if room < 0 and not (up and room + stride > 0):  # rounding up, the one window may hang over the border
        raise UsageError(
            f"a window of {extent} pixels does not fit into {size}"
            + (f" + {before + after} of padding" if before + after else ""),
            "a larger input, a smaller kernel, or padding",
        )
    exact = Fraction(room, stride) + 1
    output = ceil(exact) if up else floor(exact)
    begins_beyond = up and (output - 1) * stride >= size + before
    output -= begins_beyond
    padded = f" + {before} + {after}" if before or after else ""
    window = f"{kernel}" if dilation == 1 else f"({dilation}·({kernel} - 1) + 1)"
    rounded = "" if exact == output else f" = {'ceil' if output > exact else 'floor'}({float(exact):g})"
    if begins_beyond:
        rounded += " (a window more would begin beyond the image)"
    return Side(
        input=size,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        before=before,
        after=after,
        output=output,
        exact=float(exact),
        unused=max(0, room - (output - 1) * stride),
        formula=f"({size}{padded} - {window}) / {stride} + 1{rounded} = {output}",
    )


def _enlarged(size: int, kernel: int, *, stride: int, dilation: int, extra: int, padding: int | str, up: bool) -> Side:
    assert not up
    if isinstance(padding, str) and padding != "valid":
        raise UsageError(f"padding {padding} is not defined for a transposed convolution", "give pixels, or valid")
    pad = 0 if isinstance(padding, str) else padding
    if extra >= max(stride, dilation):
        raise UsageError(f"extra {extra}: must be below the stride or the dilation")
    output = (size - 1) * stride - 2 * pad + dilation * (kernel - 1) + 1 + extra
    if output < 1:
        raise UsageError(f"padding {pad} leaves nothing of the output")
    window = f"{kernel}" if dilation == 1 else f"({dilation}·({kernel} - 1) + 1)"
    tail = f" + {extra}" if extra else ""
    formula = f"({size} - 1)·{stride}" + (f" - 2·{pad}" if pad else "") + f" + {window}{tail} = {output}"
    shared: dict[str, Any] = {"input": size, "kernel": kernel, "stride": stride, "dilation": dilation}
    return Side(**shared, before=pad, after=pad, output=output, exact=float(output), unused=0, formula=formula)


def _padding(padding: int | str, size: int, extent: int, stride: int) -> tuple[int, int]:
    match padding:
        case "valid":
            return 0, 0
        case "same":  # an odd total: the extra pixel comes after, as TensorFlow has it
            total = max((-(-size // stride) - 1) * stride + extent - size, 0)
            return total // 2, total - total // 2
        case "full":
            return extent - 1, extent - 1
        case "causal":
            return extent - 1, 0
        case int():
            return padding, padding
    raise UnknownNameError("padding", padding, PADDINGS)


def _word(kind: str, sides: tuple[Side, Side]) -> str:
    """What a number of pixels comes to."""
    if all(side.before == side.after == 0 for side in sides):
        return "valid"
    if kind != "transposed":
        if all(side.before == side.after == side.extent - 1 for side in sides):
            return "full"
        if all(side.output == -(-side.input // side.stride) for side in sides):
            return "same"
    return "explicit"
