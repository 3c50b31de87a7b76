"""The batched forward pass that validation, evaluation and prediction share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import length_hint
from typing import Protocol

import numpy as np
import torch
from torch import nn

from striate.progress import Progress, Silent
from striate.runtime import autocast


class LabelledImages(Protocol):
    """What a batch must have to be passed through a network."""

    images: torch.Tensor  # float32 [B, C, H, W], on the network's device
    targets: torch.Tensor  # int64 [B]; of several labels an image float32 [B, classes]
    indices: np.ndarray  # int64 [B]


def logits_of(
    model: nn.Module,
    batches: Iterable[LabelledImages],
    *,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """The network's answer to every image of `batches`, in their order.

    Args:
        model: [B, C, H, W] -> [B, classes]; evaluated in evaluation mode and left in the mode it came in.
        batches: batches on the model's device.
        precision: `fp32`, `bf16` or `fp16`, resolved (see `runtime.resolve_precision`).
        progress: shows a bar over the batches.

    Returns:
        logits float32 [n, classes], targets as the batches have them, both on the processor, and indices int64 [n];
        without any batch, the logits are [0, 0].
    """
    logits: list[torch.Tensor] = []
    targets: list[torch.Tensor] = []
    indices: list[np.ndarray] = []
    with evaluating(model), (progress or Silent()).task("evaluating", length_hint(batches, 0) or None) as task:
        for batch in batches:
            logits.append(forward(model, batch.images, precision))  # stays there: no waiting for the device
            targets.append(batch.targets)
            indices.append(batch.indices)
            task.advance()
    if not logits:
        return torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64), np.zeros(0, dtype=np.int64)
    return _joined(logits), _joined(targets), np.concatenate(indices)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, `model` is in evaluation mode and nothing is recorded for gradients; afterwards it is as it came."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def forward(model: nn.Module, images: torch.Tensor, precision: str) -> torch.Tensor:
    """Logits float32 [B, classes] of images [B, C, H, W], computed in `precision`, on the images' device."""
    with autocast(images.device, precision):
        return model(images).float()


def place(model: nn.Module, device: torch.device) -> None:
    """Move a network to `device` in the memory layout that is quickest for convolutions, channels last."""
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """One tensor on the processor, outside inference mode's restrictions."""
    with torch.inference_mode(False):
        return torch.cat([part.clone() if part.is_inference() else part for part in parts]).cpu()
