"""The objective and the update: facts M087, M090, M100, M101, M105-M107, and mixing, weighting, accumulating."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from striate.data import Batch
from striate.models import create_model
from striate.options import OptimizerOptions, RegularizeOptions
from striate.training.epoch import split_batch
from striate.training.objective import balanced_class_weights, batch_loss
from striate.training.optimizers import make_optimizer


def batch(size: int = 6, *, mixed: bool = False, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(size) % 10
    return Batch(
        images=torch.randn(size, 1, 8, 8, generator=generator),
        targets=targets,
        indices=np.arange(size),
        mixed_targets=targets.roll(-1) if mixed else None,
        mix_weight=torch.linspace(0.1, 0.9, size) if mixed else None,
    )


def small_network(**changes):
    torch.manual_seed(0)
    return create_model("compact_s", in_channels=1, input_size=8, **changes)


def loss_of(model, part: Batch, **changes) -> torch.Tensor:
    settings = {"class_weights": None, "label_smoothing": 0.0} | changes
    return batch_loss(model, model(part.images), part, **settings)


def test_a_mixed_image_counts_for_both_classes_by_its_weight():
    model, mixed = small_network().eval(), batch(mixed=True)
    logits = model(mixed.images)
    own = functional.cross_entropy(logits, mixed.targets, reduction="none")
    partner = functional.cross_entropy(logits, mixed.mixed_targets, reduction="none")
    expected = (mixed.mix_weight * own + (1 - mixed.mix_weight) * partner).mean()
    torch.testing.assert_close(loss_of(model, mixed), expected)


def test_balanced_weights_give_every_class_the_same_total():
    targets = np.array([0] * 6 + [1] * 3 + [2])
    weights = balanced_class_weights(targets, 4)
    totals = [float(weights[c]) * (targets == c).sum() for c in range(4)]
    assert totals == pytest.approx([2.5, 2.5, 2.5, 0.0])


def test_label_smoothing_equals_cross_entropy_with_softened_targets():
    model, part = small_network().eval(), batch()
    soft = torch.full((6, 10), 0.1 / 10) + 0.9 * functional.one_hot(part.targets, 10)
    expected = -(soft * functional.log_softmax(model(part.images), dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(loss_of(model, part, label_smoothing=0.1), expected)


def test_gradients_equal_finite_differences():  # M090
    model = small_network(normalization="none", activation="tanh", pooling="average").double().eval()
    part = batch(3)
    part.images = part.images.double()
    loss_of(model, part).backward()
    weight = model.head.linear.weight
    step = 1e-6
    for position in ((0, 0), (3, 17), (9, 60)):
        with torch.no_grad():
            weight[position] += step
            above = loss_of(model, part)
            weight[position] -= 2 * step
            below = loss_of(model, part)
            weight[position] += step
        assert float(weight.grad[position]) == pytest.approx(float((above - below) / (2 * step)), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_averaging_the_gradients_of_parts_is_one_step_on_the_whole(parts):  # M106: workers, accumulation, a full GPU
    whole, divided = small_network(normalization="none").double(), small_network(normalization="none").double()
    one = batch()
    one.images = one.images.double()
    loss_of(whole, one).backward()
    for part in split_batch(one, parts):
        (loss_of(divided, part) * len(part.targets) / len(one.targets)).backward()
    for mine, theirs in zip(divided.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-10, atol=1e-12)


def test_stale_gradients_still_converge_with_a_small_delay():  # M107, on a quadratic
    position, waiting = torch.tensor([4.0, -3.0]), []
    for _ in range(200):
        waiting.append(position.clone())  # the gradient of |w|^2 / 2, computed by a worker two steps ago
        if len(waiting) > 2:
            position = position - 0.1 * waiting.pop(0)
    assert float(position.norm()) < 1e-4


def test_permuting_hidden_units_leaves_the_loss_equal():  # M100: minima come in families
    torch.manual_seed(0)
    first, second = nn.Linear(5, 8), nn.Linear(8, 3)
    inputs, targets = torch.randn(7, 5), torch.randint(3, (7,))
    before = functional.cross_entropy(second(first(inputs).tanh()), targets)
    order = torch.randperm(8)
    with torch.no_grad():
        first.weight.copy_(first.weight[order])
        first.bias.copy_(first.bias[order])
        second.weight.copy_(second.weight[:, order])
    torch.testing.assert_close(functional.cross_entropy(second(first(inputs).tanh()), targets), before)


def test_equal_initial_filters_stay_equal():  # M101: randomness breaks the symmetry
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    one = batch(8)
    for _ in range(3):
        functional.cross_entropy(model(one.images), one.targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    filters = model[0].weight.detach()
    assert not torch.equal(filters, torch.full_like(filters, 0.1))
    torch.testing.assert_close(filters, filters[:1].expand_as(filters))


def test_the_average_of_the_weights_beats_the_last_on_a_noisy_quadratic():  # M087
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(10, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)
    optimizer = make_optimizer(
        model,
        OptimizerOptions(optimizer="sgd", lr=0.1, momentum=0.0, nesterov=False),
        RegularizeOptions(weight_decay=0.0),
    )
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)
    last, averaged = 0.0, 0.0
    for step in range(1000):
        model.weight.grad = model.weight.detach() + torch.randn(1, 10, generator=generator)
        optimizer.step()
        average.update_parameters(model)
        if step >= 500:
            last += float(model.weight.detach().norm())
            averaged += float(average.module.weight.detach().norm())
    assert averaged < 0.5 * last


def several(size: int = 6, *, mixed: bool = False) -> Batch:
    """A batch of images with any number of ten labels, the first without any."""
    targets = (torch.rand(size, 10, generator=torch.Generator().manual_seed(3)) < 0.3).float()
    targets[0] = 0
    return replace(batch(size, mixed=mixed), targets=targets, mixed_targets=targets.roll(-1, 0) if mixed else None)


def test_several_labels_are_as_many_questions():
    model, part = small_network(), several()
    logits = model(part.images)
    expected = functional.binary_cross_entropy_with_logits(logits, part.targets)
    torch.testing.assert_close(loss_of(model, part), expected)
    each = model.loss(logits, part.targets, reduction="none")
    assert each.shape == (6,)
    torch.testing.assert_close(each.mean(), expected)
    torch.testing.assert_close(model.loss(logits, part.targets, reduction="sum"), each.sum())


def test_smoothing_moves_several_labels_towards_one_half():
    model, part = small_network(), several()
    expected = functional.binary_cross_entropy_with_logits(model(part.images), 0.9 * part.targets + 0.05)
    torch.testing.assert_close(loss_of(model, part, label_smoothing=0.1), expected)


def test_mixing_several_labels_is_mixing_their_targets():
    model, part = small_network(), several(mixed=True)
    weight = part.mix_weight[:, None]
    mixed = weight * part.targets + (1 - weight) * part.mixed_targets
    for settings in ({}, {"label_smoothing": 0.2}, {"class_weights": torch.linspace(0.5, 3, 10)}):
        expected = loss_of(model, replace(several(), targets=mixed), **settings)
        torch.testing.assert_close(loss_of(model, part, **settings), expected)


def test_balanced_label_weights_make_having_and_lacking_weigh_the_same():
    targets = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
    weights = balanced_class_weights(targets, 4)
    assert weights.tolist() == pytest.approx([3, 1, 1, 1 / 3])  # a label that no image has, or every, stays as it is
    logits = torch.zeros(4, 4)
    loss = functional.binary_cross_entropy_with_logits(
        logits, torch.from_numpy(targets).float(), pos_weight=weights, reduction="none"
    )
    having = (loss * torch.from_numpy(targets)).sum(0)
    assert having[[0, 3]].tolist() == pytest.approx((loss.sum(0) - having)[[0, 3]].tolist())
