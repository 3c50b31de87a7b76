"""After a training: what would help next, from what was measured, with what it costs.

More images of the weakest class and more of all are carried on along the learning curve of the probe. Labels to look at
are those that a classifier, which had not learned from the image, contradicts with confidence; on validation images the
trained network does. Where the plan chose something cheaper, the dearer one is named with its price.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from striate.data import Dataset
from striate.options.transfer import KEEP
from striate.runfolder import RunFolder
from striate.transfer.plan import TransferPlan
from striate.transfer.result import ProbeResult, SourceProbe
from striate.transfer.wording import counted, percent, points
from striate.transfer.wording import seconds as duration

MORE = 100  # images of the weakest class
LIKELY = 0.75  # calibrated probability of another class from which a label is doubted in any case
SURE = 0.9  # likewise by the trained network, whose probabilities are not calibrated
CLEARLY = 5.0  # as much more probable another class must be
MOST_LABELS = 20
GOOD_ENOUGH = 2 / 3  # top-1 from which whoever contradicts a label is listened to
MOST_DOUBTED = 0.1  # of the labels: who doubts more of them has not learned what they mean
LEAST_GAIN = 0.002  # smaller ones are not worth a line
FEWEST = 5  # validation images of a class before it can be the weakest


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """An image whose label something contradicts."""

    path: str
    split: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NextStep:
    """One thing to do, what it should bring, and what it costs."""

    kind: str  # images of a class, more images, labels, another scenario
    text: str
    gain: float | None = None  # of top-1, over all classes
    seconds: float | None = None  # of computing; people's time is theirs to price
    doubts: tuple[Doubt, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def next_steps(
    run: RunFolder, dataset: Dataset, probe: ProbeResult | None = None, plan: TransferPlan | None = None
) -> tuple[NextStep, ...]:
    """What to do next about a finished run, the largest gain first; nothing where there is nothing measured.

    Args:
        run: with its evaluation and predictions.
        dataset: what it was trained on.
        probe: of the networks that it could start from, where there was one.
        plan: that it followed.
    """
    evaluation = run.read_evaluation().get("splits") or {}
    scores = evaluation.get("val") or evaluation.get("test") or {}
    per_image = _seconds_per_image(run, dataset)
    found: list[NextStep] = []
    if probe is not None and run.read_recipe().transfer.scenario != KEEP:  # which learns from no image
        found += _weakest_class(scores, probe.best, dataset, per_image)
        found += _more_images(scores, probe.best, dataset, per_image)
    found += _dearer(plan)
    found.sort(key=lambda one: -(one.gain or 0.0))
    return (*found, *_labels(run, dataset, probe))


# images ---------------------------------------------------------------------------------------------------------------


def _weakest_class(
    scores: Mapping[str, Any], source: SourceProbe, dataset: Dataset, per_image: float
) -> list[NextStep]:
    """What more images of the class that is recognised worst would bring."""
    rows = [row for row in scores.get("per_class") or [] if row["support"] >= FEWEST]
    recalls = shrunk_recalls([row["recall"] for row in rows], [row["support"] for row in rows])
    if recalls is None:
        return []
    weakest, recall = rows[int(recalls.argmin())], float(recalls.min())
    number = dataset.labels.index(weakest["label"])
    train = dataset.splits["train"]
    there = int((train.targets == number).sum())
    exponent = _exponent(source, number, len(train))
    if exponent is None or not there:
        return []
    missed = 1 - recall
    after = missed * (there / (there + MORE)) ** exponent
    gain = (missed - after) * weakest["support"] / sum(row["support"] for row in scores["per_class"])
    if gain < LEAST_GAIN:
        return []
    cost = MORE * per_image
    text = (
        f"{MORE} more images of {weakest['label']}, the weakest class ({counted(there, 'training image')}): recall "
        f"from about {percent(recall)} to {percent(1 - after)}, {points(gain)} of top-1, for {duration(cost)} more "
        "of training"
    )
    return [NextStep(kind="class", text=text, gain=gain, seconds=cost)]


def shrunk_recalls(recalls: Sequence[float], supports: Sequence[int]) -> np.ndarray | None:
    """The recalls of classes, drawn towards that of all by as much as chance could have parted them.

    The lowest of several counted shares is low by bad luck, too: a beta prior, whose variance is what the recalls
    differ by over what so few images make them differ by (Efron & Morris 1975). None where that explains all.
    """
    shares, counts = np.asarray(recalls, float), np.asarray(supports, float)
    if len(shares) < 2:
        return None
    mean = float((shares * counts).sum() / counts.sum())
    by_chance = float((mean * (1 - mean) / counts).mean())
    between = float(((shares - mean) ** 2).mean()) - by_chance
    if between <= 0:
        return None
    strength = max(mean * (1 - mean) / between - 1, 0.0)  # images that the prior counts for
    return (shares * counts + strength * mean) / (counts + strength)


def _exponent(source: SourceProbe, number: int, images: int) -> float | None:
    """How fast the class's misses fall with the number of images, from the learning curve; None where none is known.

    A class's own figures are few, so that half the weight is on the curve of all.
    """
    curve = [point for point in source.learning_curve if 0 < point.images <= images]
    whole = _slope([(point.images, 1 - point.top1) for point in curve])
    own = _slope([(one.images, 1 - one.by_class[number]) for one in curve if len(one.by_class) > number])
    known = [one for one in (whole, own) if one is not None]
    return float(np.clip(np.mean(known), 0.0, 1.0)) if known else None


def _slope(points_: Sequence[tuple[int, float]]) -> float | None:
    usable = [(n, missed) for n, missed in points_ if missed > 0 and math.isfinite(missed)]
    if len({n for n, _ in usable}) < 2:
        return None
    logs = np.log(np.array(usable, dtype=float))
    return -float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def _more_images(scores: Mapping[str, Any], source: SourceProbe, dataset: Dataset, per_image: float) -> list[NextStep]:
    """Twice as many images of everything: the error of what was trained falls as the linear classifier's does."""
    n, law = len(dataset.splits["train"]), source.power_law
    if law is None or not law.top1(n) < 1:
        return []
    error = 1 - scores["top1"] if "top1" in scores else 1 - law.top1(n)
    after = error * (1 - law.top1(2 * n)) / (1 - law.top1(n))
    gain = error - after
    if not gain >= LEAST_GAIN:
        return []
    each = [replace(law, floor=one[0], scale=one[1], exponent=one[2]) for one in law.draws]
    parts = [(1 - one.top1(2 * n)) / (1 - one.top1(n)) for one in each if one.top1(n) < 1]
    doubt = ""
    if parts:
        least, most = (error * (1 - float(part)) for part in np.quantile(parts, (0.975, 0.025)))
        doubt = f" ({100 * least:.1f} to {points(most)} by the learning curve)"
    text = (
        f"twice as many images of all classes ({n} more): about {points(gain)} of top-1{doubt}, for "
        f"{duration(n * per_image)} more of training"
    )
    return [NextStep(kind="images", text=text, gain=gain, seconds=n * per_image)]


def _seconds_per_image(run: RunFolder, dataset: Dataset) -> float:
    """Seconds of this training for each image that there is."""
    return float(run.read_environment().get("training_seconds") or 0.0) / max(1, len(dataset.splits["train"]))


# scenarios ------------------------------------------------------------------------------------------------------------


def _dearer(plan: TransferPlan | None) -> list[NextStep]:
    """A scenario that the plan passed over for its price, though it is expected to be a little better."""
    if plan is None:
        return []
    better = [
        one
        for one in plan.scenarios
        if one.scenario not in (plan.scenario, "head") and one.expected_top1 - plan.expected_top1 >= LEAST_GAIN
    ]
    best = max(better, key=lambda one: one.expected_top1, default=None)
    if best is None:
        return []
    gain = best.expected_top1 - plan.expected_top1
    text = f"--scenario {best.scenario}: perhaps {points(gain)} of top-1, for {duration(best.seconds)} of training"
    return [NextStep(kind="scenario", text=text, gain=gain, seconds=best.seconds)]


# labels ---------------------------------------------------------------------------------------------------------------


def _labels(run: RunFolder, dataset: Dataset, probe: ProbeResult | None) -> list[NextStep]:
    """Labels that are contradicted with confidence, the surest first."""
    doubts = [*_of_training(dataset, probe), *_of_validation(run)]
    if not doubts:
        return []
    doubts.sort(key=lambda one: -one.probability)
    shown = tuple(doubts[:MOST_LABELS])
    first = shown[0]
    text = (
        f"{counted(len(doubts), 'label')} to look at, first {first.path}: labelled {first.label}, "
        f"{percent(first.probability)} sure to be {first.predicted}"
    )
    return [NextStep(kind="labels", text=text, doubts=shown)]


def _of_training(dataset: Dataset, probe: ProbeResult | None) -> list[Doubt]:
    answers = probe.best.answers if probe is not None else None
    if answers is None or not len(answers.rows) or answers.correct.mean() < GOOD_ENOUGH:
        return []
    train, names = dataset.splits["train"], dataset.labels.names
    sure = answers.probabilities.max(axis=1)
    own = answers.probabilities[np.arange(len(sure)), answers.targets]
    # as sure as of the images that have that label (Northcutt et al. 2021, arXiv:1911.00068, sec. 3)
    of_label = [own[answers.targets == label] for label in range(len(names))]
    usual = np.array([one.mean() if len(one) else 1.0 for one in of_label])
    doubted = (sure >= np.minimum(usual[answers.predicted], LIKELY)) & (sure >= CLEARLY * own)
    found = np.flatnonzero((answers.predicted != answers.targets) & doubted)
    if len(found) > MOST_DOUBTED * len(answers.targets):
        return []
    return [
        Doubt(
            path=train.paths[int(answers.rows[one])], split="train", label=names[int(answers.targets[one])],
            predicted=names[int(answers.predicted[one])], probability=float(sure[one]),
        )
        for one in found.tolist()
    ]  # fmt: skip


def _of_validation(run: RunFolder) -> list[Doubt]:
    """Validation images that the trained network contradicts; it never learned from them."""
    import pyarrow.parquet as pq

    if not run.predictions.is_file():
        return []
    columns = ["path", "label", "predicted", "probability", "correct", "split"]
    rows = [row for row in pq.read_table(run.predictions, columns=columns).to_pylist() if row["split"] == "val"]
    if sum(bool(row["correct"]) for row in rows) < GOOD_ENOUGH * len(rows):
        return []
    found = [row for row in rows if not row["correct"] and (row["probability"] or 0.0) >= SURE]
    if len(found) > MOST_DOUBTED * len(rows):
        return []
    return [
        Doubt(
            path=row["path"], split="val", label=row["label"], predicted=row["predicted"],
            probability=float(row["probability"]),
        )
        for row in found
    ]  # fmt: skip
