"""Spaces whose architectures are a fixed list of choices, their genes: the short road to a space of your own.

A subclass lists the genes of each graph and says how a graph is written from their values and read back.
Sampling, mutation, crossover, neighbours, encoding, size and the check of what was written by hand follow.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node, Scalar
from nas.protocols import NothingToChange
from search_spaces.crossover import CROSSOVERS
from search_spaces.fragments import Shape
from search_spaces.graph_space import REMEMBERED, GraphSpace

Values = tuple[Scalar, ...]
"""One value a gene, in the genes' order."""

Form = tuple[Values, Mapping[int, int] | None]
"""Values of a graph, and its id of each natural id; None where they are the same."""

FORMS = 8192
"""Graphs whose values are kept at hand; then they are read anew."""

WHOLE = ""
"""Stands for the architecture in `genes`: these values are its params and belong to no graph."""


@dataclass(frozen=True, slots=True)
class Gene:
    """One choice.

    Attributes:
        name: unique in its graph.
        choices: the values it can take; an inactive gene has the first one.

    Raises:
        ValueError: there is no choice, or two are equal.
    """

    name: str
    choices: Values

    def __post_init__(self) -> None:
        if not self.choices or len(set(self.choices)) < len(self.choices):
            raise ValueError(
                f"{self.name}: choices must be one or more different values, but got {self.choices}"
            )

    def index(self, value: Scalar) -> int:
        """Place of `value` among the choices; raises `InvalidArchitecture` if it is none of them."""
        for place, choice in enumerate(self.choices):
            if value == choice and type(value) is type(choice):
                return place
        raise InvalidArchitecture(f"{self.name} must be one of {self.choices}, but got {value!r}")


class GeneSpace(GraphSpace):
    """A space of genes.

    Args:
        input_shape, classes: as in `GraphSpace`.
        genes: for each graph, in order, its genes; under `WHOLE` those of the architecture itself.
        crossover: how `crossover` mixes, a key of `search_spaces.crossover.CROSSOVERS`.

    Raises:
        ValueError: an argument is senseless.
    """

    def __init__(
        self,
        input_shape: Shape,
        classes: int,
        genes: Mapping[str, Sequence[Gene]],
        crossover: str = "uniform",
    ) -> None:
        if crossover not in CROSSOVERS:
            raise ValueError(f"crossover must be one of {sorted(CROSSOVERS)}, but got {crossover!r}")
        whole_first = sorted(genes, key=lambda name: name != WHOLE)
        self.genes = {name: tuple(genes[name]) for name in whole_first}
        self.graphs = tuple(name for name in self.genes if name != WHOLE)
        self.params = tuple(sorted(gene.name for gene in self.genes.get(WHOLE, ())))
        self.mixing = crossover
        self._sizes = np.array([len(gene.choices) for gene in self._all_genes()], dtype=np.int64)
        self._stages = np.repeat(np.arange(len(self.genes)), [len(genes) for genes in self.genes.values()])
        super().__init__(input_shape, classes)

    def _remember(self) -> None:
        super()._remember()
        self._graphs = lru_cache(REMEMBERED)(self._graph)
        self._one = lru_cache(REMEMBERED)(_itself)
        self._places = lru_cache(REMEMBERED)(self._indices)
        self._changed = lru_cache(REMEMBERED)(self._with_value)
        self._written: dict[tuple[str, Graph], Form] = {}

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["_written"]
        return state

    # --- what a space says -------------------------------------------------------------------------

    @abstractmethod
    def write(self, graph: str, values: Values) -> Iterable[Node]:
        """The nodes of one graph. A node that stays when a gene changes has the same id in both."""

    @abstractmethod
    def read(self, graph: str, nodes: Sequence[Node]) -> Iterable[Scalar]:
        """Yields the values of which `write` gives `nodes`, up to ids, in the genes' order.

        It may take a right form for granted: what was read is written again and compared.
        """

    def active(self, graph: str, values: Values) -> Sequence[bool] | None:
        """Which genes matter, given the others; None where all do. Override `graph_size` with it."""
        return None

    def graph_size(self, graph: str) -> int:
        """Number of written forms of one graph."""
        return prod(len(gene.choices) for gene in self.genes[graph])

    # --- what follows from it ----------------------------------------------------------------------

    def size(self) -> int:
        """Number of written forms."""
        return prod(self.graph_size(name) for name in self.genes)

    def values(self, arch: Architecture) -> dict[str, Values]:
        """The values of the genes of each graph; raises `InvalidArchitecture` as `check_form` does."""
        self.check_names(arch)
        found = {WHOLE: self._read_params(arch)} if WHOLE in self.genes else {}
        for name, graph in arch.graphs:
            found[name] = self._form(name, graph)[0]
        return found

    def architecture(self, values: Mapping[str, Values]) -> Architecture:
        """The architecture of these values; those of inactive genes do not matter.

        Raises:
            InvalidArchitecture: a gene has no such value.
        """
        for name, of_graph in self.genes.items():
            for gene, value in zip(of_graph, values[name], strict=True):
                gene.index(value)
        return self._assembled(values)

    def _assembled(self, values: Mapping[str, Values]) -> Architecture:
        params = zip((gene.name for gene in self.genes.get(WHOLE, ())), values.get(WHOLE, ()), strict=True)
        graphs = [(name, self._graphs(name, self._normal(name, values[name]))) for name in self.graphs]
        return Architecture(self.name, tuple(graphs), tuple(sorted(params)))

    def check_form(self, arch: Architecture) -> None:
        """Raises `InvalidArchitecture` unless some values are written as `arch`."""
        self._read_params(arch)
        for name, graph in arch.graphs:
            with self.named(name):
                self._form(name, graph)

    def _network(self, arch: Architecture) -> Architecture:
        """As of `GraphSpace`; graphs that differ in their ids only share the work."""
        self.check_names(arch)
        graphs = []
        for name, graph in arch.graphs:
            values, ids = self._written.get((name, graph), ((), None))
            if ids is None:
                graphs.append((name, self._contractions(graph, self.site(name))))
            else:
                natural = self._contractions(self._graphs(name, values), self.site(name))
                _ = natural.certificate  # from now on known to all that are renamed
                graphs.append((name, natural.renamed(ids)))
        return Architecture(arch.space, tuple(graphs), arch.params)

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Every gene uniform: uniform over the written forms where all genes matter."""
        return self._assembled(self._of_alleles(rng.integers(self._sizes).tolist()))

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """One gene, uniform among those that matter and have a choice, takes another value, uniformly."""
        values = self.values(arch)
        options = [self._changeable(name, of_graph) for name, of_graph in values.items()]
        total = sum(map(len, options))
        if not total:
            raise NothingToChange("the space holds one architecture only: there is nothing to change")
        place = int(rng.integers(total))
        for name, places in zip(values, options, strict=True):
            if place < len(places):
                gene = self.genes[name][places[place]]
                shift = int(rng.integers(1, len(gene.choices)))
                value = gene.choices[(gene.index(values[name][places[place]]) + shift) % len(gene.choices)]
                return self._changed(arch, name, places[place], value)
            place -= len(places)
        raise AssertionError("unreachable")

    def neighbors(self, arch: Architecture) -> list[Architecture]:
        """All architectures with another value of one gene."""
        values = self.values(arch)
        return [
            self._changed(arch, name, place, value)
            for name, of_graph in values.items()
            for place in self._changeable(name, of_graph)
            for value in self.genes[name][place].choices
            if value != of_graph[place]
        ]

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """A child that takes some genes from `b`; nodes that `a` does not write alike get new ids."""
        mine, theirs = self.values(a), self.values(b)
        alleles = self._alleles(mine), self._alleles(theirs)
        mask = CROSSOVERS[self.mixing](*alleles, self._stages, rng)
        child = self._of_alleles(np.where(mask, alleles[1], alleles[0]).tolist())
        mixed = self._assembled(child)
        graphs = []
        for name, graph in mixed.graphs:
            parent = a.graph(name)
            normal = self._normal(name, child[name])
            if normal == mine[name]:
                graphs.append((name, parent))
                continue
            used = {node.id for node in (*parent, *b.graph(name))}
            fresh = (i for i in count() if i not in used)
            written = {node.id: node for node in self._graphs(name, mine[name])}
            ids = self._form(name, parent)[1]
            renamed = {}
            for node in graph:
                old = written.get(node.id)
                if old is not None and (old.op, old.params) == (node.op, node.params):
                    renamed[node.id] = ids[node.id] if ids else node.id
                else:
                    renamed[node.id] = next(fresh)
            graphs.append((name, self._renamed(name, normal, renamed)))
        return Architecture(a.space, tuple(graphs), mixed.params)

    def encode(self, arch: Architecture) -> NDArray[np.float64]:
        """One-hot values, one 0 or 1 for a gene of two choices, nothing for one choice; zeros for what
        does not matter.

        `float64[d]`.
        """
        rows: list[float] = []
        for name, values in self.values(arch).items():
            active = self.active(name, values)
            for place, (gene, value) in enumerate(zip(self.genes[name], values, strict=True)):
                on = active is None or active[place]
                choices = gene.choices[1:] if len(gene.choices) <= 2 else gene.choices
                rows += [float(on and value == choice) for choice in choices]
        return np.array(rows)

    # --- points ------------------------------------------------------------------------------------

    @property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of each gene the place of its first and of its last choice (`float64[d]` each)."""
        return np.zeros(len(self._sizes)), self._sizes.astype(np.float64) - 1

    def vector(self, arch: Architecture) -> NDArray[np.float64]:
        """Place of each gene's value among its choices, `float64[d]`; 0 for what does not matter.

        Raises:
            InvalidArchitecture: as `check_form` does.
        """
        return self._alleles(self.values(arch)).astype(np.float64)

    def from_vector(self, x: NDArray[np.float64]) -> Architecture:
        """The architecture of the places nearest to `x` (`float64[d]`), in its natural ids.

        Raises:
            ValueError: `x` is not one finite number a gene.
        """
        return self._assembled(self._of_alleles(self._nearest(x).tolist()))

    def _nearest(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        """`int64[d]`: `x` rounded, halves to even, within the bounds."""
        if np.shape(x) != self._sizes.shape or not np.isfinite(x).all():
            raise ValueError(f"a point must be {len(self._sizes)} finite numbers, but got {x!r}")
        return np.clip(np.rint(x), *self.bounds).astype(np.int64)

    # --- values ------------------------------------------------------------------------------------

    def _all_genes(self) -> Iterator[Gene]:
        return (gene for of_graph in self.genes.values() for gene in of_graph)

    def _of_alleles(self, alleles: Sequence[int]) -> dict[str, Values]:
        places = iter(alleles)
        return {
            name: tuple([gene.choices[place] for gene, place in zip(of_graph, places, strict=False)])
            for name, of_graph in self.genes.items()
        }

    def _alleles(self, values: Mapping[str, Values]) -> NDArray[np.int64]:
        return np.array([i for item in values.items() for i in self._places(*item)], dtype=np.int64)

    def _indices(self, graph: str, values: Values) -> list[int]:
        """The place of each value among the choices of its gene."""
        return [gene.index(value) for gene, value in zip(self.genes[graph], values, strict=True)]

    def _normal(self, graph: str, values: Values) -> Values:
        """`values` with the first choice for every gene that does not matter."""
        active = self.active(graph, values)
        if active is None or all(active):
            return values
        genes = self.genes[graph]
        return tuple([v if on else g.choices[0] for v, on, g in zip(values, active, genes, strict=True)])

    def _changeable(self, graph: str, values: Values) -> list[int]:
        active = self.active(graph, values)
        return [
            place
            for place, gene in enumerate(self.genes[graph])
            if len(gene.choices) > 1 and (active is None or active[place])
        ]

    # --- graphs ------------------------------------------------------------------------------------

    def _graph(self, name: str, values: Values) -> Graph:
        """The graph of these values, in its natural ids."""
        graph = Graph(tuple([self._one(node) for node in self.write(name, values)]))
        self._note(name, graph, (values, None))
        return graph

    def _renamed(self, name: str, values: Values, ids: Mapping[int, int]) -> Graph:
        """The graph of these values where each natural id is `ids[id]`."""
        natural = self._graphs(name, values)
        if all(old == new for old, new in ids.items()):
            return natural
        graph = natural.renamed(ids)
        self._note(name, graph, (values, ids))
        return graph

    def _form(self, name: str, graph: Graph) -> Form:
        """As `_read`; what was written here, or read before, is not read again."""
        form = self._written.get((name, graph))
        if form is None:
            form = self._read(name, graph)
            self._note(name, graph, form)
        return form

    def _note(self, name: str, graph: Graph, form: Form) -> None:
        if len(self._written) >= FORMS:
            self._written.clear()
        self._written[name, graph] = form

    def _with_value(self, arch: Architecture, name: str, place: int, value: Scalar) -> Architecture:
        """`arch` with another value of one gene; ids stay, and new nodes take new ones."""
        whole = name == WHOLE
        values, ids = (self._read_params(arch), None) if whole else self._form(name, arch.graph(name))
        changed = self._normal(name, (*values[:place], value, *values[place + 1 :]))
        if whole:
            params = zip((gene.name for gene in self.genes[WHOLE]), changed, strict=True)
            return Architecture(arch.space, arch.graphs, tuple(sorted(params)))
        graph = self._graphs(name, changed)
        if ids is not None:
            used = {node.id for node in arch.graph(name)}
            fresh = (i for i in count() if i not in used)
            kept = {n.id: ids[n.id] if n.id in ids else next(fresh) for n in graph}
            graph = self._renamed(name, changed, kept)
        graphs = tuple([(other, graph if other == name else old) for other, old in arch.graphs])
        return Architecture(arch.space, graphs, arch.params)

    def _read_params(self, arch: Architecture) -> Values:
        genes = self.genes.get(WHOLE, ())
        given = dict(arch.params)
        for gene in genes:
            gene.index(given[gene.name])
        return tuple([given[gene.name] for gene in genes])

    def _read(self, name: str, graph: Graph) -> Form:
        """The values of a graph, and its id of each natural id; None where they are the same."""
        seen = _Seen(graph.nodes)
        values: list[Scalar] = []
        genes = self.genes[name]
        try:
            for value in self.read(name, seen):
                genes[len(values)].index(value)
                values.append(value)
            if len(values) < len(genes):
                raise InvalidArchitecture(
                    f"graph {name!r} must hold {len(genes)} choices, but it ends after {len(values)}"
                )
            normal = self._normal(name, tuple(values))
            natural = self._graphs(name, normal)
        except InvalidArchitecture as error:
            raise InvalidArchitecture(f"{seen.last}: {error}") from error
        except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise InvalidArchitecture(
                f"{seen.last}: its op, inputs and parameters are not what space {self.name!r} writes here "
                f"({error!r})"
            ) from error
        if natural == graph:
            return normal, None
        ids = {a.id: b.id for a, b in zip(natural, graph, strict=False)}
        for node, written in zip(natural, graph, strict=False):
            wanted = Node(ids[node.id], node.op, tuple([ids[source] for source in node.inputs]), node.params)
            if wanted != written:
                raise InvalidArchitecture(
                    f"node {written.id} ({written.op}): space {self.name!r} writes {wanted.op!r} here, with "
                    f"inputs {wanted.inputs} and parameters {dict(wanted.params)}, but got "
                    f"{written.inputs} and {dict(written.params)}"
                )
        if len(natural) != len(graph):
            last = graph.nodes[min(len(natural), len(graph) - 1)]
            raise InvalidArchitecture(
                f"node {last.id} ({last.op}): graph {name!r} must have {len(natural)} nodes with these "
                f"choices, but got {len(graph)}"
            )
        return normal, ids


def _itself(node: Node) -> Node:
    """Remembered, so that graphs share equal nodes, whose hashes are known and which are compared at once."""
    return node


class _Seen(Sequence[Node]):
    """Nodes, and which of them was looked at last, in slices too."""

    def __init__(self, nodes: tuple[Node, ...], looked_at: list[Node] | None = None) -> None:
        self._nodes = nodes
        self._looked_at = looked_at if looked_at is not None else [nodes[0]]

    @property
    def last(self) -> str:
        (node,) = self._looked_at
        return f"node {node.id} ({node.op})"

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        found = self._nodes[place]
        if not isinstance(found, Node):
            return _Seen(found, self._looked_at)
        self._looked_at[0] = found
        return found
