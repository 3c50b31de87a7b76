"""The resize rules, against Pillow called step by step as the rule is worded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.data import fit
from striate.data.fit import FILTERS, cut, fit_many
from striate.errors import DataError
from striate.spec import INTERPOLATIONS, RESIZE_RULES, InputSpec

from .image_files import noise, smooth


def spec(size=(24, 24), channels=3, **settings) -> InputSpec:
    return InputSpec(size=size, channels=channels, **settings)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_crop_is_resize_of_the_short_side_and_then_the_centre(interpolation):
    image = smooth(90, 120)
    found = fit(image, spec(resize="crop", crop_fraction=0.8, interpolation=interpolation))
    # 24 / 0.8 = 30 for the short side of 90, so 40 for the long one; the middle 24 by 24 of that
    resized = np.asarray(Image.fromarray(image).resize((40, 30), FILTERS[interpolation]))
    assert np.abs(found.astype(int) - resized[3:27, 8:32].transpose(2, 0, 1)).max() <= 1


def test_squash_ignores_the_aspect_ratio():
    image = smooth(90, 50)
    expected = np.asarray(Image.fromarray(image).resize((20, 24), Image.Resampling.BILINEAR))
    assert np.array_equal(fit(image, spec((24, 20), resize="squash")), expected.transpose(2, 0, 1))


def test_letterbox_fills_with_the_mean_colour():
    image = smooth(30, 60)
    found = fit(image, spec(resize="letterbox", mean=(0.0, 0.5, 1.0)))
    inner = np.asarray(Image.fromarray(image).resize((24, 12), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.array_equal(found[:, 6:18], inner)
    for channel, value in enumerate((0, 128, 255)):
        assert (found[channel, :6] == value).all()
        assert (found[channel, 18:] == value).all()


def test_letterbox_of_a_grey_image_for_a_colour_network_has_the_mean_colour_too():
    found = fit(noise(10, 20, 1), spec(resize="letterbox", mean=(0.0, 0.5, 1.0)))
    assert found[:, 0, 0].tolist() == [0, 128, 255]


def test_pad_centres_without_resizing_and_shrinks_what_is_larger():
    image = noise(10, 13)
    found = fit(image, spec(resize="pad"))
    assert np.array_equal(found[:, 7:17, 5:18], image.transpose(2, 0, 1))
    assert found.sum() == image.sum()  # the rest is 0
    large = fit(smooth(48, 24), spec(resize="pad"))
    assert large[:, :, 6:18].any(axis=(0, 2)).all()
    assert not large[:, :, :6].any()


def test_the_native_size_is_left_alone():
    image = noise(24, 24)
    for rule in RESIZE_RULES:
        assert np.array_equal(fit(image, spec(resize=rule)), image.transpose(2, 0, 1))


def test_channels_and_bits_follow_the_spec():
    grey, deep = noise(24, 24, 1), noise(24, 24, 1, dtype=np.uint16)
    assert np.array_equal(fit(grey, spec()), np.repeat(grey.transpose(2, 0, 1), 3, axis=0))
    assert np.array_equal(fit(grey, spec(channels=1, bits=16)), grey.transpose(2, 0, 1).astype(np.int32) * 257)
    found = fit(deep, spec(channels=1, bits=16))
    assert found.dtype == np.int32
    assert np.array_equal(found, deep.transpose(2, 0, 1))
    assert fit(deep, spec(channels=1)).dtype == np.uint8
    with pytest.raises(DataError, match="5 channels where 3"):
        fit(noise(24, 24, 5), spec())


def test_sixteen_bits_resize_like_eight():
    image = smooth(61, 47)[:, :, :1]
    deep = fit(image.astype(np.uint16) * 257, spec(channels=1, bits=16))
    assert np.abs(deep / 257 - fit(image, spec(channels=1))).max() <= 1.0  # 8 bits round twice


def test_bicubic_of_sixteen_bits_does_not_wrap_around():
    steps = np.kron(np.array([[0, 65535], [65535, 0]], np.uint16), np.ones((9, 9), np.uint16))[:, :, None]
    found = fit(steps, spec((31, 31), 1, bits=16, interpolation="bicubic", resize="squash"))
    smoother = fit(steps, spec((31, 31), 1, bits=16, interpolation="bilinear", resize="squash"))
    assert np.abs(found - smoother).max() < 20_000


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3, 4]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    rule=st.sampled_from(list(RESIZE_RULES)),
    fraction=st.sampled_from([1.0, 0.875, 0.5]),
    bits=st.sampled_from([8, 16]),
    deep=st.booleans(),
)
def test_one_and_many_give_the_same_bytes(height, width, channels, size, rule, fraction, bits, deep):
    images = np.stack([noise(height, width, channels, seed, np.uint16 if deep else np.uint8) for seed in range(3)])
    wanted = spec(size, channels, resize=rule, crop_fraction=fraction, bits=bits)
    many = fit_many(images.transpose(0, 3, 1, 2), wanted)
    assert many.shape == (3, channels, *size)
    assert np.array_equal(many, np.stack([fit(image, wanted) for image in images]))


def test_whole_pixel_boxes_are_copied_and_the_outside_is_0():
    image = noise(30, 30)
    inside = cut(image, (3.0, 4.0, 24.0, 24.0), spec())
    assert np.array_equal(inside, image[3:27, 4:28].transpose(2, 0, 1))
    beyond = cut(image, (-4.0, 10.0, 24.0, 24.0), spec())
    assert not beyond[:, :4].any()
    assert np.array_equal(beyond[:, 4:, :20], image[:20, 10:30].transpose(2, 0, 1))
    assert not beyond[:, :, 20:].any()


def test_boxes_resample_like_pillow():
    image = smooth(50, 70)
    expected = np.asarray(
        Image.fromarray(image).resize((24, 24), Image.Resampling.BILINEAR, box=(5.5, 7.25, 60.0, 41.0))
    )
    found = cut(image, (7.25, 5.5, 41.0 - 7.25, 60.0 - 5.5), spec())
    assert np.array_equal(found, expected.transpose(2, 0, 1))


def test_a_box_that_misses_the_image_is_black_and_an_empty_one_an_error():
    assert not cut(noise(8, 8), (20.0, 20.0, 5.0, 5.0), spec()).any()
    with pytest.raises(ValueError, match="holds nothing"):
        cut(noise(8, 8), (0.0, 0.0, 0.0, 5.0), spec())
