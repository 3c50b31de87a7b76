"""Epochs and their batches: every image once, exact restarts, balance, and no dependence on how batches are cut."""

import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data.augment import training_boxes
from striate.data.batches import Batch, EvaluationBatches, TrainingBatches
from striate.data.draws import Draws
from striate.data.images import PhotoImages, TensorImages
from striate.data.normalise import normalise
from striate.data.sampling import balanced_order
from striate.data.scan import PhotoStore, scan
from striate.errors import DataError, UnreadableImageError, UsageError
from striate.options import AugmentOptions
from striate.spec import InputSpec

from .image_files import noise

SPEC = InputSpec(size=(12, 12), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))
CPU = torch.device("cpu")
RICH = {"shift": 2, "flip": 0.5, "rotate": 10.0, "elastic": 8.0, "brightness": 0.2, "contrast": 0.2, "noise": 0.02}


@dataclass
class FakeSplit:
    images: object
    targets: np.ndarray
    name: str = "train"


class SlowImages:
    """Photos as the pipeline sees them: read by number, each of its own size, one of them broken."""

    channels, bits = 3, 8

    def __init__(self, count, broken=-1):
        self.stored = np.random.default_rng(1).integers(0, 256, (count, 3, 12, 12)).astype(np.uint8)
        self.sizes = np.random.default_rng(2).integers(20, 90, (count, 2)).astype(np.int32)
        self.broken, self.threads, self.asked, self.boxes = broken, set(), [], []

    def __len__(self):
        return len(self.stored)

    def take(self, indices, spec, boxes=None):
        if self.broken in indices:
            raise UnreadableImageError(f"{self.broken}.png", "broken")
        self.threads.add(threading.current_thread().name)
        self.asked.append(indices)
        self.boxes.append(boxes)
        return torch.from_numpy(self.stored[indices])


def split_of(count=53, classes=4, **changes) -> FakeSplit:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 12, 12)).astype(np.uint8)
    return FakeSplit(TensorImages(pixels), np.arange(count) % classes, **changes)


def training(split=None, *, batch_size=8, seed=0, spec=SPEC, sampling="shuffle", **augment) -> TrainingBatches:
    options = AugmentOptions(preset="none", **augment)
    return TrainingBatches(
        split or split_of(), spec, options, batch_size=batch_size, seed=seed, device=CPU, sampling=sampling
    )


def same(first: Batch, second: Batch) -> bool:
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("images", "targets", "mix_weight")]
    return np.array_equal(first.indices, second.indices) and all(
        a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs
    )


def test_an_epoch_shows_every_image_once_but_the_incomplete_batch():
    batches = training()
    assert batches.steps_per_epoch == 6
    seen = [batch.indices for batch in batches.epoch(0)]
    assert [len(indices) for indices in seen] == [8] * 6
    assert len(set(np.concatenate(seen))) == 48
    whole = training(batch_size=53)
    assert sorted(next(whole.epoch(0)).indices) == list(range(53))


def test_batches_hold_their_images_and_classes():
    split = split_of()
    for batch in training(split).epoch(2):
        stored = split.images.tensor[torch.from_numpy(batch.indices)]
        assert torch.equal(batch.images, normalise(stored, SPEC))
        assert batch.targets.tolist() == [i % 4 for i in batch.indices]
        assert batch.mixed_targets is None


def test_epochs_and_seeds_differ_and_repeat():
    batches = training(**RICH)
    assert all(same(a, b) for a, b in zip(batches.epoch(3), training(**RICH).epoch(3), strict=True))
    first = next(batches.epoch(3))
    assert not np.array_equal(first.indices, next(batches.epoch(4)).indices)
    assert not np.array_equal(first.indices, next(training(seed=1, **RICH).epoch(3)).indices)


@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
@pytest.mark.parametrize("photos", [False, True])
def test_restart_at_any_step_is_bit_identical(sampling, photos):
    split = FakeSplit(SlowImages(53), np.arange(53) % 4) if photos else split_of()
    crops = {"crop_scale": (0.3, 1.0)} if photos else {}
    whole = list(training(split, sampling=sampling, mixup=0.2, cutmix=1.0, **RICH, **crops).epoch(5))
    for step in (0, 1, 5, 6):
        rest = list(training(split, sampling=sampling, mixup=0.2, cutmix=1.0, **RICH, **crops).epoch(5, step))
        assert len(rest) == len(whole) - step
        assert all(same(a, b) for a, b in zip(whole[step:], rest, strict=True))


def test_an_image_looks_the_same_in_batches_of_any_size():
    def pictures(batch_size):
        batches = training(batch_size=batch_size, **RICH).epoch(1)
        return {int(i): image for batch in batches for i, image in zip(batch.indices, batch.images, strict=True)}

    small, large = pictures(1), pictures(53)
    assert small.keys() == large.keys()
    assert all(torch.equal(small[i], large[i]) for i in small)


def test_mixing_joins_each_image_with_the_next_of_its_batch():
    split = split_of()
    plain, mixed = next(training(split).epoch(0)), next(training(split, mixup=0.4).epoch(0))
    weight = mixed.mix_weight[:, None, None, None]
    expected = weight * plain.images + (1 - weight) * plain.images.roll(-1, 0)
    torch.testing.assert_close(mixed.images, expected)
    assert mixed.mixed_targets.tolist() == np.roll(plain.targets, -1).tolist()


def test_small_splits_are_one_batch():
    batches = training(split_of(5), batch_size=64)
    assert batches.steps_per_epoch == 1
    assert [len(batch.indices) for batch in batches.epoch(0)] == [5]


def test_a_split_without_images_is_refused():
    with pytest.raises(DataError, match="no readable image"):
        training(split_of(0))


def test_balanced_epochs_show_classes_equally_often():
    split = split_of(100)
    split.targets = np.array([0] * 60 + [1] * 30 + [2] * 10)
    batches = training(split, batch_size=33, sampling="balanced", **RICH)
    assert batches.steps_per_epoch == 3
    indices = np.concatenate([batch.indices for batch in batches.epoch(0)])
    assert np.bincount(split.targets[indices]).tolist() == [33, 33, 33]
    shown = np.bincount(indices, minlength=100)
    assert set(shown[:60]) == {0, 1}
    assert set(shown[60:90]) == {1, 2}
    assert set(shown[90:]) == {3, 4}
    later = np.concatenate([batch.indices for batch in batches.epoch(1)])
    assert not np.array_equal(np.sort(indices), np.sort(later))  # others take the turns left over


def test_repeated_showings_are_distorted_anew():
    split = split_of(12)
    split.targets = np.array([0] * 11 + [1])
    batch = next(training(split, batch_size=12, sampling="balanced", noise=0.1).epoch(0))
    repeats = batch.images[batch.indices == 11]
    assert len(repeats) == 6
    assert len(torch.unique(repeats.flatten(1), dim=0)) == 6


def test_balanced_order_numbers_showings():
    order = balanced_order(np.array([0, 0, 0, 0, 0, 1]), seed=0, epoch=0)
    assert sorted(key for key in order if key % 6 == 5) == [5, 11, 17]


def test_photos_are_read_one_batch_ahead_with_boxes():
    split = FakeSplit(SlowImages(40), np.arange(40) % 2)
    batches = training(split, crop_scale=(0.3, 1.0), crop_ratio=(0.75, 1.33))
    epoch = batches.epoch(0)
    first = next(epoch)
    deadline = time.monotonic() + 10
    while len(split.images.asked) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(split.images.asked) == 2  # the next one is there already, and no more
    assert np.array_equal(split.images.asked[0], first.indices)
    epoch.close()
    assert threading.current_thread().name not in split.images.threads
    for indices, boxes in zip(split.images.asked, split.images.boxes, strict=True):
        assert boxes.shape == (8, 4)
        assert (boxes[:, :2] + boxes[:, 2:] <= split.images.sizes[indices] + 1e-9).all()


def test_small_images_are_cropped_on_the_device():
    """A box of the right half, enlarged: what `Images.take` would give, up to the filter at the borders."""
    pixels = np.zeros((1, 3, 12, 12), np.uint8)
    pixels[..., 6:] = np.arange(6) * 40 + 10
    split = FakeSplit(TensorImages(pixels), np.array([0]))
    for strength in ({"crop_scale": (0.3, 0.6)}, {"scale_jitter": (15, 24)}):
        batches = training(split, batch_size=1, **strength)
        for epoch in range(5):
            ours = next(batches.epoch(epoch)).images
            draws = Draws(0, epoch, np.array([0]))
            boxes = training_boxes(split.images.sizes, SPEC, AugmentOptions(preset="none", **strength), draws)
            taken = normalise(split.images.take(np.array([0]), SPEC, boxes), SPEC)
            difference = (ours - taken).abs()[:, :, 2:-2, 2:-2]
            assert difference.mean() < 0.12  # Pillow's filter reads a little beside two neighbours
            assert torch.corrcoef(torch.stack([ours.flatten(), taken.flatten()]))[0, 1] > 0.98
    plain = next(training(split, batch_size=1, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0)).epoch(0)).images
    torch.testing.assert_close(plain, normalise(torch.from_numpy(pixels), SPEC), atol=1e-4, rtol=0)


def test_boxes_do_not_depend_on_the_batch():
    def boxes(batch_size):
        split = FakeSplit(SlowImages(24), np.arange(24) % 2)
        for _ in training(split, batch_size=batch_size, scale_jitter=(14, 30)).epoch(0):
            pass
        return np.concatenate(split.images.boxes)

    np.testing.assert_array_equal(boxes(24), boxes(3))


def test_an_unreadable_image_found_late_reaches_the_consumer():
    split = FakeSplit(SlowImages(24, broken=7), np.arange(24) % 2)
    with pytest.raises(UnreadableImageError, match=r"7\.png"):
        list(training(split).epoch(0))


@pytest.mark.parametrize("photos", [False, True])
def test_evaluation_covers_every_image_once_in_order(photos):
    split = FakeSplit(SlowImages(53), np.arange(53) % 4) if photos else split_of()
    evaluation = EvaluationBatches(split, SPEC, batch_size=10, device=CPU, channels_last=True)
    assert len(evaluation) == 6
    for _ in range(2):
        batches = list(evaluation)
        assert [len(batch.indices) for batch in batches] == [10] * 5 + [3]
        assert np.concatenate([batch.indices for batch in batches]).tolist() == list(range(53))
        assert torch.cat([batch.targets for batch in batches]).tolist() == split.targets.tolist()
    stored = torch.from_numpy(split.images.stored) if photos else split.images.tensor
    images = torch.cat([batch.images for batch in batches])
    torch.testing.assert_close(images, normalise(stored, SPEC))
    assert batches[0].images.is_contiguous(memory_format=torch.channels_last)


def test_images_of_another_size_are_fitted_once():
    spec = InputSpec(size=(6, 6), channels=3)
    split = split_of()
    expected = normalise(split.images.take(np.arange(53), spec), spec)
    for batch in training(split, spec=spec).epoch(0):
        assert torch.equal(batch.images, expected[torch.from_numpy(batch.indices)])
    evaluation = EvaluationBatches(split, spec, batch_size=50, device=CPU)
    assert torch.equal(torch.cat([batch.images for batch in evaluation]), expected)


def test_layout_and_waiting_time():
    batches = TrainingBatches(
        split_of(),
        SPEC,
        AugmentOptions(preset="none", **RICH),
        batch_size=8,
        seed=0,
        device=CPU,
        channels_last=True,
    )
    for batch in batches.epoch(0):
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        waited = batches.wait_seconds
    assert waited > 0


def test_unknown_sampling_is_refused():
    with pytest.raises(UsageError, match="unknown sampling 'often'"):
        training(sampling="often")


def test_the_next_run_on_the_same_photos_decodes_them_as_it_needs_them(tmp_path):
    files = [tmp_path / f"{number}.png" for number in range(2)]
    for number, file in enumerate(files):
        Image.fromarray(noise(60, 80, 3, number)).save(file)
    store = PhotoStore(2**20, 0)
    images = PhotoImages(files, scan(files, [str(file) for file in files], store, 14), store, channels=3, bits=8)
    split = FakeSplit(images, np.arange(2))
    plain, jittered = training(split, batch_size=2), training(split, batch_size=2, scale_jitter=(30, 40))
    for batches, side in ((jittered, 40), (plain, None), (jittered, 40)):
        next(batches.epoch(0))
        assert images.canvas_side == side
