"""Counter-based randomness: every number is a pure function of (seed, epoch, image, operation, counter).

There is no generator whose state moves with the order of calls. A training run that resumes, changes its batch size or
its number of threads therefore sees the same distorted images, bit for bit.

The hash is a tree of SplitMix64 streams (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"):
element `v` of the stream that starts at `h` is ``mix(h + (v + 1) * GAMMA)``, and starts the stream below it. The path
from the root is seed, epoch, operation name, image, counter.

Integers and uniform numbers are exact on every machine and device. Normal and beta draws go through logarithms and
cosines of the C library in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import torch

GAMMA = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, odd
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
_WORD = (1 << 64) - 1
_GAMMA_ROUNDS = 16  # of rejection sampling; each is accepted with a chance above 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """The random numbers that belong to the images `indices` [B] in one epoch.

    An image that an epoch shows several times (balanced sampling) has a number of its own for each showing:
    ``index + showing * split length``.
    """

    seed: int
    epoch: int
    indices: np.ndarray  # int64 [B]

    def states(self, name: str) -> np.ndarray:
        """uint64 [B]: where each image's stream of the operation `name` starts."""
        start = descend(descend(descend(0, self.seed), self.epoch), _number(name))
        return elements(np.uint64(start), self.indices)

    def bits(self, name: str, count: int = 1) -> np.ndarray:
        """uint64 [B, count]: the stream itself."""
        return elements(self.states(name)[:, None], np.arange(count))

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0, count: int = 1) -> np.ndarray:
        """float64 [B, count] evenly in [low, high), from the upper 53 bits."""
        unit = (self.bits(name, count) >> np.uint64(11)) * 2.0**-53
        return low + (high - low) * unit

    def integers(self, name: str, low: int, high: int, count: int = 1) -> np.ndarray:
        """int64 [B, count] evenly among low..high, both included; ``high - low`` below 2**32."""
        width = np.uint64(high - low + 1)
        return low + ((self.bits(name, count) >> np.uint64(32)) * width >> np.uint64(32)).astype(np.int64)

    def normal(self, name: str, count: int = 1) -> np.ndarray:
        """float64 [B, count] standard normal, by Box and Muller."""
        unit = self.uniform(name, count=2 * count)
        radius = np.sqrt(-2.0 * np.log1p(-np.ascontiguousarray(unit[:, :count])))
        return radius * np.cos(2.0 * np.pi * np.ascontiguousarray(unit[:, count:]))

    def beta(self, name: str, alpha: float) -> np.ndarray:
        """float64 [B] from Beta(alpha, alpha), the law of the mixing weights.

        The quotient x / (x + y) of two gamma variables, taken between logarithms because they underflow at small alpha.
        """
        difference = self._log_gamma(f"{name}/y", alpha) - self._log_gamma(f"{name}/x", alpha)
        return 1.0 / (1.0 + np.exp(np.clip(difference, -700.0, 700.0)))

    def _log_gamma(self, name: str, shape: float) -> np.ndarray:
        """float64 [B]: logarithm of a Gamma(shape, 1) variable, by Marsaglia and Tsang 2000."""
        d = shape + 2.0 / 3.0  # of shape + 1; the missing factor u ** (1 / shape) is put on at the end
        x = self.normal(f"{name}/normal", _GAMMA_ROUNDS)
        u = 1.0 - self.uniform(f"{name}/accept", count=_GAMMA_ROUNDS)
        v = np.maximum(1.0 + x / np.sqrt(9.0 * d), 1e-12) ** 3
        accepted = np.log(u) < 0.5 * x * x + d - d * v + d * np.log(v)
        first = accepted.argmax(axis=1)
        boost = 1.0 - self.uniform(f"{name}/boost")[:, 0]
        return np.log(d * v[np.arange(len(v)), first]) + np.log(boost) / shape

    def byte_field(self, name: str, count: int, device: torch.device) -> torch.Tensor:
        """int8 [B, count] evenly in -128..127, on `device`: eight values from each hash."""
        return self._field(name, -(-count // 8), device).view(torch.int8)[:, :count]

    def normal_field(self, name: str, count: int, device: torch.device) -> torch.Tensor:
        """float32 [B, count] standard normal on `device`, of 65,536 levels: four values from each hash.

        Read from a table of the normal law's quantiles, and so the same on every device; no value exceeds 4.4.
        """
        words = self._field(name, -(-count // 4), device).view(torch.int16)[:, :count]
        rows = words.to(torch.int32).add_(32768).flatten()
        return _quantiles(device).index_select(0, rows).view(words.shape)  # four times as fast as indexing by brackets

    def _field(self, name: str, count: int, device: torch.device) -> torch.Tensor:
        """int64 [B, count] on `device`: the same bits as `bits`."""
        if device.type == "cpu":  # NumPy's 64-bit products are twice as fast there
            return torch.from_numpy(self.bits(name, count).view(np.int64))
        states = torch.from_numpy(self.states(name).view(np.int64)).to(device)
        return torch_elements(states[:, None], torch.arange(count, device=device))


def permutation(length: int, seed: int, epoch: int, name: str = "shuffle") -> np.ndarray:
    """int64 [length]: 0..length-1 in the random order of (seed, epoch, name)."""
    bits = Draws(seed, epoch, np.arange(length)).states(name)
    return np.argsort(bits, kind="stable")


def descend(state: int, element: int) -> int:
    """One step down the tree, in plain numbers: element `element` of the stream that starts at `state`."""
    return int(elements(np.uint64(state & _WORD), np.array([element & _WORD], dtype=np.uint64))[0])


def elements(states: np.ndarray | np.uint64, which: np.ndarray) -> np.ndarray:
    """uint64: elements `which` (counted from 0) of the SplitMix64 streams that start at `states`; both broadcast."""
    z = np.uint64(GAMMA) * (which.astype(np.uint64) + np.uint64(1))
    z = states + z
    part = z >> np.uint64(SHIFTS[0])
    z ^= part
    for multiplier, shift in zip(MULTIPLIERS, SHIFTS[1:], strict=True):
        z *= np.uint64(multiplier)
        np.right_shift(z, np.uint64(shift), out=part)
        z ^= part
    return z


def torch_elements(states: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """`elements` for int64 tensors of any device: the same bits, read as signed numbers."""
    z = states + (which + 1) * _signed(GAMMA)
    z ^= _logical_shift(z, SHIFTS[0])
    for multiplier, shift in zip(MULTIPLIERS, SHIFTS[1:], strict=True):
        z *= _signed(multiplier)
        z ^= _logical_shift(z, shift)
    return z


def _logical_shift(z: torch.Tensor, by: int) -> torch.Tensor:
    return (z >> by) & ((1 << (64 - by)) - 1)  # torch's shift copies the sign, which the mask takes off


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


@lru_cache(maxsize=256)
def _number(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


@lru_cache(maxsize=4)
def _quantiles(device: torch.device) -> torch.Tensor:
    """float32 [65536]: the normal law's quantiles at the middles of equal parts."""
    middles = (torch.arange(65536, dtype=torch.float64) + 0.5) / 65536
    return torch.special.ndtri(middles).to(torch.float32).to(device)
