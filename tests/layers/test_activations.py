"""Section C of the methods: activations and outputs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate.errors import UnknownNameError
from striate.layers.activations import ACTIVATIONS, PLAIN_ACTIVATIONS, Maxout, ScaledTanh, make_activation, widening
from striate.layers.initialise import he, xavier


def value_and_slope(name: str, at: float) -> tuple[float, float]:
    point = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    out = make_activation(name)(point)
    out.backward()
    assert point.grad is not None
    return out.item(), point.grad.item()


@pytest.mark.parametrize(
    ("name", "at", "value", "slope"),
    [
        ("sigmoid", 0.0, 0.5, 0.25),  # M047: the largest slope
        ("tanh", 0.0, 0.0, 1.0),  # M048
        ("relu", -2.0, 0.0, 0.0),  # M050
        ("relu", 3.0, 3.0, 1.0),
        ("relu6", 7.0, 6.0, 0.0),
        ("leaky_relu", -1.0, -0.1, 0.1),  # M051: the lectures' slope, not torch's default of 0.01
        ("leaky_relu", 2.0, 2.0, 1.0),
        ("elu", -1.0, math.expm1(-1.0), math.exp(-1.0)),  # M053: -0.6321
        ("elu", 1.5, 1.5, 1.0),
        ("gelu", 1.0, 0.8413447460685429, 1.0833154705876864),  # x Phi(x), Phi(x) + x phi(x)
        ("linear", -1.25, -1.25, 1.0),
    ],
)
def test_value_and_slope(name, at, value, slope):
    assert value_and_slope(name, at) == pytest.approx((value, slope), abs=1e-12)


@pytest.mark.parametrize(("name", "steepest"), [("sigmoid", 0.25), ("tanh", 1.0)])
def test_slope_is_largest_at_zero(name, steepest):
    slopes = [value_and_slope(name, at)[1] for at in torch.linspace(-6, 6, 121).tolist()]
    assert max(slopes) == pytest.approx(steepest, abs=1e-12)
    assert slopes.index(max(slopes)) == 60


def test_elu_slope_is_continuous_at_zero():
    assert value_and_slope("elu", -1e-9)[1] == pytest.approx(value_and_slope("elu", 1e-9)[1], abs=1e-8)


def test_scaled_tanh_hits_its_targets_where_it_bends_most():
    """M049: f(±1) = ±1 to four digits, |f''| largest at ±0.988."""
    at = torch.linspace(0, 3, 30_001, dtype=torch.float64, requires_grad=True)
    out = ScaledTanh()(at)
    (slope,) = torch.autograd.grad(out.sum(), at, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), at)
    assert ScaledTanh()(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1.0, -1.0], abs=5e-5)
    assert at[bend.abs().argmax()].item() == pytest.approx(0.988, abs=1e-3)


def test_maxout_with_a_zero_piece_is_relu_and_doubles_the_weights():
    """M052."""
    linear = nn.Linear(5, 3 * widening("maxout"))
    with torch.no_grad():
        linear.weight[3:] = 0
        linear.bias[3:] = 0
    inputs = torch.randn(7, 5)
    expected = (inputs @ linear.weight[:3].T + linear.bias[:3]).relu()
    torch.testing.assert_close(Maxout()(linear(inputs)), expected)
    assert linear.weight.numel() == 2 * nn.Linear(5, 3).weight.numel()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=12), st.floats(-1000, 1000))
def test_softmax_sums_to_one_and_ignores_a_constant(logits, constant):
    """M054."""
    values = torch.tensor(logits, dtype=torch.float64)
    assert values.softmax(0).sum().item() == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close((values + constant).softmax(0), values.softmax(0), atol=1e-9, rtol=1e-7)


def first_layer_gradient(name: str, initialise) -> float:
    torch.manual_seed(0)
    net = nn.Sequential()
    for _ in range(20):
        net.extend([nn.Linear(100, 100), make_activation(name)])
    initialise(net)
    net(torch.randn(64, 100)).square().sum(1).mean().backward()
    norms = [layer.weight.grad.norm().item() for layer in net if isinstance(layer, nn.Linear)]
    return norms[0] / norms[-1]


def test_relu_keeps_the_gradient_that_sigmoid_loses():
    """M055: twenty layers; a sigmoid layer passes at most a quarter."""
    assert first_layer_gradient("sigmoid", xavier) < 0.25**10
    assert 0.1 < first_layer_gradient("relu", he) < 10


def test_a_stack_of_linear_convolutions_is_one_convolution():
    """M056."""
    first, second = nn.Conv2d(2, 4, 3, bias=False).double(), nn.Conv2d(4, 3, 3, bias=False).double()
    stack = nn.Sequential(first, make_activation("linear"), second)
    # The kernel of the composition is what an impulse gives, flipped because convolution layers cross-correlate.
    kernel = torch.stack([stack(impulse(channel)).flip(-1, -2)[0] for channel in range(2)], dim=1)
    images = torch.randn(2, 2, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(nn.functional.conv2d(images, kernel), stack(images))


def impulse(channel: int) -> torch.Tensor:
    image = torch.zeros(1, 2, 9, 9, dtype=torch.float64)
    image[0, channel, 4, 4] = 1
    return image


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_use_is_a_module_of_its_own_and_keeps_its_input(name):
    assert make_activation(name) is not make_activation(name)
    inputs = torch.randn(2, 4, 3, 3)
    before = inputs.clone()
    out = make_activation(name)(inputs)
    assert torch.equal(inputs, before)
    assert out.shape[1] == 4 // widening(name)
    assert (name in PLAIN_ACTIVATIONS) == (out.shape == inputs.shape)


def test_unknown_activation_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        make_activation("scaled-tanh")
    assert caught.value.nearest[0] == "scaled_tanh"
