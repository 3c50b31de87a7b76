"""How many images a second does each augmentation make: ours, batched, and torchvision's v2 transforms?

Both start from the same uint8 batch in memory and end at normalised float32, with draws of its own for each image.
torchvision draws once per call, so it is called per image, as a DataLoader does (its processes' cost is left out).

    python benchmarks/augmentation.py [--threads 1] [--repeats 15] [--sets mnist cifar photos] [--out FILE]
"""

import argparse
import statistics
import time
from functools import partial
from pathlib import Path

import harness
import numpy as np
import torch

from striate.data.augment import augment
from striate.data.draws import Draws
from striate.options import AugmentOptions
from striate.spec import InputSpec

SHAPES = {"mnist": (256, 1, 28), "cifar": (256, 3, 32), "photos": (32, 3, 224)}  # images, channels, side
CASES = {  # ours, and torchvision's transform, written for `v2` and the side of the image
    "normalise only": ({}, "v2.Identity()"),
    "shift, flip": (
        {"shift": 4, "flip": 0.5},
        "v2.Compose([v2.RandomCrop(side, padding=4), v2.RandomHorizontalFlip()])",
    ),
    "rotate": ({"rotate": 10.0}, "v2.RandomRotation(10, v2.InterpolationMode.BILINEAR)"),
    "elastic": ({"elastic": 34.0}, "v2.ElasticTransform(34.0, 4.0)"),
    "brightness, contrast": ({"brightness": 0.2, "contrast": 0.2}, "v2.ColorJitter(0.2, 0.2)"),
    "saturation, hue": ({"saturation": 0.2, "hue": 0.1}, "v2.ColorJitter(0, 0, 0.2, 0.1)"),
    "noise": ({"noise": 0.05}, "v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.GaussianNoise(0.0, 0.05)])"),
}


def rates(work, images: int, repeats: int) -> dict[str, float]:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return {"median": images / statistics.median(times), **harness.spread([images / seconds for seconds in times])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--sets", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "augmentation.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    from torchvision.transforms import v2

    rows = []
    for name in arguments.sets:
        count, channels, side = SHAPES[name]
        batch = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8)
        spec, draws = InputSpec(size=(side, side), channels=channels), Draws(0, 0, np.arange(count))
        for case, (given, theirs) in CASES.items():
            if channels == 1 and "hue" in case:
                continue
            options = AugmentOptions(preset="none", **given)
            ours = rates(partial(augment, batch, spec, options, draws), count, arguments.repeats)
            transform = eval(theirs, {"v2": v2, "torch": torch, "side": side})
            every = v2.Compose([transform, v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])])
            peer = rates(lambda f=every, b=batch: torch.stack([f(image) for image in b]), count, arguments.repeats)
            rows.append({"set": name, "case": case, "threads": arguments.threads, "striate": ours, "torchvision": peer})
            medians = f"ours {ours['median']:9.0f}  torchvision {peer['median']:9.0f}"
            print(f"{name:7} {case:21} images/s: {medians}", flush=True)
    harness.write_result(arguments.out, {**harness.provenance("augmentation.py"), "rows": rows})


if __name__ == "__main__":
    main()
