"""Which networks a file of weights may be of, by the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from striate.errors import ModelError
from striate.models import create_model, entries, family_class
from striate.models.adapt import Fitted, fitted
from striate.models.naming import Naming
from striate.models.reference import OURS, misfits_of, renamed_key, unwrapped
from striate.spec import ModelEntry

_PARTS = ("stem.", "stages.", "head.", "auxiliary.")
_ENOUGH = 0.9  # of the file's keys must become names of ours for a family to be looked at closely
_FACTOR = 4  # more or fewer parameters than this cannot come from another head
_TRIED = 12  # networks that the nearest is looked for among
_NO_PARAMETERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A registered network and how the file fits it."""

    entry: ModelEntry
    fitted: Fitted


def recognised(state: Mapping[str, Any]) -> list[Candidate]:
    """Every registered network that the weights fit completely, with as few changes to it as can be.

    Raises:
        ModelError: they hold no tensors, or fit none; the message names the nearest network and its first misfits.
    """
    tensors = unwrapped(state)
    if not tensors:
        raise ModelError("the file holds no tensors", "weights are a state dict: names with tensors")
    count = sum(value.numel() for name, value in tensors.items() if not name.endswith(_NO_PARAMETERS))
    likely = [entry for entry in entries() if _speaks_of(entry, tensors)]
    # fully connected layers make the count follow the classes; a network of another size is another network
    near = [entry for entry in likely if count / _FACTOR <= entry.params <= count * _FACTOR] or likely
    found = [Candidate(entry=entry, fitted=one) for entry in near if (one := _fitted(entry, tensors)) is not None]
    complete = [one for one in found if one.fitted.fit.complete]
    if complete:
        fewest = min(map(_changed, complete))
        return [one for one in complete if _changed(one) == fewest]
    others = sorted(entries(), key=lambda entry: abs(entry.params - count))[:_TRIED] if not found else []
    found += [Candidate(entry=entry, fitted=one) for entry in others if (one := _fitted(entry, tensors)) is not None]
    nearest = min(found, key=lambda one: one.fitted.fit.misfits)
    first = ", ".join(list(tensors)[:3])
    raise ModelError(
        f"no registered network has these weights ({len(tensors)} tensors: {first} …); "
        f"nearest is {nearest.entry.name}: they {misfits_of(nearest.fitted.fit)}",
        "networks of timm and one's own are given with the file: timm:NAME:FILE, FILE.py:CLASS:FILE",
    )


def _speaks_of(entry: ModelEntry, tensors: Mapping[str, Tensor]) -> bool:
    """Whether one of the family's namings turns nearly all keys into names of ours; nothing is built for that."""
    family = family_class(entry)
    namings: tuple[Naming, ...] = (OURS, *family.namings(family.config_type(**entry.config)))
    return any(
        sum(renamed_key(naming, key).startswith(_PARTS) for key in tensors) >= _ENOUGH * len(tensors)
        for naming in namings
    )


def _changed(one: Candidate) -> int:
    """How many fields of the registered config these weights need otherwise: they may make it another network."""
    config = family_class(one.entry).config_type(**one.entry.config)
    return sum(getattr(config, key) != value for key, value in one.fitted.given.items() if key != "grid")


def _fitted(entry: ModelEntry, tensors: Mapping[str, Tensor]) -> Fitted | None:
    def make(**figures: Any) -> Any:
        return create_model(entry.name, **figures)

    try:
        return fitted(make, tensors)
    except ModelError:  # classes or channels that this network cannot have
        return None
