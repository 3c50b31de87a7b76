"""Flags from declarations, their precedence over recipes, and errors without tracebacks."""

import errno
import json
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from striate.cli.common import json_flag, options_from, print_json, striate_command
from striate.cli.main import COMMANDS, striate
from striate.errors import DataError, StriateError
from striate.options import DataOptions, TrainOptions, options_of


def command_that(action):
    @striate_command("probe")
    @options_from(TrainOptions)
    @json_flag
    def command(options: TrainOptions, as_json: bool) -> None:
        """Show one thing."""
        action(options)

    return command


def run(*words: str) -> Result:
    return CliRunner().invoke(striate, list(words))


def options_for(*words: str) -> TrainOptions:
    seen: list[TrainOptions] = []
    result = CliRunner().invoke(command_that(seen.append), list(words))
    assert result.exit_code == 0, result.stderr
    return seen[0]


def refused(*words: str) -> Result:
    result = CliRunner().invoke(command_that(lambda options: None), list(words))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "\nhint: " in result.stderr
    assert "Traceback" not in result.stderr
    return result


def fails_with(error: BaseException, *words: str) -> Result:
    def action(options: TrainOptions) -> None:
        raise error

    return CliRunner().invoke(command_that(action), list(words))


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text('[schedule]\nepochs = 7\nschedule = "step"\n[optimizer]\nlr = 0.5\nnesterov = true\n')
    return str(path)


def test_without_flags_the_options_are_the_declared_defaults():
    assert options_for() == TrainOptions()


def test_a_recipe_wins_over_defaults_and_flags_over_the_recipe(recipe):
    options = options_for("--recipe", recipe, "--epochs", "3", "--no-nesterov")
    assert options.schedule.epochs == 3
    assert options.optimizer.nesterov is False
    assert options.schedule.schedule == "step"
    assert options.optimizer.lr == 0.5
    assert options.optimizer.momentum is None


def test_flags_that_were_not_given_do_not_override_a_recipe(recipe):
    options = options_for("--recipe", recipe)
    assert (options.schedule.epochs, options.optimizer.nesterov) == (7, True)


@pytest.mark.parametrize("one", list(options_of(TrainOptions)), ids=lambda one: one.flag)
def test_every_declared_option_has_its_flag(one):
    spellings = [text for parameter in command_that(print).params for text in parameter.opts]
    assert spellings.count(one.flag) == 1


@pytest.mark.parametrize(
    ("words", "section", "name", "value"),
    [
        (("--crop-scale", "0.35,1"), "augment", "crop_scale", (0.35, 1.0)),
        (("--scale-jitter", "256,480"), "augment", "scale_jitter", (256, 480)),
        (("--mean", "0.1307"), "data", "mean", (0.1307,)),
        (("--mean", "0.49, 0.48, 0.45"), "data", "mean", (0.49, 0.48, 0.45)),
        (("--lr", "auto"), "optimizer", "lr", "auto"),
        (("--lr", "1e-3"), "optimizer", "lr", 0.001),
        (("--lr", "1"), "optimizer", "lr", 1.0),
        (("--from", "runs/a"), "model", "from_", "runs/a"),
        (("--from", "runs/a", "--from", "vgg_a:x"), "model", "from_", ("runs/a", "vgg_a:x")),
        (("--layer-decay", "0.8"), "transfer", "layer_decay", 0.8),
        (("--unfreeze-every", "2"), "transfer", "unfreeze_every", 2),
        (("--channels-last",), "runtime", "channels_last", True),
        (("--no-channels-last",), "runtime", "channels_last", False),
        (("--no-report",), "training", "report", False),
        (("--weight-decay", "5e-4"), "regularize", "weight_decay", 5e-4),
        (("--weight-decay", "0"), "regularize", "weight_decay", 0.0),
    ],
)
def test_values_are_read_as_their_declared_type(words, section, name, value):
    found = getattr(getattr(options_for(*words), section), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--epocs", "3"), "--epochs"),
        (("--epochs", "three"), "--epochs"),
        (("--epochs", "0"), "--epochs = 0: must be at least 1"),
        (("--schedule", "cosin"), "cosine"),
        (("--scale-jitter", "256,x"), "--scale-jitter"),
        (("--scale-jitter", "256"), "--scale-jitter = [256]: expected 2 values"),
        (("--scale-jitter", "480,256"), "the first must not exceed the second"),
        (("--lr", "fast"), "--lr = 'fast': expected a number or auto"),
        (("--rotate", "200"), "--rotate = 200.0: must be at most 180.0"),
        (("--recipe", "no-such-recipe"), "unknown recipe 'no-such-recipe'"),
        (("--recipe", "missing.toml"), "missing.toml"),
        (("surplus",), "surplus"),
    ],
)
def test_wrong_usage_is_answered_in_two_lines(words, expected):
    assert expected in refused(*words).stderr


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "latest", ""), ("evaluate", "latest", "--data", ""), ("train", ""), ("check", ""), ("probe", ""),
        ("predict", "latest", ""), ("explain", "latest", "", "cat.jpg"),
    ],
)  # fmt: skip
def test_an_empty_word_is_not_the_current_folder(words):
    result = run(*words)
    assert result.exit_code == 2
    assert "'' is given for" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 2


def test_an_unknown_key_in_a_recipe_names_recipe_key_and_neighbour(tmp_path):
    path = tmp_path / "typo.toml"
    path.write_text("[schedule]\nepoch = 3\n")
    text = refused("--recipe", str(path)).stderr
    assert str(path) in text
    assert "schedule.epoch" in text
    assert "schedule.epochs" in text


def test_one_section_can_be_offered_alone():
    seen = []

    @striate_command("probe")
    @options_from(DataOptions)
    def alone(options: DataOptions) -> None:
        seen.append(options)

    assert CliRunner().invoke(alone, ["--limit", "5"]).exit_code == 0
    assert seen == [DataOptions(limit=5)]
    assert "--recipe" not in CliRunner().invoke(alone, ["--help"]).stdout


def test_sections_and_left_out_options_decide_what_is_offered():
    @striate_command("probe")
    @options_from(TrainOptions, sections=("data", "runtime"), leave_out=("data",), recipe=False)
    def some(options: TrainOptions) -> None: ...

    text = CliRunner().invoke(some, ["--help"]).stdout
    assert "--limit" in text
    assert "--device" in text
    assert "--epochs" not in text
    assert "--data " not in text
    assert "--recipe" not in text


def test_help_groups_options_by_section_with_defaults_and_sources():
    text = " ".join(CliRunner().invoke(command_that(print), ["--help"]).stdout.split())
    order = [text.index(f"[{name}] ") for name in ("data", "model", "augment", "optimizer", "schedule", "runtime")]
    assert order == sorted(order)
    assert "factor per epoch [0.1]" in text
    assert "(Simard et al. 2003, sec. 2)" in text


@pytest.mark.parametrize(
    ("error", "code", "message", "hint"),
    [
        (DataError("no images in photos/", "name a folder of class folders"), 1, "no images in photos/", "name a"),
        (StriateError("it broke"), 1, "it broke", None),
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), 1, "runs/a: no space left on device", "--resume"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 1, "runs: permission denied", "who owns it"),
        (MemoryError(), 1, "not enough memory", "--batch-size"),
        (KeyboardInterrupt(), 130, "interrupted", None),
        (ZeroDivisionError("division by zero"), 1, "unexpected ZeroDivisionError: division by zero", "--debug"),
        (ValueError("two\nlines"), 1, "unexpected ValueError: two lines", "--debug"),
    ],
)
def test_errors_are_two_lines_and_an_exit_code(error, code, message, hint):
    result = fails_with(error)
    lines = [line for line in result.stderr.splitlines() if line]
    assert result.exit_code == code
    assert lines[0] == f"error: {message}"
    assert len(lines) == (2 if hint else 1)
    if hint:
        assert lines[1].startswith("hint: ")
        assert hint in lines[1]


def test_debug_shows_the_traceback_above_the_error():
    result = fails_with(ZeroDivisionError("division by zero"), "--debug")
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-2] == "error: unexpected ZeroDivisionError: division by zero"


def test_json_is_one_line_without_what_json_does_not_know():
    @dataclass
    class Named:
        name: str

        def to_dict(self) -> dict:
            return {"name": self.name}

    import numpy as np

    @click.command()
    def show() -> None:
        print_json(
            {"nan": float("nan"), "path": Path("a/b"), "np": np.float32(0.5), "list": np.arange(2), "o": Named("é")}
        )

    text = CliRunner().invoke(show).stdout
    assert text.count("\n") == 1
    assert json.loads(text) == {"nan": None, "path": "a/b", "np": 0.5, "list": [0, 1], "o": {"name": "é"}}
    assert "é" in text


def test_unknown_commands_are_answered_with_the_nearest():
    result = run("trian")
    assert result.exit_code == 2
    assert result.stderr == "error: unknown command 'trian'\nhint: did you mean train?\n"


def test_the_bare_command_greets_with_its_help():
    assert run().exit_code == 0
    assert run().stdout == run("--help").stdout
    for name, (_, line) in COMMANDS.items():
        assert name in run("--help").stdout
        assert line.split()[0] in run("--help").stdout


def test_version():
    from striate import __version__

    assert run("--version").stdout == f"striate {__version__}\n"
