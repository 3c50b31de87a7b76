"""Weights of the reference implementations: which names they go by, whether they fit, and loading them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from striate.errors import ModelError
from striate.models.base import ConvNet
from striate.models.naming import Naming

OURS = Naming(publisher="striate", patterns=())
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # keys under which training loops keep the weights
_PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")  # torch.compile, data parallel
_MAY_LACK = ("num_batches_tracked",)  # older files have no such counter


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A state dict seen as the parameters of one network, under the naming that suits it best."""

    naming: Naming
    renamed: dict[str, Tensor]  # all that the file holds, by our names, in its own shapes
    tensors: dict[str, Tensor]  # by our names, in our shapes, those that fit
    missing: tuple[str, ...]  # ours that the file lacks, counters and auxiliary heads apart
    extra: tuple[str, ...]  # the file's that the network has not
    reshaped: tuple[str, ...]  # ours that the file has in a shape that does not convert
    no_auxiliary: tuple[str, ...]  # parameters of auxiliary heads that the file lacks, or that the network lacks

    @property
    def complete(self) -> bool:
        """Whether every parameter has its value and none is left over, auxiliary heads apart."""
        return not (self.missing or self.extra or self.reshaped)

    @property
    def misfits(self) -> int:
        """How many tensors do not fit."""
        return len(self.missing) + len(self.extra) + len(self.reshaped)


def fit_state(model: ConvNet, state: Mapping[str, Any]) -> Fit:
    """`state` under each naming of the model's family, and our own: the fit with the fewest misfits.

    A checkpoint that holds it under `state_dict`, and the prefix `module.` of data-parallel training, are understood.
    The weights of a linear layer may come as those of the convolution that reads its whole input, and the other way
    round. Nothing is loaded.
    """
    own = model.state_dict()
    plain = unwrapped(state)
    return min((_fit(own, plain, naming) for naming in (OURS, *model.published_names())), key=lambda fit: fit.misfits)


def load_reference(model: ConvNet, state: Mapping[str, Any]) -> Fit:
    """Load a state dict in one of the namings of the model's family (see `namings` in its file).

    Auxiliary heads that the file lacks keep the weights they have; those that the network lacks are left out.

    Raises:
        ModelError: keys that are missing or left over, or tensors of another shape; nothing is loaded then.
    """
    fit = fit_state(model, state)
    if not fit.complete:
        raise ModelError(
            f"these are not weights of {model.architecture.name}: they {misfits_of(fit)}",
            "build the network with the classes, channels and input size that the weights are of",
        )
    model.load_state_dict({**model.state_dict(), **fit.tensors})
    return fit


def misfits_of(fit: Fit, shown: int = 4) -> str:
    """The first of what does not fit, in words."""
    for what, keys in (("lack", fit.missing), ("have besides", fit.extra), ("have in another shape", fit.reshaped)):
        if keys:
            more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
            return f"{what} {', '.join(keys[:shown])}{more}"
    return "fit"


def unwrapped(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their keys, without the wrappings of training loops."""
    inner: Any = state
    for name in _WRAPPERS:
        if isinstance(inner, Mapping) and isinstance(inner.get(name), Mapping):
            inner = inner[name]
            break
    tensors = {str(key): tensor for key, tensor in inner.items() if isinstance(tensor, Tensor)}
    for prefix in _PREFIXES:
        if tensors and all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], naming: Naming) -> Fit:
    renamed = {renamed_key(naming, key): (key, tensor) for key, tensor in state.items()}
    tensors, reshaped = {}, []
    for name, (_, tensor) in renamed.items():
        if name in own:
            converted = _in_shape(tensor, own[name])
            if converted is None:
                reshaped.append(name)
            else:
                tensors[name] = converted
    lacking = [name for name in own if name not in renamed and not name.endswith(_MAY_LACK)]
    beyond = [name for name in renamed if name not in own and not name.endswith(_MAY_LACK)]
    return Fit(
        naming=naming,
        renamed={name: tensor for name, (_, tensor) in renamed.items()},
        tensors=tensors,
        missing=tuple(name for name in lacking if not name.startswith("auxiliary.")),
        extra=tuple(renamed[name][0] for name in beyond if not name.startswith("auxiliary.")),
        reshaped=tuple(reshaped),
        no_auxiliary=tuple(name for name in (*lacking, *beyond) if name.startswith("auxiliary.")),
    )


def _in_shape(tensor: Tensor, like: Tensor) -> Tensor | None:
    """`tensor` in the shape of `like`, where that only means to fold or unfold the inputs of each unit."""
    if tensor.shape == like.shape:
        return tensor
    squeezed = tensor.squeeze() if tensor.ndim == 4 and tensor.shape[:2] == (1, 1) else tensor  # old Caffe files
    same = squeezed.numel() == like.numel() and squeezed.ndim and like.ndim and squeezed.shape[0] == like.shape[0]
    return squeezed.reshape(like.shape) if same else None


def renamed_key(naming: Naming, key: str) -> str:
    """The publisher's key by our name, or what the patterns leave of it."""
    for pattern, replacement in naming.patterns:
        key = re.sub(pattern, replacement, key)
    return key
