"""One decode for everything: the declared rules, against values worked out by hand or by the file's writer."""

from __future__ import annotations

import struct
import threading
import warnings
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.data import decode
from striate.data.arrays import luma, to_bits
from striate.data.decode import decode_bytes
from striate.errors import UnreadableImageError

from .image_files import as_bytes, noise, npy, tiff


def test_grey_and_colour_come_as_they_are():
    pixels = noise(5, 7)
    assert np.array_equal(decode(as_bytes(Image.fromarray(pixels), "PNG")), pixels)
    grey = pixels[:, :, 0]
    assert np.array_equal(decode(as_bytes(Image.fromarray(grey), "PNG")), grey[:, :, None])


def test_one_bit_becomes_0_and_255():
    bits = noise(4, 9, 1)[:, :, 0] > 127
    assert np.array_equal(decode(as_bytes(Image.fromarray(bits), "PNG"))[:, :, 0], bits * np.uint8(255))


def test_transparency_is_laid_on_white():
    rgba = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], np.uint8)
    # 51 is one fifth: 255 + (200 - 255) / 5 = 244, 255 + (100 - 255) / 5 = 224, 255 - 255 / 5 = 204
    expected = [[[200, 100, 0], [255, 255, 255], [244, 224, 204]]]
    assert decode(as_bytes(Image.fromarray(rgba), "PNG")).tolist() == expected
    la = np.array([[[40, 255], [40, 0]]], np.uint8)
    assert decode(as_bytes(Image.fromarray(la), "PNG")).tolist() == [[[40], [255]]]


def test_palette_is_colour_and_its_transparent_entry_white():
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    assert decode(as_bytes(image, "PNG")).tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
    assert decode(as_bytes(image, "PNG", transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]
    half = as_bytes(image, "PNG", transparency=bytes([255, 255, 0]))
    assert decode(half).tolist() == [[[10, 20, 30], [40, 50, 60], [255, 255, 255]]]


def test_a_transparent_colour_is_white():
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    assert decode(as_bytes(image, "PNG", transparency=(9, 9, 9))).tolist() == [[[1, 2, 3], [255, 255, 255]]]


def test_cmyk_by_the_plain_formula():
    image = Image.new("CMYK", (2, 1))
    image.putpixel((0, 0), (0, 255, 255, 0))  # red
    image.putpixel((1, 0), (100, 0, 50, 55))
    assert decode(as_bytes(image, "TIFF")).tolist()[0][0] == [255, 0, 0]
    expected = [(255 - ink) * (255 - 55) / 255 for ink in (100, 0, 50)]
    assert np.abs(decode(as_bytes(image, "TIFF"))[0, 1] - np.array(expected)).max() <= 1
    red = as_bytes(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert np.abs(decode(red).reshape(-1, 3) - np.array([255.0, 0, 0])).max() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    """Each file stores the scene turned in the way that its orientation undoes (EXIF 2.3, table 6)."""
    scene = np.kron(noise(3, 4, 1)[:, :, 0], np.ones((16, 16), np.uint8))
    stored = {
        1: scene, 2: scene[:, ::-1], 3: scene[::-1, ::-1], 4: scene[::-1],
        5: scene.T, 6: np.rot90(scene), 7: scene[::-1, ::-1].T, 8: np.rot90(scene, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    jpeg = as_bytes(Image.fromarray(np.ascontiguousarray(stored)), "JPEG", quality=100, exif=exif)
    assert np.abs(decode(jpeg)[:, :, 0].astype(int) - scene).max() <= 3
    found = decode_bytes(jpeg, "x", 24)  # reduced, the size is still that of the whole, upright
    assert (found.size, found.orientation) == ((48, 64), orientation)
    assert found.pixels.shape == (24, 32, 1)
    turned_tiff = as_bytes(Image.fromarray(np.ascontiguousarray(stored)), "TIFF", tiffinfo={274: orientation})
    assert np.array_equal(decode(turned_tiff)[:, :, 0], scene)
    deep = tiff(np.ascontiguousarray(stored)[:, :, None].astype(np.uint16) * 257, orientation=orientation)
    assert np.array_equal(decode(deep)[:, :, 0], scene.astype(np.uint16) * 257)


def test_sixteen_bits_are_kept_not_clipped():
    deep = noise(6, 5, 1, dtype=np.uint16)[:, :, 0]
    for form in ("PNG", "TIFF"):
        found = decode(as_bytes(Image.fromarray(deep), form))
        assert found.dtype == np.uint16
        assert np.array_equal(found[:, :, 0], deep)
    assert np.array_equal(decode(tiff(deep[:, :, None], order=">"))[:, :, 0], deep)


def test_sixteen_bit_colour_png_gives_its_high_byte():
    import struct
    import zlib

    row = b"\0" + struct.pack(">6H", 0x1234, 0xABCD, 0x00FF, 0xFF00, 0x8000, 0xFFFF)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(row)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    assert decode(data).tolist() == [[[0x12, 0xAB, 0x00], [0xFF, 0x80, 0xFF]]]


def test_floats_from_0_to_1_become_sixteen_bits():
    values = np.array([[0.0, 0.5, 1.0]], np.float32)
    for source in (values, npy(values), as_bytes(Image.fromarray(values), "TIFF"), tiff(values[:, :, None])):
        assert decode(source)[:, :, 0].tolist() == [[0, 32768, 65535]]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([[0.0, 255.0]], np.float32), "from 0 to 255"),
        (np.array([[-0.1, 1.0]]), "from -0.1 to 1"),
        (np.array([[np.nan, 1.0]]), "NaN"),
        (np.array([[1, 2]], np.int64), "int64"),
        (np.zeros((2, 2), np.complex64), "complex64"),
        (np.zeros((0, 5), np.uint8), "without pixels"),
        (np.zeros(5, np.uint8), "1 axes"),
        (np.zeros((2, 2, 2, 2), np.uint8), "4 axes"),
    ],
)
def test_arrays_that_are_no_pixels_are_refused(values, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        decode(values)
    with pytest.raises(UnreadableImageError, match=reason):
        decode(npy(values))


def test_npy_with_any_number_of_channels():
    for values in (noise(3, 4, 7), noise(3, 4, 2, dtype=np.uint16), noise(3, 4, 1)[:, :, 0]):
        assert np.array_equal(decode(npy(values)), values.reshape(3, 4, -1))
    assert decode(np.array([[True, False]])).tolist() == [[[255], [0]]]


@pytest.mark.parametrize("settings", [
    {}, {"order": ">"}, {"big": True}, {"planar": True}, {"tile": 16}, {"tile": 16, "planar": True, "deflate": True},
    {"rows_per_strip": 7}, {"deflate": True, "predictor": 2}, {"order": ">", "deflate": True, "predictor": 2},
    {"rows_per_strip": 10, "planar": True, "predictor": 2}, {"big": True, "order": ">", "tile": 32},
])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_of_five_channels_in_every_layout(settings, dtype):
    values = noise(37, 41, 5, dtype=dtype)
    found = decode(tiff(values, **settings))
    assert found.dtype == dtype
    assert np.array_equal(found, values)


@pytest.mark.parametrize("predictor", [1, 3])
def test_float_tiff_with_predictors(predictor):
    values = np.random.default_rng(1).random((9, 8, 2)).astype(np.float32)
    found = decode(tiff(values, deflate=True, predictor=predictor))
    assert np.array_equal(found, np.rint(values.astype(np.float64) * 65535).astype(np.uint16))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", None])
def test_compressed_sixteen_bit_tiff_as_pillow_writes_it(compression):
    deep = np.kron(noise(6, 5, 1, dtype=np.uint16)[:, :, 0], np.ones((9, 9), np.uint16))
    found = decode(as_bytes(Image.fromarray(deep), "TIFF", compression=compression))
    assert np.array_equal(found[:, :, 0], deep)


def test_deep_tiff_colour_rules():
    colour = noise(4, 4, 3, dtype=np.uint16)
    assert np.array_equal(decode(tiff(colour, photometric=2)), colour)
    alpha = np.concatenate([colour, np.full((4, 4, 1), 0, np.uint16)], axis=2)
    assert (decode(tiff(alpha, photometric=2, extra=(2,))) == 65535).all()
    alpha[..., 3] = 65535
    assert np.array_equal(decode(tiff(alpha, photometric=2, extra=(2,))), colour)
    assert np.array_equal(decode(tiff(alpha, photometric=2, extra=(0,))), alpha)  # a fourth band, not declared as alpha
    half = np.array([[[32768, 0, 0, 32768]]], np.uint16)  # red, half transparent, its colour multiplied or dark
    assert decode(tiff(half, photometric=2, extra=(1,))).tolist() == [[[65535, 32767, 32767]]]
    assert decode(tiff(half, photometric=2, extra=(2,))).tolist() == [[[49151, 32767, 32767]]]
    white_is_zero = decode(tiff(colour[:, :, :1], photometric=0))
    assert np.array_equal(white_is_zero, 65535 - colour[:, :, :1])
    ink = np.array([[[0, 65535, 65535, 0]]], np.uint16)
    assert decode(tiff(ink, photometric=5)).tolist() == [[[65535, 0, 0]]]


DEEP = noise(9, 8, 3, dtype=np.uint16)
DEEP_TIFFS = [
    tiff(DEEP, photometric=2),
    tiff(DEEP, order=">", planar=True, rows_per_strip=4, deflate=True),
    tiff(DEEP, big=True, tile=16, predictor=2),
    tiff(DEEP.astype(np.float32) / 65535, deflate=True, predictor=3),
    as_bytes(Image.fromarray(DEEP[:, :, 0]), "TIFF", compression="tiff_lzw"),
]


@given(st.sampled_from(DEEP_TIFFS), st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1))
@settings(max_examples=400, deadline=None)
def test_a_damaged_deep_tiff_is_read_or_refused(whole, changes):
    data = bytearray(whole)
    for place, value in changes:
        data[place % len(data)] = value
    with suppress(UnreadableImageError):  # and no other
        assert decode(bytes(data)).ndim == 3


@pytest.mark.parametrize("tag", [258, 259, 262, 322, 323, 324, 325])
def test_a_tiff_whose_tags_hold_nothing(tag):
    data = DEEP_TIFFS[2]
    at = data.index(struct.pack("<H", tag), 16) + 4
    damaged = data[:at] + struct.pack("<Q", 0) + data[at + 8 :]
    with suppress(UnreadableImageError):
        assert decode(damaged).ndim == 3


def test_wide_whole_numbers_of_a_tiff():
    assert decode(tiff(np.array([[[0], [40000]]], np.int32))).tolist() == [[[0], [40000]]]
    for bad in (np.array([[[-1], [5]]], np.int16), np.array([[[0], [70000]]], np.uint32)):
        with pytest.raises(UnreadableImageError, match="expected 0 to 65535"):
            decode(tiff(bad))


def test_channels_convert_between_grey_and_colour_only():
    pixels = noise(5, 5)
    pillow = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.array_equal(decode(pixels, 1)[:, :, 0], pillow)
    assert np.array_equal(decode(pillow, 3), np.stack([pillow] * 3, axis=2))
    with pytest.raises(UnreadableImageError, match="7 channels where 3"):
        decode(noise(2, 2, 7), 3)


def test_luma_of_sixteen_bits_does_not_overflow():
    white = np.full((1, 1, 3), 65535, np.uint16)
    assert luma(white).tolist() == [[65535]]


def test_bits_scale_the_whole_range():
    every = np.arange(256, dtype=np.uint8)
    assert to_bits(every, 16)[[0, 1, 255]].tolist() == [0, 257, 65535]
    assert np.array_equal(to_bits(to_bits(every, 16), 8), every)
    assert to_bits(np.array([0, 128, 129, 65535], np.uint16), 8).tolist() == [0, 0, 1, 255]


def test_reduced_decoding_depends_on_bytes_and_side_alone():
    jpeg = as_bytes(Image.fromarray(noise(300, 200)), "JPEG")
    once, again = decode_bytes(jpeg, "a", 50), decode_bytes(jpeg, "b", 50)
    assert once.pixels.shape == (75, 50, 3)
    assert np.array_equal(once.pixels, again.pixels)
    assert decode_bytes(jpeg, "a", 500).pixels.shape == (300, 200, 3)  # never enlarged


def test_a_pillow_image_is_decoded_like_its_file():
    image = Image.fromarray(noise(4, 4, 4))
    assert np.array_equal(decode(image), decode(as_bytes(image, "PNG")))


def test_pillow_warnings_stay_inside_in_every_thread():
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    data = as_bytes(image, "PNG", transparency=bytes([255, 128, 0]))  # converting this makes Pillow warn
    before = list(warnings.filters)
    failures = []

    def work():
        for _ in range(50):
            try:
                decode(data)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert warnings.filters == before


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UnreadableImageError, match="file not found"):
        decode(tmp_path / "no.png")
    with pytest.raises(UnreadableImageError, match="is a folder"):
        decode(tmp_path)
    with pytest.raises(UnreadableImageError, match="not a valid file name"):
        decode("a\0b.png")
