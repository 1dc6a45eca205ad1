"""Spaces whose architectures are a fixed list of choices, their genes: the short road to a space of your own.

A subclass lists the genes of each graph and says how a graph is written from their values and read back.
Sampling, mutation, crossover, neighbours, encoding, size and the check of what was written by hand follow.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, InvalidArchitecture, Node, Params, Scalar
from nas.protocols import NothingToChange
from nas.seeding import below
from search_spaces.crossover import CROSSOVERS
from search_spaces.fragments import Shape
from search_spaces.graph_space import REMEMBERED, GraphSpace
from search_spaces.scribe import Scribe

Values = tuple[Scalar, ...]
"""One value a gene, in the genes' order."""

Genome = tuple[Values, ...]
"""The values of each graph, in the order of `genes`."""

NATURALS = 8192
"""Architectures in natural ids that are kept at hand: a search that has converged meets them again."""

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
            if value == choice and repr(value) == repr(choice):  # 1, 1.0 and True are three, 0.0 and -0.0 two
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
        self._names = tuple(self.genes)
        self._sizes = np.array([len(gene.choices) for gene in self._all_genes()], dtype=np.int64)
        self._bounds = np.zeros(len(self._sizes)), self._sizes.astype(np.float64) - 1
        self._stages = np.repeat(np.arange(len(self.genes)), [len(genes) for genes in self.genes.values()])
        super().__init__(input_shape, classes)

    def _remember(self) -> None:
        super()._remember()
        self._scribe = Scribe(self)
        self._places = lru_cache(REMEMBERED)(self._indices)
        self._changeable = lru_cache(REMEMBERED)(self._free)
        self._alleles = lru_cache(REMEMBERED)(self._places_of)
        self._genomes = lru_cache(REMEMBERED)(self._genome)
        self._naturals = lru_cache(NATURALS)(self._natural)
        self._changed = lru_cache(REMEMBERED)(self._child)
        self._crossed = lru_cache(REMEMBERED)(self._child_of_two)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["_scribe"]
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
            found[name] = self._scribe.reading(name, graph)[0]
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
        graphs = [(name, self._scribe.graph(name, self.normal(name, values[name]))) for name in self.graphs]
        return Architecture(self.name, tuple(graphs), self._params(values))

    def check_form(self, arch: Architecture) -> None:
        """Raises `InvalidArchitecture` unless some values are written as `arch`."""
        self._read_params(arch)
        for name, graph in arch.graphs:
            with self.named(name):
                self._scribe.reading(name, graph)

    def _network(self, arch: Architecture) -> Architecture:
        """As of `GraphSpace`; graphs that differ in their ids only share the work."""
        self.check_names(arch)
        graphs = []
        for name, graph in arch.graphs:
            values, ids = self._scribe.written.get((name, graph), ((), None))
            if ids is None:
                graphs.append((name, self._contractions(graph, self.site(name))))
            else:
                natural = self._contractions(self._scribe.graph(name, values), self.site(name))
                _ = natural.certificate  # from now on known to all that are renamed
                graphs.append((name, natural.renamed(ids)))
        return Architecture(arch.space, tuple(graphs), arch.params)

    def network_key(self, arch: Architecture) -> str:
        """As of `GraphSpace`. Ids do not matter to it: of a written form it is that of the natural ones."""
        try:
            natural = self._naturals(self._genomes(arch))
        except InvalidArchitecture:  # a canonical form, say
            natural = arch
        return self.canonical(natural).key

    def _natural(self, genome: Genome) -> Architecture:
        return self._assembled(dict(zip(self._names, genome, strict=True)))

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Every gene uniform: uniform over the written forms where all genes matter."""
        return self._assembled(self._of_alleles(rng.integers(self._sizes).tolist()))

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """One gene, uniform among those that matter and have a choice, takes another value, uniformly."""
        return self._changed(arch, self._mutated(self._genomes(arch), rng))

    def neighbors(self, arch: Architecture) -> list[Architecture]:
        """All architectures with another value of one gene."""
        genome = self._genomes(arch)
        return [
            self._changed(arch, self._with_value(genome, number, place, value))
            for number, name in enumerate(self.genes)
            for place in self._changeable(name, genome[number])
            for value in self.genes[name][place].choices
            if value != genome[number][place]
        ]

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """A child that takes some genes from `b`; nodes that `a` does not write alike get new ids."""
        return self._crossed(a, b, self._mixed(self._genomes(a), self._genomes(b), rng))

    def draft(self, arch: Architecture) -> Sketch | None:
        """Its mutations and crossovers, without their graphs; None where the space has its own."""
        own, its = type(self), vars(self)
        if own.mutate is not GeneSpace.mutate or own.crossover is not GeneSpace.crossover:
            return None
        if "mutate" in its or "crossover" in its:
            return None
        genome = self._genomes(arch)
        return Sketch(self, (arch,), genome, genome)

    def encode(self, arch: Architecture) -> NDArray[np.float64]:
        """One-hot values, one 0 or 1 for a gene of two choices, nothing for one choice; zeros for what
        does not matter.

        `float64[d]`.
        """
        rows: list[float] = []
        for name, values in zip(self.genes, self._genomes(arch), strict=True):
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
        return self._bounds[0].copy(), self._bounds[1].copy()

    def vector(self, arch: Architecture) -> NDArray[np.float64]:
        """Place of each gene's value among its choices, `float64[d]`; 0 for what does not matter.

        Raises:
            InvalidArchitecture: as `check_form` does.
        """
        return self._alleles(self._genomes(arch)).astype(np.float64)

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
        return np.clip(np.rint(x), *self._bounds).astype(np.int64)

    # --- values ------------------------------------------------------------------------------------

    def _all_genes(self) -> Iterator[Gene]:
        return (gene for of_graph in self.genes.values() for gene in of_graph)

    def _of_alleles(self, alleles: Sequence[int]) -> dict[str, Values]:
        places = iter(alleles)
        return {
            name: tuple([gene.choices[place] for gene, place in zip(of_graph, places, strict=False)])
            for name, of_graph in self.genes.items()
        }

    def _genome(self, arch: Architecture) -> Genome:
        return tuple(self.values(arch).values())

    def _places_of(self, genome: Genome) -> NDArray[np.int64]:
        """Of each gene, `int64[d]`."""
        named = zip(self.genes, genome, strict=True)
        places = np.array([i for name, values in named for i in self._places(name, values)], dtype=np.int64)
        places.setflags(write=False)  # it is remembered
        return places

    def _indices(self, graph: str, values: Values) -> list[int]:
        """The place of each value among the choices of its gene."""
        return [gene.index(value) for gene, value in zip(self.genes[graph], values, strict=True)]

    def normal(self, graph: str, values: Values) -> Values:
        """`values` with the first choice for every gene that does not matter."""
        active = self.active(graph, values)
        if active is None or all(active):
            return values
        genes = self.genes[graph]
        return tuple([v if on else g.choices[0] for v, on, g in zip(values, active, genes, strict=True)])

    def _free(self, graph: str, values: Values) -> tuple[int, ...]:
        """Places of the genes that matter and have a choice."""
        active = self.active(graph, values)
        return tuple(
            place
            for place, gene in enumerate(self.genes[graph])
            if len(gene.choices) > 1 and (active is None or active[place])
        )

    def _with_value(self, genome: Genome, number: int, place: int, value: Scalar) -> Genome:
        """`genome` with another value of one gene of one graph."""
        values = genome[number]
        changed = self.normal(self._names[number], (*values[:place], value, *values[place + 1 :]))
        return (*genome[:number], changed, *genome[number + 1 :])

    def _mutated(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """As `mutate`."""
        options = list(map(self._changeable, self._names, genome))
        total = sum(map(len, options))
        if not total:
            raise NothingToChange("the space holds one architecture only: there is nothing to change")
        number, chosen = 0, below(total, rng)
        while chosen >= len(options[number]):
            chosen -= len(options[number])
            number += 1
        name, place = self._names[number], options[number][chosen]
        choices = self.genes[name][place].choices
        now = self._places(name, genome[number])[place]
        value = choices[(now + 1 + below(len(choices) - 1, rng)) % len(choices)]
        return self._with_value(genome, number, place, value)

    def _mixed(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        """As `crossover`."""
        theirs = CROSSOVERS[self.mixing](self._alleles(a), self._alleles(b), self._stages, rng).tolist()
        child, first = [], 0
        for name, mine, others in zip(self.genes, a, b, strict=True):
            mask = theirs[first : (first := first + len(mine))]
            values = [y if take else x for x, y, take in zip(mine, others, mask, strict=True)]
            child.append(self.normal(name, tuple(values)))
        return tuple(child)

    # --- children ----------------------------------------------------------------------------------

    def _child(self, arch: Architecture, genome: Genome) -> Architecture:
        """`arch` with these values; ids stay, and new nodes take new ones."""
        named = dict(zip(self.genes, genome, strict=True))
        graphs = [(name, self._scribe.changed(name, graph, named[name])) for name, graph in arch.graphs]
        return Architecture(arch.space, tuple(graphs), self._params(named))

    def _child_of_two(self, a: Architecture, b: Architecture, genome: Genome) -> Architecture:
        """`a` with these values, some of which are `b`'s."""
        named = dict(zip(self.genes, genome, strict=True))
        graphs = [
            (name, self._scribe.crossed(name, graph, b.graph(name), named[name])) for name, graph in a.graphs
        ]
        return Architecture(a.space, tuple(graphs), self._params(named))

    def _params(self, values: Mapping[str, Values]) -> Params:
        names = [gene.name for gene in self.genes.get(WHOLE, ())]
        return tuple(sorted(zip(names, values.get(WHOLE, ()), strict=True)))

    def _read_params(self, arch: Architecture) -> Values:
        genes = self.genes.get(WHOLE, ())
        given = dict(arch.params)
        for gene in genes:
            gene.index(given[gene.name])
        return tuple([given[gene.name] for gene in genes])


class Sketch(NamedTuple):
    """A draft, as `nas.protocols.Draft`.

    Attributes:
        parents: what it is derived from: one architecture, or two.
        mixed: the values of the first parent, or what a crossover of both gave.
        genome: the values after mutations.
    """

    space: GeneSpace
    parents: tuple[Architecture, ...]
    mixed: Genome
    genome: Genome

    def mutated(self, rng: np.random.Generator) -> Sketch:
        return Sketch(self.space, self.parents, self.mixed, self.space._mutated(self.genome, rng))

    def crossed(self, mate: Architecture, rng: np.random.Generator) -> Sketch:
        mixed = self.space._mixed(self.genome, self.space._genomes(mate), rng)
        return Sketch(self.space, (self.written(), mate), mixed, mixed)

    def natural(self) -> Architecture:
        return self.space._naturals(self.genome)

    def written(self) -> Architecture:
        arch, *mates = self.parents
        for mate in mates:
            arch = self.space._crossed(arch, mate, self.mixed)
        return arch if self.genome == self.mixed else self.space._changed(arch, self.genome)
