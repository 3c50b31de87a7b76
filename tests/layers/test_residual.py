"""Shortcuts of He et al. 2015, sec. 4.1."""

import pytest
import torch
from torch import nn

from striate.layers.residual import SHORTCUTS, BasicBlock, ZeroPadShortcut, make_shortcut


def test_option_a_takes_every_other_pixel_and_adds_zero_maps_on_both_sides():
    images = torch.arange(2 * 5 * 5, dtype=torch.float32).view(1, 2, 5, 5)
    out = ZeroPadShortcut(2, 4, 2)(images)
    assert torch.equal(out[:, 1:3], images[:, :, ::2, ::2])
    assert not out[:, [0, 3]].any()


@pytest.mark.parametrize(("option", "same", "changed"), [("A", 0, 0), ("B", 0, 8 * 4 + 16), ("C", 16 + 8, 8 * 4 + 16)])
def test_parameters_of_each_option(option, same, changed):
    """Identities are free; a projection has C*C' weights and the two parameters a map of its normalisation."""
    kept = make_shortcut(option, 4, 4, 1, "batch")
    grown = make_shortcut(option, 4, 8, 2, "batch")
    assert sum(p.numel() for p in kept.parameters()) == same
    assert sum(p.numel() for p in grown.parameters()) == changed
    assert isinstance(kept, nn.Identity) == (option != "C")


@pytest.mark.parametrize("option", SHORTCUTS)
@pytest.mark.parametrize("side", [1, 7, 8])
def test_branch_and_shortcut_meet_at_odd_sides_too(option, side):
    block = BasicBlock(3, 6, stride=2, shortcut=option)
    assert block.eval()(torch.randn(2, 3, side, side)).shape == (2, 6, -(-side // 2), -(-side // 2))
