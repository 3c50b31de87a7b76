"""How the score changes with each pixel: the gradient, its average over noisy copies, its integral from black."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from striate.errors import MissingExtraError
from striate.explanation.attribution.question import Answer, Question

_INCOMPLETE = 0.05  # of the difference in score: more than this left over is worth a note


def gradient(question: Question) -> Answer:
    """The derivative of the score by each value of the image, [n, C, H, W]. Simonyan et al. 2013, 1312.6034, sec. 3."""
    return Answer(gradient_of(question, question.images))


def smoothgrad(question: Question) -> Answer:
    """The mean gradient over copies of the image with Gaussian noise, [n, C, H, W]. Smilkov et al. 2017, 1706.03825.

    The noise has a deviation of `options.noise` times the range of the image's values, and a generator of its own. It
    is the same for every image: what a map becomes does not depend on the images beside it.
    """
    options, images = question.options, question.images
    generator = torch.Generator().manual_seed(options.seed)
    deviation = options.noise * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))
    total = torch.zeros_like(images)
    with question.progress.task("smoothgrad", options.samples) as task:
        for _ in range(options.samples):
            noise = torch.randn(images.shape[1:], generator=generator).to(images)
            total += gradient_of(question, images + deviation * noise)
            task.advance()
    return Answer(total / options.samples)


def integrated_gradients(question: Question) -> Answer:
    """(image - black) times the mean gradient on the way from a black image, [n, C, H, W]; computed by Captum.

    Sundararajan et al. 2017, 1703.01365. The values add up to the score of the image less that of the black one; a note
    says so where `options.steps` are too few for that.

    Raises:
        MissingExtraError: Captum is not installed.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise MissingExtraError("integrated gradients", "captum", "explain") from error

    images, targets = question.images, question.targets
    black = torch.zeros_like(images) if question.black is None else question.black.to(images).expand_as(images)

    def scores(values: Tensor) -> Tensor:
        repeats = len(values) // len(targets)  # Captum stacks the steps one after the other
        return question.scores(values, targets.repeat(repeats))

    # without a bound, all steps of all images would be in memory at once
    found: Any = IntegratedGradients(scores).attribute(
        images, baselines=black, n_steps=question.options.steps, internal_batch_size=max(len(images), 16)
    )
    with torch.no_grad():
        change = question.scores(images) - question.scores(black)
    left = (found.flatten(1).sum(1) - change).abs()
    missing = (left / change.abs().clamp_min(1e-6)).tolist()
    note = "the parts miss the whole by {:.0%}: more --steps come closer"
    each = tuple((note.format(one),) if one > _INCOMPLETE else () for one in missing)
    return Answer(found.detach(), each=each)


def gradient_of(question: Question, images: Tensor) -> Tensor:
    """The derivative of the score of each of `images`, which the network answers independently of one another."""
    leaf = images.detach().clone().requires_grad_()
    scores = question.scores(leaf.clone())  # a first layer that works in place must not write to a leaf
    return torch.autograd.grad(scores.sum(), leaf)[0]
