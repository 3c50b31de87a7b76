"""Which side of the split an image is on: a pure function of its content, or of its group's name, and the split seed.

Every unit (a group, or the images of equal content) has a number in [0, 1) from its 128-bit hash and the seed. It goes
to val below the validation fraction, to test in the interval after that, otherwise to train. Hence:

- Files that are added, removed or renamed later never move another file between the sides.
- Groups are never divided, and identical files share a side (where groups are given, within a group).
- Shares of each class agree with the fraction up to chance: with n images of a class and fraction f, the number in val
  has a standard deviation of sqrt(n f (1 - f)). No rule that looks at other images could be closer and stay stable.

Two exceptions, for small sets only: of a class whose units would all be held out, the unit with the largest number
trains; and where nothing at all would be held out, the unit with the smallest number that its class can spare is.

Published sets do not grow. There units are ranked by the same number within each class and the ranks are divided,
which gives the exact share of each class.

Of several labels an image, an image counts for its rarest where it can count for one only.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from striate.data.scan import DIGEST_BYTES

Interval = tuple[float, float]


def unit_digests(digests: np.ndarray, groups: Sequence[str | None] | None) -> np.ndarray:
    """uint8 [n, 16]: the hash of each image's group, of its content where it has none."""
    if groups is None:
        return digests
    units = digests.copy()
    for row, group in zip(units, groups, strict=True):
        if group is not None:
            name = group.encode("utf-8", "surrogateescape")
            row[:] = np.frombuffer(blake2b(name, digest_size=DIGEST_BYTES, person=b"group").digest(), np.uint8)
    return units


def unit_numbers(units: np.ndarray, seed: int) -> np.ndarray:
    """float64 [n] in [0, 1): the number of each unit for this seed.

    SplitMix64's finaliser (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators") of the hash's
    first word moved by the seed.
    """
    words = np.ascontiguousarray(units).view("<u8")[:, 0].astype(np.uint64)
    words = words + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 & (2**64 - 1))
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return (words >> np.uint64(11)).astype(np.float64) / 2.0**53


def strata(targets: np.ndarray) -> np.ndarray:
    """int64 [n]: the class that each image counts for: its own, or the rarest of its labels; those without share one.

    Args:
        targets: int [n], or of several labels an image uint8 [n, classes].
    """
    if targets.ndim == 1:
        return targets
    counts = targets.sum(axis=0, dtype=np.int64)
    weights = np.where(targets > 0, counts, len(targets) + 1)
    rarest = weights.argmin(axis=1)
    return np.where(targets.any(axis=1), rarest, targets.shape[1]).astype(np.int64)


def _present(targets: np.ndarray) -> list[int]:
    """The classes that occur."""
    return (np.unique(targets) if targets.ndim == 1 else np.flatnonzero(targets.any(axis=0))).tolist()


def _having(targets: np.ndarray, target: int) -> np.ndarray:
    """The positions of the images of a class."""
    return np.flatnonzero(targets == target if targets.ndim == 1 else targets[:, target])


def ranked_numbers(numbers: np.ndarray, units: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float64 [n] in (0, 1): each unit's rank by number among those of its class, evenly spread.

    A unit with images of several classes counts for that of its first image.
    """
    targets = strata(targets)
    _, first, unit_of, sizes = np.unique(_as_keys(units), return_index=True, return_inverse=True, return_counts=True)
    ranked = np.empty(len(first))
    for target in np.unique(targets[first]):
        members = np.flatnonzero(targets[first] == target)
        members = members[np.argsort(numbers[first[members]], kind="stable")]
        middles = np.cumsum(sizes[members]) - sizes[members] / 2
        ranked[members] = middles / sizes[members].sum()
    return ranked[unit_of.reshape(-1)]


def by_number(numbers: np.ndarray, val: Interval, test: Interval) -> np.ndarray:
    """The side of each number: [n] of "train", "val", "test"; the bare rule, without the exceptions."""
    sides = np.full(len(numbers), "train")
    sides[(numbers >= test[0]) & (numbers < test[1])] = "test"
    sides[(numbers >= val[0]) & (numbers < val[1])] = "val"
    return sides


def assign(
    digests: np.ndarray,
    targets: np.ndarray,
    *,
    groups: Sequence[str | None] | None = None,
    seed: int = 0,
    val: Interval = (0.0, 0.2),
    test: Interval = (0.0, 0.0),
    exact: bool = False,
) -> np.ndarray:
    """The side of each image: [n] of "train", "val", "test".

    Args:
        digests: uint8 [n, 16], the content hashes.
        targets: int [n], the classes; of several labels an image uint8 [n, classes] of 0 and 1.
        groups: the group of each image, or None.
        seed: the split seed.
        val: the interval of [0, 1) that is held out for validation.
        test: the one held out for the final test.
        exact: rank within the classes, for sets that do not grow.
    """
    units = unit_digests(digests, groups)
    numbers = unit_numbers(units, seed)
    placed = ranked_numbers(numbers, units, targets) if exact and len(targets) else numbers
    sides = by_number(placed, val, test)
    keys = _as_keys(units)
    _keep_every_class_training(sides, keys, numbers, targets)
    if val[1] > val[0] and len(targets) and "val" not in sides:
        _hold_out_one(sides, keys, numbers, targets)
    return sides


def shares(targets: np.ndarray, digests: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """int [limit]: positions of `limit` images with the same share of each class, in their order, by content.

    Shares are rounded by largest remainder, and every class keeps one image where `limit` allows.
    """
    if limit >= len(targets):
        return np.arange(len(targets))
    if targets.ndim == 2:
        return _shares_of_several(targets, digests, limit, unit_numbers(digests, seed ^ 0x5EED))
    classes, counts = np.unique(targets, return_counts=True)
    numbers = unit_numbers(digests, seed ^ 0x5EED)  # another order than that of the split
    chosen = []
    for target, quota in zip(classes, quotas(counts, limit, least=int(limit >= len(classes))), strict=True):
        members = np.flatnonzero(targets == target)
        chosen.append(members[np.argsort(numbers[members], kind="stable")[:quota]])
    return np.sort(np.concatenate(chosen))


def quotas(counts: np.ndarray, limit: int, *, least: int = 0) -> np.ndarray:
    """int64 [classes]: how many of each class make `limit` of all, in proportion, the largest remainders rounded up.

    Args:
        counts: images of each class, int [classes], more than `limit` in all.
        limit: images to take.
        least: of each class, 0 or 1; 1 only where `limit` allows and every class has an image.
    """
    exact = counts * limit / counts.sum()
    found = np.maximum(np.floor(exact).astype(np.int64), least)
    for position in np.argsort(found - exact, kind="stable"):  # the most wronged first
        if found.sum() < limit and found[position] < counts[position]:
            found[position] += 1
    while found.sum() > limit:  # small classes were rounded up to 1: larger ones give
        found[np.argmax(np.where(found > 1, found - exact, -np.inf))] -= 1
    return found


def _shares_of_several(targets: np.ndarray, digests: np.ndarray, limit: int, numbers: np.ndarray) -> np.ndarray:
    """`shares` of several labels an image: one image of each label first, as far as that goes, then even shares."""
    chosen: list[int] = []
    for label in np.argsort(targets.sum(axis=0, dtype=np.int64), kind="stable").tolist():
        members = _having(targets, label)
        if len(members) and len(chosen) < limit and not targets[chosen, label].any():
            chosen.append(int(members[np.argmin(numbers[members])]))
    placed = ranked_numbers(numbers, digests, targets)
    placed[chosen] = -1.0
    return np.sort(np.argsort(placed, kind="stable")[:limit])


def _as_keys(units: np.ndarray) -> np.ndarray:
    """One comparable value for each hash: its first 64 bits, which are what the numbers come from."""
    return np.ascontiguousarray(units).view("<u8")[:, 0]


def _keep_every_class_training(sides: np.ndarray, keys: np.ndarray, numbers: np.ndarray, targets: np.ndarray) -> None:
    trained = set(_present(targets[sides == "train"]))
    for target in _present(targets):
        if target not in trained:
            members = _having(targets, target)
            last = members[np.argmax(numbers[members])]
            moved = keys == keys[last]
            sides[moved] = "train"
            trained.update(_present(targets[moved]))


def _hold_out_one(sides: np.ndarray, keys: np.ndarray, numbers: np.ndarray, targets: np.ndarray) -> None:
    """Move the unit with the smallest number to val, of those that leave their classes something to train on."""
    for position in np.argsort(numbers, kind="stable"):
        if sides[position] != "train":
            continue
        unit = keys == keys[position]
        rest = targets[(sides == "train") & ~unit]
        if set(_present(targets[unit])) <= set(_present(rest)):
            sides[unit] = "val"
            return
