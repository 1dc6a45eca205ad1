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

REMOTE = 4.0
"""By how much less labels with their surroundings are expected to matter than other blocks, on a log scale.

There are so many of them that with few trials their distances are noise. On the error of NAS-Bench-Macro the
regret after 50 trials was .010 without doubt, .007 with it, .002 without the labels; on (error, pixel3) of
NAS-Bench-201 the gap after 50 / 100 trials was 6.3 / 1.7, 4.6 / 1.8 and 6.2 / 2.3 (16 to 50 seeds from 700).
"""

Counts = Mapping[str, int]


def graph_shape(graph: Graph) -> list[float]:
    """Nodes, edges, longest and shortest path from an input to the output, log of the number of paths."""
    longest: dict[int, float] = {}
    shortest: dict[int, float] = {}
    paths: dict[int, float] = {}
    edges = 0
    for node in graph.nodes:
        here, read = node.id, node.inputs
        edges += len(read)
        if len(read) == 1:  # nearly always
            (source,) = read
            longest[here], shortest[here] = 1 + longest[source], 1 + shortest[source]
            paths[here] = paths[source]
        else:
            longest[here] = 1 + max([longest[source] for source in read], default=0)
            shortest[here] = 1 + min([shortest[source] for source in read], default=0)
            paths[here] = sum([paths[source] for source in read]) if read else 1.0
    last = graph.nodes[-1].id
    return [float(len(graph.nodes)), float(edges), longest[last], shortest[last], math.log(paths[last])]


def wl_counts(arch: Architecture, steps: int) -> list[Counts]:
    """How often each label stands in the graphs after 0, 1 … `steps` steps.

    A label is at first the op with its params; a step makes it one of itself, of those it reads, and of those
    that read it, in any order.
    """
    found: list[Counter[str]] = [Counter() for _ in range(steps + 1)]
    for name, graph in arch.graphs:
        labels: dict[int, str] = {}
        readers: dict[int, list[int]] = {}
        for node in graph.nodes:
            labels[node.id] = _label(name, node)
            readers[node.id] = []
            for source in node.inputs:
                readers[source].append(node.id)
        found[0].update(labels.values())
        for step in range(1, steps + 1):
            labels = {
                node.id: _hash(labels[node.id], _named(labels, node.inputs), _named(labels, readers[node.id]))
                for node in graph.nodes
            }
            found[step].update(labels.values())
    return list(found)


def _named(labels: Mapping[int, str], nodes: Sequence[int]) -> tuple[str, ...]:
    """Their labels, in any order."""
    if len(nodes) == 1:
        return (labels[nodes[0]],)
    return tuple(sorted([labels[node] for node in nodes]))


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

    The order in which labels are met is that of the columns, and tells nothing else.

    Args:
        blocks: names of `BLOCKS`.
    """

    def __init__(self, space: SearchSpace, blocks: Sequence[str] = DEFAULT) -> None:
        self._space = space
        self._names = tuple(blocks)
        self._labels = [name for name in LABELS if name in blocks]
        self._rows: dict[Architecture, int] = {}
        self._networks: dict[Architecture, int] = {}  # the row of the first written form of each
        self._outlines: dict[Architecture, tuple[float, ...]] = {}
        self._columns: dict[str, dict[str, int]] = {name: {} for name in LABELS}
        self._blocks: list[Floats] = [np.zeros((64, 0)) for _ in blocks]

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, architectures: Sequence[Architecture]) -> list[int]:
        """The row of each; those not met before get new ones."""
        return [self._rows[a] if a in self._rows else self._append(a) for a in architectures]

    def blocks(self, rows: Sequence[int]) -> list[Floats]:
        """`float64[n, d_b]` of each block."""
        places = np.asarray(rows, dtype=np.int64)
        return [block[places] for block in self._blocks]

    @property
    def doubts(self) -> Floats:
        """Of each block, `float64[blocks]`; none where all are labels."""
        others = any(name not in LABELS for name in self._names)
        return np.array([REMOTE if others and name in LABELS[1:] else 0.0 for name in self._names])

    def outlines(self, architectures: Sequence[Architecture]) -> Floats:
        """`float64[n, d]`: logs of parameters and MACs, then the shape of the graphs, whatever the blocks.

        They cost less than a row, and none is made.
        """
        return np.array([self._outline(self._space.canonical(arch))[:-1] for arch in architectures])

    def _append(self, arch: Architecture) -> int:
        row = len(self._rows)
        canonical = self._space.canonical(arch)
        same = self._networks.get(canonical, row)
        network = self._of(canonical) if same == row else {}
        written = self._space.encode(arch) if "written" in self._names else ()
        self._rows[arch], self._networks[canonical] = row, same  # nothing was raised
        for place, name in enumerate(self._names):
            if name == "written":
                self._write(place, row, written)
            elif same < row:
                self._room(place, row, 0)
                self._blocks[place][row] = self._blocks[place][same]
            elif name in LABELS:
                known = self._columns[name]
                columns = [known.setdefault(label, len(known)) for label in network[name]]
                self._room(place, row, len(known))
                self._blocks[place][row, columns] = list(network[name].values())
            else:
                self._write(place, row, network[name])
        return row

    def _write(self, block: int, row: int, values: Sequence[float] | Floats) -> None:
        self._room(block, row, len(values))
        self._blocks[block][row, : len(values)] = values

    def _of(self, canonical: Architecture) -> Mapping[str, Any]:
        """All blocks but the written form."""
        params, macs, *shape, memory = self._outline(canonical)
        sizes = {"params": [params], "macs": [macs], "memory": [memory], "graph": shape}
        return {**sizes, **(self._labelled(canonical) if self._labels else {})}

    def _outline(self, canonical: Architecture) -> tuple[float, ...]:
        """Its outline, then the log of its peak memory."""
        found = self._outlines.get(canonical)
        if found is None:
            cost = self._space.cost(canonical)
            shapes = [number for _, graph in canonical.graphs for number in graph_shape(graph)]
            sizes = _log(cost.params), _log(cost.macs)
            found = self._outlines[canonical] = (*sizes, *shapes, _log(cost.peak_activation_bytes))
        return found

    def _labelled(self, canonical: Architecture) -> Mapping[str, Counts]:
        steps = LABELS.index(self._labels[-1])
        return dict(zip(LABELS, wl_counts(canonical, steps), strict=False))

    def _room(self, block: int, row: int, width: int) -> None:
        """Makes the block large enough for this row, in steps that grow: products take each column's time."""
        height, had = self._blocks[block].shape
        if row < height and width <= had:
            return
        wider = had if width <= had else max(width, had + had // 4)
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
