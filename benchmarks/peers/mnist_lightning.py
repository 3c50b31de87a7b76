"""MNIST the way Lightning users usually write it: a LightningModule, torchvision's data set in a DataLoader, a Trainer.

Optimiser and schedule are those of Lightning's own image classifier example, which are PyTorch's. The Trainer is told
to leave out what this task has no use for: logger, checkpoints, progress bar, summary and the check of two batches.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from record import Record, options
from torch import nn, optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


class LeNet5(lightning.LightningModule):
    """The LeNet-5 of today: dense C3, ReLU, max-pooling; padded so that 28x28 images fit."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
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
        self.correct = self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 1, 28, 28] to logits [B, 10]."""
        return self.layers(x)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Loss of one batch."""
        images, targets = batch
        return F.cross_entropy(self(images), targets)

    def on_validation_epoch_start(self) -> None:
        """Count anew: whole numbers, since a mean of float32 shares may miss the target by rounding."""
        self.correct = self.seen = 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Count the right answers of one batch."""
        images, targets = batch
        self.correct += int((self(images).argmax(dim=1) == targets).sum())
        self.seen += len(targets)

    def configure_optimizers(self) -> Any:
        """Adadelta, its rate falling by three tenths after each epoch."""
        optimizer = optim.Adadelta(self.parameters(), lr=1.0)
        return [optimizer], [StepLR(optimizer, step_size=1, gamma=0.7)]


class StopAtTarget(lightning.Callback):
    """Note each epoch's test accuracy and end the training at the target."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Called by the Trainer after the epoch's validation."""
        trainer.should_stop = self.record.epoch(pl_module.correct / pl_module.seen)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--workers", type=int, default=0, help="loader processes; without a GPU the example has none")
    args = parser.parse_args()
    record = Record(args.target, args.max_epochs)
    record.mark("import")

    lightning.seed_everything(args.seed)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train_set = datasets.MNIST(args.data, train=True, transform=transform)
    test_set = datasets.MNIST(args.data, train=False, transform=transform)
    if args.limit:
        train_set, test_set = Subset(train_set, range(args.limit)), Subset(test_set, range(args.limit))
    workers = {"num_workers": args.workers, "persistent_workers": True} if args.workers else {}
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=args.max_epochs,
        callbacks=[StopAtTarget(record)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    loaders = (
        DataLoader(train_set, batch_size=64, shuffle=True, **workers),
        DataLoader(test_set, batch_size=1000, **workers),
    )
    record.mark("load")

    trainer.fit(LeNet5(), *loaders)
    record.finish()


if __name__ == "__main__":
    main()
