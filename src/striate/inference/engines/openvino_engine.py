"""OpenVINO's engine, on the processor.

One request at a time over all threads: the calls of one network come one after another, or wait for each other, so
that several streams would have nothing to do. The number of images is left open in the graph; a size that comes often
is compiled for itself, which is soon done and makes every later call with it quicker.
"""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from striate.errors import ModelError
from striate.inference.parity import Parity
from striate.runtime import processor_has_bf16, thread_limit

_OFTEN = 4  # calls with as many images: the size gets a graph of its own
_SIZES = 2  # graphs of their own at most


class OpenVinoEngine:
    """See `Engine`; `file` is the graph, in float32 or quantised.

    Where the processor has bf16, an int8 network's layers that stay in floating point are computed in it.
    """

    backend = "openvino"
    settles_after = _OFTEN

    def __init__(self, file: Path, precision: str, threads: int | None, key: str | None) -> None:
        try:
            import openvino

            self._core, self._tensor = openvino.Core(), openvino.Tensor
        except Exception as error:  # installed, but broken: a library that it needs is missing, say
            raise ModelError(f"OpenVINO cannot be loaded: {_first_line(error)}", _HINT) from error
        self.precision, self.key = precision, key
        self.parity: Parity | None = None
        bf16 = precision == "bf16" or (precision == "int8" and processor_has_bf16())
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads or thread_limit(),
        }
        try:
            self._graph = self._core.read_model(file)
            self._requests: dict[int, Any] = {0: self._compiled(self._graph)}
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot run this network: {_first_line(error)}", _HINT) from error
        self._calls: Counter[int] = Counter()
        self._lock = threading.Lock()  # a request has one input and one output, whoever calls

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float32 [B, C, H, W] -> logits float32 [B, classes].

        Raises:
            ModelError: it failed on these images.
        """
        pixels = images.contiguous().numpy()
        try:
            given = {0: self._tensor(pixels, shared_memory=True)}
            with self._lock:
                answers = self._request(len(pixels)).infer(given, share_outputs=True)
                return torch.from_numpy(answers[0].copy())  # the request writes over its output next time
        except Exception as error:  # of several kinds, as C++'s own are
            raise ModelError(f"OpenVINO failed on images {list(images.shape)}: {_first_line(error)}", _HINT) from error

    def _request(self, count: int) -> Any:
        """What infers `count` images at once."""
        self._calls[count] += 1
        often = count == 1 or self._calls[count] >= _OFTEN
        if count not in self._requests and often and len(self._requests) <= _SIZES:
            graph = self._graph.clone()
            graph.reshape([count, *(int(str(side)) for side in list(graph.input(0).partial_shape)[1:])])
            self._requests[count] = self._compiled(graph)
        return self._requests.get(count, self._requests[0])

    def _compiled(self, graph: Any) -> Any:
        return self._core.compile_model(graph, "CPU", self._settings).create_infer_request()


_HINT = "another back end may do: --backend onnxruntime or torch"


def _first_line(error: Exception) -> str:
    """What went wrong, past the lines that only say where."""
    lines = str(error).strip().splitlines()
    return next((line for line in lines if not line.startswith(("Exception from", "Check '"))), type(error).__name__)
