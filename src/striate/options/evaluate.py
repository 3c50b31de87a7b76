"""The options of scoring, which `striate train` (for its final scores) and `striate evaluate` share."""

from __future__ import annotations

from dataclasses import dataclass

from striate.options.declare import check_options, option


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOptions:
    """How a trained network is scored; validation during the training always looks once."""

    views: str = option(
        "single",
        "look at every image once, or average the logits of several views: with its mirror image (flip), also moved "
        "both ways along the diagonal (flip+shift); the protocol of the scores says so",
        choices=("single", "flip", "flip+shift"),
        source="Krizhevsky et al. 2012, sec. 4.1; Jordan 2024, arXiv:2404.00498, sec. 3.5",
    )

    def __post_init__(self) -> None:
        check_options(self, "evaluate")
