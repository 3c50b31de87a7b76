"""Views of the network itself: filters, maps, strongest images, fields and codes, as numbers and as figures."""

import json
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import striate
from striate.checkpoint import SavedModel
from striate.cli.main import striate as command
from striate.errors import DataError, MissingExtraError, ModelError, UsageError
from striate.explanation.chosen import found_images
from striate.explanation.places import find_place
from striate.explanation.views.codes import codes_of_images
from striate.explanation.views.filters import filters_of
from striate.explanation.views.reading import batches
from striate.explanation.views.receptive import effective_fields
from striate.explanation.views.strongest import search, strongest_images
from striate.models import create_model
from striate.spec import InputSpec, Labels

NAMES = ("ant", "bee", "cat", "dog")


def lenet(channels: int = 1) -> SavedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("lenet5_dense", classes=4, in_channels=channels, input_size=32).eval()
    return SavedModel(model=model, spec=InputSpec(size=(32, 32), channels=channels), labels=Labels(NAMES))


def test_filters_are_the_kernels_of_the_first_convolution_as_pictures():
    saved = lenet(3)
    [shown] = striate.explain(saved, show="filters", progress=False)
    weights = saved.model.stem.c1.conv.weight.detach().numpy()
    np.testing.assert_array_equal(shown.weights, weights)
    tiles = shown.tiles()
    assert tiles.shape == (6, 5, 5, 3)
    assert tiles.min() >= 0
    assert tiles.max() <= 1
    for tile, kernel in zip(tiles, weights, strict=True):  # 0 is mid-grey, and the order is kept
        np.testing.assert_allclose((tile - 0.5) * 2 * np.abs(kernel).max(), kernel.transpose(1, 2, 0), atol=1e-6)
    np.testing.assert_allclose(shown.norms, np.linalg.norm(weights.reshape(6, -1), axis=1), rtol=1e-5)


def test_filters_of_a_network_that_wants_blue_first_are_shown_in_true_colours():
    saved = lenet(3)
    spec = InputSpec(size=(32, 32), channels=3, channel_order="BGR")
    np.testing.assert_array_equal(filters_of(saved.model, spec=spec).weights, filters_of(saved.model).weights[:, ::-1])


def test_the_first_layer_is_the_one_that_runs_first():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.late, self.early = nn.Conv2d(4, 2, 3), nn.Conv2d(1, 4, 5)
            self.architecture = type("Record", (), {"in_channels": 1, "input_size": (16, 16)})()

        def forward(self, images):
            return self.late(self.early(images)).mean((2, 3))

    assert filters_of(Backwards()).layer == "early"
    assert filters_of(Backwards(), "late").weights.shape == (2, 4, 3, 3)
    with pytest.raises(ModelError, match="no kernels"):
        filters_of(nn.Linear(2, 2))


def test_a_dead_filter_is_grey():
    saved = lenet()
    saved.model.stem.c1.conv.weight.data[2] = 0
    shown = filters_of(saved.model)
    assert shown.norms[2] == 0
    assert np.all(shown.tiles()[2] == 0.5)


def run(*words: str):
    return CliRunner().invoke(command, ["explain", *map(str, words)])


@pytest.fixture
def file(tmp_path):
    from striate.checkpoint import save_model

    saved = lenet()
    save_model(tmp_path / "model.safetensors", saved.model, saved.spec, saved.labels)
    return tmp_path / "model.safetensors"


def test_the_command_writes_what_is_shown(file, tmp_path):
    result = run(
        file, "--show", "filters", "--output", tmp_path / "out", "--format", "svg", "--format", "png", "--json"
    )
    assert result.exit_code == 0, result.stderr
    [view] = json.loads(result.stdout)["views"]
    assert (view["show"], view["layer"], view["shape"]) == ("filters", "stem.c1.conv", [6, 1, 5, 5])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "filters-stem.c1.conv.png",
        "filters-stem.c1.conv.svg",
    ]


# maps and strongest images --------------------------------------------------------------------------------------------


class Stripes(nn.Module):
    """Map 0 answers to a vertical stripe of three rows, map 1 to a horizontal one, map 2 to nothing."""

    def __init__(self, size: int = 20) -> None:
        super().__init__()
        self.detect = nn.Conv2d(1, 3, 5, padding=2)
        vertical = torch.full((5, 5), -0.25)
        vertical[:, 2] = 1.0
        self.detect.weight.data[:, 0] = torch.stack([vertical, vertical.T, torch.zeros(5, 5)])
        self.detect.bias.data[:] = -1.0
        self.relu = nn.ReLU()
        self.linear = nn.Linear(3, 4)
        self.architecture = type("Record", (), {"in_channels": 1, "input_size": (size, size), "title": "stripes"})()
        self.fed: list[torch.Tensor] = []

    def forward(self, images):
        self.fed.append(images.detach().clone())
        return self.linear(self.relu(self.detect(images)).mean((2, 3)))


@pytest.fixture(scope="module")
def planted():
    """60 noisy images; in 6 of them a vertical stripe, in 6 a horizontal one, with the place of each."""
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 60, (60, 20, 20), dtype=np.uint8)
    places = {}
    for number in range(0, 60, 5):
        row, column = generator.integers(2, 18, 2)
        upright = number % 2 == 0
        where = (slice(row - 2, row + 3), column) if upright else (row, slice(column - 2, column + 3))
        pixels[number][where] = 255 - number  # strongest first
        places[number] = (upright, int(row), int(column))
    return pixels, places


def stripes() -> SavedModel:
    spec = InputSpec(size=(20, 20), channels=1, mean=(0.0,), std=(1.0,))
    return SavedModel(model=Stripes().eval(), spec=spec, labels=Labels(NAMES))


def given(pixels):
    return [one[..., None] for one in pixels]


def test_the_strongest_crops_hold_the_planted_stripe(planted):
    pixels, places = planted
    [view] = striate.explain(stripes(), given(pixels), show="strongest", layer="relu", top=6, progress=False)
    assert view.shown == (0, 1)  # map 2 is never positive, and a note says so
    assert view.notes
    for unit, upright in enumerate((True, False)):
        wanted = [number for number, (way, _, _) in places.items() if way == upright]
        assert view.found.rows[unit].tolist() == wanted
        for rank, number in enumerate(wanted):
            assert tuple(view.found.spots[unit, rank]) == places[number][1:]
            crop = view.crops[unit][rank]
            assert crop.shape == (5, 5, 4)
            line = crop[:, 2] if upright else crop[2]
            inside = line[line[:, 3] == 1]  # the rest lies beyond the image
            np.testing.assert_allclose(inside[:, 0], (255 - number) / 255, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 7, 60, 64])
def test_every_image_is_looked_at_once_whatever_the_batch(planted, batch):
    pixels, _ = planted
    saved = stripes()
    chosen = found_images(saved, given(pixels))
    place = find_place(saved.model, "relu")
    found = search(saved.model, batches(saved, chosen, batch=batch), place, 9)
    fed = torch.cat([one for one in saved.model.fed if not one.is_meta])
    assert found.looked_at == len(fed) == 60
    np.testing.assert_allclose(fed[:, 0].numpy() * 255, pixels, atol=1e-3)  # in their order
    everything = saved.model.relu(saved.model.detect(fed)).detach().flatten(2).amax(2).T
    np.testing.assert_allclose(found.values, everything.sort(stable=True, dim=1, descending=True).values[:, :9])
    expected = everything.sort(stable=True, dim=1, descending=True).indices[:, :9]
    np.testing.assert_array_equal(found.rows, expected)


def test_the_deconvnet_stands_beside_the_crops(planted):
    pixels, _ = planted
    [view] = striate.explain(
        stripes(), given(pixels), ["deconvnet"], layer="relu", show="strongest", top=2, progress=False
    )
    assert [len(one) for one in view.reconstructions] == [2, 2]
    upright = view.reconstructions[0][0][..., 0]
    assert upright.shape == (5, 5)
    assert upright[:, 2].min() > 0.5 > upright[:, 1].max()


def red_seen(order: str) -> SavedModel:
    """Answers to red; fed in `order`."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4)).eval()
    model.get_submodule("0").weight.data[:] = torch.eye(3)[order.index("R")].view(1, 3, 1, 1)
    model.get_submodule("3").weight.data.fill_(1.0)
    spec = InputSpec(size=(6, 6), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, channel_order=order)
    return SavedModel(model=model, spec=spec, labels=Labels(NAMES))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_signals_have_the_colours_that_people_see(order):
    saved, red = red_seen(order), np.zeros((6, 6, 3), np.uint8)
    red[2, 3, 0] = 255
    for one in striate.explain(saved, red, ["guided-backprop", "deconvnet"], "1", progress=False):
        assert np.abs(one.map[0]).max() > 0 == np.abs(one.map[1:]).max()
    view = strongest_images(saved, found_images(saved, red), "1", deconvnet=True)
    found = view.reconstructions[0][0][..., :3]
    assert found[..., 0].max() > 0.5 == found[..., 2].max()


def test_images_that_cannot_be_read_are_left_out(planted, tmp_path):
    pixels, _ = planted
    (tmp_path / "broken.png").write_bytes(b"none")
    images = [tmp_path / "broken.png", *given(pixels)]
    [view] = striate.explain(stripes(), images, show="strongest", layer="relu", top=1, progress=False)
    assert view.found.looked_at == 60
    assert view.found.rows[0].tolist() == [1]
    with pytest.raises(DataError, match="no image"):
        striate.explain(stripes(), [tmp_path / "broken.png"], show="strongest", layer="relu", progress=False)


def test_maps_are_what_the_layer_gives_on_one_scale(planted):
    pixels, _ = planted
    saved = stripes()
    [view] = striate.explain(saved, given(pixels)[0], show="maps", layer="detect", progress=False)
    with torch.no_grad():
        expected = saved.model.detect(torch.from_numpy(pixels[:1, None] / np.float32(255)))[0]
    np.testing.assert_allclose(view.maps, expected, atol=1e-5)
    assert view.signed
    [chosen] = striate.explain(saved, given(pixels)[0], show="maps", layer="detect", most=1, progress=False)
    assert chosen.shown == (int(expected.flatten(1).abs().amax(1).argmax()),)
    with pytest.raises(UsageError, match="no map 3"):
        striate.explain(saved, given(pixels)[0], show="maps", layer="detect", unit=3, progress=False)


def test_a_layer_without_maps_has_units():
    image = np.zeros((32, 32, 1), np.uint8)
    [view] = striate.explain(lenet(), image, show="maps", layer="head.f6", progress=False)
    assert view.maps.shape == (84,)
    assert view.figure().axes


def test_the_network_is_afterwards_as_it_was(planted):
    pixels, _ = planted
    saved = lenet()
    saved.model.train()
    before = {name: value.clone() for name, value in saved.model.state_dict().items()}
    shown = ("filters", "maps", "strongest")
    for view in striate.explain(saved, given(pixels)[:3], show=shown, progress=False):
        assert json.dumps(view.to_dict())
        assert view.figure().axes
    assert saved.model.training
    assert all(one.requires_grad and one.grad is None for one in saved.model.parameters())
    assert not any(module._forward_hooks for module in saved.model.modules())
    assert all(torch.equal(value, before[name]) for name, value in saved.model.state_dict().items())


# receptive fields -----------------------------------------------------------------------------------------------------


def field_of_network(saved, **settings):
    [view] = striate.explain(saved, None, show="field", progress=False, **settings)
    return view


@pytest.mark.parametrize("layer", ["stem", "c3", "s4"])
@pytest.mark.parametrize("at", [None, (0, 0), (4, 1)])
def test_the_theoretical_field_is_that_of_the_anatomy(layer, at):
    saved = lenet()
    view = field_of_network(saved, layer=layer, at=at)
    path = find_place(saved.model, layer).path
    row = next(one for one in reversed(striate.anatomy_of(saved.model).layers) if one.name.startswith(f"{path}."))
    top, bottom, left, right = view.theoretical
    assert bottom - top + 1 == right - left + 1 == row.receptive_field
    assert view.sizes[layer][0] == row.receptive_field
    if at is None:
        (first, last), (start, end) = row.centre
        assert view.exact == (first, last, start, end)
    assert [one.size for one in view.steps] == sorted(one.size for one in view.steps)


@pytest.mark.parametrize("at", [(0, 0), (2, 5), (9, 9)])
def test_the_effective_field_lies_in_the_theoretical_one(at):
    view = field_of_network(lenet(), layer="c3", at=at)
    top, bottom, left, right = view.exact
    seen = np.zeros(view.effective.shape, bool)
    seen[top : bottom + 1, left : right + 1] = True
    assert view.effective[seen].max() > 0
    assert view.effective[~seen].max() == 0
    assert 0 < view.effective_size <= max(bottom - top, right - left) + 1


def test_the_effective_field_is_the_gradient(planted):
    """Of a convolution of one map it is the kernel, whatever the image; of all maps the mean of their squares."""
    pixels, _ = planted
    saved = stripes()
    kernels = saved.model.detect.weight.detach().numpy()[:, 0]
    [view] = striate.explain(saved, given(pixels), show="field", layer="detect", unit=1, at=(9, 6), progress=False)
    np.testing.assert_allclose(view.effective[7:12, 4:9], np.abs(kernels[1]), atol=1e-6)
    assert view.averaged == 16
    chosen = found_images(saved, given(pixels) * 4)
    read = list(batches(saved, chosen, batch=80))
    both = effective_fields(saved.model, read, {"detect": (9, 6)}, generator=torch.Generator().manual_seed(0))
    expected = np.sqrt((kernels**2).mean(0))
    np.testing.assert_allclose(both["detect"][7:12, 4:9], expected, atol=0.06)


def test_the_unit_of_a_map_is_the_strongest_one(planted):
    pixels, places = planted
    number = next(number for number, (upright, _, _) in places.items() if upright)
    image = given(pixels)[number]
    [view] = striate.explain(stripes(), image, show="field", layer="relu", unit=0, progress=False)
    assert view.at == places[number][1:]
    assert view.figure().axes
    with pytest.raises(UsageError, match="no unit at 20,0"):
        striate.explain(stripes(), image, show="field", layer="relu", at=(20, 0), progress=False)
    with pytest.raises(ModelError, match="no maps"):
        striate.explain(stripes(), image, show="field", layer="linear", progress=False)


# codes ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Light images of ants, dark ones of bees: 12 each."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for name, low in (("ant", 150), ("bee", 0)):
        (root / name).mkdir()
        for number in range(12):
            pixels = generator.integers(low, low + 100, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    return root


def test_codes_are_those_of_the_network_in_two_dimensions(folder):
    saved = lenet()
    [view] = striate.explain(saved, folder, show="codes", progress=False)
    assert view.layer == "head.f6"
    assert view.codes.shape == (24, 84)
    np.testing.assert_allclose(view.codes, striate.codes(folder, saved, cache=False, progress=False), atol=1e-5)
    assert {name: points.shape for name, points in view.points.items()} == {"pca": (24, 2), "tsne": (24, 2)}
    assert view.thumbnails.shape == (24, 40, 40, 3)
    assert view.labels == ("ant",) * 12 + ("bee",) * 12
    assert view.neighbours == 1.0
    centred = view.codes - view.codes.mean(0)
    values = np.linalg.svd(centred, compute_uv=False) ** 2
    np.testing.assert_allclose(view.explained, (values / values.sum())[:2], rtol=1e-3)
    np.testing.assert_allclose(view.points["pca"].var(0), values[:2] / 24, rtol=1e-3)
    light, dark = view.points["pca"][:12, 0], view.points["pca"][12:, 0]
    assert light.max() < dark.min() or dark.max() < light.min()
    assert view.figure().axes
    assert len(json.loads(json.dumps(view.to_dict()))["points"]["tsne"]) == 24


def test_codes_are_the_same_whatever_the_batch_and_the_time(folder):
    saved = lenet()
    chosen = found_images(saved, folder)
    views = [codes_of_images(saved, chosen, "stem", projections=("pca", "tsne"), batch=batch) for batch in (5, 5, 24)]
    np.testing.assert_array_equal(views[0].points["tsne"], views[1].points["tsne"])
    np.testing.assert_allclose(views[0].codes, views[2].codes, atol=1e-5)
    assert [view.paths for view in views[1:]] == [tuple(chosen.names)] * 2


def test_images_without_classes_are_coloured_by_the_answers(folder):
    saved = lenet()
    images = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*/*.png"))]
    [view] = striate.explain(saved, images, show="codes", projection=("pca",), progress=False)
    assert view.answered
    assert set(view.labels) <= set(NAMES)
    with pytest.raises(DataError, match="too few"):
        striate.explain(saved, images[:2], show="codes", progress=False)


def test_a_data_set_may_be_named(file, tmp_path):
    words = ("--show", "codes,strongest", "--data", "digits", "--projection", "pca", "--output", tmp_path, "--json")
    result = run(file, *words, "--layer", "stem")
    assert result.exit_code == 0, result.stderr
    codes, strongest = json.loads(result.stdout)["views"]
    assert codes["images"] == strongest["looked_at"] == 1797
    assert set(codes["labels"]) == set("0123456789")
    assert {path.name for path in tmp_path.glob("*.png")} == {"codes-stem.png", "strongest-stem.png"}
    assert run(file, tmp_path, "--show", "codes", "--data", "digits").exit_code == 2


def test_without_umap_the_command_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError) as caught:
        striate.explain(lenet(), folder, show="codes", projection=("umap",), progress=False)
    assert "umap-learn" in str(caught.value)
