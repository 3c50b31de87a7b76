"""The registered architectures: literal tables, a file for each line of networks. Importing this needs no torch.

Names are the ids of the field's systems in lower case. `params` and `macs` are counts of our own networks, checked by a
test that counts again; `published` holds what papers and publishers of weights state, errors in per cent.
"""

from __future__ import annotations

from functools import cache

from striate.errors import UnknownNameError
from striate.models.registry import airbench, alexnet, compact, googlenet, inception, lenet, mobile, resnet, vgg
from striate.models.sources import foreign_entry, is_foreign
from striate.spec import ModelEntry

# By year of the first network of each line; our own come last.
_TABLE: tuple[ModelEntry, ...] = (
    *lenet.TABLE,
    *alexnet.TABLE,
    *vgg.TABLE,
    *googlenet.TABLE,
    *inception.TABLE,
    *resnet.TABLE,
    *mobile.TABLE,
    *airbench.TABLE,
    *compact.TABLE,
)


def entries() -> tuple[ModelEntry, ...]:
    """Every registered architecture, in the table's order."""
    return _TABLE


def find_entry(name: str) -> ModelEntry:
    """The architecture called `name`, or having it as alias; letter case does not matter.

    For `timm:NAME` and `FILE.py:CLASS` it is what can be said without building them.

    Raises:
        UnknownNameError: answered with the nearest names.
    """
    if is_foreign(name):
        return foreign_entry(name)
    known = _by_name()
    if name.lower() not in known:
        raise UnknownNameError("model", name, known)
    return known[name.lower()]


@cache
def _by_name() -> dict[str, ModelEntry]:
    """Names and aliases; a name wins over an alias, two of a kind are a mistake in the table."""
    names = {entry.name: entry for entry in _TABLE}
    aliases = {alias: entry for entry in _TABLE for alias in entry.aliases}
    assert len(names) == len(_TABLE), "a name is registered twice"
    assert len(aliases) == sum(len(entry.aliases) for entry in _TABLE), "an alias is registered twice"
    return aliases | names
