"""Operations that move values about: a unit's interval is the box of its gradient, and sizes are true or not given."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.anatomy import anatomy_of

sys.path.insert(0, str(Path(__file__).parent))
from linearised import every_box, linearised


class Does(nn.Module):
    def __init__(self, what) -> None:
        super().__init__()
        self.what = what

    def forward(self, maps):
        return self.what(maps)


MOVES = {
    "flip": lambda maps: maps.flip(3),
    "flip both": lambda maps: maps.flip(-1, -2),
    "roll": lambda maps: maps.roll((2, -1), (2, 3)),
    "quarter turn": lambda maps: torch.rot90(maps, 1, (2, 3)),
    "half turn": lambda maps: torch.rot90(maps, 2, (2, 3)),
    "quarter turn back": lambda maps: torch.rot90(maps, -1, (-2, -1)),
    "repeat": lambda maps: maps.repeat(1, 1, 1, 2),
    "pixel shuffle": lambda maps: F.pixel_shuffle(maps, 2),
    "pixel unshuffle": lambda maps: F.pixel_unshuffle(maps, 2),
    "channel shuffle": lambda maps: F.channel_shuffle(maps, 2),
    "nearest, exact": lambda maps: F.interpolate(maps, scale_factor=1.5, mode="nearest-exact"),
    "bicubic": lambda maps: F.interpolate(maps, scale_factor=2, mode="bicubic"),
    "bicubic to the borders": lambda maps: F.interpolate(maps, size=(9, 7), mode="bicubic", align_corners=True),
}


@pytest.mark.parametrize("name", MOVES)
def test_fields_are_the_boxes_of_the_gradient(name):
    # A convolution whose stride makes rows of unlike length on either side of any seam.
    graph = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), Does(MOVES[name]), nn.LazyConv2d(1, 3, (2, 1), 1, bias=False)
    )
    graph(torch.zeros(1, 1, 8, 6))
    layer = anatomy_of(graph, (8, 6), 1).layers[-1]
    assert not [one.note for one in anatomy_of(graph, (8, 6), 1) if "no rule" in one.note]
    assert layer.field.is_map
    for place, box in every_box(linearised(graph), (1, 8, 6)).items():
        unit = {layer.field.axis_at(2 + dim): index for dim, index in enumerate(place)}
        mine = tuple((axis.lo[unit[i]], axis.hi[unit[i]]) for i, axis in enumerate(layer.field.axes))
        assert mine == box, place


@pytest.mark.parametrize(
    ("name", "size", "stride"),
    [
        ("flip", 5, 1),
        ("half turn", 5, 1),
        ("quarter turn", 5, 1),
        ("pixel shuffle", 4, 0.5),  # 3 units of half a pixel lie in two pixels
        ("pixel unshuffle", 8, 2),
        ("nearest, exact", None, None),
        ("bicubic", None, None),
        ("roll", None, None),
        ("repeat", None, None),
    ],
)
def test_theory(name, size, stride):
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), Does(MOVES[name]), nn.LazyConv2d(1, 3, padding=1))
    net(torch.zeros(1, 1, 24, 24))
    found = anatomy_of(net, 24, 1)
    if name in ("roll", "repeat"):
        assert (found.receptive_field, found.last_map.name) == (None, "2")
        assert "no one receptive field" in found.receptive_field_note
        return
    # In a large image the unit in the middle sees no border: its exact field is one of the theoretical ones.
    sizes = {
        hi - lo + 1 for axis in found.layers[-1].field.axes for lo, hi in zip(axis.lo[4:-4], axis.hi[4:-4], strict=True)
    }
    assert found.receptive_field == max(sizes)
    assert size in (None, found.receptive_field)
    assert stride in (None, found.stride)


def test_an_operation_between_maps_never_leaves_the_field_of_the_one_before():
    layers = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(3, 8, 9, padding=4, stride=4), nn.Conv2d(8, 8, 5)
    shuffled = anatomy_of(nn.Sequential(layers[0], nn.PixelShuffle(2), *layers[1:]), 64, 3)
    # Five windows of 9 units, 4 apart, are 25 units of half a pixel, in 13 pixels; the first layer adds 2.
    assert (shuffled.receptive_field, shuffled.stride) == (15, 2)
    unknown = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), Does(lambda maps: maps.sort(-1).values), *layers[1:])
    found = anatomy_of(unknown, 64, 3)
    assert (found.receptive_field, found.stride) == (None, None)
    assert "no rule for sort" in found.to_dict()["receptive_field_note"]


def test_what_wraps_around_has_no_size_and_says_so():
    found = anatomy_of(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), nn.Conv2d(1, 1, 3)), 12)
    assert found.receptive_field is None
    assert "written in parts" in found.receptive_field_note


def test_gates_from_the_whole_map_are_named():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())

        def forward(self, maps):
            return maps * self.gate(maps)

    found = anatomy_of(nn.Sequential(nn.Conv2d(3, 4, 3), Gate(), nn.Conv2d(4, 4, 3), Gate(), nn.Conv2d(4, 4, 1)), 20)
    assert found.receptive_field is None
    notes = [layer.name for layer in found if layer.note]
    assert notes == ["1.mul"]  # where it begins
    assert "squeeze-and-excitation" in found.to_dict()["receptive_field_note"]
    assert found.last_map.centre == ((0, 19), (0, 19))


@pytest.mark.parametrize("pool", [nn.AvgPool2d(8), nn.MaxPool2d(8), nn.AvgPool2d(10, 1, 1), nn.AdaptiveAvgPool2d(1)])
def test_windows_as_large_as_the_map_are_global_pooling(pool):
    found = anatomy_of(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), pool, nn.Flatten(), nn.Linear(4, 2)), 16)
    assert (found.receptive_field, found.stride, found.last_map.name) == (3, 2, "0")
    assert anatomy_of(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.AvgPool2d(4)), 16).last_map.name == "1"
    # A classifier of 1x1 convolutions reads no neighbours: nothing that follows is a map again.
    found = anatomy_of(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), pool, nn.Conv2d(4, 2, 1), nn.ReLU()), 16)
    assert (found.receptive_field, found.stride, found.last_map.name) == (3, 2, "0")
    assert found.layers[-1].centre == ((0, 15), (0, 15))
    assert found.layers[-1].stride is None


def test_a_network_whose_maps_shrink_to_one_place_goes_on():
    """The last pool of this network covers what is left of a small image; the 3x3 convolutions behind it still are."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(4, 4, 3, padding=1))
    assert [anatomy_of(net, size).receptive_field for size in (4, 64)] == [15, 15]


def test_blocks_behind_a_pool_that_takes_all_there_is_go_on():
    class Bottleneck(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 4, 1))
            self.shortcut = nn.Conv2d(4, 4, 1)

        def forward(self, maps):
            return self.inner(maps) + self.shortcut(maps)

    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.MaxPool2d(3, 2, 1), Bottleneck(), nn.AdaptiveAvgPool2d(1))
    for size in (4, 64):
        found = anatomy_of(net, size)
        assert (found.receptive_field, found.stride, found.last_map.name) == (15, 4, "2.add")


def test_zeros_around_a_pooled_value_see_nothing():
    for pool in (nn.AdaptiveAvgPool2d(1), Does(lambda maps: maps.mean((2, 3), keepdim=True)), nn.AvgPool2d(6)):
        (height, width) = anatomy_of(nn.Sequential(pool, nn.ZeroPad2d((0, 0, 0, 1))), 6, 1).layers[-1].field.axes
        assert [(int(lo), int(hi)) for lo, hi in zip(width.lo, width.hi, strict=True)] == [(0, 5)]
        assert (height.lo <= height.hi).tolist() == [True, False]
