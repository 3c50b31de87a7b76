"""The cache of decoded photos on disk: it changes nothing but the time, stays within its limit, and outlives kills."""

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

from striate.data import PhotoImages, decode, load_data
from striate.data.canvases import CanvasCache, canvas_folder, decoder_version, default_limit, open_canvases
from striate.data.crops import crop
from striate.data.decode import Decoded, decode_bytes, reduction
from striate.data.scan import PhotoStore, canvas_side, content_digest, scan
from striate.data.segments import ENTRY, PAGE, read_index
from striate.options import DataOptions
from striate.spec import InputSpec

from .image_files import as_bytes, noise, npy, smooth

SPEC = InputSpec(size=(16, 16), channels=3, crop_fraction=0.875)
BOXES = np.array([[0.0, 0.0, 40.0, 30.0], [10.5, 3.25, 20.0, 25.0], [-5.0, 8.0, 30.0, 30.0], [1.0, 2.0, 9.0, 5.0]])
MIB = 2**20


@pytest.fixture
def files(tmp_path):
    """JPEG whole and reduced, a grey PNG, 16 bits."""
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = (
        as_bytes(Image.fromarray(smooth(90, 77, 1)), "JPEG", exif=exif),
        as_bytes(Image.fromarray(smooth(30, 41, 2)), "JPEG"),
        as_bytes(Image.fromarray(smooth(45, 70, 3)).convert("L"), "PNG"),
        as_bytes(Image.fromarray(smooth(39, 60, 4)), "PNG"),
    )
    paths = [tmp_path / f"{number}.img" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def photos(files, canvases, *, workers=2) -> PhotoImages:
    store = PhotoStore(0, workers, canvases)
    infos = scan(files, [str(file) for file in files], store, canvas_side(16))
    return PhotoImages(files, infos, store, channels=3, bits=8)


def picture(seed: int, side: int = 64, dtype: type = np.uint8) -> tuple[bytes, Decoded]:
    """A made-up content digest and what it would decode to."""
    pixels = noise(side, side, 3, seed, dtype)
    return content_digest(pixels.tobytes()), Decoded(pixels, (side, side), "RGB", "PNG", 1)


def disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.pixels"))


def keyed(seed: int) -> tuple[bytes, int, Decoded]:
    digest, found = picture(seed)
    return digest, 1, found


def has(cache: CanvasCache, seed: int) -> bool:
    """Whether a made-up picture is there, with the right pixels."""
    digest, found = picture(seed)
    held = cache.get(digest, 1)
    assert held is None or np.array_equal(held, found.pixels)
    return held is not None


@pytest.mark.parametrize("boxes", [None, BOXES])
def test_hit_miss_eviction_and_other_runs_give_equal_bytes(files, tmp_path, boxes):
    order = np.array([3, 1, 2, 0])
    never = photos(files, None).take(order, SPEC, boxes)
    first = photos(files, CanvasCache(tmp_path / "cache", MIB))
    filled, hit = first.take(order, SPEC, boxes), first.take(order, SPEC, boxes)
    again = photos(files, CanvasCache(tmp_path / "cache", MIB)).take(order, SPEC, boxes)
    tight = photos(files, CanvasCache(tmp_path / "tight", 3 * PAGE)).take(order, SPEC, boxes)
    shutil.rmtree(tmp_path / "cache")
    gone = photos(files, CanvasCache(tmp_path / "cache", MIB)).take(order, SPEC, boxes)
    for other in (filled, hit, again, tight, gone):
        assert torch.equal(never, other)


def test_the_second_run_decodes_nothing(files, tmp_path, monkeypatch):
    known = photos(files, CanvasCache(tmp_path, MIB)).infos
    decoded = []

    def watched(data, name, side=None):
        decoded.append(name)
        return decode_bytes(data, name, side)

    monkeypatch.setattr("striate.data.scan.decode_bytes", watched)
    monkeypatch.setattr("striate.data.images.decode_bytes", watched)
    images = photos(files, CanvasCache(tmp_path, MIB))
    assert images.infos == known
    images.take(np.arange(4), SPEC, BOXES)
    assert decoded == []
    images.take(np.arange(4), SPEC)  # evaluations start from the whole image: only the reduced one is decoded for it
    assert sorted(decoded) == [str(files[0]), str(files[2]), str(files[3])]


def test_whole_canvases_are_exactly_what_decode_gives(files, tmp_path):
    images = photos(files, CanvasCache(tmp_path, MIB))
    whole = [index for index, info in enumerate(images.infos) if reduction(info.size, canvas_side(16)) == 1]
    assert whole == [1]
    for index, file in enumerate(files):
        assert np.array_equal(images.raw(index), decode(file))


def test_nothing_is_reduced_where_that_is_asked(tmp_path):
    for split in ("train", "val"):
        for label in "ab":
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for number in range(2):
                pixels = smooth(50, 60, number + ord(label) + 9 * len(split))
                Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=95)
    data = str(tmp_path / "data")
    whole = load_data(DataOptions(data=data, input_size=16, reduced_decoding=False)).splits["train"].images
    reduced = load_data(DataOptions(data=data, input_size=16)).splits["train"].images
    taken = whole.take(np.arange(4), SPEC, BOXES)
    for row, file in enumerate(whole.files):
        assert np.array_equal(taken[row].numpy(), crop(decode(file), tuple(BOXES[row].tolist()), SPEC))
    assert not torch.equal(taken, reduced.take(np.arange(4), SPEC, BOXES))


def test_sixteen_bits_and_what_is_known_come_back(tmp_path):
    deep = noise(20, 30, 5, dtype=np.uint16)
    (tmp_path / "a.npy").write_bytes(npy(deep))
    cache = tmp_path / "cache"
    first = photos([tmp_path / "a.npy"], CanvasCache(cache, MIB))
    again = photos([tmp_path / "a.npy"], CanvasCache(cache, MIB))
    assert again.infos == first.infos
    assert (again.infos[0].bits, again.infos[0].channels, again.infos[0].mode) == (16, 5, "uint16 × 5")
    assert np.array_equal(again.raw(0), deep)


def test_the_limit_holds_and_what_is_in_use_or_new_stays(tmp_path):
    limit = 100_000
    old = CanvasCache(tmp_path, limit, "old data")
    kept = [seed for seed in range(20) if old.put(*keyed(seed))]
    assert kept == list(range(len(kept)))  # what is in stays, the rest is refused
    assert 5 <= len(kept) < 10
    assert disk(tmp_path) <= limit
    assert not CanvasCache(tmp_path, limit, "new data").put(*keyed(100))  # all is in use
    old.close()
    user = CanvasCache(tmp_path, limit, "old data")
    assert has(user, 0)
    new = CanvasCache(tmp_path, limit, "new data")
    fresh = [seed for seed in range(100, 120) if new.put(*keyed(seed))]
    assert disk(tmp_path) <= limit
    assert len(fresh) == len(kept) - 1  # unused segments of other data made room
    assert has(user, 0)
    assert all(has(new, seed) for seed in fresh)


def test_one_s_own_segments_are_spared_until_all_images_were_looked_for(tmp_path):
    first = CanvasCache(tmp_path, 60_000, "data")
    assert not all(first.put(*keyed(seed)) for seed in range(20))
    first.close()
    second = CanvasCache(tmp_path, 60_000, "data")
    assert not second.put(*keyed(50))
    assert second.facts(picture(0)[0], 999) is not None
    second.settle()
    assert second.put(*keyed(50))
    assert has(second, 0)


def test_the_longest_unused_goes_first(tmp_path):
    for seed, name in enumerate("abc"):
        cache = CanvasCache(tmp_path, 100_000, name)
        assert cache.put(*keyed(seed))
        cache.close()
        time.sleep(0.02)
    again = CanvasCache(tmp_path, 100_000, "a")
    assert has(again, 0)  # used again
    again.close()
    tight = CanvasCache(tmp_path, 3 * 12_288 + 100, "d")
    assert tight.put(*keyed(3))
    left = CanvasCache(tmp_path, 100_000)
    assert [has(left, seed) for seed in range(4)] == [True, False, True, True]


def test_torn_and_damaged_files_are_seen_through(tmp_path):
    cache = CanvasCache(tmp_path, MIB)
    for seed in range(6):
        assert cache.put(*keyed(seed))
    cache.close()
    pixels = sorted(tmp_path.rglob("*.pixels"))
    assert len(pixels) == 1
    index = pixels[0].with_suffix(".index")
    whole = index.read_bytes()
    index.write_bytes(whole[:-30])  # torn
    assert len(read_index(index)) == 5
    damaged = bytearray(whole)
    damaged[ENTRY.itemsize * 2 + 5] ^= 1
    index.write_bytes(bytes(damaged))
    assert len(read_index(index)) == 2
    index.write_bytes(whole)
    with open(pixels[0], "r+b") as file:
        file.seek(int(read_index(index)[1]["offset"]) + 7)
        file.write(b"?!")
        file.truncate(int(read_index(index)[5]["offset"]) + 100)
    again = CanvasCache(tmp_path, MIB)
    assert [has(again, seed) for seed in range(6)] == [True, False, True, True, True, False]
    assert again.put(*keyed(1))  # decoded again, it is kept again
    assert has(again, 1)


def test_many_threads_fill_and_read(tmp_path):
    cache = CanvasCache(tmp_path, 400_000)  # segments change on the way
    wrong = []

    def work(worker: int) -> None:
        order = random.Random(worker)
        for _ in range(60):
            digest, found = picture(order.randrange(25))
            held = cache.get(digest, 1)
            if held is None:
                cache.put(digest, 1, found)
            elif not np.array_equal(held, found.pixels):
                wrong.append(digest)
            cache.let_go(digest, 1)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.failure is None
    assert len({place[0].path for place in cache._places.values()}) > 1
    assert disk(tmp_path) <= 400_000


WRITER = """
import sys
from pathlib import Path
import numpy as np
from striate.data.canvases import CanvasCache
from striate.data.decode import Decoded
from striate.data.scan import content_digest
cache = CanvasCache(Path(sys.argv[1]), int(sys.argv[2]), "data")
print("ready", flush=True)
for seed in range(int(sys.argv[3]), 10**9):
    pixels = np.random.default_rng(seed % 400).integers(0, 256, (120, 120, 3), np.uint8)
    digest = content_digest(pixels.tobytes())
    held = cache.get(digest, 1)
    assert held is None or np.array_equal(held, pixels), "other pixels"
    if held is None:
        cache.put(digest, 1, Decoded(pixels, (120, 120), "RGB", "PNG", 1))
"""


def start_writer(folder: Path, limit: int, first: int) -> subprocess.Popen[bytes]:
    """A process that has opened the cache and goes on writing pictures until it is killed."""
    command = [sys.executable, "-c", WRITER, str(folder), str(limit), str(first)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    return writer


def test_killed_and_concurrent_writers_leave_nothing_wrong(tmp_path):
    limit, moment = 6 * MIB, random.Random(5)
    for round_ in range(2):
        writers = [start_writer(tmp_path, limit, 100 * number) for number in range(2)]
        time.sleep(0.02 + 0.1 * moment.random())
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            assert writer.communicate()[1] == b""
        assert disk(tmp_path) <= limit, round_
    cache = CanvasCache(tmp_path, limit)
    assert len(cache._places) > 5
    found = 0
    for seed in range(400):
        pixels = np.random.default_rng(seed).integers(0, 256, (120, 120, 3), np.uint8)
        held = cache.get(content_digest(pixels.tobytes()), 1)
        assert held is None or np.array_equal(held, pixels)
        found += held is not None
    assert found == len(cache._places)  # what was killed in the middle of a write has no entry


def test_a_killed_writer_s_unused_room_is_given_back(tmp_path):
    writer = start_writer(tmp_path, 800 * MIB, 0)
    while not list(tmp_path.rglob("*.index")):
        time.sleep(0.01)
    time.sleep(0.1)
    assert disk(tmp_path) >= 64 * MIB
    CanvasCache(tmp_path, 800 * MIB)  # not while it is writing
    assert disk(tmp_path) >= 64 * MIB
    writer.kill()
    writer.communicate()
    CanvasCache(tmp_path, 800 * MIB)
    assert disk(tmp_path) < 64 * MIB


def test_where_it_lies_and_how_large_it_may_be(tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "new" / "place"))
    assert canvas_folder() == tmp_path / "new" / "place" / "photos"
    assert 0 < default_limit(canvas_folder()) <= 32 * 2**30
    assert open_canvases(0, "data") == (None, None)
    assert not canvas_folder().exists()
    cache, why = open_canvases(MIB, "data")
    assert cache is not None
    assert why is None
    assert decoder_version() in os.listdir(canvas_folder())
    monkeypatch.delenv("STRIATE_CACHE")
    assert canvas_folder() == Path.home() / ".cache" / "striate" / "photos"


def test_a_folder_that_cannot_be_written_is_said_and_nothing_else(tmp_path, monkeypatch):
    for split in ("train", "val"):
        for label in "ab":
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            Image.fromarray(smooth(20, 20, ord(label) + len(split))).save(folder / "1.png")
    (tmp_path / "file").write_text("in its place")
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "file"))
    dataset = load_data(DataOptions(data=str(tmp_path / "data")))
    assert any("are not kept on disk" in note and "STRIATE_CACHE" in note for note in dataset.notes)
    assert dataset.splits["train"].images.take(np.arange(2), SPEC).shape == (2, 3, 16, 16)


def test_a_full_disk_ends_the_writing_only(tmp_path, monkeypatch):
    cache = CanvasCache(tmp_path, MIB)
    assert cache.put(*keyed(0))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        assert not cache.put(*keyed(1))
    assert cache.failure == "no space left on device"
    assert not cache.put(*keyed(2))
    assert has(cache, 0)


def test_reductions_are_powers_of_two_that_leave_enough():
    for size, side, factor in (
        ((375, 500), 256, 1),
        ((512, 700), 256, 2),
        ((511, 700), 256, 1),
        ((3000, 4000), 256, 8),
    ):
        assert reduction(size, side) == factor
    assert reduction((10_000, 10_000), 256) == 32
    assert reduction((5, 5), 1) == 1
    assert reduction((99, 99), None) == 1


@pytest.mark.parametrize(("form", "size"), [("JPEG", (517, 601)), ("PNG", (517, 601)), ("JPEG", (130, 77))])
def test_canvases_are_the_image_in_blocks(form, size):
    image = Image.fromarray(smooth(size[0], size[1], 4))
    data = as_bytes(image, form, quality=95)
    for side in (16, 32, 60):
        factor = reduction(size, side)
        canvas = decode_bytes(data, "x", side).pixels
        assert canvas.shape[:2] == (-(-size[0] // factor), -(-size[1] // factor))
        means = np.asarray(Image.fromarray(decode(data)).reduce(factor)).astype(int)
        inside = np.s_[: size[0] // factor, : size[1] // factor]
        assert np.abs(canvas.astype(int) - means)[inside].mean() < (2.5 if form == "JPEG" else 0.01)
