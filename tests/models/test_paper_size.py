"""Every architecture takes a training step on its paper's input size, within the memory that a small machine has."""

import resource
import sys

import pytest
import torch

from striate.models import create_model, entries

pytestmark = pytest.mark.slow

MOST_GIB = 8  # resident memory of the process, batch of two


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_a_training_step(entry):
    torch.manual_seed(0)
    model = create_model(entry.name).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    images = torch.randn(2, entry.input.channels, *entry.input.size)
    before = [parameter.detach().flatten()[:50].clone() for parameter in model.parameters()]
    loss = model.loss(model(images), torch.tensor([0, 1]))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    moved = [
        not torch.equal(old, new.detach().flatten()[:50]) for old, new in zip(before, model.parameters(), strict=True)
    ]
    assert any(moved)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit < MOST_GIB * 2**30
