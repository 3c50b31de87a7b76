"""Whether networks can be compiled here, and compiling one."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def why_not_compiled(device: torch.device) -> str | None:
    """Why `torch.compile` cannot work for `device` here, or None where it can; loads nothing of the compiler."""
    import torch

    if device.type == "cpu":
        names = [os.environ.get("CXX"), "g++", "clang++", "c++"]
        return None if any(name and shutil.which(name) for name in names) else "there is no C++ compiler"
    if device.type == "cuda":
        if find_spec("triton") is None:
            return "triton is not installed"
        return None if torch.cuda.get_device_capability(device) >= (7, 0) else "the GPU is too old for triton"
    return f"it is not made for {device.type}"


def compiled(model: nn.Module, device: torch.device) -> Any:
    """`model` as torch compiles it on its first call; the parameters are the same objects."""
    import torch

    if device.type == "cuda" and torch.are_deterministic_algorithms_enabled():
        from torch._inductor import config

        if hasattr(config, "deterministic"):  # a resumed run must not choose other kernels than the first
            config.deterministic = True
    return torch.compile(model, dynamic=False)
