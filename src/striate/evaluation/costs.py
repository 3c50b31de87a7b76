"""What mistakes cost: a table of costs, and the decisions that are cheapest by the probabilities."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

from striate.errors import DataError, UsageError
from striate.metrics.ranking import best_decisions, mean_cost
from striate.spec import Labels

REJECT = "reject"  # the column of giving no answer


def read_costs(path: str | Path, labels: Labels) -> np.ndarray:
    """A CSV table of costs as [C, C], or [C, C + 1] where it has a column `reject`, in the order of `labels`.

    The header names the decisions after its first cell, each row the truth and then the cost of every decision; classes
    in any order.

    Raises:
        UsageError: the network gives an image any number of labels.
        DataError: the file cannot be read, or does not hold a number for each pair of classes.
    """
    if labels.multi_label:
        raise UsageError(
            "--costs weigh one class against another; this network gives an image any number of labels",
            "leave it out; --json has for each label the thresholds of a wanted precision or recall",
        )
    hint = "the header names the decisions (and `reject`, if that may be one), each row a truth and its costs"
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            header, *rows = [row for row in csv.reader(file) if row]
        costs = {row[0]: dict(zip(header[1:], map(float, row[1:]), strict=True)) for row in rows}
    except OSError as error:
        raise DataError(f"cannot read the costs in {path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, IndexError, csv.Error) as error:
        raise DataError(f"cannot read the costs in {path}: {error}", hint) from error
    decisions = [*labels.names, *([REJECT] if REJECT in header and REJECT not in labels.names else [])]
    lacking = sorted({*labels.names} - {*costs}) or sorted({*decisions} - {*header[1:]})
    unknown = sorted(({*costs} - {*labels.names}) | ({*header[1:]} - {*decisions}))
    if lacking or unknown:
        what = f"lack {', '.join(lacking[:5])}" if lacking else f"have {', '.join(unknown[:5])}, which is no class"
        raise DataError(f"the costs in {path} {what}", hint)
    matrix = np.array([[costs[truth][decision] for decision in decisions] for truth in labels.names])
    if not all(map(math.isfinite, matrix.flat)):
        raise DataError(f"the costs in {path} are not all finite numbers", hint)
    return matrix


def cost_of(probabilities: np.ndarray, targets: np.ndarray, costs: np.ndarray) -> dict[str, Any]:
    """The mean cost of the likeliest class, `mean_likeliest`, and of the cheapest decision, `mean_cheapest`.

    `changed` counts the images where the two differ, `rejected` those that get no answer. Probabilities are [n, C].
    """
    likeliest = np.asarray(probabilities).argmax(axis=1)
    cheapest = best_decisions(probabilities, costs)
    return {
        "n": len(targets),
        "mean_likeliest": mean_cost(targets, likeliest, costs) if len(targets) else None,
        "mean_cheapest": mean_cost(targets, cheapest, costs) if len(targets) else None,
        "changed": int((likeliest != cheapest).sum()),
        "rejected": int((cheapest == len(costs)).sum()),
    }
