"""Another way back through the rectifiers: a network whose backward signal is rectified, whatever its code looks like.

Rectifiers are caught as the functions that they are, so that modules, functions, tensor methods, operations in place
and modules that are used twice are all the same. The network's answers stay what they are. Four rules:

    gradient              back through ReLU: where its input was positive
    guided                where its input was positive, and the signal is
    deconvnet             where the signal is positive, whatever its input was
    open                  everywhere

Of other rectifiers (leaky ReLU, ELU, GELU, SiLU …) the slope stands for "where its input was positive". Sigmoid and
tanh do not rectify: the signal passes by their slope in all four. So do the operations that have weights, which are
transposed, sums, which pass it on to each of their terms, concatenations, which deal it out again, averages, which
spread it evenly, and batch normalisation with fixed statistics, which scales it. Max pooling puts it where the maximum
was: where windows overlap, the parts are added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from striate.layers.normalization import Contrast, LocalResponse

Rule = Literal["guided", "deconvnet", "open"]

_RECTIFIERS: frozenset[Any] = frozenset(
    {
        F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_,
        F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.prelu, F.rrelu, F.gelu, F.silu, F.mish,
        F.hardswish, F.softplus, F.threshold,
        F.leaky_relu_, F.elu_, F.selu_, F.celu_, F.rrelu_,
        torch.prelu, torch.celu, torch.selu, torch.rrelu, torch.threshold, Tensor.prelu,
        torch.celu_, torch.selu_, torch.rrelu_, torch.threshold_,
    }
)  # fmt: skip
_CLAMPS: frozenset[Any] = frozenset(
    {torch.clamp, torch.clamp_, torch.clamp_min, torch.clamp_min_, Tensor.clamp, Tensor.clamp_, Tensor.clamp_min,
     Tensor.clamp_min_}
)  # fmt: skip
_HARD_TANH: frozenset[Any] = frozenset({F.hardtanh, F.hardtanh_})  # ReLU6 is one from 0
# Zeiler & Fergus show no inverse of it: the signal passes as it is
_CONTRASTS = (nn.LocalResponseNorm, LocalResponse, Contrast)


@contextmanager
def rectified_backward(model: nn.Module, rule: Rule) -> Iterator[RectifiedBackward]:
    """While the model runs inside, autograd records the way back by `rule`.

    What was caught stands in `caught`: a network without any rectifier has nothing to rectify.
    """
    handles = []
    if rule == "deconvnet":
        contrasts = (module for module in model.modules() if isinstance(module, _CONTRASTS))
        handles = [module.register_forward_hook(_past) for module in contrasts]
    try:
        with RectifiedBackward(rule) as mode, paused_in_contrasts(model, mode):
            yield mode
    finally:
        for handle in handles:
            handle.remove()


class Pausing(TorchFunctionMode):
    """Sees every function that is called, but for where it is told to look away."""

    paused = False

    def pause(self, paused: bool) -> None:
        """Look away for now, or look again."""
        self.paused = paused


@contextmanager
def paused_in_contrasts(model: nn.Module, mode: Pausing) -> Iterator[None]:
    """`mode` looks away from contrast normalisation: its clamp, which keeps a variance from rounding below 0, is no
    rectifier."""
    handles = []
    try:
        for module in model.modules():
            if isinstance(module, Contrast):
                handles.append(module.register_forward_pre_hook(lambda *_: mode.pause(True)))
                handles.append(module.register_forward_hook(lambda *_: mode.pause(False)))
        yield
    finally:
        for handle in handles:
            handle.remove()


class RectifiedBackward(Pausing):
    """Puts the rule on the way back behind every rectifier that is called."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule: Rule = rule
        self.caught = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`; a rectifier gets its other way back."""
        kwargs = kwargs or {}
        inputs = args[0] if args else kwargs.get("input")
        caught = not self.paused and _rectifies(func, args, kwargs)
        if not caught or not isinstance(inputs, Tensor) or not inputs.requires_grad:
            if func is F.local_response_norm and self.rule == "deconvnet":
                return _Past.apply(args[0], func(*args, **kwargs).detach())
            return func(*args, **kwargs)
        self.caught += 1
        return _WAYS[self.rule].apply(
            inputs, lambda values: func(*_with_first(args, values), **_with_input(kwargs, values))
        )


def _rectifies(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return func in _RECTIFIERS or limits_at_zero(func, args, kwargs)


def limits_at_zero(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether it is a clamp, or a hard tanh, that sets what is negative to zero."""
    if func not in _CLAMPS and func not in _HARD_TANH:
        return False
    low = kwargs.get("min", kwargs.get("min_val", args[1] if len(args) > 1 else None))
    return isinstance(low, int | float) and low == 0


def _with_first(args: tuple[Any, ...], values: Tensor) -> tuple[Any, ...]:
    return (values, *args[1:]) if args else ()


def _with_input(kwargs: dict[str, Any], values: Tensor) -> dict[str, Any]:
    return {**kwargs, "input": values} if "input" in kwargs else kwargs


def _past(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return _Past.apply(inputs[0], output.detach())  # pyright: ignore[reportReturnType]


class _Rectifier(torch.autograd.Function):
    """A rectifier forwards, in place or not; each way back is a class of its own."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rectifier: Callable[[Tensor], Tensor]) -> Tensor:
        outputs = rectifier(values)
        if outputs is values:
            ctx.mark_dirty(values)
        return outputs


class _Guide(_Rectifier):
    """Backwards the rectified signal times the rectifier's own slope."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rectifier: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.values, ctx.rectifier = values.clone(), rectifier
        return _Rectifier.forward(ctx, values, rectifier)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None]:
        with torch.enable_grad():
            values = ctx.values.requires_grad_()
            outputs = ctx.rectifier(values.clone())
        return torch.autograd.grad(outputs, values, signals[0].clamp_min(0))[0], None


class _Deconvolve(_Rectifier):
    """Backwards the rectified signal, whatever the input was."""

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None]:
        return signals[0].clamp_min(0), None


class _Open(_Rectifier):
    """Backwards the signal as it is."""

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None]:
        return signals[0], None


class _Past(torch.autograd.Function):
    """Some outputs forwards; the signal as it is backwards."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, outputs: Tensor) -> Tensor:
        return outputs.view_as(outputs)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None]:
        return signals[0], None


_WAYS: dict[Rule, type[_Rectifier]] = {"guided": _Guide, "deconvnet": _Deconvolve, "open": _Open}
