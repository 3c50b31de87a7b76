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
_WRAPPERS = (  # keys under which training loops keep the weights
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params",
)  # fmt: skip
_PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")  # torch.compile, data parallel
_PARTS = ("stem.", "stages.", "head.", "auxiliary.")  # what every name of ours begins with
_MAY_LACK = ("num_batches_tracked",)  # older files have no such counter


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A state dict seen as the parameters of one network, under the naming that suits it best."""

    naming: Naming
    renamed: dict[str, Tensor]  # all that the file holds, by our names, in its own shapes
    tensors: dict[str, Tensor]  # by our names, in our shapes, those that fit
    missing: tuple[str, ...]  # ours that the file lacks, counters and auxiliary heads apart
    extra: tuple[str, ...]  # the file's that the network has not
    reshaped: tuple[str, ...]  # the file's in a shape that does not convert, with both shapes
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

    A checkpoint that holds it under `state_dict` or the like, and prefixes of wrapping modules, are understood.
    The weights of a linear layer may come as those of the convolution that reads its whole input, and the other way
    round. Nothing is loaded.
    """
    own = model.state_dict()
    namings = (OURS, *model.published_names())
    fits = (_fit(own, tensors, naming) for tensors in variants(unwrapped(state)) for naming in namings)
    return min(fits, key=lambda fit: fit.misfits)


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
    """The first of what does not fit, in words and by the names of the file."""
    missing = tuple(their_name(fit.naming, name) or name for name in fit.missing[:shown]) + fit.missing[shown:]
    for what, keys in (("lack", missing), ("have besides", fit.extra), ("have in another shape", fit.reshaped)):
        if keys:
            more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
            return f"{what} {', '.join(keys[:shown])}{more}"
    return "fit"


def unwrapped(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their keys, without the wrappings of training loops."""
    inner: Mapping[Any, Any] = state
    while (within := _within(inner)) is not None:
        inner = within
    tensors = {str(key): tensor for key, tensor in inner.items() if isinstance(tensor, Tensor)}
    for prefix in _PREFIXES:
        if tensors and all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def tensors_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """`unwrapped`, where that is something.

    Raises:
        ModelError: there are no tensors; the message names what there is.
    """
    tensors = unwrapped(state)
    if not tensors:
        held = [
            f"{key} {{{', '.join(map(str, list(value)[:3]))}}}" if isinstance(value, Mapping) else str(key)
            for key, value in list(state.items())[:6]
        ]
        raise ModelError(
            f"the file holds no tensors where weights are kept, but {', '.join(held) or 'nothing'}",
            f"weights are a state dict, names with tensors, alone or under {', '.join(_WRAPPERS)}",
        )
    return tensors


def variants(tensors: Mapping[str, Tensor]) -> list[Mapping[str, Tensor]]:
    """The tensors by their keys, and without the first word of these where all have the same.

    That is how Lightning (`model.`) and other wrapping modules keep a network; but a network may be so itself.
    """
    found = [tensors]
    while len(words := {key.partition(".")[0] for key in found[-1]}) == 1 and all("." in key for key in found[-1]):
        (word,) = words
        found.append({key.removeprefix(f"{word}."): tensor for key, tensor in found[-1].items()})
    return found


def _within(state: Mapping[Any, Any]) -> Mapping[Any, Any] | None:
    """The mapping that a training loop keeps the weights under; or the only one with tensors beside none."""
    for name in _WRAPPERS:
        if isinstance(state.get(name), Mapping):
            return state[name]
    if any(isinstance(value, Tensor) for value in state.values()):
        return None
    inner = [value for value in state.values() if isinstance(value, Mapping)]
    holding = [one for one in inner if any(isinstance(value, Tensor) for value in one.values())]
    return holding[0] if len(holding) == 1 else None


def _fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], naming: Naming) -> Fit:
    renamed = {renamed_key(naming, key): (key, tensor) for key, tensor in state.items()}
    tensors, reshaped = {}, []
    for name, (key, tensor) in renamed.items():
        if name in own:
            converted = _in_shape(tensor, own[name])
            if converted is None:
                reshaped.append(f"{key} ({_shape(tensor)}, not {_shape(own[name])})")
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


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def renamed_key(naming: Naming, key: str) -> str:
    """The publisher's key by our name, or what the patterns leave of it."""
    for pattern, replacement in naming.patterns:
        key = re.sub(pattern, replacement, key)
    return key


def their_name(naming: Naming, name: str) -> str | None:
    """The publisher's key of a parameter of ours, or None where the patterns cannot be read backwards."""
    steps = [step for pattern in reversed(naming.patterns) if (step := _backwards(*pattern)) is not None]

    def search(key: str, first: int) -> str | None:
        for index in range(first, len(steps)):
            before = re.sub(*steps[index], key)
            if before != key and (found := search(before, index + 1)) is not None:
                return found
        return key if renamed_key(naming, key) == name and not (naming.patterns and key.startswith(_PARTS)) else None

    return search(name, 0)


def _backwards(pattern: str, replacement: str) -> tuple[str, str] | None:
    """The pattern that undoes one of a naming, where it is made of plain text and groups that both sides have."""
    groups = re.findall(r"(?<!\\)\((?!\?)([^()]*)\)", pattern)
    template = re.sub(r"(?<!\\)\([^()]*\)\??", "\0", pattern.removeprefix("^").removesuffix("$"))
    plain = re.sub(r"\\([^\w\s])", r"\1", template)
    used = re.split(r"\\(\d)", replacement)  # text, group, text, group ...
    numbers = [int(one) for one in used[1::2]]
    if re.search(r"\\\w|[\[\]*+|]", template) or len(set(numbers)) != len(numbers):
        return None
    if any(number > len(groups) for number in numbers):
        return None
    back = "".join(f"({groups[int(one) - 1]})" if odd % 2 else re.escape(one) for odd, one in enumerate(used))
    texts, theirs = plain.split("\0"), ""
    for number, text in enumerate(texts):  # a group that ours drops may be left out, or the check above says no
        place = rf"\g<{numbers.index(number) + 1}>" if number in numbers else ""
        theirs += place + text.replace("\\", r"\\")
    return ("^" if pattern.startswith("^") else "") + back, theirs
