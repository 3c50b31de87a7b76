"""Transfer in plain torchvision, as PyTorch's transfer learning tutorial does it.

ImageFolder, a DataLoader, random resized crops and flips; a new last convolution on SqueezeNet; SGD with momentum at
0.001, a tenth of it after seven epochs, batches of four; the weights of the best epoch count. `--frozen` trains the new
layer alone. `--style tuned` is what someone may write who has done it before and has looked at the photos: batches of
32, Adam over one cycle, a lower rate for the old layers, channels last and bfloat16 autocast, milder crops, and
validation on whole photos at 224 pixels, since a middle part of photos that are of this size cuts off their margins.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms
from transfer_record import Curve, options

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(weights: str, classes: int, frozen: bool) -> nn.Module:
    """SqueezeNet 1.1 from the file, with a last convolution for these classes."""
    model = models.squeezenet1_1()
    model.load_state_dict(torch.load(weights, weights_only=True))
    if frozen:
        for parameter in model.parameters():
            parameter.requires_grad = False
    model.classifier[1] = nn.Conv2d(512, classes, kernel_size=1)
    return model


def loaders(folder: str, batch: int, workers: int, tuned: bool) -> dict[str, DataLoader]:
    """The tutorial's transforms; milder crops and whole photos where `tuned`."""
    crop = transforms.RandomResizedCrop(224, scale=(0.35, 1.0) if tuned else (0.08, 1.0))
    whole = [transforms.Resize((224, 224))] if tuned else [transforms.Resize(256), transforms.CenterCrop(224)]
    normal = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    steps = {
        "train": [crop, transforms.RandomHorizontalFlip(), *normal],
        "val": [*whole, *normal],
    }
    more: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    return {
        split: DataLoader(
            datasets.ImageFolder(f"{folder}/{split}", transforms.Compose(steps[split])),
            batch_size=batch if split == "train" else max(batch, 32),
            shuffle=split == "train",
            **more,
        )
        for split in steps
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--frozen", action="store_true", help="train the new layer alone")
    parser.add_argument("--style", choices=("tutorial", "tuned"), default="tutorial")
    args = parser.parse_args()
    curve = Curve()
    curve.mark("import")
    torch.manual_seed(args.seed)
    tuned = args.style == "tuned"
    data = loaders(args.data, args.batch or (32 if tuned else 4), args.workers, tuned)
    model = network(args.weights, len(data["train"].dataset.classes), args.frozen)  # type: ignore[attr-defined]
    if tuned:
        model = model.to(memory_format=torch.channels_last)
        # a head that learns alone bears a higher rate, which favours the peer with few photos
        groups = [{"params": list(model.classifier.parameters()), "lr": 5e-3 if args.frozen else 1e-3}]
        if not args.frozen:
            groups.append({"params": list(model.features.parameters()), "lr": 1e-4})
        optimizer: torch.optim.Optimizer = torch.optim.Adam(groups)
        peaks, steps = [group["lr"] for group in groups], args.epochs * len(data["train"])
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=steps)
    else:
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(learning, lr=0.001, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    arithmetic = torch.autocast("cpu", torch.bfloat16) if tuned else nullcontext()
    criterion = nn.CrossEntropyLoss()
    curve.mark("load")

    best, weights = -1.0, {}
    for _ in range(args.epochs):
        model.train()
        for images, targets in data["train"]:
            if tuned:
                images = images.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            with arithmetic:
                logits = model(images)
            criterion(logits.float(), targets).backward()
            optimizer.step()
            if tuned:
                schedule.step()
        if not tuned:
            schedule.step()
        curve.validation()
        right = seen = 0
        model.eval()
        with torch.no_grad(), arithmetic:
            for images, targets in data["val"]:
                right += int((model(images).argmax(1) == targets).sum())
                seen += len(targets)
        if right / seen > best:
            best, weights = right / seen, copy.deepcopy(model.state_dict())
        curve.epoch(right / seen)
    model.load_state_dict(weights)
    curve.finish()


if __name__ == "__main__":
    main()
