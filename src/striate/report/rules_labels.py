"""Rules about the scores of networks that give an image any number of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from striate.report.evidence import Evidence, Finding, class_list, smoothed
from striate.report.figures import finite, percent, points, thousands
from striate.report.rules_learning import overfitting

WIDE = 0.06  # width of the 95 % interval of the mean average precision from which on it is said
VERY_WIDE = 0.15
LOW = 0.5  # mean average precision
BARELY = 0.1  # of the way from guessing to perfection
MISCALIBRATED = 0.05  # expected calibration error over pairs of image and label
COUNTS_OFF = 0.25  # labels expected an image, less or more than there are, as a part of these
FELL = 0.03  # mean average precision of the best epoch less that of the last
FEW = 5  # images of a label below which nothing is said of it


def precision(evidence: Evidence) -> Iterator[Finding]:
    """A mean average precision that is low, or no better than ranking at random."""
    scores = evidence.scores
    area = finite(scores.get("map"))
    rows = [row for row in scores.get("per_class") or () if row["support"]]
    if area is None or not rows or not evidence.n:
        return
    guessing = sum(row["support"] for row in rows) / len(rows) / evidence.n  # what a random order has, by and large
    figures = {"mean average precision": percent(area), "a random order": percent(guessing)}
    low, _ = scores.get("map_interval") or (area, area)
    if low <= guessing or area - guessing < BARELY * (1 - guessing):
        yield Finding(
            "problem",
            "Hardly better than a random order",
            "The images that have a label stand hardly nearer to the top than chance would put them. Train longer, "
            "start from a trained network, or check that images and labels belong together.",
            figures,
        )
    elif area < LOW:
        yield Finding(
            "attention",
            "A low mean average precision",
            "Most labels are ranked poorly. The table of labels shows whether all are or a few; more images of the "
            "weak ones, a longer training, or a start from a trained network would help.",
            figures,
        )


def certainty(evidence: Evidence) -> Iterator[Finding]:
    """A held-out set too small to tell two networks apart."""
    interval = evidence.scores.get("map_interval")
    if not interval or interval[1] - interval[0] < WIDE:
        return
    width = interval[1] - interval[0]
    name = {"val": "validation", "test": "test"}.get(evidence.split or "", evidence.split)
    yield Finding(
        "attention" if width >= VERY_WIDE else "note",
        f"A small {name} set",
        f"{thousands(evidence.n)} images fix the mean average precision only to within {points(width)}: smaller "
        "differences between two runs mean nothing. More held-out images, or cross-validation (`--folds`), give a "
        "surer figure.",
        {"95 % interval": f"{percent(interval[0])} to {percent(interval[1])}", "images": thousands(evidence.n)},
    )


def calibration(evidence: Evidence) -> Iterator[Finding]:
    """Probabilities that miss the shares, or add up to more or fewer labels than there are."""
    bins = evidence.reliability
    if bins is None or not evidence.classes or bins.n < 100:
        return
    there = float(np.nansum(bins.accuracy * bins.counts) / bins.n)
    off = bins.overconfidence / there if there else 0.0
    few = 2 * (there / bins.n) ** 0.5  # by how much chance alone moves the share
    counts_off = abs(off) >= COUNTS_OFF and abs(bins.overconfidence) > few
    if bins.ece < max(MISCALIBRATED, bins.n**-0.5) and not counts_off:
        return
    sides = "more" if off > 0 else "fewer"
    if counts_off:
        words = f"Added up, the probabilities promise {sides} labels than there are"
    else:
        words = "The probabilities promise too much in places and too little in others"
    yield Finding(
        "attention" if bins.ece >= 2 * MISCALIBRATED else "note",
        "Probabilities are off",
        f"{words}: one misses the share of images that have the label by {points(bins.ece)} on average. The fitted "
        "thresholds allow for it; a longer training usually brings probabilities nearer.",
        {
            "expected calibration error": percent(bins.ece),
            "labels an image, promised": f"{(there + bins.overconfidence) * evidence.classes:.2f}",
            "there": f"{there * evidence.classes:.2f}",
        },
    )


def unchosen(evidence: Evidence) -> Iterator[Finding]:
    """Labels that no image was given, and those that were never given rightly."""
    rows = [row for row in evidence.scores.get("per_class") or () if row["support"] >= FEW and not row["recall"]]
    said = _chosen(evidence.scores.get("together") or {})
    never = [row for row in rows if said.get(str(row["label"])) == 0]
    wrongly = [row for row in rows if row not in never]
    for found, words, sentence in (
        (never, "never chosen", "No image was given {}"),
        (wrongly, "never chosen rightly", "Not one image of {} was found"),
    ):
        if found:
            names = class_list([str(row["label"]) for row in found])
            yield Finding(
                "attention",
                f"{len(found)} label{'s' if len(found) > 1 else ''} {words}",
                f"{sentence.format(names)}. Look at how many training images there are, and whether all that "
                "show it are labelled so.",
                {
                    "images of them": thousands(sum(row["support"] for row in found)),
                    "labels": f"{len(found)} of {evidence.classes}",
                },
            )


def decline(evidence: Evidence) -> Iterator[Finding]:
    """A mean average precision that fell from its best while the training loss kept falling."""
    if any(one.title == "Overfitting" for one in overfitting(evidence)):
        return  # the validation loss says so already
    curve, train = evidence.curve("val", "map"), dict(evidence.curve("train_loss"))
    if len(curve) < 5:
        return
    smooth = smoothed([value for _, value in curve])
    place = int(np.argmax(smooth))
    (epoch, best), (last, end) = (curve[place][0], smooth[place]), (curve[-1][0], smooth[-1])
    if epoch not in train or last not in train or best - end < FELL or train[last] >= train[epoch]:
        return
    yield Finding(
        "attention",
        "Overfitting: held-out images are ranked worse",
        f"From epoch {epoch} on the training loss kept falling while the mean average precision fell, too. More "
        "images, stronger augmentation, more weight decay or a smaller network would help; early stopping saves the "
        "time.",
        {f"mean average precision, epoch {epoch}": percent(best), "at the end": percent(end)},
    )


def _chosen(together: dict[str, Any]) -> dict[str, int]:
    """How many images each label was given; {} where that is not kept."""
    names = together.get("labels") or ()
    return {str(name): int(together["chosen"][place][place]) for place, name in enumerate(names)}


LABEL_RULES: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    precision,
    certainty,
    calibration,
    unchosen,
    decline,
)
