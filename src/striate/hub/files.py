"""Reading files of weights. Nothing in them can run code, and what they are instead is said in plain words."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from striate.errors import CheckpointError

SUFFIXES = (".pth", ".pt", ".th", ".bin", ".ckpt", ".tar", ".safetensors")
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF", "an HDF5 file, as Keras writes them"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"),
)


class _DType:
    """Stands in for numpy.dtype in a file; understands those of plain numbers only."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def number(self, data: bytes) -> Any:
        """The value that the bytes are of."""
        if not re.fullmatch(r"[biufc]\d+", self.code) or self.order not in ("<", ">", "=", "|"):
            raise ValueError(f"a NumPy value of type {self.code}")
        return np.frombuffer(data, np.dtype(self.code).newbyteorder(self.order))[0].item()


def _number(dtype: Any, data: Any = b"") -> Any:
    """Stands in for NumPy's own function of this purpose."""
    if not (isinstance(dtype, _DType) and isinstance(data, bytes)):
        raise ValueError("a NumPy value that is no number")
    return dtype.number(data)


_NUMPY: list[Any] = [
    (_DType, "numpy.dtype"),
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
]


def read_state(path: Path) -> dict[str, Any]:
    """The state dict in a `.pth`, `.pt`, `.th`, `.bin` or `.safetensors` file, with whatever it is wrapped in.

    Raises:
        CheckpointError: missing, empty, damaged, of another kind, holding code, or holding no tensors.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(512)
            size = path.stat().st_size
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CheckpointError(f"cannot read {path}: {reason}", "check the path for a typing mistake") from error
    if not start:
        raise CheckpointError(f"{path} is empty", "fetch or copy it again")
    if _is_safetensors(start, size):  # first: \x80 is also what the length of one header in 32 begins with
        state = _safetensors(path, size)
    elif start[:2] == b"PK" or start[:1] == b"\x80":
        state = _unpickled(path, size)
    else:
        raise CheckpointError(f"{path} holds no weights: it is {_kind(path, start)}", _expected())
    return _checked(path, state)


def is_ours(path: Path) -> bool:
    """Whether a file is a model file of Striate's, by its header alone."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= 100 * 2**20:
                return False
            return "striate" in json.loads(file.read(length)).get("__metadata__", {})
    except (OSError, ValueError, AttributeError):
        return False


def _is_safetensors(start: bytes, size: int) -> bool:
    length = int.from_bytes(start[:8], "little")
    return len(start) > 8 and start[8:9] == b"{" and 2 <= length <= 100 * 2**20


def _safetensors(path: Path, size: int) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        detail = " ".join(str(error).split())
        raise CheckpointError(
            f"{path} is damaged: {size:,} bytes that are no whole safetensors file ({detail})", "fetch or copy it again"
        ) from error


def _unpickled(path: Path, size: int) -> Any:
    """torch's unpickler of tensors and plain values, which refuses everything else.

    Training loops note accuracies as NumPy's numbers: those come back as Python's, and NumPy itself unpickles nothing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats
            with torch.serialization.safe_globals(_NUMPY):
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: pickle's, zip's, torch's
        text = " ".join(str(error).split())
        code = re.search(r"GLOBAL (\S+)", text) or re.search(r"class (\S+) was not an allowed", text)
        if code is None and "Unsupported" in text:
            code = re.search(r"(operand \d+|type \S+|class \S+|function \S+)", text)
        if code is not None:
            named = code[1].rstrip(".,`").strip("`")
            raise CheckpointError(
                f"{path} asks for code to be run when it is opened ({named}): it was not opened",
                "Striate reads tensors only; whoever trusts it can save its state_dict() alone, with torch.save",
            ) from error
        if "TorchScript" in text:
            raise CheckpointError(f"{path} is a TorchScript program, which is code", _expected()) from error
        raise CheckpointError(
            f"{path} is damaged, or no file of torch.save: {size:,} bytes ({text[:160]})", "fetch or copy it again"
        ) from error


def _checked(path: Path, state: Any) -> dict[str, Any]:
    if not isinstance(state, Mapping):
        what = "a bare tensor" if isinstance(state, Tensor) else f"a {type(state).__name__}"
        raise CheckpointError(f"{path} holds {what}, not a state dict", _expected())
    return {str(key): value for key, value in state.items()}


def _kind(path: Path, start: bytes) -> str:
    for magic, kind in _KINDS:
        if start.startswith(magic):
            return kind
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, as a server sends it in place of a file that it does not have"
    if path.suffix.lower() in (".caffemodel", ".onnx", ".h5", ".tflite", ".pb"):
        return f"a {path.suffix} file"
    try:
        start.decode("utf-8")
    except UnicodeDecodeError:
        return "of no kind that is known here"
    return "text"


def _expected() -> str:
    return f"weights are a state dict, saved by torch.save or as safetensors ({', '.join(SUFFIXES)})"
