"""One forward pass of torchvision's SqueezeNet 1.1 over a folder of photos, to pooled features: a DataLoader, a loop.

The least that any transfer of it must do. `--tuned` is what PyTorch's documentation advises for processors: channels
last and bfloat16 autocast. Prints one JSON line: seconds of the import, of opening, and of the pass, decoding included.
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext

import torch
from record import seconds_since_start
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of class folders")
    parser.add_argument("--weights", required=True, help="state dict of torchvision's squeezenet1_1")
    parser.add_argument("--workers", type=int, default=2, help="loader processes")
    parser.add_argument("--tuned", action="store_true", help="channels last and bfloat16 autocast")
    args = parser.parse_args()
    imported = seconds_since_start()
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    photos = datasets.ImageFolder(args.data, transforms.Compose([*steps, transforms.Normalize(MEAN, STD)]))
    model = models.squeezenet1_1().eval()
    model.load_state_dict(torch.load(args.weights, weights_only=True))
    arithmetic = nullcontext()
    if args.tuned:
        model = model.to(memory_format=torch.channels_last)
        arithmetic = torch.autocast("cpu", torch.bfloat16)
    opened = seconds_since_start()
    codes = []
    with torch.inference_mode(), arithmetic:
        for images, _ in DataLoader(photos, batch_size=64, num_workers=args.workers):
            if args.tuned:
                images = images.contiguous(memory_format=torch.channels_last)
            codes.append(model.features(images).float().mean(dim=(2, 3)))
    seconds = {"import": imported, "open": opened - imported, "pass": seconds_since_start() - opened}
    record = {"photos": len(torch.cat(codes)), "seconds": {name: round(value, 3) for name, value in seconds.items()}}
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
