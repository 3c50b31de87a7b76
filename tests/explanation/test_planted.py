"""A network that was taught to read a patch: its maps point at the patch, and random weights' maps do not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.data import load_data
from striate.explanation.attribution import METHODS, Question
from striate.explanation.undisturbed import undisturbed
from striate.models import ConvNet, create_model
from striate.options import DataOptions
from striate.options.explain import ExplainOptions
from striate.spec import InputSpec

SIDE, PATCH, CLASSES = 28, 7, 3
SPEC = InputSpec(size=(SIDE, SIDE), channels=1)
CORNERS = ((0, 0), (0, SIDE - PATCH), (SIDE - PATCH, 0), (SIDE - PATCH, SIDE - PATCH))
TESTED = 40


EVERYDAY = ("gradcam", "occlusion")
every_method = pytest.mark.parametrize(
    "method", [one if one in EVERYDAY else pytest.param(one, marks=pytest.mark.slow) for one in METHODS]
)


def patterns() -> Tensor:
    """Lines down, lines across, chequers; each half black, half white."""
    row, column = torch.meshgrid(torch.arange(PATCH), torch.arange(PATCH), indexing="ij")
    return torch.stack([column % 4 < 2, row % 4 < 2, (row % 4 < 2) ^ (column % 4 < 2)]).float() * 2 - 1


def decoy() -> Tensor:
    """Lines aslant: no class has them."""
    row, column = torch.meshgrid(torch.arange(PATCH), torch.arange(PATCH), indexing="ij")
    return ((row + column) % 4 < 2).float() * 2 - 1


def planted(count: int, seed: int) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """Digits with a pattern in a corner, which alone tells the class, and in another a decoy of the same contrast."""
    generator = np.random.default_rng(seed)
    split = load_data(DataOptions(data="digits")).splits["train"]
    rows = generator.choice(len(split), count, replace=False)
    images = split.images.take(rows, SPEC).float() / 127.5 - 1
    targets = torch.from_numpy(generator.integers(0, CLASSES, count))
    places = [generator.permutation(4)[:2] for _ in range(count)]
    corners = [CORNERS[place[0]] for place in places]
    for image, target, place in zip(images, targets, places, strict=True):
        for corner, pattern in zip(place, (patterns()[target], decoy()), strict=True):
            top, left = CORNERS[corner]
            image[0, top : top + PATCH, left : left + PATCH] = pattern
    return images, targets, corners


@pytest.fixture(scope="module")
def network() -> ConvNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("compact_s", classes=CLASSES, in_channels=1, input_size=SIDE).train()
        images, targets, _ = planted(600, seed=0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(8):
            for rows in torch.randperm(len(images)).split(50):
                optimizer.zero_grad()
                F.cross_entropy(model(images[rows]), targets[rows]).backward()
                optimizer.step()
    return model.eval()


def maps_of(model: ConvNet, method: str, images: Tensor, targets: Tensor) -> Tensor:
    """One [H, W] for each image, blurred a little where single pixels make the map."""
    with undisturbed(model):
        question = Question(
            model=model, images=images, targets=targets, options=ExplainOptions(window=PATCH, stride=PATCH, steps=16)
        )
        maps = METHODS[method].ask(question).maps
    if maps.ndim == 4:
        maps = F.avg_pool2d(maps.abs().sum(1, keepdim=True), 3, 1, 1)[:, 0]
    return maps


def hits(maps: Tensor, corners: list[tuple[int, int]]) -> float:
    """The share of maps whose maximum lies in the patch."""
    found = 0
    for one, (top, left) in zip(maps, corners, strict=True):
        row, column = divmod(int(one.argmax()), SIDE)
        found += top <= row < top + PATCH and left <= column < left + PATCH
    return found / len(corners)


def test_the_network_reads_the_patch(network):
    images, targets, _ = planted(TESTED, seed=1)
    assert (network(images).argmax(1) == targets).float().mean() > 0.95


@every_method
def test_maps_point_at_the_patch(network, method):
    if method == "integrated-gradients":
        pytest.importorskip("captum", reason="integrated gradients are computed by Captum")
    images, targets, corners = planted(TESTED, seed=1)
    rate = hits(maps_of(network, method, images, targets), corners)
    print(f"{method}: {rate:.0%} of {TESTED} maxima in the patch")
    assert rate >= 0.85


def test_occlusion_and_gradcam_agree(network):
    images, targets, _ = planted(TESTED, seed=1)
    first, second = (maps_of(network, method, images, targets) for method in ("occlusion", "gradcam"))
    peaks = [torch.tensor([divmod(int(one.argmax()), SIDE) for one in maps]) for maps in (first, second)]
    apart = (peaks[0] - peaks[1]).abs().amax(1)
    assert (apart <= PATCH).float().mean() >= 0.9


@every_method
def test_random_weights_change_the_map(network, method):
    """Adebayo et al. 2018, arXiv:1810.03292: a map that does not depend on the weights explains nothing."""
    if method == "integrated-gradients":
        pytest.importorskip("captum", reason="integrated gradients are computed by Captum")
    images, targets, corners = planted(TESTED, seed=1)
    torch.manual_seed(3)
    other = create_model("compact_s", classes=CLASSES, in_channels=1, input_size=SIDE).eval()
    trained, random = (maps_of(model, method, images, targets) for model in (network, other))
    rates = hits(trained, corners), hits(random, corners)
    assert rates[1] < 0.75  # the patch or the decoy, whichever it happens to be
    assert rates[0] - rates[1] > 0.2
