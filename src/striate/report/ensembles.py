"""Several networks that answered together: each alone, what it adds to the others, and the order one takes them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from striate.errors import CheckpointError
from striate.report.charts import Series, line_chart
from striate.report.figures import digits_for, finite, number, percent, points, thousands
from striate.runfolder import RunFolder, read_json

SURE = 0.05


def ensemble(one: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The members of an evaluation, under its name on the page; None of one network's.

    Args:
        one: an evaluation as `striate evaluate` keeps it.
        name: what to call it.
    """
    members = one.get("members")
    if not members:
        return None
    digits, greedy = digits_for(int(one["n"])), one.get("greedy") or []
    steps = [(place, row["top1"]) for place, row in enumerate(greedy, start=1)]
    each = {row["name"]: row["top1"] for row in members}
    alone = [(place, each[row["name"]]) for place, row in enumerate(greedy, start=1)]
    chart = line_chart(
        f"Networks joined one by one, {name}",
        [Series("all so far", steps, "run0"), Series("the one that joins, alone", alone, "run1")],
        x_label="networks", form=lambda share: percent(share, 1), log=False, close=True,
        note="top-1; the one that helps most first",
    )  # fmt: skip
    return {
        "name": name,
        "chart": chart if len(steps) > 1 else "",
        "rows": [_row(row, digits) for row in members],
        "facts": _facts(one, digits),
        "words": _words(one, digits),
        "soup": _soup(one.get("soup"), digits),
        "count": len(members),
    }


def of_runs(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """The ensembles that these runs make, kept beside their folders."""
    names = {run.resolve().name for run in runs}
    found = []
    for folder in dict.fromkeys(run.resolve().parent for run in runs):
        for file in RunFolder(folder).evaluation_files:
            try:
                one = read_json(file)
            except CheckpointError:
                continue
            members = one.get("members") if isinstance(one, dict) else None
            if not members or any(not row.get("run") or Path(row["run"]).name not in names for row in members):
                continue
            if (shown := ensemble(one, f"{one.get('data')} {one.get('split')} ({file.stem})")) is not None:
                found.append(shown)
    return found


def _row(row: Mapping[str, Any], digits: int) -> dict[str, Any]:
    adds, without = row["adds"], row["without"]
    low, high = row["top1_interval"]
    return {
        "name": _shown(row["name"]),
        "model": str(row.get("model") or ""),
        "top1": percent(row["top1"], digits),
        "top1_value": row["top1"],
        "interval": f"{100 * low:.{digits}f} – {percent(high, digits)}",
        "loss": number(finite(row["loss"]), zeros=True),
        "without": percent(without["top1"], digits),
        "without_value": without["top1"],
        "adds": points(adds["difference"], digits),
        "adds_value": adds["difference"],
        "adds_interval": f"{points(adds['low'], digits).removesuffix(' points')} to {points(adds['high'], digits)}",
        "p": "below 0.001" if adds["p_adjusted"] < 0.001 else f"{adds['p_adjusted']:.3f}",
        "sure": adds["p_adjusted"] < SURE,
    }


def _facts(one: Mapping[str, Any], digits: int) -> list[tuple[str, str]]:
    low, high = one.get("top1_interval") or (None, None)
    facts = [("top-1 of all together", percent(one["top1"], digits))]
    if low is not None:
        facts.append(("95 % interval", f"{100 * low:.{digits}f} – {percent(high, digits)}"))
    over = one["over_best"]
    facts += [
        ("over the best member", points(over["difference"], digits)),
        ("loss", number(finite(one.get("loss")), zeros=True)),
        ("images", thousands(one["n"])),
    ]
    return facts


def _words(one: Mapping[str, Any], digits: int) -> str:
    """Whether the whole is more than its best part, and whether all parts are needed."""
    over, best = one["over_best"], _shown(one["best_member"])
    ahead = points(abs(over["difference"]), digits)
    if over["p"] >= SURE:
        words = f"Together the networks are not surely better than {best} alone ({ahead} apart, p = {over['p']:.2g})."
    else:
        words = f"Together the networks are {ahead} {'ahead of' if over['difference'] > 0 else 'behind'} {best} alone."
    sure = [row for row in one["members"] if row["adds"]["p_adjusted"] < SURE]
    worse = [_shown(row["name"]) for row in sure if row["adds"]["difference"] < 0]
    missed = [_shown(row["name"]) for row in sure if row["adds"]["difference"] > 0]
    words += f" The others fare better without {', '.join(worse)}." if worse else ""
    if not missed:
        return words + " None of them is surely missed by the others."
    return words + (f" Surely missed by the others: {', '.join(missed)}." if len(missed) < len(one["members"]) else "")


def _soup(soup: Mapping[str, Any] | None, digits: int) -> dict[str, Any] | None:
    if not soup:
        return None
    low, high = soup.get("top1_interval") or (None, None)
    facts = [
        ("top-1", percent(soup["top1"], digits)),
        ("95 % interval", f"{100 * low:.{digits}f} – {percent(high, digits)}" if low is not None else "–"),
        ("weights of", f"{len(soup['kept'])} of {len(soup['kept']) + len(soup['left_out'])}"),
    ]
    if soup.get("behind_ensemble"):
        facts.append(("ahead of it, all together", points(soup["behind_ensemble"]["difference"], digits)))
    return {"facts": facts, "by": soup["by"], "kept": ", ".join(map(_shown, soup["kept"]))}


def _shown(name: str) -> str:
    """A network by the last part of its path, as the page is for other machines, too; snapshots with their run."""
    path = Path(name)
    return path.name if path.is_absolute() else name
