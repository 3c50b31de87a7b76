"""How weights start: the network's own published way, Xavier, He, LSUV, and the rule of the first LeNets.

Weights are those of convolutions (also sparse and local ones) and linear layers; normalisation layers go back to scale
one, shift zero and fresh statistics, trainable subsampling to the average. Everything draws from `generator`, or from
torch's global one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from striate.errors import ModelError, UnknownNameError
from striate.layers.local import LocalConv2d
from striate.layers.pooling import TrainableSubsampling
from striate.layers.sparse import SparseConv2d

SCHEMES: tuple[str, ...] = ("paper", "xavier", "he", "lsuv")

Generator = torch.Generator | None


def initialise(
    model: nn.Module, scheme: str = "paper", *, sample: Tensor | None = None, generator: Generator = None
) -> None:
    """Start the weights of `model` afresh, in place.

    `paper` is the network's own `reset_parameters`. The others set weights as named and biases to zero. `lsuv` needs
    `sample`, a batch [B, C, H, W] of normalised training images.

    Raises:
        UnknownNameError: a scheme that is not in `SCHEMES`.
        ModelError: `lsuv` without a sample or with one that leaves a layer constant, or `paper` for a network that has
            no way of its own.
    """
    match scheme:
        case "paper":
            own: Callable[..., None] | None = getattr(model, "reset_parameters", None)
            if own is None:
                raise ModelError(
                    f"{type(model).__name__} has no initialisation of its own", "choose xavier, he or lsuv"
                )
            own(generator)
        case "xavier":
            xavier(model, generator)
        case "he":
            he(model, generator)
        case "lsuv":
            if sample is None:
                raise ModelError("lsuv needs a batch of training images to measure with")
            lsuv(model, sample, generator=generator)
        case _:
            raise UnknownNameError("initialisation", scheme, SCHEMES)


class without_random_start(TorchFunctionMode):
    """Layers built inside leave their random weights as memory happens to be: as quick as allocating it.

    For networks whose weights are loaded, or drawn by a rule of their own, right afterwards. Constants (zero biases,
    unit scales) are still set.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let every call pass but the drawing of random numbers into a tensor."""
        if func in _RANDOM_FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


_RANDOM_FILLS = {
    Tensor.uniform_,
    Tensor.normal_,
    nn.init.uniform_,
    nn.init.normal_,
    nn.init.trunc_normal_,
    nn.init.kaiming_uniform_,
    nn.init.kaiming_normal_,
    nn.init.xavier_uniform_,
    nn.init.xavier_normal_,
    nn.init.orthogonal_,
}


def weighted_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The convolutions and linear layers of `model` with their names, in the order of registration."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear | SparseConv2d | LocalConv2d):
            yield name, module


def fans(layer: nn.Module) -> list[tuple[Tensor, int, int]]:
    """(weights, fan-in, fan-out) of a layer, one entry for each group of units that share their fan-in."""
    if isinstance(layer, SparseConv2d | LocalConv2d):
        return layer.units()
    weight: Tensor = layer.weight  # type: ignore[assignment]
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    return [(weight, fan_in, fan_out)]


@torch.no_grad()
def xavier(model: nn.Module, generator: Generator = None) -> None:
    """Uniform ±sqrt(6 / (fan_in + fan_out)), variance 2 / (fan_in + fan_out). Glorot & Bengio 2010, eq. 16."""
    _reset_others(model)
    for _, layer in weighted_layers(model):
        for weight, fan_in, fan_out in fans(layer):
            bound = (6 / (fan_in + fan_out)) ** 0.5
            weight.uniform_(-bound, bound, generator=generator)
        _zero_bias(layer)


@torch.no_grad()
def caffe_xavier(model: nn.Module, generator: Generator = None, *, bias: float = 0.0) -> None:
    """Uniform ±sqrt(3 / fan_in), variance 1 / fan_in: what Caffe calls "xavier"; every bias `bias`."""
    _reset_others(model)
    for _, layer in weighted_layers(model):
        for weight, fan_in, _fan_out in fans(layer):
            bound = (3 / fan_in) ** 0.5
            weight.uniform_(-bound, bound, generator=generator)
        if layer.bias is not None:
            nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]


@torch.no_grad()
def he(model: nn.Module, generator: Generator = None) -> None:
    """Normal with variance 2 / fan_in: keeps the signal through ReLU layers. He et al. 2015 (1502.01852), eq. 10."""
    _reset_others(model)
    for _, layer in weighted_layers(model):
        for weight, fan_in, _fan_out in fans(layer):
            weight.normal_(0.0, (2 / fan_in) ** 0.5, generator=generator)
        _zero_bias(layer)


@torch.no_grad()
def gaussian(model: nn.Module, deviation: float, generator: Generator = None) -> None:
    """Normal with the same `deviation` in every layer, biases zero: the habit from 2012 until Xavier and He."""
    _reset_others(model)
    for _, layer in weighted_layers(model):
        for weight, _fan_in, _fan_out in fans(layer):
            weight.normal_(0.0, deviation, generator=generator)
        _zero_bias(layer)


@torch.no_grad()
def lecun_uniform(model: nn.Module, generator: Generator = None) -> None:
    """Uniform ±2.4 / F_in, weights and biases alike (a bias is a weight from 1). LeCun et al. 1998, appendix A.

    A subsampling unit has F_in = 4: its coefficient multiplies the sum of four inputs.
    """
    _reset_others(model)
    for _, layer in weighted_layers(model):
        for index, (weight, fan_in, _fan_out) in enumerate(fans(layer)):
            bound = 2.4 / fan_in
            weight.uniform_(-bound, bound, generator=generator)
            bias = layer.bias
            if isinstance(bias, Tensor):
                units = bias[index] if isinstance(layer, SparseConv2d) else bias
                units.uniform_(-bound, bound, generator=generator)
    for module in model.modules():
        if isinstance(module, TrainableSubsampling):
            bound = 2.4 / module.window**2
            module.coefficient.uniform_(-bound, bound, generator=generator)
            module.bias.uniform_(-bound, bound, generator=generator)


def lecun_start(model: nn.Module, activation: str, generator: Generator = None) -> None:
    """How the early digit networks start: ±2.4/F_in with their scaled tanh; else He for the ReLU family, or Xavier."""
    if activation == "scaled_tanh":
        lecun_uniform(model, generator)
    elif activation in ("sigmoid", "tanh", "linear"):
        xavier(model, generator)
    else:
        he(model, generator)


@torch.no_grad()
def lsuv(
    model: nn.Module, sample: Tensor, *, generator: Generator = None, tolerance: float = 0.02, tries: int = 20
) -> None:
    """Orthonormal weights, then layer by layer scaled until the outputs on `sample` [B, C, H, W] have variance 1.

    Mishkin & Matas 2016, arXiv:1511.06422, algorithm 1, with the tolerance and the tries of the authors' script.
    Measured in evaluation mode: dropout is off and batch normalisation, at its start, passes its input through.

    Raises:
        ModelError: a layer whose output does not vary on the sample.
    """
    _reset_others(model)
    for _, layer in weighted_layers(model):
        for weight, _fan_in, _fan_out in fans(layer):
            rows = weight.flatten(1) if not isinstance(layer, SparseConv2d) else weight.view(1, -1)
            rows.copy_(nn.init.orthogonal_(torch.empty_like(rows), generator=generator))
        _zero_bias(layer)
    names = {layer: name for name, layer in weighted_layers(model)}
    training = model.training
    model.eval()
    try:
        for layer in _execution_order(model, sample):
            for _ in range(tries):
                variance = float(_output_of(model, layer, sample).float().var())
                if not 0 < variance < float("inf"):
                    raise ModelError(f"lsuv: the output of {names[layer]} has variance {variance} on the sample")
                if abs(variance - 1) < tolerance:
                    break
                layer.weight /= variance**0.5  # type: ignore[operator]
    finally:
        model.train(training)


class _Reached(Exception):
    """The output of the layer that was waited for: the rest of the network need not run."""

    def __init__(self, output: Tensor) -> None:
        self.output = output


def _output_of(model: nn.Module, layer: nn.Module, sample: Tensor) -> Tensor:
    def stop(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        raise _Reached(output)

    handle = layer.register_forward_hook(stop)
    try:
        model(sample)
    except _Reached as reached:
        return reached.output
    finally:
        handle.remove()
    raise ModelError(f"lsuv: the network does not use its layer {layer}")


def _execution_order(model: nn.Module, sample: Tensor) -> list[nn.Module]:
    order: dict[nn.Module, None] = {}
    handles = [
        layer.register_forward_hook(lambda module, _inputs, _output: order.setdefault(module))
        for _, layer in weighted_layers(model)
    ]
    try:
        model(sample)
    finally:
        for handle in handles:
            handle.remove()
    return list(order)


def _reset_others(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm | TrainableSubsampling):
            module.reset_parameters()


def _zero_bias(layer: nn.Module) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
