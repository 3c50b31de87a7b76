"""The images of a split: one array or files, and a cache that changes nothing but the time."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data import PhotoImages, TensorImages, decode, fit
from striate.data.cache import PixelCache
from striate.data.crops import crop
from striate.data.fit import cut
from striate.data.scan import PhotoStore, array_digests, canvas_side, content_digest, scan
from striate.errors import DataError, UnreadableImageError
from striate.spec import InputSpec

from .image_files import as_bytes, noise, npy, smooth

SPEC = InputSpec(size=(16, 16), channels=3, crop_fraction=0.875)
BOXES = np.array([[0.0, 0.0, 40.0, 30.0], [10.5, 3.25, 20.0, 25.0], [-5.0, 8.0, 30.0, 30.0]])


@pytest.fixture
def files(tmp_path):
    """Three photos: JPEG, grey PNG, and JPEG on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = (
        as_bytes(Image.fromarray(smooth(60, 50, 1)), "JPEG"),
        as_bytes(Image.fromarray(smooth(45, 70, 2)).convert("L"), "PNG"),
        as_bytes(Image.fromarray(smooth(40, 90, 3)), "JPEG", exif=exif),
    )
    paths = [tmp_path / f"{number}.img" for number in range(3)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def photos(files, *, cache_bytes=2**24, workers=2) -> PhotoImages:
    store = PhotoStore(cache_bytes, workers)
    infos = scan(files, [str(file) for file in files], store, canvas_side(16))
    return PhotoImages(files, infos, store, channels=3, bits=8)


def test_photos_know_their_upright_sizes(files):
    assert photos(files).sizes.tolist() == [[60, 50], [45, 70], [90, 40]]


def test_the_plain_rule_is_fit_of_the_whole_image(files):
    batch = photos(files).take(np.array([2, 0, 1, 0]), SPEC)
    assert batch.dtype == torch.uint8
    for row, number in enumerate((2, 0, 1, 0)):
        assert np.array_equal(batch[row].numpy(), fit(decode(files[number]), SPEC))


@pytest.mark.parametrize("boxes", [None, BOXES])
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_hit_miss_and_eviction_give_equal_bytes(files, boxes, workers):
    images, order = photos(files, workers=workers), np.array([1, 2, 0])
    first = images.take(order, SPEC, boxes)
    hit = images.take(order, SPEC, boxes)
    images.store.cache.clear()
    evicted = images.take(order, SPEC, boxes)
    never = photos(files, cache_bytes=0).take(order, SPEC, boxes)
    small = photos(files, cache_bytes=2000)  # room for one or two only
    tight = [small.take(order, SPEC, boxes) for _ in range(3)]
    for other in (hit, evicted, never, *tight):
        assert torch.equal(first, other)
    assert small.store.cache.bytes <= 2000
    assert images.store.cache.hits >= 3


def test_what_is_known_of_images_does_not_depend_on_room_for_them(files):
    assert photos(files, cache_bytes=0).infos == photos(files, cache_bytes=2000).infos == photos(files).infos


def test_boxes_are_in_pixels_of_the_source(files):
    images = photos(files)
    images.canvas_side = 1000  # nothing is reduced
    found = images.take(np.arange(3), SPEC, BOXES)
    for row, file in enumerate(files):
        assert np.array_equal(found[row].numpy(), crop(decode(file), tuple(BOXES[row].tolist()), SPEC))


def test_reduced_canvases_show_nearly_the_same_as_the_whole(files):
    images = photos(files)
    whole = np.array([[0.0, 0.0, *size] for size in images.sizes.tolist()])
    reduced = images.take(np.arange(3), SPEC, whole).float()
    images.canvas_side = 1000
    full = images.take(np.arange(3), SPEC, whole).float()
    assert 0 < (reduced - full).abs().mean() < 4  # of shapes as small as the pixels of the network


def test_the_scan_leaves_the_training_canvases_in_the_cache(files):
    images = photos(files)
    before = images.store.cache.misses
    images.take(np.arange(3), SPEC, BOXES)
    assert images.store.cache.misses == before


def test_a_file_that_changed_or_vanished_stops_the_run(files):
    images = photos(files, cache_bytes=0)
    files[0].write_bytes(as_bytes(Image.fromarray(smooth(60, 50, 9)), "JPEG"))
    with pytest.raises(DataError, match="has changed since"):
        images.take(np.array([0]), SPEC)
    files[0].unlink()
    with pytest.raises(UnreadableImageError, match="file not found"):
        images.take(np.array([0]), SPEC)


def test_raw_is_the_whole_image(files):
    assert np.array_equal(photos(files).raw(1), decode(files[1]))


def test_deep_images_come_as_int32(tmp_path):
    deep = noise(16, 16, 1, dtype=np.uint16)
    (tmp_path / "a.npy").write_bytes(npy(deep))
    spec = InputSpec(size=(16, 16), channels=1, bits=16)
    for images in (photos([tmp_path / "a.npy"]), TensorImages(deep.transpose(2, 0, 1)[None])):
        batch = images.take(np.array([0]), spec)
        assert batch.dtype == torch.int32
        assert np.array_equal(batch[0, 0].numpy(), deep[:, :, 0])
    assert images.tensor.dtype == torch.int32


def test_tensor_images_are_fit_too():
    pixels = np.stack([noise(10, 12, 1, seed).transpose(2, 0, 1) for seed in range(4)])
    images = TensorImages(pixels)
    assert (len(images), images.channels, images.bits) == (4, 1, 8)
    assert images.sizes.tolist() == [[10, 12]] * 4
    batch = images.take(np.array([3, 1]), SPEC)
    assert np.array_equal(batch[0].numpy(), fit(images.raw(3), SPEC))
    boxed = images.take(np.array([2]), SPEC, np.array([[1.0, 2.0, 6.5, 7.0]]))
    assert np.array_equal(boxed[0].numpy(), cut(images.raw(2), (1.0, 2.0, 6.5, 7.0), SPEC))
    assert np.array_equal(images.tensor.numpy(), pixels)


def test_tensor_images_refuse_other_arrays():
    with pytest.raises(DataError, match="float32"):
        TensorImages(np.zeros((1, 1, 2, 2), np.float32))


def test_thumbnails_are_small_and_grey(files):
    assert photos(files).thumbnails().shape == (3, 32, 32)
    assert TensorImages(noise(8, 8)[None].transpose(0, 3, 1, 2)).thumbnails().shape == (1, 8, 8)
    assert TensorImages(noise(99, 80, 5)[None].transpose(0, 3, 1, 2)).thumbnails().shape == (1, 32, 32)


def test_the_cache_never_exceeds_its_limit_and_prefers_what_is_in():
    cache = PixelCache(100)
    cache.put(b"a", "canvas", np.zeros(60, np.uint8))
    cache.put(b"b", "canvas", np.zeros(60, np.uint8))
    assert cache.get(b"b", "canvas") is None
    cache.put(b"a", "fit", np.zeros(70, np.uint8))  # another form of the same image takes its place
    assert cache.get(b"a", "canvas") is None
    assert cache.get(b"a", "fit") is not None
    assert cache.bytes == 70
    cache.put(b"c", "fit", np.zeros(30, np.uint8))
    assert cache.bytes == 100
    cache.drop(b"a")
    assert (cache.get(b"a", "fit"), cache.bytes) == (None, 30)


def test_the_cache_keeps_its_books_under_many_threads():
    cache = PixelCache(5_000)

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(300):
            content, recipe = bytes([int(random.integers(40))]), int(random.integers(3))
            cache.get(content, recipe)
            cache.put(content, recipe, np.zeros(100 + 50 * recipe, np.uint8))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = sum(array.nbytes for forms in cache._held.values() for array in forms.values())
    assert held == cache.bytes <= 5_000


def test_digests_are_those_of_the_content():
    pixels = noise(5, 4, 6).reshape(6, 1, 5, 4)
    digests = array_digests(pixels)
    assert digests.shape == (6, 16)
    assert digests[3].tobytes() == content_digest(pixels[3].tobytes())
