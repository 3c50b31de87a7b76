"""JPEG data decoded without Pillow: the same pixels as by Pillow, the same refusals, and the same facts."""

from __future__ import annotations

import importlib
import io

import numpy as np
import pytest
from PIL import Image

from striate.data import jpeg
from striate.data.canvases import decoder_version
from striate.data.decode import decode_bytes
from striate.data.jpeg import jpeg_pixels, plain_header
from striate.errors import UnreadableImageError

from .image_files import SHARED_DATA, as_bytes, smooth

decoding = importlib.import_module("striate.data.decode")  # the package's `decode` is the function

pytest.importorskip("simplejpeg")


def drawn(seed: int) -> tuple[bytes, int | None]:
    """A JPEG file of any kind that Pillow writes, one in three of them damaged, and the least side to decode it for."""
    draw = np.random.default_rng(seed)
    image = Image.fromarray(smooth(*draw.integers(1, 130, 2).tolist(), seed))
    image = image.convert(draw.choice(["RGB", "RGB", "RGB", "L", "CMYK"]))
    settings = {"quality": int(draw.integers(1, 101)), "progressive": bool(draw.integers(2))}
    settings["subsampling"] = int(draw.integers(3))
    if draw.integers(2):
        settings["restart_marker_blocks"] = int(draw.integers(1, 9))
    if image.mode == "RGB" and not draw.integers(4):
        settings |= {"keep_rgb": True, "subsampling": 0}
    if draw.integers(2):
        exif = Image.Exif()
        exif[0x0112] = int(draw.integers(1, 9))
        settings["exif"] = exif
    data = bytearray(as_bytes(image, "JPEG", **settings))
    damage = draw.integers(9)
    if damage == 0:
        del data[draw.integers(1, len(data)) :]
    elif damage == 1:
        for place in draw.integers(0, len(data), 3):
            data[place] = draw.integers(256)
    elif damage == 2:
        data += draw.bytes(20)  # behind the end
    return bytes(data), [None, 1, 8, 9, 16, 32][draw.integers(6)]


def outcome(data: bytes, side: int | None) -> tuple[object, ...]:
    """All that decoding says, pixels and errors included."""
    try:
        found = decode_bytes(data, "x", side)
    except UnreadableImageError as error:
        return (error.reason,)
    return (found.pixels.shape, found.pixels.tobytes(), found.size, found.mode, found.format, found.orientation)


def test_pixels_and_refusals_are_pillow_s(monkeypatch):
    direct = 0

    def watched(*arguments):
        nonlocal direct
        pixels = jpeg_pixels(*arguments)
        direct += pixels is not None
        return pixels

    files = [drawn(seed) for seed in range(600)]
    with monkeypatch.context() as patched:
        patched.setattr(decoding, "jpeg_pixels", watched)
        ours = [outcome(*file) for file in files]
    monkeypatch.setattr(decoding, "jpeg_pixels", lambda *_: None)
    for seed, (file, found) in enumerate(zip(files, ours, strict=True)):
        assert found == outcome(*file), seed
    assert direct > 300
    assert 20 < sum(len(one) == 1 for one in ours) < 200


@pytest.mark.skipif(not (SHARED_DATA / "photos_fullsize").is_dir(), reason="needs ../shared/data/photos_fullsize")
@pytest.mark.parametrize("side", [None, 16, 64, 128])
def test_photos_of_cameras_too(side, monkeypatch):
    files = sorted((SHARED_DATA / "photos_fullsize").rglob("*.jpg"))[:10]
    ours = [outcome(file.read_bytes(), side) for file in files]
    monkeypatch.setattr(decoding, "jpeg_pixels", lambda *_: None)
    assert ours == [outcome(file.read_bytes(), side) for file in files]


def test_what_is_left_to_pillow():
    colour, grey = as_bytes(Image.fromarray(smooth(40, 60)), "JPEG"), Image.fromarray(smooth(40, 60)).convert("L")
    whole = jpeg_pixels(colour, "RGB", (40, 60), 1)
    half = jpeg_pixels(as_bytes(grey, "JPEG"), "L", (40, 60), 2)
    assert whole is not None
    assert half is not None
    assert (whole.shape, half.shape) == ((40, 60, 3), (20, 30, 1))
    assert jpeg_pixels(colour, "CMYK", (40, 60), 1) is None
    assert jpeg_pixels(colour, "RGB", (40, 60), 16) is None
    assert jpeg_pixels(colour, "RGB", (41, 60), 1) is None
    assert jpeg_pixels(colour[:-40], "RGB", (40, 60), 1) is None


def test_a_plain_header_says_what_pillow_finds():
    plain = 0
    for seed in range(300):
        data, _ = drawn(seed)
        found = plain_header(data)
        if found is not None:
            plain += 1
            with Image.open(io.BytesIO(data)) as image:
                assert (image.mode, (image.height, image.width), image.format) == (*found, "JPEG"), seed
                assert not image.getexif(), seed
    assert plain > 50


def test_damaged_headers_end_as_pillow_says(monkeypatch):
    draw = np.random.default_rng(0)
    whole = as_bytes(Image.fromarray(smooth(40, 60)), "JPEG", quality=30)
    files = [whole[:length] for length in range(0, whole.index(b"\xff\xda") + 20, 3)]
    for _ in range(400):
        data = bytearray(whole)
        values = [0, 1, 3, 8, 0xC0, 0xC2, 0xDA, 0xDB, 0xE1, 0xFF, int(draw.integers(256))]
        data[draw.integers(2, 180)] = values[draw.integers(len(values))]
        files.append(bytes(data))
    ours = [outcome(data, None) for data in files]
    assert sum(plain_header(data) is not None for data in files) > 100
    monkeypatch.setattr(decoding, "plain_header", lambda _: None)
    assert ours == [outcome(data, None) for data in files]


def test_headers_that_are_left_to_pillow():
    picture = Image.fromarray(smooth(40, 60))
    whole, at = as_bytes(picture, "JPEG"), 2
    assert plain_header(whole) == ("RGB", (40, 60))
    assert plain_header(as_bytes(picture.convert("L"), "JPEG", comment=b"any")) == ("L", (40, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = as_bytes(picture, "JPEG", exif=exif)
    assert plain_header(turned) is None
    assert decode_bytes(turned, "x").orientation == 6
    for settings in ({"icc_profile": b"profile"}, {"keep_rgb": True}, {"xmp": b"<x/>"}):
        assert plain_header(as_bytes(picture, "JPEG", **settings)) is None
    assert plain_header(as_bytes(picture.convert("CMYK"), "JPEG")) is None
    frame = whole.index(b"\xff\xc0")
    for other in (
        b"",
        whole[:frame],
        whole[:frame] + b"\xff" + whole[frame:],  # filled
        whole[:frame] + whole[frame : frame + 19] + whole[frame:],  # two frames
        whole[: frame + 4] + b"\x0c" + whole[frame + 5 :],  # 12 bits
        whole[: frame + 5] + b"\0\0" + whole[frame + 7 :],  # the height comes later
        whole[:at] + b"\xff\xe1\0\x04ab" + whole[at:],
        b"\x89PNG\r\n\x1a\n" + whole,
    ):
        assert plain_header(other) is None


def test_without_simplejpeg_pillow_reads_all(monkeypatch):
    data, with_it = as_bytes(Image.fromarray(smooth(90, 77)), "JPEG"), decoder_version()
    found = outcome(data, 16)
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    assert jpeg_pixels(data, "RGB", (90, 77), 1) is None
    assert outcome(data, 16) == found
    assert decoder_version() == with_it.partition("-simplejpeg")[0] != with_it
