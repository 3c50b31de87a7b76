"""Which parameters of a network are what: weights, biases, scales, and those of auxiliary heads."""

from __future__ import annotations

from torch import nn

AUXILIARY = "auxiliary"
_HEADS = (AUXILIARY, "aux1", "aux2", "AuxLogits")  # ours, and those of torchvision's GoogLeNet and Inception v3


def weight_names(model: nn.Module) -> set[str]:
    """Parameters that are neither biases nor scales of a normalisation."""
    return {
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        if not any("norm" in kind.__name__.lower() for kind in type(module).__mro__)
        for name, _ in module.named_parameters(recurse=False)
        if not name.endswith("bias")
    }


def is_auxiliary(name: str) -> bool:
    """Whether a parameter of this name belongs to an auxiliary head, by the name of the head."""
    return name.split(".")[0] in _HEADS
