"""Corruptions and sweeps as functions of pixels: their law, their strength, and that no image minds its neighbours."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data.draws import Draws
from striate.errors import UnknownNameError
from striate.evaluation.robustness import changed, corrupt
from striate.evaluation.robustness.blur import filtered, trail
from striate.evaluation.robustness.corruptions import CORRUPTIONS
from striate.evaluation.robustness.strengths import SEVERITIES, strength
from striate.evaluation.robustness.sweeps import SWEEPS, border_colours, strengths_of
from striate.options.robustness import GROUPS, KINDS, kinds_of

# kinds whose five settings, which are the papers', do not all go one way
ZIGZAG = {"saturate", "glass-blur", "snow", "frost", "fog", "motion-blur"}


def pictures(count: int, channels: int, height: int, width: int, seed: int = 3) -> np.ndarray:
    """Soft coloured shapes with hard edges, such as corruptions change."""
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(seed)
    soft = gaussian_filter(generator.normal(size=(count, channels, height, width)), (0, 0, height / 10, width / 10))
    soft /= soft.std(axis=(2, 3), keepdims=True)
    edges = np.sign(gaussian_filter(generator.normal(size=(count, 1, height, width)), (0, 0, height / 8, width / 8)))
    return np.clip(120 + 40 * soft + 45 * edges, 0, 255).astype(np.uint8)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def unlikeness(one: np.ndarray, other: np.ndarray) -> float:
    """For what makes grey images darker and lighter at once."""
    return 1 - float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 80, 96)], ids=str)
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_grows_with_its_severity_and_keeps_the_form(kind, shape):
    images = pictures(6, *shape)
    kept, indices = images.copy(), np.arange(6)
    results = [corrupt(images, kind, severity, indices) for severity in (0, *SEVERITIES)]
    assert (images == kept).all()
    assert (results[0] == images).all()
    for result in results:
        assert (result.dtype, result.shape) == (np.uint8, images.shape)
    apart = [(unlikeness if kind == "frost" else distance)(result, images) for result in results]
    if kind == "saturate" and shape[0] == 1:
        assert apart == [0] * 6
        return
    assert 0 < apart[1] < apart[5]
    if kind not in ZIGZAG:
        assert apart == sorted(apart)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_image_does_not_mind_its_neighbours(kind):
    images, indices = pictures(5, 3, 32, 40), np.array([7, 3, 400, 12, 9])
    together = corrupt(images, kind, 4, indices)
    assert (corrupt(images, kind, 4, indices) == together).all()
    for chosen in ([2], [4, 0], [1, 3, 2]):
        assert (corrupt(images[chosen], kind, 4, indices[chosen]) == together[chosen]).all()


@pytest.mark.parametrize(
    "kind", ["gaussian-noise", "shot-noise", "motion-blur", "glass-blur", "snow", "frost", "elastic"]
)
def test_draws_differ_by_image_seed_and_severity(kind):
    images = np.repeat(pictures(1, 3, 32, 32), 2, axis=0)
    first, second = corrupt(images, kind, 3, np.array([0, 1]))
    assert distance(first, second) > 0
    assert distance(first, corrupt(images[:1], kind, 3, np.array([0]), seed=1)[0]) > 0
    flat = np.full((2, 1, 32, 32), 128, np.uint8)
    noise = [corrupt(flat, "gaussian-noise", severity, np.arange(2)) / 1.0 - 128 for severity in (1, 2)]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1


def test_noises_follow_their_laws():
    flat = np.full((4, 3, 64, 96), 100, np.uint8)
    indices = np.arange(4)
    (deviation,) = strength("gaussian-noise", 2, (64, 96))
    assert corrupt(flat, "gaussian-noise", 2, indices).std() == pytest.approx(255 * deviation, rel=0.02)
    (deviation,) = strength("speckle-noise", 2, (64, 96))
    assert corrupt(flat, "speckle-noise", 2, indices).std() == pytest.approx(100 * deviation, rel=0.02)
    (share,) = strength("impulse-noise", 5, (64, 96))
    hit = corrupt(flat, "impulse-noise", 5, indices)
    for value in (0, 255):
        assert (hit == value).mean() == pytest.approx(share / 2, rel=0.1)
    assert set(np.unique(hit)) == {0, 100, 255}


def test_shot_noise_is_poissons_quantile_of_the_same_draws():
    from scipy.stats import poisson

    images = pictures(2, 1, 80, 80)
    (photons,) = strength("shot-noise", 3, (80, 80))
    drawn = Draws(0, 3, np.arange(2)).uniform("shot-noise", count=6400).reshape(images.shape)
    expected = (poisson.ppf(drawn, photons * images.astype(float) / 255) / photons).astype(np.float32)
    given = corrupt(images, "shot-noise", 3, np.arange(2))
    assert (given == np.rint(np.float32(255) * np.clip(expected, 0, 1))).all()


def test_gaussian_blur_is_torchvisions():
    from torchvision.transforms.functional import gaussian_blur

    images = pictures(2, 3, 224, 230)
    for severity in (1, 3):
        (sigma,) = strength("gaussian-blur", severity, (224, 230))
        size = 2 * int(4 * sigma + 0.5) + 1
        expected = gaussian_blur(torch.from_numpy(images).float(), [size, size], [sigma]).round().numpy()
        given = corrupt(images, "gaussian-blur", severity, np.arange(2))
        assert np.abs(given - expected).max() <= 1
        assert (given == expected).mean() > 0.99


def test_both_ways_of_filtering_agree():
    from scipy.ndimage import convolve

    image = pictures(1, 3, 40, 50)[0].astype(np.float32) / 255
    y, x = np.mgrid[-6:7, -6:7]
    disc = (x * x + y * y <= 30).astype(float)
    expected = convolve(image, (disc / disc.sum())[None], mode="mirror")
    assert np.abs(filtered(image, disc) - expected).max() < 1e-5
    line = trail(5, 3, 0.0)
    assert line.sum() == pytest.approx(1)
    middle = len(line) // 2
    assert line[middle, middle:].sum() == pytest.approx(1)  # to the right alone, along the row
    assert (np.diff(line[middle, middle + 1 : -1]) < 0).all()
    small = pictures(1, 1, 8, 8)
    assert corrupt(small, "defocus-blur", 5, np.zeros(1)).shape == small.shape


def test_colours_change_as_in_hsv():
    images = pictures(1, 3, 32, 32)
    for kind in ("brightness", "saturate"):
        figures = strength(kind, 4, (32, 32))
        given = corrupt(images, kind, 4, np.zeros(1))[0].reshape(3, -1).T
        for before, after in list(zip(images[0].reshape(3, -1).T, given, strict=True))[::37]:
            hue, saturation, value = colorsys.rgb_to_hsv(*(before / 255.0))
            if kind == "brightness":
                value = min(1.0, value + figures[0])
            else:
                saturation = min(1.0, saturation * figures[0] + figures[1]) if saturation else 0.0
            assert after / 255.0 == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, value), abs=0.003)


def test_contrast_pixelate_and_jpeg_by_hand():
    images, index = pictures(1, 3, 32, 32), np.zeros(1)
    (kept,) = strength("contrast", 3, (32, 32))
    means = images.astype(float).mean(axis=(2, 3), keepdims=True)
    assert np.abs(corrupt(images, "contrast", 3, index) - (means + kept * (images - means))).max() <= 0.51
    (quality,) = strength("jpeg", 4, (32, 32))
    stream = io.BytesIO()
    Image.fromarray(np.moveaxis(images[0], 0, 2)).save(stream, "JPEG", quality=int(quality))
    assert (np.moveaxis(corrupt(images, "jpeg", 4, index)[0], 0, 2) == np.asarray(Image.open(stream))).all()
    wide = pictures(1, 1, 100, 100)
    squares = corrupt(wide, "pixelate", 5, index)[0, 0]  # a quarter of the side
    means = wide[0, 0].reshape(25, 4, 25, 4).mean(axis=(1, 3))
    assert np.abs(squares - means.repeat(4, 0).repeat(4, 1)).max() <= 1.01  # rounded for rows and columns


@pytest.mark.parametrize("kind", SWEEPS)
@pytest.mark.parametrize("size", [28, 224])
def test_a_sweep_passes_its_neutral_point_where_nothing_happens(kind, size):
    points = strengths_of(kind, (size, size))
    images = pictures(2, 3, 40, 40)
    for direction in dict.fromkeys(direction for direction, _ in points):
        strengths = [one for where, one in points if where == direction]
        assert strengths.count(SWEEPS[kind].neutral) == 1
        assert len(strengths) == len(set(strengths))
        same = changed(images, kind, SWEEPS[kind].neutral, np.arange(2), direction=direction)
        assert (same == images).all()
        for one in (strengths[0], strengths[-1]):
            if one != SWEEPS[kind].neutral:
                other = changed(images, kind, one, np.arange(2), direction=direction)
                assert (other.dtype, other.shape) == (np.uint8, images.shape)
                assert distance(other, images) > 0
                alone = changed(images[1:], kind, one, np.array([1]), direction=direction)
                assert (alone == other[1:]).all()


def test_moved_turned_enlarged_and_negative_by_hand():
    images, indices = pictures(2, 3, 20, 20), np.arange(2)
    turned = changed(images, "rotation", 90.0, indices)
    assert (turned == np.rot90(images, axes=(2, 3))).all()
    assert (changed(images, "rotation", 180.0, indices) == images[:, :, ::-1, ::-1]).all()
    fill = border_colours(images)[:, :, None]
    moved = changed(images, "translation", 3.0, indices, direction="right")
    assert (moved[..., 3:] == images[..., :-3]).all()
    assert (moved[..., :3] == fill[..., None]).all()
    moved = changed(images, "translation", -4.0, indices, direction="down")
    assert (moved[:, :, :-4] == images[:, :, 4:]).all()
    assert (moved[:, :, -1] == fill).all()
    assert (changed(images, "negative", -1.0, indices) == 255 - images).all()
    smaller = changed(images, "scale", 0.5, indices)
    assert (smaller[:, :, :5] == fill[..., None]).all()
    halves = images.reshape(2, 3, 10, 2, 10, 2).mean(axis=(3, 5))
    assert distance(smaller[:, :, 5:15, 5:15], halves) < 8
    flat = np.full((1, 1, 60, 60), 128, np.uint8)
    assert changed(flat, "noise-level", 0.1, np.zeros(1)).std() == pytest.approx(25.5, rel=0.03)


def test_words_mean_kinds():
    assert kinds_of("all") == KINDS
    assert kinds_of(("pgd", "noise", "gaussian-noise")) == (*GROUPS["noise"], "pgd")
    assert set(kinds_of("corruptions")) == set(CORRUPTIONS)
    with pytest.raises(UnknownNameError) as caught:
        kinds_of("fogg")
    assert caught.value.nearest[0] == "fog"
    with pytest.raises(UnknownNameError):
        corrupt(pictures(1, 1, 28, 28), "translation", 1, np.zeros(1))
    with pytest.raises(UnknownNameError):
        changed(pictures(1, 1, 28, 28), "fog", 1.0, np.zeros(1))
