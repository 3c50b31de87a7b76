"""What every command shares: flags made from declared options, errors as two lines, and JSON on standard output.

A command is written like this; everything heavy is imported inside the function::

    @striate_command("check")
    @click.argument("data", required=False)
    @options_from(TrainOptions, sections=("data", "runtime"), leave_out=("data",))
    @json_flag
    def command(data: str | None, options: TrainOptions, as_json: bool) -> None:
        ...
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource

from striate.cli.errors import reported
from striate.errors import UnknownNameError, UsageError, nearest
from striate.options.declare import Option, merged, options_of
from striate.options.recipes import load_recipe
from striate.options.sections import TrainOptions

if TYPE_CHECKING:
    from striate.progress import Progress

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_GIVEN = "striate.given"  # key of the flags that were given, in click's context


class Command(click.Command):
    """A click command that reports errors in two lines and lists declared options under their section."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run, and turn every error into its lines on standard error and its exit code."""
        return reported(super().main, args, prog_name, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; an empty one, mostly a variable of the shell that is not set, would mean the current folder.

        Raises:
            UsageError: an argument or a --data is empty.
        """
        left = super().parse_args(ctx, args)
        for parameter in self.get_params(ctx):
            if not isinstance(parameter, click.Argument) and "--data" not in parameter.opts:
                continue
            value = ctx.params.get(parameter.name or "")
            if "" in (value if isinstance(value, tuple) else (value,)):
                named = parameter.human_readable_name if isinstance(parameter, click.Argument) else "--data"
                raise UsageError(
                    f"'' is given for {named}, and names nothing",
                    f"a variable that is not set? The current folder is .; see `{ctx.command_path} --help`",
                )
        return left

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options, then one block for each section of declared ones."""
        blocks: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                blocks.setdefault(getattr(parameter, "block", "Options"), []).append(record)
        for title, rows in blocks.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=28)


class DeclaredFlag(click.Option):
    """A flag made from a declared option; `block` is the heading it stands under in the help."""

    def __init__(self, *spellings: str, declared: Option, block: str, **settings: Any) -> None:
        super().__init__(list(spellings), **settings)
        self.declared = declared
        self.block = block


class OneOf(click.Choice):
    """One of a few words; another one is answered with the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """`value` if it is one of the words."""
        if value not in self.choices:
            flag = param.opts[0] if param is not None else "option"
            near = nearest(str(value), self.choices)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UnknownNameError(f"value of {flag}", str(value), [], f"{hint}choose one of {', '.join(self.choices)}")
        return value


class NumberList(click.ParamType):
    """Numbers or words separated by commas, such as 0.35,1 or fp32,bf16."""

    name = "numbers"

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        """The numbers as a list."""
        if not isinstance(value, str):
            return list(value)
        try:
            return [self.kind(part) for part in value.split(",")]
        except ValueError:
            kind = "whole numbers" if self.kind is int else "numbers"
            self.fail(f"{value!r} is not a list of {kind} such as {'256,480' if self.kind is int else '0.35,1'}", param)


class NumberOrText(click.ParamType):
    """A number where it reads as one, otherwise the text itself."""

    name = "number or text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """`value` as a number if it is one."""
        try:
            return float(value)
        except ValueError:
            return value


def striate_command(name: str, **settings: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a function the command `name`; adds `--debug`."""
    settings.setdefault("context_settings", CONTEXT)

    def decorate(function: Callable[..., Any]) -> Command:
        made = click.command(name, cls=Command, **settings)(function)
        debug = click.Option(["--debug"], is_flag=True, expose_value=False, help="Show tracebacks.")
        made.params.append(debug)
        return made

    return decorate


def json_flag(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`; the function receives it as `as_json`."""
    help = "Print one JSON object on standard output, everything else on standard error."
    return click.option("--json", "as_json", is_flag=True, help=help)(function)


def options_from(
    cls: type = TrainOptions,
    sections: Iterable[str] | None = None,
    *,
    leave_out: Iterable[str] = (),
    recipe: bool = True,
    into: str = "options",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a flag for every option that `cls` declares; the function receives the result as `into`.

    Precedence: a default, over it `--recipe`, over it the flags that were really given. `sections` names the sections
    to offer (all); `leave_out` the options that the command takes in another way, as an argument for example.
    `cls` may also be one section, such as `DataOptions`; recipes then are not offered.
    """
    kept = set(sections) if sections is not None else None
    nested = any(is_dataclass(hint) for hint in get_type_hints(cls).values())
    declared = [one for one in options_of(cls) if kept is None or one.section in kept]
    declared = [one for one in declared if one.name.rstrip("_") not in set(leave_out)]
    blocks = _blocks(cls)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wrapped(*arguments: Any, **values: Any) -> Any:
            context = click.get_current_context()
            given = _collect(declared, values, context)
            given = given if nested else given.get("", {})
            if into == "options":
                context.meta[_GIVEN] = given
            base = load_recipe(name) if nested and (name := values.pop("recipe", None)) else cls()
            values[into] = put_over(base, given)
            return function(*arguments, **values)

        made: Callable[..., Any] = wrapped
        for one in reversed(declared):
            made = _flag(one, blocks.get(one.section, "Options"))(made)
        if nested and recipe:
            help = "A recipe's name or a TOML file; flags win over it."
            made = click.option("--recipe", metavar="NAME|FILE", help=help)(made)
        return made

    return decorate


def given_options() -> dict[str, Any]:
    """The declared options that were really given as flags, as `merged` takes them: {section: {name: value}}."""
    return click.get_current_context().meta.get(_GIVEN, {})


def put_over(base: Any, given: dict[str, Any]) -> Any:
    """`base` with the given flags put over it; an error names the flag rather than the recipe's key."""
    try:
        return merged(base, given)
    except UsageError as error:
        for one in sorted(options_of(type(base)), key=lambda one: -len(one.key)):
            # an option of one section alone is named with that section, which flags do not have
            key = re.escape(one.key) if one.section else rf"\b\w+{re.escape(one.key)}\b"
            if re.search(key, error.message):
                error.message = re.sub(key, one.flag, error.message)
                error.hint = error.hint or f"`{click.get_current_context().command_path} --help` describes {one.flag}"
        error.args = (error.message,)
        raise


def progress_of() -> Progress:
    """The progress that commands hand to the rooms: bars or lines on standard error."""
    from striate.progress import Console

    return Console()


def prepare_torch() -> None:
    """To be called before the first import that loads torch: the allocator can only be chosen before."""
    from striate.runtime import prepare_torch

    prepare_torch()


def print_json(value: Any) -> None:
    """Print one JSON object; what JSON does not have (NaN, infinity) becomes null."""
    text = json.dumps(_plain(value), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a file name that is no valid Unicode can only be written escaped
        text = json.dumps(_plain(value))
    click.echo(text)


def say(text: str = "") -> None:
    """Print one line of the result on standard output."""
    click.echo(text)


def _collect(declared: list[Option], values: dict[str, Any], context: click.Context) -> dict[str, dict[str, Any]]:
    """Take the flags out of `values`, and keep those that were given."""
    given: dict[str, dict[str, Any]] = {}
    for one in declared:
        parameter = _parameter(one)
        value = values.pop(parameter)
        if one.repeats and value is not None and len(value) == 1:
            value = value[0]
        if context.get_parameter_source(parameter) is ParameterSource.COMMANDLINE:
            given.setdefault(one.section, {})[one.name.rstrip("_")] = value
    return given


def _parameter(one: Option) -> str:
    return f"{one.section}__{one.name.rstrip('_')}"


def _flag(one: Option, block: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    settings: dict[str, Any] = {"default": None, "help": _help(one), "show_default": False}
    spelling = one.flag
    if one.type is bool:
        spelling = f"{one.flag}/--no-{one.flag[2:]}"
        settings["is_flag"] = True
    elif get_origin(one.type) is tuple:
        settings |= {"type": NumberList(get_args(one.type)[0]), "metavar": "A,B"}
    elif one.choices:
        settings["type"] = OneOf(one.choices)
    elif one.repeats:
        settings |= {"type": str, "metavar": "TEXT", "multiple": True}
    elif one.type in (int, float, str):
        settings |= {"type": one.type, "metavar": {int: "N", float: "X", str: "TEXT"}[one.type]}
    else:
        settings |= {"type": NumberOrText(), "metavar": "X|TEXT"}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        made = DeclaredFlag(spelling, _parameter(one), declared=one, block=block, **settings)
        function.__dict__.setdefault("__click_params__", []).append(made)
        return function

    return decorate


def _help(one: Option) -> str:
    text = one.help
    if one.default is not None and one.type is not bool:
        shown = ",".join(f"{part:g}" for part in one.default) if isinstance(one.default, tuple) else one.default
        text += f" [{shown}]"
    elif one.type is bool and one.default is not None:
        text += f" [{'on' if one.default else 'off'}]"
    return text + (f" ({one.source})" if one.source else "")


def _blocks(cls: type) -> dict[str, str]:
    """The heading of each section: its name, and the first sentence of its class."""
    hints = get_type_hints(cls)
    headings = {}
    for item in fields(cls):
        hint = hints[item.name]
        if is_dataclass(hint):
            sentence = (hint.__doc__ or "").split(".")[0]
            headings[item.name] = f"[{item.name}] {sentence}"
    return headings


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, tensors
        return _plain(value.tolist())
    raise TypeError(f"no JSON form for {type(value).__name__}")
