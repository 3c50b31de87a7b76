"""All distortions together: off is identity, no dependence on the batch, normalisation and presets."""

import numpy as np
import pytest
import torch

from striate.data.augment import augment, check_augment, resolve_augment
from striate.data.draws import Draws
from striate.data.normalise import denormalise, normalise
from striate.errors import UsageError
from striate.options import AugmentOptions
from striate.spec import InputSpec

COLOUR = InputSpec(size=(12, 10), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
GREY = InputSpec(size=(12, 10), channels=1, mean=(0.1,), std=(0.3,))


def options(**given) -> AugmentOptions:
    return AugmentOptions(preset="none", **given)


def pixels(count=6, spec=COLOUR, seed=0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.integers(0, 256, (count, spec.channels, *spec.size)).astype(np.uint8))


def draws(count=6, seed=0, epoch=0) -> Draws:
    return Draws(seed, epoch, np.arange(count))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalise_by_hand(layout):
    stored = pixels().contiguous(memory_format=layout)
    mean, std = np.array(COLOUR.mean)[:, None, None], np.array(COLOUR.std)[:, None, None]
    result = normalise(stored, COLOUR)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=layout)
    np.testing.assert_allclose(result, (stored.numpy() / 255 - mean) / std, atol=1e-6)
    np.testing.assert_allclose(denormalise(result, COLOUR), stored / 255, atol=1e-6)


def test_normalise_sixteen_bits_floats_and_one_mean_for_all():
    spec = InputSpec(size=(2, 2), channels=2, mean=(0.5,), std=(0.25,), bits=16)
    stored = torch.tensor([0, 65535, 13107, 52428], dtype=torch.int32).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    expected = torch.tensor([-2.0, 2.0, -1.2, 1.2]).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    torch.testing.assert_close(normalise(stored, spec), expected)
    parts = stored / 65535
    before = parts.clone()
    torch.testing.assert_close(normalise(parts, spec), expected)
    assert torch.equal(parts, before)


# --- all together ----------------------------------------------------------------------------------------------------

EVERYTHING = options(
    shift=2,
    flip=0.5,
    rotate=20.0,
    zoom=0.2,
    shear=10.0,
    translate=0.1,
    elastic=8.0,
    elastic_sigma=2.0,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=0.1,
    lighting=0.1,
    noise=0.05,
    cutout=3,
)


def test_all_off_is_plain_normalisation():
    assert torch.equal(augment(pixels(), COLOUR, options(), draws()), normalise(pixels(), COLOUR))
    off = options(shift=0, flip=0.0, rotate=0.0, brightness=0.0, noise=0.0, cutout=0, elastic=0.0)
    assert torch.equal(augment(pixels(), COLOUR, off, draws()), normalise(pixels(), COLOUR))


@pytest.mark.parametrize("name", ["rotate", "zoom", "shear", "translate", "elastic", "brightness", "contrast",
                                  "saturation", "hue", "lighting", "noise"])  # fmt: skip
def test_vanishing_strength_is_identity(name):
    result = augment(pixels(), COLOUR, options(**{name: 1e-7}), draws())
    torch.testing.assert_close(result, normalise(pixels(), COLOUR), atol=1e-3, rtol=0)


@pytest.mark.parametrize("spec", [COLOUR, GREY, InputSpec(size=(9, 9), channels=3, bits=16)])
def test_pixels_do_not_depend_on_batch_or_order(spec):
    chosen = EVERYTHING if spec.channels == 3 else options(shift=2, rotate=9.0, elastic=8.0, contrast=0.4, noise=0.1)
    stored = pixels(40, spec)
    if spec.bits > 8:
        stored = stored.int() * 257
    whole = augment(stored, spec, chosen, draws(40))
    for indices in (np.array([3]), np.array([39, 3, 11]), np.arange(39, -1, -1)):
        part = augment(stored[indices], spec, chosen, Draws(0, 0, indices))
        assert torch.equal(part, whole[indices])
    last = augment(stored, spec, chosen, draws(40), channels_last=True)
    torch.testing.assert_close(last, whole)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_seed_and_epoch_change_the_pixels():
    first = augment(pixels(), COLOUR, EVERYTHING, draws())
    assert not torch.equal(first, augment(pixels(), COLOUR, EVERYTHING, draws(seed=1)))
    assert not torch.equal(first, augment(pixels(), COLOUR, EVERYTHING, draws(epoch=1)))
    assert torch.equal(first, augment(pixels(), COLOUR, EVERYTHING, draws()))


@pytest.mark.gpu
def test_a_gpu_draws_the_same_and_gives_the_same_picture():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cuda = torch.device("cuda")
    assert torch.equal(draws().byte_field("a", 99, cuda).cpu(), draws().byte_field("a", 99, torch.device("cpu")))
    assert torch.equal(draws().normal_field("a", 99, cuda).cpu(), draws().normal_field("a", 99, torch.device("cpu")))
    moved = options(shift=3, flip=0.5)
    assert torch.equal(
        augment(pixels().to(cuda), COLOUR, moved, draws()).cpu(), augment(pixels(), COLOUR, moved, draws())
    )
    ours = augment(pixels().to(cuda), COLOUR, EVERYTHING, draws()).cpu()
    torch.testing.assert_close(ours, augment(pixels(), COLOUR, EVERYTHING, draws()), atol=1e-3, rtol=0)


def test_stored_pixels_are_never_changed():
    stored = pixels()
    augment(stored, COLOUR, EVERYTHING, draws())
    assert torch.equal(stored, pixels())


@pytest.mark.parametrize(
    ("given", "channels", "size", "kind", "digits", "expected"),
    [
        ({}, 1, 28, "tensor", True, {"shift": 2, "rotate": 10.0, "zoom": 0.1, "flip": 0.0}),
        ({}, 1, 8, "tensor", True, {"shift": 1, "flip": 0.0}),
        ({}, 3, 32, "tensor", True, {"shift": 2, "flip": 0.0}),
        ({}, 1, 28, "tensor", False, {"flip": 0.5, "rotate": 0.0}),
        ({}, 3, 32, "tensor", False, {"shift": 4, "flip": 0.5, "crop_scale": None}),
        ({}, 3, 224, "photos", False, {"crop_scale": (0.35, 1.0), "crop_ratio": (0.75, 4 / 3), "saturation": 0.2}),
        ({}, 3, 224, "photos", True, {"crop_scale": (0.35, 1.0), "flip": 0.0}),
        ({}, 1, 224, "photos", False, {"crop_scale": (0.35, 1.0), "saturation": 0.0}),
        ({"preset": "none"}, 3, 32, "tensor", False, {"shift": 0, "flip": 0.0, "crop_scale": None}),
        ({"preset": "small", "shift": 0}, 3, 32, "tensor", False, {"shift": 0, "flip": 0.5}),
        ({"scale_jitter": (256, 480)}, 3, 224, "photos", False, {"scale_jitter": (256, 480), "crop_scale": None}),
        ({"crop_scale": (1.0, 1.0)}, 3, 224, "photos", False, {"crop_scale": None, "flip": 0.5}),
        ({"mixup": 0.2}, 3, 32, "tensor", False, {"mixup": 0.2, "shift": 4}),
    ],
)  # fmt: skip
def test_presets(given, channels, size, kind, digits, expected):
    situation = {"channels": channels, "size": (size, size), "kind": kind, "digits": digits}
    resolved = resolve_augment(AugmentOptions(**given), **situation)
    assert {name: getattr(resolved, name) for name in expected} == expected
    assert resolved.preset == "none"
    assert resolve_augment(resolved, **situation) == resolved
    check_augment(resolved, InputSpec(size=(size, size), channels=channels))


@pytest.mark.parametrize(
    ("given", "spec", "message"),
    [
        ({"preset": "auto"}, COLOUR, "not been resolved"),
        ({"preset": "none", "hue": 0.1}, GREY, "augment.hue needs colour"),
        ({"preset": "none", "crop_scale": (0.5, 1.0), "scale_jitter": (20, 30)}, COLOUR, "both set"),
        ({"preset": "none", "scale_jitter": (11, 30)}, COLOUR, "below the input size 12"),
    ],
)
def test_impossible_options_are_refused(given, spec, message):
    with pytest.raises(UsageError, match=message):
        check_augment(AugmentOptions(**given), spec)


# --- flips by turns --------------------------------------------------------------------------------------------------


def test_flips_by_turns_show_every_image_and_its_mirror_image_alternately():
    stored, turns = pixels(64), options(flip=0.5, flip_by="turns")
    plain, mirrored = normalise(stored, COLOUR), normalise(stored, COLOUR).flip(-1)
    seen = [augment(stored, COLOUR, turns, draws(64, epoch=epoch)) for epoch in range(4)]
    sides = [torch.tensor([torch.equal(a, b) for a, b in zip(one, mirrored, strict=True)]) for one in seen]
    assert 16 < int(sides[0].sum()) < 48  # the first side is drawn
    for epoch in range(4):
        assert torch.equal(sides[epoch], sides[0] ^ bool(epoch % 2))
        assert torch.equal(seen[epoch], torch.where(sides[epoch][:, None, None, None], mirrored, plain))


def test_a_turn_belongs_to_the_image_not_to_its_batch():
    stored, turns = pixels(8), options(flip=0.5, flip_by="turns")
    whole = augment(stored, COLOUR, turns, draws(8, epoch=3))
    part = augment(stored[5:], COLOUR, turns, Draws(0, 3, np.arange(5, 8)))
    assert torch.equal(whole[5:], part)


def test_turns_are_one_in_two():
    with pytest.raises(UsageError, match="half of the time"):
        check_augment(options(flip=0.3, flip_by="turns"), COLOUR)
