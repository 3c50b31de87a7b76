"""The section on transfer: what was measured, the plan, what was copied, what stayed frozen, and what would help."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from striate.report.charts import Series, line_chart
from striate.report.figures import finite, percent, points, seconds, thousands
from striate.report.record import Record

KINDS = {"svm": "a linear SVM", "softmax": "a softmax classifier"}
LINEAR = {**KINDS, "blend": "linear classifiers of all depths as one"}
UNTRAINED = {**LINEAR, "keep": "nothing: the network is as it was"}
TRAINED = {"head": "the head alone", "top": "the head and the upper part", "all": "everything"}
DIRECTIONS = {"train": "training", "val": "validation"}


def transfer(record: Record) -> dict[str, Any] | None:
    """Everything that the template shows; None for a run of which nothing was measured, and nothing copied."""
    stored, options = record.transfer, record.options.get("transfer", {})
    source = str(record.options.get("model", {}).get("from") or "scratch")
    steps = stored.get("next_steps") or []
    plan, probed = stored.get("plan") or {}, stored.get("probe") or {}
    if not (probed or steps or source not in ("scratch", "auto")):
        return None
    looked_at = _best(probed)
    return {
        "facts": _facts(stored, plan, options, source),
        "why": plan.get("why") or [],
        "notes": probed.get("notes") or [],
        "rule": probed.get("rule") or "",
        "chart": _chart(looked_at) if looked_at else Markup(""),
        "picture": _picture(record.transfer_picture),
        "depths": _depths(looked_at) if looked_at else [],
        "source": short(str(looked_at.get("source", ""))) if looked_at else "",
        "scenarios": [_scenario(one, plan.get("scenario")) for one in plan.get("scenarios") or []],
        "copied": [(one["part"], one["words"]) for one in stored.get("copied") or []],
        "frozen": _frozen(options),
        "steps": [one["text"] for one in steps],
        "doubts": [_doubt(one) for step in steps for one in step.get("doubts") or []],
    }


def short(source: str) -> str:
    """A network's spelling without folders."""
    model, colon, rest = source.rpartition(":")
    return Path(source).name if "/" in model else f"{model}{colon}{Path(rest).name}"


def _facts(
    stored: Mapping[str, Any], plan: Mapping[str, Any], options: Mapping[str, Any], source: str
) -> list[tuple[str, str]]:
    scenario = str(options.get("scenario") or plan.get("scenario") or "")
    facts = [("started from", short(source))]
    if why := (stored.get("start") or {}).get("why"):
        facts.append(("why", str(why)))
    if scenario:
        facts.append(("what learned", UNTRAINED.get(scenario) or TRAINED.get(scenario) or "everything, from nothing"))
    if options.get("cut"):
        facts.append(("cut after", str(options["cut"])))
    if plan:
        low, high = percent(finite(plan.get("low"))), percent(finite(plan.get("high")))
        facts.append(("expected", f"{percent(finite(plan.get('expected_top1')))}, {low} to {high}"))
        facts.append(("over a classifier on the last codes", points(finite(plan.get("gain")) or 0.0)))
        facts.append(("training was to take", seconds(finite(plan.get("seconds")))))
    facts += [(f"seconds of {name}", seconds(finite(one))) for name, one in (stored.get("seconds") or {}).items()]
    return facts


def _best(probed: Mapping[str, Any]) -> dict[str, Any]:
    sources = probed.get("sources") or []
    return next((one for one in sources if one.get("source") == probed.get("best")), sources[0] if sources else {})


def _chart(source: Mapping[str, Any]) -> Markup:
    """Accuracy over depth."""
    depths = source["depths"]
    lines = [
        Series(KINDS[kind], [(index + 1, top1) for index, top1 in _accuracies(depths, kind)], colour)
        for kind, colour in (("svm", "val"), ("softmax", "train"))
    ]
    best, blend = source.get("best") or {}, source.get("blend") or {}
    names = [one["place"] for one in depths]
    if (together := finite(blend.get("top1"))) is not None:
        lines.append(Series(LINEAR["blend"], [(1, together), (len(depths), together)], "run2", dashed=True))
    mark = None
    place = source.get("best_place") or best.get("place")
    if place in names:
        mark = (float(names.index(place) + 1), f"best, {place}")
    return line_chart(
        "Accuracy over depth", lines, x_label="place", form=lambda value: percent(value, 1), share=False, log=False,
        mark=mark, note="of training images that the classifier had not learned from",
    )  # fmt: skip


def _accuracies(depths: Sequence[Mapping[str, Any]], kind: str) -> list[tuple[int, float]]:
    found = [(index, finite(one[kind].get("top1"))) for index, one in enumerate(depths)]
    return [(index, value) for index, value in found if value is not None]


def _picture(svg: bytes | None) -> str:
    """The probe's own picture as a data URI, where it was kept."""
    return "" if svg is None else f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _depths(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    best = source.get("best_place") or (source.get("best") or {}).get("place")
    rows = [*source["depths"], *([source["pixels"]] if source.get("pixels") else [])]
    return [
        {
            "place": one["place"],
            "features": thousands(one["features"]),
            "svm": percent(finite(one["svm"].get("top1"))),
            "softmax": percent(finite(one["softmax"].get("top1"))),
            "interval": _interval(max(one["svm"], one["softmax"], key=lambda score: finite(score.get("top1")) or 0.0)),
            "best": one["place"] == best,
        }
        for one in rows
    ]


def _interval(score: Mapping[str, Any]) -> str:
    return f"{percent(finite(score.get('low')))} to {percent(finite(score.get('high')))}"


def _scenario(one: Mapping[str, Any], chosen: str | None) -> dict[str, Any]:
    return {
        "name": one["scenario"],
        "cut": one.get("cut") or "",
        "expected": percent(finite(one.get("expected_top1"))),
        "interval": _interval(one),
        "seconds": seconds(finite(one.get("seconds"))),
        "measured": one.get("measured") or "",
        "chosen": one["scenario"] == chosen,
    }


def _frozen(options: Mapping[str, Any]) -> str:
    scenario = options.get("scenario")
    if scenario in LINEAR:
        return "Everything below the classifier is as it was, to the bit, batch-norm statistics included."
    if scenario == "keep":
        return "Everything is as it was, to the bit."
    if options.get("freeze_to"):
        return (
            f"Everything up to {options['freeze_to']} is as it was, to the bit, batch-norm statistics included; all "
            "after it learned."
        )
    return "Nothing was frozen." if scenario in TRAINED else ""


def _doubt(one: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    return (
        str(one["path"]), DIRECTIONS.get(one["split"], str(one["split"])), str(one["label"]), str(one["predicted"]),
        percent(finite(one["probability"])),
    )  # fmt: skip
