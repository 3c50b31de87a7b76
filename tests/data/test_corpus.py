"""A corpus of broken and odd files and folders, each with its declared outcome: pixels, or a plain reason."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data import decode, load_data
from striate.errors import DataError, StriateError, UnreadableImageError
from striate.options import DataOptions

from .image_files import as_bytes, noise, npy, smooth, tiff

PHOTO = Image.fromarray(smooth(60, 80))
JPEG, PNG = as_bytes(PHOTO, "JPEG"), as_bytes(PHOTO, "PNG")
DEEP = Image.fromarray(noise(20, 20, 1, dtype=np.uint16)[:, :, 0])
FRAMES = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(width: int, height: int) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", body) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def broken_png() -> bytes:
    data = bytearray(PNG)
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def zip_bytes() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", "a")
    return stream.getvalue()


def animated(form: str) -> bytes:
    settings = {"lossless": True} if form == "WEBP" else {}
    return as_bytes(FRAMES[0], form, save_all=True, append_images=FRAMES[1:], **settings)


def with_exif(data: bytes) -> bytes:
    return as_bytes(PHOTO, "JPEG", exif=data)


# name of the file, its bytes, the reason for which it cannot be read
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty.jpg": (b"", "the file is empty"),
    "zeros.png": (b"\0" * 4096, "only zero bytes"),
    "one byte.jpg": (b"\xff", "not an image in a supported format"),
    "text.jpg": (b"this is not an image\n" * 20, "not an image but text"),
    "utf8 mark.jpg": (b"\xef\xbb\xbfhello", "not an image but text"),
    "page.jpg": (b"<!DOCTYPE html><html>404</html>", "web page"),
    "drawing.png": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "document.jpg": (b"%PDF-1.7\n\xe2\xe3", "PDF"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "archive.png": (zip_bytes(), "ZIP"),
    "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(range(64)), "HEIC"),
    "film.jpg": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(range(64)), "film"),
    "random.jpg": (bytes(range(128, 256)) * 8, "not an image in a supported format"),
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "truncated.png": (PNG[: len(PNG) // 2], "truncated"),
    "truncated.webp": (as_bytes(PHOTO, "WEBP", lossless=True)[:-400], "truncated|damaged"),
    "truncated.tif": (as_bytes(PHOTO, "TIFF")[:-2000], "truncated|damaged"),
    "truncated.bmp": (as_bytes(PHOTO, "BMP")[:-2000], "truncated"),
    "truncated deep.tif": (tiff(noise(20, 20, 5))[:900], "truncated|damaged|not an image"),
    "truncated.npy": (npy(noise(9, 9))[:-10], "truncated"),
    "header only.jpg": (JPEG[:20], "truncated|damaged"),
    "header only.png": (PNG[:40], "truncated|damaged"),
    "bit flipped.png": (broken_png(), "damaged|truncated"),
    "no blocks.tif": (tiff(noise(20, 20, 5)).replace(struct.pack("<HHI", 273, 4, 1), struct.pack("<HHI", 999, 4, 1)),
                      "lacks some of its blocks"),
    "bad lzw.tif": (as_bytes(DEEP, "TIFF", compression="tiff_lzw").replace(b"\x80", b"\xff"), "damaged|not an image"),
    "bad deflate.tif": (tiff(noise(20, 20, 5), deflate=True).replace(b"x\x9c", b"\0\0", 1), "damaged"),
    "huge header.png": (png_header(60_000, 60_000), "decompression bomb"),
    "large header.png": (png_header(12_000, 12_000), "decompression bomb"),
    "huge.gif": (b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\0\0;", "decompression bomb"),
    "huge.npy": (npy(np.zeros((2, 2), np.uint8)).replace(b"(2, 2)", b"(9**9"), "damaged"),
    "promises much.npy": (npy(np.zeros((20, 20), np.uint8)).replace(b"(20, 20)", b"(99999,9)"), "truncated|damaged"),
    "objects.npy": (npy(np.array([[1, "a"]], object), allow_pickle=True), "Python objects"),
    "floats.npy": (npy(np.array([[0.0, 300.0]])), "from 0 to 300"),
    "not a number.tif": (tiff(np.array([[[0.5], [np.nan]]], np.float32)), "NaN"),
    "integers.npy": (npy(np.array([[1, 2]], np.int64)), "int64"),
}  # fmt: skip

# name of the file, its bytes, shape and type of its pixels
ODD: dict[str, tuple[bytes, tuple[int, int, int], str]] = {
    "png named.jpg": (PNG, (60, 80, 3), "uint8"),
    "jpeg named.png": (JPEG, (60, 80, 3), "uint8"),
    "UPPER CASE.JPG": (JPEG, (60, 80, 3), "uint8"),
    "bytes after the end.jpg": (JPEG + b"trailing" * 100, (60, 80, 3), "uint8"),
    "grey.jpg": (as_bytes(PHOTO.convert("L"), "JPEG"), (60, 80, 1), "uint8"),
    "one bit.png": (as_bytes(PHOTO.convert("1"), "PNG"), (60, 80, 1), "uint8"),
    "palette.gif": (as_bytes(PHOTO.convert("P"), "GIF"), (60, 80, 3), "uint8"),
    "palette with transparency.png": (as_bytes(PHOTO.convert("P"), "PNG", transparency=bytes(9)), (60, 80, 3), "uint8"),
    "alpha.png": (as_bytes(PHOTO.convert("RGBA"), "PNG"), (60, 80, 3), "uint8"),
    "grey with alpha.png": (as_bytes(PHOTO.convert("LA"), "PNG"), (60, 80, 1), "uint8"),
    "alpha.webp": (as_bytes(PHOTO.convert("RGBA"), "WEBP"), (60, 80, 3), "uint8"),
    "cmyk.jpg": (as_bytes(PHOTO.convert("CMYK"), "JPEG"), (60, 80, 3), "uint8"),
    "cmyk.tif": (as_bytes(PHOTO.convert("CMYK"), "TIFF"), (60, 80, 3), "uint8"),
    "deep.png": (as_bytes(DEEP, "PNG"), (20, 20, 1), "uint16"),
    "deep.tif": (as_bytes(DEEP, "TIFF"), (20, 20, 1), "uint16"),
    "floats.tif": (tiff(np.random.default_rng(0).random((5, 4, 1)).astype(np.float32)), (5, 4, 1), "uint16"),
    "twelve bands.tif": (tiff(noise(20, 20, 12, dtype=np.uint16)), (20, 20, 12), "uint16"),
    "four bands.npy": (npy(noise(20, 20, 4)), (20, 20, 4), "uint8"),
    "animated.gif": (animated("GIF"), (6, 8, 3), "uint8"),
    "animated.png": (animated("PNG"), (6, 8, 3), "uint8"),
    "animated.webp": (animated("WEBP"), (6, 8, 3), "uint8"),
    "pages.tif": (animated("TIFF"), (6, 8, 3), "uint8"),
    "one pixel.png": (as_bytes(Image.new("L", (1, 1)), "PNG"), (1, 1, 1), "uint8"),
    "very long.png": (as_bytes(Image.new("L", (5000, 1)), "PNG"), (1, 5000, 1), "uint8"),
    "senseless exif.jpg": (with_exif(b"Exif\0\0MM\0*\xff\xff\xff\xffrubbish"), (60, 80, 3), "uint8"),
    "orientation 77.jpg": (with_exif(b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\x4d\0\0\0\0\0\0"), (60, 80, 3),
                           "uint8"),
    "Übergröße 写真.png": (PNG, (60, 80, 3), "uint8"),
    "progressive.jpg": (as_bytes(PHOTO, "JPEG", progressive=True), (60, 80, 3), "uint8"),
    "icon.ico": (as_bytes(PHOTO.resize((32, 32)), "ICO", sizes=[(16, 16), (32, 32)]), (32, 32, 3), "uint8"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_give_a_plain_reason(name, tmp_path, capfd):
    data, reason = BROKEN[name]
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        decode(file)
    assert caught.value.path == str(file)
    assert "\n" not in caught.value.reason
    assert file.read_bytes() == data
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ODD)
def test_odd_files_give_their_declared_pixels(name, tmp_path, capfd):
    data, shape, dtype = ODD[name]
    file = tmp_path / name
    file.write_bytes(data)
    pixels = decode(file)
    assert (pixels.shape, str(pixels.dtype)) == (shape, dtype)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["animated.gif", "animated.png", "animated.webp", "pages.tif"])
def test_the_first_frame_counts(name):
    assert decode(ODD[name][0])[0, 0].tolist() == [255, 0, 0]


def test_the_whole_corpus_as_one_data_set(tmp_path, capfd):
    """Every broken file is listed by name with its reason, none is changed, and all others are there to train on."""
    odd = {name: data for name, (data, shape, _) in ODD.items() if shape[2] in (1, 3)}
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for name, data in odd.items():
            (tmp_path / label / name).write_bytes(data)
    for name, (data, _) in BROKEN.items():
        (tmp_path / "b" / name).write_bytes(data)
    dataset = load_data(DataOptions(data=str(tmp_path), workers=2))
    assert sorted(one.path for one in dataset.left_out) == sorted(f"b/{name}" for name in BROKEN)
    assert sum(len(split) for split in dataset.splits.values()) == 2 * len(odd)
    assert {one.label for one in dataset.left_out} == {"b"}
    assert sum(len(split.unreadable) for split in dataset.splits.values()) == len(BROKEN)
    rows = dataset.manifest().to_pylist()
    assert {row["path"]: row["reason"] for row in rows if row["reason"]} == {
        one.path: one.reason for one in dataset.left_out
    }
    assert (tmp_path / "b" / "truncated.jpg").read_bytes() == BROKEN["truncated.jpg"][0]
    assert capfd.readouterr() == ("", "")


# folders: what is put into an empty folder, and what comes of it -----------------------------------------------------


def put(root: Path, *names: str) -> None:
    """Images with content of their own, at these paths."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(as_bytes(Image.fromarray(smooth(12, 12, zlib.crc32(name.encode()))), "PNG"))


def many(label: str, count: int = 12) -> list[str]:
    return [f"{label}/{number}.png" for number in range(count)]


def nothing(root: Path) -> None:
    pass


def one_class(root: Path) -> None:
    put(root, *many("cat"))


def one_image(root: Path) -> None:
    put(root, "cat/1.png")


def one_image_each(root: Path) -> None:
    put(root, "cat/1.png", "dog/1.png")


def no_classes(root: Path) -> None:
    put(root, "1.png", "2.png")


def only_hidden_classes(root: Path) -> None:
    put(root, *many("cat"), ".git/1.png", "__MACOSX/1.png", ".ipynb_checkpoints/1.png")


def different_classes(root: Path) -> None:
    put(root, *many("train/cat"), *many("train/dog"), *many("val/cat"), *many("val/dgo"))


def missing_class_in_test(root: Path) -> None:
    put(root, *many("train/cat"), *many("train/dog"), *many("test/cat"))


def no_train_folder(root: Path) -> None:
    put(root, *many("test/cat"), *many("val/cat"))


def two_validations(root: Path) -> None:
    put(root, *many("train/cat"), *many("train/dog"), *many("val/cat"), *many("validation/dog"))


def empty_in_train(root: Path) -> None:
    put(root, *many("train/cat"), *many("train/cow"), *many("val/cat"), *many("val/cow"), *many("val/dog"))
    (root / "train/dog").mkdir()


def nothing_readable(root: Path) -> None:
    for label in ("cat", "dog"):
        (root / label).mkdir()
        (root / label / "1.jpg").write_bytes(b"text")


def class_without_readable(root: Path) -> None:
    put(root, *many("cat"), *many("cow"))
    (root / "dog").mkdir()
    (root / "dog/1.jpg").write_bytes(b"text")


REFUSED: dict[Callable[[Path], None], str] = {
    nothing: "holds no images",
    one_class: "only one class, cat",
    one_image: "only one class, cat",
    one_image_each: "too few to hold any out",
    no_classes: "2 images but no class folders",
    only_hidden_classes: "only one class, cat",
    different_classes: "only in train: dog; only in val: dgo",
    missing_class_in_test: "train and test have different classes; only in train: dog",
    no_train_folder: "but no train folder",
    two_validations: "both val and validation",
    empty_in_train: "none in train: dog",
    nothing_readable: "none of 2 images can be read",
    class_without_readable: "no training image of dog",
}


@pytest.mark.parametrize("make", REFUSED)
def test_folders_that_cannot_be_used_say_why(make, tmp_path):
    make(tmp_path)
    with pytest.raises(DataError, match=REFUSED[make]) as caught:
        load_data(str(tmp_path))
    assert not isinstance(caught.value, UnreadableImageError)


def test_an_empty_class_is_dropped_and_noted(tmp_path):
    put(tmp_path, *many("cat"), *many("dog"))
    (tmp_path / "cow").mkdir()
    (tmp_path / "cow" / "readme.txt").write_text("none yet")
    dataset = load_data(str(tmp_path))
    assert dataset.labels.names == ("cat", "dog")
    assert any("without images are left out: cow" in note for note in dataset.notes)


def test_hidden_folders_and_files_do_not_exist(tmp_path):
    put(tmp_path, *many("cat"), *many("dog"), ".cache/1.png", "__MACOSX/cat/1.png", "cat/.1.png", "dog/.thumbs/1.png")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    dataset = load_data(str(tmp_path))
    assert dataset.labels.names == ("cat", "dog")
    assert sum(map(len, dataset.splits.values())) == 24
    assert not any("Thumbs" in note for note in dataset.notes)


def test_other_files_among_images_are_ignored_and_noted(tmp_path):
    put(tmp_path, *many("cat"), *many("dog"), "stray.png")
    (tmp_path / "cat" / "notes.txt").write_text("soft")
    (tmp_path / "labels.csv").write_text("a,b")
    dataset = load_data(str(tmp_path))
    assert sum(map(len, dataset.splits.values())) == 24
    (note,) = [note for note in dataset.notes if "ignored" in note]
    assert all(name in note for name in ("cat/notes.txt", "labels.csv", "stray.png"))


def test_names_in_any_script_and_the_same_name_in_two_classes(tmp_path):
    put(tmp_path, *many("Ähren"), *many("猫"), *many("ears & eyes"))
    dataset = load_data(str(tmp_path))
    assert set(dataset.labels.names) == {"Ähren", "猫", "ears & eyes"}
    assert sum(map(len, dataset.splits.values())) == 36


def test_class_names_agree_whatever_their_unicode_form(tmp_path):
    put(tmp_path, *many("train/caf\u00e9"), *many("train/tea"), *many("val/cafe\u0301"), *many("val/tea"))
    assert load_data(str(tmp_path)).labels.names == ("café", "tea")


def test_upper_case_endings_and_nested_folders_count(tmp_path):
    put(tmp_path, *many("cat/2021/may"), *many("dog"))
    (tmp_path / "dog" / "BIG.PNG").write_bytes(PNG)
    dataset = load_data(str(tmp_path))
    assert sum(map(len, dataset.splits.values())) == 25


@pytest.mark.parametrize("spelling", ["valid", "validation", "VAL"])
def test_split_folders_in_other_spellings(tmp_path, spelling):
    put(tmp_path, *many("Train/cat"), *many("Train/dog"), *many(f"{spelling}/cat", 3), *many(f"{spelling}/dog", 3))
    put(tmp_path, "extras/1.png")
    dataset = load_data(str(tmp_path))
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 24, "val": 6}
    assert any("extras" in note for note in dataset.notes)


def test_links_are_followed_and_loops_are_not(tmp_path):
    root = tmp_path / "data"
    put(root, *many("cat"), *many("dog"))
    put(tmp_path / "elsewhere", *many("more", 5))
    (root / "cat" / "linked").symlink_to(tmp_path / "elsewhere" / "more")
    (root / "dog" / "up").symlink_to(root)
    (root / "round").symlink_to(root)
    (root / "dog" / "itself").symlink_to(root / "dog" / "itself")
    (root / "dog" / "gone.png").symlink_to(root / "nowhere.png")
    dataset = load_data(str(root))
    assert dataset.labels.names == ("cat", "dog")
    assert sum(map(len, dataset.splits.values())) == 29
    assert [(one.path, one.reason) for one in dataset.left_out] == [("dog/gone.png", "file not found")]


def test_files_and_folders_without_permission(tmp_path):
    put(tmp_path, *many("cat"), *many("dog"))
    (tmp_path / "dog" / "3.png").chmod(0)
    if os.access(tmp_path / "dog" / "3.png", os.R_OK):
        pytest.skip("this user may read everything")
    dataset = load_data(str(tmp_path))
    assert [(one.path, one.reason) for one in dataset.left_out] == [("dog/3.png", "permission denied")]
    (tmp_path / "dog").chmod(0)
    try:
        with pytest.raises(DataError, match="permission denied"):
            load_data(str(tmp_path))
    finally:
        (tmp_path / "dog").chmod(0o755)


def test_channel_counts_that_do_not_go_together_are_left_out(tmp_path):
    put(tmp_path, *many("cat"), *many("dog"))
    (tmp_path / "dog" / "bands.tif").write_bytes(tiff(noise(12, 12, 5)))
    dataset = load_data(str(tmp_path))
    (one,) = dataset.left_out
    assert (one.path, one.reason) == ("dog/bands.tif", "has 5 channels where most images have grey or colour")


def test_files_of_no_known_kind(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="no known kind"):
        load_data(str(tmp_path / "notes.txt"))
    with pytest.raises(StriateError, match="unknown data set"):
        load_data(str(tmp_path / "notes.tx"))
