"""The documentation's tables of options, made from their declarations."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from striate.options.bench import BenchOptions
from striate.options.declare import Option, options_of
from striate.options.explain import ExplainOptions
from striate.options.inference import InferenceOptions
from striate.options.robustness import RobustnessOptions
from striate.options.sections import TrainOptions

_HEAD = """# Options

Made from the declarations in `src/striate/options` by `python docs/make_options.py`; a test keeps it
current.

Every option of a training is a flag (`--weight-decay 1e-4`), a key of a recipe (`[regularize]` `weight_decay = 1e-4`)
and a keyword of `striate.train` (`weight_decay=1e-4`). A default stands under a recipe, a recipe under a flag. An empty
default is decided from the data and the network; the run folder's `recipe.toml` records what it came to. The last
sections are of other commands and in no recipe.
"""
_OTHERS = {
    "inference": (
        InferenceOptions,
        "Flags of `striate predict` and `striate evaluate`; all but `threads` are keywords of `striate.load` and "
        "`striate.evaluate`.",
    ),
    "robustness": (
        RobustnessOptions,
        "Flags of `striate evaluate`; all but the last are keywords of `striate.evaluate`. Several kinds have commas "
        "between them.",
    ),
    "explain": (
        ExplainOptions,
        "Flags of `striate explain`, keywords of `striate.explain`. Several methods have commas between them.",
    ),
    "bench": (
        BenchOptions,
        "Flags of `striate bench`, keywords of `striate.benchmark`. Several values have commas between them.",
    ),
}


def options_table() -> str:
    """All options as Markdown, one table for each section."""
    sections: dict[str, list[Option]] = {}
    for one in options_of(TrainOptions):
        sections.setdefault(one.section, []).append(one)
    notes: dict[str, str] = {}
    for name, (cls, note) in _OTHERS.items():
        sections[name], notes[name] = list(options_of(cls, name)), f"{note}\n\n"
    parts = [_HEAD]
    for name, rows in sections.items():
        parts.append(f"## {name}\n\n{notes.get(name, '')}| flag | value | default | what |\n|---|---|---|---|")
        parts.extend(_row(one) for one in rows)
        parts[-1] += "\n"
    return "\n".join(parts)


def _row(one: Option) -> str:
    flag = f"`{one.flag}`, `--no-{one.flag[2:]}`" if one.type is bool else f"`{one.flag}`"
    text = one.help + (f" ({one.source})" if one.source else "")
    cells = (flag, _values(one), _default(one.default), text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _values(one: Option) -> str:
    if one.choices:
        return ", ".join(f"`{choice}`" for choice in one.choices)
    if one.repeats:
        return "text, or several"
    return _type_in_words(one.type)


def _type_in_words(hint: Any) -> str:
    words = {bool: "yes or no", int: "whole number", float: "number", str: "text"}
    if hint in words:
        return words[hint]
    parts = get_args(hint)
    if get_origin(hint) is tuple:
        plural = f"{_type_in_words(parts[0])}s"
        return plural if parts[-1] is Ellipsis else f"{len(parts)} {plural}"
    return " or ".join(_type_in_words(part) for part in parts)


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "`" + ",".join(f"{part:g}" for part in value) + "`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
