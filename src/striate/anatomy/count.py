"""The numbers of a network: layer by layer (`anatomy_of`), or just the two that everybody asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from striate.anatomy.fields import of_image
from striate.anatomy.memory import BATCH, training_bytes
from striate.anatomy.parameters import AUXILIARY, is_auxiliary, weight_names
from striate.anatomy.table import Anatomy, Layer
from striate.anatomy.trace import Trace, empty_input, run, trace
from striate.errors import ModelError, UsageError


def anatomy_of(
    model: nn.Module,
    input_size: int | Sequence[int] | None = None,
    in_channels: int | None = None,
    *,
    training: bool = True,
) -> Anatomy:
    """Layer by layer the operation, shape, parameters, multiply-accumulates, memory and receptive field of `model`.

    Any `nn.Module` that takes images [B, in_channels, *input_size]; one side stands for a square, a sequence of one for
    signals [B, C, L]. Networks of ours know their size and channels. Nothing is computed, and the network is left as it
    was: it is followed on meta tensors, in evaluation mode; and once more in training mode for what training keeps in
    memory, unless `training` is false. What only training uses stands beside, as auxiliary heads do.

    Raises:
        UsageError: a size or number of channels is needed and not known.
        ModelError: the network does not take such images, or looks at their values.
    """
    shape = input_shape(model, input_size, in_channels)
    heads = getattr(model, AUXILIARY, None)
    heads = dict(heads.named_children()) if isinstance(heads, nn.ModuleDict) else {}
    found = trace(model, shape, wanted=[f"stages.{stage}" for stage in heads])
    extra = [layer for stage, head in heads.items() for layer in _auxiliary(found, stage, head, shape)]
    learned = {name: value.numel() for name, value in model.named_parameters()}
    own = {name for name in learned if not name.startswith(f"{AUXILIARY}.")}
    if unused := own - found.used:
        beside, rows = _trained_beside(model, shape, found, unused)
        own, extra = own - beside, extra + rows
    try:
        kept, by_layer = training_bytes(model, shape) if training else (0, {})
    except ModelError:  # a network for inference only
        kept, by_layer = 0, {}
    return Anatomy(
        model=_name(model),
        input=shape,
        params=sum(learned[name] for name in own),
        weights=sum(learned[name] for name in own & weight_names(model)),
        params_aux=sum(size for name, size in learned.items() if name not in own),
        layers=tuple(_with_training(found.layers, by_layer)),
        auxiliary_layers=tuple(_with_training(extra, by_layer)),
        peak_bytes=found.peak_bytes,
        training_bytes=kept,
    )


def count_parameters(model: nn.Module) -> int:
    """Learned values with biases, scales and shifts, frozen or not; no running statistics and no auxiliary heads,
    which are known by their names here and in torchvision."""
    return sum(value.numel() for name, value in model.named_parameters() if not is_auxiliary(name))


def count_macs(model: nn.Module, in_channels: int | None = None, size: int | tuple[int, int] | None = None) -> int:
    """Multiply-accumulates of one image [in_channels, *size] through convolutions, linear layers and matrix products.

    Biases, normalisation, pooling and activations do not count; a floating-point operation count would be twice this.
    Layers of our own count themselves, by a method `multiply_accumulates(output_shape)`. Channels and size default to
    those that the network was built for. The network is left as it was.
    """
    return sum(layer.macs for layer in trace(model, input_shape(model, size, in_channels)).layers)


def input_shape(model: nn.Module, size: int | Sequence[int] | None, channels: int | None) -> tuple[int, ...]:
    """Channels and sides of one image: as given, else what the network was built for.

    Raises:
        UsageError: neither says it.
    """
    record: Any = getattr(model, "architecture", None)
    published = getattr(model, "default_cfg", None)  # timm's
    built: Sequence[int] = ()
    if record is not None and hasattr(record, "input_size"):
        built = (record.in_channels, *record.input_size)
    elif isinstance(published, dict) and published.get("input_size"):
        built = published["input_size"]
    if channels is None:
        first = (module for module in model.modules() if isinstance(module, nn.modules.conv._ConvNd))
        channels = built[0] if built else next((module.in_channels for module in first), None)
    if size is None and not built:
        raise UsageError(f"{_name(model)} does not say its input size", "give it: input_size=224, or (height, width)")
    if channels is None:
        raise UsageError(f"{_name(model)} does not say its input channels", "give them: in_channels=3")
    sides = built[1:] if size is None else (size, size) if isinstance(size, int) else size
    return (int(channels), *map(int, sides))


def _auxiliary(found: Trace, stage: str, head: nn.Module, shape: Sequence[int]) -> list[Layer]:
    """The rows of the head that reads `stage`."""
    reads, field = found.outputs[f"stages.{stage}"]
    return run(head, empty_input(*reads), field, shape[1:], root=f"{AUXILIARY}.{stage}").layers


def _trained_beside(
    model: nn.Module, shape: Sequence[int], found: Trace, unused: set[str]
) -> tuple[set[str], list[Layer]]:
    """The parameters among `unused` that training uses and evaluation does not, and the rows of their modules."""
    image = empty_input(BATCH, *shape)
    try:
        trained = run(model, image, of_image(image.shape), shape[1:], training=True)
    except ModelError:  # a network for inference only
        return set(), []
    names = unused & trained.used
    added = trained.entered - found.entered
    heads = {path for path in added if any(name.startswith(f"{path}.") for name in names)}
    rows = [
        replace(
            layer,
            macs=layer.macs // BATCH,
            other_ops=layer.other_ops // BATCH,
            activation_bytes=layer.activation_bytes // BATCH,
        )
        for layer in trained.layers
        if any(f"{layer.name}.".startswith(f"{head}.") for head in heads)
    ]
    return names, rows


def _with_training(layers: Sequence[Layer], by_path: dict[str, list[int]]) -> list[Layer]:
    """Rows with what they keep for the backward pass; what is kept between modules goes to a row of theirs."""
    left = {path: list(sizes) for path, sizes in by_path.items()}
    rows = []
    for layer in layers:
        path = layer.name if layer.name in left else layer.name.rpartition(".")[0]
        sizes = left.get(path)
        rows.append(replace(layer, training_bytes=sizes.pop(0)) if sizes else layer)
    return rows


def _name(model: nn.Module) -> str:
    return getattr(getattr(model, "architecture", None), "name", None) or type(model).__name__
