"""Each section of the page as plain values for its template; None where the run has nothing to show for it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from striate.metrics.confusions import top_confusions
from striate.report import confusion as confusion_room
from striate.report import label_sets
from striate.report.charts import Series, line_chart, silhouette
from striate.report.figures import (
    confusion_of,
    digits_for,
    finite,
    interval_of,
    measure_of,
    median,
    number,
    percent,
    seconds,
    thousands,
)
from striate.report.pictures import make_sprite
from striate.report.record import Counts, Record, epoch_values
from striate.report.technical import bar_width, parameters, seen_size, training_seconds

SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}
CLASS_ROWS = 30  # up to this many classes the data section lists each
MOST_PICTURES = 24
MOST_OMITTED = 200
TALL_TABLE = 40  # rows from which a table scrolls inside the page


def headline(record: Record) -> dict[str, Any]:
    """The score with its interval, and what kind of score it is."""
    facts = _facts(record)
    if not record.headline:
        return {"score": None, "facts": facts, "nature": _unfinished_words(record), "kind": "unfinished"}
    scores, split = record.scores, SPLIT_WORDS.get(record.headline, record.headline)
    n = int(scores["n"])
    digits = digits_for(n)
    value, words = finite(scores.get(measure_of(scores))) or 0.0, "top-1"
    mistakes = f"{thousands(round((1 - scores['top1']) * n))} mistakes"
    if record.multi_label:
        words, mistakes = "mean average precision", label_sets.mistakes_in_words(scores)
    low, high = interval_of(scores)
    return {
        "score": percent(value, digits),
        "caption": f"{words} on {thousands(n)} {split} images{_views(record)}",
        "mistakes": mistakes,
        "interval": f"{percent(low, digits)} to {percent(high, digits)}",
        "gauge": _gauge(value, low, high),
        "nature": _nature(record),
        "kind": record.headline,
        "facts": facts,
    }


def _views(record: Record) -> str:
    """The protocol, where it is more than a look at each image."""
    protocol = record.evaluation.get("protocol")
    return f"; {protocol}" if protocol not in (None, "single-crop") else ""


def _gauge(value: float, low: float, high: float) -> dict[str, str]:
    """The interval on a scale that shows it at a readable width; all in per cent of the scale."""
    width = max(4 * (high - low), 0.02)
    start = min(max(value - width / 2, 0), 1 - width) if width < 1 else 0.0
    width = min(width, 1.0)
    place = [f"{100 * (one - start) / width:.1f}" for one in (low, high, value)]
    return {
        "low": place[0],
        "span": f"{float(place[1]) - float(place[0]):.1f}",
        "value": place[2],
        "from": percent(start),
        "to": percent(start + width),
    }


def _nature(record: Record) -> str:
    evaluation, split = record.evaluation, record.headline
    chosen_on, chosen_by = evaluation.get("selected_on"), evaluation.get("selected_by")
    by = {"top1": "top-1", "balanced_accuracy": "balanced accuracy", "map": "mean average precision"}.get(
        str(chosen_by), str(chosen_by)
    )
    best, total = evaluation.get("best_epoch"), len(record.epochs)
    weights = "the averaged weights (EMA)" if evaluation.get("weights") == "ema" else "the weights"
    several = total != 1 or bool(epoch_values(record.epochs, "val_ema", "loss"))  # of one epoch: raw or averaged
    selected = bool(chosen_on) and chosen_by not in (None, "last") and several
    if selected and chosen_on == split:
        where = SPLIT_WORDS.get(str(split), str(split))
        return (
            f"These are {weights} of epoch {best}, selected out of {total} by {by} on these very images. The score is "
            f"therefore a little too kind: a {where} score, not a test. An unseen test set would say more."
        )
    if split == "test":
        words = "A test score: these images played no part in training or in choosing weights, and were scored once."
        picked = f" {weights[0].upper()}{weights[1:]} of epoch {best} were picked by {by} on validation."
        return words + (picked if selected else "")
    fitted = "as they were fitted or kept, without epochs" if record.without_epochs else "after the last epoch"
    return (
        f"These are {weights} {fitted}: nothing was selected on these images, apart from what you decided "
        "after looking at earlier runs."
    )


def _unfinished_words(record: Record) -> str:
    planned, done = record.planned_epochs, len(record.epochs)
    name, words_of = ("map", "mean average precision") if record.multi_label else ("top1", "top-1")
    last = epoch_values(record.epochs, "val", name)
    progress = f"{done} of {planned} epochs" if planned else f"{done} epoch{'s' if done != 1 else ''}"
    words = f"This run has not come to its end: {progress} are recorded and the final evaluation is missing."
    if last:
        words += f" The last validation gave {percent(last[-1][1])} {words_of}."
    return words + f" `striate train --resume {record.run.name}` goes on."


def _facts(record: Record) -> list[tuple[str, str]]:
    scores, evaluation = record.scores, record.evaluation
    rate = median([value for _, value in epoch_values(record.epochs, "images_per_second")])
    spent = training_seconds(record)
    facts = []
    if record.multi_label and scores:
        facts += [("exactly right sets", percent(scores["exact_match"])), ("micro F1", percent(scores["micro_f1"]))]
        facts += [("likeliest label right", percent(scores["top1"]))]
    if (few := scores.get("top_k")) and few["k"] != 5:
        facts.append((f"top-{few['k']}", percent(few["accuracy"], digits_for(int(scores["n"])))))
    if scores.get("top5") is not None:
        facts.append(("top-5", percent(scores["top5"], digits_for(int(scores["n"])))))
    if scores.get("balanced_accuracy") is not None:
        facts.append(("balanced accuracy", percent(scores["balanced_accuracy"], digits_for(int(scores["n"])))))
    if scores:
        facts.append(("loss", number(finite(scores.get("loss")), zeros=True)))
    if record.headline == "test" and record.evaluation["splits"].get("val"):
        val = record.evaluation["splits"]["val"]
        words = "validation mAP" if record.multi_label else "validation top-1"
        facts.append((words, percent(finite(val.get(measure_of(val))), digits_for(int(val["n"])))))
    for key, words in (("raw", "validation, raw weights"), ("ema", "validation, their average")):
        if figures := (evaluation.get("validated") or {}).get(key):
            facts.append((words, percent(figures["top1"], digits_for(int(scores["n"])))))
    if record.without_epochs:
        facts.append(("epochs", "none"))
    elif record.epochs:
        best = evaluation.get("best_epoch") if len(record.epochs) > 1 else None
        facts.append(("epochs", f"{len(record.epochs)}" + (f", best {best}" if best else "")))
    if spent:
        facts.append(("training time", seconds(spent)))
    if rate:
        facts.append(("images per second", thousands(rate)))
    if parameters(record):
        facts.append(("parameters", thousands(parameters(record))))
    return facts


def data(record: Record, counts: Counts | None) -> dict[str, Any] | None:
    """Counts by class and split, what was left out, samples as the network sees them."""
    samples = _samples(record)
    if counts is None:
        return (
            {"splits": [], "sprite": samples, "seen": seen_size(record), "rows": [], "omitted": ()} if samples else None
        )
    most = max((int(one.max()) for one in counts.splits.values() if len(one)), default=1)
    rows = []
    if len(counts.classes) <= CLASS_ROWS:
        for place, name in enumerate(counts.classes):
            cells = [int(one[place]) for one in counts.splits.values()]
            rows.append({"name": name, "cells": [(thousands(cell), bar_width(cell, most)) for cell in cells]})
    shape = None
    if not rows and "train" in counts.splits:
        train = counts.splits["train"]
        note = f"from {thousands(int(train.min()))} to {thousands(int(train.max()))}, median {np.median(train):g}"
        shape = silhouette(f"Training images per {_unit(record)}", train, note)
    reasons = Counter(item.reason for item in counts.omitted).most_common()
    return {
        "splits": [(SPLIT_WORDS.get(name, name), thousands(count)) for name, count in counts.images.items()],
        "classes": f"{thousands(len(counts.classes))} {'labels' if record.multi_label else 'classes'}",
        "unit": _unit(record),
        "rows": rows,
        "silhouette": shape,
        "reasons": [(reason, thousands(count)) for reason, count in reasons],
        "omitted": counts.omitted[:MOST_OMITTED],
        "omitted_total": thousands(len(counts.omitted)),
        "omitted_more": max(0, len(counts.omitted) - MOST_OMITTED),
        "sprite": samples,
        "seen": seen_size(record),
    }


def _unit(record: Record) -> str:
    """What an image has one of, or any number."""
    return "label" if record.multi_label else "class"


def _samples(record: Record) -> Any:
    images = record.pictures.get("augmented")
    if images is None:
        return None
    labels = record.pictures.get("augmented_labels", np.zeros(0)).tolist()
    names = [_name(record, label) for label in labels] or [""] * len(images)
    words = [{"title": f"training image of {_unit(record)} {name}", "caption": name} for name in names[:MOST_PICTURES]]
    return make_sprite("augmented", images, words)


def _name(record: Record, label: Any) -> str:
    if isinstance(label, int) and 0 <= label < len(record.labels):
        return record.labels[label]
    return str(label)


def curves(record: Record) -> list[Any]:
    """Loss, accuracy, learning rate and gradient norm over the epochs."""
    epochs = record.epochs
    if not epochs:
        return []
    marked = [row["epoch"] for row in epochs if row.get("best")]
    best = record.evaluation.get("best_epoch") or (marked[-1] if marked else None)
    mark = (float(best), f"best, epoch {best}") if best and len(epochs) > 1 else None
    loss = [
        Series("steps", _by_epoch(record, "loss"), "train", faint=True),
        Series("training", epoch_values(epochs, "train_loss"), "train"),
        Series("validation", epoch_values(epochs, "val", "loss"), "val"),
        Series("validation, average (EMA)", epoch_values(epochs, "val_ema", "loss"), "ema", dashed=True),
    ]
    measure, title = ("map", "Mean average precision") if record.multi_label else ("top1", "Accuracy (top-1)")
    accuracy = [
        Series("training", epoch_values(epochs, f"train_{measure}"), "train"),
        Series("validation", epoch_values(epochs, "val", measure), "val"),
        Series("validation, average (EMA)", epoch_values(epochs, "val_ema", measure), "ema", dashed=True),
    ]
    names = ("training", "validation")
    digits = 2 if any(value > 0.97 for _, value in epoch_values(epochs, "val", measure)) else 1

    def form(share: float) -> str:
        return percent(share, digits)

    charts = [
        line_chart("Loss", loss, band=names, mark=mark, note="training: as augmented and regularised"),
        line_chart(title, accuracy, form=form, log=False, share=True, mark=mark),
    ]
    if len(epochs) == 1 and record.evaluation and not _by_epoch(record, "loss"):
        return []  # a point is no curve, and the scores say all of it
    for name, key, colour in (("Learning rate", "lr", "ink"), ("Gradient norm", "grad_norm", "ink")):
        steps, whole = _by_epoch(record, key), epoch_values(epochs, key)
        lines = [Series("steps", steps, colour, faint=True)] if key == "grad_norm" else []
        lines.append(Series("", steps if key == "lr" and steps else whole, colour))
        log = _in_steps([value for _, value in whole]) if key == "lr" else None
        if len(steps) + len(whole) < 2:
            continue
        charts.append(line_chart(name, lines, log=log))
    return [chart for chart in charts if chart]


def _by_epoch(record: Record, key: str) -> list[tuple[float, float]]:
    """A logged step's figure over the epoch, as a fraction, in which it fell."""
    last = next((row for row in reversed(record.epochs) if finite(row.get("step"))), None)
    if last is None or not last["step"]:
        return []
    scale = last["epoch"] / last["step"]
    found = [(row.get("step"), finite(row.get(key))) for row in record.steps]
    return [(step * scale, value) for step, value in found if step is not None and value is not None]


def _in_steps(rates: list[float]) -> bool:
    """A rate that falls by factors, which only a logarithmic axis tells apart."""
    few = 1 < len(set(rates)) <= len(rates) // 2
    return few and min(rates) > 0 and max(rates) / min(rates) >= 50


def mistakes(record: Record) -> dict[str, Any] | None:
    """Confusion matrix and the list of the largest confusions."""
    matrix = confusion_of(record.scores)
    names = _class_names(record)
    if len(matrix) < 2 or len(names) != len(matrix):
        return None
    most = 15 if len(matrix) <= 60 else 30
    return {
        "chart": confusion_room.confusion_chart(matrix, names),
        "top": [
            (one.truth, one.predicted, one.count, percent(one.share, 0)) for one in top_confusions(matrix, names, most)
        ],
    }


def _class_names(record: Record) -> list[str]:
    return [str(row["label"]) for row in record.scores.get("per_class") or ()]


def classes(record: Record, counts: Counts | None) -> dict[str, Any] | None:
    """One row per class, weakest first."""
    rows = record.scores.get("per_class") or ()
    if not rows:
        return None
    matrix = confusion_of(record.scores)
    favourites: list[tuple[str, int] | None] = [None] * len(rows)
    if len(matrix) == len(rows):
        favourites = confusion_room.favourite_mistakes(matrix, _class_names(record))
    train: dict[str, int] = {}
    if counts is not None and "train" in counts.splits:
        train = dict(zip(counts.classes, counts.splits["train"].tolist(), strict=True))
    table = [
        {
            "name": str(row["label"]),
            "support": int(row["support"]),
            "train": train.get(str(row["label"])),
            "recall": percent(row["recall"]),
            "recall_value": row["recall"],
            "recall_interval": _interval(row.get("recall_interval")),
            "precision_interval": _interval(row.get("precision_interval")),
            "f1_interval": _interval(row.get("f1_interval")),
            "bar": bar_width(row["recall"], 1),
            "precision": percent(row["precision"]),
            "precision_value": row["precision"],
            "f1": percent(row["f1"]),
            "f1_value": row["f1"],
            "favourite": f"{favourite[0]} ({favourite[1]})" if favourite else "",
        }
        for row, favourite in zip(rows, favourites, strict=True)
    ]
    table.sort(key=lambda row: (row["support"] == 0, row["recall_value"]))
    return {
        "rows": table,
        "train": bool(train),
        "tall": len(table) > TALL_TABLE,
        "intervals": any(row["recall_interval"] for row in table),
    }


def _interval(ends: list[float] | None) -> str:
    return f"{100 * ends[0]:.1f} – {percent(ends[1])}" if ends else ""


def images(record: Record) -> list[dict[str, Any]]:
    """The mistakes and the right answers with the highest and the lowest loss."""
    found = []
    for name, title, words in (
        ("worst", "Worst", "wrong, the truth thought least likely first: what was said, how surely, what it is"),
        ("best", "Best", "right and most sure of it"),
    ):
        if name == "worst" and record.multi_label:
            words = "wrong, the largest loss first: what was chosen, what it is"
        pictures, rows = record.pictures.get(name), record.pictures.get(f"{name}_rows")
        if pictures is None or rows is None or record.predictions is None or not len(rows):
            continue
        rows = rows[(rows >= 0) & (rows < len(record.predictions))]
        answers = record.predictions.take(rows).to_pylist()
        sprite = make_sprite(name, pictures, [_answer_words(answer) for answer in answers[:MOST_PICTURES]])
        if sprite:
            found.append({"title": title, "words": words, "sprite": sprite})
    return found


def _answer_words(answer: dict[str, Any]) -> dict[str, Any]:
    if "chosen" in answer:
        return label_sets.answer_words(answer)
    probability, right = finite(answer.get("probability")), bool(answer.get("correct"))
    truth, said = str(answer["label"]), str(answer.get("predicted"))
    title = f"{answer.get('path')}: {truth}, {percent(probability)} sure"
    if not right:
        own = percent(finite(answer.get("label_probability")))
        title = f"{answer.get('path')}: taken for {said} ({percent(probability)}), is {truth} (given {own})"
    return {
        "title": title,
        "caption": truth if right else said,
        "detail": percent(probability) if right else f"{percent(probability)}, is {truth}",
        "right": right,
    }
