"""Torch's engine: batch norms folded, nothing to learn, channels last."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from striate.inference.folding import fold_batch_norms
from striate.inference.forward import forward, place
from striate.inference.parity import Parity


class TorchEngine:
    """See `Engine`. A precision below fp32 is autocast's, which keeps in fp32 what must not lose digits."""

    backend = "torch"
    settles_after = 1

    def __init__(self, model: nn.Module, precision: str, device: torch.device, *, shape: Sequence[int]) -> None:
        self.precision = precision
        self.key: str | None = None  # nothing is kept
        self.parity: Parity | None = None
        self.network = fold_batch_norms(model, shape)
        place(self.network, device)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float32 [B, C, H, W] on the engine's device -> logits float32 [B, classes] there."""
        with torch.inference_mode():
            return forward(self.network, images.contiguous(memory_format=torch.channels_last), self.precision)
