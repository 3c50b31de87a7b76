"""Which images an epoch shows, and in which order: pure functions of (seed, epoch)."""

from __future__ import annotations

import numpy as np

from striate.data.draws import permutation


def shuffled_order(positions: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """int64 [n]: every one of `positions` once."""
    return positions[permutation(len(positions), seed, epoch)]


def balanced_order(positions: np.ndarray, targets: np.ndarray, length: int, seed: int, epoch: int) -> np.ndarray:
    """int64: as many images of each class, n / classes rounded each; about as many in all as there are `positions`.

    Within a class images take turns: none is shown a time more than another may be. The k-th showing of an image in one
    epoch (k from 0) is given as ``position + k * length``, `length` being that of the split, so that each showing has
    draws of its own.

    Args:
        positions: int64 [n], the readable images' places in the split.
        targets: int64 [length], classes of the whole split.
    """
    classes = np.unique(targets[positions])
    quota = balanced_quota(positions, targets)
    parts = []
    for label in classes:
        members = positions[targets[positions] == label]
        turns, rest = divmod(quota, len(members))
        parts.extend(members + turn * length for turn in range(turns))
        chosen = permutation(len(members), seed, epoch, f"balance/{label}")[:rest]
        parts.append(members[chosen] + turns * length)
    order = np.concatenate(parts) if parts else positions
    return order[permutation(len(order), seed, epoch)]


def balanced_quota(positions: np.ndarray, targets: np.ndarray) -> int:
    """How often `balanced_order` shows each class."""
    return max(1, round(len(positions) / max(1, len(np.unique(targets[positions])))))
