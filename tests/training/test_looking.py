"""Grad-CAM of the mistakes, kept at the end of a run for its report."""

import numpy as np
import pytest
import torch
from torch import nn

import striate
from striate.checkpoint import SavedModel
from striate.models import create_model
from striate.progress import Progress
from striate.report import write_report
from striate.runfolder import RunFolder
from striate.spec import InputSpec, Labels
from striate.training import looking
from striate.training.looking import where_it_looked

NAMES = ("ant", "bee", "cat")
SPEC = InputSpec(size=(28, 28), channels=3)


class Heard(Progress):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def network(*, multi_label: bool = False) -> SavedModel:
    torch.manual_seed(0)
    model = create_model("compact_s", classes=3, in_channels=3, input_size=28).eval()
    return SavedModel(model=model, spec=SPEC, labels=Labels(NAMES, multi_label=multi_label))


def stored(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def answers(count: int) -> list[dict]:
    return [{"predicted": "bee", "label": "cat", "probability": 0.9} for _ in range(count)]


def test_each_mistake_has_a_map_for_what_was_said_and_for_what_it_is():
    saved, heard = network(), Heard()
    found = where_it_looked(saved, stored(15), answers(15), heard)
    assert found["looked"].shape == (looking.MISTAKES, 2, 28, 28, 3)
    assert found["looked"].dtype == np.uint8
    assert found["looked_classes"].tolist() == [["bee", "cat"]] * looking.MISTAKES
    assert str(found["looked_layer"]) == "group2"
    assert heard.warnings == []
    expected = striate.explain(
        saved, stored(1).permute(0, 2, 3, 1).numpy(), "gradcam", target="cat", progress=False
    )[0]  # fmt: skip
    from striate.explanation.figures import heat_over

    shown = heat_over(expected.image, expected.map)
    assert np.abs(found["looked"][0, 1].astype(int) - shown).max() <= 1


def test_of_several_labels_one_that_was_misjudged():
    rows = [
        {"predicted": "ant|bee", "chosen": ["ant", "bee"], "labels": ["ant"]},
        {"predicted": "", "chosen": [], "labels": ["cat"]},
    ]
    found = where_it_looked(network(multi_label=True), stored(2), rows, Progress())
    assert found["looked_classes"].tolist() == [["bee"], ["cat"]]
    assert found["looked"].shape[:2] == (2, 1)


def test_nothing_where_there_are_no_mistakes_no_maps_or_too_much_to_compute(monkeypatch):
    saved, heard = network(), Heard()
    assert where_it_looked(saved, stored(0), [], heard) == {}
    flat = SavedModel(model=nn.Sequential(nn.Flatten(), nn.Linear(2352, 3)), spec=SPEC, labels=Labels(NAMES))
    assert where_it_looked(flat, stored(2), answers(2), heard) == {}
    coarse = SavedModel(
        model=create_model("lecun1989_net2", classes=3), spec=InputSpec(size=(16, 16), channels=1), labels=Labels(NAMES)
    )
    assert where_it_looked(coarse, stored(2)[:, :1, :16, :16], answers(2), heard) == {}  # maps of one unit
    monkeypatch.setattr(looking, "MACS", 1e4)
    assert where_it_looked(saved, stored(2), answers(2), heard) == {}
    assert heard.warnings == []


def test_a_network_that_fails_is_said_and_costs_nothing():
    saved, heard = network(), Heard()
    saved.model.register_forward_hook(_fail)
    assert where_it_looked(saved, stored(2), answers(2), heard) == {}
    assert len(heard.warnings) == 1
    assert "not today" in heard.warnings[0]


def _fail(_module: object, inputs: tuple[torch.Tensor, ...], _output: object) -> None:
    if inputs[0].device.type != "meta":  # its layers can be counted, but it does not run
        raise RuntimeError("not today")


@pytest.mark.parametrize("model", ["lenet5_dense", "lecun1989_net1"])
def test_a_run_keeps_them_and_its_report_shows_them(model, tmp_path):
    """The second network has a single layer of weights, and no maps but the image itself."""
    result = striate.train("digits", model=model, epochs=1, runs=tmp_path, progress=False, report=True)
    with np.load(RunFolder(result.run).pictures) as pictures:
        assert ("looked" in pictures.files) == (model == "lenet5_dense")
        assert len(pictures["worst"]) > 0
    page = write_report(result.run).read_text(encoding="utf-8")
    assert ('id="looking"' in page) == (model == "lenet5_dense")
    assert 'id="images"' in page


def test_a_run_without_a_report_does_not_wait_for_them(tmp_path):
    result = striate.train("digits", model="lenet5_dense", epochs=1, runs=tmp_path, progress=False, report=False)
    with np.load(RunFolder(result.run).pictures) as pictures:
        assert "looked" not in pictures.files
        assert len(pictures["worst"]) > 0
    assert 'id="looking"' not in write_report(result.run).read_text(encoding="utf-8")
