"""AlexNet's towers on two devices: the network with grouped convolutions, in outputs, gradients, training."""

import pytest
import torch

from striate.errors import ModelError
from striate.models import ConvNet, create_model
from striate.models.towers import Towers, place_towers

DEVICES = [
    ("cpu", "cpu"),
    pytest.param(("cpu", "cuda"), marks=pytest.mark.gpu),
    pytest.param(("cuda", "cuda"), marks=pytest.mark.gpu),
]
two_devices = pytest.mark.parametrize("devices", DEVICES)


@pytest.fixture(autouse=True)
def _devices_are_here(request):
    if "gpu" in request.keywords and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def grouped(name: str = "alexnet_2012", **changes) -> ConvNet:
    """Small, in double precision, without dropout, with weights large enough for normalisation to matter."""
    torch.manual_seed(0)
    model = create_model(name, **({"input_size": 67, "hidden": 32, "classes": 5, "dropout": 0.0} | changes)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return 20 * torch.randn(3, 3, 67, 67, dtype=torch.float64, generator=generator), torch.tensor([0, 3, 4])


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours.cpu() - theirs.cpu()).norm() / theirs.cpu().norm()).item()


def gathered_slopes(towers: Towers) -> dict[str, torch.Tensor | None]:
    first, second = (dict(tower.named_parameters()) for tower in towers.towers)
    return {
        name: torch.cat([parameter.grad.cpu(), second[name].grad.cpu()]) if name in second else parameter.grad
        for name, parameter in first.items()
    }


@two_devices
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("alexnet_2012", {}),
        ("caffenet", {}),
        ("alexnet_2012", {"normalization": "contrast"}),
        ("alexnet_2012", {"normalization": "none", "dropout_at": "inputs", "pooling": "max"}),
    ],
)
def test_outputs_and_gradients_equal_the_grouped_network(name, changes, devices):
    model = grouped(name, **changes)
    towers = place_towers(model, devices)
    images, targets = batch()
    images.requires_grad_()
    model.train()
    towers.train()
    logits = model(images)
    placed = towers(images)
    assert placed.device.type == devices[0]
    assert relative(placed, logits) < 1e-12
    model.loss(logits, targets).backward()
    expected, images.grad = images.grad, None
    towers.loss(placed, targets).backward()
    assert images.grad is not None
    assert relative(images.grad, expected) < 1e-12
    slopes = gathered_slopes(towers)
    for key, parameter in model.named_parameters():
        assert relative(slopes[key], parameter.grad) < 1e-12, key


@two_devices
def test_each_tower_has_half_of_everything_and_its_own_device(devices):
    model = grouped()
    towers = place_towers(model, devices)
    first, second = towers.towers
    for tower, device in zip(towers.towers, devices, strict=True):
        assert {parameter.device.type for parameter in tower.parameters()} == {device}
    halves = [sum(p.numel() for name, p in tower.named_parameters() if "fc8" not in name) for tower in (first, second)]
    assert halves[0] == halves[1]
    assert sum(parameter.numel() for parameter in towers.parameters()) == sum(p.numel() for p in model.parameters())
    assert first["stages"].conv2.conv.weight.shape == (128, 48, 5, 5)
    assert first["stages"].conv3.conv.weight.shape == (192, 256, 3, 3)  # reads the maps of both
    assert first["head"].fc7.weight.shape == (16, 32)
    assert not hasattr(second["head"], "fc8")


@two_devices
def test_training_the_towers_is_training_the_network(devices):
    model = grouped()
    towers = place_towers(model, devices)
    images, targets = batch()
    start = {key: value.clone() for key, value in model.state_dict().items()}
    for network in (model, towers):
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            network.loss(network(images), targets).backward()
            optimizer.step()
    state = towers.gather()
    assert list(state) == list(model.state_dict())
    for key, value in model.state_dict().items():
        assert not torch.equal(value, start[key]), key
        assert relative(state[key] - start[key].to(state[key].device), value - start[key]) < 1e-9, key
    again = grouped()
    again.load_state_dict(state)
    again.eval()
    assert relative(again(images), towers.eval()(images)) < 1e-12


def test_placing_copies():
    model = grouped()
    towers = place_towers(model, ("cpu", "cpu"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_below_conv3_the_towers_know_nothing_of_each_other():
    """Figure 2; normalisation, whose formula spans all maps, apart."""
    towers = place_towers(grouped(normalization="none"), ("cpu", "cpu"))
    first, second = towers.towers
    seen = {}
    first["stages"].conv2.pool.register_forward_hook(lambda _m, _i, output: seen.update(conv2=output))
    first["stages"].conv3.activation.register_forward_hook(lambda _m, _i, output: seen.update(conv3=output))
    towers(batch()[0])
    other = second["stem"].conv.weight
    (below,) = torch.autograd.grad(seen["conv2"].sum(), other, retain_graph=True, allow_unused=True)
    (above,) = torch.autograd.grad(seen["conv3"].sum(), other)
    assert below is None
    assert above.any()


def test_dropout_of_the_towers_follows_train_and_eval():
    towers = place_towers(grouped(dropout=0.5).eval(), ("cpu", "cpu"))
    images, _ = batch()
    assert torch.equal(towers(images), towers(images))
    towers.train()
    assert not torch.equal(towers(images), towers(images))


def test_what_has_no_two_towers_is_refused():
    with pytest.raises(ModelError, match="alexnet_dense does not consist of two towers") as caught:
        place_towers(grouped("alexnet_dense"), ("cpu", "cpu"))
    assert "alexnet_2012" in (caught.value.hint or "")
    with pytest.raises(ModelError, match="two towers need two devices, got 1"):
        place_towers(grouped(), ("cpu",))
    with pytest.raises(ModelError, match="cannot be parted at BatchNorm2d"):
        place_towers(grouped(normalization="batch"), ("cpu", "cpu"))
