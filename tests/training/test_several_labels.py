"""Several labels an image end to end, on mosaics of real digits: trained, chosen, predicted, exported, refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.checkpoint import load_model, save_model
from striate.data import Dataset, Split, TensorImages, load_data
from striate.errors import ModelError, UsageError
from striate.metrics.multi_label import mean_average_precision
from striate.network import open_network, refitted
from striate.options import TrainOptions, merged
from striate.prediction import Classifier
from striate.runfolder import RunFolder
from striate.spec import Labels
from striate.training import repeat, train
from striate.transfer.by_plan import train_by_plan

from .mosaics import mosaics, write_mosaics

QUICK = {
    "data": {"label_delimiter": "|", "workers": 1, "cache_limit": 0},
    "model": {"model": "compact_s"},
    "optimizer": {"batch_size": 32},
    "schedule": {"epochs": 1},
    "training": {"report": False},
    "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """1,000 mosaics of ten digits."""
    return write_mosaics(tmp_path_factory.mktemp("mosaics") / "data", 1000)


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """120 mosaics of four digits."""
    return write_mosaics(tmp_path_factory.mktemp("few") / "data", 120, kinds=4)


def options(data: Path, run: Path, /, **sections: dict) -> TrainOptions:
    made = merged(merged(TrainOptions(), QUICK), {"data": {"data": str(data)}, "training": {"run_dir": str(run)}})
    return merged(made, sections)


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory) -> RunFolder:
    """A network that knows its digits."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    train(options(table, run, schedule={"epochs": 8}))
    return RunFolder(run)


def test_training_reaches_a_sensible_precision_and_keeps_its_thresholds(trained, table):
    recipe, evaluation = trained.read_recipe(), trained.read_evaluation()
    assert recipe.training.best_by == "map"
    assert recipe.regularize.label_smoothing == 0.0
    assert recipe.augment.flip == 0.0  # the labels are digits
    assert recipe.data.label_delimiter == "|"
    assert evaluation["selected_by"] == "map"
    scores = evaluation["splits"]["val"]
    assert scores["map"] > 0.7
    assert scores["loss"] < 0.3
    rows = [row for row in trained.read_metrics() if row["kind"] == "epoch"]
    assert max(row["val"]["map"] for row in rows) == pytest.approx(scores["map"])
    saved = load_model(trained.path)
    assert saved.labels == Labels(tuple("0123456789"), multi_label=True)
    assert saved.thresholds is not None
    assert [row["threshold"] for row in scores["per_class"]] == pytest.approx(saved.thresholds)
    assert len(set(saved.thresholds)) > 1
    assert saved.temperature == 1


def test_predictions_choose_by_the_thresholds_and_agree_with_the_scores(trained, table):
    classifier = Classifier.load(trained.path, device="cpu")
    split = load_data(trained.read_recipe().data).splits["val"]
    paths = [str(table.parent / path) for path in split.paths]
    answers = classifier.predict(paths, top_k=10)
    limits = dict(zip(classifier.labels.names, classifier.saved.thresholds or (), strict=True))
    chances = np.zeros((len(split), 10))
    for row, answer in zip(chances, answers, strict=True):
        ranked = [one.probability for one in answer.labels]
        assert ranked == sorted(ranked, reverse=True)
        for one in answer.labels:
            assert one.chosen == (one.probability >= limits[one.label])
            row[int(one.label)] = one.probability
    found = mean_average_precision(chances, split.targets)
    assert found == pytest.approx(trained.read_evaluation()["splits"]["val"]["map"], abs=1e-4)
    assert {len(answer.chosen or ()) for answer in answers} >= {0, 1, 2}
    assert not np.allclose(chances.sum(axis=1), 1)


def test_every_chosen_label_is_shown_however_few_are_asked_for(trained, table):
    classifier = Classifier.load(trained.path, device="cpu")
    every = classifier.predict(str(table.parent / "images"), top_k=10)
    one = classifier.predict(str(table.parent / "images"), top_k=1)
    assert max(len(answer.labels) for answer in one) > 1
    for whole, short in zip(every, one, strict=True):
        assert short.chosen == whole.chosen
        assert short.labels == tuple(label for place, label in enumerate(whole.labels) if not place or label.chosen)
        row = json.loads(json.dumps(short.to_dict()))
        assert row["chosen"] == list(whole.chosen or ())
        assert all(isinstance(label["chosen"], bool) for label in row["labels"])


SLOW_FORMATS = [pytest.param(name, marks=pytest.mark.slow) for name in ("openvino", "pt2")]


@pytest.mark.parametrize("format", ["onnx", "safetensors", *SLOW_FORMATS])
def test_exports_say_sigmoid_and_thresholds_and_answer_as_predict(trained, tmp_path, format):
    from striate.exporting import export_run

    if format in ("onnx", "openvino"):
        pytest.importorskip("onnxscript")
        pytest.importorskip(format)
    result = export_run(trained.path, to=format, output=tmp_path)
    saved = load_model(trained.path)
    assert result.parity.passed
    assert result.parity.largest_difference < 1e-4
    assert result.record.labels == saved.labels
    assert result.record.thresholds == saved.thresholds
    if format == "safetensors":
        return
    description = json.loads(result.path.with_name(f"{result.path.name}.json").read_text())
    assert description["multi_label"] is True
    assert description["probabilities"] == "sigmoid(logits)"
    assert description["thresholds"] == list(saved.thresholds or ())


@pytest.mark.slow
def test_an_engine_chooses_as_torch_does(trained, table, monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path))
    files = sorted(str(file) for file in (table.parent / "images").iterdir())[:40]
    own, other = (
        Classifier.load(trained.path, device="cpu", backend=backend).predict(files, top_k=10)
        for backend in ("torch", "onnxruntime")
    )
    for one, two in zip(own, other, strict=True):
        assert one.chosen == two.chosen
        assert [label.label for label in one.labels] == [label.label for label in two.labels]


# training, option by option -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sections",
    [
        {"regularize": {"class_weights": "balanced", "sampling": "balanced"}, "training": {"ema": 0.9}},
        {
            "augment": {"preset": "digits", "mixup": 0.4, "cutmix": 0.5},
            "regularize": {"label_smoothing": 0.1},
            "optimizer": {"micro_batches": 3, "accumulate": 2},
        },
        {
            "data": {"limit": 50, "test_fraction": 0.2}, "schedule": {"schedule": "plateau"},
            "training": {"best_by": "loss", "early_stopping": 1},
        },
    ],
)  # fmt: skip
def test_the_options_of_training_go_with_several_labels(few, tmp_path, sections):
    result = train(options(few, tmp_path / "run", **sections))
    assert result.val is not None
    assert result.val.map is not None
    assert 0 < result.val.map <= 1
    assert np.isfinite(result.val.loss)


def test_folds_are_summed_up_by_their_precision(few, tmp_path):
    result = repeat(options(few, tmp_path / "run", training={"folds": 2}))
    found = result.summary()["val"]["map"]
    assert found["min"] <= found["mean"] <= found["max"]
    assert result.to_dict()["val"]["map"] == result.runs[0].val.map  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "sections", "words"),
    [
        ("few", {"training": {"best_by": "balanced_accuracy"}}, "several labels an image have no such figure"),
        ("digits", {"data": {"label_delimiter": None}, "training": {"best_by": "map"}}, "one class an image has no"),
    ],
)
def test_figures_that_the_labels_do_not_have(few, tmp_path, data, sections, words):
    data = few if data == "few" else Path(data)
    with pytest.raises(UsageError, match=words):
        train(options(data, tmp_path / "run", **sections))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["lenet5_1998", "lenet_1989_zip"])
def test_networks_with_a_loss_of_their_own_are_refused_before_anything_is_written(few, tmp_path, name):
    with pytest.raises(ModelError, match="a loss of its own") as caught:
        train(options(few, tmp_path / "run", model={"model": name}))
    assert caught.value.hint
    assert not (tmp_path / "run").exists()


# transfer -------------------------------------------------------------------------------------------------------------


def test_a_network_of_single_digits_gets_a_new_head_and_nothing_is_probed(few, tmp_path, heard):
    one = train(
        options(Path("digits"), tmp_path / "one", data={"label_delimiter": None, "limit": 200}, schedule={"epochs": 1})
    )
    given = options(few, tmp_path / "more", model={"model": None, "from": str(one.run)}, schedule={"epochs": 3})
    result = train_by_plan(given, progress=heard)
    assert any("cannot be probed" in line for line in heard.lines)
    recipe = RunFolder(result.run).read_recipe()
    assert recipe.transfer.scenario == "all"
    assert recipe.transfer.pretrained_lr == 0.1  # the head is new
    assert recipe.transfer.head_start != "fitted"
    assert result.val is not None
    assert result.val.map is not None


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"transfer": {"scenario": "svm"}}, "--scenario svm fits one class"),
        ({"transfer": {"scenario": "softmax"}}, "--scenario softmax fits one class"),
        ({"model": {"from": ("a", "b")}}, "compared by probing"),
    ],
)
def test_what_linear_classifiers_do_is_refused(few, tmp_path, sections, words):
    with pytest.raises(UsageError, match=words) as caught:
        train_by_plan(options(few, tmp_path / "run", **sections))
    assert caught.value.hint


def test_probing_is_refused(few):
    from striate.transfer.probing import probe

    with pytest.raises(UsageError, match="probing takes one class an image"):
        probe(load_data(options(few, Path("run")).data), ["anything"])


def test_thresholds_go_with_their_labels(trained):
    saved = open_network(trained.path)
    names = tuple(reversed(saved.labels.names))
    turned = refitted(saved, Labels(names, multi_label=True))
    assert turned.thresholds == tuple(reversed(saved.thresholds or ()))
    images = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(turned.model(images), saved.model(images).flip(1))
    single = refitted(saved, Labels(names))
    assert single.thresholds is None
    with torch.inference_mode():  # a head of its own: the codes are the same, their answers are not
        assert not torch.allclose(single.model(images), turned.model(images), atol=1e-2)
        assert torch.equal(single.model.features(images), turned.model.features(images))


@pytest.mark.parametrize("thresholds", [(0.5,), (0.5, 1.5, 0.1), (0.1, float("nan"), 0.3)])
def test_a_model_file_takes_one_threshold_for_each_label(trained, tmp_path, thresholds):
    saved = load_model(trained.path)
    with pytest.raises(ValueError, match="each needs one from 0 to 1"):
        save_model(tmp_path / "m", saved.model, saved.spec, saved.labels, thresholds=thresholds)
    with pytest.raises(ValueError, match="any number of labels"):
        save_model(tmp_path / "m", saved.model, saved.spec, Labels(saved.labels.names), thresholds=[0.5] * 10)


def test_images_in_memory_train_too(tmp_path):
    canvases, labels = mosaics(80, seed=5, kinds=3)
    splits = {
        name: Split(name, labels[rows], [f"{name}[{i}]" for i in range(40)], TensorImages(canvases[rows][:, None]))
        for name, rows in (("train", slice(0, 40)), ("val", slice(40, 80)))
    }
    dataset = Dataset(
        name="mosaics", labels=Labels(("0", "1", "2"), multi_label=True), splits=splits, native_size=(16, 16)
    )
    result = train(options(Path("none"), tmp_path / "run", data={"label_delimiter": None}), dataset=dataset)
    assert result.val is not None
    assert result.val.map is not None


def test_the_classifier_of_scikit_learn_takes_an_indicator():
    from striate import StriateClassifier

    canvases, labels = mosaics(300, kinds=3)
    model = StriateClassifier(epochs=12, model="compact_s", batch_size=32, threads=1).fit(canvases[:240], labels[:240])
    chances, said = model.predict_proba(canvases[240:]), model.predict(canvases[240:])
    assert model.classes_.tolist() == [0, 1, 2]
    assert said.shape == chances.shape == (60, 3)
    assert set(np.unique(said)) <= {0, 1}
    assert (said == (chances >= 0.5)).all()  # nothing was held out to choose thresholds on
    assert (said == labels[240:]).mean() > 0.8
    assert model.score(canvases[240:], labels[240:]) == (said == labels[240:]).all(axis=1).mean()
    with pytest.raises(ValueError, match="1d array"):
        StriateClassifier().fit(canvases[:4], np.array([[0, 1], [2, 1], [0, 2], [1, 1]]))


def test_the_command_marks_what_is_chosen(trained, table, tmp_path):
    from click.testing import CliRunner

    from striate.cli.main import striate

    Image.fromarray(np.asarray(Image.open(table.parent / "images" / "0001.png"))).save(tmp_path / "one.png")
    shown = CliRunner().invoke(striate, ["predict", str(trained.path), str(tmp_path / "one.png"), "--device", "cpu"])
    assert shown.exit_code == 0, shown.output
    answer = Classifier.load(trained.path, device="cpu").predict(str(tmp_path / "one.png"))[0]
    assert shown.stdout.count("*") == len(answer.chosen or ())
