"""Rules about the data: the splits beside each other, the classes, what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from striate.report.evidence import Evidence, Finding, class_list, share_of
from striate.report.figures import chi_square, number, percent, points, thousands, total_variation

SHIFT = 0.05  # total variation between the class shares of two splits
SIGNIFICANT = 0.001  # p-value of the chi-square test below which a difference is no accident
IMBALANCE = 5.0  # largest class over smallest
STRONG_IMBALANCE = 20.0
UNREADABLE = 0.01  # share of files left out


def label_shift(evidence: Evidence) -> Iterator[Finding]:
    """The classes are mixed differently in two splits, beyond chance."""
    splits = evidence.counts.splits if evidence.counts else {}
    if "train" not in splits:
        return
    for name in ("val", "test"):
        if name not in splits:
            continue
        distance = total_variation(splits["train"], splits[name])
        test = chi_square(splits["train"], splits[name])
        if distance < SHIFT or test.p >= SIGNIFICANT:
            continue
        train_share = splits["train"] / splits["train"].sum()
        difference = splits[name] / splits[name].sum() - train_share
        most = int(np.abs(difference).argmax())
        word = "more" if difference[most] > 0 else "less"
        yield Finding(
            "attention",
            f"Label shift between train and {name}",
            f"The classes are not mixed alike: {percent(distance)} of the {name} images would have to change class to "
            f"match the training set, “{evidence.counts.classes[most]}” most of all "  # type: ignore[union-attr]
            f"({points(abs(difference[most]))} {word}). Read balanced accuracy beside top-1.",
            {
                "total variation": percent(distance),
                "chi-square": f"{number(test.statistic)} at {test.degrees} degrees of freedom",
                "p": "< 0.001" if test.p < 0.001 else number(test.p),
            },
        )


def missing_classes(evidence: Evidence) -> Iterator[Finding]:
    """Classes that one split has and another lacks."""
    counts = evidence.counts
    if counts is None or "train" not in counts.splits:
        return
    train = counts.splits["train"]
    for name in ("val", "test"):
        if name not in counts.splits:
            continue
        held_out = counts.splits[name]
        unlearned = [counts.classes[i] for i in np.flatnonzero((train == 0) & (held_out > 0))]
        unscored = [counts.classes[i] for i in np.flatnonzero((train > 0) & (held_out == 0))]
        if unlearned:
            yield Finding(
                "problem",
                f"{evidence.units.capitalize()} without training images",
                f"{class_list(unlearned)}: there are images in {name} and none to learn from, so all of them must be "
                "mistakes.",
                {evidence.units: str(len(unlearned)), f"images in {name}": thousands(held_out[train == 0].sum())},
            )
        if unscored:
            yield Finding(
                "attention",
                f"{evidence.units.capitalize()} missing in {name}",
                f"{class_list(unscored)}: learned from, but never scored, so the score says nothing about them.",
                {evidence.units: f"{len(unscored)} of {int((train > 0).sum())}"},
            )


def imbalance(evidence: Evidence) -> Iterator[Finding]:
    """Some classes have far more training images than others."""
    counts = evidence.counts
    if counts is None or "train" not in counts.splits:
        return
    train = counts.splits["train"]
    ratio = share_of(train)
    if ratio < IMBALANCE:
        return
    present = np.flatnonzero(train > 0)
    most, least = int(train.argmax()), int(present[train[present].argmin()])
    figures = {
        f"most: {counts.classes[most]}": thousands(train[most]),
        f"fewest: {counts.classes[least]}": thousands(train[least]),
        "ratio": f"{ratio:.0f} : 1",
    }
    top1, balanced = evidence.scores.get("top1"), evidence.scores.get("balanced_accuracy")
    suffers = top1 is not None and balanced is not None and top1 - balanced > 0.03
    if balanced is not None and top1 is not None:
        figures |= {"top-1": percent(top1), "balanced accuracy": percent(balanced)}
    tail = (
        "The rare classes suffer, as balanced accuracy shows. Try `--sampling balanced` or `--class-weights balanced`."
        if suffers
        else "Read balanced accuracy beside top-1."
    )
    if evidence.multi_label:
        tail = "The mean average precision counts all labels alike: look at the rare ones in the table."
    yield Finding(
        "attention" if suffers or ratio >= STRONG_IMBALANCE else "note",
        f"{evidence.units.capitalize()} of very different size",
        f"The largest has {ratio:.0f} times the training images of the smallest. {tail}",
        figures,
    )


def left_out(evidence: Evidence) -> Iterator[Finding]:
    """Files that could not be used."""
    counts = evidence.counts
    if counts is None or not counts.omitted:
        return
    number_out = len(counts.omitted)
    share = number_out / (number_out + counts.used)
    reasons = Counter(item.reason for item in counts.omitted).most_common(3)
    level = "problem" if share >= 0.1 else "attention" if share >= UNREADABLE else "note"
    yield Finding(
        level,
        "Many files were left out" if share >= UNREADABLE else "Some files were left out",
        f"{thousands(number_out)} of {thousands(number_out + counts.used)} files are not part of this run"
        + (": look at the reasons before trusting what is left." if share >= UNREADABLE else "."),
        {"left out": percent(share, 1 if share >= 0.001 else 2)} | {reason: str(count) for reason, count in reasons},
    )


DATA_RULES: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    missing_classes,
    label_shift,
    imbalance,
    left_out,
)
