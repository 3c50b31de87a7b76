"""Parameter groups and torch's own optimisers, without the compiler's import.

torch decorates the methods of its optimisers so that `torch.compile` leaves them alone; the first call of any of them
imports `torch._dynamo`, which takes longer than training a small network. `functools.wraps` keeps the undecorated
function at `__wrapped__`, so a subclass can use exactly torch's code without that wrapper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from striate.models import ConvNet
from striate.models.cut import depth_of, places
from striate.options import OptimizerOptions, RegularizeOptions, TransferOptions
from striate.training.muon import Muon


def make_optimizer(
    model: nn.Module,
    optimizer: OptimizerOptions,
    regularize: RegularizeOptions,
    depths: Mapping[str, Depth] | None = None,
) -> torch.optim.Optimizer:
    """The optimiser over the trainable parameters of `model`, in the groups of `parameter_groups`."""
    groups = parameter_groups(model, regularize, vectors_apart=optimizer.bias_lr is not None, depths=depths)
    lr = optimizer.lr
    assert isinstance(lr, float)
    for group in groups:
        group["lr"] = peak_rate(optimizer, group)
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


def peak_rate(options: OptimizerOptions, group: Mapping[str, Any]) -> float:
    """The highest learning rate of a group: that of its name where there is one, else `lr`, times its factor."""
    assert isinstance(options.lr, float)
    own = {"head": options.head_lr, "spared": options.bias_lr, "vectors": options.bias_lr}.get(group["name"])
    return (options.lr if own is None else own) * group.get("factor", 1.0)


@dataclass(frozen=True, slots=True)
class Depth:
    """Where a copied network has a parameter, and by which factor it learns slower than by `lr`."""

    place: int  # index of its place; the number of places for the classifier
    factor: float


def depths_for(transfer: TransferOptions, model: ConvNet) -> dict[str, Depth] | None:
    """Discriminative rates, by parameter name; None for a training from scratch.

    The classifier learns by `lr`, the place below it by `pretrained_lr` of that, and each further one by `layer_decay`
    of the one above.
    """
    if transfer.scenario in (None, "scratch"):
        return None
    depths, classifier = depth_of(model), len(places(model))
    top = 1.0 if transfer.pretrained_lr is None else transfer.pretrained_lr
    decay = 1.0 if transfer.layer_decay is None else transfer.layer_decay
    # places without parameters do not count
    below = sorted({depth for depth in depths.values() if depth < classifier}, reverse=True)
    factors = {depth: top * decay**index for index, depth in enumerate(below)}
    return {name: Depth(depth, factors.get(depth, 1.0)) for name, depth in depths.items()}


def parameter_groups(
    model: nn.Module,
    options: RegularizeOptions,
    *,
    vectors_apart: bool = False,
    depths: Mapping[str, Depth] | None = None,
) -> list[dict[str, Any]]:
    """Weights that decay, weights of the head, and what is spared, as optimiser groups with a `name` each.

    Kernels and matrices decay; vectors and scalars (normalisation, biases, the coefficients of trainable pooling) are
    spared unless `decay_norms_and_biases`: pulling them to zero regularises nothing and slows training (Goyal et al.
    2017, sec. 5.3). M068's two groups are these with `head_weight_decay` set. Where vectors decay and yet have a rate
    of their own (`vectors_apart`), they are a fourth group. Where layers were copied (`depths`, by parameter name),
    each of these is divided by `place`, the classifier first: then the parameters of a group learn at one rate, and
    begin to in the same epoch, which torch's fused SGD relies on.
    """
    assert options.weight_decay is not None
    in_head = {id(parameter) for name, parameter in model.named_parameters() if name.split(".")[0] in ("head", "sides")}
    head_decay = options.weight_decay if options.head_weight_decay is None else options.head_weight_decay
    decays = {"body": options.weight_decay, "head": head_decay, "spared": 0.0, "vectors": options.weight_decay}
    groups: dict[tuple[Depth | None, str], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2 and not options.decay_norms_and_biases:
            group = "spared"
        elif parameter.ndim < 2 and vectors_apart:
            group = "vectors"
        else:
            group = "head" if id(parameter) in in_head else "body"
        groups.setdefault((depths[name] if depths is not None else None, group), []).append(parameter)
    order = sorted(groups, key=lambda one: (-one[0].place if one[0] is not None else 0, list(decays).index(one[1])))
    return [
        {"name": name, "params": groups[depth, name], "weight_decay": decays[name]}
        | ({"place": depth.place, "factor": depth.factor} if depth is not None else {})
        for depth, name in order
    ]


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
