"""A plan: operations placed one after the other, cells within it. It is what is costed, and what is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from nas.protocols import Cost
from search_spaces.fragments import FLOAT32_BYTES, IN_PLACE, Fragment, Layer, Shape, elements


class Placed(NamedTuple):
    """A part at its place in the network, or in a cell.

    Attributes:
        name: dotted prefix of its modules, e.g. "net" or "normal.3" for a graph, "n5" for a node.
        part: the layers of an operation, or a cell.
        inputs: indices of earlier places; -1 - i is the i-th input of the network (i = 0) or cell.
    """

    name: str
    part: Part
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A graph at given input shapes: a plan within a plan.

    Attributes:
        inputs: shapes of its inputs, each of which is read.
        places: its operations, in order.
        output: the place of its output; one that is no input.
        peaks: memoises `peak`.
    """

    inputs: tuple[Shape, ...]
    places: tuple[Placed, ...]
    output: int
    params: int = field(init=False)
    macs: int = field(init=False)
    shape: Shape = field(init=False)
    size: int = field(init=False)
    peaks: dict[Any, int] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", sum([part.params for _, part, _ in self.places]))
        object.__setattr__(self, "macs", sum([part.macs for _, part, _ in self.places]))
        shape = self.places[self.output].part.shape if self.output >= 0 else self.inputs[-1 - self.output]
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "size", elements(shape))


Part = Fragment | Cell
Plan = Sequence[Placed]


def plan_cost(input_shape: Shape, plan: Plan) -> Cost:
    """Params, MACs and peak activation memory of a plan, run in its order (float32, batch 1)."""
    whole = Cell((input_shape,), tuple(plan), len(plan) - 1)
    return Cost(whole.params, whole.macs, peak(whole, (0,), (False,)) * FLOAT32_BYTES)


def flattened(plan: Plan) -> list[Layer]:
    """All primitive layers in the order they run, cells and operations taken apart.

    Names are the full ones of their modules; inputs are indices in this list, -1 is the network's input.
    """
    flat: list[Layer] = []

    def lay(places: Plan, prefix: str, sources: Sequence[int]) -> list[int]:
        """Appends `places`; gives for each of them the index in `flat` of what it puts out."""
        ends: list[int] = []
        for placed in places:
            feeds = tuple(ends[i] if i >= 0 else sources[-1 - i] for i in placed.inputs)
            part, name = placed.part, prefix + placed.name
            if isinstance(part, Cell):
                inner = lay(part.places, f"{name}.", feeds)
                ends.append(inner[part.output] if part.output >= 0 else feeds[-1 - part.output])
            else:
                start = len(flat)
                for layer in part.layers:
                    inputs = tuple(feeds[-1 - i] if i < 0 else start + i for i in layer.inputs)
                    flat.append(replace(layer, name=f"{name}.{layer.name}", inputs=inputs))
                ends.append(len(flat) - 1)
        return ends

    lay(plan, "", (-1,))
    return flat


# --- memory ------------------------------------------------------------------------------------------


def peak(part: Part, groups: tuple[int, ...], kept: tuple[bool, ...]) -> int:
    """Most elements alive while the part runs, its inputs included, each until it is read last.

    Args:
        part: what runs.
        groups: for each input the first input that is the same tensor: add(x, x) holds x once.
        kept: which inputs somebody reads afterwards.
    """
    key = (groups, kept)
    found = part.peaks.get(key)
    if found is None:
        measure = _cell_peak if isinstance(part, Cell) else _fragment_peak
        found = part.peaks[key] = measure(part, groups, kept)  # type: ignore[arg-type]
    return found


def _cell_peak(cell: Cell, groups: tuple[int, ...], kept: tuple[bool, ...]) -> int:
    count, end = len(groups), len(cell.places)
    tensors: list[list[int]] = []  # of each place, what it reads: inputs first, then places
    last_read: dict[int, int] = {}
    for index, (_, _, inputs) in enumerate(cell.places):
        reads = [count + i if i >= 0 else groups[-1 - i] for i in inputs]
        tensors.append(reads)
        for tensor in reads:
            last_read[tensor] = index
    for i, keep in enumerate(kept):
        if keep:
            last_read[groups[i]] = end
    last_read[groups[-1 - cell.output] if cell.output < 0 else count + cell.output] = end

    sizes = {group: elements(cell.inputs[group]) for group in groups}
    alive = total = sum(sizes.values())  # elements alive between two places
    for index, (_, part, _) in enumerate(cell.places):
        reads = tensors[index]
        if len(reads) == 1:  # nearly always
            (tensor,) = reads
            keep = last_read[tensor] > index
            rest = alive - sizes[tensor]
            most = rest + peak(part, (0,), (keep,))
            if not keep:
                alive = rest
        else:
            first = tuple(map(reads.index, reads))
            keeps = tuple([last_read[tensor] > index for tensor in reads])
            read = set(reads)
            most = alive - sum([sizes[tensor] for tensor in read]) + peak(part, first, keeps)
            alive -= sum([sizes[tensor] for tensor in read if last_read[tensor] == index])
        total = max(total, most)
        sizes[count + index] = part.size
        if count + index in last_read:
            alive += part.size
    return total


def _fragment_peak(fragment: Fragment, groups: tuple[int, ...], kept: tuple[bool, ...]) -> int:
    layers = fragment.layers
    read: dict[int, int] = {}  # tensor -> the layer that reads it last
    for index, layer in enumerate(layers):
        read.update(dict.fromkeys(layer.inputs, index))
    for i, keep in enumerate(kept):
        if keep or not layers:
            read[-1 - i] = len(layers)
    read[len(layers) - 1] = len(layers)

    home: dict[int, int] = {-1 - i: -1 - group for i, group in enumerate(groups)}  # tensor -> whose memory
    sizes = {-1 - group: elements(fragment.inputs[group]) for group in groups}
    needed: dict[int, int] = {}  # memory -> the layer that needs it last
    for tensor, memory in home.items():
        needed[memory] = max(needed.get(memory, -1), read.get(tensor, -1))
    for index, layer in enumerate(layers):
        source = home[layer.inputs[0]]
        home[index] = source if layer.kind in IN_PLACE and needed[source] == index else index
        sizes.setdefault(home[index], elements(layer.shape))
        needed[home[index]] = read.get(index, index)

    alive = {home[-1 - group] for group in groups}
    most = sum(sizes[memory] for memory in alive)
    for index in range(len(layers)):
        alive.add(home[index])
        most = max(most, sum(sizes[memory] for memory in alive))
        alive = {memory for memory in alive if needed[memory] > index}
    return most
