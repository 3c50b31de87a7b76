"""Gradients against finite differences, integrated gradients by its axioms, guided backpropagation by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.errors import MissingExtraError
from striate.explanation.attribution import METHODS, Question
from striate.explanation.attribution.rectified import rectified_backward
from striate.explanation.undisturbed import undisturbed
from striate.layers.normalization import Contrast
from striate.options.explain import METHODS as DECLARED
from striate.options.explain import ExplainOptions

from .networks import WAYS, Plain, images, plain


def ask(name: str, model: nn.Module, given: torch.Tensor, **settings) -> torch.Tensor:
    targets = settings.pop("targets", torch.arange(len(given)) % 3)
    black = settings.pop("black", None)
    with undisturbed(model):
        question = Question(model=model, images=given, targets=targets, black=black, options=ExplainOptions(**settings))
        return METHODS[name].ask(question).maps


def test_the_table_has_the_declared_methods():
    assert tuple(METHODS) == DECLARED


def test_the_gradient_is_that_of_finite_differences():
    model, given, step = plain(), images(), 1e-6
    found = ask("gradient", model, given)
    for row, target in enumerate((0, 1)):
        for place in ((0, 0), (5, 7), (11, 11), (3, 4)):
            moved = given[row : row + 1].repeat(2, 1, 1, 1)
            moved[0, 0][place] += step
            moved[1, 0][place] -= step
            above, below = model(moved)[:, target].tolist()
            assert found[row, 0][place].item() == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-9)


def test_smoothgrad_without_noise_is_the_gradient_and_repeats_itself_with_it():
    model, given = plain(), images()
    torch.testing.assert_close(ask("smoothgrad", model, given, noise=0.0, samples=3), ask("gradient", model, given))
    first, again = (ask("smoothgrad", model, given, samples=4) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, ask("smoothgrad", model, given, samples=4, seed=1))


def test_smoothgrad_is_the_mean_gradient_of_noisy_copies():
    model, given = plain(), images(1)
    generator = torch.Generator().manual_seed(0)
    deviation = 0.15 * (given.max() - given.min())
    noisy = [given + deviation * torch.randn(given.shape, generator=generator).double() for _ in range(3)]
    mean = torch.stack([ask("gradient", model, one) for one in noisy]).mean(0)
    torch.testing.assert_close(ask("smoothgrad", model, given, samples=3), mean)


def test_integrated_gradients_add_up_to_the_difference_in_score():
    pytest.importorskip("captum", reason="integrated gradients are computed by Captum")
    model, given = plain(), images(3)
    black = torch.full((1, 1, 1), -1.0, dtype=torch.float64)
    found = ask("integrated-gradients", model, given, steps=300, black=black)
    targets = torch.arange(3)[:, None]
    change = (model(given) - model(black.expand_as(given))).gather(1, targets)[:, 0]
    torch.testing.assert_close(found.flatten(1).sum(1), change, rtol=5e-3, atol=1e-4)


def test_integrated_gradients_of_a_linear_network_are_exact():
    pytest.importorskip("captum", reason="integrated gradients are computed by Captum")
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double().eval()
    given = images(2, size=4)
    weight = model[1].weight[:2].view(2, 1, 4, 4)
    torch.testing.assert_close(ask("integrated-gradients", model, given, steps=2), (given * weight).detach())


def test_without_captum_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(MissingExtraError, match="captum") as caught:
        ask("integrated-gradients", plain(), images())
    assert "striate[explain]" in (caught.value.hint or "")


def guided_by_hand(model: Plain, given: torch.Tensor, target: int) -> torch.Tensor:
    """The backward pass written out, with the signal rectified twice."""
    first = model.conv1(given)
    pooled, switches = nn.functional.max_pool2d(first.relu(), 2, return_indices=True)
    second = model.conv2(pooled)
    signal = model.linear.weight[target].view(1, -1, 1, 1).expand_as(second) / second[0, 0].numel()
    signal = signal.clamp_min(0) * (second > 0)
    signal = nn.functional.conv_transpose2d(signal, model.conv2.weight, padding=1)
    signal = nn.functional.max_unpool2d(signal, switches, 2)
    signal = signal.clamp_min(0) * (first > 0)
    return nn.functional.conv_transpose2d(signal, model.conv1.weight, padding=1).detach()


@pytest.mark.parametrize("way", WAYS)
def test_guided_backpropagation_is_the_same_however_the_rectifier_is_written(way):
    model, given = plain(way), images(1)
    found = ask("guided-backprop", model, given)
    torch.testing.assert_close(found, guided_by_hand(plain(), given, 0))
    assert not torch.allclose(found, ask("gradient", model, given))


@pytest.mark.parametrize("kind", [nn.SiLU, nn.GELU, nn.ELU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.Hardswish])
def test_other_rectifiers_stop_negative_signals_too(kind):
    model, given = Plain(kind().double()).double().eval(), images(1)
    guided, gradient = ask("guided-backprop", model, given), ask("gradient", model, given)
    assert not torch.allclose(guided, gradient)


@pytest.mark.parametrize("kind", [nn.Sigmoid, nn.Tanh, nn.Hardtanh])
def test_without_rectifiers_guided_backpropagation_is_the_gradient_and_says_so(kind):
    model, given = Plain(kind()).double().eval(), images(1)
    with undisturbed(model):
        question = Question(model=model, images=given, targets=torch.tensor([0]))
        answer = METHODS["guided-backprop"].ask(question)
    torch.testing.assert_close(answer.maps, ask("gradient", model, given))
    assert "no rectifier" in answer.notes[0]
    assert not METHODS["guided-backprop"].ask(Question(model=plain(), images=given, targets=torch.tensor([0]))).notes


def test_a_map_by_smoothgrad_does_not_depend_on_the_images_beside_it():
    model, given = plain(), images(3)
    together = ask("smoothgrad", model, given, samples=4)
    for row in range(3):
        alone = ask("smoothgrad", model, given[row : row + 1], samples=4, targets=torch.tensor([row]))
        torch.testing.assert_close(alone[0], together[row])


def test_the_clamp_of_contrast_normalisation_is_no_rectifier():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), Contrast(alpha=1.0), nn.Flatten(), nn.Linear(600, 3)).double()
    given = images()
    assert torch.equal(ask("guided-backprop", model, given), ask("gradient", model, given))


@pytest.mark.parametrize(
    "rectify", [torch.selu_, torch.celu_, torch.threshold_, torch.threshold, F.selu_, Tensor.prelu]
)
def test_rare_names_of_rectifiers_are_caught(rectify):
    further = {"threshold": (0.0, 0.0), "threshold_": (0.0, 0.0), "prelu": (torch.tensor([0.25]).double(),)}
    torch.manual_seed(0)
    model = Plain(lambda values: rectify(values, *further.get(rectify.__name__, ()))).double()
    given = images()
    with undisturbed(model), rectified_backward(model, "guided") as mode:
        model(given.clone().requires_grad_())
    assert mode.caught == 2
