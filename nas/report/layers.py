"""A graph in layers, and the order in each layer (Sugiyama et al. 1981).

A node's layer is its longest way from an input. Lines that pass a layer hold a place in it, so that they run
through no box, and the lines from one node share it, since they carry one tensor. The order comes from sweeps
of barycentres and from exchanges of neighbours; the one with the fewest crossings is kept.
"""

from __future__ import annotations

import math
from bisect import bisect, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product

SWEEPS = 12

Inputs = Sequence[Sequence[int]]
"""For each node, in topological order, the indices of the nodes that it reads."""


@dataclass
class Slots:
    """What has a place in a layer: the nodes by their index, then points that lines run through.

    Attributes:
        nodes: how many are nodes.
        layer: of each slot.
        above: the slots in the layer above that each one reads, one for each input.
        below: (slot in the layer below, which of its inputs).
        spine: the nodes of the longest way to the output; no two of them are in one layer.
        rows: the slots of each layer from left to right.
    """

    nodes: int
    layer: list[int]
    above: list[list[int]]
    below: list[list[tuple[int, int]]] = field(default_factory=list)
    spine: frozenset[int] = frozenset()
    rows: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, inputs: Inputs, ordered: Sequence[bool]) -> Slots:
        """The slots of a graph, in order.

        Args:
            ordered: whether the order of a node's inputs means something, and is kept.
        """
        depths = _depths(inputs)
        layer = _lowered(depths, inputs)
        slots = cls(len(inputs), layer, [[] for _ in inputs], spine=_spine(depths, inputs))
        passing: dict[tuple[int, int], int] = {}  # (node, layer) -> the slot that its lines run through there
        for node, sources in enumerate(inputs):
            for source in sources:
                last = source
                for between in range(layer[source] + 1, layer[node]):
                    slot = passing.setdefault((source, between), len(layer))
                    if slot == len(layer):
                        layer.append(between)
                        slots.above.append([last])
                    last = slot
                slots.above[node].append(last)
        slots.rows = [[] for _ in range(max(layer) + 1)]
        for slot, row in enumerate(layer):
            slots.rows[row].append(slot)
        slots._order(ordered)
        return slots

    def targets(self) -> list[tuple[int, ...]]:
        """The nodes that a line through each slot leads to; of a node, itself."""
        found: list[tuple[int, ...]] = [(node,) for node in range(self.nodes)]
        found += [()] * (len(self.layer) - self.nodes)
        for row in reversed(self.rows):
            for slot in row:
                if slot >= self.nodes:
                    below = [node for reader, _ in self.below[slot] for node in found[reader]]
                    found[slot] = tuple(dict.fromkeys(below))
        return found

    # --- the order in a layer ------------------------------------------------------------------------

    def _order(self, ordered: Sequence[bool]) -> None:
        """Sweeps from two starts, lines to the right of the boxes and to their left."""
        first, best, fewest = self.rows, self.rows, math.inf
        for start in (first, [row[::-1] for row in first]):
            self.rows = [list(row) for row in start]
            self._join(ordered)
            for sweep in range(SWEEPS):
                down = sweep % 2 == 0
                for layer in range(1, len(first)) if down else range(len(first) - 2, -1, -1):
                    self._sort(layer, down)
                self._join(ordered)
                for layer in range(len(first)):
                    self._exchange(layer)
                self._join(ordered)
                crossings = sum(self._crossings(upper, lower) for upper, lower in pairwise(self.rows))
                if crossings < fewest:
                    best, fewest = [list(row) for row in self.rows], crossings
        self.rows = best
        self._join(ordered)

    def _join(self, ordered: Sequence[bool]) -> None:
        """Finds `below`; inputs whose order means nothing are put in the order of where they come from."""
        place = {slot: index for row in self.rows for index, slot in enumerate(row)}
        self.below = [[] for _ in self.layer]
        for slot, sources in enumerate(self.above):
            if slot < self.nodes and not ordered[slot]:
                sources.sort(key=place.__getitem__)
            for port, source in enumerate(sources):
                self.below[source].append((slot, port))

    def _sort(self, layer: int, down: bool) -> None:
        """Sorts a row by the mean place of what it reads, or of what reads it, in the row next to it."""
        row, beside = self.rows[layer], self.rows[layer - 1 if down else layer + 1]
        place = {slot: index + 0.5 - len(beside) / 2 for index, slot in enumerate(beside)}
        means: dict[int, float] = {}
        for index, slot in enumerate(row):
            if down:
                places = [place[source] for source in self.above[slot]]
            else:
                places = [place[reader] + self._share(reader, port) for reader, port in self.below[slot]]
            means[slot] = sum(places) / len(places) if places else index + 0.5 - len(row) / 2
        row.sort(key=means.__getitem__)

    def _exchange(self, layer: int) -> None:
        """Exchanges neighbours in a row where their lines then cross less."""
        beside = [*self.rows[max(layer - 1, 0) : layer], *(self.rows[layer + 1 : layer + 2])]
        place = {slot: index for row in beside for index, slot in enumerate(row)}
        above = {slot: [place[source] for source in self.above[slot]] for slot in self.rows[layer]}
        below = {
            slot: [place[reader] + self._share(reader, port) for reader, port in self.below[slot]]
            for slot in self.rows[layer]
        }
        row = self.rows[layer]
        for index in range(len(row) - 1):
            left, right = row[index], row[index + 1]
            gain = sum(
                (a > b) - (a < b) for ends in (above, below) for a, b in product(ends[left], ends[right])
            )
            if gain > 0:
                row[index], row[index + 1] = right, left

    def _share(self, slot: int, port: int) -> float:
        """Where an input arrives, as a part of a place: between -0.5 and 0.5."""
        return (port + 0.5) / len(self.above[slot]) - 0.5

    def _crossings(self, upper: list[int], lower: list[int]) -> int:
        """Pairs of lines between two layers that cross."""
        place = {slot: index for index, slot in enumerate(lower)}
        ends: list[float] = []
        crossings = 0
        for slot in upper:
            arrivals = [place[reader] + self._share(reader, port) for reader, port in self.below[slot]]
            crossings += sum(len(ends) - bisect(ends, arrival) for arrival in arrivals)
            for arrival in arrivals:
                insort(ends, arrival)
        return crossings


def _depths(inputs: Inputs) -> list[int]:
    """The longest way of each node from one without inputs."""
    depths: list[int] = []
    for sources in inputs:
        depths.append(max((depths[source] + 1 for source in sources), default=0))
    return depths


def _lowered(depths: Sequence[int], inputs: Inputs) -> list[int]:
    """Layers in which a node stands right above its first reader, unless lines would get longer."""
    layer = list(depths)
    readers: list[set[int]] = [set() for _ in inputs]
    for node, sources in enumerate(inputs):
        for source in sources:
            readers[source].add(node)
    for node in reversed(range(len(inputs))):
        if 0 < len(set(inputs[node])) <= len(readers[node]):
            layer[node] = min(layer[reader] for reader in readers[node]) - 1
    return layer


def _spine(depths: Sequence[int], inputs: Inputs) -> frozenset[int]:
    """A longest way to the last node; none of its nodes can be lowered."""
    node, spine = len(inputs) - 1, {len(inputs) - 1}
    while inputs[node]:
        node = next(source for source in inputs[node] if depths[source] == depths[node] - 1)
        spine.add(node)
    return frozenset(spine)
