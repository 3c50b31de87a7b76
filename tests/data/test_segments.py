"""Files of decoded pixels where something is in the way: no room, no maps, other computers, a lower limit."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
import threading
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


def test_any_page_that_is_another_is_noticed():
    pixels = noise(97, 131, 3)
    check = segments.pixel_check(pixels)
    assert check == segments.pixel_check(pixels.copy())
    data = pixels.reshape(-1)
    for place in (0, 4095, 4096, len(data) // 2, len(data) - 1):  # in the first page, the second, the last, half a one
        torn = data.copy()
        torn[place] ^= 1
        assert segments.pixel_check(torn) != check
    lost, swapped, moved = data.copy(), data.copy(), data.copy()
    lost[8192:12288] = 0
    swapped[:8192] = np.concatenate([data[4096:8192], data[:4096]])
    moved[4096:12288] = data[:8192]
    for torn in (lost, swapped, moved, data[:-1]):
        assert segments.pixel_check(torn) != check
    assert segments.pixel_check(noise(50, 50, 1, dtype=np.uint16)) != segments.pixel_check(noise(50, 50, 1))


def test_what_is_in_the_way_while_photos_are_kept_is_said_once(tmp_path):
    said: list[str] = []
    cache = CanvasCache(tmp_path / "photos", 16 * BYTES, tell=said.append)
    assert cache.put(*keyed(0))
    shutil.rmtree(tmp_path / "photos")  # which anybody may do at any time
    assert all(cache.put(*keyed(seed)) for seed in range(1, 6))
    assert all(has(cache, seed) for seed in range(6))
    assert not said
    shutil.rmtree(tmp_path / "photos")
    (tmp_path / "photos").write_text("in its place")
    kept = [seed for seed in range(6, 20) if cache.put(*keyed(seed))]
    assert len(kept) < 3  # where there was room in what is open already
    assert len(said) == 1
    assert "no more decoded photos are kept on disk" in said[0]
    assert all(has(cache, seed) for seed in (*range(6), *kept))


def test_a_cache_that_is_full_is_said_once(tmp_path):
    said: list[str] = []
    cache = CanvasCache(tmp_path, MIB, tell=said.append)
    kept = [seed for seed in range(100) if cache.put(*keyed(seed))]
    cache.settle()
    assert not cache.put(*keyed(100))
    assert 50 < len(kept) < 100
    assert len(said) == 1
    assert "the limit of 1 MiB is reached" in said[0]


FILLER = """
import resource, sys
from pathlib import Path
import numpy as np
from striate.data.canvases import CanvasCache
from striate.data.decode import Decoded
from striate.data.scan import content_digest
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
said = []
cache = CanvasCache(Path(sys.argv[1]), int(sys.argv[2]), tell=said.append)
pictures = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in range(60)]
digests = [content_digest(pixels.tobytes()) for pixels in pictures]
found = [Decoded(pixels, (64, 64), "RGB", "PNG", 1) for pixels in pictures]
kept = [cache.put(digest, 1, one) for digest, one in zip(digests, found)]
held = [cache.get(digest, 1) for digest in digests]
assert all((one is not None) == there for one, there in zip(held, kept))
assert all(one is None or np.array_equal(one, pixels) for one, pixels in zip(held, pictures))
print(sum(kept), said)
"""


def test_a_system_that_refuses_more_is_said_once(tmp_path):
    for limit, kept in ((3 * MIB, 60), (64 * MIB, 0)):  # segments that are smaller than what is allowed, and larger
        command = [sys.executable, "-c", FILLER, str(tmp_path / str(limit)), str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, said = done.stdout.split(" ", 1)
        assert int(count) == kept
        assert said.count("no more decoded photos") == said.count("file too large") == (kept == 0)


def test_a_cache_that_is_closed_lets_the_last_write_end(tmp_path, monkeypatch):
    cache, pwrite = CanvasCache(tmp_path, MIB), os.pwrite
    writing, go = threading.Event(), threading.Event()

    def slow(*arguments):
        writing.set()
        assert go.wait(20)
        return pwrite(*arguments)

    monkeypatch.setattr(os, "pwrite", slow)
    writer = threading.Thread(target=cache.put, args=keyed(0))
    writer.start()
    assert writing.wait(20)
    segment = cache._growing
    assert segment is not None
    cache.close()
    go.set()
    writer.join()
    assert cache.failure is None
    assert segment._descriptor == segment._index == -1
    assert has(CanvasCache(tmp_path, MIB), 0)


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
