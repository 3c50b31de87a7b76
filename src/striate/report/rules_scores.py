"""Rules about the scores: how sure they are, whether they are too good, where the mistakes lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from striate.report.evidence import Evidence, Finding, class_list
from striate.report.figures import confusion_of, interval_of, percent, points, thousands

WIDE = 0.04  # width of the 95 % interval from which on it is said
VERY_WIDE = 0.10
MISCALIBRATED = 0.05  # expected calibration error
ONE_CONFUSION = 0.25  # share of all mistakes that one pair of classes makes


def certainty(evidence: Evidence) -> Iterator[Finding]:
    """A held-out set too small to tell two networks apart."""
    width = evidence.interval_width()
    if width is None or width < WIDE:
        return
    n = evidence.n
    low, high = interval_of(evidence.scores)
    name = {"val": "validation", "test": "test"}.get(evidence.split or "", evidence.split)
    yield Finding(
        "attention" if width >= VERY_WIDE else "note",
        "A small " + f"{name} set",
        f"{thousands(n)} images fix the top-1 score only to within {points(width)}: smaller differences between two "
        "runs mean nothing. More held-out images, or cross-validation (`--folds`), give a surer figure.",
        {"95 % interval": f"{percent(low)} to {percent(high)}", "images": thousands(n)},
    )


def too_good(evidence: Evidence) -> Iterator[Finding]:
    """Scores that ask for a second look, and content that two splits share."""
    counts = evidence.counts
    for split, shared in (counts.shared if counts else {}).items():
        if not shared or counts is None or split not in counts.splits:
            continue
        total = counts.images[split]
        yield Finding(
            "problem" if shared >= 0.01 * total else "attention",
            f"Training images among those of {split}",
            f"{thousands(shared)} of {thousands(total)} images of the {split} split have the same content as a "
            "training image, so its score is partly a test of memory. `striate check` lists them.",
            {"shared": thousands(shared), "part of the split": percent(shared / max(total, 1))},
        )
    if evidence.multi_label:
        return
    top1, clean = evidence.scores.get("top1"), evidence.train.get("top1")
    if top1 == 1.0 and evidence.n >= 100:
        yield Finding(
            "note",
            "A perfect score",
            "Not one mistake is rare on real data. Make sure that near duplicates (frames of one video, crops of one "
            "photo) lie on one side of the split: `striate check`, `--group`.",
            {"images": thousands(evidence.n), "mistakes": "0"},
        )
    elif top1 is not None and clean is not None and top1 - clean > max(0.03, 2 * evidence.standard_error(top1)):
        yield Finding(
            "attention",
            "Held-out images are easier than training images",
            "The network does better on images it never saw. Either the held-out set is easier, for example another "
            "mix of classes, or the training labels hold errors.",
            {"held out": percent(top1), "training images": percent(clean), "difference": points(top1 - clean)},
        )


def calibration(evidence: Evidence) -> Iterator[Finding]:
    """Probabilities that cannot be taken at their word."""
    bins, ece = evidence.reliability, evidence.scores.get("ece")
    ece = bins.ece if bins is not None else ece
    if ece is None or evidence.n < 100 or ece < max(MISCALIBRATED, evidence.n**-0.5):
        return
    figures = {"expected calibration error": percent(ece)}
    if bins is None:
        direction = "The probabilities are off"
    else:
        mean = bins.overconfidence
        if abs(mean) < ece / 2:
            direction = "The network claims too much in places and too little in others"
        else:
            direction = "The network claims too much" if mean > 0 else "The network claims too little"
        accuracy = float(np.nansum(bins.accuracy * bins.counts) / bins.n)
        figures |= {"mean probability": percent(accuracy + mean), "share correct": percent(accuracy)}
    remedy = ""
    if bins is not None and bins.overconfidence > ece / 2:
        remedy = " Label smoothing or stronger regularisation would help."
    elif bins is not None and bins.overconfidence < -ece / 2:
        remedy = " Less label smoothing or mixup, or a longer training, would help."
    yield Finding(
        "attention" if ece >= 2 * MISCALIBRATED else "note",
        "Probabilities are off",
        f"{direction}: a stated probability misses the share that is right by {points(ece)} on average. Rank by it, "
        f"but set no threshold without checking.{remedy}",
        figures,
    )


def lost_classes(evidence: Evidence) -> Iterator[Finding]:
    """Classes that are never recognised."""
    rows = [row for row in evidence.scores.get("per_class") or () if row["support"] >= 5]
    lost = [str(row["label"]) for row in rows if row["recall"] == 0]
    if not lost:
        return
    support = sum(row["support"] for row in rows if row["recall"] == 0)
    yield Finding(
        "attention",
        f"{len(lost)} class{'es' if len(lost) > 1 else ''} never recognised",
        f"Not one image of {class_list(lost)} was recognised. Look at their labels and at how many training images "
        "they have.",
        {"images of them": thousands(support), "classes": f"{len(lost)} of {evidence.classes}"},
    )


def one_confusion(evidence: Evidence) -> Iterator[Finding]:
    """One pair of classes that makes a large part of all mistakes."""
    matrix = confusion_of(evidence.scores)
    if len(matrix) < 4:
        return
    both = np.triu(matrix + matrix.T, 1)
    mistakes, most = int(both.sum()), int(both.max())
    if mistakes < 10 or most < ONE_CONFUSION * mistakes:
        return
    first, second = np.unravel_index(int(both.argmax()), both.shape)
    names = [str(row["label"]) for row in evidence.scores["per_class"]]
    yield Finding(
        "note",
        "One confusion stands out",
        f"“{names[first]}” and “{names[second]}” are taken for each other more than any other pair. Look at these "
        "images first: some labels may be wrong, or the two need more examples.",
        {"mistakes between the two": f"{most} of {mistakes}", "share": percent(most / mistakes, 0)},
    )


def unread(evidence: Evidence) -> Iterator[Finding]:
    """Held-out images that could not be read, and count as mistakes."""
    missing = int(evidence.scores.get("unreadable") or 0)
    if missing:
        readable = evidence.scores["top1"] * evidence.n / max(evidence.n - missing, 1)
        without = "" if evidence.multi_label else f" Without them top-1 would be {percent(readable)}."
        yield Finding(
            "attention" if missing >= 0.01 * evidence.n else "note",
            "Unreadable images count as mistakes",
            f"{missing} of the {thousands(evidence.n)} scored images could not be read.{without}",
            {"unreadable": str(missing), "share": percent(missing / max(evidence.n, 1))},
        )


SCORE_RULES: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    certainty,
    too_good,
    calibration,
    lost_classes,
    one_confusion,
    unread,
)
