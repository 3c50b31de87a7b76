"""`digits`: the 1,797 real handwritten digits of 8 by 8 pixels that come with scikit-learn.

They are the test part of Kaynak's "Optical Recognition of Handwritten Digits" (UCI, 1998): 4 by 4 blocks of a 32 by 32
bitmap counted, so that pixels are 0 to 16. The file is read from the installed package without importing it, which
alone takes two seconds.
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from striate.data.sources.found import Found, numbered_paths
from striate.errors import DataError


def find_digits() -> Found:
    """The whole set as one training part; pixels 0..16 scaled to 0..255.

    Raises:
        DataError: scikit-learn is not installed.
    """
    table = _read_table()
    counts = table[:, :64].reshape(-1, 1, 8, 8)
    return Found(
        name="digits",
        class_names=tuple(str(digit) for digit in range(10)),
        targets=table[:, 64].astype(np.int64),
        paths=numbered_paths({"digits": len(table)}),
        given=np.full(len(table), "train"),
        pixels=np.rint(counts * (255 / 16)).astype(np.uint8),
        fixed=True,
    )


def _read_table() -> np.ndarray:
    """[1797, 65]: 64 pixels and the digit."""
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("the digits come with scikit-learn, which is not installed", "pip install scikit-learn")
    file = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        return np.loadtxt(gzip.decompress(file.read_bytes()).decode("ascii").splitlines(), delimiter=",")
    from sklearn.datasets import load_digits  # a version that keeps the file elsewhere

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])  # type: ignore[attr-defined]
