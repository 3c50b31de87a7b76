"""What the transfer peers share: their options, accuracy by epoch on the clock of the process, one JSON line."""

from __future__ import annotations

import argparse
import json

from record import seconds_since_start


def options(description: str | None) -> argparse.ArgumentParser:
    """The options all of them have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train/CLASS/*.jpg and val/CLASS/*.jpg")
    parser.add_argument("--weights", required=True, help="state dict of torchvision's squeezenet1_1")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch", type=int, help="images in a batch [the usual number]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="loader processes")
    return parser


class Curve:
    """Validation accuracy by epoch, and the seconds since the process started; the phases before the first epoch."""

    def __init__(self) -> None:
        self.accuracies: list[float] = []
        self.seconds: list[float] = []
        self.phases: dict[str, float] = {}
        self.validating = 0.0  # of all epochs
        self._validation_start = 0.0

    def mark(self, phase: str) -> None:
        """Everything since the last mark belongs to `phase`."""
        self.phases[phase] = round(seconds_since_start() - sum(self.phases.values()), 3)

    def validation(self) -> None:
        """A validation begins; it ends with the epoch."""
        self._validation_start = seconds_since_start()

    def epoch(self, accuracy: float) -> None:
        """Note an epoch that has ended with this validation accuracy."""
        self.validating += seconds_since_start() - self._validation_start
        self.accuracies.append(float(accuracy))
        self.seconds.append(round(seconds_since_start(), 3))
        print(f"epoch {len(self.accuracies)}: {accuracy:.4f} after {self.seconds[-1]:.1f} s", flush=True)

    def finish(self) -> None:
        """Print the JSON line that the driver reads."""
        line: dict[str, object] = {"accuracies": self.accuracies, "epoch_ends": self.seconds, "phases": self.phases}
        line["validating"] = round(self.validating, 3)
        print(json.dumps(line | {"total": round(seconds_since_start(), 3)}), flush=True)
