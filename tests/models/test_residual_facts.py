"""What the papers prove or say of residual learning, checked on networks."""

import pytest
import torch
from torch import Tensor, nn

from striate.errors import ModelError
from striate.layers.initialise import he
from striate.layers.residual import ARRANGEMENTS, ArrangedUnit, BasicBlock, Bottleneck
from striate.models import create_model, load_reference


def stack(*, identity: bool, units: int = 4) -> nn.Sequential:
    """Units on 6 maps in double precision; with `identity` nothing follows the addition."""
    torch.manual_seed(0)
    arrangement = "full_preactivation" if identity else "original"
    blocks = nn.Sequential(*(ArrangedUnit(6, 6, arrangement=arrangement) for _ in range(units))).double().eval()
    he(blocks)
    return blocks


def branch_of(unit: ArrangedUnit, inputs: Tensor) -> Tensor:
    return unit.branch(unit.before(inputs))


@pytest.mark.parametrize("start", [0, 2])
def test_with_identities_the_signal_is_the_sum_of_all_branches(start):
    """1603.05027, eq. 4: x_L = x_l + sum of F(x_i) for i = l to L - 1. From l, not from 1."""
    units = stack(identity=True)
    signals = [torch.randn(2, 6, 5, 5, dtype=torch.float64)]
    for unit in units:
        signals.append(unit(signals[-1]))
    branches = [branch_of(unit, signal) for unit, signal in zip(units, signals, strict=False)]
    torch.testing.assert_close(signals[-1], signals[start] + sum(branches[start:]), rtol=1e-12, atol=1e-12)
    if start:
        assert not torch.allclose(signals[-1], signals[start] + sum(branches[1:]))


def test_with_an_activation_after_the_addition_it_is_not():
    """Sec. 2: the sum formula needs f = identity."""
    units = stack(identity=False)
    signal = begin = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    total = torch.zeros_like(begin)
    for unit in units:
        assert isinstance(unit, ArrangedUnit)
        total = total + branch_of(unit, signal)
        signal = unit(signal)
    assert not torch.allclose(signal, begin + total)


def test_the_gradient_has_a_term_that_passes_every_unit_unchanged():
    """Eq. 5: dE/dx_l = dE/dx_L (1 + d/dx_l of the sum of F)."""
    units = stack(identity=True)
    begin = torch.randn(2, 6, 5, 5, dtype=torch.float64, requires_grad=True)
    signal, total = begin, torch.zeros_like(begin)
    for unit in units:
        assert isinstance(unit, ArrangedUnit)
        total = total + branch_of(unit, signal)
        signal = unit(signal)
    above = torch.randn_like(signal)
    (whole,) = torch.autograd.grad(signal, begin, above, retain_graph=True)
    (through_branches,) = torch.autograd.grad(total, begin, above)
    torch.testing.assert_close(whole, above + through_branches, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_plain_linear_network_is_a_product():
    """Without shortcuts: the product of W_i, so small weights make it vanish; with them it does not."""
    torch.manual_seed(0)
    layers = [0.1 * torch.randn(8, 8, dtype=torch.float64) for _ in range(12)]
    begin = torch.randn(8, dtype=torch.float64, requires_grad=True)
    above = torch.randn(8, dtype=torch.float64)
    gradients = {}
    for skip in (0.0, 1.0):
        signal = begin
        for weight in layers:
            signal = skip * signal + weight @ signal
        (gradients[skip],) = torch.autograd.grad(signal, begin, above)
    product = above
    for weight in reversed(layers):
        product = product @ weight
    torch.testing.assert_close(gradients[0.0], product, rtol=1e-10, atol=0)
    assert gradients[0.0].norm() < 1e-4 * above.norm()
    assert gradients[1.0].norm() > 0.1 * above.norm()


def test_a_branch_of_zeros_leaves_the_identity():
    """y = F(x) + x with F = 0: exactly x where nothing follows the addition, exactly its positive part otherwise."""
    inputs = torch.randn(2, 8, 6, 6)
    unit = ArrangedUnit(8, 8)
    nn.init.zeros_(unit.branch.conv2.weight)
    assert torch.equal(unit(inputs), inputs)
    for block in (BasicBlock(8, 8), Bottleneck(8, 2)):
        last = getattr(block, "norm3", None) or block.norm2
        nn.init.zeros_(last.weight)
        assert torch.equal(block(inputs), inputs.relu())


def test_a_deeper_network_is_at_least_as_good_by_construction():
    """1512.03385, sec. 1: copy the layers of the shallower one, make the others identities; the outputs are equal."""
    torch.manual_seed(0)
    shallow, deep = create_model("cifar_resnet20").eval(), create_model("cifar_resnet32").eval()
    state = deep.state_dict()
    for key in state:
        added = key.startswith("stages.") and int(key.split(".")[2]) >= 3
        if not added:
            state[key] = shallow.state_dict()[key]
        elif ".norm2." in key:  # the branch ends in zeros
            state[key] = torch.zeros_like(state[key])
    deep.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(deep(images), shallow(images))


ORDERS = {  # 1603.05027, fig. 4
    "original": "conv norm act conv norm + act",
    "bn_after_addition": "conv norm act conv + norm act",
    "relu_before_addition": "conv norm act conv norm act +",
    "relu_only_preactivation": "act conv norm act conv norm +",
    "full_preactivation": "norm act conv norm act conv +",
}


def order_of(unit: nn.Module) -> str:
    """The layers of a unit in the order in which they run, with + at the addition."""
    words: list[str] = []
    kinds = {nn.Conv2d: "conv", nn.BatchNorm2d: "norm", nn.ReLU: "act"}
    for name, module in unit.named_modules():
        if type(module) in kinds:
            module.register_forward_hook(lambda one, _i, _o: words.append(kinds[type(one)]))
        elif name == "shortcut":  # asked for at the addition
            module.register_forward_hook(lambda *_: words.append("+"))
    unit(torch.randn(2, 4, 5, 5))
    return " ".join(words)


def test_the_order_of_layers_in_a_unit():
    assert list(ORDERS) == list(ARRANGEMENTS)
    for arrangement, order in ORDERS.items():
        assert order_of(ArrangedUnit(4, 4, arrangement=arrangement)) == order
        three = order_of(ArrangedUnit(4, 1, bottleneck=True, arrangement=arrangement)).split()
        assert three.count("conv") == 3
        assert three.index("+") == len(three) - (len(order.split()) - order.split().index("+"))
    assert order_of(BasicBlock(4, 4)) == ORDERS["original"]
    assert order_of(Bottleneck(4, 1)) == "conv norm act " + ORDERS["original"]


def test_the_original_arrangement_is_the_network_of_2015():
    torch.manual_seed(0)
    old = create_model("cifar_resnet20").eval()
    new = create_model("preact_resnet110", depths=(3, 3, 3), arrangement="original").eval()
    pairs = zip(old.state_dict().items(), new.state_dict(), strict=True)
    new.load_state_dict({key: value for (_, value), key in pairs})  # the same layers in the same order
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(new(images), old(images), rtol=1e-6, atol=1e-6)


def test_maps_move_with_the_image():
    """Shifting by a multiple of the stride shifts the maps, away from the borders; by other steps it does not."""
    torch.manual_seed(0)
    model = create_model("cifar_resnet20", n=1, input_size=64).eval()
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, 24:40, 24:40] = torch.randn(3, 16, 16)
    maps = model.features(image) - model.features(torch.zeros_like(image))
    shifted = model.features(image.roll(4, dims=-1)) - model.features(torch.zeros_like(image))
    inner = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(shifted[inner], maps.roll(1, dims=-1)[inner], rtol=1e-4, atol=1e-4)
    other = model.features(image.roll(2, dims=-1)) - model.features(torch.zeros_like(image))
    assert not any(torch.allclose(other[inner], maps.roll(step, -1)[inner], atol=1e-2) for step in (0, 1))


def test_depth_is_dropped_for_the_whole_batch_and_scaled_when_it_is_not():
    """1603.09382: ReLU(b f(x) + x) in training, ReLU(p f(x) + x) at test."""
    torch.manual_seed(0)
    unit = BasicBlock(4, 4, drop_rate=0.25)
    inputs = torch.randn(3, 4, 6, 6)
    unit.eval()
    branch = unit.norm2(unit.conv2(unit.act1(unit.norm1(unit.conv1(inputs)))))
    torch.testing.assert_close(unit(inputs), (0.75 * branch + inputs).relu())
    unit.train()
    dropped = [torch.equal(unit(inputs), inputs.relu()) for _ in range(200)]
    assert 0.15 < sum(dropped) / 200 < 0.35


def test_a_plain_network_has_nothing_to_drop():
    for name in ("plain18", "cifar_plain20"):
        with pytest.raises(ModelError, match="without shortcuts has no stochastic_depth"):
            create_model(name, stochastic_depth=0.5)


def test_a_plain_network_ignores_what_a_shortcut_would_carry():
    torch.manual_seed(0)
    block = BasicBlock(4, 4, shortcut="none").eval()
    nn.init.zeros_(block.norm2.weight)
    assert not block(torch.randn(1, 4, 5, 5)).any()


def test_weights_with_other_names_of_the_same_network():
    """ResNet v1 and v1.5 have the same parameters: the file cannot tell which it is, the name does."""
    torch.manual_seed(0)
    one, other = create_model("resnet50", classes=3), create_model("resnet50_v1_5", classes=3, start=False)
    load_reference(other, one.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert not torch.allclose(one.eval()(images), other.eval()(images))
