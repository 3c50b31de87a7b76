"""A network made to measure for weights that are there: what they say about it, and what is changed and said.

Classes and channels are read off the shapes of the tensors. Who asks for other classes gets a head that keeps what the
weights know of them and is new for the rest, for other channels a first layer whose weights follow from those that are
there; both are reported. All else must fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from striate.errors import ModelError
from striate.models.base import ConvNet
from striate.models.reference import Fit, fit_state, misfits_of

Make = Callable[..., ConvNet]  # make(classes=, in_channels=, start=, and any field of the config)
_GRIDS = range(1, 16)  # sides of the map that fully connected layers may read


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapted:
    """A network with its weights, and what had to be changed for it."""

    model: ConvNet
    fit: Fit  # of the weights to the network that they were made for
    classes: int  # of the weights
    in_channels: int
    changes: tuple[str, ...]  # a line for each adaptation


def adapted(
    make: Make,
    state: Mapping[str, Any],
    *,
    classes: int | None = None,
    in_channels: int | None = None,
    rows: Sequence[int | None] | None = None,
    blue_first: bool = False,
) -> Adapted:
    """The network that `make` builds with the weights of `state`.

    Args:
        make: builds the network; `classes` and `in_channels` None mean its own.
        state: a state dict in any naming of the network's family.
        classes: None for those of the weights; another number starts a new head, unless `rows` says what is kept.
        in_channels: None for those of the weights; another number adapts the first layer.
        rows: for each class which class of the weights it is, None for one that they do not know.
        blue_first: the three channels of the weights are blue, green, red; those of another number follow red first.

    Raises:
        ModelError: the weights are not of this network; the message names the first that do not fit. Or they are, and
            it cannot have other classes.
    """
    found = fitted(make, state)
    fit, measure = found.fit, found.measure
    if not fit.complete:
        raise ModelError(
            f"these are not weights of {found.name}: they {misfits_of(fit)}",
            "give the network that they are of: MODEL:FILE, or the FILE alone to have it recognised",
        )
    wanted = {
        "classes": measure["classes"] if classes is None else classes,
        "in_channels": measure["in_channels"] if in_channels is None else in_channels,
    }
    if rows is None and wanted["classes"] != measure["classes"]:
        rows = [None] * wanted["classes"]
    new_head = rows is not None and list(rows) != list(range(measure["classes"]))
    if new_head and not found.by_classes:
        raise ModelError(
            f"{found.name} has no layer whose shape follows from the classes: it stays with those it was trained on",
            "let its class take `classes`, and train it again",
        )
    changes, given = list(found.changes), dict(found.given)
    lacking = [name for name in fit.no_auxiliary if name in found.own]
    if lacking and "auxiliary" in found.config_fields:
        given["auxiliary"] = False
        changes.append("no auxiliary heads: the weights have none")
        lacking = []
    elif lacking:
        changes.append("new auxiliary heads, started randomly: the weights have none")
    elif fit.no_auxiliary:
        changes.append("the auxiliary heads of the weights are left out")
    model = make(start=new_head or bool(lacking), **wanted, **given)
    tensors = dict(fit.tensors)
    if rows is not None and new_head:
        heads = {name: tensors.pop(name) for name in found.by_classes if name in tensors}
        rows = rows if found.row_for_each_class else [None] * len(rows)
        tensors |= _rows_kept(model, heads, rows) if any(row is not None for row in rows) else {}
        changes.append(_head_line(rows, measure["classes"]))
    if wanted["in_channels"] != measure["in_channels"]:
        turned = blue_first and measure["in_channels"] == 3
        for name in found.by_channels:
            weight = tensors[name].flip(1) if turned else tensors[name]
            tensors[name] = other_channels(weight, wanted["in_channels"])
        if not found.by_channels:
            raise ModelError(f"{found.name} has no first layer that takes another number of channels")
        changes.append(
            f"first layer for {wanted['in_channels']} channels from one for {measure['in_channels']}: "
            f"{_channel_rule(measure['in_channels'], wanted['in_channels'])}"
            f"{', red first' if turned and wanted['in_channels'] > 1 else ''}"
        )
    own = model.state_dict()
    model.load_state_dict({**own, **{name: tensor for name, tensor in tensors.items() if name in own}})
    return Adapted(model=model, fit=fit, changes=tuple(changes), **measure)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """How weights fit a network, before any memory is taken for it."""

    name: str
    fit: Fit
    measure: dict[str, int]  # classes and in_channels of the weights
    given: dict[str, Any]  # fields of the config that they need
    changes: tuple[str, ...]
    by_classes: Mapping[str, tuple[int, int, int]]  # what has a shape that follows from the classes, see `_following`
    by_channels: tuple[str, ...]
    own: frozenset[str]
    config_fields: frozenset[str]

    @property
    def row_for_each_class(self) -> bool:
        """Whether the classifiers have a row for each class and no others, so that what they know can be moved."""
        return bool(self.by_classes) and all(step == (0, 1, 0) for step in self.by_classes.values())


def fitted(make: Make, state: Mapping[str, Any]) -> Fitted:
    """Fit `state` to the network with the classes, channels and grid that its tensors say. Nothing is allocated."""
    with torch.device("meta"):
        plain = make(start=False)
        record = plain.architecture
        by_classes = _following(make, plain, "classes")
        by_channels = _following(make, plain, "in_channels")
        fit = fit_state(plain, state)
        measure = {
            "classes": _read_off(fit, by_classes, record.classes),
            "in_channels": _read_off(fit, by_channels, record.in_channels),
        }
        known = {item.name for item in fields(plain.config_type)}
        given = {key: value for key, value in fit.naming.variations.items() if key in known}
        model = make(start=False, **measure, **given)
        fit = fit_state(model, state)
        changes: tuple[str, ...] = ()
        if not fit.complete and fit.reshaped and "grid" in known and record.config["grid"] is None:
            for side in _GRIDS:
                gridded = make(start=False, **measure, **{**given, "grid": side})
                other = fit_state(gridded, state)
                if other.complete:
                    model, fit, given = gridded, other, {**given, "grid": side}
                    changes = (f"the last maps are averaged to {side}x{side}, which the weights are made for",)
                    break
    return Fitted(
        name=record.name, fit=fit, measure=measure, given=given, changes=changes,
        by_classes=by_classes, by_channels=tuple(by_channels), own=frozenset(model.state_dict()),
        config_fields=frozenset(known),
    )  # fmt: skip


def _rows_kept(model: ConvNet, heads: Mapping[str, Tensor], rows: Sequence[int | None]) -> dict[str, Tensor]:
    """The classifiers of `model` with the rows of `heads` for the classes that are kept, their own start for others."""
    kept = [new for new, old in enumerate(rows) if old is not None]
    theirs = [old for old in rows if old is not None]
    fixed = dict(model.named_buffers())
    grown = {}
    for name, start in model.state_dict().items():
        if name not in heads:
            continue
        tensor = start.clone()
        tensor[kept] = heads[name][theirs].to(start)
        if name in fixed and start.ndim > 1:  # codes that are not learnt: no two classes may have the same
            taken = {tuple(row) for row in tensor[kept].flatten(1).tolist()}
            free = [row for row in start if tuple(row.flatten().tolist()) not in taken]
            new = [number for number, old in enumerate(rows) if old is None]
            for number, row in zip(new, free, strict=False):
                tensor[number] = row
        grown[name] = tensor
    return grown


def _head_line(rows: Sequence[int | None], theirs: int) -> str:
    """What became of the head, in words."""
    kept = sum(row is not None for row in rows)
    if not kept:
        return f"new head for {len(rows)} classes, started randomly: the weights have {_others(len(rows), theirs)}"
    if kept < len(rows):
        return f"head for {len(rows)} classes: {kept} kept from the weights, {len(rows) - kept} new, started randomly"
    if len(rows) == theirs:
        return f"head for {theirs} classes: those of the weights, in another order"
    return f"head for {len(rows)} classes: all kept from the weights, which have {theirs}"


def _others(wanted: int, theirs: int) -> str:
    return str(theirs) if wanted != theirs else "others"


def other_channels(weight: Tensor, channels: int) -> Tensor:
    """First-layer weights [out, in, h, w] for another number of input channels.

    Channel i takes the weights of channel i mod in, times in / channels, so that the sum over the inputs keeps its
    size. For one grey channel it is the sum over the colours: what the network would see if grey were shown as three
    equal colours.
    """
    there = weight.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    order = torch.arange(channels) % there
    return weight[:, order] * (there / channels)


def _channel_rule(there: int, wanted: int) -> str:
    if wanted == 1:
        return "its weights summed over the channels"
    return f"its weights repeated over the channels, times {there}/{wanted}"


def _following(make: Make, plain: ConvNet, figure: str) -> dict[str, tuple[int, int, int]]:
    """Parameters whose shape follows from `figure`: (dimension, factor, rest), size = factor * figure + rest."""
    value = getattr(plain.architecture, figure)
    try:
        other = make(start=False, **{figure: value + 1}).state_dict()
    except ModelError:  # it cannot be another: one's own class that takes no such argument
        return {}
    found = {}
    for name, tensor in plain.state_dict().items():
        if name in other and other[name].shape != tensor.shape and tensor.ndim == other[name].ndim:
            sizes = zip(tensor.shape, other[name].shape, strict=True)
            dim, size, factor = next((i, one, two - one) for i, (one, two) in enumerate(sizes) if one != two)
            found[name] = (dim, factor, size - factor * value)
    return found


def _read_off(fit: Fit, following: dict[str, tuple[int, int, int]], usual: int) -> int:
    """The figure that the file's tensors have, the last head's deciding; `usual` where nothing says."""
    votes = []
    for name, (dim, factor, rest) in following.items():
        tensor = fit.renamed.get(name)
        if tensor is not None and not name.startswith("auxiliary."):
            shape = [size for size in tensor.shape if size != 1] if tensor.ndim > 3 and dim == 0 else list(tensor.shape)
            if dim < len(shape) and factor > 0 and shape[dim] > rest and (shape[dim] - rest) % factor == 0:
                votes.append((shape[dim] - rest) // factor)
    return votes[-1] if votes else usual
