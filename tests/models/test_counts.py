"""Parameters and multiply-accumulates, exactly.

The figures are those of the papers where they give exact ones (LeNet-5: 60,000), else counted from the papers' tables
with another implementation.
"""

import pytest
import torch
from torch import nn

from striate.anatomy import count_macs, count_parameters
from striate.models import create_model, entries

# name: parameters, multiply-accumulates of one image at the paper's input size
COUNTS = {
    "lenet5_1998": (60_000, 326_520),
    "lenet5_dense": (61_706, 416_520),
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet18_a": (11_515_688, 1_794_805_760),
    "resnet34_a": (21_623_848, 3_644_493_824),
    "resnet34_b": (21_797_672, 3_663_761_408),
    "resnet34_c": (22_716_840, 3_830_747_136),
    "cifar_resnet20": (269_722, 40_551_040),
    "cifar_resnet32": (464_154, 68_862_592),
    "cifar_resnet44": (658_586, 97_174_144),
    "cifar_resnet56": (853_018, 125_485_696),
    "cifar_resnet110": (1_727_962, 252_887_680),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    model = create_model(name, start=False)
    assert (count_parameters(model), count_macs(model)) == COUNTS[name]


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_the_registry_states_what_is_counted(entry):
    model = create_model(entry.name, start=False)
    assert (entry.params, entry.macs) == (count_parameters(model), count_macs(model))
    if entry.paper_params is not None and not entry.differs:  # the paper rounds to two digits
        assert count_parameters(model) == pytest.approx(entry.paper_params, rel=0.03)


@pytest.mark.parametrize(
    ("variations", "parameters"),
    [
        ({"connections": "sparse"}, 60_806),  # sparse C3, linear output
        ({"pooling": "trainable"}, 61_750),  # dense C3, trainable subsampling
    ],
)
def test_other_readings_of_lenet5(variations, parameters):
    assert count_parameters(create_model("lenet5_dense", **variations)) == parameters


@pytest.mark.parametrize(
    ("name", "shortcut", "parameters"), [("resnet18", "C", 12_043_816), ("cifar_resnet20", "B", 272_474)]
)
def test_other_shortcuts(name, shortcut, parameters):
    assert count_parameters(create_model(name, shortcut=shortcut)) == parameters


def test_lenet5_layer_by_layer():
    """The paper's figures for each layer, sec. II.B."""
    model = create_model("lenet5_1998")
    counts = {
        "c1": count_parameters(model.stem.c1),
        **{name: count_parameters(stage) for name, stage in model.stages.named_children()},
        "f6": count_parameters(model.head.f6),
        "output": count_parameters(model.head.output),
    }
    assert counts == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164, "output": 0}
    assert model.head.output.codes.numel() == 840


def test_counting_leaves_the_network_alone():
    model = create_model("cifar_resnet20").train()
    model.stem.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert count_macs(model, 3, (64, 32)) > count_macs(model, 3, 32)
    assert model.training
    assert not model.stem.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_any_module_can_be_counted():
    net = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2, bias=False), nn.Flatten(), nn.Linear(8 * 4 * 4, 3))
    assert count_parameters(net) == 8 * 2 * 9 + 128 * 3 + 3
    assert count_macs(net, 4, 6) == 16 * 8 * 2 * 9 + 128 * 3
