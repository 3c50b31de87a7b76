"""The least that can be done to an image, pixel by pixel, to make a network err: bounded steps along its gradients.

All in float32 and in the space of pixels: no value moves by more than `eps`, nor leaves the range.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from striate.data.draws import Draws
from striate.data.normalise import factors
from striate.models import ConvNet
from striate.spec import InputSpec

EPSILONS = (1, 2, 4, 8, 16)  # in 255ths of the range
EPSILONS_SMALL = (1, 2, 4, 8, 16, 32, 64)  # of small images, among which digits bear much
STEPS = 10  # of PGD
STRIDE = 2.5  # the steps together in units of eps: they reach its border from any start, and can turn back


def fgsm(model: ConvNet, images: Tensor, targets: Tensor, spec: InputSpec, eps: float) -> Tensor:
    """One step of `eps` up the sign of the loss's gradient. Goodfellow et al. 2015, 1412.6572, sec. 4.

    Args:
        model: on the device of the images; it is left as it came.
        images: stored pixels as parts of the range, float32 [B, C, H, W] in 0..1; not changed.
        targets: the true classes, int64 [B].
        spec: what the network is fed.
        eps: the largest change of a value, in parts of the range.
    """
    with attacking(model):
        return (images + eps * _direction(model, images, targets, spec)).clamp_(0.0, 1.0)


def pgd(
    model: ConvNet,
    images: Tensor,
    targets: Tensor,
    spec: InputSpec,
    eps: float,
    *,
    indices: np.ndarray,
    steps: int = STEPS,
    seed: int = 0,
) -> Tensor:
    """Many small steps from a random start, each brought back to within `eps`. Madry et al. 2018, 1706.06083, sec. 2.1.

    Args:
        model: see `fgsm`, as the next four.
        images: see `fgsm`.
        targets: see `fgsm`.
        spec: see `fgsm`.
        eps: see `fgsm`.
        indices: int [B], by which each image draws its start, evenly within `eps`.
        steps: each of 2.5 eps / steps.
        seed: of the draws.
    """
    draws = Draws(seed, 0, np.asarray(indices, dtype=np.int64))
    start = draws.uniform("pgd", -eps, eps, images[0].numel()).reshape(tuple(images.shape))
    low, high = (images - eps).clamp_(min=0.0), (images + eps).clamp_(max=1.0)
    found = images + torch.from_numpy(start.astype(np.float32)).to(images.device)
    found = torch.minimum(torch.maximum(found, low), high)
    with attacking(model):
        for _ in range(steps):
            found = found + (STRIDE * eps / steps) * _direction(model, found, targets, spec)
            found = torch.minimum(torch.maximum(found, low), high)
    return found


def answers_to(model: ConvNet, images: Tensor, spec: InputSpec) -> Tensor:
    """Logits float32 [B, classes] of pixels in 0..1, in the very arithmetic that is attacked."""
    with attacking(model), torch.no_grad():
        return model(_as_fed(images, spec)).float()


@contextmanager
def attacking(model: ConvNet) -> Iterator[None]:
    """Inside, gradients flow to the images alone, in float32 and evaluation mode; then the model is as it came."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    device = next(model.parameters()).device.type
    model.eval()
    for parameter, _ in wanted:
        parameter.requires_grad_(False)
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires in wanted:
            parameter.requires_grad_(requires)


def _direction(model: ConvNet, images: Tensor, targets: Tensor, spec: InputSpec) -> Tensor:
    """The sign of the loss's gradient at each value, 0 where it is no number."""
    images = images.detach().requires_grad_()
    loss = model.loss(model(_as_fed(images, spec)), targets, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    return gradient.nan_to_num().sign()


def _as_fed(images: Tensor, spec: InputSpec) -> Tensor:
    """`normalise` of parts of the range, through which gradients pass."""
    scale, offset = factors(spec, floating=True, device=images.device)
    fed = images.flip(1) if spec.reverses_channels else images
    return (fed * scale[:, None, None] + offset[:, None, None]).contiguous(memory_format=torch.channels_last)
