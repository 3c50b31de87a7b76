"""Parameter groups and torch's own optimisers, without the compiler's import.

torch decorates the methods of its optimisers so that `torch.compile` leaves them alone; the first call of any of them
imports `torch._dynamo`, which takes longer than training a small network. `functools.wraps` keeps the undecorated
function at `__wrapped__`, so a subclass can use exactly torch's code without that wrapper.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

from striate.options import OptimizerOptions, RegularizeOptions
from striate.training.muon import Muon


def make_optimizer(
    model: nn.Module, optimizer: OptimizerOptions, regularize: RegularizeOptions
) -> torch.optim.Optimizer:
    """The optimiser over the trainable parameters of `model`, in the groups of `parameter_groups`."""
    groups = parameter_groups(model, regularize, vectors_apart=optimizer.bias_lr is not None)
    lr = optimizer.lr
    assert isinstance(lr, float)
    for group in groups:
        group["lr"] = peak_rate(optimizer, group["name"])
    if optimizer.optimizer == "muon":
        assert optimizer.momentum is not None
        groups = [{**group, "orthogonal": group["name"] == "body"} for group in groups]
        return _uncompiled(Muon)(groups, lr=lr, momentum=optimizer.momentum, nesterov=bool(optimizer.nesterov))
    if optimizer.optimizer == "sgd":
        assert optimizer.momentum is not None
        nesterov = bool(optimizer.nesterov and optimizer.momentum)
        return _uncompiled(torch.optim.SGD)(
            groups, lr=lr, momentum=optimizer.momentum, nesterov=nesterov, fused=_fusable(groups)
        )
    if optimizer.optimizer == "rmsprop":
        momentum = optimizer.momentum or 0.0
        return _uncompiled(torch.optim.RMSprop)(
            groups, lr=lr, momentum=momentum, alpha=optimizer.alpha, eps=optimizer.eps, foreach=True
        )
    return _uncompiled(torch.optim.AdamW)(
        groups, lr=lr, betas=optimizer.betas, eps=optimizer.eps, fused=_fusable(groups)
    )


def peak_rate(options: OptimizerOptions, group: str) -> float:
    """The highest learning rate of the group of that name: its own where it was given one, else `lr`."""
    assert isinstance(options.lr, float)
    own = {"head": options.head_lr, "spared": options.bias_lr, "vectors": options.bias_lr}.get(group)
    return options.lr if own is None else own


def parameter_groups(
    model: nn.Module, options: RegularizeOptions, *, vectors_apart: bool = False
) -> list[dict[str, Any]]:
    """Weights that decay, weights of the head, and what is spared, as optimiser groups with a `name` each.

    Kernels and matrices decay; vectors and scalars (normalisation, biases, the coefficients of trainable pooling) are
    spared unless `decay_norms_and_biases`: pulling them to zero regularises nothing and slows training (Goyal et al.
    2017, sec. 5.3). M068's two groups are these with `head_weight_decay` set. Where vectors decay and yet have a rate
    of their own (`vectors_apart`), they are a fourth group.
    """
    assert options.weight_decay is not None
    in_head = {id(parameter) for name, parameter in model.named_parameters() if name.split(".")[0] == "head"}
    head_decay = options.weight_decay if options.head_weight_decay is None else options.head_weight_decay
    groups: dict[str, dict[str, Any]] = {
        "body": {"params": [], "weight_decay": options.weight_decay},
        "head": {"params": [], "weight_decay": head_decay},
        "spared": {"params": [], "weight_decay": 0.0},
        "vectors": {"params": [], "weight_decay": options.weight_decay},
    }
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2 and not options.decay_norms_and_biases:
            group = "spared"
        elif parameter.ndim < 2 and vectors_apart:
            group = "vectors"
        else:
            group = "head" if id(parameter) in in_head else "body"
        groups[group]["params"].append(parameter)
    return [{"name": name, **group} for name, group in groups.items() if group["params"]]


def _fusable(groups: list[dict[str, Any]]) -> bool:
    return all(parameter.is_floating_point() for group in groups for parameter in group["params"])


@cache
def _uncompiled(optimizer_class: type[torch.optim.Optimizer]) -> Any:
    """A subclass whose methods are torch's own, minus the wrappers that import the compiler on first use."""
    wrapped = {
        name: getattr(optimizer_class, name).__wrapped__
        for name in ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
        if hasattr(getattr(optimizer_class, name), "__wrapped__")
    }
    wrapped["step"] = torch.no_grad()(wrapped["step"]) if "step" in wrapped else optimizer_class.step
    return type(optimizer_class.__name__, (optimizer_class,), wrapped)
