"""The networks that torchvision does not have, as they are usually written: MobileNet v1, ResNet-20 for CIFAR."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision
from torch import nn


def network(name: str) -> nn.Module:
    """One of resnet18, resnet50, mobilenet_v1, mobilenet_v2, resnet20."""
    if name == "resnet20":
        return ResNet20()
    if name == "mobilenet_v1":
        return mobilenet_v1()
    return getattr(torchvision.models, name)()


def mobilenet_v1() -> nn.Sequential:
    """Howard et al. 2017, table 1."""

    def unit(inputs: int, outputs: int, stride: int, groups: int = 1) -> list[nn.Module]:
        kernel = 1 if groups == 1 and inputs != 3 else 3
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    layers, channels = unit(3, 32, 2), 32
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    for outputs, stride in plan:
        layers += [*unit(channels, channels, stride, groups=channels), *unit(channels, outputs, 1)]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut that subsamples and pads with empty maps."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps to maps."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.added:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added // 2, self.added // 2))
        return F.relu(out + x)


class ResNet20(nn.Module):
    """He et al. 2015, sec. 4.2, n = 3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        blocks: list[nn.Module] = []
        for inputs, outputs, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
            blocks += [Block(inputs, outputs, stride), Block(outputs, outputs, 1), Block(outputs, outputs, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, 32, 32] to logits [B, 10]."""
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean(dim=(2, 3)))
