"""One operation of torch as the rules see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor

from striate.anatomy.fields import Field


@dataclass(frozen=True)
class Call:
    """One operation: its arguments by the names of its schema, its output, and where to find fields."""

    name: str  # "convolution", without overload
    arguments: dict[str, Any]
    out: Any
    field_of: Callable[[Any], Field | None]

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    @property
    def first(self) -> Tensor:
        """The first output."""
        return self.out[0] if isinstance(self.out, tuple | list) else self.out

    @property
    def field(self) -> Field:
        """That of the first argument; the others must not depend on the image."""
        (name, value), *others = self.arguments.items()
        field = self.field_of(value)
        if field is None or any(self.field_of(other) is not None for _, other in others):
            raise NoRuleError(f"{self.name} of {name}")
        return field

    def operands(self) -> list[Field]:
        """The fields of all tensors that depend on the image."""
        values = [
            one for value in self.arguments.values() for one in (value if isinstance(value, list | tuple) else [value])
        ]
        return [field for field in map(self.field_of, values) if field is not None]


class NoRuleError(Exception):
    """No rule says what the units of this operation see."""


def arguments_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a call by name, defaults included."""
    names, defaults = _signature(func)
    return {**defaults, **dict(zip(names, args, strict=False)), **kwargs}


@cache
def _signature(func: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    arguments = func._schema.arguments
    return tuple(one.name for one in arguments), {
        one.name: one.default_value if one.has_default_value() else None for one in arguments
    }


def each(value: Any, count: int) -> list[int]:
    """A setting for each of `count` dimensions: one number stands for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def dimensions_of(name: str) -> int:
    """2 for avg_pool2d."""
    return int(next(letter for letter in name if letter.isdigit()))
