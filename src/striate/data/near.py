"""Near duplicates: images that are the same but for their size, compression, brightness, a small change or a mirror.

Each image becomes 64 bits: the signs, against their median, of the 8 by 8 lowest frequencies of its cosine transform.
Images whose bits differ in at most `MAX_DISTANCE` places are candidates; they count as near duplicates where their
pixels, too, correlate by at least `MIN_CORRELATION`; of images that have it, the finest detail, which compression and
resizing change, is averaged away before. Mirrored copies (left for right) are searched for in the same way.

Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1 (the hash);
the search uses the pigeonhole principle over bit blocks, as in Manku, Jain & Das Sarma, "Detecting Near-Duplicates for
Web Crawling", WWW 2007, section 3.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

MAX_DISTANCE = 3
MIN_CORRELATION = 0.99
_DETAILED = 32  # pixels of a side from which only the means of 2 by 2 are compared
_BLOCKS = MAX_DISTANCE + 1  # hashes that differ in 3 places agree in one of 4 blocks
_CHUNK = 2048


def perceptual_hashes(images: np.ndarray) -> np.ndarray:
    """uint64 [n]: the hashes of grey uint8 images [n, h, w]."""
    hashes = np.empty(len(images), np.uint64)
    rows, columns = _cosines(images.shape[1]), _cosines(images.shape[2])
    weights = np.uint64(1) << np.arange(64, dtype=np.uint64)
    for start in range(0, len(images), _CHUNK):
        frequencies = rows @ images[start : start + _CHUNK].astype(np.float32) @ columns.T
        flat = frequencies.reshape(len(frequencies), 64)
        bits = flat > np.median(flat, axis=1, keepdims=True)
        hashes[start : start + _CHUNK] = (bits * weights).sum(axis=1, dtype=np.uint64)
    return hashes


def near_pairs(images: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """int64 [k, 2]: the pairs (i < j) of near duplicates among grey uint8 images [n, h, w].

    Images without contrast (one even colour) resemble nothing.
    """
    contrast = _with_contrast(images)
    return _confirmed(images, images, contrast[_close_pairs(hashes[contrast])])


def mirrored_pairs(images: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """int64 [k, 2]: the pairs (i < j) of which each is nearly the other's mirror image; otherwise as `near_pairs`.

    What is nearly its own mirror image is a near duplicate of its mirrored copies as well.
    """
    contrast = _with_contrast(images)
    count, mirrored = len(contrast), images[:, :, ::-1]
    both = np.concatenate([hashes[contrast], perceptual_hashes(mirrored[contrast])])
    pairs = np.sort(_close_pairs(both), axis=1)
    first, second = pairs[(pairs[:, 0] < count) & (pairs[:, 1] >= count)].T
    others = first != second - count
    found = np.stack([contrast[first[others]], contrast[second[others] - count]], axis=1)
    candidates = np.unique(np.sort(found, axis=1), axis=0)
    return _confirmed(images, mirrored, candidates)


def groups_of_pairs(pairs: np.ndarray) -> list[list[int]]:
    """The connected groups of at least two, each in order."""
    parent: dict[int, int] = {}

    def root(item: int) -> int:
        while parent.setdefault(item, item) != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, second in pairs.tolist():
        parent[root(second)] = root(first)
    groups: dict[int, list[int]] = {}
    for item in sorted(parent):
        groups.setdefault(root(item), []).append(item)
    return sorted(groups.values())


@lru_cache(maxsize=16)
def _cosines(side: int) -> np.ndarray:
    """float32 [8, side]: the cosine transform's frequencies 1 to 8 (the mean, frequency 0, carries brightness only)."""
    places = (np.arange(side) + 0.5) / side
    return np.cos(np.pi * np.arange(1, 9)[:, None] * places[None, :]).astype(np.float32)


def _close_pairs(hashes: np.ndarray) -> np.ndarray:
    """int64 [k, 2]: all pairs of positions whose hashes differ in at most `MAX_DISTANCE` bits."""
    width = 64 // _BLOCKS
    found: list[np.ndarray] = []
    for block in range(_BLOCKS):
        values = (hashes >> np.uint64(block * width)) & np.uint64((1 << width) - 1)
        order = np.argsort(values, kind="stable")
        found += _pairs_in_runs(hashes, values, order, block, width)
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def _pairs_in_runs(
    hashes: np.ndarray, values: np.ndarray, order: np.ndarray, block: int, width: int
) -> list[np.ndarray]:
    """Compare every image with the 1st, 2nd, ... after it in `order`, as long as their blocks are equal."""
    found = []
    starts = np.arange(len(order))
    ends = np.searchsorted(values[order], values[order], side="right")  # where the run of each ends
    step = 1
    while True:
        starts = starts[starts + step < ends[starts]]
        if not len(starts):
            return found
        first, second = order[starts], order[starts + step]
        different = hashes[first] ^ hashes[second]
        close = np.bitwise_count(different) <= MAX_DISTANCE
        for earlier in range(block):  # a pair that agrees in an earlier block was found there
            mask = np.uint64(((1 << width) - 1) << (earlier * width))
            close &= (different & mask) != 0
        found.append(np.stack([first[close], second[close]], axis=1))
        step += 1


def _with_contrast(images: np.ndarray) -> np.ndarray:
    """int64 [m]: which images are more than one even colour."""
    return np.flatnonzero(images.reshape(len(images), -1).std(axis=1) > 1)


def _confirmed(images: np.ndarray, others: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """int64 [k, 2]: the pairs of image and other image whose pixels correlate, each with the lower number first."""
    kept = [
        _correlation(images, others, candidates[start : start + _CHUNK]) >= MIN_CORRELATION
        for start in range(0, len(candidates), _CHUNK)
    ]
    return np.sort(candidates[np.concatenate(kept)], axis=1) if kept else np.empty((0, 2), np.int64)


def _correlation(images: np.ndarray, others: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """float [k]: the correlation of the pixels of each pair."""
    first, second = _coarse(images[pairs[:, 0]]), _coarse(others[pairs[:, 1]])
    first -= first.mean(axis=1, keepdims=True)
    second -= second.mean(axis=1, keepdims=True)
    products = np.einsum("ij,ij->i", first, second)
    return products / np.sqrt(np.einsum("ij,ij->i", first, first) * np.einsum("ij,ij->i", second, second))


def _coarse(images: np.ndarray) -> np.ndarray:
    """float32 [n, pixels]: uint8 [n, h, w] without the finest detail."""
    n, height, width = images.shape
    if min(height, width) >= _DETAILED:
        even = images[:, : height // 2 * 2, : width // 2 * 2]
        images = even.reshape(n, height // 2, 2, width // 2, 2).mean(axis=(2, 4), dtype=np.float32)
    return images.reshape(n, images.shape[1] * images.shape[2]).astype(np.float32)
