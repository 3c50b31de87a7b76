"""Section B of the methods: pooling."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate.errors import UnknownNameError
from striate.layers.activations import ScaledTanh
from striate.layers.pooling import POOLINGS, GlobalPool, SumPool2d, TrainableSubsampling, make_pooling, pooled_size

# A 3x3 map whose 2x2 windows at stride 1 give M041's figures.
MAP = torch.tensor([[[[4.0, 3.0, 4.0], [2.0, 4.0, 3.0], [2.0, 3.0, 4.0]]]])


def test_worked_windows():
    """M041: max, average and sum of 2x2 windows at stride 1."""
    assert nn.MaxPool2d(2, 1)(MAP).flatten().tolist() == [4, 4, 4, 4]
    assert nn.AvgPool2d(2, 1)(MAP).flatten().tolist() == [3.25, 3.5, 2.75, 3.5]
    assert SumPool2d(2, 1)(MAP).flatten().tolist() == [13, 14, 11, 14]


def test_max_pooling_sends_the_gradient_to_the_largest_only():
    """M039."""
    image = torch.tensor([[[[1.0, 5.0], [2.0, 3.0]]]], requires_grad=True)
    make_pooling("max", 1)(image).backward()
    assert image.grad is not None
    assert image.grad.flatten().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(("name", "side", "expected"), [("max", 28, 14), ("overlapping_max", 55, 27), ("sum", 5, 2)])
def test_sides(name, side, expected):
    """M039, M043: 2x2/2 halves, 3x3/2 takes 55 to 27."""
    assert make_pooling(name, 2)(torch.randn(1, 2, side, side)).shape == (1, 2, expected, expected)


def test_average_counts_the_padding_unless_told():
    """M040."""
    image = torch.ones(1, 1, 2, 2)
    assert nn.AvgPool2d(2, padding=1)(image).flatten().tolist() == [0.25] * 4
    assert nn.AvgPool2d(2, padding=1, count_include_pad=False)(image).flatten().tolist() == [1.0] * 4


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 2**31))
def test_sum_is_window_squared_times_the_average(height, width, seed):
    """M041."""
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(make_pooling("sum", 3)(images), 4 * make_pooling("average", 3)(images))


@pytest.mark.parametrize(("maps", "parameters"), [(6, 12), (16, 32)])
def test_trainable_subsampling_is_two_parameters_a_map(maps, parameters):
    """M042: squash(a_c * sum + b_c); S2 has 12 parameters, S4 has 32."""
    layer = TrainableSubsampling(maps)
    assert sum(parameter.numel() for parameter in layer.parameters()) == parameters
    nn.init.normal_(layer.coefficient)
    nn.init.normal_(layer.bias)
    images = torch.randn(2, maps, 4, 4)
    sums = images.view(2, maps, 2, 2, 2, 2).sum((3, 5))
    expected = 1.7159 * torch.tanh((layer.coefficient[:, None, None] * sums + layer.bias[:, None, None]) * 2 / 3)
    torch.testing.assert_close(nn.Sequential(layer, ScaledTanh())(images), expected)


@pytest.mark.parametrize("shape", [(2, 5, 9), (2, 5, 7, 3)])
def test_global_pooling_gives_one_number_a_map_in_one_and_two_dimensions(shape):
    """M044."""
    maps = torch.randn(shape)
    torch.testing.assert_close(GlobalPool("average")(maps), maps.flatten(2).mean(2))
    assert torch.equal(GlobalPool("max")(maps), maps.flatten(2).max(2).values)
    with pytest.raises(UnknownNameError):
        GlobalPool("mean")  # type: ignore[arg-type]


def test_pooling_has_no_parameters():
    """M045, and M042 for the one exception."""
    counts = {name: sum(p.numel() for p in make_pooling(name, 3).parameters()) for name in POOLINGS}
    assert counts == {"max": 0, "average": 0, "sum": 0, "overlapping_max": 0, "trainable": 6}
    assert not list(GlobalPool().parameters())


def test_inception_pool_branch_keeps_the_size():
    """M046."""
    assert nn.MaxPool2d(3, 1, padding=1)(torch.randn(1, 256, 28, 28)).shape == (1, 256, 28, 28)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(POOLINGS), st.integers(1, 40))
def test_pooled_size_foretells_the_output(name, side):
    expected = pooled_size(name, side)
    image = torch.randn(1, 1, side, side)
    if expected >= 1:
        assert make_pooling(name, 1)(image).shape[-1] == expected
    else:
        with pytest.raises(RuntimeError):
            make_pooling(name, 1)(image)


def test_unknown_pooling():
    with pytest.raises(UnknownNameError):
        make_pooling("mean", 3)
