"""The members of an ensemble in lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TWO_QUESTIONS = (
    "an interval and its p-value answer two questions: the interval (bootstrap over images) how large the difference "
    "is, p (McNemar's exact test) whether there is one at all; whether one is better, p decides: below 0.05"
)
_SURE = 0.05
_LONGEST = 40  # characters of a member's name


def ensemble_lines(ensemble: Mapping[str, Any]) -> list[str]:
    """Each member alone and what it adds, the order in which one would take them, and the soup; [] of one network."""
    members = ensemble.get("members", ())
    if not members:
        return []
    width = max(6, *(len(_short(row["name"])) for row in members))
    lines = ["", f"{'member':<{width}}  top-1    loss  without it  it adds (95 % interval)        p"]
    for row in members:
        adds = row["adds"]
        lines.append(
            f"{_short(row['name']):<{width}} {row['top1']:6.2%} {row['loss']:7.4f} {row['without']['top1']:11.2%}  "
            f"{_points(adds):<28} {adds['p_adjusted']:.2g}"
        )
    over = ensemble["over_best"]
    best = _short(ensemble["best_member"])
    lines.append(f"all together over the best of them, {best}: {_points(over)} points, p = {over['p']:.2g}")
    if any(disagree(row, row.get("p_adjusted", row["p"])) for row in (*(one["adds"] for one in members), over)):
        lines.append(TWO_QUESTIONS)
    steps = [f"{_short(row['name'])} {row['top1']:.2%}" for row in ensemble["greedy"]]
    lines.append(f"one after the other, the one that helps most first: {', '.join(steps)}")
    soup = ensemble.get("soup")
    if soup is not None:
        lines += _soup_lines(soup)
    return lines


def _soup_lines(soup: Mapping[str, Any]) -> list[str]:
    total = len(soup["kept"]) + len(soup["left_out"])
    interval = soup["top1_interval"]
    around = f" ({interval[0]:.2%} to {interval[1]:.2%})" if interval is not None else ""
    statistics = f"; batch norm's statistics from {soup['statistics_images']} training images" * bool(
        soup["statistics_images"]
    )
    kept = ", ".join(map(_short, soup["kept"]))
    return [
        f"soup, {soup['by']}, of the weights of {len(soup['kept'])} of {total} ({kept}): "
        f"top-1 {soup['top1']:.2%}{around}, loss {soup['loss']:.4f}{statistics}; written to {soup['file']}"
    ]


def _points(pair: Mapping[str, Any]) -> str:
    """A paired difference in percentage points."""
    return f"{100 * pair['difference']:+.2f} ({100 * pair['low']:+.2f} to {100 * pair['high']:+.2f})"


def disagree(pair: Mapping[str, Any], p: float) -> bool:
    """Whether the interval leaves out 0 where the test finds nothing, or holds it where the test finds something."""
    return (pair["low"] > 0 or pair["high"] < 0) != (p < _SURE)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else "…" + name[1 - _LONGEST :]
