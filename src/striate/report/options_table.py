"""The options of a run beside their defaults."""

from __future__ import annotations

from typing import Any

from striate.options import TrainOptions, options_of

Flat = dict[str, Any]


def option_groups(values: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Options in three groups: set differently from the default, decided for these data, and left as they were."""
    if not values:
        return []
    changed, decided, rest = [], [], []
    declared = {option.key: option for option in options_of(TrainOptions)}
    flat = flattened(values)
    for key in [*declared, *(key for key in flat if key not in declared)]:
        option = declared.get(key)
        value, default = flat.get(key), option.default if option else None
        default = list(default) if isinstance(default, tuple) else default
        row = {
            "key": key,
            "value": written(value if key in flat else default),
            "default": written(default),
            "help": option.help if option else "",
        }
        if option is None or (key in flat and default is not None and value != default):
            changed.append(row)
        elif default is None and key in flat:
            decided.append(row)
        else:
            rest.append(row)
    groups = [
        ("Different from the default", changed, True, True),
        ("Given, or decided for these data and this network", decided, True, False),
        ("Left at the default", rest, False, False),
    ]
    return [
        {"title": title, "rows": rows, "open": shown, "defaults": defaults}
        for title, rows, shown, defaults in groups
        if rows
    ]


def flattened(values: dict[str, dict[str, Any]]) -> Flat:
    """{"schedule": {"epochs": 3}} as {"schedule.epochs": 3}."""
    return {f"{section}.{name}": value for section, table in values.items() for name, value in table.items()}


def written(value: Any) -> str:
    """A value as a recipe or a flag would give it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(written(one) for one in value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
