"""Values from study files held against type hints: what came must be what is meant, or the error says so."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from nas.settings import SettingsError

_WORDS: Mapping[Any, str] = {
    type(None): '"none"',
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Mapping: "a table",
    Sequence: "a list",
    tuple: "a list",
}


def typed(name: str, value: Any, hint: Any) -> Any:
    """`value` as the type that `hint` says; "none" is None where None is allowed.

    Args:
        name: of the setting, for the error.
        hint: bool, int, float, str, None, Literal, Mapping and Sequence of these, and unions; a value for
            any other hint is given back as it is.

    Raises:
        SettingsError: the value is of another type.

    Example:
        >>> typed("run.timeout_s", "none", float | None) is None
        True
        >>> typed("space.widths", [8, 16], Sequence[int])
        [8, 16]
    """
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if type(None) in options and value in (None, "none"):
        return None
    for option in options:
        kind = get_origin(option) or option
        if kind is Literal and value in get_args(option):
            return value
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if kind in (bool, int, str) and type(value) is kind:
            return value
        if kind is Mapping and isinstance(value, Mapping):
            return {key: typed(f"{name}.{key}", entry, get_args(option)[1]) for key, entry in value.items()}
        if kind in (Sequence, tuple) and isinstance(value, list | tuple):
            return [typed(f"{name}[{i}]", entry, get_args(option)[0]) for i, entry in enumerate(value)]
        if kind not in _WORDS and kind is not Literal:
            return value
    allowed = " or ".join(
        ", ".join(map(repr, get_args(option)))
        if get_origin(option) is Literal
        else _WORDS[get_origin(option) or option]
        for option in options
    )
    one_of = "one of " if any(get_origin(option) is Literal for option in options) else ""
    raise SettingsError(f"`{name}` must be {one_of}{allowed}, but got {value!r}")
