"""The two towers of AlexNet on two devices, as they were trained: half the maps and half the units on each.

Krizhevsky, Sutskever & Hinton 2012, fig. 2: a device computes its half of conv1 to fc7, and the halves meet only where
a kernel or unit reads both, at conv3, fc6, fc7 and the output. Outputs and gradients are those of the network with
grouped convolutions, of which this is another arrangement.
Departs from the paper: the output layer is whole, on the first device; and local response normalisation exchanges the
two maps on either side of the border between the towers, because the paper's sum runs over the maps of the whole layer
(sec. 3.3) although its figure shows no exchange there. With `normalization="none"` there is none.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from striate.errors import ModelError
from striate.layers.heads import classification_loss
from striate.layers.initialise import without_random_start
from striate.layers.normalization import Contrast, LocalResponse
from striate.models.alexnet import AlexNet

READ_BOTH = ("conv3", "fc6", "fc7")  # layers that read the maps or units of both towers
OUTPUT = "fc8"


class Towers(nn.Module):
    """A two-tower AlexNet, [B, in_channels, H, W] on any device -> logits [B, classes] on the first; trainable.

    The parameters are the halves. `towers[i]` has the parts `stem`, `stages` and `head` of the grouped network.
    """

    def __init__(self, model: AlexNet, devices: Sequence[torch.device]) -> None:
        super().__init__()
        self.architecture = model.architecture
        self.devices = tuple(devices)
        self.towers = nn.ModuleList()
        for index, device in enumerate(self.devices):
            parts = {name: _half(getattr(model, name), index) for name in ("stem", "stages", "head")}
            self.towers.append(nn.ModuleDict(parts).to(device))
        self.train(model.training)

    def forward(self, images: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, classes] on the first device."""
        halves = [images.to(device) for device in self.devices]
        halves = self._through([tower["stem"] for tower in self._parts()], halves)
        for name, _ in self._parts()[0]["stages"].named_children():
            if name in READ_BOTH:
                halves = self._exchange(halves)
            halves = self._through([tower["stages"].get_submodule(name) for tower in self._parts()], halves)
        halves = self._through([tower["head"] for tower in self._parts()], halves)
        output = self._parts()[0]["head"].get_submodule(OUTPUT)
        return output(self._exchange(halves)[0])

    def loss(self, logits: Tensor, targets: Tensor, **settings: Any) -> Tensor:
        """`classification_loss` of logits [B, classes], on the first device."""
        return classification_loss(logits, targets.to(logits.device), **settings)

    def gather(self) -> dict[str, Tensor]:
        """The state dict of the grouped network, on the first device."""
        first, second = (tower.state_dict() for tower in self.towers)
        # Units are the first dimension of every weight and bias, and those of a tower are consecutive.
        return {
            name: torch.cat([tensor, second[name].to(tensor.device)]) if name in second else tensor
            for name, tensor in first.items()
        }

    def _parts(self) -> list[nn.ModuleDict]:
        return [cast(nn.ModuleDict, tower) for tower in self.towers]

    def _through(self, units: list[nn.Module], halves: list[Tensor]) -> list[Tensor]:
        """The halves through the layers of a unit, those of both towers side by side, up to the output layer."""
        pairs = zip(*(unit.named_children() for unit in units), strict=False)  # the second has no output layer
        for (name, first), (_, second) in pairs:
            if name in READ_BOTH:
                halves = self._exchange(halves)
            if isinstance(first, LocalResponse | Contrast):
                halves = self._normalize([first, second], first.window // 2, halves)
            else:
                halves = [first(halves[0]), second(halves[1])]
        return halves

    def _exchange(self, halves: list[Tensor]) -> list[Tensor]:
        """All maps or units, [B, C/2, ...] twice -> [B, C, ...] on each device."""
        return [torch.cat([half.to(device) for half in halves], dim=1) for device in self.devices]

    def _normalize(self, layers: list[nn.Module], edge: int, halves: list[Tensor]) -> list[Tensor]:
        """Normalisation across maps: each tower borrows the `edge` maps beyond the border and drops their results."""
        low, high = halves
        with_next = torch.cat([low, high[:, :edge].to(low.device)], dim=1)
        with_last = torch.cat([low[:, -edge:].to(high.device), high], dim=1)
        return [layers[0](with_next)[:, : low.shape[1]], layers[1](with_last)[:, edge:]]


def place_towers(model: AlexNet, devices: Sequence[str | torch.device]) -> Towers:
    """A copy of the two-tower `model` with one tower on each of two devices.

    Raises:
        ModelError: not two devices, a network with one tower, or layers with parameters that both towers share
            (normalisations and pooling that are trained).
    """
    name = model.architecture.name
    if len(devices) != 2:
        raise ModelError(f"two towers need two devices, got {len(devices)}", "the same device may be given twice")
    if not isinstance(model, AlexNet) or model.architecture.config["towers"] != 2:
        raise ModelError(f"{name} does not consist of two towers", "alexnet_2012 and caffenet do")
    return Towers(model, [torch.device(device) for device in devices])


def _half(module: nn.Module, index: int) -> nn.Module:
    """The part of a layer, or of each layer of a sequence, that belongs to tower `index`."""
    if isinstance(module, nn.Sequential):
        layers = OrderedDict[str, nn.Module]()
        for name, child in module.named_children():
            if name != OUTPUT:
                layers[name] = _half(child, index)
            elif index == 0:
                layers[name] = copy.deepcopy(child)
        return nn.Sequential(layers)
    if isinstance(module, nn.Conv2d):
        inputs, outputs = module.in_channels // module.groups, module.out_channels // 2
        with without_random_start():
            half = nn.Conv2d(
                inputs, outputs, cast(Any, module.kernel_size), cast(Any, module.stride), cast(Any, module.padding)
            )
    elif isinstance(module, nn.Linear):
        with without_random_start():
            half = nn.Linear(module.in_features, module.out_features // 2)
    elif any(True for _ in module.parameters()):
        raise ModelError(
            f"the towers cannot be parted at {type(module).__name__}", "use normalization local_response or none"
        )
    else:
        return copy.deepcopy(module)
    for name, parameter in module.named_parameters():
        part = parameter.detach().chunk(2)[index].clone()
        setattr(half, name, nn.Parameter(part, requires_grad=parameter.requires_grad))
    return half
