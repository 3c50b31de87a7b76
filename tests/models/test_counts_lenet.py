"""Parameters, multiply-accumulates, connections and units of the digit networks of 1989 to 1998, as the papers count.

A connection is a product of a weight and what it reads, or a bias at a unit: multiply-accumulates, plus one for each
unit of a layer with biases, plus the inputs and the bias of each subsampling unit. The registry's multiply-accumulates
are the house's: those of convolutions and linear layers alone.
"""

import pytest
import torch
from torch import nn

from striate.anatomy import count_macs, count_parameters
from striate.layers.local import LocalConv2d
from striate.layers.pooling import TrainableSubsampling
from striate.layers.sparse import SparseConv2d
from striate.models import create_model, find_entry
from striate.models.lenet import RadialBasis
from striate.models.lenet_1989 import H2_TABLE, H3_TABLE

# name: parameters, multiply-accumulates, connections
COUNTS = {
    "lecun1989_net1": (2570, 2560, 2570),
    "lecun1989_net2": (3214, 3192, 3214),
    "lecun1989_net3": (1226, 1136, 1226),
    "lecun1989_net4": (1132, 2112, 2266),
    "lecun1989_net5": (1060, 4992, 5194),
    "lenet_1989_zip": (9760, 63_660, 64_660),
    "lenet1_1990": (2578, 91_520, 98_442),
    "lenet5_1998": (60_000, 326_520, 340_908),
}
WEIGHTED = (nn.Conv2d, nn.Linear, SparseConv2d, LocalConv2d)


def products(module: nn.Module, output: torch.Tensor) -> int:
    """Weights times what they read, for one image."""
    match module:
        case SparseConv2d():
            return sum(map(len, module.table)) * module.kernel**2 * output[0, 0].numel()
        case LocalConv2d():
            return module.weight.numel()
        case RadialBasis():
            return module.codes.numel()
        case _:
            return output[0].numel() * module.weight[0].numel()


def connections_and_units(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(connections, units) of each layer that has any, by its name."""
    counts = {}

    def note(name):
        def hook(module, _inputs, output):
            units = output[0].numel()
            if isinstance(module, TrainableSubsampling):
                counts[name] = (units * (module.window**2 + 1), units)
            else:  # the fixed codes of LeNet-5's outputs have no biases
                counts[name] = (products(module, output) + units * isinstance(module, WEIGHTED), units)

        return hook

    for name, module in model.named_modules():
        if isinstance(module, (*WEIGHTED, TrainableSubsampling, RadialBasis)):
            module.register_forward_hook(note(name))
    architecture = model.architecture
    model(torch.zeros(1, architecture.in_channels, *architecture.input_size))
    return counts


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_operations_and_connections(name):
    model = create_model(name)
    connections = sum(links for links, _ in connections_and_units(model).values())
    assert (count_parameters(model), count_macs(model), connections) == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_the_registry_quotes_the_papers_connections(name):
    entry = find_entry(name)
    assert entry.paper_params == entry.params
    assert f"{COUNTS[name][2]:,} connections" in entry.differs


def test_the_zip_code_network_layer_by_layer():
    """Neural Computation 1(4), sec. 3.3: units, connections and parameters of each layer; 1,256 units with pixels."""
    model = create_model("lenet_1989_zip")
    counts = connections_and_units(model)
    assert counts == {
        "stem.h1.conv": (19_968, 768),
        "stages.h2.conv": (38_592, 192),
        "head.h3": (5_790, 30),
        "head.output": (310, 10),
    }
    assert 256 + sum(units for _, units in counts.values()) == 1256
    parameters = {name: count_parameters(model.get_submodule(name)) for name in counts}
    assert list(parameters.values()) == [1068, 2592, 5790, 310]
    assert model.stem.h1.conv.weight.numel() == 12 * 25
    assert model.stages.h2.conv.weight.numel() == 12 * 8 * 25
    # with biases shared by a map and every map of H1 read, as one would write it today
    today = (12 * 25 + 12) + (12 * 12 * 25 + 12) + 5790 + 310
    assert today == 10_024


def test_lenet1_layer_by_layer():
    """The figures of NIPS 2: 4,635 units with the pixels and the one that biases come from."""
    model = create_model("lenet1_1990")
    counts = connections_and_units(model)
    assert {name: links for name, (links, _) in counts.items()} == {
        "stem.h1.conv": 2304 * 26,
        "stages.h2.pool": 576 * 5,
        "stages.h3.conv": 64 * (20 * 25 + 12),
        "stages.h4.pool": 192 * 5,
        "head.output": 1930,
    }
    assert 784 + sum(units for _, units in counts.values()) + 1 == 4635
    assert [count_parameters(model.get_submodule(name)) for name in counts] == [104, 8, 512, 24, 1930]


def test_the_tables():
    """H2: 8 of 12, every map of H1 read equally often. H3: 20 links in two halves."""
    assert [len(set(maps)) for maps in H2_TABLE] == [8] * 12
    assert {sum(wanted in maps for maps in H2_TABLE) for wanted in range(12)} == {8}
    assert len(H3_TABLE) == 12
    assert sum(map(len, H3_TABLE)) == 20
    assert {sum(wanted in maps for maps in H3_TABLE) for wanted in range(4)} == {5}


@pytest.mark.parametrize(
    ("name", "layer", "size", "stride"),
    [
        ("lenet_1989_zip", "stages.h2", 13, 4),
        ("lenet1_1990", "stages.h4", 16, 4),
        ("lecun1989_net5", "stages.h2", 11, 4),
    ],
)
def test_fields_of_the_last_maps(name, layer, size, stride):
    """The pixels that two neighbouring units in the middle of the last maps read, by their gradients."""
    side = 64
    model = create_model(name, input_size=side).double().eval()
    images = torch.randn(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    maps = model.features(images)
    assert model.get_submodule(layer) is model.stages[-1]
    middle = maps.shape[-1] // 2
    firsts = []
    for place in (middle, middle + 1):
        (gradient,) = torch.autograd.grad(maps[0, :, middle, place].sum(), images, retain_graph=True)
        columns = gradient[0, 0].any(0).nonzero()
        firsts.append(columns.min().item())
        assert columns.max() - columns.min() + 1 == size
    assert firsts[1] - firsts[0] == stride
