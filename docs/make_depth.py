"""Make the pictures of docs/depth.md from trainings on `digits`: `python docs/make_depth.py`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from matplotlib.figure import Figure
from PIL import Image

import striate
from striate.explanation.animation import save_animation
from striate.explanation.figures import save_figure
from striate.models import ConvNet, create_model
from striate.runfolder import RunFolder
from striate.spec import RunResult

IMAGES = Path(__file__).with_name("images")
COLOURS = 96  # of a picture: grey and an orange need no more


def stack(shortcut: str, activation: str) -> ConvNet:
    """32 layers in residual units, whose sums are left as they are, or without shortcuts in a plain row."""
    torch.manual_seed(0)
    return create_model(
        "preact_resnet110", classes=10, in_channels=1, input_size=8, widths=(16, 16), depths=(8, 8), unit="basic",
        shortcut=shortcut, activation=activation, normalization="none",
    )  # fmt: skip


def gradients(folder: Path) -> Figure:
    """The gradient by depth of three networks of the same layers, before the first epoch and after the third."""
    cases = {
        "ReLU, plain": ("none", "relu", "#4477aa"),
        "sigmoid, residual": ("A", "sigmoid", "#228833"),
        "sigmoid, plain": ("none", "sigmoid", "#cc6633"),
    }
    figure = Figure(figsize=(7.2, 3.4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for name, (shortcut, activation, colour) in cases.items():
        result = striate.train(
            "digits", model=stack(shortcut, activation), epochs=3, lr=0.01, batch_size=64, record="depth",
            run_dir=str(folder / name.replace(", ", "-")), report=False, progress=False, device="cpu",
        )  # fmt: skip
        assert isinstance(result, RunResult)
        rows = RunFolder(result.run).read_depth()
        for row, style in ((rows[0], "--"), (rows[-1], "-")):
            norms = [one["gradient"] for one in row["layers"]]
            points = [(place, norm) for place, norm in enumerate(norms, 1) if norm]
            words = name + (" · at the start" if row is rows[0] else f" · after epoch {row['epoch']}")
            axes.semilogy(*zip(*points, strict=True), style, color=colour, linewidth=1.6, label=words)
    axes.set_xlabel("layer, from the image up")
    axes.set_ylabel("norm of the gradient")
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def evolution(folder: Path) -> None:
    """LeNet-5 with ReLU over 20 epochs: a strip of a deep layer and an animation of a lower one."""
    result = striate.train(
        "digits", model="lenet5_dense", activation="relu", pooling="max", epochs=20, lr=0.02, batch_size=64,
        snapshots=1, run_dir=str(folder / "evolution"), report=False, progress=False, device="cpu",
    )  # fmt: skip
    assert isinstance(result, RunResult)
    network = striate.load(result.run, progress=False)
    [strip] = striate.explain(network, None, show="evolution", layer="c5", most=6, progress=False)
    keep(strip.figure(), IMAGES / "depth-evolution.png")
    [moving] = striate.explain(network, None, show="evolution", layer="s4", most=6, progress=False)
    save_animation(moving.frames()[1::2], IMAGES / "depth-evolution.gif", seconds=0.45)


def keep(figure: Figure, path: Path) -> None:
    """As PNG of few colours."""
    save_figure(figure, path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Both trainings and their pictures."""
    with TemporaryDirectory() as folder:
        keep(gradients(Path(folder)), IMAGES / "depth-gradients.png")
        evolution(Path(folder))


if __name__ == "__main__":
    main()
