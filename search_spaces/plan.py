"""A plan: fragments placed one after the other. It is what is costed, and what is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from nas.protocols import Cost
from search_spaces.fragments import FLOAT32_BYTES, IN_PLACE, Fragment, Shape, elements


@dataclass(frozen=True, slots=True)
class Placed:
    """A fragment at its place in the network.

    Attributes:
        name: dotted prefix of its modules, e.g. "net.n3": graph position and node id.
        inputs: indices of earlier places; -1 is the network's input.
    """

    name: str
    fragment: Fragment
    inputs: tuple[int, ...]


Plan = Sequence[Placed]


def plan_cost(input_shape: Shape, plan: Plan) -> Cost:
    """Params, MACs and peak activation memory of a plan, run in its order (float32, batch 1)."""
    last_read = [-1] * (len(plan) + 1)  # shifted by one: place -1, the input, is entry 0
    for index, placed in enumerate(plan):
        for source in placed.inputs:
            last_read[source + 1] = index
    last_read[len(plan)] = len(plan)  # the output stays
    shapes = [input_shape]
    alive: dict[int, int] = {0: elements(input_shape)}
    peak = alive[0]
    params = macs = 0
    for index, placed in enumerate(plan):
        fragment = placed.fragment
        params += fragment.params
        macs += fragment.macs
        slots = [source + 1 for source in placed.inputs]
        kept = tuple(last_read[slot] > index for slot in slots)
        outside = sum(alive.values()) - sum(alive[slot] for slot in set(slots))
        peak = max(peak, outside + _fragment_peak(fragment, _groups(slots), kept))
        shapes.append(fragment.shape)
        alive[index + 1] = elements(fragment.shape)
        for slot in {*slots, index + 1}:
            if last_read[slot] <= index:
                del alive[slot]
    return Cost(params, macs, peak * FLOAT32_BYTES)


def _groups(slots: Sequence[int]) -> tuple[int, ...]:
    """For each input the first input that is the same tensor: add(x, x) holds x once."""
    return tuple(slots.index(slot) for slot in slots)


@lru_cache(maxsize=65536)
def _fragment_peak(fragment: Fragment, groups: tuple[int, ...], kept: tuple[bool, ...]) -> int:
    """Most elements alive while the fragment runs, its inputs included, each until it is read last.

    Args:
        groups: see `_groups`.
        kept: which inputs somebody reads afterwards.
    """
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
    peak = sum(sizes[memory] for memory in alive)
    for index in range(len(layers)):
        alive.add(home[index])
        peak = max(peak, sum(sizes[memory] for memory in alive))
        alive = {memory for memory in alive if needed[memory] > index}
    return peak
