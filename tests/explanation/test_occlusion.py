"""Occlusion against one covered copy after the other, and against Captum."""

import pytest
import torch
from torch import nn

from striate.explanation.attribution import METHODS, Question
from striate.explanation.undisturbed import undisturbed
from striate.options.explain import ExplainOptions
from striate.progress import Progress, Task

from .networks import images, plain


def occlude(model: nn.Module, given, grey=None, progress=None, **settings):
    with undisturbed(model):
        question = Question(
            model=model, images=given, targets=torch.arange(len(given)) % 3, grey=grey,
            options=ExplainOptions(**settings), progress=progress or Progress(),
        )  # fmt: skip
        return METHODS["occlusion"].ask(question).maps


def test_it_is_the_mean_fall_over_the_squares_on_a_pixel():
    model, given = plain(), images(2)
    found = occlude(model, given, window=4, stride=3)
    starts = (0, 3, 6, 8)  # the last reaches the border
    for row, target in enumerate((0, 1)):
        total, times = torch.zeros(12, 12, dtype=torch.float64), torch.zeros(12, 12)
        for top in starts:
            for left in starts:
                covered = given[row : row + 1].clone()
                covered[..., top : top + 4, left : left + 4] = 0
                fall = (model(given[row : row + 1]) - model(covered))[0, target].detach()
                total[top : top + 4, left : left + 4] += fall
                times[top : top + 4, left : left + 4] += 1
        torch.testing.assert_close(found[row], total / times)


def test_it_is_captums():
    attribution = pytest.importorskip("captum.attr", reason="compares with Captum")
    model, given = plain(), images(2)
    theirs = attribution.Occlusion(model).attribute(
        given, target=torch.tensor([0, 1]), sliding_window_shapes=(1, 4, 4), strides=(1, 2, 2), baselines=0.3
    )
    grey = torch.full((1, 1, 1), 0.3, dtype=torch.float64)
    torch.testing.assert_close(
        occlude(model, given, grey, window=4, stride=2), theirs[:, 0].detach().double(), rtol=1e-5, atol=1e-6
    )


def test_it_runs_in_batches_and_counts_them():
    class Counting(Progress):
        total, done = 0, 0

        def task(self, title, total=None):
            self.total = total
            return super().task(title, total)

    class Seen(nn.Module):
        largest = 0

        def forward(self, given):
            self.largest = max(self.largest, len(given))
            return plain_network(given)

    plain_network, seen, shown = plain(), Seen(), Counting()
    advanced = []
    original = Task.advance
    try:
        Task.advance = lambda self, count=1, note=None: advanced.append(count)  # type: ignore[method-assign]
        occlude(seen, images(2), progress=shown, window=2, stride=1)
    finally:
        Task.advance = original  # type: ignore[method-assign]
    assert shown.total == sum(advanced) == 2 * 11 * 11
    assert 1 < seen.largest <= 32
