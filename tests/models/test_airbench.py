"""The network of arXiv:2404.00498: its listing in plain layers, its sizes, and the whitening of its first layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from striate.models import create_model


def listing() -> nn.Sequential:
    """The layers of the paper's listing, for counts and sizes."""

    def group(channels: int, width: int) -> list[nn.Module]:
        def tail() -> list[nn.Module]:
            return [nn.BatchNorm2d(width), nn.GELU()]

        first = nn.Conv2d(channels, width, 3, padding="same", bias=False)
        second = nn.Conv2d(width, width, 3, padding="same", bias=False)
        return [first, nn.MaxPool2d(2), *tail(), second, *tail()]

    return nn.Sequential(
        nn.Conv2d(3, 24, 2), nn.GELU(), *group(24, 64), *group(64, 256), *group(256, 256), nn.MaxPool2d(3),
        nn.Flatten(), nn.Linear(256, 10, bias=False),
    )  # fmt: skip


def images(count: int = 64, channels: int = 3, side: int = 16) -> torch.Tensor:
    """Smooth noise: neighbouring pixels and channels correlate."""
    torch.manual_seed(3)
    rough = torch.randn(count, channels, side + 2, side + 2)
    return F.avg_pool2d(rough, 3, 1) * 3 + rough.mean(1, keepdim=True)[..., 1:-1, 1:-1]


def test_it_is_the_papers_listing():
    torch.manual_seed(0)
    ours, theirs = create_model("airbench94").eval(), listing().eval()
    mine = [tensor for name, tensor in ours.state_dict().items() if "num_batches" not in name]
    reference = [tensor for name, tensor in theirs.state_dict().items() if "num_batches" not in name]
    assert sorted(one.shape for one in mine) == sorted(one.shape for one in reference)
    for norm in (module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.eps = 1e-12
    kernels = [module for module in ours.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    others = [module for module in theirs.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for one, other in zip(kernels, others, strict=True):
            other.weight.copy_(one.weight)
        others[0].bias.copy_(kernels[0].bias.uniform_(-0.1, 0.1))
    batch = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(ours(batch), theirs(batch) / 9, rtol=1e-4, atol=1e-5)


def test_sides_and_what_is_trained():
    model = create_model("airbench94")
    sides, maps = [], torch.randn(1, 3, 32, 32)
    for part in (model.stem, *model.stages):
        maps = part(maps)
        sides.append(maps.shape[-1])
    assert sides == [31, 15, 7, 3]
    trained = {name for name, _ in model.named_parameters()}
    assert "stem.whiten.bias" in trained
    assert "stem.whiten.weight" not in trained
    assert not any(name.endswith("norm.weight") for name in trained)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_971_352


def test_the_first_layer_whitens_patches():
    model, batch = create_model("airbench94", input_size=16), images()
    model.fit_start(batch)
    layer = model.stem.whiten
    answers = F.conv2d(batch, layer.weight).transpose(0, 1).flatten(1).double()
    moment = answers @ answers.T / answers.shape[1]
    torch.testing.assert_close(moment[:12, :12].float(), torch.eye(12), rtol=0, atol=0.02)
    assert torch.equal(layer.weight[:12], -layer.weight[12:])
    norms = layer.weight[:12].flatten(1).norm(dim=1)
    assert torch.equal(norms, norms.sort().values)  # the strongest direction comes first and is damped most


def test_other_channels_have_as_many_first_maps():
    for channels in (1, 5):
        model = create_model("airbench94", in_channels=channels, input_size=16)
        batch = images(channels=channels)
        model.fit_start(batch)
        assert model.stem(batch).shape == (64, 24, 15, 15)
        assert model.stem.whiten.weight.isfinite().all()


def test_later_convolutions_start_by_passing_their_maps_on():
    model = create_model("airbench94").eval()
    conv = model.stages.group2[1].conv
    maps = torch.randn(1, 256, 7, 7)
    torch.testing.assert_close(conv(maps), maps)
