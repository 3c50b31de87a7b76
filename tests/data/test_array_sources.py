"""Digits, IDX and CIFAR: the real files, and made ones with every fault."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from striate.data import load_data
from striate.data.sources.cifar import CIFAR10_NAMES, unpickle_arrays
from striate.data.sources.digits import find_digits
from striate.data.sources.idx import FASHION_NAMES, read_idx
from striate.errors import DataError, OfflineError, UnknownNameError, UsageError
from striate.options import DataOptions

from .image_files import SHARED_DATA, noise


def load(data: Path | str, **settings):
    return load_data(DataOptions(data=str(data), offline=True, **settings))


# digits ---------------------------------------------------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    theirs, ours = load_digits(), find_digits()
    assert ours.pixels is not None
    assert np.array_equal(ours.pixels[:, 0], np.rint(theirs.images * 255 / 16))
    assert np.array_equal(ours.targets, theirs.target)


def test_digits_split_80_to_20_in_every_class():
    dataset = load("digits")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 1438, "val": 359}
    shares = dataset.splits["val"].class_counts(10) / np.bincount(find_digits().targets)
    assert np.abs(shares - 0.2).max() < 0.01
    assert (dataset.kind, dataset.channels, dataset.bits, dataset.native_size) == ("tensor", 1, 8, (8, 8))
    assert not dataset.official_test
    assert dataset.labels.names == tuple("0123456789")


def test_manifest_has_a_row_for_every_image():
    table = load("digits", limit=100).manifest()
    assert table.column_names == ["path", "hash", "label", "group", "split", "reason"]
    assert table.num_rows == 1797
    reasons = table.column("reason").to_pylist()
    assert reasons.count(None) == 100 + 359
    assert reasons.count("beyond the limit") == 1338
    assert len(set(table.column("path").to_pylist())) == 1797


def test_an_empty_name_is_not_the_current_folder():
    with pytest.raises(UsageError, match="names nothing"):
        load_data(DataOptions(data=""))


def test_groups_need_files():
    with pytest.raises(UsageError, match="needs image files"):
        load("digits", group="parent")


# IDX ------------------------------------------------------------------------------------------------------------------


def idx(values: np.ndarray) -> bytes:
    code = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}[values.dtype.str[1:]]
    head = struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape)
    return head + values.astype(values.dtype.newbyteorder(">")).tobytes()


def put_idx(folder: Path, *, train: int = 60, test: int = 20, zipped: bool = True, dots: bool = False) -> np.ndarray:
    """A made set of 5 by 4 images in three classes; gives all its images."""
    folder.mkdir(parents=True, exist_ok=True)
    images = noise(5, 4, train + test).transpose(2, 0, 1)
    parts = {"train": slice(0, train), "t10k": slice(train, train + test)}
    for part, rows in parts.items():
        if rows.stop > rows.start:
            for what, values in (
                ("images", images[rows]),
                ("labels", np.arange(rows.stop - rows.start, dtype=np.uint8) % 3),
            ):
                name = f"{part}-{what}{'.' if dots else '-'}idx{values.ndim}-ubyte"
                data = idx(values)
                (folder / (name + ".gz" if zipped else name)).write_bytes(gzip.compress(data) if zipped else data)
    return images


@pytest.mark.parametrize("layout", [".", "raw", "MNIST/raw"])
@pytest.mark.parametrize("zipped", [True, False])
def test_idx_in_every_layout(tmp_path, layout, zipped):
    images = put_idx(tmp_path / layout, zipped=zipped, dots=not zipped)
    dataset = load(tmp_path)
    assert dataset.official_test
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 54, "val": 6, "test": 20}
    assert dataset.labels.names == ("0", "1", "2")
    test = dataset.splits["test"]
    assert np.array_equal(test.images.raw(7)[:, :, 0], images[67])
    assert test.paths[7] == "test[7]"
    assert test.targets[7] == 7 % 3
    train = dataset.splits["train"]
    number = int(train.paths[5].removeprefix("train[").removesuffix("]"))
    assert np.array_equal(train.images.raw(5)[:, :, 0], images[number])


def test_idx_without_a_test_part_is_split_80_to_20(tmp_path):
    put_idx(tmp_path, test=0)
    assert {name: len(split) for name, split in load(tmp_path).splits.items()} == {"train": 48, "val": 12}


def test_an_idx_file_stands_for_its_folder(tmp_path):
    put_idx(tmp_path)
    assert len(load(tmp_path / "train-images-idx3-ubyte.gz").splits["test"]) == 20


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_idx_of_every_type(tmp_path, dtype):
    values = (np.arange(24).reshape(2, 3, 4) / (24 if dtype[0] == "f" else 1)).astype(dtype)
    (tmp_path / "x").write_bytes(idx(values))
    assert np.array_equal(read_idx(tmp_path / "x"), values)


def test_idx_of_16_bits_is_scaled_not_clipped(tmp_path):
    put_idx(tmp_path, train=6, test=0, zipped=False)
    deep = np.arange(6 * 20, dtype=np.int32).reshape(6, 5, 4) * 500
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(deep))
    dataset = load(tmp_path, val_fraction=0.4)
    assert dataset.bits == 16
    found = {path: split.images.raw(row) for split in dataset.splits.values() for row, path in enumerate(split.paths)}
    assert np.array_equal(found["train[5]"][:, :, 0], deep[5])


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("train-images-idx3-ubyte.gz", gzip.compress(idx(np.zeros((60, 5, 4), np.uint8)))[:-20], "cannot read"),
        ("train-images-idx3-ubyte.gz", b"\x1f\x8bdamaged", "cannot read"),
        ("train-images-idx3-ubyte.gz", b"hello", "not an IDX file"),
        ("train-images-idx3-ubyte.gz", b"\0\0\x08\x03\0\0", "truncated"),
        ("train-images-idx3-ubyte.gz", idx(np.zeros((60, 5, 4), np.uint8))[:-1], "holds 1199 bytes of data, .* 1200"),
        ("train-images-idx3-ubyte.gz", idx(np.zeros((60, 5, 4), np.uint8)) + b"x", "holds 1201 bytes"),
        ("train-images-idx3-ubyte.gz", idx(np.zeros((59, 5, 4), np.uint8)), "60 labels for 59 images"),
        ("train-images-idx3-ubyte.gz", idx(np.zeros((60, 5, 5), np.uint8)), "differ in size"),
        ("train-images-idx3-ubyte.gz", idx(np.zeros(60, np.uint8)), "holds no images"),
        ("train-images-idx3-ubyte.gz", idx(np.full((60, 5, 4), -1, np.int16)), "expected 0 to 65535"),
        ("train-labels-idx1-ubyte.gz", idx(np.zeros((60, 1), np.uint8)), "holds no labels"),
        ("train-labels-idx1-ubyte.gz", None, "lacks the IDX file with the labels of the train part"),
    ],
)
def test_idx_faults_are_named(tmp_path, name, data, reason):
    put_idx(tmp_path)
    if data is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=reason):
        load(tmp_path)


def test_idx_for_testing_only_is_refused(tmp_path):
    put_idx(tmp_path, train=0)
    with pytest.raises(DataError, match="none for training"):
        load(tmp_path)


def test_two_sets_in_one_place_are_refused(tmp_path):
    put_idx(tmp_path / "MNIST/raw")
    put_idx(tmp_path / "FashionMNIST/raw")
    with pytest.raises(DataError, match="several sets"):
        load(tmp_path)
    put_idx(tmp_path / "flat")
    (tmp_path / "flat/emnist-train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="more than one set"):
        load(tmp_path / "flat")


# CIFAR ----------------------------------------------------------------------------------------------------------------


def cifar10(per_batch: int = 4) -> dict[str, bytes]:
    """The files of a made CIFAR-10 as the publisher pickled them (Python 2 text comes as bytes)."""
    files = {}
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        data = noise(per_batch, 3072, 1, number)[:, :, 0]
        labels = [(number * per_batch + row) % 10 for row in range(per_batch)]
        files[name] = pickle.dumps({b"data": data, b"labels": labels, b"batch_label": b"x"}, protocol=2)
    names = [name.encode() for name in CIFAR10_NAMES]
    return files | {"batches.meta": pickle.dumps({b"label_names": names}, protocol=2)}


def put_files(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def tar(files: dict[str, bytes], folder: str, mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def test_cifar_python_batches(tmp_path):
    files = cifar10(8)
    put_files(tmp_path / "cifar-10-batches-py", files)
    for place in (tmp_path, tmp_path / "cifar-10-batches-py"):
        dataset = load(place)
        assert (dataset.name, dataset.labels.names) == ("cifar10", CIFAR10_NAMES)
        assert len(dataset.splits["train"]) + len(dataset.splits["val"]) == 40
    batch = pickle.loads(files["test_batch"])
    pixels = dataset.splits["test"].images.raw(2)
    assert np.array_equal(pixels, batch[b"data"][2].reshape(3, 32, 32).transpose(1, 2, 0))
    assert dataset.splits["test"].targets.tolist() == batch[b"labels"]


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz", "tgz"])
def test_cifar_archives(tmp_path, ending):
    mode = {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.xz": "w:xz"}[ending]
    archive = tmp_path / f"cifar-10-python.{ending}"
    archive.write_bytes(tar(cifar10(8), "cifar-10-batches-py", mode))
    for data in (archive, tmp_path):
        assert len(load(data).splits["test"]) == 8
    assert len(load("cifar10", data_root=str(tmp_path)).splits["test"]) == 8
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cannot unpack|lacks|damaged|no CIFAR"):
        load(archive)


def test_cifar_100_and_binary_batches(tmp_path):
    rows = noise(200, 3074, 1)[:, :, 0]
    rows[:, 0], rows[:, 1] = np.arange(200) % 20, np.arange(200) % 100
    names = "\n".join(f"class {number}" for number in range(100)) + "\n"
    put_files(
        tmp_path / "cifar-100-binary",
        {"train.bin": rows.tobytes(), "test.bin": rows[:100].tobytes(), "fine_label_names.txt": names.encode()},
    )
    dataset = load("cifar100", data_root=str(tmp_path), val_fraction=0.4)
    assert dataset.labels.names[7] == "class 7"
    assert np.array_equal(dataset.splits["test"].images.raw(3), rows[3, 2:].reshape(3, 32, 32).transpose(1, 2, 0))
    assert dataset.splits["test"].targets.tolist() == list(range(100))
    ten = noise(16, 3073, 1)[:, :, 0]
    ten[:, 0] = np.arange(16) % 10
    batches = {f"data_batch_{number}.bin": ten.tobytes() for number in range(1, 6)}
    put_files(tmp_path / "cifar-10-batches-bin", {**batches, "test_batch.bin": ten.tobytes()})
    assert load("CIFAR-10", data_root=str(tmp_path)).labels.names == CIFAR10_NAMES


class Evil:
    def __reduce__(self):
        return print, ("this ran",)


class Sneaky:
    """Arrays of objects, and numpy's own loader, are ways to code as well."""

    def __reduce__(self):
        return np.load, ("x.npy",)


@pytest.mark.parametrize("content", [Evil(), {b"data": Evil()}, Sneaky(), np.array([Evil()], object), eval, io.BytesIO])
def test_pickles_that_ask_for_more_than_arrays_are_refused(content, capfd):
    for protocol in (2, 4):
        with pytest.raises(DataError, match="refused"):
            unpickle_arrays(pickle.dumps(content, protocol=protocol), "batch")
    assert "this ran" not in capfd.readouterr().out


def test_arrays_and_text_come_through():
    content = {"a": np.arange(6).reshape(2, 3), "b": ["x", 1, 2.5, None, b"y"]}
    for protocol in (2, 4):
        found = unpickle_arrays(pickle.dumps(content, protocol=protocol), "batch")
        (array, rest) = found.values()
        assert np.array_equal(array, content["a"])
        assert rest[1:4] == [1, 2.5, None]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("data_batch_3", None, "lacks data_batch_3"),
        ("data_batch_3", b"", "damaged"),
        ("data_batch_3", pickle.dumps([1, 2]), "not a CIFAR batch"),
        ("data_batch_3", pickle.dumps({b"data": np.zeros((4, 7), np.uint8), b"labels": [0] * 4}), "not a CIFAR batch"),
        ("data_batch_3", pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}), "outside 0..9"),
        ("batches.meta", pickle.dumps({}), "no class names"),
    ],
)
def test_cifar_faults_are_named(tmp_path, name, data, reason):
    files = cifar10()
    files = {key: value for key, value in files.items() if key != name} | ({name: data} if data is not None else {})
    put_files(tmp_path / "cifar-10-batches-py", files)
    with pytest.raises(DataError, match=reason):
        load(tmp_path / "cifar-10-batches-py" if data is not None or name != "data_batch_3" else tmp_path)


# named sets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["mnist", "MNIST/raw", "mnist/MNIST/raw"])
def test_named_sets_are_found_in_every_layout(tmp_path, layout):
    put_idx(tmp_path / layout)
    assert load("MNIST", data_root=str(tmp_path)).name == "mnist"


def test_bare_files_count_in_a_folder_of_the_name_only(tmp_path):
    put_idx(tmp_path / "mnist")
    assert load("mnist", data_root=str(tmp_path / "mnist")).name == "mnist"
    with pytest.raises(OfflineError, match="fashion-mnist is not on this machine") as caught:
        load("fashion-mnist", data_root=str(tmp_path / "mnist"))
    assert str(tmp_path / "mnist" / "FashionMNIST" / "raw") in caught.value.message
    assert "--data-root" in (caught.value.hint or "")


def test_fashion_mnist_has_names(tmp_path):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 200), ("t10k", 20)):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(noise(3, 3, count).transpose(2, 0, 1)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx((np.arange(count) % 10).astype(np.uint8)))
    assert load("fashion-mnist", data_root=str(tmp_path)).labels.names == FASHION_NAMES
    assert load(tmp_path / "FashionMNIST").labels.names == FASHION_NAMES


def test_a_failing_download_says_where_it_looked(tmp_path, monkeypatch):
    import striate.data.sources.named as named

    def download(root):
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    monkeypatch.setattr(named, "_torchvision_download", lambda name: download)
    with pytest.raises(OfflineError, match=r"could not be downloaded.*looked in"):
        load_data(DataOptions(data="kmnist", data_root=str(tmp_path)))


def test_a_download_is_used(tmp_path, monkeypatch):
    import striate.data.sources.named as named

    monkeypatch.setattr(named, "_torchvision_download", lambda name: lambda root: put_idx(root / name / "raw"))
    assert len(load_data(DataOptions(data="kmnist", data_root=str(tmp_path / "new"))).splits["test"]) == 20


def test_unknown_names_are_answered_with_near_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for text, near in (("minst", "mnist"), ("cifar-1000", "cifar-100"), ("photo", "photos"), ("./fotos", "./photos")):
        with pytest.raises(UnknownNameError) as caught:
            load(text)
        assert near in caught.value.nearest
        assert near in (caught.value.hint or "")


# the real files -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (SHARED_DATA / "mnist").is_dir(), reason="needs the real MNIST files")
def test_the_real_mnist():
    dataset = load("mnist", data_root=str(SHARED_DATA))
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 54001, "val": 5999, "test": 10000}
    # class counts of the test set as published
    assert dataset.splits["test"].class_counts(10).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert dataset.splits["test"].targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    total = sum(
        int(split.images.pixels.sum(dtype=np.int64)) for name, split in dataset.splits.items() if name != "test"
    )
    assert round(total / (60000 * 784 * 255), 4) == 0.1307  # the mean that everybody quotes


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED_DATA / "cifar-10-python.tar.xz").is_file(), reason="needs the real CIFAR-10 archive")
def test_the_real_cifar10():
    dataset = load("cifar10", data_root=str(SHARED_DATA))
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 45000, "val": 5000, "test": 10000}
    assert dataset.splits["test"].class_counts(10).tolist() == [1000] * 10
    assert dataset.splits["test"].targets[:5].tolist() == [3, 8, 8, 0, 6]
    train = np.concatenate([dataset.splits[name].images.pixels for name in ("train", "val")])
    assert np.allclose(train.mean(axis=(0, 2, 3)) / 255, [0.4914, 0.4822, 0.4465], atol=5e-5)
