"""Long tables made short: neighbouring rows whose names begin alike become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

_SUMMED = ("params", "weights", "macs", "flops", "other_ops", "activation_bytes", "training_bytes")
_DEEPEST = 6


def fold(rows: Sequence[dict[str, Any]], depth: int) -> list[dict[str, Any]]:
    """Rows (`Layer.to_dict`) by the first `depth` parts of their names: counts summed, shape and field of the last."""
    groups: list[tuple[str, list[dict[str, Any]]]] = []
    for row in rows:
        head = ".".join(row["name"].split(".")[:depth])
        if groups and groups[-1][0] == head:
            groups[-1][1].append(row)
        else:
            groups.append((head, [row]))
    folded = []
    for head, members in groups:
        if len(members) == 1:
            folded.append(members[0])
            continue
        sums = {key: sum(row[key] for row in members) for key in _SUMMED}
        folded.append(members[-1] | sums | {"name": head, "op": _what(members)})
    return folded


def folded_to(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """As many rows as possible, but at most `most` if folding to two parts of the names suffices for that."""
    if len(rows) <= most:
        return list(rows)
    ways = (fold(rows, depth) for depth in range(_DEEPEST, 1, -1))
    return next((one for one in ways if len(one) <= most), fold(rows, 2))


def _what(members: Sequence[dict[str, Any]]) -> str:
    """What a folded row holds: its one convolution, or how many of which kind, else the number of layers."""
    counting = [row["op"] for row in members if row["macs"]]
    if len(counting) == 1:
        return counting[0]
    kinds = Counter("conv" if "conv" in op else op.split()[0] for op in counting)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or f"{len(members)} layers"
