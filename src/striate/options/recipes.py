"""Recipes: TOML files that hold only what differs from the defaults. The published ones ship with the package."""

from __future__ import annotations

import os
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from striate.errors import UnknownNameError, UsageError
from striate.options.declare import merged, to_mapping
from striate.options.sections import TrainOptions


def recipe_names() -> list[str]:
    """The recipes that ship with Striate, by name."""
    folder = resources.files("striate") / "recipes"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def load_recipe(name_or_file: str | Path, base: TrainOptions | None = None) -> TrainOptions:
    """The options of a shipped recipe (by name) or of a TOML file, put over `base`.

    Raises:
        UnknownNameError: neither a file nor a shipped recipe, or a key that is not declared.
        UsageError: not TOML, or a value that does not fit its declaration; the message names the recipe and the key.
    """
    try:
        values = tomllib.loads(_text(name_or_file))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"recipe {name_or_file} is not valid TOML: {error}") from error
    try:
        return merged(base or TrainOptions(), values)
    except UsageError as error:
        error.args = (f"recipe {name_or_file}: {error.message}",)
        error.message = error.args[0]
        raise


def write_recipe(options: TrainOptions, path: Path, comment: str = "") -> None:
    """Write every resolved option to `path`, atomically, with `comment` lines on top."""
    import tomli_w

    head = "".join(f"# {line}\n" for line in comment.splitlines())
    scratch = path.with_name(path.name + ".part")
    values: dict[str, Any] = to_mapping(options)
    scratch.write_text(head + tomli_w.dumps(values), encoding="utf-8")
    os.replace(scratch, path)


def _text(name_or_file: str | Path) -> str:
    path = Path(name_or_file)
    if path.suffix == ".toml" or path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"recipe {path} is not a text file: {error.reason}") from error
        except OSError as error:
            hint = f"give the path of a TOML file, or a shipped recipe: {', '.join(recipe_names())}"
            raise UsageError(f"cannot read recipe {path}: {error.strerror}", hint) from error
    shipped = resources.files("striate") / "recipes" / f"{name_or_file}.toml"
    if not shipped.is_file():
        raise UnknownNameError("recipe", str(name_or_file), recipe_names())
    return shipped.read_text(encoding="utf-8")
