"""Views of the network itself: filters, maps, strongest images, fields and codes, as numbers and as figures."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import striate
from striate.checkpoint import SavedModel
from striate.cli.main import striate as command
from striate.errors import ModelError
from striate.explanation.views.filters import filters_of
from striate.models import create_model
from striate.spec import InputSpec, Labels

NAMES = ("ant", "bee", "cat", "dog")


def lenet(channels: int = 1) -> SavedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("lenet5_dense", classes=4, in_channels=channels, input_size=32).eval()
    return SavedModel(model=model, spec=InputSpec(size=(32, 32), channels=channels), labels=Labels(NAMES))


def test_filters_are_the_kernels_of_the_first_convolution_as_pictures():
    saved = lenet(3)
    [shown] = striate.explain(saved, show="filters", progress=False)
    weights = saved.model.stem.c1.conv.weight.detach().numpy()
    np.testing.assert_array_equal(shown.weights, weights)
    tiles = shown.tiles()
    assert tiles.shape == (6, 5, 5, 3)
    assert tiles.min() >= 0
    assert tiles.max() <= 1
    for tile, kernel in zip(tiles, weights, strict=True):  # 0 is mid-grey, and the order is kept
        np.testing.assert_allclose((tile - 0.5) * 2 * np.abs(kernel).max(), kernel.transpose(1, 2, 0), atol=1e-6)
    np.testing.assert_allclose(shown.norms, np.linalg.norm(weights.reshape(6, -1), axis=1), rtol=1e-5)


def test_filters_of_a_network_that_wants_blue_first_are_shown_in_true_colours():
    saved = lenet(3)
    spec = InputSpec(size=(32, 32), channels=3, channel_order="BGR")
    np.testing.assert_array_equal(filters_of(saved.model, spec=spec).weights, filters_of(saved.model).weights[:, ::-1])


def test_the_first_layer_is_the_one_that_runs_first():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.late, self.early = nn.Conv2d(4, 2, 3), nn.Conv2d(1, 4, 5)
            self.architecture = type("Record", (), {"in_channels": 1, "input_size": (16, 16)})()

        def forward(self, images):
            return self.late(self.early(images)).mean((2, 3))

    assert filters_of(Backwards()).layer == "early"
    assert filters_of(Backwards(), "late").weights.shape == (2, 4, 3, 3)
    with pytest.raises(ModelError, match="no kernels"):
        filters_of(nn.Linear(2, 2))


def test_a_dead_filter_is_grey():
    saved = lenet()
    saved.model.stem.c1.conv.weight.data[2] = 0
    shown = filters_of(saved.model)
    assert shown.norms[2] == 0
    assert np.all(shown.tiles()[2] == 0.5)


def run(*words: str):
    return CliRunner().invoke(command, ["explain", *map(str, words)])


@pytest.fixture
def file(tmp_path):
    from striate.checkpoint import save_model

    saved = lenet()
    save_model(tmp_path / "model.safetensors", saved.model, saved.spec, saved.labels)
    return tmp_path / "model.safetensors"


def test_the_command_writes_what_is_shown(file, tmp_path):
    result = run(
        file, "--show", "filters", "--output", tmp_path / "out", "--format", "svg", "--format", "png", "--json"
    )
    assert result.exit_code == 0, result.stderr
    [view] = json.loads(result.stdout)["views"]
    assert (view["show"], view["layer"], view["shape"]) == ("filters", "stem.c1.conv", [6, 1, 5, 5])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "filters-stem.c1.conv.png",
        "filters-stem.c1.conv.svg",
    ]
