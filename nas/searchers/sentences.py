"""Architectures as sentences: what a model of sequences reads and writes, whatever the space.

A `Script` says how. Where a space is made of genes a sentence is their values, and any values can be read
again; else it is the ops of the nodes, each followed by how far back its inputs stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, InvalidArchitecture, Scalar
from nas.labelling import COMMUTATIVE
from nas.protocols import SearchSpace

Sentence = tuple[str, ...]

TWINS = 4
"""At most so many sentences say the same network in other words."""


class Script(Protocol):
    """A way to write architectures down, and to read them."""

    def write(self, arch: Architecture) -> Sentence:
        """The sentence of a written form."""
        ...

    def read(self, sentence: Sentence) -> Architecture | None:
        """The architecture a sentence says; None if it says none, or if the script is only written."""
        ...

    def twins(self, arch: Architecture) -> list[Sentence]:
        """Other sentences of the same network, at most `TWINS`."""
        ...


@runtime_checkable
class Genes(Protocol):
    """A space whose architectures are fixed lists of choices, as `search_spaces.genes.GeneSpace` is."""

    genes: Mapping[str, Sequence[Any]]

    def values(self, arch: Architecture) -> Mapping[str, Sequence[Scalar]]: ...

    def architecture(self, values: Mapping[str, Sequence[Scalar]]) -> Architecture: ...


def script_of(space: SearchSpace) -> Script:
    """The script that fits a space."""
    return GeneScript(space, space) if isinstance(space, Genes) else GraphScript(space)


@dataclass(frozen=True, slots=True)
class GeneScript:
    """One word a gene, its value; `genes` and `space` are the same object."""

    genes: Genes
    space: SearchSpace

    def write(self, arch: Architecture) -> Sentence:
        values = self.genes.values(arch)
        return tuple([repr(value) for graph in self.genes.genes for value in values[graph]])

    def read(self, sentence: Sentence) -> Architecture | None:
        words, values = iter(sentence), {}
        try:
            for graph, genes in self.genes.genes.items():
                values[graph] = tuple([_choice(gene.choices, next(words, "")) for gene in genes])
            arch = self.genes.architecture(values)
            self.space.check(arch)
        except InvalidArchitecture:
            return None
        return arch

    def twins(self, arch: Architecture) -> list[Sentence]:
        """One or two words change places with the next ones where that leaves the network as it is.

        So the branches of a node are swapped (Luo et al. 2018, section 3.1), and layers with no-ops.
        """
        sentence, key = self.write(arch), self.space.canonical(arch).key
        read = filter(None, map(self.read, _swaps(sentence)))
        same = (self.write(other) for other in read if self.space.canonical(other).key == key)
        others = (other for other in same if other != sentence)
        return list(dict.fromkeys(islice(others, TWINS)))


def _choice(choices: Sequence[Scalar], word: str) -> Scalar:
    for choice in choices:
        if repr(choice) == word:
            return choice
    raise InvalidArchitecture(f"a value must be one of {tuple(choices)}, but got {word}")


def _swaps(sentence: Sentence) -> Iterator[Sentence]:
    """Sentences in which two neighbouring runs of one or two words have changed places."""
    for size in (1, 2):
        for a in range(len(sentence) - 2 * size + 1):
            b, end = a + size, a + 2 * size
            if sentence[a:b] != sentence[b:end]:
                yield (*sentence[:a], *sentence[b:end], *sentence[a:b], *sentence[end:])


@dataclass(frozen=True, slots=True)
class GraphScript:
    """The parameters, then of each graph each node: its op with its own, and how far back each input is."""

    space: SearchSpace

    def write(self, arch: Architecture) -> Sentence:
        return tuple(_words(arch, None))

    def read(self, sentence: Sentence) -> Architecture | None:
        return None

    def twins(self, arch: Architecture) -> list[Sentence]:
        """Without dead nodes and no-ops; with branches of a sum swapped (Luo et al. 2018, section 3.1)."""
        sums = [
            (name, node.id)
            for name, graph in arch.graphs
            for node in graph
            if node.op == COMMUTATIVE and len(set(node.inputs[:2])) == 2
        ]
        others = [self.write(self.space.canonical(arch)), *(tuple(_words(arch, place)) for place in sums)]
        sentence = self.write(arch)
        return [other for other in dict.fromkeys(others) if other != sentence][:TWINS]


def _words(arch: Architecture, swapped: tuple[str, int] | None) -> Iterator[str]:
    """The words of an architecture; `swapped`: graph and node whose first two inputs change places."""
    for name, value in arch.params:
        yield f"{name}={value!r}"
    for graph_name, graph in arch.graphs:
        places = {node.id: place for place, node in enumerate(graph)}
        for place, node in enumerate(graph):
            inputs = list(node.inputs)
            if swapped == (graph_name, node.id):
                inputs[:2] = inputs[1::-1]
            yield f"{node.op}{node.params!r}/{len(inputs)}"
            yield from (f"-{place - places[source]}" for source in inputs)
        yield "|"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words by number, 1 to V - 1, and where they can stand; 0 is the end of a sentence.

    Attributes:
        allowed: `bool[L, V]`, which words were seen at each place, the end too.
    """

    numbers: Mapping[str, int]
    allowed: NDArray[np.bool_]

    @classmethod
    def of(cls, sentences: Sequence[Sentence]) -> Vocabulary:
        """Of all words of `sentences`, in the order they come; L is the length of the longest."""
        seen = dict.fromkeys(word for sentence in sentences for word in sentence)
        numbers = {word: number for number, word in enumerate(seen, start=1)}
        length = max(map(len, sentences))
        empty = cls(numbers, np.zeros((length, len(numbers) + 1), dtype=np.bool_))
        for row in empty.rows(sentences):
            empty.allowed[np.arange(length), row] = True
        return empty

    def __len__(self) -> int:
        """V."""
        return len(self.numbers) + 1

    def knows(self, sentence: Sentence) -> bool:
        """Whether `rows` can write it."""
        return len(sentence) <= len(self.allowed) and all(word in self.numbers for word in sentence)

    def rows(self, sentences: Iterable[Sentence]) -> NDArray[np.int64]:
        """`int64[n, L]`, filled up with 0."""
        length = len(self.allowed)
        rows = [[*map(self.numbers.__getitem__, s), *[0] * (length - len(s))] for s in sentences]
        return np.array(rows, dtype=np.int64).reshape(-1, length)

    def sentences(self, rows: NDArray[np.int64]) -> list[Sentence]:
        """What `rows` wrote."""
        words = ["", *self.numbers]
        return [tuple([words[number] for number in row if number]) for row in rows.tolist()]
