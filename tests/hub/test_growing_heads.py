"""Other classes than those of the weights: what the head keeps, by the names of the classes."""

from dataclasses import replace

import pytest
import torch

from striate.checkpoint import SavedModel, save_model
from striate.errors import ModelError
from striate.hub.classes import imagenet_labels, numbered, rows_by_name
from striate.models import create_model
from striate.models.cut import cut_at, depth_of, places
from striate.network import knows_all, open_network, refitted
from striate.spec import InputSpec, Labels

KNOWN = Labels(("ant", "bee", "cat", "dog", "class 4"))


def saved_network(name: str, **changes) -> SavedModel:
    torch.manual_seed(0)
    changes = {"input_size": 32, "classes": len(KNOWN)} | changes
    model = create_model(name, **changes).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():  # biases that differ, as training leaves them
            if parameter.ndim == 1 and "norm" not in key:
                parameter.normal_()
    record = model.architecture
    return SavedModel(model=model, spec=InputSpec(size=(32, 32), channels=record.in_channels), labels=KNOWN)


def images_for(saved: SavedModel) -> torch.Tensor:
    return torch.randn(4, saved.spec.channels, 32, 32, generator=torch.Generator().manual_seed(1))


CLASSIFIERS = {
    "cifar_resnet20": {},  # linear
    "squeezenet1_1": {},  # 1x1 convolution
    "nin_cifar": {"dropout": 0.0},  # a unit of convolution and activation
    "lenet5_1998": {},  # radial basis units, whose codes are not learnt
    "lenet_1989_zip": {"input_size": 32},  # squashed outputs
    "airbench94": {},  # without biases, scaled
    "vgg_a": {"widths": (8, 8, 8, 8, 8), "hidden": 16},  # behind hidden layers
    "googlenet": {"input_size": 32},  # auxiliary heads
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes_of_the_same_name_answer_as_they_did(name, heard):
    saved = saved_network(name, **CLASSIFIERS[name])
    wanted = Labels(("elk", "cat", "ant", "class 4", "fox", "dog"))  # a bee is gone, three are new
    grown = refitted(saved, wanted, progress=heard)
    line = "head for 6 classes: 3 kept from the weights, 3 new, started randomly"
    assert grown.notes["adapted"] == [line]
    assert heard.lines == [f"{saved.model.architecture.name}: {line}"]
    assert grown.labels == wanted
    images = images_for(saved)
    with torch.no_grad():
        before, after = saved.model(images), grown.model(images)
    torch.testing.assert_close(after[:, [1, 2, 5]], before[:, [2, 0, 3]])
    assert all(len(column.unique()) > 1 or name in ("squeezenet1_1", "nin_cifar") for column in after.T)
    depths = depth_of(saved.model)
    for key, tensor in saved.model.state_dict().items():
        if depths.get(key, len(places(saved.model))) < len(places(saved.model)):
            assert torch.equal(grown.model.state_dict()[key], tensor), key
    if name == "googlenet":
        theirs, ours = saved.model.state_dict(), grown.model.state_dict()
        heads = [key for key in theirs if key.startswith("auxiliary.") and len(theirs[key]) == len(KNOWN)]
        assert len(heads) == 4
        assert all(torch.equal(ours[key][[1, 2, 5]], theirs[key][[2, 0, 3]]) for key in heads)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_another_order_is_the_same_network_with_its_answers_moved(name):
    saved = saved_network(name, **CLASSIFIERS[name])
    saved.labels = Labels(("ant", "bee", "cat", "dog", "elk"))
    moved = refitted(saved, Labels(("elk", "dog", "cat", "bee", "ant")))
    assert moved.notes["adapted"] == ["head for 5 classes: those of the weights, in another order"]
    images = images_for(saved)
    with torch.no_grad():
        torch.testing.assert_close(moved.model(images), saved.model(images).flip(1))
    same = refitted(saved, saved.labels)
    assert "adapted" not in same.notes
    fewer = refitted(saved, Labels(("cat", "bee")))
    assert fewer.notes["adapted"] == ["head for 2 classes: all kept from the weights, which have 5"]
    with torch.no_grad():
        torch.testing.assert_close(fewer.model(images), saved.model(images)[:, [2, 1]])


def test_codes_that_are_not_learnt_differ_between_all_classes():
    saved = saved_network("lenet5_1998", classes=10)
    saved.labels = Labels(tuple("0123456789"))
    grown = refitted(saved, Labels(tuple("9876543210ABC")))
    codes = grown.model.head.get_submodule("output").codes
    assert torch.equal(codes[:10], saved.model.head.get_submodule("output").codes.flip(0))
    assert len({tuple(row) for row in codes.tolist()}) == 13


def test_numbers_that_stand_for_names_say_nothing():
    saved = saved_network("cifar_resnet20")
    saved.labels = numbered(5)
    other = refitted(saved, numbered(7))
    assert other.notes["adapted"] == ["new head for 7 classes, started randomly: the weights have 5"]
    saved.labels = KNOWN
    none = refitted(saved, Labels(("v", "w", "x", "y", "z")))
    assert none.notes["adapted"] == ["new head for 5 classes, started randomly: the weights have others"]


def test_bare_numbers_are_names_of_digits_only():
    digits, folders = Labels(tuple("0123456789")), Labels(("0", "1", "2"))
    assert rows_by_name(Labels(tuple("9876543210")), digits) == list(range(9, -1, -1))
    assert rows_by_name(Labels(tuple("0123456789ABC")), digits) == [*range(10), None, None, None]
    assert rows_by_name(folders, digits) == rows_by_name(Labels(("2", "1", "0")), folders) == [None] * 3
    many = Labels(tuple(str(number) for number in range(12)))
    assert rows_by_name(digits, many) == [None] * 10
    assert rows_by_name(Labels(("0", "bee")), Labels(("bee", "0"))) == [None, 0]


OWN = """
from torch import nn


class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.stages = nn.Sequential()
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))


class Paired(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.stages = nn.Sequential()
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2 * classes), nn.Unflatten(1, (1, -1)), nn.MaxPool1d(2),
            nn.Flatten())

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))
"""


def test_classifiers_whose_rows_are_no_classes_are_not_said_to_be_kept(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    abc, cba = Labels(tuple("abc")), Labels(tuple("cba"))
    for name in ("Fixed", "Paired"):
        code = f"{tmp_path / 'own.py'}:{name}"
        saved = saved_network(code, classes=3)
        saved.labels = abc
        assert knows_all(saved, abc, code=code)
        assert not knows_all(saved, cba, code=code)
        assert "adapted" not in refitted(saved, abc, code=code).notes
        if name == "Fixed":
            with pytest.raises(ModelError, match="has no layer whose shape follows from the classes"):
                refitted(saved, cba, code=code)
        else:
            line = "new head for 3 classes, started randomly: the weights have others"
            assert refitted(saved, cba, code=code).notes["adapted"] == [line]


def test_the_temperature_stays_with_the_classes():
    saved = replace(saved_network("cifar_resnet20"), temperature=1.7)
    saved.labels = Labels(("ant", "bee", "cat", "dog", "elk"))
    assert refitted(saved, saved.labels).temperature == 1.7
    assert refitted(saved, Labels(saved.labels.names[::-1]), in_channels=1).temperature == 1.7
    assert refitted(saved, Labels(("ant", "bee"))).temperature == 1.0
    assert refitted(saved, Labels(("ant", "bee", "cat", "dog", "fox"))).temperature == 1.0


def test_a_temperature_that_was_fitted_is_opened_with_another_input(tmp_path):
    saved = saved_network("cifar_resnet20")
    save_model(tmp_path / "model.safetensors", saved.model, saved.spec, saved.labels, temperature=1.7)
    assert open_network(str(tmp_path / "model.safetensors"), input_size=(40, 40)).temperature == 1.7
    assert open_network(str(tmp_path / "model.safetensors"), classes=7).temperature == 1.0


def test_what_a_head_knows_of_all_classes():
    saved = saved_network("squeezenet1_1")
    assert knows_all(saved, Labels(("dog", "ant")))
    assert not knows_all(saved, Labels(("dog", "elk")))


def test_imagenet_s_classes_are_known_by_their_other_names():
    known = imagenet_labels()
    wanted = Labels(("n01440764", "goldfish", "tench_", "Tench", "my dog"))
    assert rows_by_name(wanted, known) == [0, 1, None, None, None]
    rows = rows_by_name(known, known)
    assert [number for number, row in enumerate(rows) if row != number] == [517, 638]  # names that two classes share


def test_channels_and_classes_change_together_and_cut_networks_grow_too():
    saved = saved_network("cifar_resnet20")
    cut = cut_at(saved.model, "maps16", len(KNOWN)).eval()
    of_cut = replace(saved, model=cut)
    grown = refitted(of_cut, Labels(("bee", "new")), in_channels=1)
    assert grown.model.architecture.cut == "maps16"
    assert grown.notes["adapted"][0] == "head for 2 classes: 1 kept from the weights, 1 new, started randomly"
    assert grown.notes["adapted"][1].startswith("first layer for 1 channels")
    assert torch.equal(grown.model.head.get_submodule("linear").weight[0], cut.head.get_submodule("linear").weight[1])
    grey = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        seen = grown.model(grey)[:, 0]
        torch.testing.assert_close(seen, cut(grey.expand(-1, 3, -1, -1))[:, 1], rtol=1e-3, atol=1e-4)
