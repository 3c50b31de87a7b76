"""An evaluation against a plain slow one, image by image."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional

from striate.data import Split, TensorImages, load_data
from striate.errors import DataError, UsageError
from striate.evaluation import evaluate, matched
from striate.evaluation.labels import numbers_of
from striate.hub.classes import imagenet_labels
from striate.spec import Labels


def slow(saved, split):
    """Logits and losses one image at a time, preprocessed by hand."""
    rows = []
    for index in range(len(split)):
        pixels = split.images.take(np.array([index]), saved.spec)[0].double() / 255
        mean, std = torch.tensor(saved.spec.mean), torch.tensor(saved.spec.std)
        image = ((pixels - mean.double()[:, None, None]) / std.double()[:, None, None]).float()
        with torch.inference_mode():
            rows.append(saved.model(image[None])[0])
    logits = torch.stack(rows)
    return logits, functional.cross_entropy(logits, torch.from_numpy(split.targets), reduction="none")


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_equals_a_slow_evaluation_whatever_the_batch_size(world, saved, batch_size):
    split = world.tensor_split(13)
    logits, losses = slow(saved, split)
    chances = functional.softmax(logits.double(), dim=1).numpy()
    result = evaluate(saved, split, batch_size=batch_size, device="cpu")
    rows = result.predictions.to_pylist()
    assert [row["path"] for row in rows] == list(split.paths)
    order = np.argsort(-chances, axis=1)
    for index, row in enumerate(rows):
        target = int(split.targets[index])
        assert row["label"] == world.labels.names[target]
        assert row["predicted"] == world.labels.names[order[index, 0]]
        assert row["correct"] is bool(order[index, 0] == target)
        assert row["probability"] == pytest.approx(chances[index, order[index, 0]], abs=3e-6)
        assert row["label_probability"] == pytest.approx(chances[index, target], abs=3e-6)
        assert row["loss"] == pytest.approx(float(losses[index]), abs=1e-5)
        assert row["error"] is None
        assert [one["label"] for one in row["top"]] == [world.labels.names[number] for number in order[index, :5]]
        np.testing.assert_allclose(
            [one["probability"] for one in row["top"]], chances[index, order[index, :5]], atol=3e-6
        )
    scores = result.scores
    assert scores.n == 13
    assert scores.top1 == np.mean(order[:, 0] == split.targets)
    assert scores.top5 == np.mean((order[:, :5] == split.targets[:, None]).any(axis=1))
    assert scores.loss == pytest.approx(float(losses.mean()), abs=1e-5)


def test_unreadable_images_are_wrong_and_listed(world, saved):
    result = evaluate(saved, world.tensor_split(20, unreadable=3), device="cpu")
    clean = evaluate(saved, world.tensor_split(20), device="cpu").scores
    assert (result.scores.n, result.scores.unreadable) == (23, 3)
    assert result.scores.top1 == pytest.approx(clean.top1 * 20 / 23)
    assert result.scores.loss == clean.loss
    supports = {one.label: one.support for one in result.scores.per_class}
    assert supports["ant"] == {one.label: one.support for one in clean.per_class}["ant"] + 2
    last = result.predictions.to_pylist()[-1]
    assert last == {
        "path": "bad/2.png", "label": "ant", "predicted": None, "probability": None, "label_probability": None,
        "loss": None, "correct": False, "error": "the file is empty (0 bytes)", "top": None,
    }  # fmt: skip
    assert [one["path"] for one in result.unreadable] == ["bad/0.png", "bad/1.png", "bad/2.png"]
    assert result.to_dict()["unreadable_files"] == result.unreadable


def test_nothing_readable(world, saved):
    split = dataclasses.replace(world.tensor_split(0), unreadable=world.tensor_split(0, unreadable=2).unreadable)
    result = evaluate(saved, split, device="cpu")
    assert (result.scores.n, result.scores.top1) == (2, 0.0)
    assert math.isnan(result.scores.loss)
    assert len(result.predictions) == 2


def test_several_splits_count_as_one(world, saved):
    first, second = world.tensor_split(9, unreadable=1), world.tensor_split(5, seed=1)
    result = evaluate(saved, [first, second], device="cpu")
    assert result.scores.n == 15
    assert result.predictions["path"].to_pylist()[:14] == [*first.paths, *second.paths]


def test_the_mode_of_the_model_and_random_states_stay(world, saved):
    from striate.data.batches import EvaluationBatches
    from striate.inference import logits_of

    model = saved.model.train()
    model.stem.eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    batches = EvaluationBatches(world.tensor_split(5), saved.spec, batch_size=2, device=torch.device("cpu"))
    logits, targets, indices = logits_of(model, batches)
    assert model.training
    assert not model.stem.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert (logits.shape, logits.dtype, targets.tolist()) == (
        (5, 7),
        torch.float32,
        world.tensor_split(5).targets.tolist(),
    )
    assert indices.tolist() == [0, 1, 2, 3, 4]
    assert not logits.is_inference()
    saved.model.eval()


def test_a_head_with_its_own_loss(world, tmp_path):
    """LeNet-5 of 1998: logits are minus distances; the reported loss is the head's, not cross-entropy."""
    digits = Labels(tuple(map(str, range(10))))
    saved = world.saved_model(tmp_path / "model.safetensors", "lenet5", channels=1, labels=digits)
    split = world.tensor_split(6, channels=1)
    result = evaluate(saved, split, device="cpu")
    images = split.images.take(np.arange(6), saved.spec).float() / 255
    with torch.inference_mode():
        logits = saved.model((images - 0.4) / 0.3)
        expected = float(saved.model.loss(logits, torch.from_numpy(split.targets)))
    assert result.scores.loss == pytest.approx(expected, rel=1e-4)


def test_bf16_is_near_fp32(world, saved):
    exact = evaluate(saved, world.tensor_split(30), device="cpu").predictions["probability"].to_numpy()
    rough = (
        evaluate(saved, world.tensor_split(30), device="cpu", precision="bf16").predictions["probability"].to_numpy()
    )
    np.testing.assert_allclose(rough, exact, atol=0.1)
    assert not np.array_equal(rough, exact)
    with pytest.raises(UsageError, match="fp16"):
        evaluate(saved, world.tensor_split(3), device="cpu", precision="fp16")


def test_classes_are_matched_by_name(world):
    theirs = Labels(("fox", "ant", "dog"))
    split = Split("val", np.array([0, 1, 2, 0]), ["a", "b", "c", "d"], TensorImages(np.zeros((4, 1, 2, 2), np.uint8)))
    assert matched(split, theirs, world.labels).targets.tolist() == [5, 0, 3, 5]
    assert matched(split, world.labels, world.labels) is split
    with pytest.raises(DataError) as caught:
        matched(split, Labels(("fox", "ant", "hog")), world.labels)
    assert "does not know hog" in caught.value.message
    assert "it knows bee, cat, dog, eel, gnu, which the data do not have" in caught.value.message


def test_a_name_that_two_classes_of_imagenet_share():
    ours = imagenet_labels()
    with pytest.raises(DataError) as caught:
        numbers_of(Labels(("crane", "tench")), ours)
    assert "crane bird (n02012849) and crane (n03126707)" in caught.value.message
    assert numbers_of(Labels(("crane", "n02012849_crane")), ours) == [517, 134]  # the other one is named
    assert numbers_of(Labels(("crane", "n03126707_crane", "tench")), ours) == [134, 517, 0]
    assert numbers_of(ours, ours) == list(range(1000))
    backwards = Labels(tuple(reversed(ours.names)))
    assert numbers_of(backwards, ours) == list(range(999, -1, -1))


def test_the_table_is_written_whole_and_with_odd_names(world, saved, tmp_path):
    split = world.tensor_split(3)
    split = dataclasses.replace(split, paths=["café.png", "caf\udce9.png", "日本.png"])
    evaluate(saved, split, device="cpu").write_predictions(tmp_path / "answers.parquet")
    assert pq.read_table(tmp_path / "answers.parquet")["path"].to_pylist() == ["café.png", r"caf\udce9.png", "日本.png"]


def test_photos_equal_a_slow_evaluation(world, saved, tmp_path):
    dataset = load_data(str(world.photo_folder(tmp_path / "photos")))
    for split in dataset.splits.values():
        logits, _ = slow(saved, split)
        result = evaluate(saved, matched(split, dataset.labels, world.labels), batch_size=5, device="cpu")
        expected = functional.softmax(logits, dim=1).max(dim=1).values
        np.testing.assert_allclose(result.predictions["probability"].to_numpy(), expected.numpy(), atol=3e-6)
