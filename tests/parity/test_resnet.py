"""ResNet-18 and 34 against torchvision: its random weights copied over, outputs and gradients equal in float64."""

import pytest
import torch

from striate.errors import ModelError
from striate.models import create_model, load_reference

torchvision = pytest.importorskip("torchvision", reason="torchvision is the reference")


@pytest.mark.parametrize(
    ("name", "reference"), [("resnet18", "resnet18"), pytest.param("resnet34", "resnet34", marks=pytest.mark.slow)]
)
def test_outputs_and_gradients_equal_torchvision(name, reference):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, reference)(num_classes=10).double()
    ours = create_model(name, classes=10, input_size=64).double()
    load_reference(ours, theirs.state_dict())
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 3, 5, 9])

    theirs.eval()
    ours.eval()
    assert relative(ours(images), theirs(images)) < 1e-10

    theirs.train()
    ours.train()
    torch.nn.functional.cross_entropy(theirs(images), targets).backward()
    expected = images.grad
    assert expected is not None
    images.grad = None
    ours.loss(ours(images), targets).backward()
    assert images.grad is not None
    assert relative(images.grad, expected) < 1e-10

    # Gradients travel through the same renaming as weights.
    wanted = create_model(name, classes=10, input_size=64).double()
    gradients = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    load_reference(wanted, {**theirs.state_dict(), **gradients})
    names = dict(wanted.named_parameters())
    for key, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert relative(parameter.grad, names[key]) < 1e-10, key
    # Training mode moved the running statistics alike.
    load_reference(wanted, theirs.state_dict())
    for key, value in ours.state_dict().items():
        if "running" in key:
            torch.testing.assert_close(value, wanted.state_dict()[key], rtol=1e-12, atol=1e-12)


def test_weights_of_another_network_are_refused_and_nothing_is_loaded():
    ours = create_model("resnet18", classes=10, input_size=32)
    before = ours.stem.conv1.weight.clone()
    theirs = torchvision.models.resnet18(num_classes=7).state_dict()
    with pytest.raises(ModelError, match=r"another shape head\.linear\.weight") as caught:
        load_reference(ours, theirs)
    assert "classes" in (caught.value.hint or "")
    with pytest.raises(ModelError, match="lack head"):
        load_reference(ours, {key: value for key, value in theirs.items() if not key.startswith("fc")})
    with pytest.raises(ModelError, match="have besides"):
        load_reference(ours, {**theirs, "layer5.0.conv1.weight": torch.zeros(1)})
    assert torch.equal(ours.stem.conv1.weight, before)


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()
