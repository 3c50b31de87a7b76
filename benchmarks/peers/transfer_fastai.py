"""Transfer the way fastai users usually write it: folders, `vision_learner`, `fine_tune`, its defaults throughout.

The weights come from the given file instead of a download; fastai cuts, splits and normalises SqueezeNet as ever.
"""

from __future__ import annotations

from typing import Any

import torch
from fastai.vision.all import (
    Callback,
    ImageDataLoaders,
    Resize,
    accuracy,
    aug_transforms,
    model_meta,
    set_seed,
    vision_learner,
)
from torchvision import models
from transfer_record import Curve, options


class Note(Callback):
    """Note the validation accuracy after each epoch."""

    order = 60  # after the Recorder (50), which computes the metrics

    def __init__(self, curve: Curve) -> None:
        self.curve = curve

    def before_validate(self) -> None:
        """Called by the Learner when the epoch's training has ended."""
        self.curve.validation()

    def after_epoch(self) -> None:
        """Called by the Learner after the epoch's validation."""
        self.curve.epoch(self.recorder.values[-1][-1])


def main() -> None:
    args = options(__doc__).parse_args()
    curve = Curve()
    curve.mark("import")

    def squeezenet(weights: Any = None) -> torch.nn.Module:
        """torchvision's network with the weights of the file, whatever fastai would have fetched."""
        model = models.squeezenet1_1()
        model.load_state_dict(torch.load(args.weights, weights_only=True))
        return model

    model_meta[squeezenet] = model_meta[models.squeezenet1_1]
    set_seed(args.seed)
    loaders = ImageDataLoaders.from_folder(
        args.data,
        train="train",
        valid="val",
        item_tfms=Resize(224),
        batch_tfms=aug_transforms(),
        bs=args.batch or 64,
        num_workers=args.workers,
    )
    learner = vision_learner(loaders, squeezenet, metrics=accuracy)
    curve.mark("load")
    learner.fine_tune(args.epochs, cbs=Note(curve))
    curve.finish()


if __name__ == "__main__":
    main()
