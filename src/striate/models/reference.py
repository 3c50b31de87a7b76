"""Weights of the reference implementations, by renaming their keys to ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from striate.errors import ModelError
from striate.models.base import ConvNet


def load_reference(model: ConvNet, state: Mapping[str, Any]) -> None:
    """Load a state dict in the naming of the family's reference implementation (see `REFERENCE_NAMES` in its file).

    A checkpoint that holds it under `state_dict`, and the prefix `module.` of data-parallel training, are understood.

    Raises:
        ModelError: keys that are missing or left over, or tensors of another shape; nothing is loaded then.
    """
    own = model.state_dict()
    renamed = {_rename(model, key): tensor for key, tensor in _unwrapped(state).items()}
    missing = [key for key in own if key not in renamed and not key.endswith("num_batches_tracked")]
    extra = [key for key in renamed if key not in own]
    shapes = [key for key in own if key in renamed and own[key].shape != renamed[key].shape]
    for what, keys in (("lack", missing), ("have besides", extra), ("have in another shape", shapes)):
        if keys:
            raise ModelError(
                f"these are not weights of {model.architecture.name}: they {what} {', '.join(keys[:4])}"
                + (f" and {len(keys) - 4} more" if len(keys) > 4 else ""),
                "build the network with the classes, channels and input size that the weights are of",
            )
    model.load_state_dict({**own, **renamed})


def _unwrapped(state: Mapping[str, Any]) -> dict[str, Tensor]:
    inner = state.get("state_dict", state)
    prefix = "module." if all(key.startswith("module.") for key in inner) else ""
    return {key.removeprefix(prefix): tensor for key, tensor in inner.items()}


def _rename(model: ConvNet, key: str) -> str:
    for pattern, replacement in model.reference_names:
        key = re.sub(pattern, replacement, key)
    return key
