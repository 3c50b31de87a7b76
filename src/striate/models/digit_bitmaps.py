"""The codes that LeNet-5's output units compare F6 with: a stylised 7x12 picture of each digit, ink +1, paper -1.

LeCun et al. 1998, sec. II.B: pictures rather than one-of-N codes, because saturated units would have to be off nearly
always, and because the codes of characters that look alike come out alike. These pictures are our own drawing.
"""

from __future__ import annotations

from hashlib import sha256

WIDTH, HEIGHT = 7, 12

# Two rows of five digits; each row of text holds one row of pixels of five pictures.
_UPPER = """
 .......  .......  .......  .......  .......
 ..###..  ...##..  .#####.  .#####.  ....##.
 .##.##.  ..###..  ##...##  ##...##  ...###.
 ##...##  .####..  .....##  .....##  ..####.
 ##...##  ...##..  .....##  .....##  .##.##.
 ##...##  ...##..  ....##.  ..####.  ##..##.
 ##...##  ...##..  ...##..  .....##  ##..##.
 ##...##  ...##..  ..##...  .....##  #######
 ##...##  ...##..  .##....  .....##  ....##.
 .##.##.  ...##..  ##.....  ##...##  ....##.
 ..###..  .######  #######  .#####.  ....##.
 .......  .......  .......  .......  .......
"""
_LOWER = """
 .......  .......  .......  .......  .......
 #######  ..####.  #######  .#####.  .#####.
 ##.....  .##....  #######  ##...##  ##...##
 ##.....  ##.....  .....##  ##...##  ##...##
 ##.....  ##.....  ....##.  ##...##  ##...##
 ######.  ######.  ....##.  .#####.  .######
 .....##  ##...##  ...##..  ##...##  .....##
 .....##  ##...##  ...##..  ##...##  .....##
 .....##  ##...##  ..##...  ##...##  .....##
 ##...##  ##...##  ..##...  ##...##  ....##.
 .#####.  .#####.  ..##...  .#####.  .####..
 .......  .......  .......  .......  .......
"""


def class_codes(classes: int) -> list[list[int]]:
    """One code of 84 values ±1 for each class, [classes, 84], rows of the picture one after the other.

    Classes 0 to 9 are the digits. From 10 on there are no pictures: class k takes the first 84 bits of the SHA-256 of
    "class k", so that a code depends on the number of its class alone and two codes differ in about half of the places.
    """
    digits = [code for sheet in (_UPPER, _LOWER) for code in _pictures(sheet)]
    return [digits[index] if index < len(digits) else _hashed(index) for index in range(classes)]


def _pictures(sheet: str) -> list[list[int]]:
    lines = [line.split() for line in sheet.strip().splitlines()]
    return [[1 if pixel == "#" else -1 for line in lines for pixel in line[place]] for place in range(len(lines[0]))]


def _hashed(index: int) -> list[int]:
    number = int.from_bytes(sha256(f"class {index}".encode()).digest(), "big")
    return [1 if number >> (255 - place) & 1 else -1 for place in range(WIDTH * HEIGHT)]
