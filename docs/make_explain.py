"""Make the pictures of docs/explain.md by a training on `digits`: `python docs/make_explain.py`."""

from pathlib import Path
from tempfile import TemporaryDirectory

import striate
from striate.explanation.figures import save_figure, side_by_side
from striate.models.cut import places
from striate.spec import RunResult

IMAGES = Path(__file__).with_name("images")


def main() -> None:
    """One figure with every method for one digit, one with the deconvnet of each layer."""
    with TemporaryDirectory() as folder:
        result = striate.train("digits", model="lenet5_dense", epochs=10, runs=folder, progress=False, report=False)
        assert isinstance(result, RunResult)
        network = striate.load(result.run, progress=False)
        digit = striate.load_data("digits", progress=False).splits["val"].images.raw(4)
        found = striate.explain(network, digit, "all", progress=False)
        save_figure(side_by_side(found), IMAGES / "explain-methods.png")
        layers = [place for place in places(network.model) if not place.startswith("head.")]
        deconvnet = [striate.explain(network, digit, "deconvnet", layer, progress=False)[0] for layer in layers]
        save_figure(side_by_side(deconvnet), IMAGES / "explain-deconvnet.png")


if __name__ == "__main__":
    main()
