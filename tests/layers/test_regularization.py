"""Dropout and its relatives, stochastic depth (section E of the methods)."""

import itertools

import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.layers.regularization import (
    GaussianDropout,
    GaussianNoise,
    StochasticDepth,
    limit_filters,
    linear_drop_rates,
    make_dropout,
)
from striate.layers.residual import BasicBlock


def test_survival_falls_linearly_and_the_expected_depth_follows():
    """M084: p_l = 1 - (l/L)(1 - p_L) with p_L = 0.5; 54 blocks have an expected depth of 40.25."""
    rates = linear_drop_rates(54, 0.5)
    assert rates[0] == pytest.approx(0.5 / 54)
    assert rates[-1] == 0.5
    assert sum(1 - rate for rate in rates) == pytest.approx(40.25)


def test_stochastic_depth_drops_the_branch_for_the_whole_batch():
    """M084: b f(x) in training with one b a batch, p f(x) at test."""
    layer = StochasticDepth(0.3)
    branch = torch.rand(4, 2, 3, 3) + 1
    torch.manual_seed(0)
    draws = [layer(branch) for _ in range(400)]
    kept = [bool(out.any()) for out in draws]
    assert all(
        torch.equal(out, branch if keep else torch.zeros_like(branch)) for out, keep in zip(draws, kept, strict=True)
    )
    assert 0.6 < sum(kept) / 400 < 0.8
    torch.testing.assert_close(layer.eval()(branch), 0.7 * branch)


def test_a_block_whose_branch_is_dropped_is_its_shortcut():
    block = BasicBlock(3, 3, drop_rate=0.999)
    images = torch.randn(2, 3, 5, 5)
    torch.manual_seed(1)
    torch.testing.assert_close(block(images), images.relu())


def test_stochastic_depth_follows_the_global_generator():
    layer, branch = StochasticDepth(0.5), torch.ones(1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = [layer(branch).item() for _ in range(20)]
    torch.set_rng_state(state)
    assert [layer(branch).item() for _ in range(20)] == first


def test_inverted_dropout_keeps_the_mean_and_is_nothing_at_test():
    """M073: values 0 and 1/(1 - rate); the argument is the probability of dropping."""
    torch.manual_seed(0)
    layer, ones = make_dropout(0.25), torch.ones(100_000)
    out = layer(ones)
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert out.mean().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(layer.eval()(ones), ones)
    assert isinstance(make_dropout(0.0), nn.Identity)


def test_weight_scaling_is_the_geometric_mean_of_all_masks():
    """M074: exact for one linear layer and softmax; 2^6 networks."""
    torch.manual_seed(0)
    linear = nn.Linear(6, 4).double()
    inputs = torch.randn(6, dtype=torch.float64)
    masks = itertools.product((0.0, 1.0), repeat=6)
    logs = [linear(inputs * torch.tensor(mask, dtype=torch.float64)).log_softmax(0) for mask in masks]
    mean = torch.stack(logs).mean(0).softmax(0)
    torch.testing.assert_close(linear(inputs * 0.5).softmax(0), mean)


def test_gaussian_layers_have_the_stated_spread_and_are_nothing_at_test():
    """M076."""
    torch.manual_seed(0)
    values = torch.full((200_000,), 2.0)
    noise, dropout = GaussianNoise(0.5), GaussianDropout(0.2)
    assert (noise(values) - values).std().item() == pytest.approx(0.5, rel=0.02)
    assert (dropout(values) / values).std().item() == pytest.approx((0.2 / 0.8) ** 0.5, rel=0.02)
    assert dropout(values).mean().item() == pytest.approx(2, rel=0.01)
    for layer in (noise, dropout):
        assert torch.equal(layer.eval()(values), values)


@pytest.mark.parametrize("make", [StochasticDepth, GaussianDropout, make_dropout])
@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_is_a_probability_below_one(make, rate):
    with pytest.raises(ModelError, match="rate"):
        make(rate)


def test_a_deviation_is_not_negative():
    with pytest.raises(ModelError):
        GaussianNoise(-1.0)


def test_filters_beyond_the_radius_are_set_back_to_it():
    """Zeiler & Fergus 2013, sec. 3: root mean square of at most 0.1, for each filter of each convolution."""
    model = nn.Sequential(nn.Conv2d(3, 4, 7), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(6, 5))
    first, second, _, dense = model
    with torch.no_grad():
        for layer, size in ((first, 0.05), (second, 0.05), (dense, 3.0)):
            layer.weight.copy_(size * torch.randn(layer.weight.shape).sign())  # of a root mean square of just this size
        first.weight[3] *= 100
        second.weight[5] *= 30
    before = {key: value.clone() for key, value in model.state_dict().items()}
    limit_filters(model, 0.1)
    torch.testing.assert_close(first.weight[3], before["0.weight"][3] / 50)
    torch.testing.assert_close(second.weight[5], before["1.weight"][5] / 15)
    assert torch.equal(first.weight[:3], before["0.weight"][:3])  # within the radius: left alone
    assert torch.equal(second.weight[:5], before["1.weight"][:5])
    assert torch.equal(first.bias, before["0.bias"])
    assert torch.equal(dense.weight, before["3.weight"])  # not a convolution
