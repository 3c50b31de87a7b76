"""What "equal to the reference" means: outputs, gradients and running statistics in float64, to 1e-10 of each norm."""

import torch
from torch import Tensor, nn

from striate.models import ConvNet, load_reference, rebuild

TOLERANCE = 1e-10


def assert_equal_in_float64(ours: ConvNet, theirs: nn.Module, images: Tensor) -> None:
    """Copy `theirs` into `ours` and compare them in evaluation and in training, without dropout.

    Normalisations get random scales, shifts and statistics first, so that none of them hides.
    """
    for model in (ours, theirs):
        model.double()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    randomise_normalisations(theirs)
    load_reference(ours, theirs.state_dict())
    images = images.double().requires_grad_()
    targets = torch.arange(len(images))

    with torch.no_grad():
        assert relative(ours.eval()(images), theirs.eval()(images)) < TOLERANCE

    expected = slope_for_images(theirs.train(), images, targets)
    found = slope_for_images(ours.train(), images, targets)
    assert relative(found, expected) < TOLERANCE
    # Gradients, and the statistics that training moved, travel through the same renaming as weights.
    wanted = rebuild(ours.architecture, start=False).double()
    slopes = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    load_reference(wanted, {**theirs.state_dict(), **slopes})
    named = dict(wanted.named_parameters())
    for key, parameter in ours.named_parameters():
        assert parameter.grad is not None, key
        if key.endswith(".bias"):
            # A bias before batch normalisation has gradient zero: what both have there is rounding.
            rounding = TOLERANCE * named[key.removesuffix("bias") + "weight"].norm()
            if parameter.grad.norm() < rounding and named[key].norm() < rounding:
                continue
        assert relative(parameter.grad, named[key]) < TOLERANCE, key
    statistics = dict(wanted.named_buffers())
    for key, value in ours.named_buffers():
        if "running" in key:
            torch.testing.assert_close(value, statistics[key], rtol=1e-12, atol=1e-12)


def randomise_normalisations(model: nn.Module) -> None:
    """Scales and variances of 0.5 to 1.5, shifts and means of a tenth."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)


def slope_for_images(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The gradient for the images; those of the parameters are left in their `grad`."""
    nn.functional.cross_entropy(model(images), targets).backward()
    assert images.grad is not None
    slope, images.grad = images.grad, None
    return slope


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference as a fraction of the reference's norm."""
    return ((ours - theirs).norm() / theirs.norm()).item()
