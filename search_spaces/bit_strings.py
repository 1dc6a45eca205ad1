"""Bit strings over ordered nodes, as Genetic CNN and NSGA-Net have them, and the graphs they stand for.

K nodes have K(K-1)/2 bits, in groups by the node that reads: "1-01-100" says that node 2 reads node 1,
node 3 reads node 2 and node 4 reads node 1. "|" stands between stages.

In both spaces a stage begins with an input and a first convolution. A node that others read but that reads
none reads the first convolution; a node without any connection is isolated and takes no part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

from nas.architecture import InvalidArchitecture, Node
from search_spaces.genes import Gene, Values

Groups = tuple[int, ...]
"""Number of bits in each group of a stage."""

IN_ID, FIRST_ID, LAST_ID, LAST_JOIN_ID, EMPTY_ID = range(5)
"""Natural ids: input, first convolution, output, the join that it reads, the end of an empty stage."""

node_of = lru_cache(4096)(Node)
"""The node of these arguments: the graphs of a stage share most of theirs."""


def _conv_id(node: int) -> int:
    """Behind it come the ids of the node's join and of the mark that it is isolated."""
    return 3 * node + 2


def pairs(nodes: int) -> list[Gene]:
    """A bit for each pair of `nodes` nodes, "1>2", "1>3", "2>3" …, in the order of the string."""
    return [Gene(f"{source}>{node}", (0, 1)) for node in range(2, nodes + 1) for source in range(1, node)]


def write_pairs(nodes: int, bits: Values, join: str = "") -> tuple[list[Node], list[int]]:
    """The nodes of one stage, and the ids of those that no other node reads.

    Several inputs are joined by a node of the op `join`; without one, nodes read them all. Isolated nodes
    are dead nodes of the op "isolated".
    """
    rest = iter(bits)
    reads = [[s for s, bit in enumerate(islice(rest, node), start=1) if bit] for node in range(nodes)]
    read = set().union(*reads)
    written: list[Node] = []
    ends: list[int] = []
    for node, sources in enumerate(reads, start=1):
        conv = _conv_id(node)
        if sources or node in read:
            inputs = tuple([_conv_id(source) for source in sources]) or (FIRST_ID,)
            written += joined(join, conv + 1, inputs, "conv", conv)
            if node not in read:
                ends.append(conv)
        else:
            written.append(node_of(conv + 2, "isolated", (IN_ID,)))
    return written, ends


def joined(join: str, join_id: int, inputs: tuple[int, ...], op: str, op_id: int) -> tuple[Node, ...]:
    """A node of `op` that reads `inputs`, behind their join; one input needs none."""
    if not join or len(inputs) == 1:
        return (node_of(op_id, op, inputs),)
    return node_of(join_id, join, inputs), node_of(op_id, op, (join_id,))


def read_pairs(graph: Sequence[Node], nodes: int, join: str = "") -> Iterator[int]:
    """Yields the bits for which `write_pairs` writes what stands behind the first convolution."""
    place = 2
    number: dict[int, int] = {}
    for node in range(1, nodes + 1):
        found = graph[place]
        inputs = found.inputs
        if found.op == join:
            place += 1
            found = graph[place]
        place += 1
        number[found.id] = node
        read = [number.get(source) for source in inputs]
        for source in range(1, node):
            yield int(source in read)


def bits_of(text: str, stages: Sequence[Groups]) -> list[Values]:
    """The bits of each stage of a string such as "1-01|0-01-100".

    Raises:
        InvalidArchitecture: the text has other stages or groups, or not only bits in them.
    """
    written = [stage.split("-") for stage in text.split("|")]
    if [tuple(map(len, groups)) for groups in written] != list(stages) or set(text) - set("01-|"):
        raise InvalidArchitecture(
            f"a code must be bits in groups as in {text_of([(0,) * sum(s) for s in stages], stages)!r}, but "
            f"got {text!r}"
        )
    return [tuple(map(int, "".join(groups))) for groups in written]


def text_of(bits: Sequence[Values], stages: Sequence[Groups]) -> str:
    """What `bits_of` reads."""
    written = []
    for values, groups in zip(bits, stages, strict=True):
        rest = iter(values)
        written.append("-".join("".join(map(str, islice(rest, length))) for length in groups))
    return "|".join(written)
