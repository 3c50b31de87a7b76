"""Shifts, flips, resampling and crops: worked references and the papers' figures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data.augment import augment, geometry, training_boxes
from striate.data.draws import Draws
from striate.options import AugmentOptions
from striate.spec import InputSpec


def options(**given) -> AugmentOptions:
    return AugmentOptions(preset="none", **given)


def draws(count=6) -> Draws:
    return Draws(seed=0, epoch=0, indices=np.arange(count))


def pixels(count=6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, 12, 10)).astype(np.uint8))


def identity_maps(count, angle=0.0, scale=1.0):
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    return np.tile([[cos, -sin], [sin, cos]], (count, 1, 1)), np.zeros((count, 2))


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


@settings(max_examples=20, deadline=None)
@given(by=st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=5))
def test_a_mirrored_border_is_numpys_reflection(by):
    stored = pixels(len(by))
    padded = np.pad(stored.numpy(), ((0, 0), (0, 0), (5, 5), (5, 5)), mode="reflect")
    windows = [
        image[:, 5 - down : 17 - down, 5 - right : 15 - right] for image, (down, right) in zip(padded, by, strict=True)
    ]
    expected, moves = np.stack(windows), np.array(by)
    assert np.array_equal(geometry.shift(stored, moves, "mirrored"), expected)
    reach = int(np.abs(moves).max())
    assert np.array_equal(geometry.shift_by_indexing(stored, moves, reach, "mirrored"), expected)


def test_a_mirrored_border_wider_than_the_image_repeats_its_last_line():
    stored = torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3)
    assert geometry.shift(stored, np.array([[3, 0]]), "mirrored")[0, 0].tolist() == [[3, 4, 5], [3, 4, 5]]


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
    assert (
        training_boxes(np.full((3, 2), 50), InputSpec(size=(12, 10), channels=3), options(flip=0.5), draws(3)) is None
    )
