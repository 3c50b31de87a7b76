"""How an option is declared: a typed field of a frozen dataclass, with its help and its checks in the field itself.

From one declaration come the command-line flag, the recipe key, the resolved dump of a run and the row of the
documentation's table.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from striate.errors import UnknownNameError, UsageError, nearest

OptionsT = TypeVar("OptionsT")


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    source: str | None = None,
) -> Any:
    """A field of an options dataclass.

    `None` as default means "decided from the data and the network"; the resolved value is written to the run folder.
    `at_least`, `at_most` and `above` bound numbers (each number of a tuple); `source` names paper and section.
    """
    metadata = {
        "help": help,
        "choices": tuple(choices) if choices else None,
        "at_least": at_least,
        "at_most": at_most,
        "above": above,
        "source": source,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Option:
    """One declared option, read back from its dataclass."""

    section: str
    name: str
    type: Any  # bool, int, float, str, or tuple[...] of these
    default: Any
    help: str
    choices: tuple[str, ...] | None
    source: str | None

    @property
    def flag(self) -> str:
        """The command-line spelling, `--weight-decay`; `from_` becomes `--from`."""
        return "--" + self.name.rstrip("_").replace("_", "-")

    @property
    def key(self) -> str:
        """The recipe spelling, `regularize.weight_decay`."""
        return f"{self.section}.{self.name.rstrip('_')}"

    @property
    def repeats(self) -> bool:
        """Whether it is one text or several: its flag may be given more than once, its key may be a list."""
        return set(get_args(self.type)) == {str, tuple[str, ...]}


def options_of(cls: type, section: str = "") -> Iterator[Option]:
    """Every option of an options dataclass; a field that is itself an options dataclass is a section."""
    hints = get_type_hints(cls)
    for item in fields(cls):
        hint = hints[item.name]
        if is_dataclass(hint):
            yield from options_of(hint, item.name)  # type: ignore[arg-type]
            continue
        yield Option(
            section=section,
            name=item.name,
            type=_without_none(hint),
            default=None if item.default is MISSING else item.default,
            help=item.metadata["help"],
            choices=item.metadata["choices"],
            source=item.metadata["source"],
        )


def check_options(options: Any, section: str) -> None:
    """Check every value of an options dataclass against its declaration.

    Raises:
        UsageError: a value of the wrong type, not among the choices, or out of bounds; the message names the key.
    """
    hints = get_type_hints(type(options))
    for item in fields(options):
        value = getattr(options, item.name)
        key = f"{section}.{item.name.rstrip('_')}"
        if value is None:
            if type(None) not in get_args(hints[item.name]):
                raise UsageError(f"{key} needs a value")
            continue
        value = _converted(value, _without_none(hints[item.name]), key)
        object.__setattr__(options, item.name, value)  # frozen: this runs in __post_init__ only
        _check_bounds(value, item.metadata, key)


def from_mapping(cls: type[OptionsT], values: Mapping[str, Any], section: str = "") -> OptionsT:
    """Build an options dataclass from nested plain values, as a recipe file gives them.

    Raises:
        UnknownNameError: a section or key that is not declared; answered with the nearest ones.
        UsageError: a value that does not fit its declaration.
    """
    return merged(cls(), values, section)


def merged(base: OptionsT, values: Mapping[str, Any], section: str = "") -> OptionsT:
    """`base` with the given nested values put in."""
    hints = get_type_hints(type(base))
    names = {item.name.rstrip("_"): item.name for item in fields(base)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in names:
            where = f"{section}." if section else ""
            kind = "option" if section else "section"
            raise UnknownNameError(kind, f"{where}{key}", [f"{where}{name}" for name in names])
        name = names[key]
        if is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise UsageError(f"[{key}] is a section of options, got {value!r}")
            changes[name] = merged(getattr(base, name), value, name)
        else:
            changes[name] = value
    return replace(base, **changes)  # type: ignore[type-var]


def to_mapping(options: Any, *, only_differences: bool = False) -> dict[str, Any]:
    """Nested plain values, as TOML and JSON can hold them; options that are None are left out."""
    result: dict[str, Any] = {}
    for item in fields(options):
        value = getattr(options, item.name)
        if is_dataclass(value):
            nested = to_mapping(value, only_differences=only_differences)
            if nested:
                result[item.name.rstrip("_")] = nested
        elif value is not None and not (only_differences and value == item.default):
            result[item.name.rstrip("_")] = list(value) if isinstance(value, tuple) else value
    return result


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in get_args(hint) if part is not type(None)]
        return rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007 - built at run time
    return hint


def _converted(value: Any, hint: Any, key: str) -> Any:
    """`value` as the declared type: an int serves as float, a list as tuple; everything else must match."""
    origin = get_origin(hint)
    if origin is Literal:
        return value
    if origin in (Union, types.UnionType):
        for part in get_args(hint):
            try:
                return _converted(value, part, key)
            except UsageError:
                continue
        raise UsageError(f"{key} = {value!r}: expected {_readable(hint)}")
    if origin is tuple:
        parts = get_args(hint)
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{key} = {value!r}: expected a list of {_readable(parts[0])}")
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        if len(kinds) != len(value):
            raise UsageError(f"{key} = {list(value)!r}: expected {len(kinds)} values")
        return tuple(_converted(one, kind, key) for one, kind in zip(value, kinds, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UsageError(f"{key} = {value!r}: expected {_readable(hint)}")
    return value


def _check_bounds(value: Any, metadata: Mapping[str, Any], key: str) -> None:
    choices = metadata["choices"]
    for word in value if isinstance(value, tuple) else (value,):
        if choices and isinstance(word, str) and word not in choices:
            near = nearest(word, choices)
            hint = f"did you mean {near[0]}? " if near and isinstance(value, tuple) else ""
            raise UnknownNameError(f"value of {key}", word, choices, f"{hint}choose one of {', '.join(choices)}")
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, (int, float)) or isinstance(number, bool):
            continue
        if metadata["at_least"] is not None and not number >= metadata["at_least"]:
            raise UsageError(f"{key} = {number}: must be at least {metadata['at_least']}")
        if metadata["at_most"] is not None and not number <= metadata["at_most"]:
            raise UsageError(f"{key} = {number}: must be at most {metadata['at_most']}")
        if metadata["above"] is not None and not number > metadata["above"]:
            raise UsageError(f"{key} = {number}: must be above {metadata['above']}")


def _readable(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_readable(part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        return "a list"
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(hint, str(hint))
