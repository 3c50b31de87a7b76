"""Grad-CAM and Grad-CAM++ against a plain implementation, Captum and the package grad-cam."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.errors import ModelError
from striate.explanation.attribution import METHODS, Question
from striate.explanation.attribution.cam import coarse_map, laid_over, mean_gradients, positive_gradients
from striate.explanation.places import Place, find_place
from striate.explanation.undisturbed import undisturbed
from striate.models import create_model

from .networks import images, plain

TARGETS = torch.tensor([2, 0])


def question_for(model: nn.Module, given: Tensor, path: str | None = "conv2") -> Question:
    place = None if path is None else Place(path, path)
    return Question(model=model, images=given, targets=TARGETS[: len(given)], place=place)


def coarse(model: nn.Module, given: Tensor, weigh, path: str | None = "conv2") -> Tensor:
    with undisturbed(model):
        return coarse_map(question_for(model, given, path), weigh)[0]


def parts(model, given: Tensor) -> tuple[Tensor, Tensor]:
    """Maps and gradients of `plain` at conv2, by cutting it in two."""
    maps = model.conv2(F.max_pool2d(model.conv1(given).relu(), 2)).detach().requires_grad_()
    scores = model.linear(maps.relu().mean((2, 3))).gather(1, TARGETS[:, None])
    return maps.detach(), torch.autograd.grad(scores.sum(), maps)[0]


def test_gradcam_is_its_formula():
    model, given = plain(), images(2)
    maps, gradients = parts(model, given)
    for row in range(2):
        expected = torch.zeros(6, 6, dtype=torch.float64)
        for channel in range(6):
            expected += gradients[row, channel].sum() / 36 * maps[row, channel]
        found = coarse(model, given, mean_gradients)[row]
        torch.testing.assert_close(found, expected.clamp(min=0))


def test_gradcam_plus_plus_is_its_formula():
    model, given = plain(), images(2)
    maps, gradients = parts(model, given)
    for row in range(2):
        expected = torch.zeros(6, 6, dtype=torch.float64)
        for channel in range(6):
            g, a = gradients[row, channel].numpy(), maps[row, channel].numpy()
            below = 2 * g**2 + a.sum() * g**3
            alpha = np.divide(g**2, below, out=np.zeros_like(g), where=below != 0)
            expected += float((alpha * np.maximum(g, 0)).sum()) * maps[row, channel]
        torch.testing.assert_close(coarse(model, given, positive_gradients)[row], expected.clamp(min=0))


@pytest.mark.parametrize("way", ["module in place", "function in place", "in place, old name"])
def test_a_layer_before_one_that_works_in_place_keeps_its_own_maps(way):
    given = images(2)
    torch.testing.assert_close(coarse(plain(way), given, mean_gradients), coarse(plain(), given, mean_gradients))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_gradcam_is_captums(name):
    attribution = pytest.importorskip("captum.attr", reason="compares with Captum")
    torch.manual_seed(0)
    model, given = create_model(name, input_size=96).eval(), torch.randn(2, 3, 96, 96)
    place = find_place(model)
    theirs = attribution.LayerGradCam(model, model.get_submodule(place.path)).attribute(
        given, target=TARGETS, relu_attributions=True
    )
    ours = coarse(model, given, mean_gradients, place.path)
    torch.testing.assert_close(ours, theirs[:, 0].detach())
    with undisturbed(model):
        laid = METHODS["gradcam"].ask(question_for(model, given, None)).maps
    stretched = F.interpolate(theirs, size=(96, 96), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(laid, stretched.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_maps_are_those_of_the_package_grad_cam(method):
    theirs = pytest.importorskip("pytorch_grad_cam", reason="compares with the package grad-cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.manual_seed(0)
    model, given = create_model("cifar_resnet20").eval(), 3 * torch.randn(2, 3, 32, 32)
    model.head.linear.weight.data *= 300  # grad-cam adds 1e-6 to a sum of squared gradients, which then is small
    place = find_place(model)
    package = {"gradcam": theirs.GradCAM, "gradcam++": theirs.GradCAMPlusPlus}[method]
    with package(model=model, target_layers=[model.get_submodule(place.path)]) as cam:
        expected = cam(input_tensor=given, targets=[ClassifierOutputTarget(int(one)) for one in TARGETS])
    with undisturbed(model):
        ours = METHODS[method].ask(question_for(model, given, None)).maps
    scaled = ours - ours.amin((1, 2), keepdim=True)  # as the package does
    scaled = scaled / scaled.amax((1, 2), keepdim=True)
    np.testing.assert_allclose(scaled.numpy(), expected, atol=2e-3)


def test_units_are_laid_where_they_look():
    model = create_model("lenet5_dense").eval()  # without padding: s4 sees pixels 7.5 to 23.5 of 32
    place = find_place(model)
    assert place.centres is not None
    assert place.centres[0] == (7.5, 11.5, 15.5, 19.5, 23.5)
    maps = torch.zeros(1, 5, 5)
    maps[0, 1, 4] = 1.0
    laid = laid_over(maps, (32, 32), place)[0]
    assert laid[11:13, 24:].min() == pytest.approx(0.875)  # half a pixel beside row 11.5, and as far as the border
    assert laid[:, :19].max() == 0.0
    stretched = laid_over(maps, (32, 32), Place("", ""))
    expected = F.interpolate(maps[None], size=(32, 32), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(stretched, expected)


def test_a_layer_without_maps_or_without_a_way_to_the_score_is_an_error():
    model, given = create_model("lenet5_dense").eval(), torch.rand(1, 1, 32, 32)
    with pytest.raises(ModelError, match="not maps"):
        coarse(model, given, mean_gradients, "head.f6")
    beside = nn.Sequential(nn.Conv2d(1, 2, 1), Beside()).eval()
    with pytest.raises(ModelError, match="does not depend"):
        coarse(beside, given, mean_gradients, "1.unused")


class Beside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv2d(2, 3, 1)

    def forward(self, maps: Tensor) -> Tensor:
        self.unused(maps)
        return maps.mean((2, 3)).repeat(1, 2)
