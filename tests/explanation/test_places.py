"""Layers by name, and the one that makes sense by itself."""

import pytest
import torch
from torch import nn

from striate.errors import ModelError, UnknownNameError
from striate.explanation.attribution import METHODS, Question
from striate.explanation.places import find_place, map_places, watched
from striate.explanation.undisturbed import undisturbed
from striate.models import create_model


@pytest.mark.parametrize(
    ("name", "place", "path"),
    [
        ("lenet5_1998", "s4", "stages.s4"),  # c5 has maps of one pixel
        ("alexnet_owt", "conv5", "stages.conv5"),  # not the units behind it
        ("resnet18", "conv5_x", "stages.conv5_x"),
        ("squeezenet1_1", "fire9", "stages.fire9"),
        ("airbench94", "group3", "stages.group3"),
    ],
)
def test_the_default_is_the_deepest_layer_with_maps(name, place, path):
    found = find_place(create_model(name, start=False))
    assert (found.name, found.path) == (place, path)


def test_small_images_have_their_fine_maps_earlier():
    small = create_model("vgg_a", input_size=32, widths=(4, 4, 4, 4, 4), hidden=8, start=False)
    assert find_place(small).name == "conv3"  # 4 by 4; conv4 has 2 by 2, conv5 one


def test_any_module_has_a_name_and_a_wrong_one_is_answered_with_the_nearest():
    model = create_model("resnet18", start=False)
    assert find_place(model, "stages.conv3_x.0.conv1").path == "stages.conv3_x.0.conv1"
    assert find_place(model, "conv3_x").path == "stages.conv3_x"
    with pytest.raises(UnknownNameError) as caught:
        find_place(model, "conv6_x")
    assert "conv5_x" in (caught.value.hint or "")


def test_a_network_that_is_not_ours():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.architecture = type("Record", (), {"in_channels": 3, "input_size": (16, 16)})()
    assert find_place(model).path == "2"
    assert [one.shape for one in map_places(model)][:2] == [(4, 14, 14), (4, 14, 14)]
    flat = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    flat.architecture = type("Record", (), {"in_channels": 3, "input_size": (4, 4)})()
    with pytest.raises(ModelError, match="has maps"):
        find_place(flat)


def test_what_is_watched_is_what_the_layer_gave_the_last_time():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.ReLU(inplace=True), shared, nn.ReLU(inplace=True))
    given = torch.randn(4, 2)
    with watched(model, ["0"]) as seen:
        model(given)
    torch.testing.assert_close(seen["0"], shared(shared(given).relu()))
    assert not model[0]._forward_hooks


def test_a_layer_that_gives_several_things_is_an_error():
    class Pair(nn.Module):
        def forward(self, given):
            return given, given

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, given):
            return self.pair(given)[0]

    model = Net()
    with pytest.raises(ModelError, match="pair gives a tuple"), watched(model, ["pair"]):
        model(torch.ones(1))


@pytest.mark.parametrize("method", ["gradcam", "deconvnet"])
def test_a_layer_that_does_not_run_is_an_error(method):
    model = create_model("googlenet")
    place = find_place(model, "auxiliary")
    with undisturbed(model):
        question = Question(
            model=model, images=torch.zeros(1, 3, 224, 224), targets=torch.zeros(1, dtype=torch.int64), place=place
        )
        with pytest.raises(ModelError, match="auxiliary gives nothing when the network answers"):
            METHODS[method].ask(question)
