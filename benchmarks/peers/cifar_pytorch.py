"""The recipe cifar10-94 in plain PyTorch: torchvision's data set and transforms, a DataLoader, torch's own optimisers.

The same network, images, batches, epochs, optimisers, rates and views as `striate train --recipe cifar10-94`, written
the way PyTorch is usually written: eager, float32, channels first. `--tuned` is what its documentation advises on top:
channels last and bfloat16 autocast. Mirror images are drawn by chance, not by turns, which torchvision cannot do; this
costs no time. torch.optim.Muon wants matrices, so kernels are kept as such and viewed as kernels where they are used.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from record import options, seconds_since_start
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
HELD_OUT = 1000
BATCH = 2000
MOMENTUM, KERNEL_RATE, HEAD_RATE, BIAS_RATE = 0.6, 0.24, 4.4, 280.0
HEAD_DECAY, BIAS_DECAY, SMOOTHING = 2.4e-3, 4e-5, 0.2


class Conv(nn.Module):
    """A 3x3 convolution that keeps its kernel as the matrix that torch.optim.Muon wants."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        kernel = nn.Conv2d(channels, width, 3, bias=False).weight.detach()
        nn.init.dirac_(kernel[:channels])
        self.shape = kernel.shape
        self.weight = nn.Parameter(kernel.flatten(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, channels, H, W] -> [B, width, H, W]."""
        return F.conv2d(x, self.weight.view(self.shape), padding=1)


def norm(width: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


def group(channels: int, width: int) -> list[nn.Module]:
    first = [Conv(channels, width), nn.MaxPool2d(2), norm(width), nn.GELU()]
    return [*first, Conv(width, width), norm(width), nn.GELU()]


class Net(nn.Module):
    """Whitening, three groups, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad_(False)
        nn.init.zeros_(self.whiten.get_parameter("bias"))
        self.layers = nn.Sequential(nn.GELU(), *group(24, 64), *group(64, 256), *group(256, 256), nn.MaxPool2d(3))
        self.head = nn.Linear(256, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, 32, 32] to logits [B, 10]."""
        return self.head(self.layers(self.whiten(x)).flatten(1)) / 9

    @torch.no_grad()
    def fit(self, images: torch.Tensor) -> None:
        """The whitening filters from the 2x2 patches of images."""
        patches = F.unfold(images, 2).transpose(1, 2).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + 5e-4).sqrt()).T.flip(0)
        self.whiten.weight.copy_(torch.cat([filters, -filters]).view(24, 3, 2, 2))


def make_optimizers(model: Net) -> list[torch.optim.Optimizer]:
    kernels = [module.weight for module in model.modules() if isinstance(module, Conv)]
    biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    groups = [
        {"params": [model.head.weight], "lr": HEAD_RATE, "weight_decay": HEAD_DECAY},
        {"params": biases, "lr": BIAS_RATE, "weight_decay": BIAS_DECAY},
    ]
    rest = torch.optim.SGD(groups, lr=HEAD_RATE, momentum=MOMENTUM, nesterov=True)
    muon = torch.optim.Muon(kernels, lr=KERNEL_RATE, momentum=MOMENTUM, nesterov=True, weight_decay=0.0)
    return [muon, rest]


def precision(tuned: bool) -> Any:
    return torch.autocast("cpu", torch.bfloat16) if tuned else nullcontext()


def test(model: Net, loader: DataLoader, tuned: bool) -> dict[str, float]:
    """Accuracy with one look at each image, and with the logits of six views averaged."""

    def both_sides(images: torch.Tensor) -> torch.Tensor:
        return 0.5 * (model(images).float() + model(images.flip(-1)).float())

    model.eval()
    right = {"single": 0, "flip+shift": 0}
    seen = 0
    with torch.no_grad(), precision(tuned):
        for images, targets in loader:
            if tuned:
                images = images.contiguous(memory_format=torch.channels_last)
            padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
            corners = both_sides(padded[..., :32, :32]) + both_sides(padded[..., 2:, 2:])
            views = 0.5 * both_sides(images) + 0.25 * corners
            right["single"] += int((model(images).argmax(1) == targets).sum())
            right["flip+shift"] += int((views.argmax(1) == targets).sum())
            seen += len(targets)
    return {name: count / seen for name, count in right.items()}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--tuned", action="store_true", help="channels last and bfloat16 autocast")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    args = parser.parse_args()
    phases = {"import": seconds_since_start()}

    torch.manual_seed(args.seed)
    to_tensor = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    moving = [transforms.RandomCrop(32, padding=2, padding_mode="reflect"), transforms.RandomHorizontalFlip()]
    train_set = datasets.CIFAR10(args.data, train=True, transform=transforms.Compose([*moving, *to_tensor]))
    test_set = datasets.CIFAR10(args.data, train=False, transform=transforms.Compose(to_tensor))
    kept = args.limit or len(train_set) - HELD_OUT
    train_set, batch = Subset(train_set, range(kept)), min(BATCH, kept)
    test_set = Subset(test_set, range(min(len(test_set), args.limit or len(test_set))))
    workers: dict[str, Any] = {"num_workers": args.workers, "persistent_workers": True} if args.workers else {}
    train_loader = DataLoader(train_set, batch_size=batch, shuffle=True, drop_last=True, **workers)
    test_loader = DataLoader(test_set, batch_size=500)
    model = Net()
    sample, _ = next(iter(DataLoader(train_set, batch_size=min(1000, kept))))
    model.fit(sample)
    if args.tuned:
        model = model.to(memory_format=torch.channels_last)
    optimizers = make_optimizers(model)
    steps = args.max_epochs * len(train_loader)
    schedules = [torch.optim.lr_scheduler.LambdaLR(one, lambda step: 1 - step / steps) for one in optimizers]
    phases["load"] = seconds_since_start() - sum(phases.values())

    epochs = []
    for epoch in range(args.max_epochs):
        started = seconds_since_start()
        model.train()
        for images, targets in train_loader:
            if args.tuned:
                images = images.contiguous(memory_format=torch.channels_last)
            with precision(args.tuned):
                logits = model(images)
            loss = F.cross_entropy(logits.float(), targets, label_smoothing=SMOOTHING)
            loss.backward()
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            with torch.no_grad():
                for module in model.modules():
                    if isinstance(module, Conv):
                        module.weight.mul_(len(module.weight) ** 0.5 / module.weight.norm())
        epochs.append(round(seconds_since_start() - started, 3))
        print(f"epoch {epoch + 1}: {epochs[-1]:.1f} s", flush=True)
    accuracies = test(model, test_loader, args.tuned)
    phases["evaluate"] = seconds_since_start() - sum(phases.values()) - sum(epochs)
    seconds = {name: round(value, 3) for name, value in phases.items()}
    total = round(seconds_since_start(), 3)
    print(json.dumps({"test": accuracies, "seconds": {**seconds, "epochs": epochs, "total": total}}), flush=True)


if __name__ == "__main__":
    main()
