"""Device, precision, and how the processor treats numbers close to zero."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import UsageError

if TYPE_CHECKING:
    import torch


def pick_device(name: str) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UsageError: no such device here; the message lists those there are.
    """
    import torch

    there = ["cpu"]
    if torch.cuda.is_available():
        there = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *there]
    if torch.backends.mps.is_available():
        there = ["mps", *there]
    if name == "auto":
        return torch.device(there[0])
    if name not in there:
        raise UsageError(f"no device {name!r} here", f"there is: {', '.join(there)}, or auto")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """`auto` as the precision this device does fastest; the others are checked and returned as they are.

    Raises:
        UsageError: fp16 on a processor, which has no fast half-precision convolutions.
    """
    if name == "fp16" and device.type == "cpu":
        raise UsageError("fp16 needs a GPU", "use --precision bf16 or fp32 on the processor")
    if name != "auto":
        return name
    if device.type == "cpu":
        return "bf16" if processor_has_bf16() else "fp32"
    if device.type == "cuda":
        import torch

        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "fp32"


@cache
def processor_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (AVX512-BF16 or AMX; elsewhere torch emulates it)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(device: torch.device, precision: str) -> Any:
    """The context in which a network computes: torch's autocast for bf16 and fp16, nothing for fp32."""
    import torch

    if precision == "fp32":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Numbers too small for the normal range count as zero inside, which spares the processor their slow handling.

    The processor's setting is put back afterwards: other code of the same process may need such numbers.
    """
    import torch

    flushed_before = float(torch.tensor(1e-40) * 1.0) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed_before)
