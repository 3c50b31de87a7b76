"""Ensembles and soups against plain slow ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from striate.checkpoint import load_model, save_model
from striate.data import Dataset, PhotoImages
from striate.errors import CheckpointError, ModelError, UsageError
from striate.evaluation import evaluate, matched
from striate.evaluation.ensembles import evaluate_ensemble, evaluate_networks, told_apart
from striate.evaluation.ensembles import soup as kitchen
from striate.metrics.pairs import compare_pairs
from striate.spec import Labels

QUICK = {"device": "cpu", "precision": "fp32", "backend": "torch"}


@pytest.fixture
def networks(world, model_file, tmp_path) -> list[Path]:
    """Three networks of one architecture: classes in two orders, two sizes of input, two temperatures."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for number in range(3):
        saved = load_model(model_file)
        with torch.no_grad():
            for parameter in saved.model.parameters():
                parameter.add_(0.2 * parameter.std(correction=0) * torch.randn(parameter.shape, generator=generator))
        spec = saved.spec if number < 2 else dataclasses.replace(saved.spec, mean=(0.5,), std=(0.2,))
        labels = saved.labels if number < 2 else Labels(tuple(reversed(saved.labels.names)))
        found.append(tmp_path / f"{number}.safetensors")
        save_model(found[-1], saved.model, spec, labels, temperature=(1.0, 2.5, 0.5)[number])
    return found


@pytest.fixture
def dataset(world) -> Dataset:
    splits = {
        "train": world.tensor_split(60, seed=3),
        "val": world.tensor_split(23, seed=2),
        "test": world.tensor_split(31, unreadable=2),
    }
    splits = {name: dataclasses.replace(one, name=name) for name, one in splits.items()}
    return Dataset(
        name="made up", labels=world.labels, splits=splits, channels=3, native_size=(32, 32), official_test=True
    )


def slow(path: Path, split, names: tuple[str, ...]) -> np.ndarray:
    """Probabilities, image by image, the classes in the order of `names`."""
    saved = load_model(path)
    rows = []
    for index in range(len(split)):
        pixels = split.images.take(np.array([index]), saved.spec).double() / 255
        with torch.inference_mode():
            logits = saved.model(((pixels - saved.spec.mean[0]) / saved.spec.std[0]).float())
        chances = functional.softmax(logits.double() / saved.temperature, dim=1)[0]
        rows.append([float(chances[saved.labels.index(name)]) for name in names])
    return np.array(rows)


def test_the_average_is_that_of_a_slow_one(networks, dataset, world):
    result = evaluate_ensemble(networks, dataset, **QUICK)
    split = dataset.splits["test"]
    mean = np.mean([slow(path, split, world.labels.names) for path in networks], axis=0)
    rows = result.predictions.to_pylist()
    assert [row["path"] for row in rows] == [*split.paths, "bad/0.png", "bad/1.png"]  # every image once
    for row, chances, target in zip(rows, mean, split.targets, strict=False):
        assert row["predicted"] == world.labels.names[chances.argmax()]
        assert row["probability"] == pytest.approx(chances.max(), abs=1e-5)
        assert row["label_probability"] == pytest.approx(chances[target], abs=1e-5)
    scores = result.scores
    assert (scores.n, scores.unreadable) == (33, 2)
    assert scores.top1 == (mean.argmax(axis=1) == split.targets).sum() / 33
    assert scores.loss == pytest.approx(-np.log(mean[np.arange(31), split.targets]).mean(), abs=1e-5)
    assert result.protocol == "the mean probabilities of 3 networks, each by single-crop"
    assert (result.model, result.data, result.split) == ("3 cifar_resnet20", "made up", "test")


@pytest.mark.parametrize(("views", "count"), [("flip", 31), ("ten-crop", 9), ("dense", 3)])
def test_members_together_are_what_they_are_alone(networks, dataset, world, views, count):
    """The members are those networks, also where they look together; and without one is the average of the others."""
    dataset.splits["test"] = split = world.tensor_split(count, unreadable=2)
    result = evaluate_ensemble(networks, dataset, views=views, batch_size=7, **QUICK)
    assert [row["name"] for row in result.ensemble["members"]] == list(map(str, networks))
    for path, row in zip(networks, result.ensemble["members"], strict=True):
        saved = load_model(path)
        alone = evaluate(saved, matched(split, dataset.labels, saved.labels), views=views, device="cpu")
        assert (row["top1"], row["top5"]) == (alone.scores.top1, alone.scores.top5)
        assert row["top1_interval"] == pytest.approx(alone.scores.top1_interval)
        assert row["loss"] == pytest.approx(alone.trust["calibration"]["loss_after"], rel=1e-4)
        others = evaluate_ensemble([one for one in networks if one != path], dataset, views=views, **QUICK)
        assert row["without"]["top1"] == others.scores.top1
        assert row["without"]["loss"] == pytest.approx(others.scores.loss, rel=1e-5)
        right = [np.array(one.predictions["correct"].to_pylist()) for one in (others, result)]
        expected = compare_pairs(*right).to_dict()
        assert {key: row["adds"][key] for key in expected} == expected
        assert row["adds"]["p_adjusted"] >= row["adds"]["p"]


def test_the_greedy_order_ends_with_all_of_them(networks, dataset):
    result = evaluate_ensemble(networks, dataset, **QUICK)
    order, members = result.ensemble["greedy"], result.ensemble["members"]
    assert sorted(row["name"] for row in order) == sorted(map(str, networks))
    best = max(members, key=lambda row: (row["top1"], -row["loss"]))
    assert order[0]["name"] == best["name"] == result.ensemble["best_member"]
    assert order[0]["adds"] is None
    two = evaluate_ensemble([row["name"] for row in order[:2]], dataset, **QUICK)
    assert order[1]["top1"] == two.scores.top1
    other = evaluate_ensemble([order[0]["name"], order[2]["name"]], dataset, **QUICK)
    assert (two.scores.top1, -two.scores.loss) >= (other.scores.top1, -other.scores.loss)
    assert order[2]["top1"] == result.scores.top1
    assert result.ensemble["over_best"]["difference"] == pytest.approx(result.scores.top1 - best["top1"])


def test_images_are_decoded_once_for_networks_that_are_fed_alike(networks, world, tmp_path, monkeypatch):
    decoded = []
    original = PhotoImages._whole

    def counted(self, index):
        decoded.append(index)
        return original(self, index)

    monkeypatch.setattr(PhotoImages, "_whole", counted)
    folder = world.photo_folder(tmp_path / "pictures", per_class=2)
    evaluate_ensemble(networks[:2], folder, views="ten-crop", **QUICK)
    assert sorted(decoded) == list(range(14))


def test_other_classes_and_lonely_networks_are_refused(world, networks, dataset, tmp_path):
    names = (*world.labels.names[:-1], "hen")
    world.saved_model(tmp_path / "other.safetensors", n=1, labels=Labels(names))
    with pytest.raises(ModelError, match=r"other.safetensors alone knows hen; .*0.safetensors alone knows gnu"):
        evaluate_ensemble([networks[0], tmp_path / "other.safetensors"], dataset, **QUICK)
    with pytest.raises(UsageError, match="named twice"):
        evaluate_ensemble([networks[0], networks[0]], dataset, **QUICK)
    several = tmp_path / "several.safetensors"
    world.saved_model(several, n=1, labels=Labels(world.labels.names, multi_label=True))
    with pytest.raises(UsageError, match="several labels an image are not averaged"):
        evaluate_ensemble([networks[0], several], dataset, **QUICK)
    with pytest.raises(UsageError, match="kept no snapshots"):
        evaluate_ensemble([networks[0]], dataset, snapshots=True, **QUICK)
    with pytest.raises(UsageError, match="does not know its data"):
        evaluate_ensemble(networks, **QUICK)


@pytest.mark.parametrize("by", ["uniform", "greedy"])
def test_a_soup_of_equal_networks_is_that_network(model_file, dataset, tmp_path, by):
    copies = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path in copies:
        path.write_bytes(model_file.read_bytes())
    result = evaluate_ensemble(copies, dataset, soup=tmp_path / "soup.safetensors", soup_by=by, **QUICK)
    soup, one = load_model(tmp_path / "soup.safetensors"), load_model(model_file)
    state = soup.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in one.model.state_dict().items())
    said = result.ensemble["soup"]
    assert (said["kept"], said["left_out"], said["statistics_images"]) == (list(map(str, copies)), [], 0)
    assert said["top1"] == result.scores.top1 == evaluate(one, dataset.splits["test"], device="cpu").scores.top1
    assert soup.notes["soup"] == {"by": by, "kept": list(map(str, copies)), "left_out": []}


def test_a_uniform_soup_is_the_mean_and_its_statistics_those_of_training_images(networks, dataset, tmp_path):
    evaluate_ensemble(networks[:2], dataset, soup=tmp_path / "soup.safetensors", soup_by="uniform", **QUICK)
    soup = load_model(tmp_path / "soup.safetensors").model
    states = [load_model(path).model.state_dict() for path in networks[:2]]
    for name, value in soup.named_parameters():
        assert torch.allclose(value, (states[0][name] + states[1][name]) / 2, atol=1e-7)
    seen = []
    convolution = next(one for one in soup.modules() if isinstance(one, torch.nn.Conv2d))
    norm = next(one for one in soup.modules() if isinstance(one, torch.nn.BatchNorm2d))
    convolution.register_forward_hook(lambda *given: seen.append(given[2]))
    train = dataset.splits["train"]
    spec = load_model(networks[0]).spec
    pixels = train.images.take(np.arange(len(train)), spec).float() / 255
    with torch.inference_mode():
        soup((pixels - spec.mean[0]) / spec.std[0])
    assert torch.allclose(norm.running_mean, seen[0].mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(norm.running_var, seen[0].var((0, 2, 3)), rtol=1e-3)


def test_statistics_are_said_to_be_of_as_many_images_as_they_are_of(networks, dataset, world, tmp_path, monkeypatch):
    monkeypatch.setattr("striate.evaluation.ensembles.soup.usual_batch", lambda spec: 16)
    path, seen = tmp_path / "soup.safetensors", []
    original = kitchen.normalise
    monkeypatch.setattr(
        kitchen, "normalise", lambda stored, spec: (seen.append(len(stored)), original(stored, spec))[1]
    )
    found = evaluate_ensemble(networks[:2], dataset, soup=path, soup_by="uniform", **QUICK).ensemble["soup"]
    assert found["statistics_images"] == sum(seen) == 48  # of 60: batches of one size


def test_a_soup_takes_no_place_of_a_network(networks, dataset, tmp_path):
    with pytest.raises(UsageError, match="would take the place of the network"):
        evaluate_ensemble(networks[:2], dataset, soup=networks[1], **QUICK)
    with pytest.raises(CheckpointError, match="no such file or directory"):
        evaluate_ensemble(networks[:2], dataset, soup=tmp_path / "nowhere" / "soup.safetensors", **QUICK)
    with pytest.raises(UsageError, match="no network to evaluate"):
        evaluate_networks([], dataset)
    with pytest.raises(UsageError, match="none is asked for"):
        evaluate_networks(networks[:2], dataset, soup_by="uniform", **QUICK)


def test_a_greedy_soup_keeps_what_does_not_lower_the_validation_score(networks, model_file, dataset, tmp_path):
    spoilt = load_model(model_file)
    with torch.no_grad():
        for parameter in spoilt.model.parameters():
            parameter.mul_(-1)
    save_model(tmp_path / "spoilt.safetensors", spoilt.model, spoilt.spec, spoilt.labels)
    given = [model_file, tmp_path / "spoilt.safetensors", networks[0]]
    result = evaluate_ensemble(given, dataset, soup=tmp_path / "soup.safetensors", **QUICK)
    said = result.ensemble["soup"]
    steps = said["validation"]["steps"]
    alone = [evaluate(load_model(path), dataset.splits["val"], device="cpu").scores.top1 for path in given]
    assert {row["name"]: row["alone"] for row in steps} == dict(zip(map(str, given), alone, strict=True))
    assert [row["alone"] for row in steps] == sorted(alone, reverse=True)
    best = 0.0
    for row in steps:
        assert row["kept"] == (row["top1"] >= best)
        best = max(best, row["top1"])
    assert said["validation"]["top1"] == best
    written = evaluate(load_model(tmp_path / "soup.safetensors"), dataset.splits["val"], device="cpu")
    assert written.scores.top1 == best
    assert sorted([*said["kept"], *said["left_out"]]) == sorted(map(str, given))


def test_networks_without_common_weights_make_no_soup(world, networks, dataset, tmp_path):
    world.saved_model(tmp_path / "wide.safetensors", "resnet32")
    for other, what in (
        (tmp_path / "wide.safetensors", "name, config"),
        (networks[2], "the order of their classes, what"),
    ):
        with pytest.raises(ModelError, match=f"no common weights to average: they differ in {what}"):
            evaluate_ensemble([networks[0], other], dataset, soup=tmp_path / "soup.safetensors", **QUICK)
    del dataset.splits["val"]
    with pytest.raises(UsageError, match="needs validation images"):
        evaluate_ensemble(networks[:2], dataset, soup=tmp_path / "soup.safetensors", **QUICK)


def test_words_are_networks_and_the_last_one_may_be_data(tmp_path, monkeypatch, networks):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "photos-1", "twin"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "recipe.toml").touch()
    for name in ("photos", "twin", "resnet18"):
        (tmp_path / name).mkdir()
    (tmp_path / "table.csv").touch()
    file = str(networks[0])
    assert told_apart(["anything"]) == (["anything"], None)
    assert told_apart(["one", "two"]) == (["one", "two"], None)
    assert told_apart(["one", "runs/two", file]) == (["one", "runs/two", file], None)
    assert told_apart(["one", "latest"]) == (["one", "latest"], None)
    assert told_apart(["one", "resnet50:imagenet1k_v1"])[1] is None
    for data in ("photos", "resnet18", "table.csv", "digits"):
        assert told_apart(["one", "two", data]) == (["one", "two"], data)
    with pytest.raises(UsageError, match="no/such is neither a run or another network nor data"):
        told_apart(["one", "two", "no/such"])
    with pytest.raises(UsageError, match="twin is a run as well as data") as caught:
        told_apart(["one", "twin"])
    assert "runs/twin is the run; --data twin the data" in str(caught.value.hint)
    with pytest.raises(UsageError, match="photos is data, not a network"):
        told_apart(["one", "photos", "two"])
