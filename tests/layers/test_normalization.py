"""Section D of the methods: normalisation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from striate.errors import UnknownNameError
from striate.layers.normalization import (
    NORMALIZATIONS,
    Contrast,
    LocalResponse,
    group_count,
    make_normalization,
    needs_bias,
    sum_across_maps,
)
from striate.layers.residual import BasicBlock


def response_by_hand(maps: torch.Tensor) -> torch.Tensor:
    """The formula of Krizhevsky et al. 2012, sec. 3.3, with its loops."""
    out = torch.empty_like(maps)
    for i in range(maps.shape[1]):
        window = maps[:, max(0, i - 2) : i + 3]
        out[:, i] = maps[:, i] / (2 + 1e-4 * window.square().sum(1)) ** 0.75
    return out


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(0, 2**31))
def test_local_response_is_the_papers_formula(maps, seed):
    """M057."""
    images = 3 * torch.rand(2, maps, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(LocalResponse()(images), response_by_hand(images), rtol=0, atol=1e-15)


@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_local_response_gradient(beta):
    layer = LocalResponse(alpha=0.3, beta=beta)
    images = torch.randn(1, 6, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, images)
    assert torch.autograd.gradgradcheck(layer, images)
    (expected,) = torch.autograd.grad(layer(images).sum(), images)
    torch.testing.assert_close(torch.func.grad(lambda x: layer(x).sum())(images.detach()), expected)


def test_local_response_keeps_single_precision_under_autocast():
    images = 30 * torch.rand(2, 96, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        cast = LocalResponse()(images)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, LocalResponse()(images), rtol=1e-6, atol=0)


def test_torch_divides_alpha_by_the_window():
    """M057: the same with alpha 5e-4; with 1e-4 visibly off on values from 0 to 3 (at most 0.0024)."""
    images = 3 * torch.rand(8, 32, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = LocalResponse()(images)
    assert (
        nn.LocalResponseNorm(5, alpha=5e-4, k=2.0)(images) - ours
    ).abs().max() <= 9e-16  # two units in the last place
    off = (nn.LocalResponseNorm(5, alpha=1e-4, k=2.0)(images) - ours).abs().max().item()
    assert 8e-4 < off < 2.4e-3


def test_contrast_keeps_the_shape_and_ignores_a_common_level():
    """M058: the denominator sees only deviations from the mean of the neighbouring maps."""
    images = torch.randn(2, 7, 4, 5, dtype=torch.float64)
    layer = Contrast(k=1.0, alpha=1.0)
    assert layer(images).shape == images.shape
    denominator = images / layer(images)
    raised = images + 10
    torch.testing.assert_close(raised / layer(raised), denominator)
    constant = torch.full((1, 7, 2, 2), 3.0, dtype=torch.float64)
    torch.testing.assert_close(layer(constant), constant)


def test_sum_across_maps_is_clipped_at_both_ends():
    maps = torch.arange(1.0, 7.0).view(1, 6, 1, 1)
    assert sum_across_maps(maps, 5).flatten().tolist() == [6, 10, 15, 20, 18, 15]


def test_batch_normalisation_in_training_uses_the_biased_variance():
    """M059, M063: statistics over N, H and W, two parameters a channel."""
    images = 3 * torch.randn(4, 6, 5, 5, dtype=torch.float64) + 2
    layer = make_normalization("batch", 6).double()
    out = layer(images)
    mean, var = images.mean((0, 2, 3), keepdim=True), images.var((0, 2, 3), keepdim=True, unbiased=False)
    torch.testing.assert_close(out, (images - mean) / (var + 1e-5).sqrt())
    assert out.mean((0, 2, 3)).abs().max() < 1e-12
    assert (out.var((0, 2, 3), unbiased=False) - 1).abs().max() < 1e-4
    assert sum(parameter.numel() for parameter in layer.parameters()) == 2 * 6
    flat = nn.BatchNorm1d(6).double()(images.permute(0, 2, 3, 1).reshape(-1, 6))
    torch.testing.assert_close(flat.view(4, 5, 5, 6).permute(0, 3, 1, 2), out)


def test_batch_normalisation_in_use_is_one_affine_map_that_folds_into_the_convolution():
    """M060."""
    conv, norm = nn.Conv2d(3, 5, 3, bias=False).double(), make_normalization("batch", 5).double()
    for _ in range(3):
        norm(conv(torch.randn(8, 3, 6, 6, dtype=torch.float64)))
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    pair = nn.Sequential(conv, norm).eval()
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    sigma = (norm.running_var + norm.eps).sqrt()
    scale, shift = norm.weight / sigma, norm.bias - norm.weight * norm.running_mean / sigma
    affine = conv(images) * scale[:, None, None] + shift[:, None, None]
    torch.testing.assert_close(pair(images), affine)
    torch.testing.assert_close(fuse_conv_bn_eval(*pair)(images), pair(images))


def test_batch_normalisation_can_undo_itself():
    """M061: gamma = sigma, beta = mu."""
    images = 2 * torch.randn(16, 3, 4, 4, dtype=torch.float64) - 1
    norm = make_normalization("batch", 3).double()
    with torch.no_grad():
        norm.weight.copy_((images.var((0, 2, 3), unbiased=False) + norm.eps).sqrt())
        norm.bias.copy_(images.mean((0, 2, 3)))
    torch.testing.assert_close(norm(images), images)


def test_running_variance_is_unbiased_and_can_be_a_cumulative_average():
    """M062: m/(m-1) = 100/99 for 4x5x5."""
    batches = torch.randn(3, 4, 2, 5, 5, dtype=torch.float64)
    norm = make_normalization("batch", 2).double()
    norm.momentum = None
    for batch in batches:
        norm(batch)
    biased = torch.stack([batch.var((0, 2, 3), unbiased=False) for batch in batches]).mean(0)
    torch.testing.assert_close(norm.running_var, biased * 100 / 99)
    torch.testing.assert_close(norm.running_mean, batches.mean((0, 1, 3, 4)))


def test_an_image_depends_on_its_batch_in_training_only():
    """M064."""
    norm = make_normalization("batch", 2)
    image, others = torch.randn(1, 2, 4, 4), [torch.randn(3, 2, 4, 4) for _ in range(2)]
    first, second = (norm(torch.cat([image, rest]))[0] for rest in others)
    assert not torch.allclose(first, second)
    norm.eval()
    first, second = (norm(torch.cat([image, rest]))[0] for rest in others)
    assert torch.equal(first, second)


def test_order_in_the_original_residual_unit():
    """M066: conv, norm, activation, conv, norm, add, activation."""
    block = BasicBlock(3, 3)
    order: list[str] = []
    for name, module in block.named_children():
        module.register_forward_hook(lambda *_, name=name: order.append(name))
    images = torch.randn(2, 3, 4, 4)
    out = block(images)
    assert order == ["conv1", "norm1", "act1", "conv2", "norm2", "drop", "shortcut", "act2"]
    assert (out >= 0).all()


@pytest.mark.parametrize("name", NORMALIZATIONS)
@pytest.mark.parametrize("channels", [1, 6, 16, 48])
def test_every_normalisation_keeps_the_shape_and_runs_in_bf16(name, channels):
    images = torch.randn(3, channels, 5, 4)
    layer = make_normalization(name, channels)
    assert layer(images).shape == images.shape
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(images.bfloat16()).isfinite().all()


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_bias_before_it_is_needed_exactly_where_a_constant_gets_through(name):
    layer = make_normalization(name, 4)
    images = torch.randn(3, 4, 5, 5)
    level = 0.5 if name == "group" else torch.randn(1, 4, 1, 1)  # a group shares one mean
    assert torch.allclose(layer(images + level), layer(images), atol=1e-4) != needs_bias(name)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (6, 3), (16, 8), (64, 32), (256, 32), (7, 1), (48, 24)])
def test_group_count(channels, groups):
    assert group_count(channels) == groups


def test_unknown_normalisation():
    with pytest.raises(UnknownNameError):
        make_normalization("bach", 3)
