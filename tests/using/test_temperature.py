"""A temperature in the model file changes every probability alike, and no answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from striate.checkpoint import SavedModel, load_model, save_model
from striate.errors import CheckpointError
from striate.evaluation import evaluate
from striate.exporting import export_run
from striate.prediction import Classifier


@pytest.fixture
def warm(tmp_path: Path, world) -> SavedModel:
    """A network whose file says a temperature of 2.5."""
    cold = world.saved_model(tmp_path / "cold.safetensors")
    save_model(tmp_path / "warm.safetensors", cold.model, cold.spec, cold.labels, temperature=2.5)
    return load_model(tmp_path / "warm.safetensors")


def logits_of_pixels(saved: SavedModel, pixels: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return saved.model((torch.from_numpy(pixels).float() / 255 - 0.4) / 0.3)


def test_it_is_kept_and_checked(warm, tmp_path):
    assert warm.temperature == 2.5
    assert load_model(tmp_path / "cold.safetensors").temperature == 1.0
    with safe_open(tmp_path / "cold.safetensors", "np") as archive:
        assert "temperature" not in json.loads(archive.metadata()["striate"])
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature"):
            save_model(tmp_path / "bad.safetensors", warm.model, warm.spec, warm.labels, temperature=bad)
    assert not (tmp_path / "bad.safetensors").exists()


def test_a_flipped_temperature_is_noticed(warm):
    content = warm.path.read_bytes()
    warm.path.write_bytes(content.replace(rb"\"temperature\": 2.5", rb"\"temperature\": 1.5"))
    assert warm.path.read_bytes() != content
    with pytest.raises(CheckpointError, match="checksum"):
        load_model(warm.path)


def test_predictions_and_evaluations_use_it(warm, world):
    split = world.tensor_split(30)
    pixels = split.images.pixels
    logits = logits_of_pixels(warm, np.asarray(pixels))
    expected = torch.softmax(logits.double() / 2.5, dim=1)
    images = [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in np.asarray(pixels)]
    answers = Classifier(warm, device="cpu").predict(images, top_k=7)
    given = [
        [{one.label: one.probability for one in row.labels}[name] for name in warm.labels.names] for row in answers
    ]
    np.testing.assert_allclose(given, expected.numpy(), atol=1e-5)
    assert [row.label for row in answers] == [warm.labels.names[place] for place in logits.argmax(1).tolist()]

    result = evaluate(warm, split, device="cpu")
    np.testing.assert_allclose(result.predictions["probability"], expected.amax(1).numpy(), atol=1e-5)
    own = expected[torch.arange(30), torch.from_numpy(split.targets)]
    np.testing.assert_allclose(result.predictions["label_probability"], own.numpy(), atol=1e-5)
    warm.temperature = 1.0
    plain = evaluate(warm, split, device="cpu")
    assert plain.scores.top1 == result.scores.top1
    assert plain.scores.loss == result.scores.loss  # the network's own
    assert plain.scores.ece != result.scores.ece


def test_an_export_says_it(warm, tmp_path):
    pytest.importorskip("onnxscript", reason="exporting to ONNX needs onnxscript")
    result = export_run(warm.path, output=tmp_path / "model.onnx")
    assert result.record.temperature == 2.5
    assert json.loads((tmp_path / "model.onnx.json").read_text())["temperature"] == 2.5
    assert result.parity.largest_difference < 1e-4
    again = export_run(warm.path, to="safetensors", output=tmp_path / "copy.safetensors")
    assert load_model(again.path).temperature == 2.5
