"""Shortcuts of He et al. 2015, sec. 4.1."""

import pytest
import torch
from torch import nn

from striate.layers.residual import (
    SHORTCUTS,
    STRIDES_ON,
    ArrangedUnit,
    BasicBlock,
    Bottleneck,
    ZeroPadShortcut,
    make_shortcut,
)


def test_option_a_takes_every_other_pixel_and_adds_zero_maps_on_both_sides():
    images = torch.arange(2 * 5 * 5, dtype=torch.float32).view(1, 2, 5, 5)
    out = ZeroPadShortcut(2, 4, 2)(images)
    assert torch.equal(out[:, 1:3], images[:, :, ::2, ::2])
    assert not out[:, [0, 3]].any()


def test_option_a_with_averages_takes_means_of_what_is_there():
    images = torch.arange(5 * 5, dtype=torch.float32).view(1, 1, 5, 5)
    out = ZeroPadShortcut(1, 2, 2, average=True)(images)
    assert torch.equal(out[0, 0], torch.tensor([[3.0, 5.0, 6.5], [13.0, 15.0, 16.5], [20.5, 22.5, 24.0]]))
    assert not out[:, 1].any()


def test_no_shortcut_at_all():
    assert make_shortcut("none", 4, 8, 2, "batch") is None


@pytest.mark.parametrize("normalised", [True, False])
def test_a_projection_may_go_without_its_norm(normalised):
    projection = make_shortcut("B", 4, 8, 1, "batch", normalised=normalised)
    assert projection is not None
    assert [name for name, _ in projection.named_children()] == ["conv", "norm"][: 1 + normalised]


@pytest.mark.parametrize(("option", "same", "changed"), [("A", 0, 0), ("B", 0, 8 * 4 + 16), ("C", 16 + 8, 8 * 4 + 16)])
def test_parameters_of_each_option(option, same, changed):
    """Identities are free; a projection has C*C' weights and the two parameters a map of its normalisation."""
    kept = make_shortcut(option, 4, 4, 1, "batch")
    grown = make_shortcut(option, 4, 8, 2, "batch")
    assert kept is not None
    assert grown is not None
    assert sum(p.numel() for p in kept.parameters()) == same
    assert sum(p.numel() for p in grown.parameters()) == changed
    assert isinstance(kept, nn.Identity) == (option != "C")


@pytest.mark.parametrize("option", SHORTCUTS)
@pytest.mark.parametrize("side", [1, 7, 8])
def test_branch_and_shortcut_meet_at_odd_sides_too(option, side):
    images = torch.randn(2, 3, side, side)
    halved = -(-side // 2)
    assert BasicBlock(3, 6, stride=2, shortcut=option).eval()(images).shape == (2, 6, halved, halved)
    for stride_on in STRIDES_ON:
        block = Bottleneck(3, 2, stride=2, stride_on=stride_on, shortcut=option)
        assert block.eval()(images).shape == (2, 8, halved, halved)
    for bottleneck in (False, True):
        unit = ArrangedUnit(3, 2, stride=2, bottleneck=bottleneck, shortcut=option)
        assert unit.eval()(images).shape == (2, 8 if bottleneck else 2, halved, halved)
