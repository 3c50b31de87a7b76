"""Make the pictures of docs/explain.md from real runs: `python docs/make_explain.py [digits] [mnist] [photos]`.

digits needs nothing, mnist the four files of MNIST (`--data-root`), photos the SqueezeNet 1.1 weights of ImageNet
(`--weights`); without words those parts are made whose files are there. The photo is one that scikit-learn brings along
and that anybody may show who names its author, Vultilion (CC BY); `--photo` takes another, and `--images` says where
pictures of one that must not be shown around go.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

import striate
from striate.explanation.figures import save_figure, side_by_side
from striate.explanation.preferred import preferred_inputs
from striate.explanation.views.preferred import view_of
from striate.models.cut import places
from striate.options.explain import ExplainOptions
from striate.progress import Console
from striate.spec import RunResult

ANIMALS = ("goldfish", "flamingo", "zebra", "monarch", "sea anemone", "daisy")
DEPTHS = {"stem": (5, 20, 38), "fire4": (20, 33, 77), "fire6": (61, 90, 150), "fire9": (97, 200, 340)}
COLOURS, WIDE = 256, 1300  # of a picture of photos: a third of the bytes, hardly a difference


def digits(images: Path) -> None:
    """LeNet-5 on `digits`: every method for one digit, the deconvnet of each layer, and what the network itself is."""
    with TemporaryDirectory() as folder:
        result = striate.train("digits", model="lenet5_dense", epochs=10, runs=folder, progress=False, report=False)
        assert isinstance(result, RunResult)
        network = striate.load(result.run, progress=False)
        digit = striate.load_data("digits", progress=False).splits["val"].images.raw(4)
        found = striate.explain(network, digit, "all", progress=False)
        keep(side_by_side(found), images / "explain-methods.png")
        layers = [place for place in places(network.model) if not place.startswith("head.")]
        deconvnet = [striate.explain(network, digit, "deconvnet", layer, progress=False)[0] for layer in layers]
        keep(side_by_side(deconvnet), images / "explain-deconvnet.png")
        show(network, images, "digits", "preferred")
        show(network, images, "digits-c3", "preferred", layer="c3", most=16)
        show(network, images, "digits", "strongest", layer="c3", most=6)
        show(network, images, "digits", "codes")


def mnist(images: Path, root: Path) -> None:
    """LeNet-5 on MNIST: the worst mistakes, and what each digit's output would most like to see."""
    with TemporaryDirectory() as folder:
        result = striate.train(
            "mnist", data_root=str(root), model="lenet5_dense", epochs=3, runs=folder, progress=False, report=False
        )
        assert isinstance(result, RunResult)
        network = striate.load(result.run, progress=False)
        with np.load(result.run / "pictures.npz") as kept:
            keep(mistakes(dict(kept)), images / "explain-mistakes-mnist.png")
        show(network, images, "mnist", "preferred")


def photos(images: Path, weights: Path, photo: Path | None) -> None:
    """SqueezeNet of ImageNet: what classes and maps of each depth want to see, and a photo explained."""
    network = striate.load(f"squeezenet1_1:{weights}", progress=False)
    if photo is None:
        from sklearn.datasets import load_sample_image

        picture = load_sample_image("flower.jpg")
    else:
        picture = photo
    found = striate.explain(network, picture, ["gradcam", "smoothgrad", "guided-backprop", "occlusion"], progress=False)
    keep(side_by_side(found), images / "explain-photo.png", photo=True)
    show(network, images, "photo", "field", picture, layer="fire6", photo=True)
    saved, options = network.saved, ExplainOptions(ascent_steps=128)
    numbers = [saved.labels.index(name) for name in ANIMALS]
    found = preferred_inputs(saved, None, numbers, options, progress=Console())
    keep(view_of(list(found), "SqueezeNet 1.1").figure(), images / "explain-preferred-photos.png", photo=True)
    found = []
    for layer, maps in DEPTHS.items():
        for one in preferred_inputs(saved, layer, maps, options, progress=Console()):
            found.append(replace(one, label=f"{layer}, {one.label}", layer="four depths"))
    keep(view_of(found, "SqueezeNet 1.1").figure(), images / "explain-preferred-depths.png", photo=True, wide=830)


def show(
    network: object,
    images: Path,
    name: str,
    what: str,
    picture: object = None,
    *,
    photo: bool = False,
    **settings: object,
) -> None:
    """One view of a network as `explain-WHAT-NAME.png`."""
    view = striate.explain(network, picture, show=what, progress=False, **settings)[0]
    keep(view.figure(), images / f"explain-{what}-{name}.png", photo=photo)


def mistakes(kept: dict[str, np.ndarray]) -> object:
    """The worst mistakes of a run, three panels each, as its report shows them."""
    from striate.explanation.views.canvas import MARGIN, Canvas

    columns, side, gap = 3, 0.95, 0.06
    count, pitch, row = min(9, len(kept["looked"])), 3 * (side + gap) + 0.28, side + 0.42
    canvas = Canvas(2 * MARGIN + columns * pitch - 0.28, 0.72 + -(-count // columns) * row)
    canvas.title(
        "The worst mistakes of LeNet-5 on MNIST", "the image; what speaks for the digit said; for the digit it is"
    )
    for number in range(count):
        left, top = MARGIN + number % columns * pitch, 0.72 + number // columns * row
        pictures = kept["worst"][number].repeat(3, axis=2), *kept["looked"][number]
        words = "", *(f"for {one}" for one in kept["looked_classes"][number])
        for place, (one, text) in enumerate(zip(pictures, words, strict=True)):
            canvas.tile(one, left + place * (side + gap), top, side, side)
            canvas.text(text, left + place * (side + gap), top + side + 0.03, 7.5)
    return canvas.figure


def keep(figure: object, path: Path, *, photo: bool = False, wide: int = WIDE) -> None:
    """As a small PNG: photos of few colours, mixed from dots; others keep theirs, which mean something."""
    save_figure(figure, path)
    with Image.open(path) as picture:
        colours = picture.convert("RGB")
    if photo:
        palette = colours.quantize(COLOURS)
        if colours.width > wide:
            colours = colours.resize((wide, colours.height * wide // colours.width), Image.Resampling.LANCZOS)
        colours = colours.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    colours.save(path, optimize=True)
    print(path.name, path.stat().st_size // 1000, "kB")


def main(words: Iterable[str] | None = None) -> None:
    """Make the parts that are named, or those whose data are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], "digits", "mnist", "photos"])
    parser.add_argument("--data-root", type=Path, default="../shared/data")
    parser.add_argument("--weights", type=Path, default="../shared/data/weights/squeezenet1_1_caffe_rgbnorm.pth")
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--images", type=Path, default=Path(__file__).with_name("images"))
    asked = parser.parse_args(None if words is None else list(words))
    there = ["digits"] + ["mnist"] * (asked.data_root / "mnist").is_dir() + ["photos"] * asked.weights.is_file()
    for part in asked.parts or there:
        if part == "digits":
            digits(asked.images)
        elif part == "mnist":
            mnist(asked.images, asked.data_root)
        else:
            photos(asked.images, asked.weights, asked.photo)


if __name__ == "__main__":
    main()
