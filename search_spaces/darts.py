"""DARTS (Liu, Simonyan & Yang 2019, section 2.1 and appendix A; code quark0/darts, cnn/).

A cell has two inputs and four nodes. Each node sums two ops on two different earlier states; the output is
the four nodes side by side. State 0 is the output of the cell before the previous one, 1 that of the
previous one, 2 to 5 are the nodes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node
from search_spaces.cell_ops import SKIP, pooling, separable
from search_spaces.fragments import Builder, Shape
from search_spaces.genes import Gene, Values
from search_spaces.graph_space import INPUT, Site
from search_spaces.operations import CLASSIFIER, JOINS, Operation
from search_spaces.plan import Placed
from search_spaces.stacking import (
    CELLS,
    CIFAR,
    IMAGENET,
    INPUTS,
    NORMAL,
    REDUCTION,
    STEM,
    StackedSpace,
    staged,
    state_read,
)

OPS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The official names; "none" is of the search only, no genotype holds it."""

NODES = 4
STATES = tuple(range(2, 2 + NODES))
"""The states that are nodes; a cell puts out all of them."""

PAIRS = {state: tuple(f"{a} {b}" for a, b in combinations(range(state), 2)) for state in STATES}
"""The pairs of states that a node can read."""

HALVINGS = {CIFAR: 2, IMAGENET: 5}

DARTS_V1 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], "
    "normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('max_pool_3x3', 0), ('skip_connect', 2), ('avg_pool_3x3', 0), "
    "('skip_connect', 2)], reduce_concat=range(2, 6))"
)
"""Found with the first-order approximation."""

DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 1), "
    "('skip_connect', 2), ('max_pool_3x3', 0), ('skip_connect', 2), ('max_pool_3x3', 1), "
    "('skip_connect', 2)], reduce_concat=range(2, 6))"
)
"""Found with the second-order approximation."""


def _imagenet_first(b: Builder, p: Mapping[str, Any]) -> None:
    x = b.conv_bn_relu("0", -1, p["width"] // 2, 3, 2)
    b.conv_bn("1", x, p["width"], 3, 2)


IMAGENET_FIRST = Operation(("width",), _imagenet_first)
IMAGENET_SECOND = Operation(("width",), lambda b, p: b.relu_conv_bn("0", -1, p["width"], 3, 2))


class DARTSSpace(StackedSpace):
    """1,037,664,180 written forms of each cell.

    The defaults train on a CPU in minutes. The paper's CIFAR-10 networks have 20 cells and 36 filters, its
    ImageNet networks 14 cells and 48 filters.

    Args:
        input_shape: (channels, height, width), sides at least 4 for "cifar", 32 for "imagenet".
        classes: number of classes.
        template: "cifar" (stem: a 3x3 convolution to 3 x filters) or "imagenet" (three with stride 2).
        cells: number of cells, those at one and at two thirds being reduction cells; at least 3.
        filters: channels of a node before the first reduction; at least 2.
        crossover: its kind, see `search_spaces.crossover`.

    Example:
        >>> space = DARTSSpace(cells=20, filters=36)
        >>> space.cost(space.decode(DARTS_V2)).params
        3349342
    """

    name = "darts"
    operations: ClassVar = {
        "max_pool_3x3": pooling("max_pool", 3),
        "avg_pool_3x3": pooling("avg_pool", 3),
        "skip_connect": SKIP,
        "sep_conv_3x3": separable(3),
        "sep_conv_5x5": separable(5),
        "dil_conv_3x3": separable(3, layers=1, dilation=2),
        "dil_conv_5x5": separable(5, layers=1, dilation=2),
        "add": JOINS["add"],
        "concat": JOINS["concat"],
    }

    def __init__(
        self,
        input_shape: Shape = (3, 32, 32),
        classes: int = 10,
        template: str = CIFAR,
        cells: int = 8,
        filters: int = 16,
        crossover: str = "uniform",
    ) -> None:
        genes = {graph: [*_genes(graph)] for graph in CELLS}
        super().__init__(input_shape, classes, genes, crossover, template, HALVINGS)
        if type(cells) is not int or type(filters) is not int or cells < 3 or filters < 2:
            raise ValueError(f"`cells >= 3 and filters >= 2` must hold, but got {cells=}, {filters=}")
        self.cells, self.filters = cells, filters
        self.stack = staged(cells, {cells // 3, 2 * cells // 3}, filters)

    # --- the official text -------------------------------------------------------------------------

    def decode(self, text: str) -> Architecture:
        """The architecture of an official genotype, "Genotype(normal=[('sep_conv_3x3', 1), …], …)".

        Raises:
            InvalidArchitecture: the text is none, or none of this space.
        """
        fields = _fields(text)
        values = {}
        for graph, field in ((NORMAL, "normal"), (REDUCTION, "reduce")):
            if fields[f"{field}_concat"] != list(STATES):
                raise InvalidArchitecture(
                    f"{field}_concat must be range(2, 6), but got {fields[f'{field}_concat']}"
                )
            values[graph] = self._values(graph, field, fields[field])
        return self.architecture(values)

    def _values(self, graph: str, field: str, edges: Any) -> Values:
        if not isinstance(edges, list) or len(edges) != 2 * NODES or not all(map(_is_edge, edges)):
            raise InvalidArchitecture(
                f"{field} must be {2 * NODES} pairs like ('sep_conv_3x3', 1), but got {edges!r}"
            )
        values: list[str] = []
        for place in range(NODES):
            (a, first), (b, second) = sorted(edges[2 * place : 2 * place + 2], key=lambda edge: edge[1])
            values += (f"{first} {second}", a, b)
        for gene, value in zip(self.genes[graph], values, strict=True):
            gene.index(value)
        return tuple(values)

    def code(self, arch: Architecture) -> str:
        """The official text of a written form, the two edges of each node in the order of their states.

        Raises:
            InvalidArchitecture: as `check_form` does.
        """
        cells = []
        for values in self.values(arch).values():
            edges: list[tuple[Any, int]] = []
            for place in range(NODES):
                pair, a, b = values[3 * place : 3 * place + 3]
                first, second = map(int, str(pair).split())
                edges += ((a, first), (b, second))
            cells.append(edges)
        normal, reduction = cells
        return (
            f"Genotype(normal={normal}, normal_concat=range(2, 6), reduce={reduction}, "
            "reduce_concat=range(2, 6))"
        )

    # --- the written form --------------------------------------------------------------------------

    def write(self, graph: str, values: Values) -> Iterator[Node]:
        ids = [0, 1]  # of the states
        for state in ids:
            yield Node(state, INPUT, (), INPUTS[state])
        for place in range(NODES):
            pair, a, b = values[3 * place : 3 * place + 3]
            first, second = map(int, str(pair).split())
            left = 2 + 3 * place
            yield Node(left, str(a), (ids[first],))
            yield Node(left + 1, str(b), (ids[second],))
            yield Node(left + 2, "add", (left, left + 1))
            ids.append(left + 2)
        yield Node(2 + 3 * NODES, "concat", tuple(ids[2:]))

    def read(self, graph: str, nodes: Sequence[Node]) -> Iterator[str]:
        states = {nodes[0].id: 0, nodes[1].id: 1}
        for place in range(NODES):
            left = 2 + 3 * place
            first = state_read(nodes[left], states)
            yield f"{first} {state_read(nodes[left + 1], states)}"
            yield nodes[left].op
            yield nodes[left + 1].op
            states[nodes[left + 2].id] = 2 + place

    # --- the network -------------------------------------------------------------------------------

    def site(self, graph: str) -> Site:
        shape = (self.filters, *self.input_shape[1:])
        return Site((shape, shape), self.filters, 2 if graph == REDUCTION else 1)

    def stem(self, plan: list[Placed]) -> tuple[int, int]:
        if self.template == CIFAR:
            stem = self.place(plan, "stem", STEM, -1, stride=1, width=3 * self.filters)
            return stem, stem
        first = self.place(plan, "stem.0", IMAGENET_FIRST, -1, width=self.filters)
        return first, self.place(plan, "stem.1", IMAGENET_SECOND, first, width=self.filters)

    def feed(
        self, plan: list[Placed], name: str, graph: Graph, before: int, last: int, width: int
    ) -> tuple[int, int]:
        first = self.prepare(plan, f"{name}.pre0", before, last, width)
        return first, self.prepare(plan, f"{name}.pre1", last, last, width)

    def head(self, plan: list[Placed], last: int) -> None:
        self.place(plan, "head", CLASSIFIER, last, classes=self.classes)


def _genes(graph: str) -> Iterator[Gene]:
    for state in STATES:
        yield Gene(f"{graph} {state} inputs", PAIRS[state])
        yield Gene(f"{graph} {state} first op", OPS)
        yield Gene(f"{graph} {state} second op", OPS)


def _is_edge(edge: Any) -> bool:
    return isinstance(edge, tuple) and len(edge) == 2 and type(edge[0]) is str and type(edge[1]) is int


def _fields(text: str) -> dict[str, Any]:
    """The four fields of a genotype, as literals; concats as lists. Nothing in the text is run."""
    names = [f"{cell}{suffix}" for cell in ("normal", "reduce") for suffix in ("", "_concat")]
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("it is no call")
        found = {str(field.arg): _literal(field.value) for field in call.keywords}
        if call.func.id != "Genotype" or sorted(found) != sorted(names):
            raise ValueError(f"it is {call.func.id} of {sorted(found)}")
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise InvalidArchitecture(
            "a genotype must be Genotype(normal=[…], normal_concat=range(2, 6), reduce=[…], "
            f"reduce_concat=range(2, 6)), but got {text!r} ({error})"
        ) from error
    return found


def _literal(node: ast.expr) -> Any:
    """A literal, or a range of two literals as a list."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        start, stop = (ast.literal_eval(argument) for argument in node.args)
        if type(start) is not int or type(stop) is not int or stop - start > NODES:
            raise ValueError(f"range({start!r}, {stop!r}) is no range of states")
        return list(range(start, stop))
    return ast.literal_eval(node)
