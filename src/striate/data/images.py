"""The images of a split behind one interface: uint8 batches for a network's input, whatever they come from.

`TensorImages` holds small images of one size in one tensor, `DecodedImages` images of any sizes that Python code hands
over. `PhotoImages` decodes files in threads and keeps what it decoded. Torch is imported by the first batch, not
before: looking at data does not need it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from striate.data.arrays import to_channels
from striate.data.crops import crop_into, empty_batch
from striate.data.decode import decode_bytes, read_bytes, reduction
from striate.data.fit import cut, fit, fit_many, resample
from striate.data.scan import FileInfo, PhotoStore, canvas_side, content_digest
from striate.errors import DataError
from striate.spec import InputSpec

if TYPE_CHECKING:
    import torch

ResultT = TypeVar("ResultT")


class Images(ABC):
    """The n readable images of a split."""

    channels: int
    bits: int  # 8 or 16
    sizes: np.ndarray  # int32 [n, 2]: height, width in pixels, upright

    def __len__(self) -> int:
        return len(self.sizes)

    @abstractmethod
    def take(self, indices: np.ndarray, spec: InputSpec, boxes: np.ndarray | None = None) -> torch.Tensor:
        """A batch at the input size of `spec`.

        Args:
            indices: [B] positions.
            spec: what the network is fed.
            boxes: None for the spec's resize rule, exactly `fit`; or [B, 4] (top, left, height, width in pixels of the
                source image): that region resized to `spec.size`, 0 outside the image.

        Returns:
            uint8 [B, spec.channels, *spec.size], int32 where `spec.bits` is more than 8, on the processor; boxes of
            photos come with the channels innermost in memory.

        Raises:
            DataError: a file changed or vanished since the data were loaded.
        """

    @abstractmethod
    def raw(self, index: int) -> np.ndarray:
        """One image as `decode` gives it: [H, W, C], unresized."""

    def each(self, function: Callable[[np.ndarray], ResultT]) -> Iterator[ResultT]:
        """`function` of every image as `raw` gives it, in order; each is decoded once, photos in threads.

        Only a few results wait at any time. `function` must not write to the pixels.

        Raises:
            DataError: a file changed or vanished since the data were loaded.
        """
        return map(function, map(self.raw, range(len(self))))

    @abstractmethod
    def thumbnails(self) -> np.ndarray:
        """uint8 [n, h, w]: small grey versions of all, of one size, for the doctor."""


class TensorImages(Images):
    """Images of one size in one array.

    Args:
        pixels: uint8 or uint16 [n, C, H, W].
    """

    def __init__(self, pixels: np.ndarray) -> None:
        if pixels.ndim != 4 or pixels.dtype not in (np.uint8, np.uint16):
            raise DataError(f"expected uint8 or uint16 [n, C, H, W], got {pixels.dtype} {list(pixels.shape)}")
        self.pixels = pixels
        self.channels = pixels.shape[1]
        self.bits = 8 * pixels.dtype.itemsize
        self.sizes = np.broadcast_to(np.array(pixels.shape[2:], np.int32), (len(pixels), 2))
        self._tensor: torch.Tensor | None = None

    @property
    def tensor(self) -> torch.Tensor:
        """All images as they are: [n, C, H, W] uint8, or int32 where they have more than 8 bits."""
        if self._tensor is None:
            self._tensor = _to_torch(self.pixels if self.bits <= 8 else self.pixels.astype(np.int32))
        return self._tensor

    def take(self, indices: np.ndarray, spec: InputSpec, boxes: np.ndarray | None = None) -> torch.Tensor:
        """See `Images.take`."""
        chosen = self.pixels[indices]
        if boxes is None:
            return _to_torch(fit_many(chosen, spec))
        out = _empty_batch(len(indices), spec)
        for row, image, box in zip(out, chosen, boxes.tolist(), strict=True):
            row[:] = cut(np.moveaxis(image, 0, 2), tuple(box), spec)
        return _to_torch(out)

    def raw(self, index: int) -> np.ndarray:
        """See `Images.raw`."""
        return np.ascontiguousarray(np.moveaxis(self.pixels[index], 0, 2))

    def thumbnails(self) -> np.ndarray:
        """See `Images.thumbnails`; images of up to 64 pixels a side as they are."""
        height, width = self.pixels.shape[2:]
        if max(height, width) <= 64:
            return _grey8(np.moveaxis(self.pixels, 1, -1))
        return np.stack([_thumbnail(np.moveaxis(image, 0, 2)) for image in self.pixels])


class DecodedImages(Images):
    """Images in memory, each of its own size.

    Args:
        pixels: [H, W, C] uint8 or uint16, as `decode` gives them; at least one. Where channels or bits differ, the
            set has the most that any has, as a folder has.
    """

    def __init__(self, pixels: Sequence[np.ndarray]) -> None:
        self.pixels = pixels
        self.channels = max(image.shape[2] for image in pixels)
        self.bits = 8 * max(image.dtype.itemsize for image in pixels)
        self.sizes = np.array([image.shape[:2] for image in pixels], np.int32)

    def take(self, indices: np.ndarray, spec: InputSpec, boxes: np.ndarray | None = None) -> torch.Tensor:
        """See `Images.take`."""
        out = _empty_batch(len(indices), spec)
        for slot, index in enumerate(indices.tolist()):
            image = self.pixels[index]
            out[slot] = fit(image, spec) if boxes is None else cut(image, tuple(boxes[slot].tolist()), spec)
        return _to_torch(out)

    def raw(self, index: int) -> np.ndarray:
        """See `Images.raw`."""
        return self.pixels[index]

    def thumbnails(self) -> np.ndarray:
        """See `Images.thumbnails`; 32 by 32 pixels."""
        return np.stack([_thumbnail(image) for image in self.pixels])


class PhotoImages(Images):
    """Image files, decoded in threads, each once where the caches have room.

    Training cuts boxes from a canvas: the image reduced by a power of 2, in the codec where that can be, so that its
    short side keeps at least `canvas_side` pixels, by default 8/7 of the input side. An image with a short side below
    twice that (512 pixels for a network of 224) is not reduced, and crops are those of the whole image to the bit. In
    larger ones the edges of boxes move by up to half a pixel of the canvas, and boxes that are smaller than the input
    side on the canvas lose detail: for crops of 8 to 100 % of the area of photos of 500 pixels, 2 levels of 255 in the
    mean and 7 in the worst photo (`tests/data/test_crops.py`). Whoever cuts at larger scales (scale jitter) sets
    `canvas_side` to the largest short side first.

    The plain resize rule, which evaluations use, always starts from the whole image: from its canvas where that is
    whole, else decoded again. Fitted images are kept in memory. All of it depends on the content of the file and on
    these parameters alone, never on what the caches hold.
    """

    def __init__(
        self,
        files: Sequence[Path],
        infos: Sequence[FileInfo],
        store: PhotoStore,
        channels: int,
        bits: int,
        *,
        reduced: bool = True,
    ) -> None:
        self.files, self.infos, self.store = files, infos, store
        self.channels, self.bits = channels, bits
        self.canvas_side: int | None = None
        self.reduced = reduced  # False: every canvas is the whole image
        self.sizes = np.array([info.size for info in infos], np.int32).reshape(-1, 2)

    def take(self, indices: np.ndarray, spec: InputSpec, boxes: np.ndarray | None = None) -> torch.Tensor:
        """See `Images.take`."""
        if boxes is None:
            return self._fitted_batch(indices, spec)
        out = empty_batch(len(indices), spec)
        side = self._canvas_side_for(max(spec.size))

        def fill(slots: range) -> None:
            for slot in slots:
                self._cut(int(indices[slot]), boxes[slot], side, spec, out[slot])

        self._in_threads(fill, len(indices))
        return out

    def raw(self, index: int) -> np.ndarray:
        """See `Images.raw`."""
        return self._whole(index).copy()

    def each(self, function: Callable[[np.ndarray], ResultT]) -> Iterator[ResultT]:
        """See `Images.each`."""

        def of_one(index: int) -> ResultT:
            digest = self.infos[index].digest
            made = function(self._whole(index))
            self.store.let_go(digest, 1)
            if self.store.once:
                self.store.cache.drop(digest)
            return made

        return self.store.map(of_one, range(len(self)))

    def thumbnails(self) -> np.ndarray:
        """See `Images.thumbnails`; 32 by 32 pixels."""
        side = self._canvas_side_for(224)

        def thumbnail(index: int) -> np.ndarray:
            factor = reduction(self.infos[index].size, side)
            made = _thumbnail(self._canvas(index, factor))
            self.store.let_go(self.infos[index].digest, factor)
            return made

        thumbnails = self.store.map(thumbnail, range(len(self)))
        return np.stack(list(thumbnails)) if len(self) else np.empty((0, 32, 32), np.uint8)

    def _fitted_batch(self, indices: np.ndarray, spec: InputSpec) -> torch.Tensor:
        out = _empty_batch(len(indices), spec)
        # everything that `fit` reads; the mean only where it shows
        mean = spec.stored_mean if spec.resize == "letterbox" else None
        form = ("fit", spec.size, spec.channels, spec.resize, spec.crop_fraction, spec.interpolation, spec.bits, mean)

        def fill(slots: range) -> None:
            for slot in slots:
                out[slot] = self._fitted(int(indices[slot]), form, spec)

        self._in_threads(fill, len(indices))
        return _to_torch(out)

    def _fitted(self, index: int, form: Hashable, spec: InputSpec) -> np.ndarray:
        digest = self.infos[index].digest
        pixels = self.store.cache.get(digest, form)
        if pixels is None:
            pixels = fit(self._whole(index), spec)
            self.store.let_go(digest, 1)
            if self.store.once:
                self.store.cache.drop(digest)
            else:
                self.store.cache.put(digest, form, pixels)
        return pixels

    def _cut(self, index: int, box: np.ndarray, side: int | None, spec: InputSpec, out: torch.Tensor) -> None:
        factor = reduction(self.infos[index].size, side)
        canvas = self._canvas(index, factor)
        height, width = self.infos[index].size
        scale_y, scale_x = canvas.shape[0] / height, canvas.shape[1] / width
        top, left, box_height, box_width = box.tolist()
        crop_into(out, canvas, (top * scale_y, left * scale_x, box_height * scale_y, box_width * scale_x), spec)
        self.store.let_go(self.infos[index].digest, factor)

    def _whole(self, index: int) -> np.ndarray:
        """The image as `decode` gives it, from its canvas where that is whole."""
        pixels = self.store.canvas(self.infos[index].digest, 1)
        return decode_bytes(self._content(index), str(self.files[index])).pixels if pixels is None else pixels

    def _canvas(self, index: int, factor: int) -> np.ndarray:
        info = self.infos[index]
        pixels = self.store.canvas(info.digest, factor)
        if pixels is None:
            found = decode_bytes(self._content(index), str(self.files[index]), min(info.size) // factor)
            self.store.keep(info.digest, factor, found)
            pixels = found.pixels
        return pixels

    def _in_threads(self, function: Callable[[range], None], count: int) -> None:
        for _ in self.store.in_parts(function, count):
            pass

    def _canvas_side_for(self, input_side: int) -> int | None:
        if not self.reduced:
            return None
        return self.canvas_side if self.canvas_side is not None else canvas_side(input_side)

    def _content(self, index: int) -> bytes:
        """The file's bytes, which must be those that were scanned: a run never mixes two versions of an image."""
        data = read_bytes(self.files[index])
        if content_digest(data) != self.infos[index].digest:
            raise DataError(f"{self.files[index]} has changed since the data were loaded", "start again")
        return data


def _empty_batch(count: int, spec: InputSpec) -> np.ndarray:
    return np.empty((count, spec.channels, *spec.size), np.uint8 if spec.bits <= 8 else np.int32)


def _to_torch(pixels: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """[H, W, C] as grey uint8 [32, 32], whatever the aspect ratio."""
    whole = (0.0, 0.0, image.shape[0], image.shape[1])
    return _grey8(resample(image, whole, (32, 32), "bilinear"))


def _grey8(pixels: np.ndarray) -> np.ndarray:
    """[..., C] as uint8 [...]: luma of colour, the mean of any other number of channels."""
    known = pixels.shape[-1] in (1, 3)
    grey = to_channels(pixels, 1)[..., 0] if known else pixels.mean(axis=-1).astype(pixels.dtype)
    return grey if grey.dtype == np.uint8 else (grey >> 8).astype(np.uint8)
