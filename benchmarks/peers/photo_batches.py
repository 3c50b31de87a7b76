"""A folder of JPEG files to normalised batches of 64 at 224, by one library, the way its users usually write it.

Random resized crop (8 to 100 % of the area), horizontal flip, ImageNet's mean and deviation. Prints one JSON line: the
images and seconds of each epoch, from asking for the first batch to having the last, and resident memory. `ours` alone
reads a whole data set once before it trains; that is in the seconds of its first epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

BATCH, SIDE = 64, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Batches = Iterable[Any]
Epoch = Callable[[int], Batches]


def ours(data: str, workers: int, args: argparse.Namespace) -> Iterator[Epoch]:
    """Striate: what `striate train` does with a folder of photos, without the network."""
    from striate.runtime import tune_allocator

    tune_allocator()
    import torch

    from striate.data import TrainingBatches, load_data
    from striate.options import AugmentOptions, DataOptions
    from striate.spec import InputSpec

    yield lambda epoch: ()  # ready: what follows is under the clock
    options = DataOptions(data=data, workers=workers, cache_limit=args.cache_limit, cache_memory=args.cache_memory)
    split = load_data(options).splits["train"]
    spec = InputSpec(size=(SIDE, SIDE), channels=3, mean=MEAN, std=STD)
    augment = AugmentOptions(preset="none", crop_scale=(0.08, 1.0), flip=0.5)
    device = torch.device("cpu")
    batches = TrainingBatches(split, spec, augment, batch_size=BATCH, seed=0, device=device, channels_last=True)
    yield lambda epoch: (batch.images for batch in batches.epoch(epoch))


def _torch_loader(dataset: Any, workers: int) -> Epoch:
    import torch

    loader = torch.utils.data.DataLoader(
        dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda epoch: (images for images, _ in loader)


def torchvision_v1(data: str, workers: int, args: argparse.Namespace) -> Iterator[Epoch]:
    """torchvision: ImageFolder and transforms of Pillow images."""
    from torchvision import datasets, transforms

    steps = [transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    transform = transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])
    yield lambda epoch: ()
    yield _torch_loader(datasets.ImageFolder(f"{data}/train", transform), workers)


def torchvision_v2(data: str, workers: int, args: argparse.Namespace) -> Iterator[Epoch]:
    """torchvision: decode_image and transforms.v2 of tensors."""
    import torch
    from torchvision import datasets
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    steps = [v2.RandomResizedCrop(SIDE, antialias=True), v2.RandomHorizontalFlip()]
    transform = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

    def load(path: str) -> Any:
        return decode_image(path, mode=ImageReadMode.RGB)

    yield lambda epoch: ()
    yield _torch_loader(datasets.ImageFolder(f"{data}/train", transform, loader=load), workers)


def timm(data: str, workers: int, args: argparse.Namespace) -> Iterator[Epoch]:
    """timm: its data set and its loader, normalising in batches (on the processor: without its prefetcher)."""
    from timm.data import create_dataset, create_loader

    yield lambda epoch: ()
    dataset = create_dataset("", root=f"{data}/train", is_training=True)
    loader = create_loader(
        dataset, (3, SIDE, SIDE), BATCH, is_training=True, use_prefetcher=False, num_workers=workers,
        scale=(0.08, 1.0), color_jitter=None, mean=MEAN, std=STD, persistent_workers=workers > 0,
    )  # fmt: skip
    yield lambda epoch: (images for images, _ in loader)


def fastai(data: str, workers: int, args: argparse.Namespace) -> Iterator[Epoch]:
    """fastai: a DataBlock with RandomResizedCrop, Flip and Normalize."""
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        Flip,
        ImageBlock,
        Normalize,
        RandomResizedCrop,
        get_image_files,
        parent_label,
    )  # fmt: skip

    yield lambda epoch: ()
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label,
        splitter=lambda files: (list(range(len(files))), [0]),
        item_tfms=RandomResizedCrop(SIDE, min_scale=0.08), batch_tfms=[Flip(), Normalize.from_stats(MEAN, STD)],
    )  # fmt: skip
    loaders = block.dataloaders(Path(data) / "train", bs=BATCH, num_workers=workers, device="cpu")
    yield lambda epoch: (images for images, _ in loaders.train)


def ultralytics(data: str, workers: int, args: argparse.Namespace) -> Iterator[Epoch]:
    """Ultralytics: its classification data set, with its settings for training but no colour or erasing."""
    import torchvision.transforms  # noqa: F401 (its data set imports it only when it is made)
    from ultralytics.cfg import get_cfg
    from ultralytics.data import ClassificationDataset
    from ultralytics.data.build import build_dataloader
    from ultralytics.utils import DEFAULT_CFG

    yield lambda epoch: ()
    changes = {"imgsz": SIDE, "scale": 0.92, "erasing": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}
    config = get_cfg(DEFAULT_CFG, changes | {"auto_augment": "", "cache": False})
    dataset = ClassificationDataset(f"{data}/train", config, augment=True, prefix="train")
    loader = build_dataloader(dataset, BATCH, workers, shuffle=True, drop_last=True)

    def epoch_of(_: int) -> Batches:
        iterator = iter(loader)
        return (next(iterator)["img"] for _ in range(len(loader)))

    yield epoch_of


def keras(data: str, workers: int, args: argparse.Namespace) -> Iterator[Epoch]:
    """Keras: image_dataset_from_directory and layers that crop, flip and normalise (its threads are its own)."""
    import keras

    yield lambda epoch: ()
    files = keras.utils.image_dataset_from_directory(f"{data}/train", image_size=(256, 256), batch_size=BATCH)
    layers = [
        keras.layers.RandomCrop(SIDE, SIDE),
        keras.layers.RandomFlip("horizontal"),
        keras.layers.Rescaling(1 / 255),
    ]
    layers.append(keras.layers.Normalization(mean=MEAN, variance=[deviation**2 for deviation in STD]))

    def prepared(images: Any, labels: Any) -> Any:
        for layer in layers:
            images = layer(images, training=True) if "random" in layer.name else layer(images)
        return images

    loader = files.map(prepared, num_parallel_calls=max(1, workers)).prefetch(2)
    yield lambda epoch: loader


def tf_data(data: str, workers: int, args: argparse.Namespace) -> Iterator[Epoch]:
    """tf.data by hand: decoding of the crop alone, resize, flip, normalisation, in parallel."""
    import tensorflow as tf

    yield lambda epoch: ()
    files = [str(path) for path in sorted(Path(data, "train").rglob("*.jpg"))]

    def load(name: Any) -> Any:
        content = tf.io.read_file(name)
        shape = tf.io.extract_jpeg_shape(content)
        whole = tf.zeros([1, 0, 4])
        start, size, _ = tf.image.sample_distorted_bounding_box(
            shape, whole, use_image_if_no_bounding_boxes=True, area_range=(0.08, 1.0), aspect_ratio_range=(0.75, 4 / 3)
        )
        window = tf.stack([start[0], start[1], size[0], size[1]])
        image = tf.image.resize(tf.image.decode_and_crop_jpeg(content, window, channels=3), [SIDE, SIDE])
        return (tf.image.random_flip_left_right(image) / 255 - MEAN) / STD

    parallel = max(1, workers)
    loader = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files)).map(load, num_parallel_calls=parallel)
    loader = loader.batch(BATCH, drop_remainder=True).prefetch(2)
    yield lambda epoch: loader


LIBRARIES = {
    one.__name__: one for one in (ours, torchvision_v1, torchvision_v2, timm, fastai, ultralytics, keras, tf_data)
}


class Memory(threading.Thread):
    """The largest resident memory of this process and its children, without files that they map, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0

    def run(self) -> None:
        """Look ten times a second until the process ends."""
        while True:
            self.peak = max(self.peak, sum(map(_anonymous, [os.getpid(), *_children(os.getpid())])))
            time.sleep(0.1)


def _children(pid: int) -> list[int]:
    try:
        found = [
            int(word)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return found + [grandchild for child in found for grandchild in _children(child)]


def _anonymous(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:"))) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=sorted(LIBRARIES))
    parser.add_argument("data", help="folder with train/CLASS/*.jpg")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--cache-limit", type=int, help="ours: MiB on disk; 0 for none")
    parser.add_argument("--cache-memory", type=int, default=4096, help="ours: MiB in memory")
    args = parser.parse_args()
    memory = Memory()
    memory.start()
    stages = LIBRARIES[args.library](args.data, args.workers, args)
    next(stages)  # imported
    epochs = []
    start, cpu = time.perf_counter(), os.times()
    batches = next(stages)
    for number in range(args.epochs):
        images = sum(len(batch) for batch in batches(number))
        now, now_cpu = time.perf_counter(), os.times()
        epochs.append({"images": images, "seconds": now - start, "cpu_seconds": sum(now_cpu[:4]) - sum(cpu[:4])})
        start, cpu = now, now_cpu
    print(json.dumps({"epochs": epochs, "peak_mib": round(memory.peak)}))


if __name__ == "__main__":
    main()
