import json
import math
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.report.conftest import DIGITS, MadeRun, scores_of

from striate.metrics.label_summary import score_labels
from striate.metrics.multi_label import together
from striate.metrics.reliability import reliability
from striate.report import Finding, diagnose
from striate.spec import Labels


def epochs_of(**columns):
    """Metrics rows from columns; `val_` columns go into the nested record."""
    length = len(next(iter(columns.values())))
    rows = []
    for place in range(length):
        row = {"kind": "epoch", "epoch": place + 1, "step": 10 * (place + 1), "lr": 0.1, "seconds": 1.0, "val": {}}
        for name, values in columns.items():
            if name.startswith("ema_"):
                row.setdefault("val_ema", {})[name[4:]] = values[place]
            elif name.startswith("val_"):
                row["val"][name[4:]] = values[place]
            else:
                row[name] = values[place]
        rows.append(row)
    return rows


def evaluation_of(top1=0.9, n=5000, train=None, split="val", **more):
    labels = DIGITS
    targets = np.arange(n) % 10
    predicted = np.where(np.arange(n) < round(top1 * n), targets, (targets + 1 + np.arange(n) % 3) % 10)
    scores = scores_of(labels, targets, predicted, 0.3) | more
    return {"splits": {split: scores}, "train": None if train is None else {"top1": train}, "params": 1}


def manifest_of(**splits):
    """split -> images per class."""
    rows = [
        (f"{split}/{name}/{place}", f"{split}{name}{place}", str(name), split, None)
        for split, counts in splits.items()
        for name, count in enumerate(counts)
        for place in range(count)
    ]
    names = ("path", "hash", "label", "split", "reason")
    return pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)})


def found(title, metrics=(), evaluation=None, manifest=None, predictions=None) -> Finding:
    findings = diagnose(list(metrics), evaluation or {}, manifest, {}, predictions=predictions)
    matching = [one for one in findings if title in one.title]
    assert matching, f"{title} not in {[one.title for one in findings]}"
    return matching[0]


def titles(metrics=(), evaluation=None, manifest=None, predictions=None):
    return [one.title for one in diagnose(list(metrics), evaluation or {}, manifest, {}, predictions=predictions)]


FALLING = [1.0, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05]


def test_overfitting_by_the_turn_of_the_validation_loss():
    val = [1.1, 0.8, 0.6, 0.55, 0.6, 0.7, 0.8, 0.9]
    finding = found(
        "Overfitting", epochs_of(train_loss=FALLING, val_loss=val, train_top1=[0.99] * 8, val_top1=[0.8] * 8)
    )
    assert finding.level == "attention"
    assert "epoch 3" in finding.sentence or "epoch 4" in finding.sentence
    assert finding.figures["at the end"] == "0.9"


def test_overfitting_by_the_gap():
    finding = found("Overfitting", epochs_of(train_loss=FALLING), evaluation_of(0.8, train=0.99))
    assert finding.figures["gap"] == "19.0 points"


def test_a_gap_within_chance_is_no_overfitting():
    assert "Overfitting" not in titles(epochs_of(train_loss=FALLING), evaluation_of(0.9, n=50, train=0.96))


def test_both_losses_falling_is_no_overfitting():
    rows = epochs_of(train_loss=FALLING, val_loss=[one * 1.1 for one in FALLING], train_top1=[0.97] * 8)
    assert "Overfitting" not in titles(rows, evaluation_of(0.96, train=0.97))


def test_agreement_is_said():
    assert found("agree", epochs_of(train_loss=FALLING), evaluation_of(0.96, train=0.97)).level == "good"


def test_underfitting():
    finding = found("Underfitting", epochs_of(train_loss=FALLING), evaluation_of(0.61, train=0.62))
    assert finding.figures["top-1 on training images, as they are"].startswith("62")


def test_hard_augmentation_is_no_underfitting():
    assert "Underfitting" not in titles(epochs_of(train_loss=FALLING, train_top1=[0.7] * 8), evaluation_of(0.95))


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_divergence(bad):
    rows = epochs_of(train_loss=[1.0, 2.0, bad], val_top1=[0.3, 0.2, 0.1])
    finding = found("Training diverged", rows)
    assert finding.level == "problem"
    assert finding.figures["first seen"] == "epoch 3"


def test_rising_training_loss():
    finding = found("training loss rose", epochs_of(train_loss=[1.0, 0.5, 0.9, 1.4]))
    assert (finding.figures["epoch 2"], finding.figures["epoch 4"]) == ("0.5", "1.4")
    assert finding.figures["peak learning rate"] == "0.1"


def test_nothing_learned():
    rows = epochs_of(train_loss=[2.31, 2.303, 2.302, 2.3026])
    assert found("Nothing was learned", rows, evaluation_of(0.1)).figures["guessing"] == "2.3"


def test_a_spike_in_the_steps():
    steps = [{"kind": "step", "epoch": 1, "step": place, "lr": 0.1, "loss": 0.5} for place in range(1, 101)]
    steps[60]["loss"] = 4.0
    finding = found("loss jumped", [*steps, *epochs_of(train_loss=[0.5, 0.5, 0.5])])
    assert finding.figures["worst"] == "step 61"
    assert finding.figures["before it"] == "0.5"


def test_calm_steps_are_no_spike():
    steps = [{"kind": "step", "epoch": 1, "step": place, "loss": 2.0 / place} for place in range(1, 101)]
    assert "The training loss jumped" not in titles([*steps, *epochs_of(train_loss=[0.5, 0.4, 0.3])])


def test_still_improving():
    rows = epochs_of(train_loss=FALLING, train_top1=[0.8] * 8, val_top1=[0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.76, 0.82])
    finding = found("Still improving", rows, evaluation_of(0.82))
    assert finding.figures["validation error before"].startswith("30")


def test_plateau():
    rows = epochs_of(train_loss=[0.1] * 20, val_top1=[0.5, 0.8, 0.9, *[0.95] * 17])
    finding = found("Plateaued", rows, evaluation_of(0.95))
    assert finding.figures["epochs after that"] == "16"
    assert finding.figures["time in them"] == "16.0 s"


def test_the_average_helps_or_lags():
    rows = epochs_of(train_loss=FALLING, val_top1=[0.9] * 8, ema_top1=[0.93] * 8)
    assert found("average of the weights helps", rows, evaluation_of(0.9)).level == "good"
    rows = epochs_of(train_loss=FALLING, val_top1=[0.9] * 8, ema_top1=[0.5] * 8)
    assert (
        found("average of the weights lags", rows, evaluation_of(0.9)).figures["best top-1, average"].startswith("50")
    )


def test_waiting_leaves_out_the_first_epoch():
    rows = epochs_of(train_loss=FALLING[:4], data_wait_share=[0.9, 0.4, 0.4, 0.4])
    finding = found("waits for its images", rows)
    assert finding.figures == {"waiting": "40\u202f%", "seconds waited": "1.2 s"}
    assert "The network waits for its images" not in titles(
        epochs_of(train_loss=FALLING[:4], data_wait_share=[0.9, 0.1, 0.1, 0.1])
    )


def test_label_shift_states_both_figures():
    manifest = manifest_of(train=[100] * 4, val=[70, 10, 10, 10])
    finding = found("Label shift", manifest=manifest)
    assert finding.figures["total variation"] == "45.0\u202f%"
    # by hand: expected counts of val are 34, 22, 22, 22 and those of train 136, 88, 88, 88
    statistic = 36**2 * (1 / 34 + 1 / 136) + 3 * 12**2 * (1 / 22 + 1 / 88)
    assert finding.figures["chi-square"].startswith(f"{statistic:.3g} at 3")
    assert "“0”" in finding.sentence


def test_chance_differences_are_no_shift():
    assert not any("Label shift" in one for one in titles(manifest=manifest_of(train=[100] * 4, val=[7, 6, 4, 5])))


def test_classes_missing_on_either_side():
    manifest = manifest_of(train=[50, 0, 50], val=[10, 10, 0])
    assert found("without training images", manifest=manifest).level == "problem"
    assert "2" in found("missing in val", manifest=manifest).sentence


def test_imbalance():
    manifest = manifest_of(train=[100, 10], val=[50, 5])
    assert found("very different size", manifest=manifest).figures["ratio"] == "10 : 1"
    assert found("very different size", manifest=manifest).level == "note"
    hurt = evaluation_of(0.9, balanced_accuracy=0.6)
    assert "--sampling balanced" in found("very different size", evaluation=hurt, manifest=manifest).sentence


def test_a_small_validation_set():
    finding = found("small validation set", evaluation=evaluation_of(0.9, n=50))
    assert finding.level == "attention"
    assert finding.figures["95 % interval"] == "78.6\u202f% to 95.7\u202f%"
    assert not any("small" in one for one in titles(evaluation=evaluation_of(0.9, n=5000)))


def test_left_out_files():
    manifest = manifest_of(train=[40, 40], val=[10, 10])
    broken = pa.table(
        {
            "path": ["a.jpg", "b.jpg", "c.jpg"],
            "hash": ["x", "y", "z"],
            "label": ["0", "0", "1"],
            "split": ["train"] * 3,
            "reason": ["truncated", "truncated", "not an image"],
        }
    )
    whole = pa.concat_tables(
        [manifest, broken.cast(manifest.schema.remove(4).append(broken.schema.field(4)))], promote_options="permissive"
    )
    finding = found("left out", manifest=whole)
    assert finding.level == "attention"
    assert finding.figures["truncated"] == "2"


def test_content_shared_with_training():
    manifest = manifest_of(train=[40, 40], val=[10, 10])
    hashes = manifest["hash"].to_pylist()
    hashes[80:83] = hashes[0:3]
    manifest = manifest.set_column(1, "hash", pa.array(hashes))
    finding = found("Training images among those of val", manifest=manifest)
    assert finding.level == "problem"
    assert finding.figures["shared"] == "3"


def test_a_perfect_score_asks_for_a_second_look():
    assert found("perfect score", evaluation=evaluation_of(1.0)).level == "note"
    assert not any("perfect" in one for one in titles(evaluation=evaluation_of(1.0, n=50)))


def test_held_out_easier_than_training():
    assert (
        found("easier than training", evaluation=evaluation_of(0.95, train=0.85)).figures["difference"] == "10.0 points"
    )


def test_a_class_never_recognised():
    targets = np.arange(1000) % 10
    predicted = np.where(targets == 3, 5, targets)
    evaluation = {"splits": {"val": scores_of(DIGITS, targets, predicted, 0.1)}}
    assert "1 class never recognised" in titles(evaluation=evaluation)
    assert "“3” and “5”" in found("One confusion", evaluation=evaluation).sentence


def test_unreadable_images_of_the_scored_split():
    finding = found("count as mistakes", evaluation=evaluation_of(0.9, n=1000, unreadable=100))
    assert "100.0\u202f%" in finding.sentence
    assert finding.level == "attention"


@pytest.mark.parametrize(("claimed", "words"), [(0.99, "too much"), (0.6, "too little")])
def test_calibration_says_which_way(claimed, words):
    evaluation = evaluation_of(0.8, n=1000)
    predictions = pa.table(
        {"probability": [claimed] * 1000, "correct": [place < 800 for place in range(1000)], "split": ["val"] * 1000}
    )
    finding = found("Probabilities are off", evaluation=evaluation, predictions=predictions)
    assert words in finding.sentence
    assert finding.figures["share correct"] == "80.0\u202f%"


def labels_evaluation(*, shift=0.0, noise=0.3, n=400, silent=False):
    """The scores of four labels by a network that knows them but for noise, whose logits are moved by `shift`."""
    generator = np.random.default_rng(0)
    truths = generator.random((n, 4)) < 0.3
    logits = np.where(truths, 2.0, -2.0) + generator.normal(size=truths.shape) * noise
    if silent:
        logits[:, 3] = -9
    labels = Labels(("ant", "bee", "cat", "dog"), multi_label=True)
    given, targets = torch.from_numpy(logits + shift).float(), torch.from_numpy(truths)
    scores = score_labels(given, targets, labels, intervals=True)
    chances = given.double().sigmoid().numpy()
    bins = reliability(chances.ravel(), truths.ravel())
    trust = {
        "calibration": {"bins": bins.to_dict()},
        "together": {"labels": list(labels.names), "chosen": together(chances >= 0.5).tolist()},
    }
    return {"splits": {"val": json.loads(json.dumps({**asdict(scores), **trust}))}, "train": None, "params": 1}


def test_labels_that_are_ranked_at_random_or_poorly():
    assert found("random order", evaluation=labels_evaluation(noise=500)).level == "problem"
    assert found("low mean average precision", evaluation=labels_evaluation(noise=8)).level == "attention"
    good = titles(evaluation=labels_evaluation())
    assert not [one for one in good if "order" in one or "low mean" in one]


def test_a_label_that_is_never_chosen():
    finding = found("never chosen", evaluation=labels_evaluation(silent=True))
    assert finding.title == "1 label never chosen"
    assert "dog" in finding.sentence
    assert finding.figures["labels"] == "1 of 4"


@pytest.mark.parametrize(("shift", "side"), [(2.5, "more"), (-2.5, "fewer")])
def test_probabilities_of_labels_that_add_up_to_another_number(shift, side):
    finding = found("Probabilities are off", evaluation=labels_evaluation(shift=shift))
    assert f"promise {side} labels" in finding.sentence
    assert float(finding.figures["there"]) == pytest.approx(1.2, abs=0.1)
    # of normal logits 4 apart with variance 4, x + log(0.3 / 0.7) are the true log-odds
    calibrated = labels_evaluation(noise=2, shift=math.log(0.3 / 0.7))
    assert "Probabilities are off" not in titles(evaluation=calibrated)


def test_few_images_of_several_labels():
    assert found("small validation set", evaluation=labels_evaluation(noise=4, n=40)).level == "attention"
    assert not any("small" in one for one in titles(evaluation=labels_evaluation(n=2000)))


def test_a_mean_average_precision_that_falls_is_overfitting():
    maps = [0.5, 0.7, 0.8, 0.85, 0.84, 0.8, 0.75, 0.7]
    finding = found("ranked worse", epochs_of(train_loss=FALLING, val_map=maps))
    assert finding.figures["at the end"].startswith("70")
    assert not any("Overfitting" in one for one in titles(epochs_of(train_loss=FALLING, val_map=sorted(maps))))
    turned = titles(epochs_of(train_loss=FALLING, val_map=maps, val_loss=[1.1, 0.8, 0.6, 0.55, 0.6, 0.7, 0.8, 0.9]))
    assert [one for one in turned if "Overfitting" in one] == ["Overfitting"]


def test_labels_are_not_called_classes():
    manifest = manifest_of(train=[100, 10, 0, 10], val=[50, 5, 3, 0])
    manifest = manifest.set_column(
        2, "label", pa.array([f"{'abcd'[int(one)]}" for one in manifest["label"].to_pylist()])
    )
    findings = diagnose([], labels_evaluation(), manifest, {})
    words = " ".join(f"{one.title} {one.sentence} {' '.join(one.figures)}" for one in findings)
    assert "Labels of very different size" in words
    assert "Labels without training images" in words
    assert "class" not in words.lower()


def test_a_good_run_is_called_good():
    run = MadeRun(epochs=8, sizes={"train": 20_000, "val": 20_000}, accuracy=0.985)
    found_levels = {one.level for one in diagnose(run.metrics, run.evaluation, run.manifest, run.environment)}
    assert "problem" not in found_levels
    assert "attention" not in found_levels


def test_findings_are_sorted_and_nothing_is_fine():
    assert diagnose([], {}, None, {}) == []
    levels = [one.level for one in diagnose(epochs_of(train_loss=[1.0, 0.5, 2.0]), evaluation_of(0.5, n=30), None, {})]
    assert levels == sorted(levels, key=("problem", "attention", "note", "good").index)
