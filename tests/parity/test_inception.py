"""Inception v3, v4, Inception-ResNet and Xception against torchvision and timm, in float64, to 1e-10 of each norm.

Everything that a network carries is random: weights, scales and shifts, running statistics.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from striate.models import create_model, family_class, find_entry, load_reference
from striate.models.reference import fit_state

CLASSES = 5
slow = pytest.mark.slow


def randomise(model: nn.Module) -> None:
    """Convolutions keep their variance 1 / fan-in; scales 0.5 to 1.5; statistics that no layer would have by itself."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(0.0, module.weight[0].numel() ** -0.5)
                if module.bias is not None:
                    module.bias.normal_(0.0, 0.1)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0.0, 0.2)
                module.running_mean.normal_(0.0, 0.2)
                module.running_var.uniform_(0.5, 1.5)


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


def compare(name: str, theirs: nn.Module, side: int, batch: int = 4, **changes) -> None:
    """Outputs in evaluation; loss, gradients of the images and all parameters, moved statistics in training."""
    theirs = theirs.double()
    randomise(theirs)
    settings = {"classes": CLASSES, "input_size": side, "dropout": 0.0, "start": False, **changes}
    ours = create_model(name, **settings).double()
    fit = load_reference(ours, theirs.state_dict())
    assert fit.complete
    for field, value in fit.naming.variations.items():
        assert ours.architecture.config[field] == value
    images = torch.randn(batch, 3, side, side, dtype=torch.float64, requires_grad=True)
    targets = torch.arange(batch) % CLASSES

    with torch.no_grad():
        assert relative(ours.eval()(images), theirs.eval()(images)) < 1e-10

    outputs = theirs.train()(images)
    if isinstance(outputs, Tensor):
        loss = cross_entropy(outputs, targets)
    else:
        loss = cross_entropy(outputs.logits, targets) + 0.4 * cross_entropy(outputs.aux_logits, targets)
    loss.backward()
    expected, images.grad = images.grad, None
    mine = ours.loss(ours.train()(images), targets)
    mine.backward()
    assert mine.item() == pytest.approx(loss.item(), rel=1e-12)
    assert images.grad is not None
    assert expected is not None
    assert relative(images.grad, expected) < 1e-10

    # Gradients travel through the same renaming as weights.
    wanted = create_model(name, **settings).double()
    gradients = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    load_reference(wanted, {**theirs.state_dict(), **gradients})
    names = dict(wanted.named_parameters())
    for key, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert relative(parameter.grad, names[key]) < 1e-10, key
    load_reference(wanted, theirs.state_dict())
    for key, value in ours.state_dict().items():
        if "running" in key:
            torch.testing.assert_close(value, wanted.state_dict()[key], rtol=1e-12, atol=1e-12)


def test_inception_v3_without_auxiliary_classifier():
    models = pytest.importorskip("torchvision", reason="torchvision is the reference").models
    torch.manual_seed(0)
    theirs = models.inception_v3(num_classes=CLASSES, aux_logits=False, init_weights=False, dropout=0.0)
    compare("inception_v3", theirs, 75, auxiliary=False, pool_counts_padding=True)


@slow
def test_inception_v3_with_auxiliary_classifier():
    """At the paper's size: torchvision's classifier needs maps of 17x17."""
    models = pytest.importorskip("torchvision", reason="torchvision is the reference").models
    torch.manual_seed(0)
    theirs = models.inception_v3(num_classes=CLASSES, aux_logits=True, init_weights=False, dropout=0.0)
    compare("inception_v3", theirs, 299, batch=3, pool_counts_padding=True)


@pytest.mark.parametrize(
    ("name", "reference", "side", "changes"),
    [
        pytest.param(
            "inception_v3", "inception_v3", 107, {"auxiliary": False, "pool_counts_padding": True}, marks=slow
        ),
        pytest.param("inception_v4", "inception_v4", 107, {}, marks=slow),
        pytest.param("inception_resnet_v2", "inception_resnet_v2", 107, {}, marks=slow),
        ("xception", "legacy_xception", 33, {"epsilon": 1e-5}),
    ],
)
def test_timm(name, reference, side, changes):
    timm = pytest.importorskip("timm", reason="timm is the reference")
    torch.manual_seed(0)
    compare(name, timm.create_model(reference, num_classes=CLASSES), side, **changes)


def test_every_published_name_is_understood():
    models = pytest.importorskip("torchvision", reason="torchvision is the reference").models
    timm = pytest.importorskip("timm", reason="timm is the reference")
    with torch.device("meta"):
        published = {
            "inception_v3": [models.inception_v3(init_weights=False), timm.create_model("inception_v3")],
            "inception_v4": [timm.create_model("inception_v4")],
            "inception_resnet_v2": [timm.create_model("inception_resnet_v2")],
            "xception": [timm.create_model("legacy_xception")],
        }
        for name, references in published.items():
            ours = create_model(name, start=False)
            for theirs in references:
                fit = fit_state(ours, theirs.state_dict())
                assert fit.complete
                assert fit.naming.publisher in find_entry(name).reference
                with_auxiliary = hasattr(theirs, "AuxLogits") and theirs.AuxLogits is not None
                assert bool(fit.no_auxiliary) == (name == "inception_v3" and not with_auxiliary)


def test_networks_that_nobody_published_have_no_naming():
    for name in ("inception_v2_rethinking", "inception_resnet_v1", "inception_resnet_v2_paper"):
        entry = find_entry(name)
        family = family_class(entry)
        assert family.namings(family.config_type(**entry.config)) == ()
