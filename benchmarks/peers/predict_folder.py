"""The classes of a folder of photos with plain torchvision: a data set, its transforms, a DataLoader, a loop."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from inference_prepare import build
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Photos(Dataset):
    """All photos below a folder."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
        self.transform = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB")), str(self.files[index])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    model = build(args.network)
    model.load_state_dict(torch.load(args.weights, weights_only=True))
    loader = DataLoader(Photos(Path(args.photos)), batch_size=args.batch_size, num_workers=args.workers)
    with torch.inference_mode():
        for images, files in loader:
            best, classes = model(images).softmax(dim=1).max(dim=1)
            for file, probability, position in zip(files, best.tolist(), classes.tolist(), strict=True):
                print(f"{file} {position} {probability:.1%}")


if __name__ == "__main__":
    main()
