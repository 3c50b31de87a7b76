"""Deeper networks from shallower trained ones: what is copied, what is new, and answers that stay the same."""

import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.models import ConvNet, create_model
from striate.models.cut import cut_at
from striate.models.grow import check_growth, grown_to, insert_identity, units_in_words

VGG = {"widths": (8, 8, 12, 16, 16), "hidden": 24, "input_size": 32, "classes": 5}
PHOTO = {"input_size": 48, "classes": 5}


def trained(name: str, **changes) -> ConvNet:
    """A network with weights and statistics as training would leave them: none at its start."""
    torch.manual_seed(0)
    model = create_model(name, **changes).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.2)
            elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.uniform_(-0.2, 0.2)
    return model


def images_for(model: ConvNet, count: int = 3) -> torch.Tensor:
    record = model.architecture
    return torch.randn(count, record.in_channels, *record.input_size, generator=torch.Generator().manual_seed(1))


def answers(model: ConvNet) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(images_for(model))


def test_vgg_grows_as_it_was_first_trained():
    source = trained("vgg_a", **VGG)
    before = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    grown = grown_to("vgg_d", source)
    assert grown.model.architecture.name == "vgg_d"
    assert grown.lines == (
        "copied from vgg_a: conv1: conv1_1; conv2: conv2_1; conv3: conv3_1, conv3_2; conv4: conv4_1, conv4_2; "
        "conv5: conv5_1, conv5_2; head: fc6, fc7, fc8",
        "new, started randomly: conv1: conv1_2; conv2: conv2_2; conv3: conv3_3; conv4: conv4_3; conv5: conv5_3",
    )
    state = grown.model.state_dict()
    assert grown.copied == set(before)  # all of the shallower network is in the deeper one
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())
    assert all(state[name].data_ptr() != source.state_dict()[name].data_ptr() for name in before)
    assert all(torch.equal(source.state_dict()[name], tensor) for name, tensor in before.items())
    fresh = [name for name in state if name not in before and name.endswith("weight")]
    assert len(fresh) == 5
    assert all(state[name].std() > 0.01 for name in fresh)
    assert not torch.allclose(answers(grown.model), answers(source))


GROWTHS = [
    ("vgg_a", "vgg_d", VGG),
    ("vgg_a", "vgg_c", VGG),  # 1x1 convolutions are new
    ("vgg_b", "vgg_e", VGG),
    ("vgg11_bn", "vgg16_bn", VGG),
    ("cifar_resnet20", "cifar_resnet32", {}),
    ("cifar_resnet20", "cifar_resnet32", {"shortcut": "B", "normalization": "none"}),
    ("resnet18", "resnet34_b", PHOTO),
    ("resnet50", "resnet101", PHOTO),
    ("mobilenet_v1_shallow", "mobilenet_v1", PHOTO),
]


@pytest.mark.parametrize(
    ("name", "deeper", "changes"),
    [pytest.param(*one, marks=[pytest.mark.slow] if one[0] in ("resnet50",) else []) for one in GROWTHS],
)
def test_layers_that_are_new_pass_on_what_they_get(name, deeper, changes):
    source = trained(name, **changes)
    grown = grown_to(deeper, source, identity=True)
    assert grown.lines[-1].startswith(f"it answers as {name} did: on random images ")
    torch.testing.assert_close(answers(grown.model), answers(source), rtol=1e-4, atol=1e-5)
    assert "new, started as identity: " in grown.lines[1]
    # It learns: the new layers get gradients, and are not bound to stay what they are.
    model = grown.model.train()
    model.loss(model(images_for(model)), torch.tensor([0, 1, 2])).backward()
    moving = [name for name, one in model.named_parameters() if name not in grown.copied and one.grad.any()]
    assert moving


@pytest.mark.slow
def test_networks_of_timm_grow_too():
    pytest.importorskip("timm", reason="timm builds them")
    source = trained("timm:resnet18", input_size=32, classes=4)
    grown = grown_to("timm:resnet34", source, identity=True)
    assert "layer2: 0, 1; " in grown.lines[0]
    assert "layer2: 2, 3; layer3: 2 to 5; " in grown.lines[1]
    torch.testing.assert_close(answers(grown.model), answers(source), rtol=1e-5, atol=1e-5)


def test_answers_that_cannot_stay_are_said():
    leaky = trained("vgg_a", activation="tanh", **VGG)
    assert grown_to("vgg_d", leaky, identity=True).lines[-1].startswith("it does not answer as vgg_a did: ")


def test_what_was_varied_of_the_source_is_varied_of_what_it_grows_into():
    source = trained("vgg_a", activation="elu", dropout=0.1, grid=2, **VGG)
    config = grown_to("vgg_d", source, dropout=0.2).model.architecture.config
    assert (config["activation"], config["grid"], config["dropout"], config["hidden"]) == ("elu", 2, 0.2, 24)
    assert len(config["kernels"][2]) == 3


@pytest.mark.parametrize("name", ["vgg_a", "cifar_resnet20", "preact_resnet164", "resnet18"])
def test_inserting_identity_layers_leaves_the_answers_equal(name):
    changes, deeper = {
        "vgg_a": (VGG, {"kernels": ((3, 3, 3), (3,), (3, 3), (3, 3, 1), (3, 3))}),
        "cifar_resnet20": ({}, {"n": 4}),
        "preact_resnet164": ({"depths": (1, 2, 2), "input_size": 16}, {"depths": (2, 2, 4)}),
        "resnet18": (PHOTO, {"depths": (2, 3, 2, 3)}),
    }[name]
    source = trained(name, **changes)
    grown = insert_identity(source, **deeper)
    assert grown.model.architecture.name == name
    assert sum(one.numel() for one in grown.model.parameters()) > sum(one.numel() for one in source.parameters())
    torch.testing.assert_close(answers(grown.model), answers(source), rtol=1e-5, atol=1e-6)
    assert "it answers as" in grown.lines[-1]
    again = insert_identity(grown.model)
    assert torch.equal(answers(again.model), answers(grown.model))


@pytest.mark.parametrize(
    ("name", "deeper", "words"),
    [
        ("vgg_d", "vgg_a", "conv1 has 2 layers in the one and 1 in the other"),
        ("resnet18", "resnet50", "nothing of conv2_x fits"),
        ("mobilenet_v1", "mobilenet_v1_shallow", "that has no block7"),
        ("cifar_resnet20", "resnet18", "a cifar_resnet20 does not grow into a resnet18$"),
        ("cifar_resnet20", "own.py:Net", "does not grow into a own.py:Net$"),
        ("resnet50_v1_5", "resnet50", "into a resnet50, which is no deeper"),
        ("cifar_plain20", "cifar_resnet20", "into a cifar_resnet20, which is no deeper"),
        ("mobilenet_v1_1.0_224", "mobilenet_v1_1.0_192", "which is no deeper"),
        ("cifar_plain20", "cifar_resnet32", "whose shortcut is A instead of none"),
        ("plain18", "resnet34_b", "whose shortcut is B instead of none"),
        ("resnet50_v1_5", "resnet101", "whose stride_on is 1x1 instead of 3x3"),
        ("vgg_a_lrn", "vgg_d", "whose local_response is False instead of True"),
        ("vgg_a", "vgg_a_lrn", "which is no deeper"),
        ("squeezenet1_0", "squeezenet_complex_bypass", "does not grow into"),
    ],
)
def test_what_does_not_grow_is_refused_before_memory_is_taken(name, deeper, words):
    with torch.device("meta"):
        source = create_model(name, start=False)
    with pytest.raises(ModelError, match=words) as caught:
        check_growth(deeper, source)
    assert caught.value.hint


def test_what_only_training_sees_is_no_other_network():
    with torch.device("meta"):
        source = create_model("cifar_resnet20", start=False, stochastic_depth=0.2, shortcut="A_average")
    check_growth("stochdepth_resnet110", source)


def test_inserting_layers_makes_no_other_network():
    with pytest.raises(ModelError, match="whose shortcut is none instead of A"):
        insert_identity(create_model("cifar_resnet20"), n=4, shortcut="none")


def test_rows_of_layers_are_shortened_where_they_have_no_gap():
    every = [f"stages.b.{number}" for number in range(10)]
    gap = [every[number] for number in (0, 1, 2, 3, 6, 8, 9)]
    assert units_in_words(gap, every) == "b: 0 to 3, 6, 8, 9"
    assert units_in_words(["stem", *every], ["stem", *every]) == "stem; b: 0 to 9"


def test_a_cut_network_does_not_grow():
    with pytest.raises(ModelError, match="a cifar_resnet20 cut at maps16 does not grow into a cifar_resnet32"):
        check_growth("cifar_resnet32", cut_at(create_model("cifar_resnet20"), "maps16", 3))


def test_column_c_gives_what_fits():
    source = trained("vgg_c", **VGG)  # its third kernels are 1x1
    grown = grown_to("vgg_d", source)
    assert "conv3: conv3_1, conv3_2; conv4: conv4_1, conv4_2; " in grown.lines[0]
    assert grown.lines[1] == "new, started randomly: conv3: conv3_3; conv4: conv4_3; conv5: conv5_3"
