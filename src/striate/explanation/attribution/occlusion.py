"""How much the score falls when a part of the image is covered."""

from __future__ import annotations

import torch
from torch import Tensor

from striate.explanation.attribution.question import Answer, Question

_PARTS = 6  # the square is this part of the shorter side
_AT_ONCE = 32  # covered copies that run at once


def occlusion(question: Question) -> Answer:
    """The fall of the score when a grey square lies on a pixel, the mean over the squares that cover it, [n, H, W].

    Zeiler & Fergus 2013, 1311.2901, sec. 4.2. Negative where covering helps. Unlike in the paper it is the logit and
    not the probability that falls: a probability near 1 hardly changes whatever is covered. The square is of the mean
    colour of the training images; its last position on each side reaches the border.
    """
    images = question.images
    height, width = images.shape[2:]
    window = min(question.options.window or max(2, round(min(height, width) / _PARTS)), height, width)
    stride = question.options.stride or max(1, window // 2)
    corners = [(top, left) for top in _starts(height, window, stride) for left in _starts(width, window, stride)]
    grey = torch.zeros_like(images[0, :, :1, :1]) if question.grey is None else question.grey.to(images)
    fall, times = images.new_zeros(images.shape[0], height, width), images.new_zeros(height, width)
    with torch.no_grad(), question.progress.task("occlusion", len(images) * len(corners)) as task:
        whole = question.scores(images)
        for row, image in enumerate(images):
            for begin in range(0, len(corners), _AT_ONCE):
                part = corners[begin : begin + _AT_ONCE]
                scores = question.scores(_covered(image, part, window, grey), question.targets[row].repeat(len(part)))
                for (top, left), score in zip(part, scores, strict=True):
                    fall[row, top : top + window, left : left + window] += whole[row] - score
                task.advance(len(part))
    for top, left in corners:
        times[top : top + window, left : left + window] += 1
    return Answer(torch.where(times > 0, fall / times.clamp_min(1), 0.0))


def _starts(side: int, window: int, stride: int) -> list[int]:
    last = side - window
    return [*range(0, last, stride), last]


def _covered(image: Tensor, corners: list[tuple[int, int]], window: int, grey: Tensor) -> Tensor:
    """Copies of `image` [C, H, W] with a square at each corner."""
    copies = image.repeat(len(corners), 1, 1, 1)
    for copy, (top, left) in zip(copies, corners, strict=True):
        copy[:, top : top + window, left : left + window] = grey
    return copies
