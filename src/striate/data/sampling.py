"""Which images an epoch shows, and in which order: pure functions of (seed, epoch)."""

from __future__ import annotations

import numpy as np

from striate.data.draws import permutation
from striate.data.split import strata


def balanced_order(targets: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """int64: the images of an epoch that shows every class equally often, `balanced_quota` times, in random order.

    Within a class images take turns: none is shown a second time before all were. The k-th showing of an image in one
    epoch (k from 0) is given as ``index + k * n``, so that each showing has draws of its own.

    Args:
        targets: int64 [n], the classes of the split's images; of several labels an image uint8 [n, classes], where an
            image counts as one of its rarest label, and those without labels as a class of their own.
    """
    targets = strata(targets)
    quota = balanced_quota(targets)
    parts = []
    for label in np.unique(targets):
        members = np.flatnonzero(targets == label)
        turns, rest = divmod(quota, len(members))
        parts.extend(members + turn * len(targets) for turn in range(turns))
        chosen = permutation(len(members), seed, epoch, f"balance/{label}")[:rest]
        parts.append(members[chosen] + turns * len(targets))
    order = np.concatenate(parts)
    return order[permutation(len(order), seed, epoch)]


def balanced_quota(targets: np.ndarray) -> int:
    """How often `balanced_order` shows each class: with about as many images in all as the split has."""
    return max(1, round(len(targets) / len(np.unique(strata(targets)))))
