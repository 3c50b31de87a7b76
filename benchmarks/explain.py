"""Seconds for one image by each method of `striate explain`, beside Captum and the package grad-cam.

    python benchmarks/explain.py --networks squeezenet1_1 resnet18

Random weights serve as well: the arithmetic is the same. The rounds take the methods in turn, so that a busy
moment hits all of them; a first round is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import harness
import torch

from striate.explanation.attribution import METHODS, Question
from striate.explanation.places import find_place
from striate.explanation.undisturbed import undisturbed
from striate.models import ConvNet, create_model


def rivals(model: ConvNet, image: torch.Tensor, window: int) -> dict[str, Callable[[], object]]:
    """What others compute of the same: those that are installed."""
    layer = model.get_submodule(find_place(model).path)
    found: dict[str, Callable[[], object]] = {}
    try:
        from captum.attr import LayerGradCam, Occlusion

        found["Captum: gradcam"] = lambda: LayerGradCam(model, layer).attribute(image, target=0)
        shapes, strides = (image.shape[1], window, window), (image.shape[1], window // 2, window // 2)
        found["Captum: occlusion"] = lambda: Occlusion(model).attribute(
            image, target=0, sliding_window_shapes=shapes, strides=strides, perturbations_per_eval=32
        )
    except ImportError:
        pass
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        def package() -> object:
            with GradCAM(model=model, target_layers=[layer]) as cam:
                return cam(input_tensor=image, targets=[ClassifierOutputTarget(0)])

        found["grad-cam: gradcam"] = package
    except ImportError:
        pass
    return found


def ours(model: ConvNet, image: torch.Tensor, name: str) -> Callable[[], object]:
    """One method, with the search for its layer and the care for the network."""

    def ask() -> object:
        with undisturbed(model):
            return METHODS[name].ask(Question(model=model, images=image, targets=torch.tensor([0])))

    return ask


def main() -> None:
    """Time all and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["lenet5_dense", "squeezenet1_1", "resnet18"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    rows = []
    for network in arguments.networks:
        torch.manual_seed(0)
        model = create_model(network).eval()
        record = model.architecture
        image = torch.randn(1, record.in_channels, *record.input_size)
        tasks = {name: ours(model, image, name) for name in METHODS}
        tasks |= rivals(model, image, max(2, round(min(record.input_size) / 6)))
        seconds: dict[str, list[float]] = {name: [] for name in tasks}
        for repeat in range(arguments.repeats + 1):
            for name, task in tasks.items():
                start = time.perf_counter()
                task()
                if repeat:
                    seconds[name].append(time.perf_counter() - start)
        rows += [
            {"network": network, "method": name, "median": statistics.median(found), **harness.spread(found)}
            for name, found in seconds.items()
        ]
        for row in rows[-len(tasks) :]:
            harness.say(f"{network:16} {row['method']:24} {row['median']:.3f} s")
    result = {"seconds_an_image": rows, "threads": arguments.threads, **harness.provenance("explain.py")}
    harness.write_result(harness.RESULTS / "explain.json", result)


if __name__ == "__main__":
    main()
