"""Names to classes: a short name from an entry point, or "module:Class". A third party's equals ours."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Literal

Kind = Literal["space", "objective", "searcher"]
GROUPS: Mapping[Kind, str] = {
    "space": "paretonas.spaces",
    "objective": "paretonas.objectives",
    "searcher": "paretonas.searchers",
}


class UnknownName(ValueError):
    """A space, objective or searcher cannot be found or made; the message says which names there are."""


def names(kind: Kind) -> list[str]:
    """The short names that installed packages declare, sorted."""
    return sorted({point.name for point in entry_points(group=GROUPS[kind])})


def load(kind: Kind, name: str) -> Any:
    """The class or factory behind a name.

    Raises:
        UnknownName: no entry point has this name, or the module or its attribute does not exist.
    """
    if ":" not in name:
        for point in entry_points(group=GROUPS[kind]):
            if point.name == name:
                return point.load()
        known = names(kind)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownName(
            f"a {kind} must be one of {', '.join(known)} or 'module:Class', but got {name!r}{hint}"
        )
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UnknownName(
            f"{kind} {name!r}: module {module_name!r} must be importable (from the current folder or "
            f"installed), but {type(error).__name__}: {error}"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        near = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownName(f"{kind} {name!r}: module {module_name!r} has no {attribute!r}{hint}") from error


def make(kind: Kind, name: str, options: Mapping[str, Any]) -> Any:
    """The component itself: the class called with its options.

    Raises:
        UnknownName: it cannot be found, or does not take these options.
    """
    factory = load(kind, name)
    try:
        return factory(**options)
    except (TypeError, ValueError) as error:
        raise UnknownName(f"{kind} {name!r} with options {dict(options)}: {error}") from error
