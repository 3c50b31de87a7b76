"""ONNX Runtime's engine, on the processor."""

from __future__ import annotations

from pathlib import Path

import torch

from striate.errors import ModelError
from striate.inference.packaged import INPUT, OUTPUT
from striate.inference.parity import Parity
from striate.runtime import thread_limit


class OnnxRuntimeEngine:
    """See `Engine`; `file` is the graph, in float32 or quantised."""

    backend = "onnxruntime"
    settles_after = 1

    def __init__(self, file: Path, precision: str, threads: int | None, key: str | None) -> None:
        try:
            import onnxruntime
        except Exception as error:  # installed, but broken: a library that it needs is missing, say
            raise ModelError(f"ONNX Runtime cannot be loaded: {_first_line(error)}", _HINT) from error

        self.precision, self.key = precision, key
        self.parity: Parity | None = None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or thread_limit()
        options.log_severity_level = 3  # errors; its warnings are about its own optimiser
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own kinds, one per error code
            raise ModelError(f"ONNX Runtime cannot run this network: {_first_line(error)}", _HINT) from error

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float32 [B, C, H, W] -> logits float32 [B, classes].

        Raises:
            ModelError: it failed on these images.
        """
        try:
            (logits,) = self._session.run([OUTPUT], {INPUT: images.contiguous().numpy()})
        except Exception as error:  # its own kinds, one per error code
            raise ModelError(
                f"ONNX Runtime failed on images {list(images.shape)}: {_first_line(error)}", _HINT
            ) from error
        return torch.from_numpy(logits)


_HINT = "another back end may do: --backend openvino or torch"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
