"""The locally connected layer: what each unit reads, that nothing is shared, and how it starts."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate.anatomy import count_macs
from striate.layers.initialise import initialise, lecun_uniform, lsuv
from striate.layers.local import LocalConv2d


@st.composite
def layers_and_images(draw):
    kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    size = draw(st.integers(kernel, 9)), draw(st.integers(kernel, 9))
    layer = LocalConv2d(draw(st.integers(1, 3)), draw(st.integers(1, 3)), kernel, size, stride=stride).double()
    images = torch.randn(draw(st.integers(1, 3)), layer.in_channels, *size, dtype=torch.float64, requires_grad=True)
    return layer, images


def by_einsum(layer: LocalConv2d, images: torch.Tensor) -> torch.Tensor:
    """The same from windows [B, C, H', W', k, k] and one sum."""
    windows = images.unfold(2, layer.kernel, layer.stride).unfold(3, layer.kernel, layer.stride)
    return torch.einsum("bchwij,mhwcij->bmhw", windows, layer.weight) + layer.bias


@settings(max_examples=40, deadline=None)
@given(layers_and_images())
def test_equals_windows_and_a_sum_with_its_gradients(case):
    layer, images = case
    output, expected = layer(images), by_einsum(layer, images)
    assert output.shape == (len(images), layer.maps, *layer.out_size)
    torch.testing.assert_close(output, expected)
    upstream = torch.randn_like(output)
    sources = [images, layer.weight, layer.bias]
    for ours, theirs in zip(
        torch.autograd.grad(output, sources, upstream), torch.autograd.grad(expected, sources, upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_gradients_by_differences():
    layer = LocalConv2d(2, 2, 3, (5, 4), stride=2).double()
    images = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    names = tuple(name for name, _ in layer.named_parameters())

    def run(images, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (images,))

    assert torch.autograd.gradcheck(run, (images, *layer.parameters()))


def test_with_equal_weights_everywhere_it_is_the_convolution():
    layer = LocalConv2d(2, 3, 3, (7, 9), stride=2)
    kernel = torch.randn(3, 2, 3, 3)
    with torch.no_grad():
        layer.weight.copy_(kernel[:, None, None].expand_as(layer.weight))
        layer.bias.zero_()
    images = torch.randn(2, 2, 7, 9)
    torch.testing.assert_close(layer(images), F.conv2d(images, kernel, stride=2))


def test_a_unit_has_weights_and_a_field_of_its_own():
    layer = LocalConv2d(1, 1, 3, (7, 7), stride=2)
    images = torch.randn(1, 1, 7, 7, requires_grad=True)
    of_images, of_weight = torch.autograd.grad(layer(images)[0, 0, 1, 2], [images, layer.weight])
    assert of_images[0, 0].nonzero().min(0).values.tolist() == [2, 4]
    assert of_images[0, 0].nonzero().max(0).values.tolist() == [4, 6]
    assert of_weight.any(-1).any(-1)[0, :, :, 0].nonzero().tolist() == [[1, 2]]


def test_counts_each_weight_once():
    net = nn.Sequential(LocalConv2d(2, 3, 3, (6, 6)))
    assert count_macs(net, 2, 6) == 3 * 4 * 4 * 2 * 9 == net[0].weight.numel()


@pytest.mark.parametrize("scheme", ["xavier", "he"])
def test_starts_by_its_fans(scheme):
    torch.manual_seed(0)
    net = nn.Sequential(LocalConv2d(4, 8, 5, (16, 16)))
    initialise(net, scheme)
    variance = {"xavier": 2 / (100 + 200), "he": 2 / 100}[scheme]
    assert net[0].weight.var().item() == pytest.approx(variance, rel=0.02)
    assert not net[0].bias.any()


def test_starts_as_the_first_lenets_and_by_lsuv():
    torch.manual_seed(0)
    net = nn.Sequential(LocalConv2d(1, 4, 3, (16, 16)))
    lecun_uniform(net)
    assert net[0].weight.abs().max().item() == pytest.approx(2.4 / 9, rel=0.01)
    assert net[0].bias.abs().max().item() == pytest.approx(2.4 / 9, rel=0.01)
    images = torch.randn(64, 1, 16, 16)
    lsuv(net, images)
    assert net(images).var().item() == pytest.approx(1, abs=0.05)
