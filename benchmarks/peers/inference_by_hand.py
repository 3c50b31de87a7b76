"""A network's answers the way people get them by hand: torch eager, torch.compile, ONNX Runtime, OpenVINO.

Nothing here is ours; every library is used as its documentation says, with the settings that make it quickest.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from inference_timing import Run, finish, measure, options


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--network", required=True, help="torchvision's name, or timm:NAME")
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--precision", choices=("default", "fp32", "bf16", "int8"), default="default")
    parser.add_argument("--form", choices=("qdq", "nncf"), default="qdq", help="which int8 file")
    parser.add_argument("--hint", choices=("latency", "throughput"), default="latency", help="OpenVINO's")
    args = parser.parse_args()
    images = np.load(Path(args.folder) / "images.npy")[: args.batch_size]
    run, answer, chunk = ENGINES[args.engine](args, images)
    if args.answers:
        np.save(args.answers, np.asarray(answer(), np.float32))
    finish(measure(run, args.warm, args.seconds, chunk))


def torch_eager(args: Any, images: np.ndarray) -> tuple[Run, Any, int]:
    """`model(images)` in inference mode; with bf16, channels last and autocast, as the tuning guide says."""
    model, batch, context, torch = torch_network(args, images)

    def run(count: int) -> None:
        with torch.inference_mode(), context():
            for _ in range(count):
                model(batch)

    def answer() -> Any:
        with torch.inference_mode(), context():
            return model(batch).float().numpy()

    return run, answer, 1


def torch_compile(args: Any, images: np.ndarray) -> tuple[Run, Any, int]:
    """Inductor with frozen parameters and its autotuning of layouts left at the default."""
    os.environ.setdefault("TORCHINDUCTOR_FREEZING", "1")
    model, batch, context, torch = torch_network(args, images, channels_last=True)
    compiled = torch.compile(model)

    def run(count: int) -> None:
        with torch.no_grad(), context():  # freezing works on plain tensors only
            for _ in range(count):
                compiled(batch)

    def answer() -> Any:
        with torch.no_grad(), context():
            return compiled(batch).float().numpy()

    return run, answer, 1


def torch_network(args: Any, images: np.ndarray, channels_last: bool = False) -> tuple[Any, Any, Any, Any]:
    """The library's network with the shared weights, the batch, the precision's context, and torch itself."""
    import contextlib

    import torch
    from inference_prepare import build

    if args.threads:
        torch.set_num_threads(args.threads)
    model = build(args.network)
    model.load_state_dict(torch.load(Path(args.folder) / "weights.pth", weights_only=True))
    batch, bf16 = torch.from_numpy(images), args.precision == "bf16"
    if bf16 or channels_last:
        model, batch = model.to(memory_format=torch.channels_last), batch.to(memory_format=torch.channels_last)

    def context() -> Any:
        return torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()

    return model, batch, context, torch


def onnx_runtime(args: Any, images: np.ndarray) -> tuple[Run, Any, int]:
    """An InferenceSession with all graph optimisations, on the processor."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if args.threads:
        settings.intra_op_num_threads = args.threads
    file = Path(args.folder) / ("qdq.onnx" if args.precision == "int8" else "network.onnx")
    session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])

    def run(count: int) -> None:
        for _ in range(count):
            session.run(None, {"images": images})

    return run, lambda: session.run(None, {"images": images})[0], 1


def openvino(args: Any, images: np.ndarray) -> tuple[Run, Any, int]:
    """The fixed batch compiled with the hint; throughput keeps as many requests busy as OpenVINO advises."""
    import openvino as ov

    core = ov.Core()
    names = {"int8": "nncf.xml" if args.form == "nncf" else "qdq.onnx"}
    model = core.read_model(Path(args.folder) / names.get(args.precision, "network.onnx"))
    model.reshape([args.batch_size, *images.shape[1:]])
    settings: dict[str, Any] = {"PERFORMANCE_HINT": args.hint.upper()}
    if args.precision in ("fp32", "bf16"):
        settings["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16"}[args.precision]
    if args.threads:
        settings["INFERENCE_NUM_THREADS"] = args.threads
    compiled = core.compile_model(model, "CPU", settings)
    if args.hint == "latency":
        request = compiled.create_infer_request()

        def run(count: int) -> None:
            for _ in range(count):
                request.infer([images], share_inputs=True)

        def answer() -> Any:
            request.infer([images], share_inputs=True)
            return request.get_output_tensor().data.copy()

        return run, answer, 1
    queue = ov.AsyncInferQueue(compiled)  # as many requests as are best here

    def run_queue(count: int) -> None:
        for _ in range(count):
            queue.start_async([images], share_inputs=True)
        queue.wait_all()

    return run_queue, lambda: compiled([images])[0], 2 * len(queue)


ENGINES = {"eager": torch_eager, "compile": torch_compile, "onnxruntime": onnx_runtime, "openvino": openvino}

if __name__ == "__main__":
    main()
