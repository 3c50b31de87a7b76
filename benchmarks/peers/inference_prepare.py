"""One network for all inference programs: weights, ONNX file, int8 forms, and the images; nothing of this is timed.

Random weights as torchvision (or timm) starts them, from one seed; the batch norms' statistics are then those of the
calibration images, so that values keep a sensible size through all layers, as in a trained network.
"""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

IMAGES, CALIBRATION = 32, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True, help="torchvision's name, or timm:NAME")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--side", type=int, default=224)
    args = parser.parse_args()
    folder = Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    images, calibration = (smooth_images(count, args.side) for count in (IMAGES, CALIBRATION))
    model = build(args.network)
    set_statistics(model, calibration)
    torch.save(model.state_dict(), folder / "weights.pth")
    np.save(folder / "images.npy", images.numpy())
    np.save(folder / "calibration.npy", calibration.numpy())
    dynamic = ({0: torch.export.Dim("batch", min=1, max=4096)},)
    torch.onnx.export(
        model, (images[:2],), folder / "network.onnx", input_names=["images"], output_names=["logits"],
        dynamic_shapes=dynamic, dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip
    quantise_qdq(folder, calibration.numpy())
    forms = ["qdq"]
    if find_spec("nncf") is not None:
        quantise_nncf(folder, calibration.numpy())
        forms.append("nncf")
    with torch.inference_mode():
        np.save(folder / "reference.npy", model(images).numpy())
    (folder / "ready.json").write_text(json.dumps({"network": args.network, "side": args.side, "int8": forms}))


def build(name: str) -> torch.nn.Module:
    """The library's network with random weights, in evaluation mode."""
    if name.startswith("timm:"):
        import timm

        return timm.create_model(name.removeprefix("timm:"), pretrained=False).eval()
    import torchvision

    more = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, **more).eval()


def smooth_images(count: int, side: int) -> torch.Tensor:
    """Normalised images [count, 3, side, side] with structure at all scales, as photos have."""
    layers = [
        torch.nn.functional.interpolate(torch.randn(count, 3, cells, cells), (side, side), mode="bilinear")
        for cells in (3, 7, 14, 28, 56, side)
    ]
    return sum(layers) / len(layers) ** 0.5


def set_statistics(model: torch.nn.Module, images: torch.Tensor) -> None:
    """Mean and variance of every batch norm over `images`, passed once."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over the batches
        norm.train()
    with torch.inference_mode():
        for part in images.split(32):
            model(part)
    for norm in norms:
        norm.momentum = 0.1
    model.eval()


def quantise_qdq(folder: Path, calibration: np.ndarray) -> None:
    """ONNX Runtime's static quantisation, as its documentation advises for processors with VNNI."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        """Eight images at a time."""

        def __init__(self) -> None:
            self.parts = iter(np.split(calibration, len(calibration) // 8))

        def get_next(self) -> dict[str, np.ndarray] | None:
            """See ONNX Runtime."""
            part = next(self.parts, None)
            return None if part is None else {"images": part}

    ready = folder / "preprocessed.onnx"
    quant_pre_process(folder / "network.onnx", ready, skip_symbolic_shape=True)
    quantize_static(
        ready, folder / "qdq.onnx", Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    ready.unlink()


def quantise_nncf(folder: Path, calibration: np.ndarray) -> None:
    """OpenVINO's own post-training quantisation, with its defaults."""
    import nncf
    import openvino

    model = openvino.Core().read_model(folder / "network.onnx")
    parts = [calibration[start : start + 1] for start in range(len(calibration))]
    done = nncf.quantize(model, nncf.Dataset(parts), subset_size=len(parts))
    openvino.save_model(done, folder / "nncf.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main()
