"""The diagnosis in plain words: every finding comes from figures of the run, and shows them.

The thresholds stand beside each rule in `rules_learning`, `rules_data`, `rules_scores` and `rules_labels`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from striate.metrics.reliability import Reliability, reliability
from striate.report.evidence import LEVELS, Evidence
from striate.report.evidence import Finding as Finding
from striate.report.label_sets import stored_reliability
from striate.report.record import HEADLINE_ORDER, count_manifest
from striate.report.rules_data import DATA_RULES, label_shift
from striate.report.rules_labels import LABEL_RULES
from striate.report.rules_learning import LEARNING_RULES, average, length
from striate.report.rules_scores import SCORE_RULES, calibration, certainty, lost_classes

if TYPE_CHECKING:
    import pyarrow

# have a meaning only where an image has one class
OF_TOP1 = (length, average, certainty, calibration, lost_classes, label_shift)
RULES = (*LEARNING_RULES, *SCORE_RULES, *DATA_RULES)
MUTED_BY_DIVERGENCE = ("Still improving", "Plateaued", "Underfitting", "Overfitting", "The average")


def diagnose(
    metrics: list[dict[str, Any]],
    evaluation: dict[str, Any],
    manifest: pyarrow.Table | None,
    environment: dict[str, Any],
    *,
    predictions: pyarrow.Table | None = None,
) -> list[Finding]:
    """Everything worth knowing about a run, worst first.

    Args:
        metrics: the rows of metrics.jsonl, of both kinds.
        evaluation: evaluation.json, or {} for a run that has not come that far.
        manifest: data.parquet, or None.
        environment: environment.json, or {}.
        predictions: predictions.parquet, for the direction of miscalibration; None where there is none.
    """
    split = headline_split(evaluation)
    several = ((evaluation.get("splits") or {}).get(split) or {}).get("exact_match") is not None
    counts = (
        None if manifest is None else count_manifest(manifest, _class_names(evaluation, split), multi_label=several)
    )
    evidence = Evidence(
        epochs=[row for row in metrics if row.get("kind") == "epoch"],
        steps=[row for row in metrics if row.get("kind") == "step"],
        evaluation=evaluation,
        environment=environment,
        counts=counts,
        reliability=(
            stored_reliability(evaluation["splits"][split]) if several else reliability_of(predictions, split)
        ),
        split=split,
    )
    return findings_of(evidence)


def findings_of(evidence: Evidence) -> list[Finding]:
    """The findings of all rules on evidence that is already gathered."""
    rules = RULES
    if evidence.multi_label:
        rules = (*(rule for rule in RULES if rule not in OF_TOP1), *LABEL_RULES)
    found = [finding for rule in rules for finding in rule(evidence)]
    if any(finding.title == "Training diverged" for finding in found):
        # the weights are ruined: what the other curves suggest about the length of training would mislead
        found = [finding for finding in found if not finding.title.startswith(MUTED_BY_DIVERGENCE)]
    if len(evidence.epochs) >= 3 and all(finding.level == "good" for finding in found):
        found.append(Finding("good", "Nothing stands out", _all_clear(evidence), _all_clear_figures(evidence)))
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def headline_split(evaluation: dict[str, Any]) -> str | None:
    """The split whose score a report puts on top."""
    there = evaluation.get("splits") or {}
    return next((name for name in (*HEADLINE_ORDER, *there) if there.get(name)), None)


def reliability_of(predictions: pyarrow.Table | None, split: str | None) -> Reliability | None:
    """Calibration bins of the readable images of one split."""
    if predictions is None or len(predictions) == 0:
        return None
    probability = predictions["probability"].to_numpy(zero_copy_only=False).astype(float)
    correct = predictions["correct"].to_numpy(zero_copy_only=False)
    rows = np.isfinite(probability)
    if "split" in predictions.column_names and split is not None:
        rows &= np.asarray(predictions["split"].to_pylist()) == split
    return reliability(probability[rows], correct[rows].astype(bool)) if rows.any() else None


def _class_names(evaluation: dict[str, Any], split: str | None) -> list[str]:
    scores = (evaluation.get("splits") or {}).get(split) or {}
    return [str(row["label"]) for row in scores.get("per_class") or ()]


def _all_clear_figures(evidence: Evidence) -> dict[str, str]:
    figures = {"epochs": str(len(evidence.epochs))}
    if evidence.scores:
        right = evidence.scores["exact_match" if evidence.multi_label else "top1"]
        figures["mistakes"] = f"{round((1 - right) * evidence.n)} of {evidence.n}"
    return figures


def _all_clear(evidence: Evidence) -> str:
    if not evidence.scores:
        return "The curves so far show no sign of trouble."
    return "The curves, the classes and the splits show no sign of trouble: what is left is ordinary mistakes."
