"""Receptive fields are the bounding box of a unit's gradient in the linearised network: on random graphs, for every
unit, and for every registered architecture."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from striate.anatomy import anatomy_of
from striate.errors import ModelError
from striate.models import create_model, entries

sys.path.insert(0, str(Path(__file__).parent))
from linearised import boxes, every_box, linearised


class Branches(nn.Module):
    """Two ways from one map, cut to their common size and added, or joined as channels, or one below the other."""

    def __init__(self, first: nn.Module, second: nn.Module, how: str) -> None:
        super().__init__()
        self.first, self.second, self.how = first, second, how

    def forward(self, maps):
        left, right = self.first(maps), self.second(maps)
        if self.how == "below":
            width = min(left.shape[3], right.shape[3])
            return torch.cat([left[..., :width], right[..., :width]], 2)
        height, width = (min(left.shape[dim], right.shape[dim]) for dim in (2, 3))
        left, right = left[:, :, :height, :width], right[:, :, :height, right.shape[3] - width :]
        if self.how == "add":
            return left + right
        return torch.cat([left, right], 1).sum(1, keepdim=True)


class Crop(nn.Module):
    def __init__(self, top: int, left: int, step: int) -> None:
        super().__init__()
        self.top, self.left, self.step = top, left, step

    def forward(self, maps):
        top, left = (min(cut, side - 1) for cut, side in zip((self.top, self.left), maps.shape[2:], strict=True))
        return maps[:, :, top :: self.step, left:]


class Turn(nn.Module):
    def forward(self, maps):
        return maps.transpose(2, 3)


pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
small = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw):
    kernel = draw(pairs)
    padding = tuple(draw(st.integers(0, side // 2)) for side in kernel)
    return nn.Conv2d(1, 1, kernel, draw(small), padding, draw(small), bias=False)


@st.composite
def pools(draw):
    kernel = draw(pairs)
    padding = tuple(draw(st.integers(0, side // 2)) for side in kernel)
    return nn.AvgPool2d(kernel, draw(small), padding, ceil_mode=draw(st.booleans()))


@st.composite
def transposed(draw):
    kernel, stride = draw(pairs), draw(small)
    kernel = tuple(max(k, s) for k, s in zip(kernel, stride, strict=True))  # no unit without an input
    extra = tuple(draw(st.integers(0, s - 1)) for s in stride)
    padding = tuple(draw(st.integers(0, (k - s) // 2)) for k, s in zip(kernel, stride, strict=True))
    extra = tuple(e if e <= p + k - s else 0 for e, p, k, s in zip(extra, padding, kernel, stride, strict=True))
    return nn.ConvTranspose2d(1, 1, kernel, stride, padding, extra, bias=False)


simple = st.one_of(
    convolutions(),
    convolutions(),
    pools(),
    transposed(),
    st.builds(Crop, st.integers(0, 2), st.integers(0, 2), st.integers(1, 2)),
    st.builds(nn.ZeroPad2d, st.tuples(*[st.integers(0, 2)] * 4)),
    st.builds(nn.ReplicationPad2d, st.integers(0, 2)),
    st.builds(nn.ReflectionPad2d, st.integers(0, 1)),
    st.builds(nn.AdaptiveAvgPool2d, st.tuples(st.integers(1, 4), st.integers(1, 4))),
    st.builds(lambda scale: nn.Upsample(scale_factor=scale, mode="nearest"), st.sampled_from([2, 3])),
    st.builds(lambda scale: nn.Upsample(scale_factor=scale, mode="bilinear"), st.sampled_from([2, 3, 1.5])),
    st.builds(lambda size: nn.Upsample(size=size, mode="bilinear", align_corners=True), st.integers(2, 9)),
)
chains = st.lists(simple, max_size=3).map(lambda layers: nn.Sequential(*layers))
graphs = st.lists(
    st.one_of(
        simple,
        simple,
        st.builds(Turn),
        st.builds(Branches, chains, chains, st.sampled_from(["add", "concat", "below"])),
    ),
    min_size=1,
    max_size=4,
).map(lambda layers: nn.Sequential(*layers))


# What torch says of a window, or of a border to mirror, that is larger than the map.
TOO_SMALL = (
    "Kernel size can't be greater than actual input size",
    "Output size is too small",
    "Padding size should be less than the corresponding input dimension",
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs, height=st.integers(5, 12), width=st.integers(5, 10))
def test_fields_of_random_graphs_are_the_boxes_of_the_gradient(graph, height, width):
    net = linearised(graph)
    try:
        with torch.no_grad():
            out = net(torch.zeros(1, 1, height, width, dtype=torch.float64))
    except RuntimeError as error:
        if not any(words in str(error) for words in TOO_SMALL):
            raise
        with pytest.raises(ModelError):
            anatomy_of(graph, (height, width), 1)
        return
    if max(out.shape[2:]) > 40:
        return
    layers = anatomy_of(graph, (height, width), 1).layers
    if not layers:
        return  # only layers that do nothing
    field = layers[-1].field
    # Axes are followed one by one. A unit that sees nothing along one (it reads padding alone) sees nothing at all,
    # which a branch that joins it later cannot know: then the interval may be too large, never too small.
    # Maps laid one below the other share the columns that either of them sees.
    loose = any((axis.lo > axis.hi).any() for layer in layers for axis in layer.field.axes)
    loose |= any(getattr(module, "how", "") == "below" for module in graph.modules())
    for place, box in every_box(net, (1, height, width)).items():
        unit = {field.axis_at(2 + dim): index for dim, index in enumerate(place)}
        # A settled axis (global pooling) has one interval for all its units.
        mine = [(axis.lo[k], axis.hi[k]) for i, axis in enumerate(field.axes) for k in [unit.get(i, 0)]]
        if loose:
            assert box is None or all(lo <= low and high <= hi for (lo, hi), (low, high) in zip(mine, box, strict=True))
        else:
            assert tuple(mine) == box, place


# The quickest of each kind of geometry; the others are slow.
EVERYDAY = {
    "lenet5_1998",
    "cifar_resnet20",
    "resnet18_a",
    "squeezenet_complex_bypass",
    "mobilenet_v1_0.25_128",
    "googlenet",
}
# More than a thousand layers, or the same geometry in another width.
LEFT_OUT = {"cifar_resnet1202", "stochdepth_resnet1202", "preact_resnet1001"}
# At these networks' smallest sizes the last pooling covers the whole map, and so counts as global.
POOLED_AWAY = {"alexnet_2012", "alexnet_dense", "alexnet_owt", "caffenet", "zfnet_fig3", "zfnet_512_1024_512"}


@pytest.mark.parametrize(
    "name",
    [
        one.name if one.name in EVERYDAY else pytest.param(one.name, marks=pytest.mark.slow)
        for one in entries()
        if one.name not in LEFT_OUT
    ],
)
def test_fields_of_architectures_are_the_boxes_of_the_gradient(name):
    entry = next(one for one in entries() if one.name == name)
    sides = (max(entry.min_size, 40), max(entry.min_size, 40) + 9)
    if entry.family.startswith(("lenet", "lecun")):
        sides = entry.input.size
    model = create_model(name, input_size=sides, start=False)
    body = nn.Sequential(model.stem, model.stages)
    layers = anatomy_of(body, sides, entry.input.channels).layers
    if not layers:
        return  # nothing before the classifier
    axes = layers[-1].field.axes
    assert layers[-1].field.is_map == (name not in POOLED_AWAY)
    found = boxes(linearised(body), (entry.input.channels, *sides))
    for axis, expected in zip(axes, found, strict=True):
        assert list(zip(axis.lo.tolist(), axis.hi.tolist(), strict=True)) == expected
