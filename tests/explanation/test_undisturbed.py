"""A network is afterwards what it was before, whatever was done to it, also after an exception."""

import pytest
import torch
from torch import nn

from striate.explanation.attribution import METHODS, Question
from striate.explanation.places import find_place
from striate.explanation.undisturbed import undisturbed
from striate.models import create_model
from striate.options.explain import ExplainOptions

QUICK = ExplainOptions(samples=2, steps=2, window=16, stride=16)


def network() -> nn.Module:
    """In a state that is nobody's default."""
    torch.manual_seed(0)
    model = create_model("compact_s").train()
    first, *others = model.parameters()
    first.requires_grad_(False)
    for one in others[:3]:
        one.grad = torch.full_like(one, 0.5)
    next(iter(model.stages.children())).eval()
    model.stem.register_forward_hook(lambda *_: None)
    return model


def state(model: nn.Module) -> dict:
    return {
        "modes": [module.training for module in model.modules()],
        "hooks": [
            (list(module._forward_hooks), list(module._forward_pre_hooks), list(module._backward_hooks))
            for module in model.modules()
        ],
        "wanted": [one.requires_grad for one in model.parameters()],
        "gradients": [None if one.grad is None else one.grad.clone() for one in model.parameters()],
        "values": [value.clone() for value in model.state_dict().values()],
        "where": [value.data_ptr() for value in model.state_dict().values()],
        "random": torch.get_rng_state(),
        "recording": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
    }


def same(one: dict, other: dict) -> None:
    for key, before in one.items():
        after = other[key]
        if isinstance(before, list) and any(isinstance(value, torch.Tensor) for value in before):
            for first, second in zip(before, after, strict=True):
                assert (first is None) == (second is None), key
                assert first is None or torch.equal(first, second), key
        elif isinstance(before, torch.Tensor):
            assert torch.equal(before, after), key
        else:
            assert before == after, key


def images_for(model: nn.Module) -> torch.Tensor:
    record = model.architecture
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, record.in_channels, *record.input_size, generator=generator)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("recording", [True, False])
def test_every_method_leaves_the_network_as_it_was(method, recording):
    if method == "integrated-gradients":
        pytest.importorskip("captum", reason="integrated gradients are computed by Captum")
    model = network()
    given = images_for(model)
    with torch.set_grad_enabled(recording), torch.autocast("cpu", torch.bfloat16):
        before = state(model)
        with undisturbed(model):
            question = Question(model=model, images=given, targets=torch.tensor([0, 1]), options=QUICK)
            assert METHODS[method].ask(question).maps.dtype == torch.float32  # not autocast's
        same(before, state(model))


@pytest.mark.parametrize("method", ["gradcam", "deconvnet", "guided-backprop", "occlusion"])
def test_also_after_an_exception_on_the_way(method):
    model = network()
    given, place = images_for(model), find_place(model)

    def stop(*_: object) -> None:
        raise RuntimeError("stop")

    model.head.register_forward_pre_hook(stop)
    before = state(model)
    question = Question(model=model, images=given, targets=torch.tensor([0, 1]), place=place, options=QUICK)
    with pytest.raises(RuntimeError, match="stop"), undisturbed(model):
        METHODS[method].ask(question)
    same(before, state(model))


def test_what_is_done_to_it_inside_is_undone():
    model = network()
    before = state(model)
    kept = [id(one) for one in (*model.parameters(), *model.buffers())]
    with undisturbed(model):
        model.train()
        model.requires_grad_(True)
        model.stem.register_forward_hook(lambda *_: None)
        model(images_for(model)).sum().backward()  # moves the running statistics, too
        torch.rand(3)
        model.double()
    same(before, state(model))
    assert [id(one) for one in (*model.parameters(), *model.buffers())] == kept


def test_it_works_where_nothing_is_recorded():
    model = network()
    with torch.inference_mode(), undisturbed(model):
        leaf = torch.linspace(-1, 1, 784).view(1, 1, 28, 28).clone().requires_grad_()
        assert torch.autograd.grad(model(leaf)[0, 0], leaf)[0].any()
