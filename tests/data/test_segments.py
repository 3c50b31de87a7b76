"""Files of decoded pixels where something is in the way: no room, no maps, other computers, a lower limit."""

from __future__ import annotations

import mmap
import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from striate.data import segments
from striate.data.canvases import CanvasCache, open_canvases
from striate.data.decode import Decoded
from striate.data.scan import content_digest

from .image_files import noise

MIB = 2**20
SIDE = 64
BYTES = SIDE * SIDE * 3


def keyed(seed: int) -> tuple[bytes, int, Decoded]:
    pixels = noise(SIDE, SIDE, 3, seed)
    return content_digest(pixels.tobytes()), 1, Decoded(pixels, (SIDE, SIDE), "RGB", "PNG", 1)


def has(cache: CanvasCache, seed: int) -> bool:
    digest, factor, found = keyed(seed)
    held = cache.get(digest, factor)
    assert held is None or np.array_equal(held, found.pixels)
    return held is not None


def disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.pixels"))


def filled(folder: Path, seeds: range, owner: str = "data") -> None:
    cache = CanvasCache(folder, MIB, owner)
    assert all(cache.put(*keyed(seed)) for seed in seeds)
    cache.close()


def full(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_long_segment_is_not_copied_with_each_image(tmp_path):
    cache = CanvasCache(tmp_path, 64 * MIB)
    entries = []
    for seed in range(150):
        assert cache.put(*keyed(seed))
        assert cache._growing is not None
        entries.append(cache._growing.entries)
    assert [len(one) for one in entries] == list(range(1, 151))
    moved = sum(not np.shares_memory(*pair) for pair in pairwise(entries))
    assert moved <= 2
    assert all(has(cache, seed) for seed in range(150))
    cache.close()
    again = CanvasCache(tmp_path, 64 * MIB)
    assert all(has(again, seed) for seed in range(150))


def test_where_files_cannot_be_mapped_nothing_is_written_to_them(tmp_path, monkeypatch):
    class Unmappable:
        ACCESS_READ = mmap.ACCESS_READ

        @staticmethod
        def mmap(*_: object, **__: object) -> None:
            raise OSError(19, "No such device")

    monkeypatch.setattr(segments, "mmap", Unmappable)
    cache = CanvasCache(tmp_path, MIB)
    assert not cache.put(*keyed(0))
    assert cache.failure == "no such device"
    assert not list(tmp_path.rglob("*.pixels"))
    assert not list(tmp_path.rglob("*.index"))


def test_a_segment_whose_time_of_use_cannot_be_written_is_used(tmp_path, monkeypatch):
    filled(tmp_path, range(1))
    cache = CanvasCache(tmp_path, MIB)

    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refused)
    assert has(cache, 0)


def test_where_the_disk_is_full_room_is_given_back_and_what_is_there_compared_again(tmp_path, monkeypatch):
    cache = CanvasCache(tmp_path, MIB)
    assert cache.put(*keyed(0))
    assert cache.put(*keyed(1))
    assert disk(tmp_path) > 2 * BYTES
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        assert not cache.put(*keyed(2))
    assert disk(tmp_path) == 2 * BYTES
    (pixels,) = tmp_path.rglob("*.pixels")
    with open(pixels, "r+b") as file:
        file.write(b"?!")  # as where the system found out only later that there was no room
    assert [has(cache, seed) for seed in range(3)] == [False, True, False]


def test_what_another_computer_wrote_is_left_alone_for_a_week(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(segments, "HOST", "elsewhere")
        filled(tmp_path, range(3), "other data")
    (pixels,) = tmp_path.rglob("*-elsewhere-*.pixels")
    index = pixels.with_suffix(".index")
    os.truncate(pixels, 10 * BYTES)  # as while it is being written to
    cache = CanvasCache(tmp_path, 2 * BYTES)
    cache.settle()
    assert not cache.put(*keyed(9))
    assert has(cache, 0)
    cache.close()
    for days, left in ((6.9, True), (7.1, False)):
        for path in (pixels, index):
            os.utime(path, (time.time() - days * 86400,) * 2)
        CanvasCache(tmp_path, 2 * BYTES).close()
        assert (pixels.exists(), index.exists()) == (left, left), days


def test_a_lower_limit_makes_the_cache_smaller(tmp_path):
    filled(tmp_path, range(4), "other data")
    filled(tmp_path, range(10, 14), "data")
    CanvasCache(tmp_path, 5 * BYTES, "data").close()
    left = CanvasCache(tmp_path, MIB)
    assert [has(left, seed) for seed in (0, 3, 10, 13)] == [False, False, True, True]  # of one's own none had to go
    left.close()
    CanvasCache(tmp_path, 3 * BYTES, "data").close()
    assert disk(tmp_path) == 0


def test_what_is_no_longer_used_makes_room_once_that_is_known(tmp_path):
    filled(tmp_path, range(4), "other data")
    user = CanvasCache(tmp_path, MIB, "other data")
    assert has(user, 0)
    cache = CanvasCache(tmp_path, 3 * BYTES, "data")
    assert disk(tmp_path) > 3 * BYTES  # in use
    user.close()
    cache.settle()
    assert disk(tmp_path) == 0


def test_a_user_without_a_home_has_no_cache_on_disk(monkeypatch):
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("STRIATE_CACHE")
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert open_canvases(0, "data") == (None, None)
    cache, why = open_canvases(None, "data")
    assert cache is None
    assert why is not None
    assert "could not determine home directory (another place: STRIATE_CACHE)" in why


def test_a_name_of_a_segment_says_who_wrote_it(tmp_path):
    filled(tmp_path, range(1))
    (pixels,) = tmp_path.rglob("*.pixels")
    assert pixels.stem.split("-")[1:3] == [segments.HOST, str(os.getpid())]
