"""The network as one convolution over whole images of several sizes. Simonyan & Zisserman 2014, 1409.1556, sec. 3.2.

Fully connected layers that read maps of h by w places are convolutions of that kernel, and those after them
convolutions of 1x1: the head is applied to every window of h by w places, with all that it does there (pooling down to
a grid, distances to codes, activations), and gives a map of class scores, which is averaged over its places. A head
that pools whole maps takes maps of any size as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from striate.data.normalise import normalise
from striate.data.scaled import scaled
from striate.errors import ModelError
from striate.evaluation.protocols.averages import Averages
from striate.evaluation.protocols.names import least_sizes
from striate.inference.forward import evaluating, forward
from striate.layers.pooling import GlobalPool
from striate.models import ConvNet
from striate.models.foreign import Mean
from striate.progress import Progress, Silent
from striate.spec import InputSpec

if TYPE_CHECKING:
    from striate.data import Images

_GRIDS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_READERS = (nn.Flatten, nn.Linear)  # of as many places as they were made for


class Dense(nn.Module):
    """A network for images of any size, [B, C, H, W] -> [B, classes]: its answers averaged over the places.

    At the network's own input size there is one place, and the answer is its own.

    Args:
        network: its parameters are shared.
        size: the input size (height, width) that it was made for.

    Raises:
        ModelError: its layers are tied to that size.
    """

    def __init__(self, network: ConvNet, size: tuple[int, int]) -> None:
        super().__init__()
        if len(network.sides):
            raise ModelError(
                f"dense views: the classifier of {network.architecture.title} reads earlier stages, too, of "
                f"{size[0]}x{size[1]} pixels only",
                "--views ten-crop and multi-scale give it crops of that size; --scenario svm reads one place",
            )
        self.network = network
        with evaluating(network):
            maps = self._features_at(size)
            self.window = (maps.shape[2], maps.shape[3])
            self.pooled = self.window != (1, 1) and pools_whole_maps(network.head)
            larger = (2 * size[0], 2 * size[1])
            try:
                self._features_at(larger)
            except Exception as error:  # whatever layers of any kind may raise at a size that they are not made for
                name, reason = network.architecture.title, " ".join(str(error).split())[:160]
                raise ModelError(
                    f"dense views: {name} takes images of {size[0]}x{size[1]} pixels only ({reason})",
                    "--views ten-crop and multi-scale give it crops of that size",
                ) from error

    def forward(self, images: Tensor) -> Tensor:
        """The mean over the places of the class map, in single precision."""
        maps = self.network.features(images)
        if self.pooled or maps.shape[2:] == self.window:
            return self.network.head(maps).float()
        windows = maps.unfold(2, self.window[0], 1).unfold(3, self.window[1], 1).permute(0, 2, 3, 1, 4, 5)
        return torch.stack([self.network.head(one.flatten(0, 1)).float().mean(0) for one in windows])

    def _features_at(self, size: tuple[int, int]) -> Tensor:
        first = next(self.network.parameters())
        zeros = torch.zeros(1, self.network.architecture.in_channels, *size, device=first.device, dtype=first.dtype)
        return self.network.features(zeros)


def pools_whole_maps(head: nn.Module) -> bool:
    """Whether a head takes the mean or the maximum of whole maps before it reads them."""
    for module in head.modules():
        if isinstance(module, GlobalPool | Mean):
            return True
        if isinstance(module, _GRIDS):
            return module.output_size in (1, (1, 1))
        if isinstance(module, _READERS):
            return False
    return False


def dense_answers(
    network: nn.Module,
    images: Images,
    spec: InputSpec,
    averages: Averages,
    *,
    batch_size: int,
    device: torch.device,
    precision: str,
    progress: Progress | None = None,
) -> Tensor:
    """The averaged answers [n, classes] to every image and its mirror image at the short sides of `dense`.

    `network` is a `Dense`, or gives the answers of several, [B, k, classes]. Images that have the same size follow one
    another in batches of as many pixels as `batch_size` of the network's own size have, at least one image.
    """
    most = batch_size * spec.size[0] * spec.size[1]
    sizes = least_sizes("dense", spec)
    waiting: list[list[np.ndarray]] = [[] for _ in sizes]
    owners: list[list[int]] = [[] for _ in sizes]

    def ask(scale: int) -> None:
        if not waiting[scale]:
            return
        stored = torch.from_numpy(np.stack(waiting[scale])).to(device).contiguous(memory_format=torch.channels_last)
        batch = normalise(stored, spec)
        answers = [forward(network, side, precision) for side in (batch, batch.flip(-1))]
        for one in answers:
            averages.add(one, owners[scale], [1] * len(one))
        waiting[scale].clear()
        owners[scale].clear()

    def versions(image: np.ndarray) -> list[np.ndarray]:
        return [scaled(image, least, spec) for least in sizes]

    with evaluating(network), (progress or Silent()).task("evaluating", len(images)) as task:
        for owner, canvases in enumerate(images.each(versions)):
            for scale, canvas in enumerate(canvases):
                there = waiting[scale]
                pixels = canvas.shape[1] * canvas.shape[2]
                if there and (there[0].shape != canvas.shape or (len(there) + 1) * pixels > most):
                    ask(scale)
                there.append(canvas)
                owners[scale].append(owner)
            task.advance()
        for scale in range(len(sizes)):
            ask(scale)
    return averages.result()
