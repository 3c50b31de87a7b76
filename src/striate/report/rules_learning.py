"""Rules about the course of training: each looks at the evidence and yields what it finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from striate.report.evidence import Evidence, Finding, smoothed
from striate.report.figures import finite, number, percent, points, seconds

SPIKE = 3.0  # a step's loss this many times the median of the 25 steps before it
RISE = 1.2  # training loss at the end over its lowest epoch
TURN = 1.10  # validation loss at the end over its lowest (both smoothed)
GAP = 0.05  # training minus held-out top-1 that counts as a gap
LOW = 0.90  # training top-1 below which a network has not fitted its data
WAITING = 0.25  # share of training time spent waiting for data


def diverged(evidence: Evidence) -> Iterator[Finding]:
    """Learning rate too high: a loss that is no number, rises for good, never leaves chance, or jumps."""
    broken = [row for row in (*evidence.epochs, *evidence.steps) if _not_a_number(row)]
    if broken:
        row = broken[0]
        yield Finding(
            "problem",
            "Training diverged",
            f"The loss stopped being a number in epoch {row['epoch']}. The learning rate is most likely too high: try "
            "a third of it, a longer warm-up, or clipping of the gradient's norm.",
            {"first seen": f"epoch {row['epoch']}", "learning rate then": number(finite(row.get("lr")))},
        )
        return
    loss = evidence.curve("train_loss")
    if len(loss) < 3:
        return
    lowest = min(loss, key=lambda item: item[1])
    last = loss[-1]
    figures = {"peak learning rate": number(max((rate for _, rate in evidence.curve("lr")), default=None))}
    if last[0] > lowest[0] and last[1] > RISE * lowest[1] and last[1] - lowest[1] > 0.05:
        yield Finding(
            "problem",
            "The training loss rose",
            "On the images it learns from the network ended worse than it had been: a sign of too high a learning "
            "rate. Try a third of it.",
            {f"epoch {lowest[0]}": number(lowest[1]), f"epoch {last[0]}": number(last[1]), **figures},
        )
        return
    chance = math.log(evidence.classes) if evidence.classes > 1 else None
    if chance and min(value for _, value in loss) > 0.97 * chance:
        yield Finding(
            "problem",
            "Nothing was learned",
            "The training loss never left the level of guessing. The learning rate is far off (most often too high), "
            "or images and labels do not belong together.",
            {"lowest training loss": number(lowest[1]), "guessing": number(chance), **figures},
        )
        return
    yield from _spikes(evidence, figures)


def _spikes(evidence: Evidence, figures: dict[str, str]) -> Iterator[Finding]:
    steps = [(row["step"], value) for row in evidence.steps if (value := finite(row.get("loss"))) is not None]
    values = steps if len(steps) > 30 else evidence.curve("train_loss")
    unit, back = ("step", 25) if values is steps else ("epoch", 3)
    heights = np.array([value for _, value in values])
    if len(heights) <= back:
        return
    before = np.median(np.lib.stride_tricks.sliding_window_view(heights[:-1], back), axis=1)
    later = heights[back:]
    jumps = np.flatnonzero((later > SPIKE * before) & (later > 0.1))
    if len(jumps):
        worst = int(jumps[np.argmax(later[jumps] / before[jumps])])
        yield Finding(
            "attention",
            "The training loss jumped",
            f"{len(jumps)} {unit}{'s' if len(jumps) > 1 else ''} had a loss of more than {SPIKE:g} times that of those "
            "just before: the learning rate is at the edge. A longer warm-up or a clipped gradient calms it.",
            {
                "worst": f"{unit} {values[worst + back][0]}",
                "loss there": number(float(later[worst])),
                "before it": number(float(before[worst])),
                **figures,
            },
        )


def overfitting(evidence: Evidence) -> Iterator[Finding]:
    """Training error falls while validation error turns up, or a gap between the two that is no accident."""
    turned = _turning_point(evidence)
    fitted, held_out = _train_top1(evidence), _held_out_top1(evidence)
    gap = fitted - held_out if fitted is not None and held_out is not None else None
    figures: dict[str, str] = {}
    if turned:
        epoch, lowest, last, train_then, train_last = turned
        figures |= {
            f"validation loss, epoch {epoch}": number(lowest),
            "at the end": number(last),
            "training loss meanwhile": f"{number(train_then)} → {number(train_last)}",
        }
    if gap is not None and fitted is not None and held_out is not None:
        figures |= {"top-1 on training images": percent(fitted), "held out": percent(held_out), "gap": points(gap)}
    wide = gap is not None and gap > max(GAP, 2 * evidence.standard_error(held_out or 0.5))
    remedy = "More images, stronger augmentation, more weight decay or a smaller network would help"
    if turned and (gap is None or gap > GAP / 2):
        yield Finding(
            "attention",
            "Overfitting",
            f"From epoch {turned[0]} on the training loss kept falling while the validation loss turned up: the "
            f"network learns its training images by heart. {remedy}; early stopping saves the time.",
            figures,
        )
    elif wide:
        yield Finding(
            "attention",
            "Overfitting",
            f"The network knows its training images much better than new ones. {remedy}.",
            figures,
        )
    elif gap is not None and fitted is not None and fitted > LOW and abs(gap) < GAP / 2:
        yield Finding(
            "good",
            "Training and held-out images agree",
            "What the network learned carries over to images it has not seen.",
            {key: figures[key] for key in ("top-1 on training images", "held out", "gap")},
        )


def _turning_point(evidence: Evidence) -> tuple[int, float, float, float, float] | None:
    """(epoch, lowest validation loss, the last, training loss then and at the end) where it clearly turned up."""
    val, train = evidence.curve("val", "loss"), dict(evidence.curve("train_loss"))
    if len(val) < 5:
        return None
    smooth = smoothed([value for _, value in val])
    place = int(np.argmin(smooth))
    epoch, last = val[place][0], val[-1][0]
    if epoch not in train or last not in train or smooth[-1] <= TURN * smooth[place] or train[last] >= train[epoch]:
        return None
    return epoch, smooth[place], smooth[-1], train[epoch], train[last]


def underfitting(evidence: Evidence) -> Iterator[Finding]:
    """A low score on the training images themselves, with no gap to speak of."""
    fitted, held_out = _train_top1(evidence), _held_out_top1(evidence)
    if fitted is None or held_out is None or fitted >= LOW or fitted - held_out > GAP:
        return
    if not evidence.scores and len(evidence.epochs) < 5:
        return  # a run that has hardly begun
    measured = "as they are" if evidence.train.get("top1") is not None else "as augmented"
    if measured == "as augmented" and held_out >= LOW:
        return  # the augmentation made them hard, not the network weak
    yield Finding(
        "attention",
        "Underfitting",
        "The network does not fit even the images it learns from. A larger network, a longer training, a higher "
        "learning rate or milder augmentation would help.",
        {f"top-1 on training images, {measured}": percent(fitted), "held out": percent(held_out)},
    )


def length(evidence: Evidence) -> Iterator[Finding]:
    """Still improving when it stopped, or done long before."""
    val = evidence.curve("val", "top1")
    if len(val) < 4:
        return
    smooth = smoothed([value for _, value in val])
    quarter = max(1, len(val) // 4)
    error_before, error_last = 1 - max(smooth[:-quarter]), 1 - max(smooth[-quarter:])
    fitted = _train_top1(evidence)
    significant = error_before - error_last > evidence.standard_error(1 - error_last)
    if significant and error_last < 0.9 * error_before and (fitted is None or fitted < 0.995):
        yield Finding(
            "note",
            "Still improving when it stopped",
            f"The last {quarter} epoch{'s' if quarter > 1 else ''} took the validation error from "
            f"{percent(error_before)} to {percent(error_last)}, and the training images are not learned yet: "
            "train longer.",
            {"validation error before": percent(error_before), "at the end": percent(error_last)},
        )
        return
    enough = max(smooth) - evidence.standard_error(max(smooth))
    reached = next(epoch for (epoch, _), value in zip(val, smooth, strict=True) if value >= enough)
    left = val[-1][0] - reached
    if len(val) >= 8 and left > 0.5 * val[-1][0]:
        spent = sum(value for epoch, value in evidence.curve("seconds") if epoch > reached)
        yield Finding(
            "note",
            "Plateaued early",
            f"After epoch {reached} the validation score moved less than chance does. A shorter schedule, early "
            f"stopping or a lower learning rate would have saved {left} epochs.",
            {"epochs after that": str(left), "time in them": seconds(spent), "best top-1": percent(max(smooth))},
        )


def average(evidence: Evidence) -> Iterator[Finding]:
    """Whether the Polyak average of the weights was worth having."""
    raw, mean = dict(evidence.curve("val", "top1")), dict(evidence.curve("val_ema", "top1"))
    both = sorted(raw.keys() & mean.keys())
    if not both:
        return
    best_raw, best_mean = max(raw[epoch] for epoch in both), max(mean[epoch] for epoch in both)
    figures = {"best top-1, average": percent(best_mean), "best top-1, raw weights": percent(best_raw)}
    difference = best_mean - best_raw
    if abs(difference) <= evidence.standard_error(max(best_raw, best_mean)):
        return
    if difference > 0:
        sentence = "The running average of the weights (EMA) beats the weights themselves, as it should."
        yield Finding("good", "The average of the weights helps", sentence, figures)
    else:
        sentence = (
            "The running average of the weights (EMA) lags behind the weights themselves: for so few steps its decay "
            "is too long. Try a smaller decay, or none."
        )
        yield Finding("note", "The average of the weights lags", sentence, figures)


def waiting(evidence: Evidence) -> Iterator[Finding]:
    """The network waits for its images. The first epoch fills the cache and is left out where there are others."""
    shares, spent = dict(evidence.curve("data_wait_share")), dict(evidence.curve("seconds"))
    counted = sorted(shares.keys() & spent.keys())
    counted = counted[1:] if len(counted) > 2 else counted
    total = sum(spent[epoch] for epoch in counted)
    if not total:
        return
    share = sum(shares[epoch] * spent[epoch] for epoch in counted) / total
    if share > WAITING:
        yield Finding(
            "attention",
            "The network waits for its images",
            f"{percent(share, 0)} of the training time went into waiting for data. More `--workers`, a larger "
            "`--cache-limit` or images stored at a smaller size would help.",
            {"waiting": percent(share, 0), "seconds waited": seconds(share * total)},
        )


def _train_top1(evidence: Evidence) -> float | None:
    """On the training images: as they are where that was measured, otherwise as augmented in the last epoch."""
    if evidence.multi_label:
        return None  # how often the likeliest label is right depends on how many images have none
    clean = finite(evidence.train.get("top1"))
    running = evidence.curve("train_top1")
    return clean if clean is not None else running[-1][1] if running else None


def _held_out_top1(evidence: Evidence) -> float | None:
    if evidence.multi_label:
        return None
    top1 = finite(evidence.scores.get("top1"))
    curve = evidence.curve("val", "top1")
    return top1 if top1 is not None else curve[-1][1] if curve else None


def _not_a_number(row: dict[str, object]) -> bool:
    """A loss that is written and is not finite; JSON has no NaN, so null stands for it too."""
    key = "train_loss" if row.get("kind") == "epoch" else "loss"
    return key in row and finite(row[key]) is None


LEARNING_RULES: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    diverged,
    overfitting,
    underfitting,
    length,
    average,
    waiting,
)
