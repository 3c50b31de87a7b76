"""Several views of an image: what is averaged, with what weights, and that the protocol says so."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from striate.checkpoint import SavedModel
from striate.data import Split, TensorImages
from striate.errors import UnknownNameError
from striate.evaluation import evaluate, evaluate_run
from striate.evaluation.protocols import VIEWS
from striate.evaluation.protocols.fitted import with_views
from striate.models import create_model
from striate.options import EvaluateOptions, TrainOptions, merged, options_of
from striate.progress import Console, Progress
from striate.spec import InputSpec, Labels
from striate.training import train


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create_model("compact_s", in_channels=3, input_size=16).eval()


def images() -> torch.Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_flip_is_the_mean_of_both_sides(network):
    batch = images()
    expected = (network(batch) + network(batch.flip(-1))) / 2
    torch.testing.assert_close(with_views(network, "flip")(batch), expected)


def test_flip_and_shift_weigh_the_middle_as_much_as_both_corners(network):
    batch = images()
    padded = F.pad(batch, (1, 1, 1, 1), mode="reflect")
    corners = [padded[..., :16, :16], padded[..., 2:, 2:]]

    def mean(one: torch.Tensor) -> torch.Tensor:
        return (network(one) + network(one.flip(-1))) / 2

    expected = mean(batch) / 2 + (mean(corners[0]) + mean(corners[1])) / 4
    torch.testing.assert_close(with_views(network, "flip+shift")(batch), expected)


def test_a_network_that_does_not_care_about_sides_scores_the_same(network):
    class Mean(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return batch.mean((2, 3))

    batch = images()
    torch.testing.assert_close(with_views(Mean(), "flip")(batch), batch.mean((2, 3)))


def test_single_is_the_network_itself_and_other_names_are_refused(network):
    assert with_views(network, "single") is network
    with pytest.raises(UnknownNameError, match="ten"):
        with_views(network, "ten")
    (choices,) = (one.choices for one in options_of(EvaluateOptions) if one.name == "views")
    assert choices == tuple(VIEWS)


def test_the_protocol_is_written_wherever_scores_are(tmp_path):
    sections = {
        "data": {"data": "digits", "limit": 320},
        "model": {"model": "compact_s"},
        "optimizer": {"batch_size": 64},
        "schedule": {"epochs": 1},
        "training": {"run_dir": str(tmp_path / "run")},
        "evaluate": {"views": "flip+shift"},
        "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
    }
    result = train(merged(TrainOptions(), sections))
    assert result.protocol.startswith("6 views averaged: the image, shifted both ways")
    assert result.to_dict()["protocol"] == result.protocol
    record = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert record["protocol"] == result.protocol
    single = evaluate_run(tmp_path / "run")
    assert single.protocol == "single-crop"  # views are for those who ask
    again = evaluate_run(tmp_path / "run", views="flip+shift")
    assert again.protocol == result.protocol
    assert result.val is not None
    assert again.scores.loss == pytest.approx(result.val.loss, rel=1e-5)
    assert again.scores.loss != pytest.approx(single.scores.loss, rel=1e-3)


@pytest.mark.parametrize(
    ("names", "views", "said"), [("ab", "flip", 1), ("ab", "single", 0), (["ant", "bee"], "flip", 0)]
)
def test_mirrored_characters_are_warned_of(names, views, said):
    class Heard(Progress):
        def warn(self, text: str) -> None:
            warnings.append(text)

    warnings: list[str] = []
    labels, spec = Labels(tuple(names)), InputSpec(size=(16, 16), channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    model = create_model("compact_s", in_channels=3, input_size=16, classes=2)
    images = TensorImages(torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8).numpy())
    split = Split(name="val", targets=np.array([0, 1, 0, 1]), paths=list("1234"), images=images)
    evaluate(SavedModel(model=model, spec=spec, labels=labels), split, device="cpu", views=views, progress=Heard())
    assert len(warnings) == said
    assert all("mirrored" in one for one in warnings)


def test_training_warns_once_for_all_its_splits(tmp_path, capsys):
    sections = {
        "data": {"data": "digits", "limit": 64, "test_fraction": 0.1},
        "model": {"model": "compact_s"},
        "schedule": {"epochs": 1},
        "training": {"run_dir": str(tmp_path / "run")},
        "evaluate": {"views": "flip"},
        "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
    }
    result = train(merged(TrainOptions(), sections), progress=Console(plain=True))
    assert None not in (result.val, result.test)
    assert capsys.readouterr().err.count("mirrored") == 1
