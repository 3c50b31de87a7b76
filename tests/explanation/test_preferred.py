"""Preferred inputs: the ascent raises what it is asked to raise, the same way each time, and leaves no trace."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import striate
from striate.checkpoint import SavedModel
from striate.cli.main import striate as command
from striate.data.normalise import denormalise, normalise
from striate.errors import ModelError, UnknownNameError, UsageError
from striate.explanation.places import find_place, watched
from striate.explanation.preferred import preferred_inputs
from striate.explanation.preferred.painting import Painting, as_fed
from striate.models import create_model
from striate.options.explain import ExplainOptions
from striate.spec import InputSpec, Labels

QUICK = ExplainOptions(ascent_steps=60, ascent_rate=0.08)
SHORT = ExplainOptions(ascent_steps=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return striate.train("digits", model="lenet5_dense", epochs=3, runs=folder, progress=False, report=False).run


@pytest.fixture(scope="module")
def trained(run) -> SavedModel:
    return striate.load(run, progress=False).saved


@pytest.fixture(scope="module")
def training_images(trained) -> torch.Tensor:
    split = striate.load_data("digits", progress=False).splits["train"]
    return normalise(split.images.take(np.arange(0, len(split), 2), trained.spec), trained.spec)


def small(channels: int = 3, **settings) -> SavedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("compact_s", classes=4, in_channels=channels, input_size=28).eval()
    spec = InputSpec(size=(28, 28), channels=channels, **settings)
    return SavedModel(model=model, spec=spec, labels=Labels(("ant", "bee", "cat", "dog")))


def values_of(saved: SavedModel, layer: str | None, fed: torch.Tensor) -> torch.Tensor:
    """By the network itself: logits, or the means of the maps."""
    with torch.no_grad():
        if layer is None:
            return saved.model(fed)
        with watched(saved.model, [find_place(saved.model, layer).path]) as seen:
            saved.model(fed)
    found = seen[find_place(saved.model, layer).path]
    return found.mean((2, 3)) if found.ndim == 4 else found


def fed_again(saved: SavedModel, images: list[np.ndarray]) -> torch.Tensor:
    """Images as they are returned, rounded to whole pixels, through the usual preprocessing."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    stored = (pixels.flip(1) if saved.spec.reverses_channels else pixels).mul(255).round().to(torch.uint8)
    return normalise(stored, saved.spec)


@pytest.mark.parametrize("layer", [None, "c3"])
def test_what_is_asked_for_rises_above_noise_and_every_training_image(trained, training_images, layer):
    known = values_of(trained, layer, training_images).amax(0)
    numbers = [number for number in range(len(known)) if known[number] > 0.1][:5]
    found = list(preferred_inputs(trained, layer, numbers, QUICK))
    assert [one.number for one in found] == numbers
    reached = values_of(trained, layer, fed_again(trained, [one.image for one in found]))
    for row, one in enumerate(found):
        assert float(reached[row, one.number]) == pytest.approx(one.activation, rel=0.03, abs=0.01)
        assert one.activation > 1.3 * float(known[one.number]), one
        assert one.activation > 3 * max(one.noise, one.begun), one
        assert one.image.shape == (32, 32, 1)
        assert 0 <= one.image.min() < one.image.max() <= 1
    if layer is None:
        assert [int(row.argmax()) for row in reached] == numbers


def test_the_seed_decides_and_what_else_is_asked_for_does_not(trained):
    alone = next(iter(preferred_inputs(trained, "c3", [7], SHORT)))
    again = next(iter(preferred_inputs(trained, "c3", [7], SHORT)))
    among = list(preferred_inputs(trained, "c3", [2, 7], SHORT))[1]
    other = next(iter(preferred_inputs(trained, "c3", [7], ExplainOptions(ascent_steps=3, seed=1))))
    assert np.array_equal(alone.image, again.image)
    assert np.allclose(alone.image, among.image, atol=1e-4)
    assert not np.allclose(alone.image, other.image, atol=1e-3)


def test_the_network_stays_as_it_was(trained):
    model = trained.model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    list(preferred_inputs(trained, None, [1], SHORT))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(one.requires_grad and one.grad is None for one in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module._forward_hooks for module in model.modules())
    model.eval()


def test_a_silent_map_is_woken_and_a_dead_one_is_said_to_be_silent():
    """A map that needs more contrast than noise has, and one that nothing can bring above 0."""

    class Rectified(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.units = torch.nn.ReLU()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            edge = images[..., :14].mean((2, 3)) - images[..., 14:].mean((2, 3))
            return self.units(torch.cat((edge - 0.5, 0 * edge - 1), 1))

    saved = SavedModel(model=Rectified(), spec=InputSpec(size=(28, 28), channels=1), labels=Labels(("one", "two")))
    woken, dead = preferred_inputs(saved, "units", [0, 1], QUICK)
    assert (woken.begun, woken.noise) == (0, 0)
    assert woken.activation > 0.3
    assert not woken.silent
    assert dead.silent
    assert dead.activation == 0


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("paint", ["fourier", "pixels"])
def test_any_number_of_channels_either_way_of_painting(channels, paint):
    options = ExplainOptions(ascent_steps=12, ascent_rate=0.1, paint=paint, smooth=0.5)
    [one] = preferred_inputs(small(channels), "group1", [5], options)
    assert one.image.shape == (28, 28, channels)
    assert np.isfinite(one.image).all()
    assert one.activation > one.begun


def test_colours_come_out_as_people_see_them():
    """Where the network is fed blue first, the picture is of the same colours nevertheless."""
    red, blue = (small(mean=(0.4, 0.5, 0.6), channel_order=order) for order in ("RGB", "BGR"))
    for saved in (red, blue):
        images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(denormalise(as_fed(images, saved.spec), saved.spec), images)


def test_every_regulariser_does_something():
    saved = small()
    settings = ("jitter", 4.0), ("turn", 40.0), ("zoom", 0.4), ("variation", 1.0), ("decay", 3.0), ("smooth", 2.0)
    plain = {name: 0.0 for name, _ in settings}
    usual = _image(saved, **plain)
    changed = {name: _image(saved, **plain | {name: value}) for name, value in settings}
    for name, image in changed.items():
        assert np.abs(image - usual).max() > 1e-3, name
    assert _rough(changed["variation"]) < 0.9 * _rough(usual)
    assert _rough(changed["smooth"]) < 0.5 * _rough(usual)
    assert np.abs(_image(saved, decorrelate=False) - _image(saved)).max() > 1e-3


def _image(saved, **settings) -> np.ndarray:
    options = ExplainOptions(ascent_steps=15, ascent_rate=0.1, **settings)
    return next(iter(preferred_inputs(saved, "group1", [3], options))).image


def _rough(image: np.ndarray) -> float:
    return float(np.abs(np.diff(image, axis=0)).mean() + np.abs(np.diff(image, axis=1)).mean())


def test_a_window_that_does_not_move_sees_the_image_itself():
    spec = InputSpec(size=(20, 26), channels=3)
    painting = Painting(spec, [(0,), (1,)], margin=3, fourier=True, decorrelate=True, device=torch.device("cpu"))
    with torch.no_grad():
        painting.numbers.mul_(100)
        still = torch.tensor([[0.0, 0.0, 0.0, 1.0]]).repeat(2, 1)
        torch.testing.assert_close(painting.seen(still), painting.images(), atol=1e-4, rtol=0)
        moved = still + torch.tensor([2.0, -1.0, 0.0, 0.0])
        whole = painting.images()
        torch.testing.assert_close(painting.seen(moved)[:, :, :-2, 1:], whole[:, :, 2:, :-1], atol=1e-4, rtol=0)


def test_the_middle_of_a_map(trained):
    mean, middle = (
        next(iter(preferred_inputs(trained, "c3", [1], ExplainOptions(ascent_steps=40, ascent_rate=0.1, goal=goal))))
        for goal in ("map", "unit")
    )
    place = find_place(trained.model, "c3")
    with torch.no_grad(), watched(trained.model, [place.path]) as seen:
        trained.model(fed_again(trained, [mean.image, middle.image]))
    maps = seen[place.path][:, 1]
    centre = maps[:, maps.shape[1] // 2, maps.shape[2] // 2]
    assert centre[1] > centre[0]
    assert maps[0].mean() > maps[1].mean()


def test_what_cannot_be_is_said(trained):
    with pytest.raises(UsageError, match="has no map 16"):
        list(preferred_inputs(trained, "c3", [16]))
    with pytest.raises(UnknownNameError, match="unknown layer"):
        list(preferred_inputs(trained, "c33"))
    with pytest.raises(UsageError, match="no classes"):
        striate.explain(trained, show="preferred", layer="c3", target="1", progress=False)
    with pytest.raises(UsageError, match="one of a layer"):
        striate.explain(trained, show="preferred", unit=3, progress=False)

    class Sequence(torch.nn.Module):
        def forward(self, images):
            return self.tokens(images.flatten(2)).mean(2)

    model = Sequence()
    model.tokens = torch.nn.Identity()
    asked = SavedModel(model=model, spec=trained.spec, labels=trained.labels)
    with pytest.raises(ModelError, match="neither maps nor a vector"):
        list(preferred_inputs(asked, "tokens", [0]))


def test_the_command_and_its_picture(run, trained, tmp_path):
    words = ["explain", str(run), "--show", "preferred", "--ascent-steps", "2", "--output", str(tmp_path)]
    done = CliRunner().invoke(command, [*words, "--layer", "c3", "--most", "7", "--format", "svg", "--json"])
    assert done.exit_code == 0, done.stderr
    [view] = json.loads(done.stdout)["views"]
    assert [one["number"] for one in view["inputs"]] == list(range(7))
    assert view["layer"] == "c3"
    text = (tmp_path / "preferred-c3.svg").read_text()
    assert all(f"map {number}<" in text for number in range(7))
    done = CliRunner().invoke(command, [*words, "--target", "4"])
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "preferred-classes.png").is_file()
    [one] = striate.explain(trained, show="preferred", target="4", ascent_steps=2, progress=False)
    assert [each.label for each in one.inputs] == ["4"]
