"""The architectures: one file per family, one literal registry. Listing them needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.models.build import create_model as create_model
from striate.models.build import family_class as family_class
from striate.models.build import rebuild as rebuild
from striate.models.registry import entries as entries
from striate.models.registry import find_entry as find_entry

if TYPE_CHECKING:
    from striate.models.base import Architecture as Architecture
    from striate.models.base import ConvNet as ConvNet
    from striate.models.base import Outputs as Outputs
    from striate.models.reference import load_reference as load_reference

_LATER = {  # these import torch, so on first use only
    "Architecture": "striate.models.base",
    "ConvNet": "striate.models.base",
    "Outputs": "striate.models.base",
    "load_reference": "striate.models.reference",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)
