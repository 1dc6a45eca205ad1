"""Canonical labelling: graphs that differ in node ids and listing order only get one certificate.

A certificate is the list of nodes in a canonical order. The order comes from colours: first the expression
below each node; where two nodes share an expression (two separate convolutions of one input, say), colours
are refined by who reads them, twins are told apart in any order, and what is still tied is broken by trying
each tied node and keeping the smallest certificate (individualisation and refinement, McKay 1981).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.architecture import Graph

COMMUTATIVE = "add"
"""The one op whose inputs have no order. Every other op reads its inputs in order."""

Certificate = tuple[tuple[str, tuple[int, ...]], ...]


def certificate(graph: Graph) -> Certificate:
    """The graph in canonical order: pairs (label, input positions). Equal exactly for isomorphic graphs.

    Isomorphic means: a bijection of nodes that keeps ops, params, the output and the order of the
    inputs (for "add": their multiset). Dead nodes count; two equal nodes are not one shared node.
    """
    labels = [node.label for node in graph.nodes]
    if all(node.inputs == (before.id,) for before, node in pairwise(graph.nodes)):
        return (("chain", ()), *((label, ()) for label in labels))  # no order but its own
    tables = _Tables.of(graph, labels)
    expressions: list[bytes] = []
    for label, inputs, commutative in zip(tables.labels, tables.inputs, tables.commutative, strict=True):
        below = [expressions[source] for source in inputs]
        if commutative:
            below.sort()
        text = label.encode() + b"|" + b"".join(below)
        expressions.append(blake2b(text, digest_size=12).digest())
    last = len(expressions) - 1
    colours = _ranked([(expression, index == last) for index, expression in enumerate(expressions)])
    if len(set(colours)) < len(colours):
        colours = _refined(tables, colours)
        if len(set(colours)) < len(colours):
            return _smallest(tables, tables.twins_apart(colours))
    return tables.certificate(colours)


@dataclass(frozen=True)
class _Tables:
    """A graph by position instead of id."""

    labels: Sequence[str]
    inputs: Sequence[tuple[int, ...]]
    commutative: Sequence[bool]

    @classmethod
    def of(cls, graph: Graph, labels: Sequence[str]) -> _Tables:
        index = {node.id: position for position, node in enumerate(graph.nodes)}
        inputs = [tuple([index[source] for source in node.inputs]) for node in graph.nodes]
        return cls(labels, inputs, [node.op == COMMUTATIVE for node in graph.nodes])

    @cached_property
    def readers(self) -> list[tuple[tuple[int, int], ...]]:
        """For each node who reads it: (reader, position of the input or 0 for add). Ties only need them."""
        readers: list[list[tuple[int, int]]] = [[] for _ in self.labels]
        for position, below in enumerate(self.inputs):
            for slot, source in enumerate(below):
                readers[source].append((position, 0 if self.commutative[position] else slot))
        return [tuple(found) for found in readers]

    def twins_apart(self, colours: list[int]) -> list[int]:
        """`colours`, refined after nodes of equal colour, inputs and readers got colours of their own.

        Swapping two such twins changes nothing, so every order of them gives the same certificate.
        """
        seen: Counter[Any] = Counter()
        signatures = []
        for position, colour in enumerate(colours):
            below = self.inputs[position]
            twins = (
                colour,
                tuple(sorted(below)) if self.commutative[position] else below,
                self.readers[position],
            )
            signatures.append((colour, seen[twins]))
            seen[twins] += 1
        return _refined(self, _ranked(signatures)) if len(seen) < len(colours) else colours

    def certificate(self, colours: list[int]) -> Certificate:
        """The nodes in the order of their colours, which must all differ."""
        rows: list[tuple[str, tuple[int, ...]]] = [("", ())] * len(colours)
        for position, colour in enumerate(colours):
            below = [colours[source] for source in self.inputs[position]]
            if self.commutative[position]:
                below.sort()
            rows[colour] = (self.labels[position], tuple(below))
        return (*rows, ("output", (colours[-1],)))


def _ranked(signatures: list[Any]) -> list[int]:
    """Each signature's place among the sorted distinct ones, counted so that ties share a place."""
    order = {signature: rank for rank, signature in enumerate(sorted(set(signatures)))}
    return [order[signature] for signature in signatures]


def _refined(tables: _Tables, colours: list[int]) -> list[int]:
    """The coarsest stable colouring below `colours`; a colour that one node has alone is not looked at."""
    shared = Counter(colours)
    while len(shared) < len(colours):
        signatures: list[tuple[Any, ...]] = []
        for position, colour in enumerate(colours):
            if shared[colour] == 1:
                signatures.append((colour,))
                continue
            below = [colours[source] for source in tables.inputs[position]]
            if tables.commutative[position]:
                below.sort()
            above = sorted([(colours[reader], slot) for reader, slot in tables.readers[position]])
            signatures.append((colour, tuple(below), tuple(above)))
        before = len(shared)
        colours = _ranked(signatures)
        shared = Counter(colours)
        if len(shared) == before:
            break
    return colours


def _tied(colours: list[int]) -> list[int]:
    """Positions that share the first colour that is not alone; empty when all differ."""
    shared = [colour for colour, count in Counter(colours).items() if count > 1]
    first = min(shared, default=None)
    return [position for position, other in enumerate(colours) if other == first]


def _apart(tables: _Tables, colours: list[int], position: int) -> list[int]:
    """`colours` refined after `position` was given a colour of its own."""
    return _refined(tables, _ranked([(c, i != position) for i, c in enumerate(colours)]))


def _smallest(tables: _Tables, colours: list[int]) -> Certificate:
    """The smallest certificate over all ways to break the ties of a stable colouring.

    A tied node whose first full descent gives a certificate already seen at this level is the image
    of an earlier one under an automorphism, so its subtree holds nothing new and is not walked.
    """
    cell = _tied(colours)
    if not cell:
        return tables.certificate(colours)
    found: list[Certificate] = []
    descents: set[Certificate] = set()
    for position in cell:
        chosen = _apart(tables, colours, position)
        descent = chosen
        while tied := _tied(descent):
            descent = _apart(tables, descent, tied[0])
        leaf = tables.certificate(descent)
        if leaf in descents:
            continue
        descents.add(leaf)
        found.append(_smallest(tables, chosen))
    return min(found)
