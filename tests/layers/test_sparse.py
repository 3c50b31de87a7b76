import pytest
import torch
from torch import nn

from striate.layers.initialise import lecun_uniform
from striate.layers.sparse import SparseConv2d, every_map
from striate.models.lenet import C3_TABLE


def test_c3_has_the_papers_parameters_and_connections():
    """60 links of 25 weights and 16 biases: 1,516 parameters; 151,600 connections on 10x10 maps, biases included."""
    layer = SparseConv2d(6, C3_TABLE, 5)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 1516
    output = layer(torch.randn(2, 6, 14, 14))
    assert output.shape == (2, 16, 10, 10)
    assert layer.multiply_accumulates(output.shape) + 16 * 100 == 151_600


def test_equals_the_dense_convolution_with_zeros_and_each_map_reads_its_own():
    torch.manual_seed(0)
    layer = SparseConv2d(6, C3_TABLE, 5).double()
    images = torch.randn(2, 6, 9, 8, dtype=torch.float64, requires_grad=True)
    output = layer(images)
    for row, inputs in enumerate(C3_TABLE):
        start = sum(len(others) for others in C3_TABLE[:row])
        weight = layer.weight[start : start + len(inputs)][None]
        expected = nn.functional.conv2d(images[:, list(inputs)], weight, layer.bias[row : row + 1])
        torch.testing.assert_close(output[:, row : row + 1], expected)
        (reads,) = torch.autograd.grad(output[:, row].sum(), images, retain_graph=True)
        assert reads.abs().sum((0, 2, 3)).nonzero().flatten().tolist() == sorted(inputs)


def test_units_are_views_of_the_weights():
    layer = SparseConv2d(3, ((0, 1), (2,)), 2)
    (first, fan_in, fan_out), (second, other_fan_in, _) = layer.units()
    assert (fan_in, fan_out, other_fan_in) == (8, 4, 4)
    with torch.no_grad():
        second.fill_(7)
    assert torch.equal(layer.weight[2], torch.full((2, 2), 7.0))
    assert first.shape == (2, 2, 2)


def test_private_biases_and_stride():
    """Every unit of a map has a threshold of its own, the weights stay shared."""
    torch.manual_seed(0)
    layer = SparseConv2d(3, every_map(4, 3), 5, stride=2, unit_bias=(3, 2)).double()
    images = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    expected = nn.functional.conv2d(images, layer.weight.view(4, 3, 5, 5), stride=2) + layer.bias
    assert layer.bias.shape == (4, 3, 2)
    torch.testing.assert_close(layer(images), expected)


def test_each_map_starts_within_its_own_bound_private_biases_too():
    torch.manual_seed(0)
    layer = SparseConv2d(4, ((0,), (0, 1, 2, 3)), 5, unit_bias=(20, 20))
    lecun_uniform(layer)
    for bias, fan_in in zip(layer.bias, (25, 100), strict=True):
        assert bias.abs().max().item() == pytest.approx(2.4 / fan_in, rel=0.05)
