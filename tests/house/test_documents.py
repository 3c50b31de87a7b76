"""The documents keep their word: commands exist, links lead somewhere, decisions are listed."""

import re
import shlex
from pathlib import Path

import click
import pytest

from striate.cli.main import COMMANDS, striate
from striate.options import load_recipe

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shell_lines() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    lines = [part.strip() for block in blocks for line in block.splitlines() for part in line.split("&&")]
    return [line for line in lines if re.match(r"(\.venv/bin/)?striate\b", line)]


@pytest.mark.parametrize("line", shell_lines())
def test_commands_of_the_readme_parse(line):
    _, name, *words = shlex.split(line)
    assert name in COMMANDS
    command = striate.get_command(click.Context(striate), name)
    assert command is not None
    context = command.make_context(name, words)
    if context.params.get("recipe"):
        load_recipe(context.params["recipe"])


def test_the_readme_shows_its_commands():
    assert len(shell_lines()) >= 8


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_and_a_line_in_the_readme(name):
    command = striate.get_command(click.Context(striate), name)
    assert command is not None
    assert command.help
    assert f"striate {name}" in README


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_decision_is_listed():
    folder = ROOT / "docs" / "decisions"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    for path in folder.glob("0*.md"):
        assert f"({path.name})" in listed
        assert path.read_text(encoding="utf-8").startswith(f"# {path.name[:4]} ")


def test_the_changelog_has_a_place_for_what_comes():
    assert "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_house_of_the_document_is_the_house_of_the_test():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in (ROOT / "src" / "striate").iterdir():
        room = path.stem
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and room != "version":
            assert f"`{room}" in text, f"{room} is missing from ARCHITECTURE.md"


def test_ci_does_what_the_readme_says():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    wanted = re.findall(r"from_readme '([^']+)'", script)
    assert len(wanted) == 2
    for text in wanted:
        line = next(line for line in README.splitlines() if text in line)
        assert line in README.split("```sh\n", 1)[1].split("```")[0], f"{text}: not in the first block"
