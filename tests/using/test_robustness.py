"""Attacks by hand, and accuracy on changed images beside a plain slow reference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.nn import functional

import striate
from striate.checkpoint import load_model, save_model
from striate.cli.main import striate as front_door
from striate.data import LeftOut, Split, TensorImages
from striate.data.decode import decode
from striate.data.images import DecodedImages
from striate.data.normalise import normalise
from striate.data.split import quotas
from striate.errors import UnknownNameError, UsageError
from striate.evaluation import evaluate, matched
from striate.evaluation.robustness import corrupt, fgsm, pgd, robustness_of, write_robustness
from striate.evaluation.robustness.sampling import sample_of
from striate.models import create_model
from striate.network import open_network
from striate.options.robustness import RobustnessOptions
from striate.spec import InputSpec, Labels

PHOTOS = Path(__file__).parents[3] / "shared" / "data"


class Linear(nn.Module):
    """Logits that are linear in the pixels."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images):
        return images.flatten(1) @ self.weight.T

    def loss(self, logits, targets, *, reduction="mean"):
        return functional.cross_entropy(logits, targets, reduction=reduction)


@pytest.fixture
def linear():
    generator = torch.Generator().manual_seed(2)
    return Linear(torch.randn(3, 12, generator=generator))


@pytest.fixture
def few():
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (8, 3, 2, 2), generator=generator) / 255
    return pixels, torch.arange(8) % 3, InputSpec(size=(2, 2), channels=3, mean=(0.5,), std=(0.2,))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_fgsm_steps_along_the_sign_worked_out_by_hand(linear, few, order):
    pixels, targets, spec = few
    spec = replace(spec, channel_order=order)
    found = fgsm(linear, pixels, targets, spec, 8 / 255)
    fed = normalise(pixels, spec)
    chances = (fed.flatten(1) @ linear.weight.T).softmax(1).detach()
    slope = (chances - functional.one_hot(targets, 3)) @ linear.weight.detach()  # of the loss, by what is fed
    slope = slope.view(-1, 3, 2, 2)
    slope = slope.flip(1) if order == "BGR" else slope
    assert torch.equal(found, (pixels + 8 / 255 * slope.sign()).clamp(0, 1))


def test_pgd_stays_within_its_bound_and_raises_the_loss(linear, few):
    pixels, targets, spec = few
    indices = np.arange(8)
    found = pgd(linear, pixels, targets, spec, 16 / 255, indices=indices)
    assert (found - pixels).abs().max() <= 16 / 255 + 1e-7
    assert found.min() >= 0
    assert found.max() <= 1
    before, after = (
        functional.cross_entropy(linear(normalise(one, spec)), targets, reduction="none") for one in (pixels, found)
    )
    assert (after > before).all()
    alone = pgd(linear, pixels[5:6], targets[5:6], spec, 16 / 255, indices=indices[5:6])
    assert torch.allclose(alone, found[5:6], atol=1e-6)
    assert not torch.equal(pgd(linear, pixels, targets, spec, 16 / 255, indices=indices, steps=0, seed=1), pixels)


def test_an_attack_leaves_the_network_as_it_was(saved):
    model = saved.model.train()
    first = next(model.parameters())
    first.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    images, targets = torch.rand(4, 3, 32, 32), torch.arange(4)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    pgd(model, images, targets, saved.spec, 4 / 255, indices=np.arange(4), steps=2)
    with pytest.raises(IndexError), torch.no_grad():
        fgsm(model, images, targets + 7, saved.spec, 4 / 255)
    assert [module.training for module in model.modules()] == modes
    assert [one.requires_grad for one in model.parameters()] == [one is not first for one in model.parameters()]
    assert all(one.grad is None for one in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def lenet(path: Path, side: int = 28) -> Path:
    torch.manual_seed(1)
    labels = Labels(tuple("0123456789"))
    model = create_model("lenet5_dense", classes=10, in_channels=1, input_size=side)
    save_model(path, model, InputSpec(size=(side, side), channels=1, mean=(0.13,), std=(0.3,)), labels)
    return path


def digits(count: int, unreadable: int = 0) -> Split:
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    pixels = np.kron(images[:count].reshape(-1, 8, 8), np.ones((3, 3))) * 15.9
    pixels = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))[:, None].astype(np.uint8)
    lost = tuple(LeftOut(f"{one}.png", "empty", "val", str(one % 10)) for one in range(unreadable))
    return Split("val", targets[:count], [f"val[{one}]" for one in range(count)], TensorImages(pixels), lost)


def test_grey_digits_beside_a_slow_reference(tmp_path):
    saved = load_model(lenet(tmp_path / "model.safetensors"))
    split = digits(60, unreadable=4)
    kinds = "fog,gaussian-noise,translation,rotation,scale,noise-level,negative,saturate,fgsm"
    found = robustness_of(saved, split, kinds, batch_size=64)
    again = robustness_of(saved, split, kinds, batch_size=7)
    clean = evaluate(saved, split, device="cpu").scores
    assert (found.clean.n, found.of, found.unreadable) == (64, 64, 4)
    assert found.clean.accuracy == pytest.approx(clean.top1)
    assert found.left_out == {"saturate": "the images are grey"}
    assert [one.name for one in found.kinds] == [
        "gaussian-noise", "fog", "translation", "rotation", "scale", "noise-level", "negative", "fgsm",
    ]  # fmt: skip
    for kind, other in zip(found.kinds, again.kinds, strict=True):
        assert kind.clean.accuracy == pytest.approx(clean.top1)
        assert kind.clean.same == 60
        assert all(point.n == 64 for point in kind.points)
        apart = [abs(one.right - two.right) for one, two in zip(kind.points, other.points, strict=True)]
        assert max(apart) <= (1 if kind.name == "fgsm" else 0)  # gradients are rounded otherwise
    pixels = split.images.take(np.arange(60), saved.spec).numpy()
    point = next(one for one in found.kinds[0].points if one.strength == 4)
    right = 0
    for index in range(60):
        changed = torch.from_numpy(corrupt(pixels[index : index + 1], "gaussian-noise", 4, np.array([index])))
        with torch.inference_mode():
            right += int(saved.model(normalise(changed, saved.spec)).argmax()) == split.targets[index]
    assert point.right == right
    row = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    error = np.mean([1 - point.accuracy for kind in found.corruptions for point in kind.changed])
    assert row["mean_corruption_error"] == pytest.approx(error)
    assert row["mean_corruption_error_above_clean"] == pytest.approx(error - (1 - clean.top1))


def test_images_are_drawn_alike_from_all_classes():
    split = digits(500, unreadable=20)
    names = tuple("0123456789")
    sample = sample_of([split], 104, names)
    assert (sample.n, sample.of) == (104, 520)
    positions = sample.positions[0]
    assert len(set(positions.tolist())) == len(positions) == sample.readable
    everything = np.bincount([*split.targets, *(int(one.label) for one in split.unreadable)], minlength=10)
    drawn = quotas(everything, 104)
    assert drawn.sum() == 104
    assert np.abs(drawn - everything * 0.2).max() < 1
    assert (np.bincount(split.targets[positions], minlength=10) <= drawn).all()
    whole = sample_of([split, split], None, names)
    assert whole.n == 1040
    assert [sorted(one.tolist()) for one in whole.positions] == [list(range(500))] * 2
    assert (sample_of([split], 104, names).positions[0] == positions).all()


def test_what_cannot_be_asked_is_said(saved, world):
    split = world.tensor_split(6)
    with pytest.raises(UnknownNameError) as caught:
        robustness_of(saved, split, ("fog", "rotating"))
    assert caught.value.nearest[0] == "rotation"
    with pytest.raises(UsageError, match="one label an image"):
        robustness_of(replace(saved, labels=replace(saved.labels, multi_label=True)), split, "fog")


@pytest.mark.parametrize("alone", [{"robustness_images": 5}, {"robustness_output": "folder"}])
def test_settings_of_what_is_not_asked_for_are_refused(alone):
    with pytest.raises(UsageError, match="of --robustness, which is not asked for"):
        RobustnessOptions(**alone)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_small_batches_leave_no_image_out_of_the_pictures(saved, world, batch_size):
    found = robustness_of(saved, world.tensor_split(5), "brightness", batch_size=batch_size)
    assert len(found.truths) == 3
    assert [len(row) for row in found.examples["brightness"]] == [3] * 6
    many = robustness_of(saved, world.tensor_split(2), "brightness", batch_size=batch_size)
    assert len(many.truths) == 2


def test_pictures_of_each_kind_and_what_fooled(saved, world, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr("striate.evaluation.robustness.asking.EPSILONS_SMALL", (2, 16))  # ten steps at each
    found = robustness_of(saved, world.tensor_split(24), "fog,jpeg,rotation,pgd", batch_size=24)
    kept = write_robustness(found, tmp_path / "out")
    names = {"fog.png", "jpeg.png", "rotation.png", "pgd.png", "corruptions.png"}
    assert {Path(one).name for one in kept.pictures} - {"fooled.png"} == names
    for one in kept.pictures:
        with Image.open(one) as picture:
            assert min(picture.size) > 150
    for one in found.fooled:
        assert one.before.right
        assert not one.after.right
    (attack,) = (one for one in found.fooled if one.kind == "pgd")
    apart = attack.after.pixels.astype(int) - attack.before.pixels
    assert 0 < np.abs(apart).max() <= attack.strength
    again = write_robustness(replace(found, kinds=found.kinds[:1], fooled=()), tmp_path / "out")
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"fog.png", "robustness.json"}
    assert [Path(one).name for one in again.pictures] == ["fog.png"]


def test_the_command_scores_pictures_and_keeps(tmp_path, world, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world.saved_model(tmp_path / "model.safetensors")
    photos = world.photo_folder(tmp_path / "photos")
    words = ["evaluate", "model.safetensors", str(photos), "--backend", "torch", "--robustness", "brightness,negative"]
    outcome = CliRunner().invoke(
        front_door, [*words, "--robustness-images", "14", "--robustness-output", "out", "--json"]
    )
    assert outcome.exit_code == 0, outcome.output
    row = json.loads(outcome.stdout)["robustness"]
    assert (row["n"], row["of"], row["data"]) == (14, 28, "photos")
    assert [one["kind"] for one in row["kinds"]] == ["brightness", "negative"]
    assert json.loads(Path("out/robustness.json").read_text())["kinds"] == row["kinds"]
    quick = [*words[:-1], "brightness", "--robustness-images", "7", "--robustness-output", "out"]
    shown = CliRunner().invoke(front_door, quick)
    assert "mean corruption error" in shown.stdout
    result = striate.evaluate(
        "model.safetensors", photos, backend="torch", robustness="brightness", robustness_images=14, progress=False
    )
    assert result.robustness is not None
    assert result.robustness.kinds[0].to_dict()["points"] == row["kinds"][0]["points"]
    refused = CliRunner().invoke(front_door, [*words, "--views", "flip"])
    assert refused.exit_code != 0
    assert "looked at once" in refused.output


@pytest.mark.slow
@pytest.mark.skipif(not (PHOTOS / "photos").is_dir(), reason="the photos in ../shared/data are not here")
def test_photos_and_trained_weights():
    saved = open_network(f"squeezenet1_1:{PHOTOS / 'weights' / 'squeezenet1_1_caffe_rgbnorm.pth'}")
    files = sorted((PHOTOS / "photos" / "val").glob("*/*"))
    files = files[:: max(1, len(files) // 8)][:8]
    folders = sorted({file.parent.name for file in (PHOTOS / "photos" / "val").glob("*/*")})
    targets = np.array([folders.index(file.parent.name) for file in files])
    split = Split("val", targets, [str(file) for file in files], DecodedImages([decode(file) for file in files]))
    split = matched(split, Labels(tuple(folders)), saved.labels)
    found = robustness_of(saved, split, "gaussian-noise,negative", batch_size=8)
    noise, negative = found.kinds
    assert noise.clean.accuracy >= 0.3
    assert noise.points[-1].accuracy < noise.clean.accuracy
    assert negative.points[-1].n == 8
