"""Boxes cut from photos: what torch resizes is what Pillow does up to rounding, and little is lost to canvases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data import decode
from striate.data.augment.boxes import resized_crop_boxes
from striate.data.augment.geometry import flip
from striate.data.crops import crop, crop_into, empty_batch, region_of
from striate.data.decode import decode_bytes, reduction
from striate.data.draws import Draws
from striate.data.fit import FILTERS
from striate.data.normalise import normalise
from striate.spec import InputSpec

from .image_files import SHARED_DATA, noise, smooth

PHOTOS = sorted((SHARED_DATA / "photos_fullsize").rglob("*.jpg"))[:12]


@pytest.mark.parametrize(("filter_", "levels"), [("bilinear", 1), ("bicubic", 12), ("lanczos", 0), ("nearest", 0)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_crops_are_pillow_s_up_to_rounding(filter_, levels, channels):
    image = np.concatenate([smooth(90, 120, 1), noise(90, 120, 1)], axis=2)[:, :, :channels]
    spec = InputSpec(size=(24, 32), channels=channels, interpolation=filter_)
    for top, left, height, width in ((0, 0, 90, 120), (5, 7, 60, 33), (80, 100, 10, 20), (3, 3, 24, 32), (9, 9, 1, 1)):
        ours = crop(image, (top, left, height, width), spec)
        for plane, channel in zip(ours, np.moveaxis(image, 2, 0), strict=True):
            region = Image.fromarray(channel[top : top + height, left : left + width])
            pillow = np.asarray(region.resize((32, 24), FILTERS[filter_])).astype(int)
            assert np.abs(plane - pillow).max() <= levels
            assert np.abs(plane - pillow).mean() <= levels / 2


def test_grey_and_colour_are_converted_and_bits_widened():
    grey, colour = smooth(50, 40)[:, :, :1], smooth(50, 40)
    box = (2.0, 3.0, 30.0, 31.0)
    as_colour = crop(grey, box, InputSpec(size=(9, 9), channels=3))
    assert np.array_equal(as_colour, np.repeat(crop(grey, box, InputSpec(size=(9, 9), channels=1)), 3, axis=0))
    assert crop(colour, box, InputSpec(size=(9, 9), channels=1)).shape == (1, 9, 9)
    wide = crop(colour, box, InputSpec(size=(9, 9), channels=3, bits=16))
    assert wide.dtype == np.int32
    assert np.array_equal(wide, 257 * crop(colour, box, InputSpec(size=(9, 9), channels=3)).astype(np.int32))


def test_regions_are_whole_pixels_with_black_outside():
    image = smooth(10, 12)
    assert np.array_equal(region_of(image, (1.4, 2.6, 3.0, 4.0)), image[1:4, 3:7])
    assert np.array_equal(region_of(image, (9.6, 3.0, 0.2, 0.2)), np.zeros((1, 1, 3)))
    outside = region_of(image, (-2, -3, 20, 20))
    assert np.array_equal(outside[2:12, 3:15], image)
    assert outside.sum() == image.sum()
    assert not region_of(image, (50, 50, 3, 3)).any()
    with pytest.raises(ValueError, match="holds nothing"):
        region_of(image, (0, 0, 0, 3))


def test_a_crop_does_not_depend_on_its_batch():
    images, spec = [noise(40, 50, 3, seed) for seed in range(5)], InputSpec(size=(16, 16), channels=3)
    batch = empty_batch(5, spec)
    for row, image in zip(batch, images, strict=True):
        crop_into(row, image, (3, 4, 30, 20), spec)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for row, image in zip(batch, images, strict=True):
        assert np.array_equal(row.numpy(), crop(image, (3, 4, 30, 20), spec))


@pytest.mark.parametrize("bits", [8, 16])
def test_both_memory_layouts_are_flipped_and_normalised_alike(bits):
    pixels = torch.from_numpy(noise(200, 60, 3, 1).transpose(2, 0, 1)[None].repeat(40, 0))
    pixels += torch.arange(40, dtype=torch.uint8)[:, None, None, None]
    pixels = pixels if bits == 8 else pixels.to(torch.int32) * 257
    innermost = pixels.contiguous(memory_format=torch.channels_last)
    which = np.arange(40) % 3 == 0
    mirrored = torch.where(torch.from_numpy(which)[:, None, None, None], pixels.flip(-1), pixels)
    for order in ("RGB", "BGR"):
        spec = InputSpec(
            size=(200, 60), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), channel_order=order, bits=bits
        )
        first, last = (normalise(flip(one, which), spec) for one in (pixels, innermost))
        assert torch.equal(flip(innermost, which), mirrored)
        assert torch.equal(first, last)
        assert last.is_contiguous(memory_format=torch.channels_last)
        single = normalise(flip(innermost[7:8], which[7:8]), spec)
        assert torch.equal(single, last[7:8])


@pytest.mark.skipif(not PHOTOS, reason="no photos at ../shared/data/photos_fullsize")
@pytest.mark.parametrize(("side", "mean", "most"), [(224, 0.0, 0.0), (112, 2.5, 7.0), (64, 3.0, 8.0)])
def test_what_canvases_change_on_real_photos(side, mean, most):
    """Mean difference, of 255 levels, between crops of 8 to 100 % of the area from the canvas and from all pixels.

    Boxes go from block to block here, so that what is measured is lost detail and not a shift by half a pixel.
    """
    spec, found, factor = InputSpec(size=(side, side), channels=3), [], 1
    for number, path in enumerate(PHOTOS):
        data = path.read_bytes()
        whole, least = decode(data), -(-side * 8 // 7)
        canvas, factor = decode_bytes(data, "x", least).pixels, reduction(whole.shape[:2], least)
        size = np.array(whole.shape[:2]) // factor * factor
        boxes = resized_crop_boxes(np.tile(size, (8, 1)), (0.08, 1.0), (3 / 4, 4 / 3), Draws(0, number, np.arange(8)))
        boxes = np.floor(boxes / factor) * factor
        pairs = [(crop(whole, tuple(box), spec), crop(canvas, tuple(box / factor), spec)) for box in boxes]
        found.append(np.mean([np.abs(one.astype(int) - other).mean() for one, other in pairs]))
    assert np.mean(found) <= mean
    assert max(found) <= most
    assert (factor > 1) == (max(found) > 0)
