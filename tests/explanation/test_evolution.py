"""Features over the snapshots of a run: the pictures are those of each snapshot's own weights."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import striate
from striate.checkpoint import load_model
from striate.cli.main import striate as command
from striate.data.given import pixels_or_reason
from striate.data.normalise import normalise
from striate.errors import UsageError
from striate.explanation.animation import save_animation
from striate.explanation.attribution import reconstruct
from striate.explanation.chosen import found_images
from striate.explanation.figures import as_pixels
from striate.explanation.places import find_place
from striate.explanation.undisturbed import undisturbed
from striate.explanation.views.evolution import Evolution, _columns, snapshots_of
from striate.network import open_network

EPOCHS = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    settings = {"activation": "relu", "pooling": "max", "ema": 0.9, "threads": 1, "limit": 400}
    return striate.train(
        "digits",
        model="lenet5_dense",
        epochs=EPOCHS,
        snapshots=1,
        runs=folder,
        progress=False,
        report=False,
        **settings,
    ).run


@pytest.fixture(scope="module")
def digits() -> list[np.ndarray]:
    images = striate.load_data("digits", progress=False).splits["val"].images
    return [images.raw(row) for row in range(40)]


def test_filters_are_those_of_the_snapshots_at_one_contrast(run, digits):
    filters = striate.explain(run, digits, show="evolution", progress=False)[0]
    assert isinstance(filters, Evolution)
    assert (filters.what, filters.epochs) == ("filters", (1, 2, 3))
    kernels = [load_model(path).model.get_submodule(filters.layer).weight.detach().numpy()[:, 0] for path in files(run)]
    tops = np.abs(kernels).max((0, 2, 3))
    for pictures, weights in zip(filters.pictures, kernels, strict=True):
        for number, picture in zip(filters.shown, pictures, strict=True):
            np.testing.assert_allclose((picture - 0.5) * 2 * tops[number], weights[number], atol=1e-6)
    cosine = (kernels[0] * kernels[-1]).sum() / np.linalg.norm(kernels[0]) / np.linalg.norm(kernels[-1])
    assert filters.likeness == pytest.approx((cosine, filters.likeness[1], 1.0), abs=1e-6)
    assert not np.allclose(filters.pictures[0], filters.pictures[-1])


def files(run):
    return snapshots_of(open_network(str(run)))


@pytest.mark.parametrize("layer", ["s2", "c5"])
def test_pictures_are_the_deconvnets_of_the_strongest_image_of_each_snapshot(run, digits, layer):
    [view] = striate.explain(run, digits, show="evolution", layer=layer, most=3, progress=False)
    winners = []
    for epoch, path in enumerate(files(run)):
        saved = load_model(path)
        stored = [pixels_or_reason(one, saved.spec) for one in digits]
        images = normalise(torch.from_numpy(np.stack(stored)), saved.spec)
        place = find_place(saved.model, layer)
        each = []
        for number in view.shown:
            with undisturbed(saved.model):
                answer = reconstruct(saved.model, images, place, [number] * len(images))
            best = int(np.argmax([unit.value for unit in answer.units]))
            each.append(best)
            whole = as_pixels(answer.maps[best].detach().numpy())
            picture = view.pictures[epoch][len(each) - 1]
            if picture.shape[:2] == whole.shape[:2]:  # the unit sees the whole image
                np.testing.assert_allclose(picture[..., 0], whole[..., 0], atol=5e-3)  # the contrast is a percentile
            elif answer.units[best].value > 0:
                assert np.ptp(picture[..., 0][picture[..., 3] > 0]) > 0
        winners.append(each)
    assert view.jumps[0] == [False] * 3
    for before, now, jumps in zip(winners[:-1], winners[1:], view.jumps[1:], strict=True):
        assert jumps == [one != other for one, other in zip(before, now, strict=True)]
    assert view.likeness[-1] == 1.0


def test_the_network_stays_as_it_is(run, digits):
    saved = open_network(str(run))
    before = {name: value.clone() for name, value in saved.model.state_dict().items()}
    striate.explain(saved, digits[:8], show="evolution", layer="s2", unit=0, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in saved.model.state_dict().items())


def test_a_snapshot_is_of_its_run(run):
    own, of_run = (found_images(saved, ()) for saved in (load_model(files(run)[0]), open_network(str(run))))
    assert own.names == of_run.names
    assert len(own.names) > 0


def test_the_command_writes_strips_and_animations(run, tmp_path):
    words = ["explain", str(run), "--show", "evolution", "--layer", "s2", "--format", "svg", "--json"]
    result = CliRunner().invoke(command, [*words, "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    [view] = json.loads(result.stdout)["views"]
    assert view["epochs"] == [1, 2, 3]
    assert [file.rsplit(".", 1)[1] for file in view["files"]] == ["svg", "gif"]
    with Image.open(view["files"][1]) as animation:
        assert animation.n_frames == EPOCHS
        assert animation.info["loop"] == 0


def test_the_same_figures_give_the_same_bytes(run, digits, tmp_path):
    [view] = striate.explain(run, digits, show="evolution", layer="s2", unit=1, progress=False)
    one, other = (save_animation(view.frames(), tmp_path / f"{name}.gif").read_bytes() for name in "ab")
    assert one == other


def test_what_has_no_evolution_is_refused(tmp_path, digits):
    with pytest.raises(UsageError, match="only a run"):
        striate.explain("lenet5_dense", digits, show="evolution", progress=False)
    settings = {"limit": 64, "epochs": 1, "report": False, "progress": False, "threads": 1}
    other = striate.train("digits", model="compact_s", runs=tmp_path, **settings).run
    with pytest.raises(UsageError, match="no snapshots"):
        striate.explain(other, digits, show="evolution", progress=False)


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 12, 20, 64, 300])
def test_a_strip_shows_early_epochs_and_the_last(count):
    columns = _columns(count)
    assert columns[0] == 0
    assert columns[-1] == count - 1
    assert columns == sorted(set(columns))
    assert len(columns) == min(count, 10)
