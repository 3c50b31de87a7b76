"""How counts are said to people."""

from __future__ import annotations


def counted(count: int, one: str, several: str) -> str:
    """`count` with the words that go with it: "1 image is", "2 images are"."""
    return f"{count:,} {one if count == 1 else several}"
