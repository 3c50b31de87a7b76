"""Which networks a file of weights may be of, by the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from striate.errors import ModelError
from striate.models import create_model, entries, family_class
from striate.models.adapt import Fitted, fitted
from striate.models.naming import Naming
from striate.models.reference import OURS, misfits_of, renamed_key, tensors_of, variants
from striate.spec import ModelEntry

_PARTS = ("stem.", "stages.", "head.", "auxiliary.")
_ENOUGH = 0.9  # of the file's keys must become names of ours for a family to be looked at closely
_FACTOR = 4  # more or fewer parameters than this cannot come from another head
_TRIED = 12  # networks that the nearest is looked for among
_NO_PARAMETERS = ("running_mean", "running_var", "num_batches_tracked")


_IN_TRAINING = ("dropout",)  # what makes no other network of it in evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A registered network and how the file fits it."""

    entry: ModelEntry
    fitted: Fitted

    @property
    def network(self) -> tuple[str, dict[str, Any]]:
        """What is built for these weights: the class and its config, whatever the name and the input size."""
        config = {**_registered(self.entry), **self.fitted.given}
        return self.entry.build, {key: value for key, value in config.items() if key not in _IN_TRAINING}

    @property
    def changes(self) -> int:
        """How many fields of the registered config these weights need otherwise."""
        config = _registered(self.entry)
        return sum(config[key] != value for key, value in self.fitted.given.items() if key != "grid")


def recognised(state: Mapping[str, Any]) -> list[Candidate]:
    """Every network that the weights fit completely, by the registered name that needs the fewest changes.

    Networks that the publisher of this naming ships come alone, where there are any.

    Raises:
        ModelError: they hold no tensors, or fit none; the message names the nearest network and its first misfits.
    """
    tensors = tensors_of(state)
    count = sum(value.numel() for name, value in tensors.items() if not name.endswith(_NO_PARAMETERS))
    likely = [entry for entry in entries() if _speaks_of(entry, tensors)]
    # fully connected layers make the count follow the classes; a network of another size is another network
    near = [entry for entry in likely if count / _FACTOR <= entry.params <= count * _FACTOR] or likely
    found = [Candidate(entry=entry, fitted=one) for entry in near if (one := _fitted(entry, tensors)) is not None]
    complete = [one for one in found if one.fitted.fit.complete]
    if complete:
        shipped = [one for one in complete if one.fitted.fit.naming.shipped]
        return _distinct(shipped or complete)
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
        sum(renamed_key(naming, key).startswith(_PARTS) for key in keys) >= _ENOUGH * len(keys)
        for keys in variants(tensors)
        for naming in namings
    )


def _distinct(complete: list[Candidate]) -> list[Candidate]:
    """Of names that come to the same network, those with the fewest changes, of the size that the weights are fed."""
    kept: list[Candidate] = []
    for one in complete:
        same = [other for other in complete if other.network == one.network]
        fed = one.fitted.fit.naming.input
        fewest = [other for other in same if other.changes == min(each.changes for each in same)]
        sized = [other for other in fewest if fed is not None and other.entry.input.size == fed.size]
        if one in (sized or fewest):
            kept.append(one)
    return sorted(kept, key=lambda one: (not _published(one.entry), one.changes))


def _published(entry: ModelEntry) -> bool:
    """Whether anybody ships weights of it."""
    family = family_class(entry)
    return any(naming.shipped for naming in family.namings(family.config_type(**entry.config)))


def _registered(entry: ModelEntry) -> dict[str, Any]:
    """Every field of the config."""
    return asdict(family_class(entry).config_type(**entry.config))


def fitted_to(entry: ModelEntry, tensors: Mapping[str, Any]) -> Candidate | None:
    """The network with weights that fit it completely, or None."""
    one = _fitted(entry, tensors)
    return Candidate(entry=entry, fitted=one) if one is not None and one.fit.complete else None


def _fitted(entry: ModelEntry, tensors: Mapping[str, Any]) -> Fitted | None:
    def make(**figures: Any) -> Any:
        return create_model(entry.name, **figures)

    try:
        return fitted(make, tensors)
    except ModelError:  # classes or channels that this network cannot have
        return None
