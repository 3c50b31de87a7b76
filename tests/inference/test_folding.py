"""Batch-norm folding: the same answers with fewer layers, and only where a norm really follows its convolution."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from striate.errors import ModelError
from striate.inference.folding import count_batch_norms, fold_batch_norms
from striate.models import create_model, entries


def unsettled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The network with norms that do something: statistics, slopes of either sign, and shifts."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            count = module.num_features
            module.running_mean = torch.randn(count, generator=generator) * 0.2
            module.running_var = torch.rand(count, generator=generator) + 0.5
            if module.affine:
                signs = torch.where(torch.rand(count, generator=generator) < 0.2, -1.0, 1.0)
                module.weight.data = signs * (torch.rand(count, generator=generator) * 0.4 + 0.8)
                module.bias.data = torch.randn(count, generator=generator) * 0.2
    return model.eval()


def assert_folded(model: nn.Module, shape: tuple[int, ...], left: int | None = None) -> nn.Module:
    """That folding keeps the answers; `left` norms stay."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold_batch_norms(model, shape)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, given = model(images), folded(images)
    assert torch.isfinite(expected).all()
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5 * max(1.0, expected.abs().max().item()))
    if left is not None:
        assert count_batch_norms(folded) == left
    assert not any(one.requires_grad for one in folded.parameters())
    assert not folded.training
    return folded


# how many norms must stay: those after a pooling, and those before their convolution
EXPECTED = {
    "cifar_resnet20": 0,
    "resnet18": 0,
    "resnet50": 0,
    "mobilenet_v1_0.25_128": 0,
    "compact_m": 3,
    "xception": None,
}


@pytest.mark.parametrize(("name", "left"), EXPECTED.items())
def test_known_networks(name, left):
    torch.manual_seed(0)
    entry = next(one for one in entries() if one.name == name)
    side = max(min(entry.input.size[0], 36), entry.min_size)
    model = unsettled(create_model(name, classes=10, input_size=side))
    assert count_batch_norms(model) > 3
    assert_folded(model, (model.architecture.in_channels, side, side), left)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", {one.build: one.name for one in sorted(entries(), key=lambda one: -one.params)}.values()
)
def test_every_family(name):
    torch.manual_seed(0)
    entry = next(one for one in entries() if one.name == name)
    side = max(min(entry.input.size[0], 36), entry.min_size)
    model = unsettled(create_model(name, classes=10, input_size=side))
    assert_folded(model, (model.architecture.in_channels, side, side))


class Odd(nn.Module):
    """Convolutions and norms that must not become one, whatever their names."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.other = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        match self.how:
            case "read twice":
                return self.norm(maps) + maps
            case "two norms":
                return self.norm(maps) + self.other(maps)
            case "pooled between":
                return self.norm(nn.functional.max_pool2d(maps, 2))
            case "activation in place":
                return self.norm(maps.relu_())
            case "used twice":
                return self.norm(maps) + self.conv(images * 2)
            case "norm used twice":
                return self.norm(maps) + self.norm(images.mean(1, keepdim=True).expand(-1, 4, -1, -1))
            case "weight looked at":
                return self.norm(maps) * self.conv.weight.sum()
            case "batch statistics":
                self.other.training = True
                return self.other(maps)
        return self.norm(maps)


@pytest.mark.parametrize(
    ("how", "left"),
    [("plain", 1), *((how, 2) for how in (
        "read twice", "two norms", "pooled between", "activation in place", "used twice", "norm used twice",
        "weight looked at", "batch statistics",
    ))],
)  # fmt: skip
def test_only_what_really_follows(how, left):
    torch.manual_seed(0)
    assert_folded(unsettled(Odd(how)), (3, 8, 8), left)


def test_a_hooked_norm_and_one_without_statistics_stay():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    seen = []
    model[1].register_forward_hook(lambda *given: seen.append(given))
    assert_folded(unsettled(model), (3, 5, 5), left=1)
    batchwise = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    assert_folded(batchwise, (3, 5, 5), left=1)


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 3), groups=st.integers(1, 3), width=st.integers(1, 3), kernel=st.sampled_from((1, 3)),
    stride=st.integers(1, 2), bias=st.booleans(), affine=st.booleans(), mode=st.sampled_from(("zeros", "reflect")),
    last=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_convolution(channels, groups, width, kernel, stride, bias, affine, mode, last, seed):
    torch.manual_seed(seed)
    convolution = nn.Conv2d(
        channels * groups, width * groups, kernel, stride, kernel // 2, groups=groups, bias=bias, padding_mode=mode
    )
    model = nn.Sequential(convolution, nn.BatchNorm2d(width * groups, affine=affine, eps=1e-3), nn.ReLU())
    if last:
        model = model.to(memory_format=torch.channels_last)
    folded = assert_folded(unsettled(model, seed), (channels * groups, 7, 6), left=0)
    if last:
        assert folded[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_timm_norms_with_activations():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    assert_folded(unsettled(timm.create_model("mobilenetv3_small_050", num_classes=5)), (3, 32, 32), left=0)


def test_errors():
    with pytest.raises(ValueError, match="give `shape`"):
        fold_batch_norms(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    with pytest.raises(ModelError, match="cannot be followed with an image of 2x8x8"):
        fold_batch_norms(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), (2, 8, 8))
