"""MNIST the way fastai users usually write it: folders of PNG files, DataLoaders, a Learner, one-cycle training."""

from __future__ import annotations

from fastai.vision.all import (
    Callback,
    CancelFitException,
    ImageDataLoaders,
    Learner,
    Normalize,
    PILImageBW,
    accuracy,
    set_seed,
)
from record import Record, options
from torch import nn


def lenet5() -> nn.Module:
    """The LeNet-5 of today: dense C3, ReLU, max-pooling; padded so that 28x28 images fit."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


class StopAtTarget(Callback):
    """Note each epoch's test accuracy and end the training at the target."""

    order = 60  # after the Recorder (50), which computes the metrics

    def __init__(self, record: Record) -> None:
        self.record = record

    def after_epoch(self) -> None:
        """Called by the Learner after the epoch's validation."""
        if self.record.epoch(self.recorder.values[-1][-1]):
            raise CancelFitException


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--cycle", type=int, default=3, help="epochs of one cycle; repeated until the target is met")
    parser.add_argument("--lr", type=float, default=1e-2, help="peak learning rate of the cycle")
    args = parser.parse_args()
    record = Record(args.target, args.max_epochs)
    record.mark("import")

    set_seed(args.seed)
    loaders = ImageDataLoaders.from_folder(
        args.data,
        train="training",
        valid="testing",
        img_cls=PILImageBW,
        bs=64,
        batch_tfms=Normalize.from_stats([0.1307], [0.3081]),
    )
    if args.limit:
        for loader in loaders.loaders:
            loader.n = args.limit
    learner = Learner(loaders, lenet5(), metrics=accuracy)
    record.mark("load")

    while not record.reached and len(record.accuracies) < args.max_epochs:
        learner.fit_one_cycle(args.cycle, args.lr, cbs=StopAtTarget(record))
    record.finish()


if __name__ == "__main__":
    main()
