"""What would help next: for what was trained, not for the classifier beside it, and nothing that is only noise."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.transfer.low_digits import some_digits

from striate.data import Dataset
from striate.runfolder import RunFolder
from striate.transfer.next_steps import next_steps, shrunk_recalls
from striate.transfer.result import Accuracy, Answers, DepthProbe, PowerLaw, ProbeResult, Similarity, SourceProbe


@pytest.fixture
def dataset() -> Dataset:
    return some_digits((0, 1), per_class=20)


def a_run(folder: Path, top1: float, *, wrong: int, images: int = 100) -> RunFolder:
    """A run folder with these scores, of whose validation images so many are surely answered wrongly."""
    (folder / "run").mkdir()
    run = RunFolder(folder / "run")
    run.recipe.write_text('[transfer]\nscenario = "all"\n')
    run.evaluation.write_text(json.dumps({"splits": {"val": {"top1": top1, "n": images}}}))
    right = round(top1 * images)
    sure = [0.99] * right + [0.95] * wrong + [0.5] * (images - right - wrong)
    table = {
        "path": [f"{number}.png" for number in range(images)], "label": ["zero"] * images,
        "predicted": ["zero"] * right + ["one"] * (images - right), "probability": sure,
        "correct": [number < right for number in range(images)], "split": ["val"] * images,
    }  # fmt: skip
    pq.write_table(pa.table(table), run.predictions)
    return run


def a_probe(dataset: Dataset, law: PowerLaw, *, right: float = 0.9) -> ProbeResult:
    n = len(dataset.splits["train"])
    targets = dataset.splits["train"].targets
    wrong = np.arange(n) >= right * n
    predicted = np.where(wrong, 1 - targets, targets)
    probabilities = np.full((n, 2), 0.04, np.float32)
    probabilities[np.arange(n), predicted] = 0.96
    figure = Accuracy.of(~wrong)
    depth = DepthProbe(place="stem", features=8, svm=figure, softmax=figure)
    source = SourceProbe(
        source="a", model="compact_s", depths=(depth,), pixels=depth, best_place="stem",
        single_kind="svm", single=figure, power_law=law,
        answers=Answers(rows=np.arange(n), targets=targets, probabilities=probabilities),
        similarity=Similarity(figure=1.0, low=1.0, high=1.0, climb=1.0, kept=1.0, best_depth=0.0),
    )  # fmt: skip
    return ProbeResult(
        data="digits", images=n, available=n, classes=2, largest_class=0.5, folds=5, sources=(source,),
        best_source="a", rule="",
    )  # fmt: skip


def test_more_images_are_worth_what_they_are_to_the_network_that_was_trained(dataset, tmp_path):
    """The linear classifier errs in 40 of 100 and halves that; a network that errs in 4 gains 2 points, not 20."""
    n = len(dataset.splits["train"])
    law = PowerLaw(floor=0.0, scale=0.4 * n, exponent=1.0, draws=((0.0, 0.4 * n, 1.0), (0.0, 0.4 * n**0.5, 0.5)))
    (step,) = [
        one
        for one in next_steps(a_run(tmp_path, 0.96, wrong=0), dataset, a_probe(dataset, law))
        if one.kind == "images"
    ]
    assert step.gain == pytest.approx(0.02)
    low, high = map(float, re.search(r"\(([\d.]+) to ([\d.]+) points", step.text).groups())
    assert 1.0 < low < high <= 2.0  # between the exponents of a half and one


@pytest.mark.parametrize(
    ("top1", "wrong", "said"), [(0.9, 3, True), (0.22, 3, False), (0.7, 20, False), (0.7, 10, True)]
)
def test_labels_are_doubted_only_by_who_knows_the_classes(dataset, tmp_path, top1, wrong, said):
    steps = next_steps(a_run(tmp_path, top1, wrong=wrong), dataset)
    assert [one.kind for one in steps] == (["labels"] if said else [])


@pytest.mark.parametrize(("right", "said"), [(0.95, True), (0.5, False), (0.8, False)])
def test_nor_are_labels_of_training(dataset, tmp_path, right, said):
    law = PowerLaw(floor=0.1, scale=0.0, exponent=1.0)
    steps = next_steps(a_run(tmp_path, 1.0, wrong=0), dataset, a_probe(dataset, law, right=right))
    assert [one.kind for one in steps] == (["labels"] if said else [])


def test_where_nothing_could_be_held_out_no_label_is_doubted(dataset, tmp_path):
    probe = a_probe(dataset, PowerLaw(floor=0.0, scale=1.0, exponent=0.3))
    none = Answers(
        rows=np.empty(0, np.int64), targets=np.empty(0, np.int64), probabilities=np.empty((0, 2), np.float32)
    )
    probe = replace(probe, sources=(replace(probe.best, answers=none),))
    assert next_steps(a_run(tmp_path, 1.0, wrong=0), dataset, probe) == ()  # warnings are errors here


def test_recalls_that_chance_could_have_parted_name_no_weakest_class():
    random = np.random.default_rng(0)
    named = [shrunk_recalls(random.binomial(20, 0.8, 10) / 20, [20] * 10) for _ in range(200)]
    lowest = [0.8 if one is None else one.min() for one in named]
    assert np.mean(lowest) > 0.76  # plain minima are 0.64 on average
    clear = shrunk_recalls([0.9, 0.92, 0.88, 0.3], [50] * 4)
    assert clear is not None
    assert clear.argmin() == 3
    assert 0.3 < clear[3] < 0.4
    assert shrunk_recalls([0.5], [10]) is None
    assert shrunk_recalls([1.0, 1.0], [10, 10]) is None
