import torch
from torch import nn

from striate.layers.sparse import SparseConv2d
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
