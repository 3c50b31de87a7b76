"""Decoded photos that wait in memory for the disk: equal pixels at every moment, bounded memory, any end of a run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data import PhotoImages
from striate.data.canvases import CanvasCache
from striate.data.decode import Decoded
from striate.data.scan import PhotoStore, canvas_side, content_digest, scan
from striate.spec import InputSpec

from .image_files import as_bytes, noise, smooth

SPEC = InputSpec(size=(16, 16), channels=3, crop_fraction=0.875)
MIB = 2**20
SIDE = 64
BYTES = SIDE * SIDE * 3


def picture(seed: int) -> tuple[bytes, Decoded]:
    """A made-up content digest and what it would decode to."""
    pixels = noise(SIDE, SIDE, 3, seed)
    return content_digest(pixels.tobytes()), Decoded(pixels, (SIDE, SIDE), "RGB", "PNG", 1)


def keep(store: PhotoStore, seed: int) -> None:
    digest, found = picture(seed)
    store.keep(digest, 1, found)


def there(source: PhotoStore | CanvasCache, seed: int) -> bool:
    """Whether a made-up picture is there, with the right pixels."""
    digest, found = picture(seed)
    held = source.canvas(digest, 1) if isinstance(source, PhotoStore) else source.get(digest, 1)
    assert held is None or np.array_equal(held, found.pixels)
    return held is not None


def until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("striate-write")]


def test_nothing_waits_for_the_disk_while_images_are_read_and_all_is_there_afterwards(tmp_path):
    canvases = CanvasCache(tmp_path, 64 * MIB)
    store = PhotoStore(8 * MIB, 2, canvases)
    for _ in store.map(lambda seed: keep(store, seed), range(60)):
        pass
    late = [seed for seed in range(60) if not there(canvases, seed)]
    assert all(there(store, seed) for seed in range(60))
    assert len(late) > 30
    until(lambda: store.cache.bytes == 0)  # written, and gone from the memory
    assert all(there(canvases, seed) for seed in range(60))
    assert all(there(store, seed) for seed in range(60))
    until(lambda: not writers())


def test_pixels_are_equal_while_they_wait_are_written_and_have_left_the_memory(tmp_path):
    files = [tmp_path / f"{number}.img" for number in range(24)]
    for number, file in enumerate(files):
        file.write_bytes(as_bytes(Image.fromarray(smooth(45 + number, 60, number)), "JPEG" if number % 2 else "PNG"))

    def photos(memory: int, canvases: CanvasCache | None) -> PhotoImages:
        store = PhotoStore(memory, 2, canvases)
        return PhotoImages(files, scan(files, list(map(str, files)), store, canvas_side(16)), store, 3, 8)

    order = np.random.default_rng(0).permutation(len(files))
    boxes = np.tile([[3.0, 4.5, 30.0, 38.5]], (len(files), 1))
    never = photos(0, None).take(order, SPEC, boxes), photos(0, None).take(order, SPEC)
    for memory in (0, 15_000, 40_000, MIB):  # none, some and all of them can wait
        images = photos(memory, CanvasCache(tmp_path / str(memory), MIB))
        for _ in range(8):
            assert torch.equal(images.take(order, SPEC, boxes), never[0])
            assert torch.equal(images.take(order, SPEC), never[1])
            assert images.store.cache.bytes <= memory
            time.sleep(0.01)
        until(lambda: not writers())
        images.store.cache.clear()  # an eviction
        assert torch.equal(images.take(order, SPEC, boxes), never[0])


def test_a_set_larger_than_the_memory_streams_within_the_bound(tmp_path):
    canvases, most = CanvasCache(tmp_path, 64 * MIB), 0
    store = PhotoStore(10 * BYTES, 4, canvases)

    def kept(seed: int) -> int:
        keep(store, seed)
        return store.cache.bytes

    for held in store.map(kept, range(100)):
        most = max(most, held)
        if most and not held:
            break
    assert 0 < most <= 5 * BYTES  # half of it, the other half is for what an evaluation keeps
    until(lambda: not writers())
    assert store.cache.bytes == 0
    assert sum(there(canvases, seed) for seed in range(100)) >= 99


def test_what_the_disk_does_not_take_stays_in_memory(tmp_path):
    said: list[str] = []
    canvases = CanvasCache(tmp_path, 12 * BYTES, tell=said.append)
    store = PhotoStore(200 * BYTES, 2, canvases)
    for seed in range(40):
        keep(store, seed)
    until(lambda: not writers())
    assert len(said) == 1
    on_disk = sum(there(canvases, seed) for seed in range(40))
    assert 5 < on_disk <= 12
    assert store.cache.bytes == (40 - on_disk) * BYTES
    assert all(there(store, seed) for seed in range(40))


def test_what_was_written_otherwise_than_it_is_read_is_not_believed(tmp_path, monkeypatch):
    canvases = CanvasCache(tmp_path, MIB)
    store = PhotoStore(MIB, 0, canvases)
    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", lambda descriptor, data, place: len(data))  # a disk that forgets
        keep(store, 0)
        until(lambda: not writers())
    assert not there(canvases, 0)
    assert there(store, 0)


SCRIPT = """
import os, sys, time
from pathlib import Path
import numpy as np
from striate.data import behind, canvases, segments
from striate.data.decode import Decoded
from striate.data.scan import PhotoStore, content_digest

def picture(seed, side=64):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return content_digest(pixels.tobytes()), Decoded(pixels, (side, side), "RGB", "PNG", 1)

def keep(seed, side=64):
    digest, found = picture(seed, side)
    held = store.canvas(digest, 1)
    assert held is None or np.array_equal(held, found.pixels), "other pixels"
    if held is None:
        store.keep(digest, 1, found)

said = []
cache = canvases.CanvasCache(Path(sys.argv[1]), int(sys.argv[2]), tell=said.append)
store = PhotoStore(int(sys.argv[3]), 2, cache)
"""


def script(body: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, "-W", "error", "-c", SCRIPT + body, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def right(folder: Path, seeds: range, side: int = SIDE) -> int:
    """How many pictures of the script are in the cache; all that are have the right pixels."""
    cache, count = CanvasCache(folder, 64 * MIB), 0
    for seed in seeds:
        pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
        held = cache.get(content_digest(pixels.tobytes()), 1)
        assert held is None or np.array_equal(held, pixels)
        count += held is not None
    assert count == len(cache._places)  # what was killed in the middle of a write has no entry
    cache.close()
    return count


def test_the_end_of_a_process_writes_what_waits(tmp_path):
    done = script("for seed in range(150): keep(seed)\nprint(cache._places.__len__())", tmp_path, 64 * MIB, 64 * MIB)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, err) == (0, "")
    assert int(out) < 150
    assert right(tmp_path, range(150)) == 150


@pytest.mark.parametrize("stuck", ["pwrite", "lock"])
def test_a_disk_that_hangs_does_not_keep_a_process_from_ending(tmp_path, stuck):
    body = "behind.EXIT_SECONDS = 0.3\nblock = lambda *_: time.sleep(600)\n"
    body += {"pwrite": "os.pwrite = block\n", "lock": "canvases.Exclusive.__enter__ = block\n"}[stuck]
    body += "for seed in range(20): keep(seed)\nprint('end', flush=True)"
    process = script(body, tmp_path, MIB, MIB)
    assert process.stdout is not None
    assert process.stdout.readline() == "end\n"
    start = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert time.monotonic() - start < 10
    assert right(tmp_path, range(20)) == 0


def test_whoever_interrupts_the_end_need_not_wait(tmp_path):
    body = "behind.EXIT_SECONDS = 600.0\nos.pwrite = lambda *_: time.sleep(600)\n"
    # whoever starts the tests in the background may have had interrupts ignored, which children inherit
    body += "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    body += "import atexit\natexit.register(print, 'end', flush=True)\nfor seed in range(20): keep(seed)\n"
    process = script(body, tmp_path, MIB, MIB)
    assert process.stdout is not None
    assert process.stdout.readline() == "end\n"
    time.sleep(1)  # from the last line to the waiting, also on a busy machine
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()  # whatever happened, no open pipe is left to other tests
    assert (process.returncode, err) == (0, "")


def test_kills_and_other_runs_at_any_moment_leave_nothing_wrong(tmp_path):
    body = "print('ready', flush=True)\nfor seed in range(10**9):\n    keep((seed + 100 * int(sys.argv[4])) % 400)\n"
    body += "    if seed % 20 == 0: time.sleep(0.03)"
    moment, found = random.Random(3), 0
    for _ in range(2):
        processes = [script(body, tmp_path, 64 * MIB, 30 * BYTES, number) for number in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        time.sleep(0.1 + 0.2 * moment.random())
        for process in processes:
            process.send_signal(signal.SIGKILL)
            assert process.communicate()[1] == ""
        assert right(tmp_path, range(400)) >= found
        found = right(tmp_path, range(400))
    assert found > 5


def test_a_disk_that_is_full_is_said_once_and_nothing_is_lost(tmp_path):
    """A file system of 4 MiB, in a name space of its own."""
    place = tmp_path / "small"
    place.mkdir()
    mount = f'mount -t tmpfs -o size=4m tmpfs {place} && exec "$0" "$@"'
    prefix = ("unshare", "-rm", "sh", "-c", mount)
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("nobody may mount a file system here")
    body = "for seed in range(120): keep(seed, 150)\n"  # 8 MB
    body += "end = time.monotonic() + 20\nwhile store._behind._waiting and time.monotonic() < end: time.sleep(0.01)\n"
    body += "time.sleep(0.1)\nfor seed in range(120):\n    digest, found = picture(seed, 150)\n"
    body += "    assert np.array_equal(store.canvas(digest, 1), found.pixels)\n"
    body += "print(len(cache._places), len(said), said)"
    process = script("canvases.SPARE_BYTES = -2**40\n" + body, place / "photos", 64 * MIB, 64 * MIB, prefix=prefix)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    count, times, said = out.split(" ", 2)
    assert 10 < int(count) <= 4 * MIB // (150 * 150 * 3)
    assert times == "1"
    assert "no space left on device" in said


FORKS = """
for seed in range(30):
    keep(seed)
child = os.fork()
if not child:
    for seed in range(60):
        keep(seed)
    assert len(list(store.map(keep, range(60)))) == 60
    sys.exit(7 if not cache.put(*picture(99)[:1], 1, picture(99)[1]) else 1)
for seed in range(30, 60):
    keep(seed)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
for seed in range(60, 90):
    keep(seed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_process_reads_and_its_parent_writes(tmp_path):
    process = script(FORKS, tmp_path, 64 * MIB, 64 * MIB)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert right(tmp_path, range(90)) == 90
