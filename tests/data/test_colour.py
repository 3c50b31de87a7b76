"""Colours, noise and mixing: worked references, laws and areas."""

import numpy as np
import pytest
import torch

from striate.data.augment import colour, mix
from striate.data.draws import Draws
from striate.options import AugmentOptions


def options(**given) -> AugmentOptions:
    return AugmentOptions(preset="none", **given)


def draws(count=6) -> Draws:
    return Draws(seed=0, epoch=0, indices=np.arange(count))


def pixels(count=6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, 12, 10)).astype(np.uint8))


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
