"""Every option once: unique names, a help text, and a documentation that was made from the declarations."""

import re
from collections import Counter
from pathlib import Path

import click
import pytest

from striate.cli.common import DeclaredFlag
from striate.cli.main import COMMANDS, striate
from striate.options import (
    ExplainOptions,
    InferenceOptions,
    RobustnessOptions,
    TrainOptions,
    load_recipe,
    options_of,
    recipe_names,
    to_mapping,
)
from striate.options.bench import BenchOptions
from striate.options.table import options_table

ROOT = Path(__file__).parents[2]
OPTIONS = list(options_of(TrainOptions))
OTHERS = [
    *options_of(InferenceOptions, "inference"),
    *options_of(RobustnessOptions, "robustness"),
    *options_of(BenchOptions, "bench"),
    *options_of(ExplainOptions, "explain"),
]  # in no recipe


def test_a_name_means_one_option_whatever_its_section():
    twice = [name for name, count in Counter(one.name.rstrip("_") for one in OPTIONS).items() if count > 1]
    assert twice == []


@pytest.mark.parametrize("one", OPTIONS + OTHERS, ids=lambda one: one.key)
def test_every_option_explains_itself(one):
    assert len(one.help) >= 8
    assert not one.help.endswith("."), "a help text is a phrase, not a sentence"
    if one.choices and one.default is not None:
        assert one.default in one.choices


def test_the_table_in_the_documentation_is_current():
    text = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert text == options_table(), "run `python docs/make_options.py`"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_has_the_declared_flags_of_every_command(name):
    text = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    command = striate.get_command(click.Context(striate), name)
    assert command is not None
    for flag in command.params:
        if isinstance(flag, DeclaredFlag):
            assert f"\n| `{flag.declared.flag}`" in text, flag.declared.flag


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_load_and_say_what_to_expect(name):
    load_recipe(name)
    text = (ROOT / "src" / "striate" / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    assert text.startswith("#"), "the first lines say the command, the expected score, the time and the machine"
    assert re.search(rf"striate train .*--recipe {re.escape(name)}\b", text)


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_start_from_scratch_whatever_weights_are_about(name):
    assert load_recipe(name).model.from_ == "scratch"


def test_defaults_written_as_differences_are_empty():
    assert to_mapping(TrainOptions(), only_differences=True) == {}
