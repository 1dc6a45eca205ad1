"""Names to classes: a short name from an entry point, or "module:Class". A third party's equals ours."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Literal

from nas.settings import SettingsError
from nas.typed import typed

Kind = Literal["space", "objective", "searcher"]
GROUPS: Mapping[Kind, str] = {
    "space": "paretonas.spaces",
    "objective": "paretonas.objectives",
    "searcher": "paretonas.searchers",
}


NEEDED: Mapping[Kind, tuple[str, ...]] = {
    "space": ("name", "sample", "mutate", "crossover", "check", "canonical", "build", "encode", "cost"),
    "objective": ("name", "limit", "exact", "measure", "loss", "violation"),
    "searcher": ("init", "ask", "proposed", "told"),
}
"""What a component must have to be used as one, see `nas.protocols`."""


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
            f"the {kind} must be one of {', '.join(known)} or 'module:Class', but got {name!r}{hint}"
        )
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's own module raises
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
    check_options(kind, name, options)
    try:
        made = factory(**options)
    except (TypeError, ValueError) as error:
        raise UnknownName(f"{kind} {name!r}: {error}") from error
    missing = [needed for needed in NEEDED[kind] if not hasattr(made, needed)]
    if missing:
        raise UnknownName(
            f"{kind} {name!r} must have {', '.join(NEEDED[kind])}, but {type(made).__name__} lacks "
            f"{', '.join(missing)}"
        )
    return made


def check_options(kind: Kind, name: str, options: Mapping[str, Any]) -> None:
    """Raises `UnknownName` if a component is not there, or does not take one of `options` or its type."""
    factory = load(kind, name)
    try:
        parameters = inspect.signature(factory, eval_str=True).parameters.values()
    except (TypeError, ValueError, NameError):  # not every callable has a signature that can be read
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownName(
                f"{kind} {name!r} has no option {option!r}, it must be one of {', '.join(known)}{hint}"
            )
    hints = {p.name: p.annotation for p in parameters if p.annotation is not p.empty}
    for option, value in options.items():
        if option in hints:
            try:
                typed(option, value, hints[option])
            except SettingsError as error:
                raise UnknownName(f"{kind} {name!r}: {error}") from error
