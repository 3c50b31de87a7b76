"""One `decode()` for training, evaluation, prediction and serving: any source to [H, W, C] pixels by declared rules.

| what the file holds | what comes out |
|---|---|
| EXIF or TIFF orientation 1 to 8 | turned upright |
| 1-bit, grey | 1 channel, 0 to 255 |
| palette | 3 channels |
| transparency (palette, LA, RGBA, a transparent colour) | laid on white; grey stays 1 channel, colour 3 |
| CMYK, YCCK | 3 channels: R = (255 - C)(255 - K) / 255 and so on; ICC profiles are not applied |
| more than 8 bits (grey PNG, TIFF, NPY) | 16 bits, the full range kept: see `arrays` |
| 16-bit colour PNG | 8 bits: the high byte, all that Pillow gives |
| TIFF, NPY with any number of channels | as they are |
| several frames or pages | the first |
| truncated, damaged, empty, another format, too large | `UnreadableImageError` with a plain reason, never a guess |
"""

from __future__ import annotations

import codecs
import io
import logging
import threading
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageMode, ImageOps

from striate.data.arrays import PIXEL_LIMIT, NotPixelsError, as_image, check_size, read_npy, to_channels
from striate.data.fit import block_means
from striate.data.fit import fit as fit
from striate.data.jpeg import jpeg_pixels, plain_header
from striate.data.tiff import TiffPixels, read_tiff, silence_libtiff
from striate.errors import UnreadableImageError

_COMMON_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM")
_OTHER_FORMATS = ("TIFF", "WEBP", "AVIF", "JPEG2000", "ICO")
_SWAPS_SIDES = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_LEAST_CANVAS = 8  # pixels of the short side below which nothing is reduced

# Pillow's plug-ins log what they also raise; a library must not write to the user's terminal
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels and what was found on the way."""

    pixels: np.ndarray  # [H, W, C] uint8 or uint16
    size: tuple[int, int]  # height, width upright and unreduced, whatever the size of `pixels`
    mode: str  # Pillow's mode as stored, or the array's type
    format: str
    orientation: int


def decode(source: str | Path | bytes | np.ndarray | Image.Image, channels: int | None = None) -> np.ndarray:
    """An image as pixels, by the table at the top of this module.

    Args:
        source: a path, the bytes of a file, an array ([H, W] or [H, W, C]: uint8, uint16, or floats from 0 to 1), or
            an open Pillow image.
        channels: convert between grey (1) and colour (3); None leaves the count as it is.

    Returns:
        [H, W, C] uint8 or uint16.

    Raises:
        UnreadableImageError: with a plain reason: missing, empty, not an image, truncated, too large, ...
    """
    name = str(source) if isinstance(source, (str, Path)) else "the image"
    try:
        if isinstance(source, np.ndarray):
            pixels = as_image(source)
        elif isinstance(source, Image.Image):
            with _QUIET:
                pixels = _from_pillow(source, None).pixels
        else:
            data = source if isinstance(source, (bytes, bytearray, memoryview)) else read_bytes(source)
            pixels = decode_bytes(bytes(data), name).pixels
        return pixels if channels is None else np.ascontiguousarray(to_channels(pixels, channels))
    except NotPixelsError as error:
        raise UnreadableImageError(name, error.message) from error


def read_bytes(path: str | Path) -> bytes:
    """The content of a file.

    Raises:
        UnreadableImageError: it cannot be read; the reason in plain words.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        raise UnreadableImageError(str(path), _plain_os_error(error)) from error
    except ValueError as error:
        raise UnreadableImageError(str(path), "not a valid file name") from error


def decode_bytes(data: bytes, name: str, least_side: int | None = None) -> Decoded:
    """The image in the bytes of a file; `name` is for the error.

    With `least_side`, large images come reduced by the `reduction` that leaves their short side at least that length:
    JPEG in the codec, by an inverse cosine transform of fewer coefficients, up to 8; all else by means of blocks. The
    result depends on the bytes and the reduction alone.

    Raises:
        UnreadableImageError: with a plain reason.
    """
    try:
        if not data:
            raise NotPixelsError("the file is empty (0 bytes)")
        if data[:6] == b"\x93NUMPY":
            return _from_array(read_npy(data), "NPY", least_side)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            page = read_tiff(data)
            if page is not None:
                return _from_tiff(page, least_side)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            _check_png(data)
        plain = plain_header(data)
        found = None if plain is None else _from_plain_jpeg(data, *plain, least_side)
        if found is not None:
            return found
        with _QUIET, _open(data) as image:
            return _from_pillow(image, least_side, data if plain is None else None)
    except NotPixelsError as error:
        raise UnreadableImageError(name, error.message) from error
    except MemoryError as error:
        raise UnreadableImageError(name, "not enough memory to decode it") from error


def reduction(size: tuple[int, int], least_side: int | None) -> int:
    """By what an image of `size` (height, width) is reduced: the largest power of 2 that leaves `least_side` pixels.

    Sides are rounded up. 1 where `least_side` is None; a codec's own blocks of 8 are never reduced to less than one.
    """
    factor = 1
    while least_side is not None and min(size) >= 2 * factor * max(least_side, _LEAST_CANVAS):
        factor *= 2
    return factor


def _open(data: bytes) -> Image.Image:
    try:
        try:
            return Image.open(io.BytesIO(data), formats=_COMMON_FORMATS)
        except Image.UnidentifiedImageError:
            Image.init()
            silence_libtiff()
            return Image.open(io.BytesIO(data), formats=[name for name in _OTHER_FORMATS if name in Image.OPEN])
    except Image.UnidentifiedImageError as error:
        raise NotPixelsError(_what_it_is(data)) from error
    except Exception as error:  # plug-ins raise anything on damaged headers
        raise NotPixelsError(_plain_pillow_error(error)) from error


def _from_plain_jpeg(data: bytes, mode: str, size: tuple[int, int], least_side: int | None) -> Decoded | None:
    """A JPEG without anything that Pillow would have to look at, by its `plain_header`; None where Pillow decides."""
    if size[0] * size[1] > PIXEL_LIMIT:
        return None
    pixels = jpeg_pixels(data, mode, size, reduction(size, least_side))
    return None if pixels is None else Decoded(np.ascontiguousarray(pixels), size, mode, "JPEG", 1)


def _from_pillow(image: Image.Image, least_side: int | None, data: bytes | None = None) -> Decoded:
    width, height = image.size
    check_size(height, width)
    if not width or not height:
        raise NotPixelsError("an image without pixels")
    mode, form = image.mode, image.format or ""
    orientation = _orientation(image)
    factor = reduction((height, width), least_side)
    if data is not None and form in ("JPEG", "MPO"):
        found = jpeg_pixels(data, mode, (height, width), factor)
        if found is not None:
            size = (width, height) if orientation in _SWAPS_SIDES else (height, width)
            return Decoded(np.ascontiguousarray(_turned(found, orientation)), size, mode, form, orientation)
    try:
        if factor > 1:
            image.draft(None, (width // factor, height // factor))  # asks for at least this size; only JPEG can
        image.load()
        if image.size != (width, height) and form in ("JPEG", "MPO"):
            factor //= round(width / image.width)
        upright = ImageOps.exif_transpose(image) if orientation != 1 else image
        # other formats are loaded whole, and some (TIFF) turned upright in loading, before which `size` means little
        size = (upright.height, upright.width)
        if form in ("JPEG", "MPO"):
            size = (width, height) if orientation in _SWAPS_SIDES else (height, width)
        else:
            factor = reduction(size, least_side)
        pixels = _pillow_pixels(upright, factor)
    except NotPixelsError:
        raise
    except Exception as error:  # plug-ins raise anything on damaged data
        raise NotPixelsError(_plain_pillow_error(error)) from error
    return Decoded(pixels, size, mode, form, orientation)


def _pillow_pixels(image: Image.Image, factor: int) -> np.ndarray:
    """[H, W, C] of a loaded, upright Pillow image, reduced."""
    if image.mode.startswith("I") or image.mode == "F":
        return block_means(as_image(np.asarray(image), wide_integers=True), factor)
    image = _grey_or_colour(image)
    if factor > 1:
        image = image.reduce(factor)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[:, :, None])


def _grey_or_colour(image: Image.Image) -> Image.Image:
    """An 8-bit image as L or RGB."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    base = ImageMode.getmode(image.mode).basemode  # L or RGB, whatever the mode is made of
    target = "L" if base == "L" and image.mode not in ("P", "PA") else "RGB"
    if "transparency" in image.info or image.mode in ("LA", "La", "RGBA", "RGBa", "PA"):
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, opaque).convert(target)
    try:
        return image.convert(target)
    except ValueError as error:
        raise NotPixelsError(f"colours of kind {image.mode} are not supported") from error


def _from_array(pixels: np.ndarray, form: str, least_side: int | None, mode: str = "", turn: int = 1) -> Decoded:
    mode = mode or f"{pixels.dtype} × {pixels.shape[2]}"
    pixels = np.ascontiguousarray(_turned(pixels, turn))
    size = (pixels.shape[0], pixels.shape[1])
    return Decoded(block_means(pixels, reduction(size, least_side)), size, mode, form, turn)


def _from_tiff(page: TiffPixels, least_side: int | None) -> Decoded:
    mode = f"{page.values.dtype} × {page.values.shape[2]}"
    pixels = as_image(page.values, wide_integers=True)
    top = np.uint32(np.iinfo(pixels.dtype).max)
    if page.photometric == 0 and pixels.shape[2] == 1:  # white is zero
        pixels = top.astype(pixels.dtype) - pixels
    elif page.photometric == 5 and pixels.shape[2] == 4:  # CMYK
        ink = top - pixels.astype(np.uint64)
        pixels = ((ink[..., :3] * ink[..., 3:] + top // 2) // top).astype(pixels.dtype)
    elif page.alpha:
        alpha, colours = pixels[..., -1:].astype(np.uint64), pixels[..., :-1].astype(np.uint64)
        seen = colours if page.alpha == 1 else (colours * alpha + top // 2) // top
        pixels = np.minimum(seen + (top - alpha), top).astype(pixels.dtype)
    return _from_array(pixels, "TIFF", least_side, mode, page.orientation if page.orientation in range(1, 9) else 1)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation: 2 to 4 mirror or turn by 180°, 5 to 8 exchange the sides as well."""
    if orientation in _SWAPS_SIDES:
        pixels = pixels.transpose(1, 0, 2)
    mirror_rows = orientation in (3, 4, 7, 8)
    mirror_columns = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if mirror_rows else 1, :: -1 if mirror_columns else 1]


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF says nothing about the pixels
        return 1
    return value if value in range(1, 9) else 1


def _plain_os_error(error: OSError) -> str:
    plain = {
        FileNotFoundError: "file not found",
        PermissionError: "permission denied",
        IsADirectoryError: "is a folder",
        NotADirectoryError: "file not found",
    }.get(type(error))
    return plain or (error.strerror or str(error)).lower()


def _plain_pillow_error(error: Exception) -> str:
    text = str(error)
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels: refused as a possible decompression bomb"
    if isinstance(error, EOFError) or "truncated" in text.lower() or "unrecognized data stream" in text:
        return "truncated: the image data end too early"
    return f"damaged: {text or type(error).__name__}"


def _what_it_is(data: bytes) -> str:
    """Why bytes that no decoder recognises are not an image, as far as their beginning shows."""
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    known = {
        b"%PDF": "a PDF document",
        b"PK\x03\x04": "a ZIP archive",
        b"\x1f\x8b": "a gzip archive",
        b"%!PS": "a PostScript document",
        b"RIFF": "a sound or film file",
        b"8BPS": "a Photoshop document: export it as PNG or TIFF",
    }
    for magic, what in known.items():
        if head.startswith(magic):
            return f"not an image but {what}"
    if data[4:8] == b"ftyp":
        kind = "a HEIC photo: convert it to JPEG or PNG" if data[8:11] in (b"hei", b"hev", b"mif") else "a film file"
        return f"not a supported image format but {kind}"
    if not any(data):
        return "only zero bytes"
    lower = head[:64].lower()
    if b"<svg" in head.lower():
        return "an SVG drawing: export it as PNG"
    if lower.startswith((b"<!doctype html", b"<html")):
        return "not an image but a web page (a failed download?)"
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in data[:512]) and _is_utf8(data[:512]):
        return "not an image but text"
    if data[:2] == b"\xff\xd8" or data[:4] == b"\x89PNG" or data[:3] == b"GIF":
        return "truncated or damaged: the header cannot be read"
    return "not an image in a supported format"


def _is_utf8(data: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)  # the cut may fall inside a character
    except UnicodeDecodeError:
        return False
    return True


def _check_png(data: bytes) -> None:
    """Compare the checksums of a PNG's image data, which Pillow leaves unread: damage would pass as other pixels."""
    at = 8
    while at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(data):
            return  # truncated: Pillow says so
        if name == b"IDAT" and zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise NotPixelsError("damaged: a checksum of the PNG's image data is wrong")
        at = end + 4


class _Quiet:
    """While any thread is inside, warnings from Pillow are ignored.

    `warnings.catch_warnings` puts back the whole list of filters at its end, which loses those of other threads; this
    adds one filter with the first entry and takes out that one with the last.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._filter: Any = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._filter not in warnings.filters:
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._filter = warnings.filters[0]

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._filter in warnings.filters:
                warnings.filters.remove(self._filter)  # type: ignore[attr-defined]


_QUIET = _Quiet()
