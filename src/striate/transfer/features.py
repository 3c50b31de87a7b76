"""`striate.codes`: what a trained network makes of images, as plain arrays.

Torch is imported by the call, not with this module: a tuned process imports it only once there is something to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import UsageError
from striate.progress import Console, Progress, Silent
from striate.runtime import kept_random_state, prepare_torch

if TYPE_CHECKING:
    import numpy as np

    from striate.checkpoint import SavedModel
    from striate.data import Split

At = str | Sequence[str] | None
ALL = "all"  # places
_MANY = 10_000  # images from which only the places that are asked for are computed


def codes(
    images: Any,
    network: Any,
    *,
    at: At = None,
    image_shape: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
    device: str = "auto",
    precision: str = "fp32",
    cache: bool = True,
    offline: bool = False,
    progress: bool | Progress = True,
) -> np.ndarray | dict[str, np.ndarray]:
    """CNN codes: the activations of a network, one row of numbers per image.

    Maps are averaged over a grid as fine as 1024 numbers allow, at most 4 by 4; hidden layers of the head are taken as
    they are. Preprocessing is that of the network, as in `striate predict`.

    Args:
        images: paths, a folder, arrays [n, H, W] or [n, H, W, C], rows [n, D], Pillow images, a `Split`, or a
            `Dataset`, of which all splits are taken, one after another; docs/python.md says how each is read.
        network: any spelling (a run folder, `latest`, a model file, `MODEL:WEIGHTS` …), or what `striate.load` gave.
        at: a place where the network is read: `stem`, a stage's name, `head.NAME`; several names, or `all`. None: the
            last, which the classifier reads.
        image_shape: (H, W) or (H, W, C) of rows.
        value_range: the numbers that are black and white in arrays that are neither uint8 nor uint16 nor from 0 to 1.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `fp32`, `bf16`, `fp16` (GPU) or `auto`.
        cache: keep the codes of files on disk, by content, for the next time.
        offline: never use the network.
        progress: whether to show bars, or a `Progress` of your own.

    Returns:
        float32 [n, D], the images in their order; where several places are asked for, such an array by place.

    Raises:
        UnreadableImageError: an image that cannot be decoded.
        DataError: no images, or numbers that are no pixels.
        UsageError: a `value_range` that is none.
        ModelError, CheckpointError, UnknownNameError, OfflineError: no such network, weights or place.
    """
    prepare_torch()
    import numpy as np

    from striate.data import Dataset
    from striate.transfer.handed import checked_range, split_of

    shown = progress if isinstance(progress, Progress) else Console() if progress else Silent()
    value_range = None if value_range is None else checked_range(value_range)
    saved = network_of(network, offline=offline, progress=shown)
    wanted = places_of(saved, at)
    if isinstance(images, Dataset):
        splits = [split for split in images.splits.values() if len(split)]
    else:
        splits = [split_of(images, image_shape=image_shape, value_range=value_range, progress=shown)]
    parts = [
        codes_by_place(saved, split, wanted, device=device, precision=precision, cache=cache, progress=shown)
        for split in splits
    ]
    found = {place: np.concatenate([part[place] for part in parts]) for place in wanted}
    return found[wanted[0]] if at is None or (isinstance(at, str) and at != ALL) else found


def network_of(network: Any, *, offline: bool = False, progress: Progress | None = None) -> SavedModel:
    """The network that is spelt or handed over; random weights are always the same ones.

    Raises:
        UsageError: something that is neither.
        Also what `open_network` raises.
    """
    import torch

    from striate.checkpoint import SavedModel
    from striate.network import open_network
    from striate.prediction import Classifier

    if isinstance(network, Classifier):
        return network.saved
    if isinstance(network, SavedModel):
        return network
    if not isinstance(network, (str, Path)):
        kind = type(network).__name__
        raise UsageError(
            f"a network is not named by a {kind}", "give a run, a file, MODEL:WEIGHTS, or striate.load(...)"
        )
    with kept_random_state():
        torch.manual_seed(0)
        return open_network(network, offline=offline, progress=progress)


def places_of(saved: SavedModel, at: At) -> tuple[str, ...]:
    """The places that `at` names.

    Raises:
        UsageError: an empty list.
        ModelError: no such place; the hint lists those there are.
    """
    from striate.models.cut import modules_up_to, places

    if at is None:
        return places(saved.model)[-1:]
    if at == ALL:
        return places(saved.model)
    wanted = (at,) if isinstance(at, str) else tuple(at)
    if not wanted:
        raise UsageError("at = []: no place to read the network at", "None reads the last")
    for place in wanted:
        modules_up_to(saved.model, place)
    return wanted


def codes_by_place(
    saved: SavedModel,
    split: Split,
    places: Sequence[str],
    *,
    device: str,
    precision: str,
    cache: bool,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """float32 [n, D] of the images of a split at each of `places`; those of files come from the cache where it can.

    One pass gives the codes of all places, and the cache keeps them all where they are not too many: the next place is
    asked for soon.
    """
    from striate.data import PhotoImages
    from striate.transfer.codes import code_folder, codes_of

    progress, kept = progress or Silent(), None
    if cache and isinstance(split.images, PhotoImages):
        try:
            kept = code_folder()
        except RuntimeError as error:
            progress.warn(f"codes are not kept: {error}")
    found = codes_of(
        saved, split, places=places if kept is None or len(split) > _MANY else None, precision=precision,
        device=device, cache=kept, progress=progress,
    )  # fmt: skip
    return {place: found.by_place[place] for place in places}
