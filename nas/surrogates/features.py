"""What a Gaussian process sees of an architecture: blocks of numbers, derived for any space.

The written form by the space's own encoding; what the network costs, on a log scale; the shape of its graphs;
and how often each op stands in it, alone and with what is around it (Weisfeiler-Lehman labels, Shervashidze
et al. 2011, as in NAS-BOWL, Ru et al. 2021). All but the first are of the canonical network, so that
architectures written differently share what was learned about it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.surrogates.model import Floats

if TYPE_CHECKING:
    from nas.architecture import Architecture, Graph, Node
    from nas.protocols import SearchSpace

SIZES = ("params", "macs", "memory")
LABELS = ("ops", "wiring", "wiring2")
BLOCKS = ("written", *SIZES, "graph", *LABELS)
"""Encoding, log costs, shape of the graphs, labels after 0, 1 and 2 steps of Weisfeiler-Lehman."""

DEFAULT = BLOCKS[:-1]

Counts = Mapping[str, int]


def graph_shape(graph: Graph) -> list[float]:
    """Nodes, edges, longest and shortest path from an input to the output, log of the number of paths."""
    longest: dict[int, float] = {}
    shortest: dict[int, float] = {}
    paths: dict[int, float] = {}
    for node in graph.nodes:
        here, read = node.id, node.inputs
        longest[here] = 1 + max([longest[source] for source in read], default=0)
        shortest[here] = 1 + min([shortest[source] for source in read], default=0)
        paths[here] = sum([paths[source] for source in read]) if read else 1.0
    last = graph.nodes[-1].id
    edges = sum(len(node.inputs) for node in graph.nodes)
    return [float(len(graph.nodes)), float(edges), longest[last], shortest[last], math.log(paths[last])]


def wl_counts(arch: Architecture, steps: int) -> list[Counts]:
    """How often each label stands in the graphs after 0, 1 … `steps` steps.

    A label is at first the op with its params; a step makes it one of itself, of those it reads, and of those
    that read it, in any order.
    """
    found: list[Counter[str]] = [Counter() for _ in range(steps + 1)]
    for name, graph in arch.graphs:
        labels = {node.id: _label(name, node) for node in graph.nodes}
        readers: dict[int, list[int]] = {node.id: [] for node in graph.nodes}
        for node in graph.nodes:
            for source in node.inputs:
                readers[source].append(node.id)
        found[0].update(labels.values())
        for step in range(1, steps + 1):
            labels = {
                node.id: _hash(
                    labels[node.id],
                    tuple(sorted([labels[source] for source in node.inputs])),
                    tuple(sorted([labels[reader] for reader in readers[node.id]])),
                )
                for node in graph.nodes
            }
            found[step].update(labels.values())
    return list(found)


@lru_cache(8192)
def _label(graph: str, node: Node) -> str:
    return f"{graph}/{node.op}{node.params or ''}"


@lru_cache(8192)
def _hash(label: str, read: tuple[str, ...], readers: tuple[str, ...]) -> str:
    return blake2b("\n".join((label, "<", *read, ">", *readers)).encode(), digest_size=12).hexdigest()


def _log(size: int) -> float:
    return math.log1p(max(0, size))


class Features:
    """A table of architectures by row, grown as they are met; a row depends on its architecture only.

    Counts are whole numbers, so distances between them are exact whatever the order in which labels were met.

    Args:
        blocks: names of `BLOCKS`.
    """

    def __init__(self, space: SearchSpace, blocks: Sequence[str] = DEFAULT) -> None:
        self._space = space
        self._names = tuple(blocks)
        self._labels = [name for name in LABELS if name in blocks]
        self._rows: dict[Architecture, int] = {}
        self._networks: dict[Architecture, Mapping[str, Any]] = {}
        self._outlines: dict[Architecture, tuple[list[float], float]] = {}
        self._columns: dict[str, dict[str, int]] = {name: {} for name in LABELS}
        self._blocks: list[Floats] = [np.zeros((64, 0)) for _ in blocks]

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, architectures: Sequence[Architecture]) -> list[int]:
        """The row of each; those not met before get new ones."""
        return [self._rows[a] if a in self._rows else self._append(a) for a in architectures]

    def blocks(self, rows: Sequence[int]) -> list[Floats]:
        """`float64[n, d_b]` of each block."""
        return [block[rows] for block in self._blocks]

    def outlines(self, architectures: Sequence[Architecture]) -> Floats:
        """`float64[n, d]`: logs of parameters and MACs, then the shape of the graphs, whatever the blocks.

        They cost less than a row, and none is made.
        """
        return np.array([self._outline(self._space.canonical(arch))[0] for arch in architectures])

    def _append(self, arch: Architecture) -> int:
        row = self._rows[arch] = len(self._rows)
        canonical = self._space.canonical(arch)
        network = self._networks.get(canonical)
        if network is None:
            network = self._networks[canonical] = self._of(canonical)
        for place, name in enumerate(self._names):
            values = self._space.encode(arch) if name == "written" else network[name]
            if isinstance(values, Mapping):
                known = self._columns[name]
                columns = [known.setdefault(label, len(known)) for label in values]
                self._room(place, row, len(known))
                self._blocks[place][row, columns] = list(values.values())
            else:
                self._room(place, row, len(values))
                self._blocks[place][row, : len(values)] = values
        return row

    def _of(self, canonical: Architecture) -> Mapping[str, Any]:
        """All blocks but the written form."""
        (params, macs, *shape), memory = self._outline(canonical)
        sizes = {"params": [params], "macs": [macs], "memory": [memory], "graph": shape}
        return {**sizes, **(self._labelled(canonical) if self._labels else {})}

    def _outline(self, canonical: Architecture) -> tuple[list[float], float]:
        """Its outline, and the log of its peak memory."""
        found = self._outlines.get(canonical)
        if found is None:
            cost = self._space.cost(canonical)
            shapes = [number for _, graph in canonical.graphs for number in graph_shape(graph)]
            outline = [_log(cost.params), _log(cost.macs), *shapes]
            found = self._outlines[canonical] = outline, _log(cost.peak_activation_bytes)
        return found

    def _labelled(self, canonical: Architecture) -> Mapping[str, Counts]:
        steps = LABELS.index(self._labels[-1])
        return dict(zip(LABELS, wl_counts(canonical, steps), strict=False))

    def _room(self, block: int, row: int, width: int) -> None:
        """Makes the block large enough for this row, in steps that double."""
        height, had = self._blocks[block].shape
        if row < height and width <= had:
            return
        wider = had if width <= had else max(width, 2 * had)
        grown = np.zeros((height if row < height else 2 * height, wider))
        grown[:height, :had] = self._blocks[block]
        self._blocks[block] = grown


def squared_distances(a: Sequence[Floats], b: Sequence[Floats]) -> Floats:
    """`float64[blocks, n, m]` between the rows of `a` and of `b`, block by block."""
    found = np.empty((len(a), len(a[0]), len(b[0])))
    for place, (left, right) in enumerate(zip(a, b, strict=True)):
        if left.shape[1] == 1:
            np.square(left - right.T, out=found[place])
            continue
        np.matmul(left, right.T, out=found[place])
        found[place] *= -2
        found[place] += np.einsum("ij,ij->i", left, left)[:, None]
        found[place] += np.einsum("ij,ij->i", right, right)
    return np.asarray(np.maximum(found, 0.0, out=found))
