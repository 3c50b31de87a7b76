"""Batch normalisation folded into the convolution before it: one layer fewer to pass memory through.

In evaluation mode a batch norm is a line per map, `y = a x + b`, and a convolution followed by it is a convolution with
weights `a W` and bias `a c + b` (Jacob et al. 2017, arXiv:1712.05877, sec. 3.2). Which convolution a norm really
follows is found by following one image through the network, not by names: only a norm that is fed a convolution's
output itself, which nothing else reads, is folded. A pooling, activation or sum between the two leaves it alone.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from striate.errors import ModelError

_LOOKS = {"__get__", "size", "dim", "is_contiguous", "requires_grad_"}  # what asks about a tensor, not for its values


def fold_batch_norms(model: nn.Module, shape: Sequence[int] | None = None) -> nn.Module:
    """A frozen copy of `model` in evaluation mode, each batch norm that directly follows its convolution folded in.

    Args:
        model: any network of images; it is left as it is.
        shape: of one image, [C, H, W]; None takes that of a network of ours (`architecture`).

    Returns:
        The copy, on the same device; its answers are those of `model.eval()` but for rounding (1e-5 of the largest
        logit in float32). A norm that follows anything but a convolution, or a convolution that others read or that
        is used twice, stays.

    Raises:
        ModelError: the network does not take such an image.
        ValueError: no shape, and the network does not know its own.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    names = {module: name for name, module in folded.named_modules()}
    for convolution, norm in _pairs(folded, _shape_of(folded, shape)):
        _fold(convolution, norm)
        parent, _, last = names[norm].rpartition(".")
        setattr(folded.get_submodule(parent), last, _rest(norm))
    return folded


def count_batch_norms(model: nn.Module) -> int:
    """How many two-dimensional batch norms a network has."""
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def _shape_of(model: nn.Module, shape: Sequence[int] | None) -> tuple[int, ...]:
    if shape is not None:
        return tuple(shape)
    architecture: Any = getattr(model, "architecture", None)
    if architecture is None:
        raise ValueError(f"{type(model).__name__} does not know its input: give `shape`")
    return (architecture.in_channels, *architecture.input_size)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Put the line of `norm` into the weights of `convolution`, reckoned in double precision."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    slope = (variance.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        slope = slope * norm.weight.double()
    bias = -mean.double() if convolution.bias is None else convolution.bias.double() - mean.double()
    bias = bias * slope
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    weight = convolution.weight
    scaled = weight.double() * slope[:, None, None, None]
    layout = torch.channels_last if weight.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    convolution.weight = _frozen(scaled.to(weight.dtype).contiguous(memory_format=layout))
    convolution.bias = _frozen(bias.to(weight.dtype))


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def _rest(norm: nn.BatchNorm2d) -> nn.Module:
    """What stays of a norm without its line: nothing, or the activation that timm keeps in the same module."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    return nn.Sequential(norm.get_submodule("drop"), norm.get_submodule("act"))


def _foldable(norm: nn.Module) -> bool:
    """A plain batch norm with statistics, or timm's with an activation; other subclasses may do anything."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        return False
    return type(norm) is nn.BatchNorm2d or (
        type(norm).__name__ == "BatchNormAct2d" and type(norm).__module__.startswith("timm.")
    )


def _hooked(module: nn.Module) -> bool:
    """Whether somebody looks at what the module gives: then it must stay what it is."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _pairs(model: nn.Module, shape: tuple[int, ...]) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """The convolutions and norms that may become one, found by following one image."""
    norms = [module for module in model.modules() if _foldable(module) and not _hooked(module)]
    if not norms:
        return []
    followed = _Follow(model)
    followed.run(shape)
    pairs = []
    for weight, out in followed.convolutions:
        mean = followed.norms.get(id(out))
        convolution, norm = followed.owners.get(id(weight)), followed.owners.get(id(mean))
        once = followed.reads[id(out)] == followed.reads[id(weight)] == followed.reads[id(mean)] == 1
        plain = type(convolution) is nn.Conv2d and not _hooked(convolution)
        if once and plain and isinstance(norm, nn.BatchNorm2d) and any(norm is one for one in norms):
            pairs.append((convolution, norm))
    return pairs


class _Follow(TorchFunctionMode):
    """Sees every operation between tensors, and counts who reads parameters and what convolutions give."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.owners: dict[int, nn.Module] = {}  # by the id of a convolution's weight or a norm's running mean
        self.reads: Counter[int] = Counter()  # by the id of a tensor that is kept, so that ids hold
        self.convolutions: list[tuple[Tensor, Tensor]] = []  # weight, output
        self.norms: dict[int, Tensor] = {}  # running mean by the id of the input
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                self.owners[id(module.weight)] = module
            elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                self.owners[id(module.running_mean)] = module

    def run(self, shape: tuple[int, ...]) -> None:
        """Pass one black image. On meta tensors nothing would be computed, but torch would load its compiler."""
        device = next((one.device for one in self.model.parameters()), torch.device("cpu"))
        image = torch.zeros(1, *shape, device=device)
        try:
            with torch.inference_mode(), self:
                self.model(image)
        except (RuntimeError, ValueError, TypeError, NotImplementedError, IndexError, AssertionError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            size = "x".join(map(str, shape))
            raise ModelError(
                f"{type(self.model).__name__} cannot be followed with an image of {size}: {first}",
                "the network must take images of these channels and size",
            ) from error

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every function of torch comes by here; what it calls in turn does not, since the mode is off meanwhile."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if getattr(func, "__name__", "") in _LOOKS:
            return out
        self.reads.update(id(one) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor))
        if func is F.conv2d:
            self.convolutions.append((_argument(args, kwargs, 1, "weight"), out))
            self.reads[id(out)] = 0  # the number may have been that of a tensor that is gone
            self.norms.pop(id(out), None)
        elif func is F.batch_norm and not _argument(args, kwargs, 5, "training"):  # by running statistics
            self.norms[id(_argument(args, kwargs, 0, "input"))] = _argument(args, kwargs, 1, "running_mean")
        return out


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)
