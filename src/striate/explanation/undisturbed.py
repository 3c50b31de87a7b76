"""Looking into a network without leaving a trace: whatever happens inside, it is afterwards what it was before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from striate.runtime import kept_random_state

# what a module keeps in dictionaries; parameters and buffers, since `.to(device)` puts other tensors in their places
_KEPT = (
    "_parameters",
    "_buffers",
    "_forward_pre_hooks",
    "_forward_hooks",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, gradients of no parameter, full precision; then modes, hooks, `requires_grad`, `.grad`, buffers,
    devices and torch's random state are as they were, also after an exception.

    Inside, autograd records what depends on tensors that the caller marks, whether or not it was switched off outside.
    """
    modes = {module: module.training for module in model.modules()}
    tables = [(found, dict(found)) for module in modes for found in _tables_of(module)]
    gradients = [(one, one.requires_grad, one.grad) for one in model.parameters()]
    copies = [(one, one.detach().clone()) for one in model.buffers()]
    places = [(one, one.data) for one in (*model.parameters(), *model.buffers())]
    try:
        with ExitStack() as stack:
            stack.enter_context(kept_random_state())
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            for device in sorted({one.device.type for one, _ in places} | {"cpu"}):
                if torch.amp.is_autocast_available(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            model.eval()
            for parameter, _, _ in gradients:
                parameter.requires_grad_(False)
                parameter.grad = None
            yield
    finally:
        for found, before in tables:
            found.clear()
            found.update(before)
        for tensor, data in places:  # before the copies, which belong to the tensor's own device
            if tensor.device != data.device or tensor.data_ptr() != data.data_ptr():
                tensor.data = data
        with torch.no_grad():
            for buffer, copy in copies:
                if not torch.equal(buffer, copy):
                    buffer.copy_(copy)
        for parameter, required, gradient in gradients:
            parameter.requires_grad_(required)
            parameter.grad = gradient
        for module, training in modes.items():
            module.training = training


def _tables_of(module: nn.Module) -> list[dict[Any, Any]]:
    return [found for name in _KEPT if isinstance(found := getattr(module, name, None), dict)]
