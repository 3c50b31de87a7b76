"""How the stored pixels of a batch come to the training device: from a resident tensor, or read one batch ahead."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from striate.data.images import Images, TensorImages
from striate.spec import InputSpec

RESIDENT_BYTES = 2**30  # a fitted copy of a set may take this much memory; a larger one is fitted batch by batch
_PREPARE = 4096  # images fitted at a time

Request = tuple[np.ndarray, np.ndarray | None]  # positions [B] and boxes [B, 4] of one batch


class Fetcher(Protocol):
    """Yields the stored pixels [B, C, H, W] of each request, on the device."""

    def fetch(self, requests: Iterable[Request]) -> Generator[torch.Tensor, None, None]:
        """One tensor per request, in order."""
        ...


def make_fetcher(images: Images, spec: InputSpec, device: torch.device, *, boxed: bool) -> Fetcher:
    """The quickest way to these images: resident where they are small.

    Args:
        boxed: boxes are cut from the images. They can be cut from a resident tensor, on the device, where the images
            already have the network's size; otherwise `Images.take` cuts them with an antialiased resize.
    """
    if isinstance(images, TensorImages) and fits_as_it_is(images, spec):
        return Resident(images.tensor.to(device))
    if isinstance(images, TensorImages) and not boxed:
        count, element = len(images), 1 if spec.bits <= 8 else 4
        if count * spec.channels * spec.size[0] * spec.size[1] * element <= RESIDENT_BYTES:
            parts = [images.take(np.arange(i, min(i + _PREPARE, count)), spec) for i in range(0, count, _PREPARE)]
            return Resident(torch.cat(parts).to(device))
    return Ahead(images, spec, device)


def fits_as_it_is(images: TensorImages, spec: InputSpec) -> bool:
    """Whether the resize rule would change nothing, so that the stored tensor itself can serve."""
    same = tuple(images.tensor.shape[1:]) == (spec.channels, *spec.size) and images.bits == spec.bits
    return same and (spec.resize != "crop" or spec.crop_fraction == 1.0)


class Resident:
    """All images fitted, in one tensor [n, C, H, W] on the device."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def fetch(self, requests: Iterable[Request]) -> Generator[torch.Tensor, None, None]:
        """Rows of the tensor."""
        for positions, _ in requests:
            yield self.tensor.index_select(0, torch.from_numpy(positions).to(self.tensor.device))


class Ahead:
    """Images read by `Images.take` in a background thread, one batch ahead of the one in use."""

    def __init__(self, images: Images, spec: InputSpec, device: torch.device) -> None:
        self.images, self.spec, self.device = images, spec, device

    def fetch(self, requests: Iterable[Request]) -> Generator[torch.Tensor, None, None]:
        """The next batch is asked for before this one is handed over."""
        with ThreadPoolExecutor(1, thread_name_prefix="striate-fetch") as pool:
            current: Future[torch.Tensor] | None = None
            for positions, boxes in requests:
                following = pool.submit(self.images.take, positions, self.spec, boxes)
                if current is not None:
                    yield self._on_device(current.result())
                current = following
            if current is not None:
                yield self._on_device(current.result())

    def _on_device(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.device.type == "cuda" and pixels.device.type == "cpu":
            return pixels.pin_memory().to(self.device, non_blocking=True)
        return pixels.to(self.device)
