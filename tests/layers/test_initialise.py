"""How weights start (section F of the methods)."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from striate.errors import ModelError, UnknownNameError
from striate.layers.activations import make_activation
from striate.layers.initialise import fans, he, initialise, lecun_uniform, lsuv, weighted_layers, xavier
from striate.layers.pooling import TrainableSubsampling
from striate.layers.sparse import SparseConv2d

TABLE = ((0, 1), (1, 2), (0, 1, 2))


def small_net() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 3, 3),
            act=nn.ReLU(),
            sparse=SparseConv2d(3, TABLE, 3),
            norm=nn.BatchNorm2d(3),
            pool=TrainableSubsampling(3),
            flatten=nn.Flatten(),
            linear=nn.Linear(3 * 4 * 4, 5),
        )
    )


def test_equal_weights_stay_equal():
    """M101: without random weights every filter learns the same."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 4 * 4, 2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(torch.randn(8, 1, 6, 6)), torch.randint(2, (8,))).backward()
        optimizer.step()
    filters = net[0].weight
    assert all(torch.equal(filters[0], other) for other in filters[1:])
    assert not torch.equal(filters[0], torch.full_like(filters[0], 0.1))


def test_xavier_variance_and_bound():
    """M102: Var = 2/(fan_in + fan_out), within ±sqrt(6/(fan_in + fan_out))."""
    layer = nn.Conv2d(16, 64, 5)
    xavier(layer, torch.Generator().manual_seed(0))
    both = 16 * 25 + 64 * 25
    assert layer.weight.var().item() == pytest.approx(2 / both, rel=0.03)
    assert layer.weight.abs().max().item() <= (6 / both) ** 0.5
    assert not layer.bias.any()


def test_he_variance():
    """M103: Var = 2/fan_in."""
    layer = nn.Conv2d(32, 64, 5)
    he(layer, torch.Generator().manual_seed(0))
    assert layer.weight.var().item() == pytest.approx(2 / (32 * 25), rel=0.03)


def test_he_keeps_the_signal_through_fifty_relu_layers_and_xavier_loses_it():
    """M103: Xavier halves the variance in each layer, about 2^-50."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential()
    for _ in range(50):
        net.extend([nn.Linear(256, 256), make_activation("relu")])
    inputs = torch.randn(64, 256, generator=generator)
    variances = {}
    for name, scheme in (("he", he), ("xavier", xavier)):
        scheme(net, generator)
        variances[name] = net(inputs).var().item()
    assert 0.02 < variances["he"] < 50
    assert 2**-56 < variances["xavier"] < 2**-44


def test_lsuv_gives_every_layer_output_variance_one():
    """M104."""
    net, sample = small_net(), torch.randn(64, 1, 12, 12)
    net.train()
    lsuv(net, sample, generator=torch.Generator().manual_seed(0))
    assert net.training
    outputs = {}
    for name, layer in weighted_layers(net):
        layer.register_forward_hook(lambda _m, _i, out, name=name: outputs.update({name: out.var().item()}))
    net.eval()(sample)
    assert outputs.keys() == {"conv", "sparse", "linear"}
    assert all(abs(variance - 1) < 0.02 for variance in outputs.values())
    rows = net.conv.weight.flatten(1)
    gram = rows @ rows.T
    torch.testing.assert_close(gram, torch.eye(3) * gram[0, 0])  # still orthogonal, of one length


def test_lsuv_needs_a_sample_that_varies():
    with pytest.raises(ModelError, match="batch of training images"):
        initialise(small_net(), "lsuv")
    with pytest.raises(ModelError, match="conv has variance 0"):
        initialise(small_net(), "lsuv", sample=torch.zeros(4, 1, 12, 12))


def test_lecun_uniform_stays_within_its_bound_for_each_unit():
    net = small_net()
    lecun_uniform(net, torch.Generator().manual_seed(0))
    for _, layer in weighted_layers(net):
        for weight, fan_in, _ in fans(layer):
            assert 0 < weight.abs().max().item() <= 2.4 / fan_in
    assert net.linear.weight.std().item() == pytest.approx(2.4 / 48 / 3**0.5, rel=0.1)
    assert 0 < net.pool.coefficient.abs().max().item() <= 0.6


@pytest.mark.parametrize("scheme", ["xavier", "he", "lsuv"])
def test_a_start_depends_on_the_generator_alone_and_resets_the_rest(scheme):
    sample = torch.randn(8, 1, 12, 12)
    states = []
    for _ in range(2):
        net = small_net()
        net(torch.randn(8, 1, 12, 12))  # moves the running statistics
        nn.init.normal_(net.norm.weight)
        initialise(net, scheme, sample=sample, generator=torch.Generator().manual_seed(3))
        states.append(net.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert torch.equal(states[0]["norm.running_mean"], torch.zeros(3))
    assert torch.equal(states[0]["norm.weight"], torch.ones(3))
    assert torch.equal(states[0]["pool.coefficient"], torch.full((3,), 0.25))


def test_unknown_scheme_and_a_network_without_its_own():
    with pytest.raises(UnknownNameError):
        initialise(small_net(), "xavjer")
    with pytest.raises(ModelError, match="no initialisation of its own"):
        initialise(small_net(), "paper")
