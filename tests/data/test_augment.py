"""Each distortion: off is identity, worked references, the papers' figures, and no dependence on the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data.augment import augment, check_augment, colour, geometry, mix, resolve_augment, training_boxes
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


def identity_maps(count, angle=0.0, scale=1.0):
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    return np.tile([[cos, -sin], [sin, cos]], (count, 1, 1)), np.zeros((count, 2))


# --- normalisation ---------------------------------------------------------------------------------------------------


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


def test_stored_pixels_are_never_changed():
    stored = pixels()
    augment(stored, COLOUR, EVERYTHING, draws())
    assert torch.equal(stored, pixels())


# --- geometry --------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(by=st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=5))
def test_shift_is_a_roll_with_zeros(by):
    stored = pixels(len(by))
    moves = np.array(by)
    expected = np.zeros(stored.shape, np.uint8)
    for image, result, (down, right) in zip(stored.numpy(), expected, by, strict=True):
        rolled = np.roll(image, (down, right), axis=(1, 2))
        rows, columns = np.arange(12) - down, np.arange(10) - right
        rolled[:, (rows < 0) | (rows >= 12)] = 0
        rolled[:, :, (columns < 0) | (columns >= 10)] = 0
        result[:] = rolled
    assert np.array_equal(geometry.shift(stored, moves), expected)
    assert np.array_equal(geometry.shift_by_indexing(stored, moves, int(np.abs(moves).max())), expected)


def test_shift_keeps_sixteen_bits():
    stored = pixels().int() * 257
    moved = geometry.shift(stored, np.full((6, 2), 1))
    assert moved.dtype == torch.int32
    assert torch.equal(moved[:, :, 1:, 1:], stored[:, :, :-1, :-1])


def test_flip_twice_is_identity():
    stored, which = pixels(), np.array([True, False, True, True, False, False])
    once = geometry.flip(stored, which)
    assert torch.equal(once[0], stored[0].flip(-1))
    assert torch.equal(once[1], stored[1])
    assert torch.equal(geometry.flip(once, which), stored)


def test_flip_has_the_probability_asked_for():
    stored = torch.zeros(4000, 1, 1, 2, dtype=torch.uint8)
    stored[..., 0] = 255
    spec = InputSpec(size=(1, 2), channels=1)
    flipped = augment(stored, spec, options(flip=0.3), draws(4000))[:, 0, 0, 0] < 0
    assert flipped.double().mean() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_right_angles_are_rot90(turns):
    images = torch.rand(3, 2, 9, 9)
    grid = geometry.affine_grid(*identity_maps(3, turns * np.pi / 2), images)
    turned = torch.nn.functional.grid_sample(images, grid, align_corners=False)
    torch.testing.assert_close(turned, torch.rot90(images, turns, (2, 3)), atol=1e-5, rtol=0)


def test_affine_maps_invert_shear_scale_turn_and_move():
    chosen = options(rotate=30.0, zoom=0.3, shear=15.0, translate=0.2)
    shape = torch.Size((5, 1, 20, 30))
    maps, moves = geometry.affine_maps(shape, chosen, draws(5))
    angle = np.deg2rad(draws(5).uniform("rotate", -30, 30)[:, 0])
    scale = 1 + draws(5).uniform("zoom", -0.3, 0.3)[:, 0]
    slope = np.tan(np.deg2rad(draws(5).uniform("shear", -15, 15)[:, 0]))
    move = draws(5).uniform("translate", -0.2, 0.2, 2) * [30, 20]
    for i in range(5):
        cos, sin = np.cos(angle[i]), np.sin(angle[i])
        turn = np.array([[cos, sin], [-sin, cos]])  # counter-clockwise, y pointing down
        forward = scale[i] * turn @ np.array([[1, slope[i]], [0, 1]])
        place = np.array([3.0, -2.0])
        np.testing.assert_allclose(maps[i] @ (forward @ place + move[i]) + moves[i], place, atol=1e-9)


def test_translation_by_whole_pixels_is_a_shift():
    images = pixels().float()
    maps, moves = identity_maps(6)
    grid = geometry.affine_grid(maps, moves - np.array([2, 3]), images)
    moved = torch.nn.functional.grid_sample(images, grid, align_corners=False)
    torch.testing.assert_close(moved, geometry.shift(images, np.tile([3, 2], (6, 1))), atol=1e-2, rtol=0)


def test_elastic_field_is_smooth_and_of_simards_size():
    size, sigma = (40, 40), 4.0
    field = geometry.displacements(draws(200), size, sigma, torch.device("cpu"))
    assert field.shape == (200, 40, 40, 2)
    inner = field[:, 15:25, 15:25].double()
    # the standard deviation of uniform noise, times the norm of the two-dimensional Gaussian
    expected = np.sqrt(1 / 3) / (2 * sigma * np.sqrt(np.pi))
    assert inner.std() == pytest.approx(expected, rel=0.05)
    assert inner.mean() == pytest.approx(0, abs=0.005)
    # smoothed noise correlates as exp(-d**2 / (4 sigma**2))
    for distance in (1, 4, 8):
        pair = torch.stack([field[:, 10:30, 10, 0].flatten(), field[:, 10:30, 10 + distance, 0].flatten()])
        assert torch.corrcoef(pair)[0, 1] == pytest.approx(np.exp(-(distance**2) / (4 * sigma**2)), abs=0.06)
    assert field.abs().max() < 1
    x, y = field[..., 0].flatten(), field[..., 1].flatten()
    assert torch.corrcoef(torch.stack([x, y]))[0, 1].abs() < 0.06


def test_elastic_field_matches_a_gaussian_filter():
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy comes with scikit-learn")
    noise = draws(2).byte_field("elastic", 2 * 30 * 20, torch.device("cpu")).view(2, 2, 30, 20).numpy()
    field = geometry.displacements(draws(2), (30, 20), 3.0, torch.device("cpu")).permute(0, 3, 1, 2)
    for image, smooth in zip((noise * 2.0 + 1) / 256, field.numpy(), strict=True):
        for plane, result in zip(image, smooth, strict=True):
            np.testing.assert_allclose(
                result, ndimage.gaussian_filter(plane, 3.0, mode="constant", truncate=6), atol=2e-3
            )


def test_elastic_and_affine_share_one_resampling():
    """A picture whose brightness is its place shows where each pixel came from: the two displacements add up."""
    spec = InputSpec(size=(41, 41), channels=2, mean=(0.0,), std=(1.0,), bits=16)
    ramp = torch.arange(41) * 1500
    places = torch.stack([ramp.expand(41, 41), ramp[:, None].expand(41, 41)]).int()[None]
    chosen = options(rotate=8.0, elastic=20.0, elastic_sigma=5.0)
    seen = augment(places, spec, chosen, draws(1))[0] * 65535 / 1500  # x and y in pixels
    maps, _ = geometry.affine_maps(places.shape, chosen, draws(1))
    y, x = np.mgrid[-20:21, -20:21]
    field = geometry.displacements(draws(1), (41, 41), 5.0, torch.device("cpu"))[0].numpy()
    for axis in (0, 1):
        expected = maps[0, axis, 0] * x + maps[0, axis, 1] * y + 20 * field[..., axis] + 20
        np.testing.assert_allclose(seen[axis][8:33, 8:33], expected[8:33, 8:33], atol=0.01)


# --- boxes -----------------------------------------------------------------------------------------------------------


def test_alexnet_crops_have_2178_distinct_views():
    """M079: 33 x 33 places and two reflections; the paper counts 2048."""
    count = 30_000
    spec = InputSpec(size=(224, 224), channels=3)
    chosen = options(scale_jitter=(256, 256), flip=0.5)
    boxes = training_boxes(np.full((count, 2), 256), spec, chosen, draws(count))
    assert (boxes[:, 2:] == 224).all()
    assert np.array_equal(boxes, np.round(boxes))
    assert boxes[:, :2].min() == 0
    assert boxes[:, :2].max() == 32
    flipped = draws(count).uniform("flip") < chosen.flip
    assert len(np.unique(np.concatenate([boxes[:, :2], flipped], axis=1), axis=0)) == 33 * 33 * 2


def test_scale_jitter_keeps_short_side_and_aspect_ratio():
    """M081: the short side becomes a whole number from 256 to 480, the aspect ratio stays."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(100, 900, (20_000, 2))
    boxes = training_boxes(
        sizes, InputSpec(size=(224, 224), channels=3), options(scale_jitter=(256, 480)), draws(20_000)
    )
    resized = 224 * sizes / boxes[:, 2:]  # of the whole image
    np.testing.assert_allclose(resized, np.round(resized), atol=1e-6)
    short = np.round(resized.min(axis=1)).astype(int)
    assert set(short) == set(range(256, 481))
    # the long side is rounded to a whole pixel
    long = short * sizes.max(axis=1) / sizes.min(axis=1)
    np.testing.assert_allclose(resized.max(axis=1), long, atol=0.5 + 1e-6)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= sizes + 1e-9).all()


def test_resized_crops_stay_inside_and_in_range():
    sizes = np.random.default_rng(1).integers(20, 400, (5000, 2))
    chosen = options(crop_scale=(0.08, 1.0), crop_ratio=(0.75, 4 / 3))
    boxes = training_boxes(sizes, InputSpec(size=(64, 64), channels=3), chosen, draws(5000))
    top, left, height, width = boxes.T
    assert (boxes >= -1e-9).all()
    assert (top + height <= sizes[:, 0] + 1e-9).all()
    assert (left + width <= sizes[:, 1] + 1e-9).all()
    assert ((width / height > 0.75 - 1e-9) & (width / height < 4 / 3 + 1e-9)).all()
    square = training_boxes(np.full((5000, 2), 100), InputSpec(size=(64, 64), channels=3), chosen, draws(5000))
    area = square[:, 2] * square[:, 3] / 10_000
    assert 0.08 <= area.min() < 0.1
    assert 0.9 < area.max() <= 1
    assert np.log(square[:, 3] / square[:, 2]).mean() == pytest.approx(0, abs=0.02)


def test_resized_crop_without_a_fit_is_the_largest_centred_box():
    sizes = np.array([[10, 1000], [1000, 10], [100, 100]])
    chosen = options(crop_scale=(0.999, 1.0), crop_ratio=(0.75, 4 / 3))
    boxes = training_boxes(sizes[:2], InputSpec(size=(8, 8), channels=1), chosen, draws(2))
    np.testing.assert_allclose(boxes[0], [0, 500 - 20 / 3, 10, 40 / 3])
    np.testing.assert_allclose(boxes[1], [500 - 20 / 3, 0, 40 / 3, 10])
    whole = options(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    boxes = training_boxes(sizes[2:], InputSpec(size=(8, 8), channels=1), whole, draws(1))
    np.testing.assert_allclose(boxes[0], [0, 0, 100, 100], atol=1e-9)


def test_no_boxes_without_random_crops():
    assert training_boxes(np.full((3, 2), 50), COLOUR, options(flip=0.5), draws(3)) is None


# --- colour ----------------------------------------------------------------------------------------------------------


def maps_of(strengths, count=2000, mean=(0.2, 0.5, 0.8)):
    return colour.colour_maps(np.tile(mean, (count, 1)), options(**strengths), draws(count))


def test_brightness_and_contrast_by_hand():
    matrix, offset = maps_of({"brightness": 0.4, "contrast": 0.3})
    brightness = draws(2000).uniform("brightness", 0.6, 1.4)[:, 0]
    contrast = draws(2000).uniform("contrast", 0.7, 1.3)[:, 0]
    grey = 0.299 * 0.2 + 0.587 * 0.5 + 0.114 * 0.8
    np.testing.assert_allclose(matrix, (brightness * contrast)[:, None, None] * np.eye(3), atol=1e-12)
    np.testing.assert_allclose(offset, np.repeat((brightness * (1 - contrast) * grey)[:, None], 3, 1), atol=1e-12)
    image = torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1)
    result = colour.recolour(image, np.array([[0.2, 0.5, 0.8]]), options(contrast=0.3), draws(1))
    np.testing.assert_allclose(
        result.flatten(), contrast[0] * np.array([0.2, 0.5, 0.8]) + (1 - contrast[0]) * grey, rtol=1e-5
    )


def test_saturation_keeps_luma_and_scales_the_rest():
    matrix, offset = maps_of({"saturation": 0.5})
    kept = draws(2000).uniform("saturation", 0.5, 1.5)[:, 0]
    np.testing.assert_allclose(colour.LUMA @ matrix, np.tile(colour.LUMA, (2000, 1)), atol=1e-12)
    pixel = np.array([0.9, 0.1, 0.3])
    grey = pixel @ colour.LUMA
    np.testing.assert_allclose(matrix @ pixel, grey + kept[:, None] * (pixel - grey), atol=1e-12)
    assert not offset.any()


def test_a_third_of_the_hue_circle_carries_red_to_green():
    third = colour.hue_rotation(np.array([2 * np.pi / 3, 0.0, 1.0]))
    np.testing.assert_allclose(third[0] @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(third[0] @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(third[1], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(third[2] @ [0.4, 0.4, 0.4], 0.4, atol=1e-12)  # grey stays grey
    np.testing.assert_allclose(third[2].sum(axis=0), 1, atol=1e-12)  # the mean is kept


def test_lighting_has_alexnets_law():
    """M083: one colour per image use, P diag((0.1 l)**2) P' its covariance."""
    count = 40_000
    added = colour.lighting_offsets(0.1, draws(count))
    vectors, values = colour.IMAGENET_EIGENVECTORS, colour.IMAGENET_EIGENVALUES
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-3)
    expected = vectors @ np.diag((0.1 * values) ** 2) @ vectors.T
    np.testing.assert_allclose(np.cov(added.T), expected, atol=0.03 * expected.max())
    np.testing.assert_allclose(added.mean(axis=0), 0, atol=5e-4)
    images = torch.full((5, 3, 4, 4), 0.5)
    lit = colour.recolour(images, np.full((5, 3), 0.5), options(lighting=0.1), draws(5))
    np.testing.assert_allclose(lit, 0.5 + np.broadcast_to(added[:5, :, None, None], (5, 3, 4, 4)), atol=1e-6)


def test_recolour_applies_the_maps_and_clips():
    images, means = torch.rand(7, 3, 5, 4), np.random.default_rng(0).random((7, 3))
    chosen = options(brightness=0.9, contrast=0.9, saturation=0.9, hue=0.5, lighting=0.5)
    matrix, offset = colour.colour_maps(means, chosen, draws(7))
    expected = np.einsum("bij,bjyx->biyx", matrix, images.numpy()) + offset[..., None, None]
    result = colour.recolour(images, means, chosen, draws(7))
    np.testing.assert_allclose(result, expected.clip(0, 1), atol=1e-5)
    assert (expected < 0).any()
    assert (expected > 1).any()


def test_channel_means_are_exact():
    stored = pixels(4)
    np.testing.assert_allclose(colour.channel_means(stored), stored.numpy().mean((2, 3)), rtol=1e-12)


def test_noise_has_the_standard_deviation_asked_for():
    images = torch.full((50, 3, 20, 20), 0.5)
    noise = colour.add_noise(images, 0.05, draws(50)) - 0.5
    assert noise.double().std() == pytest.approx(0.05, rel=0.02)
    assert noise.double().mean() == pytest.approx(0, abs=1e-3)
    flat = noise.flatten(1)
    assert torch.corrcoef(flat)[0, 1].abs() < 0.1
    assert colour.add_noise(images, 2.0, draws(50)).min() == 0


# --- mixing ----------------------------------------------------------------------------------------------------------


def test_cutout_takes_one_square_to_the_mean():
    images = torch.ones(300, 2, 12, 10)
    gone = mix.cutout(images, 4, draws(300)) == 0
    assert torch.equal(gone[:, 0], gone[:, 1])
    area = gone[:, 0].sum((1, 2))
    assert area.max() == 16
    assert area.min() >= 4  # centred in a corner, half of each side remains
    for hole in gone[:50, 0]:
        rows, columns = hole.any(1), hole.any(0)
        assert torch.equal(hole, rows[:, None] & columns)


def test_mixup_weighs_the_following_image():
    images = torch.rand(8, 3, 5, 5)
    mixed, weight = mix.mix(images, 0.4, 0.0, draws(8))
    np.testing.assert_allclose(weight, draws(8).beta("mixup", 0.4), rtol=1e-6)
    for i in range(8):
        torch.testing.assert_close(mixed[i], weight[i] * images[i] + (1 - weight[i]) * images[(i + 1) % 8])


@pytest.mark.parametrize("size", [(12, 10), (7, 7)])
def test_cutmix_weights_are_areas(size):
    count = 200
    images = torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(count, 2, *size).contiguous()
    mixed, weight = mix.mix(images, 0.0, 1.0, draws(count))
    own = mixed == images
    assert torch.equal(own | (mixed == images.roll(-1, 0)), torch.ones_like(own))
    torch.testing.assert_close(own.float().mean((1, 2, 3)), weight)
    assert weight.min() < 0.35
    assert weight.max() > 0.95


def test_cutmix_box_of_a_centred_draw():
    start, stop, area = mix.cutmix_boxes(torch.Size((32, 32)), np.full(500, 0.75), draws(500))
    sides = stop - start
    assert sides.max() == 16  # sqrt(0.25) of the side
    assert area.max() == 0.25
    assert sides.min() >= 8


def test_mixup_and_cutmix_share_the_images():
    images = torch.rand(400, 1, 6, 6)
    mixed, weight = mix.mix(images, 0.3, 1.0, draws(400))
    partners = images.roll(-1, 0)
    pasted = ((mixed == images) | (mixed == partners)).flatten(1).all(1)
    assert pasted.double().mean() == pytest.approx(0.5, abs=0.1)
    blended = weight[:, None, None, None] * images + (1 - weight[:, None, None, None]) * partners
    torch.testing.assert_close(mixed[~pasted], blended[~pasted])


# --- options ---------------------------------------------------------------------------------------------------------


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
