"""What `transfer_plan.py` transfers: networks that know something, and sets of other sizes and kinds to teach them.

Sizes are chosen so that all cases together take about two hours on one core: photos come to 128 pixels (64 for
the network of small images), small images to 48 for the ImageNet network, and the epochs are enough to tell the
scenarios apart, not to bring out the last tenth of each.
"""

from __future__ import annotations

from dataclasses import dataclass

SCENARIOS = ("blend", "svm", "softmax", "keep", "head", "top", "all", "scratch")
KEEP = "keep"  # only where the network knows the classes
PLAN = "plan"
RENAMED = "photos, renamed"
TRAINED = ("head", "top", "all", "scratch")  # by gradients
GROWTH_SCALES = (0.25, 1.0)  # parts of the epochs between which --growth looks how errors fall


@dataclass(frozen=True)
class Source:
    """A network to start from: a file of weights under `DATA/weights`, or a training of our own."""

    weights: str | None = None  # MODEL:FILE
    train: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A set to learn from a source; the settings are the same for the plan and for every scenario.

    Args:
        source: of SOURCES.
        data: a named set, or a folder under DATA; of the classes of `photos` ImageNet networks know all by name, which
            RENAMED takes from them.
        epochs: of everything that trains by gradients.
        settings: flags of `striate train`.
        learn: photos to learn from, of each class as many, drawn anew for every seed and split; all others are scored.
            None: as the folder has them.
        parts: further flags, for trainings one after the other that are counted together: folds, where images are few.
        splits: as many divisions, each by its own split seed, are counted together, too.
        known: whether the network's own head knows the classes.
    """

    source: str
    data: str
    epochs: int
    settings: tuple[str, ...] = ()
    learn: int | None = None
    parts: tuple[tuple[str, ...], ...] = ((),)
    splits: int = 1
    known: bool = False

    @property
    def scenarios(self) -> tuple[str, ...]:
        """All that there are for it."""
        return tuple(one for one in SCENARIOS if self.known or one != KEEP)


SOURCES = {
    "imagenet": Source(weights="squeezenet1_1:squeezenet1_1_caffe_rgbnorm.pth"),
    "cifar10-resnet20": Source(weights="cifar_resnet20:resnet20-12fca82f.th"),
    "cifar10-compact": Source(train=("cifar10", "--model", "compact_l", "--epochs", "2")),
    "mnist-compact": Source(train=("mnist", "--model", "compact_s", "--epochs", "3")),
}


def side(pixels: int) -> tuple[str, ...]:
    """Settings: what the network sees."""
    return ("--input-size", str(pixels))


def named(limit: int, *more: str) -> tuple[str, ...]:
    """Settings of a named set: some training images; 1 % held out for validation, since the test images are scored."""
    return ("--limit", str(limit), "--val-fraction", "0.01", *more)


SMALL = ("--input-size", "48")
FIFTHS = tuple(("--fold", f"{number}/5") for number in range(1, 6))
HALVES = (("--fold", "1/2"), ("--fold", "2/2"))
CASES = {
    "photos-900-imagenet": Case("imagenet", RENAMED, 12, side(128), learn=900, splits=3),
    "photos-300-imagenet": Case("imagenet", RENAMED, 25, side(128), learn=300),
    "photos-100-imagenet": Case("imagenet", RENAMED, 40, side(128), learn=100),
    "photos-50-imagenet": Case("imagenet", RENAMED, 60, side(128), learn=50),
    "photos-100-imagenet-known": Case("imagenet", "photos", 40, side(128), learn=100, known=True),
    "photos-900-cifar10": Case("cifar10-resnet20", "photos", 15, side(64)),
    "photos-300-cifar10": Case("cifar10-resnet20", "photos", 30, side(64), learn=300),
    "insects-20-imagenet": Case("imagenet", "photos_fullsize", 60, side(128), parts=HALVES, splits=5),
    "digits-1437-mnist": Case("mnist-compact", "digits", 30, parts=FIFTHS, known=True),
    "digits-300-cifar10": Case("cifar10-resnet20", "digits", 40, ("--limit", "300", "--val-fraction", "0.7")),
    "digits-100-cifar10": Case("cifar10-resnet20", "digits", 60, ("--limit", "100", "--val-fraction", "0.9")),
    "mnist-100-cifar10": Case("cifar10-resnet20", "mnist", 60, named(100)),
    "mnist-300-imagenet": Case("imagenet", "mnist", 25, named(300, *SMALL)),
    "mnist-1000-cifar10": Case("cifar10-compact", "mnist", 20, named(1000)),
    "mnist-1000-imagenet": Case("imagenet", "mnist", 15, named(1000, *SMALL)),
    "mnist-10000-cifar10": Case("cifar10-resnet20", "mnist", 8, named(10_000)),
    "cifar10-1000-mnist": Case("mnist-compact", "cifar10", 30, named(1000)),
    "cifar10-300-imagenet": Case("imagenet", "cifar10", 30, named(300, *SMALL)),
    "cifar10-1000-imagenet": Case("imagenet", "cifar10", 20, named(1000, *SMALL)),
    "cifar10-10000-imagenet": Case("imagenet", "cifar10", 5, named(10_000, *SMALL)),
}
QUICK = ("photos-100-imagenet", "digits-1437-mnist", "digits-100-cifar10", "mnist-100-cifar10", "cifar10-1000-mnist")
