"""Templates of networks as users write them, unrolled into steps: every copy of what is repeated is there.

name = "stem"                       unique beside its neighbours; may be left out
op = "conv"                         a fixed value, or
kernel = { choice = [3, 5] }        one of these, or
width = "$width"                    the value of `width` in the choices, the same wherever it is named
inputs = ["stem", "input"]          earlier nodes; the node before where nothing is said
repeat = { choice = [1, 2, 3] }     copies, one behind the other
first = { stride = 2 }              what the first copy has instead
optional = true                     there, or left out: then its first input is passed on
nodes = [ … ]                       instead of `op`: a group, whose "input" is what the group reads
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from itertools import pairwise
from typing import Any

from nas.architecture import Scalar
from search_spaces.genes import Gene
from search_spaces.operations import Operation

INPUT_NAME = "input"
DEFAULTS: Mapping[str, Scalar] = {"stride": 1}
"""Parameters that need not be given."""

_KEYS = ("name", "op", "inputs", "repeat", "first", "optional")
_GROUP_KEYS = ("name", "nodes", "inputs", "repeat", "optional")


@dataclass(frozen=True, slots=True)
class Free:
    """A setting left open: the number of the gene that says it."""

    gene: int


Setting = Scalar | Free


@dataclass(frozen=True, slots=True)
class Leaf:
    """A node.

    Attributes:
        name: as in the template, groups and copies before it: "stage.2.block".
        place: unique among the steps that write nodes; the natural id. 0 is the input.
        params: of each op that it may have, by name.
        inputs: which of the wirings it has.
        wirings: places that it reads.
        uses: the genes that say something about it, by op.
    """

    name: str
    place: int
    op: Setting
    params: Mapping[str, tuple[tuple[str, Setting], ...]]
    inputs: Setting
    wirings: Mapping[Scalar, tuple[int, ...]]
    uses: Mapping[Scalar, frozenset[int]] = field(init=False)

    def __post_init__(self) -> None:
        uses = {
            op: frozenset(
                [s.gene for s in (self.op, self.inputs, *dict(row).values()) if isinstance(s, Free)]
            )
            for op, row in self.params.items()
        }
        object.__setattr__(self, "uses", uses)


@dataclass(frozen=True, slots=True)
class Open:
    """What follows, up to its `Close`, is there where the gene is `least` or more.

    Attributes:
        place: stands for the last node of what follows, or for the node that is written in its stead.
        source: the place that is passed on if nothing is there.
        end: the number of the step behind.
    """

    name: str
    place: int
    gene: int
    least: int
    source: int
    end: int


@dataclass(frozen=True, slots=True)
class Close:
    """The end of what `Open` with this place begins; `last` is the place of its output."""

    place: int
    last: int


Step = Leaf | Open | Close


def unrolled(
    nodes: Sequence[Mapping[str, Any]],
    choices: Mapping[str, Sequence[Scalar]],
    operations: Mapping[str, Operation],
) -> tuple[tuple[Step, ...], tuple[Gene, ...]]:
    """The steps and the genes of a template.

    Args:
        nodes: tables as above, in order.
        choices: values of what "$name" stands for.
        operations: the ops that nodes may have.

    Raises:
        ValueError: a table breaks a rule; the message names the node and the rule.
    """
    unroller = _Unroller(choices, operations)
    unroller.body(nodes, "", 0, None)
    unused = [name for name in choices if name not in unroller.used]
    if unused:
        raise ValueError(f"choices: each must be named by a node, but ${unused[0]} is not")
    return tuple(unroller.steps), tuple(unroller.genes)


@dataclass(frozen=True, slots=True)
class _Wiring:
    inputs: Setting
    wirings: Mapping[Scalar, tuple[int, ...]]


LARGEST = 2000
"""Most nodes of a template, all copies counted."""


class _Unroller:
    def __init__(self, choices: Mapping[str, Sequence[Scalar]], operations: Mapping[str, Operation]) -> None:
        if not isinstance(choices, Mapping):
            raise ValueError(f"choices must be a table of lists, but got {choices!r}")
        self.choices = {name: _values(f"choices: {name}", values) for name, values in choices.items()}
        self.operations = operations
        self.steps: list[Step] = []
        self.genes: list[Gene] = []
        self.used: dict[str, Setting] = {}
        self.places = 0

    # --- tables ------------------------------------------------------------------------------------

    def body(self, entries: Any, path: str, source: int, copy: int | None) -> int:
        """Unrolls tables, one after the other; gives the place of the last.

        Args:
            path: name of the group, "" for the template itself.
            source: the place that "input" stands for.
            copy: number of the copy of the innermost repeat around it.
        """
        if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
            raise ValueError(f"{_where(path)}nodes must be one or more tables, but got {entries!r}")
        names = [_name(entry, path, number) for number, entry in enumerate(entries, start=1)]
        places = {INPUT_NAME: source}
        before = INPUT_NAME
        for number, (name, entry) in enumerate(zip(names, entries, strict=True)):
            full = f"{path}.{name}" if path else name
            if name in places:
                raise ValueError(f"{_where(full)}names must differ, but {name!r} is there already")
            wiring = self.wiring(entry.get("inputs", before), full, places, names[number:])
            places[name] = self.entry(entry, full, wiring, copy)
            before = name
        return places[before]

    def entry(self, entry: Mapping[str, Any], path: str, wiring: _Wiring, copy: int | None) -> int:
        """All copies of a node or group, each reading the one before; what may not be there is gated."""
        if "nodes" in entry:
            if "op" in entry:
                raise ValueError(f"{_where(path)}it must have `op` or `nodes`, but got both")
            _known(entry, _GROUP_KEYS, f"{_where(path)}a group")
            if any(len(places) > 1 for places in wiring.wirings.values()) or isinstance(wiring.inputs, Free):
                raise ValueError(f"{_where(path)}a group must have one fixed input: put a node before it")
        elif "op" not in entry:
            raise ValueError(f"{_where(path)}it must have an `op`, or `nodes` if it is a group")
        counts, numbers = self.counts(entry, path)
        self.check_copies(numbers, path, wiring)
        many = numbers[-1] > 1

        def copies(end: int, start: int, stop: int) -> int:
            for number in range(start, stop):
                if self.places > LARGEST:
                    raise ValueError(
                        f"{_where(path)}a template must have at most {LARGEST} nodes, copies included"
                    )
                before = wiring if number == 1 else _Wiring("the copy before", {"the copy before": (end,)})
                name = f"{path}.{number}" if many else path
                end = self.copy(entry, name, before, number if many else copy)
            return end

        end = copies(next(iter(wiring.wirings.values()))[0], 1, numbers[0] + 1)
        for fewer, least in pairwise(numbers):
            if isinstance(counts, Free):  # as there is more than one number
                end = self.gate(path, counts.gene, least, end, partial(copies, end, fewer + 1, least + 1))
        return end

    def gate(self, path: str, gene: int, least: int, source: int, body: Callable[[], int]) -> int:
        """Unrolls what is there where the gene is `least` or more."""
        place, number = self.place(), len(self.steps)
        self.steps.append(Close(place, source))  # holds the place of `Open`, whose end is not known yet
        self.steps.append(Close(place, body()))
        self.steps[number] = Open(path, place, gene, least, source, len(self.steps))
        return place

    def copy(self, entry: Mapping[str, Any], path: str, wiring: _Wiring, copy: int | None) -> int:
        if "nodes" in entry:
            ((source,),) = wiring.wirings.values()
            return self.body(entry["nodes"], path, source, copy)
        return self.leaf(entry, path, wiring, copy)

    def leaf(self, entry: Mapping[str, Any], path: str, wiring: _Wiring, copy: int | None) -> int:
        given = {key: value for key, value in entry.items() if key not in _KEYS or key == "op"}
        if "first" in entry:
            given |= self.first(entry["first"], path, copy)
        op, ops = self.setting(path, "op", given.pop("op"))
        for name in ops:
            if name not in self.operations:
                raise ValueError(f"{_where(path)}op {_one_of(name, self.operations)}")
        table = {str(name): self.operations[str(name)] for name in ops}
        _known(given, sorted({p for o in table.values() for p in _params(o)}), f"{_where(path)}{_or(table)}")
        settings: dict[str, Setting] = {}
        for name, operation in table.items():
            for parameter in _params(operation):
                if parameter not in given and parameter not in DEFAULTS:
                    raise ValueError(f"{_where(path)}{name} must have `{parameter}`, but none is given")
                if parameter not in settings:
                    value = given.get(parameter, DEFAULTS.get(parameter))
                    settings[parameter], values = self.setting(path, parameter, value)
                else:
                    values = self.values(settings[parameter])
                for value in values:
                    _check_value(operation, value, f"{_where(path)}{parameter} of {name}", parameter)
        params = {
            name: tuple([(p, settings[p]) for p in _params(operation)]) for name, operation in table.items()
        }
        place = self.place()
        self.steps.append(Leaf(path, place, op, params, wiring.inputs, wiring.wirings))
        return place

    def first(self, given: Any, path: str, copy: int | None) -> Mapping[str, Any]:
        if not isinstance(given, Mapping) or set(given) & (set(_KEYS) - {"op"}):
            raise ValueError(f"{_where(path)}first must be a table of parameters, but got {given!r}")
        if copy is None:
            raise ValueError(f"{_where(path)}first needs a `repeat`, of the node or of a group around it")
        return given if copy == 1 else {}

    # --- how many copies ---------------------------------------------------------------------------

    def counts(self, entry: Mapping[str, Any], path: str) -> tuple[Setting, list[int]]:
        """How many copies there are, and the numbers that can be, smallest first."""
        optional = entry.get("optional", False)
        if type(optional) is not bool:
            raise ValueError(f"{_where(path)}optional must be true or false, but got {optional!r}")
        if optional and "repeat" in entry:
            raise ValueError(f"{_where(path)}it must be optional or repeated: a repeat may be 0, too")
        if optional:
            return self.gene(f"{path}.optional", (0, 1)), [0, 1]
        setting, values = self.setting(path, "repeat", entry.get("repeat", 1))
        numbers = [value for value in values if type(value) is int and value >= 0]
        if len(numbers) < len(values) or max(numbers) < 1:
            raise ValueError(
                f"{_where(path)}repeat must be whole numbers from 0, not only 0, but got {list(values)}"
            )
        return setting, sorted(numbers)

    def check_copies(self, numbers: Sequence[int], path: str, wiring: _Wiring) -> None:
        widest = max(map(len, wiring.wirings.values()))
        if numbers[-1] > 1 and widest > 1:
            raise ValueError(
                f"{_where(path)}what is repeated must have one input, but got {widest}: make it a group"
            )
        if numbers[0] == 0 and isinstance(wiring.inputs, Free):
            raise ValueError(
                f"{_where(path)}what may be left out must have fixed inputs: choose them in a node "
                '`op = "skip"` before it'
            )

    # --- settings ----------------------------------------------------------------------------------

    def setting(self, path: str, key: str, given: Any) -> tuple[Setting, tuple[Scalar, ...]]:
        """A value as it stands in the template, and all values that it can be."""
        if isinstance(given, str) and given.startswith("$"):
            return self.shared(path, key, given[1:])
        if isinstance(given, Mapping):
            values = _values(f"{_where(path)}{key}", _choice(given, path, key))
            return (values[0] if len(values) == 1 else self.gene(f"{path}.{key}", values)), values
        if isinstance(given, list | tuple):
            raise ValueError(
                f"{_where(path)}{key} must be one value or {{ choice = [...] }}, but got the list {given!r}"
            )
        return given, _values(f"{_where(path)}{key}", [given])

    def shared(self, path: str, key: str, name: str) -> tuple[Setting, tuple[Scalar, ...]]:
        if name not in self.choices:
            raise ValueError(f"{_where(path)}{key} = '${name}': {_one_of(name, self.choices)} of the choices")
        values = self.choices[name]
        if name not in self.used:
            self.used[name] = values[0] if len(values) == 1 else self.gene(f"${name}", values)
        return self.used[name], values

    def gene(self, name: str, values: tuple[Scalar, ...]) -> Free:
        self.genes.append(Gene(name, values))
        return Free(len(self.genes) - 1)

    def values(self, setting: Setting) -> tuple[Scalar, ...]:
        return self.genes[setting.gene].choices if isinstance(setting, Free) else (setting,)

    def wiring(self, given: Any, path: str, places: Mapping[str, int], later: Sequence[str]) -> _Wiring:
        """Which places a table's `inputs` can be."""
        options = _choice(given, path, "inputs") if isinstance(given, Mapping) else [given]
        wirings: dict[Scalar, tuple[int, ...]] = {}
        for option in options:
            names = [option] if isinstance(option, str) else option
            if (
                not isinstance(names, Sequence)
                or not names
                or not all(isinstance(name, str) for name in names)
            ):
                raise ValueError(
                    f"{_where(path)}inputs must be a name, a list of names or {{ choice = [...] }} of these, "
                    f"but got {given!r}"
                )
            for name in names:
                if name not in places:
                    self.refuse_input(name, path, places, later)
            wirings[", ".join(names)] = tuple([places[name] for name in names])
        if len(wirings) < len(options):
            raise ValueError(f"{_where(path)}inputs must be a choice of different ones, but got {options!r}")
        first = next(iter(wirings))
        return _Wiring(first if len(wirings) == 1 else self.gene(f"{path}.inputs", tuple(wirings)), wirings)

    def refuse_input(self, name: str, path: str, places: Mapping[str, int], later: Sequence[str]) -> None:
        if name in later:
            raise ValueError(
                f"{_where(path)}inputs must stand before it (so there are no cycles), but {name!r} does not"
            )
        raise ValueError(f"{_where(path)}inputs: {_one_of(name, places)}")

    def place(self) -> int:
        self.places += 1
        return self.places


# --- rules and messages ------------------------------------------------------------------------------


def _where(path: str) -> str:
    return f"node {path!r}: " if path else ""


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)


def _one_of(name: Any, known: Iterable[str]) -> str:
    """ "must be one of conv, sepconv, but got 'convv'; did you mean 'conv'?" """
    names = list(known)
    near = get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"must be one of {', '.join(names) or 'nothing'}, but got {name!r}{hint}"


def _params(operation: Operation) -> list[str]:
    return sorted((*operation.params, *operation.options))


def _known(given: Mapping[str, Any], known: Sequence[str], owner: str) -> None:
    for key in given:
        if key not in known:
            raise ValueError(f"{owner} has no `{key}`: a key {_one_of(key, known)}")


def _name(entry: Any, path: str, number: int) -> str:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{_where(path)}nodes must be tables, but number {number} is {entry!r}")
    name = entry.get("name", f"node{number}")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name) or name == INPUT_NAME:
        raise ValueError(
            f"{_where(path)}a name must be letters, digits, - and _, begin with a letter and not be "
            f"{INPUT_NAME!r}, but number {number} has {name!r}"
        )
    return name


def _choice(given: Mapping[str, Any], path: str, key: str) -> Sequence[Any]:
    found = given.get("choice")
    if set(given) != {"choice"} or not isinstance(found, list | tuple) or not found:
        raise ValueError(
            f"{_where(path)}{key}: a choice must be written {{ choice = [...] }} with one or more values, "
            f"but got {dict(given)!r}"
        )
    return found


def _values(owner: str, values: Any) -> tuple[Scalar, ...]:
    """What can be chosen: different plain values."""
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"{owner} must be a list of one or more values, but got {values!r}")
    for value in values:
        if type(value) not in (bool, int, float, str):
            raise ValueError(f"{owner} must be a number, a text or true or false, but got {value!r}")
    if len(set(values)) < len(values):
        raise ValueError(f"{owner} must be a choice of different values, but got {list(values)}")
    return tuple(values)


def _check_value(operation: Operation, value: Scalar, owner: str, parameter: str) -> None:
    options = operation.options.get(parameter)
    if options is None and (type(value) is not int or value < 1):
        raise ValueError(f"{owner} must be a positive whole number, but got {value!r}")
    if options is not None and not any(type(value) is type(o) and value == o for o in options):
        raise ValueError(f"{owner} {_one_of(value, map(str, options))}")
