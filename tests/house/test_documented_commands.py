"""The commands that the documentation shows are understood as they stand there: names, flags and values."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from striate.cli.main import COMMANDS, striate

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def shown(page: Path) -> list[list[str]]:
    """The words of every line of a shell block that begins with `striate`, comments left out."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("striate ")]


@pytest.mark.parametrize("words", [words for page in PAGES for words in shown(page)], ids=" ".join)
def test_a_documented_command_is_understood(words):
    name, *rest = words
    assert name in COMMANDS
    command = striate.get_command(click.Context(striate), name)
    assert command is not None
    command.make_context(name, rest)  # raises where a flag or a value is unknown; nothing is run


def test_the_readme_shows_every_command():
    assert {words[0] for words in shown(ROOT / "README.md")} >= set(COMMANDS) - {"report", "runs"}  # these in its text
