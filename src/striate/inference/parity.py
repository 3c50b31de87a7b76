"""How far an engine's answers are from torch's in float32, on real images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

IMAGES = 64  # compared at most
AGREEMENT = 0.9  # int8 that agrees on fewer top classes than this is warned about
_FEW = 20  # images, of which a single other answer is no alarm


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """An engine beside torch in float32 on the same images."""

    images: int
    top1_agreement: float  # fraction of the images with the same best class
    largest_logit_difference: float
    largest_difference: float  # of a class's probability, 0 to 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def alarming(self) -> bool:
        """Whether the answers differ more often than quantisation should make them."""
        others = round((1 - self.top1_agreement) * self.images)
        return self.top1_agreement < AGREEMENT and (self.images > _FEW or others > 1)

    def in_words(self) -> str:
        """One line for people."""
        return (
            f"top class as torch fp32 on {self.top1_agreement:.1%} of {self.images} image{'s' * (self.images != 1)}, "
            f"probabilities differ by up to {self.largest_difference:.2g}"
        )


def compare(given: torch.Tensor, reference: torch.Tensor, probabilities: Callable[..., torch.Tensor]) -> Parity:
    """Logits [n, classes] of an engine beside those of torch in float32; n is at least 1.

    A NaN differs from everything: it counts as another answer and an infinite difference.
    """
    given, reference = given.double().cpu(), reference.double().cpu()
    same = (given.argmax(1) == reference.argmax(1)) & given.isfinite().all(1)
    return Parity(
        images=len(given),
        top1_agreement=same.double().mean().item(),
        largest_logit_difference=_largest(given - reference),
        largest_difference=_largest(probabilities(given) - probabilities(reference)),
    )


def _largest(differences: torch.Tensor) -> float:
    return differences.abs().nan_to_num(nan=float("inf")).max().item()
