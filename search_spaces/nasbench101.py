"""NAS-Bench-101 (Ying et al. 2019): any cell of at most 7 vertices and 9 edges, 3 ops.

A vertex sums what it reads and applies its op; the output concatenates. The cell's input is projected by a
1x1 convolution wherever it is read. Nine copies stand in three stacks of 128, 256 and 512 channels,
max-pooling between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from hashlib import md5
from itertools import count
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.architecture import Architecture, Graph, InvalidArchitecture
from nas.protocols import NothingToChange
from search_spaces import dag_cell, encodings
from search_spaces.dag import Columns, edges, first_listing, listings, rows
from search_spaces.dag_cell import NEW, Spec, vertex_channels
from search_spaces.fragments import Builder, Shape
from search_spaces.graph_space import INPUT, REMEMBERED, Encoding, GraphSpace, Site
from search_spaces.operations import CLASSIFIER, JOINS, STEM, Operation, fragment_of
from search_spaces.plan import Cell, Placed

OPS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
"""The official names, in the official order."""

OUTPUT = "output"
TRIES = 10_000
"""Most draws until a cell is valid; of 7 vertices and 9 edges three in four are."""


def _narrowed(b: Builder, x: int, width: int) -> int:
    """The first `width` channels."""
    return x if b.shape(x)[0] == width else b.narrow(f"narrow{-1 - x}", x, width)


def _conv(b: Builder, p: Mapping[str, Any], kernel: int) -> None:
    b.conv_bn_relu("block", _narrowed(b, -1, p["width"]), p["width"], kernel)


def _pool(b: Builder, p: Mapping[str, Any]) -> None:
    b.pool("pool", _narrowed(b, -1, p["width"]), "max_pool", 3, 1)


def _sum(b: Builder, p: Mapping[str, Any]) -> None:
    b.add("sum", [_narrowed(b, -1 - i, p["width"]) for i in range(b.inputs)])


DOWNSAMPLE = Operation((), lambda b, _: b.pool("pool", -1, "max_pool", 2, 2, pad=False, ceil=True))


class NASBench101Space(GraphSpace):
    """423,624 networks, 1,293,208 written forms: pruned cells, their vertices in any topological order.

    The canonical form lists a cell as the published table does. The order matters to its channels: where
    those of the output cannot be divided evenly, the first vertices get one more.

    Args:
        input_shape: (channels, height, width), sides at least 2^(stacks - 1).
        classes: number of classes.
        vertices: most vertices of a cell, input and output included; 2 to 10.
        edges: most edges of a cell.
        width: channels of the stem and the first stack, at least `vertices` - 2; they double stack by stack.
        stacks: number of stacks.
        cells: copies of the cell in each stack.

    Example:
        >>> space = NASBench101Space()
        >>> arch = space.decode("111010/00001/0001/100/01/1:10002")
        >>> space.code(space.canonical(arch)), space.cost(arch).params
        ('111100/00001/0001/001/10/1:01200', 2694282)
    """

    name = "nasbench101"
    graphs = ("cell",)
    operations: ClassVar = {
        "conv3x3-bn-relu": Operation((), partial(_conv, kernel=3), place=("width",)),
        "conv1x1-bn-relu": Operation((), partial(_conv, kernel=1), place=("width",)),
        "maxpool3x3": Operation((), _pool, place=("width",)),
        dag_cell.PROJECTION: Operation(
            (), lambda b, p: b.conv_bn_relu("block", -1, p["width"], 1), place=("width",)
        ),
        dag_cell.ADD: Operation((), _sum, (2, None), place=("width",)),
        dag_cell.CONCAT: JOINS["concat"],
    }

    def __init__(
        self,
        input_shape: Shape = (3, 32, 32),
        classes: int = 10,
        vertices: int = 7,
        edges: int = 9,
        width: int = 128,
        stacks: int = 3,
        cells: int = 3,
    ) -> None:
        super().__init__(input_shape, classes)
        if type(vertices) is not int or type(edges) is not int or not 2 <= vertices <= 10 or edges < 1:
            raise ValueError(f"`2 <= vertices <= 10 and edges >= 1` must hold, but got {vertices=}, {edges=}")
        if any(type(number) is not int or number < 1 for number in (width, stacks, cells)):
            raise ValueError(
                f"width, stacks and cells must be positive integers, but got {width=}, {stacks=}, {cells=}"
            )
        if width < vertices - 2:
            raise ValueError(f"`width >= vertices - 2` must hold, but got {width=}, {vertices=}")
        if min(self.input_shape[1:]) < 2 ** (stacks - 1):
            raise ValueError(
                f"the sides of input_shape must be at least {2 ** (stacks - 1)}, but got {self.input_shape}"
            )
        self.vertices, self.edges = vertices, edges
        self.width, self.stacks, self.cells = width, stacks, cells

    def _remember(self) -> None:
        super()._remember()
        self._specs = lru_cache(REMEMBERED)(self._read)

    def size(self) -> int:
        """Number of written forms."""
        return sum(
            listings(vertices, self.edges) * len(OPS) ** (vertices - 2)
            for vertices in range(2, self.vertices + 1)
        )

    # --- published forms ---------------------------------------------------------------------------

    def from_matrix(self, matrix: ArrayLike, ops: Sequence[str]) -> Architecture:
        """The cell of an adjacency matrix and the ops of its vertices, pruned as the official `ModelSpec` is.

        Args:
            matrix: of 0 and 1, upper triangular; int[v, v].
            ops: "input", one of `OPS` for each vertex between, "output".

        Raises:
            InvalidArchitecture: they are no cell of this space.
        """
        try:
            array = np.asarray(matrix)
        except ValueError as error:
            raise InvalidArchitecture(f"a matrix must be square, but {error}") from error
        if array.ndim != 2 or array.shape[0] != array.shape[1] or len(array) < 2:
            raise InvalidArchitecture(f"a matrix must be square, at least 2 x 2, but got {array.shape}")
        if not np.isin(array, (0, 1)).all() or np.tril(array).any():
            raise InvalidArchitecture(
                f"a matrix must be upper triangular, of 0 and 1, but got {array.tolist()}"
            )
        if len(ops) != len(array) or (ops[0], ops[-1]) != (INPUT, OUTPUT) or set(ops[1:-1]) - set(OPS):
            raise InvalidArchitecture(
                f"ops must be 'input', {len(array) - 2} of {OPS}, 'output', but got {list(ops)}"
            )
        columns = tuple([sum([1 << int(u) for u in np.flatnonzero(column)]) for column in array.T])
        return self.from_columns(columns, tuple(ops[1:-1]))

    def from_columns(self, columns: Columns, ops: tuple[str, ...]) -> Architecture:
        """The cell of these edges, as in `search_spaces.dag`, and the ops of the vertices between, pruned.

        Raises:
            InvalidArchitecture: no path leads from the input to the output, or the cell is too large.
        """
        spec = Spec(columns, ops, (NEW,) * len(columns)).pruned()
        if not spec.columns:
            raise InvalidArchitecture("there must be a path from the input to the output, but there is none")
        self._check_limits(spec)
        return self._founded(spec)

    def matrix(self, arch: Architecture) -> tuple[NDArray[np.int64], list[str]]:
        """Adjacency matrix, int64[v, v], and ops of a written form, as `from_matrix` takes them."""
        spec = self._spec(arch)
        size = len(spec.columns)
        matrix = np.array([[column >> u & 1 for column in spec.columns] for u in range(size)])
        return matrix, [INPUT, *spec.ops, OUTPUT]

    def decode(self, text: str) -> Architecture:
        """The cell of a text like "11/1:0": rows of the upper triangle, then an op's place in `OPS` a vertex.

        What is on no path from the input to the output is pruned.

        Raises:
            InvalidArchitecture: the text is no such text, or no cell of this space.
        """
        triangle, colon, digits = text.partition(":")
        lines = triangle.split("/")
        size = len(lines) + 1
        if (
            not colon
            or [len(line) for line in lines] != [*range(size - 1, 0, -1)]
            or set("".join(lines)) - set("01")
            or len(digits) != size - 2
            or set(digits) - set("012")
        ):
            raise InvalidArchitecture(
                "a code must be the rows of an upper triangle of 0 and 1, each one shorter than the one "
                f"before, and a digit of 012 for each vertex between, as '11/1:0', but got {text!r}"
            )
        matrix = np.zeros((size, size), dtype=int)
        for place, line in enumerate(lines):
            matrix[place, place + 1 :] = [int(bit) for bit in line]
        return self.from_matrix(matrix, [INPUT, *(OPS[int(digit)] for digit in digits), OUTPUT])

    def code(self, arch: Architecture) -> str:
        """The text of a written form, as `decode` takes it."""
        matrix, ops = self.matrix(arch)
        lines = ["".join(map(str, row[place + 1 :])) for place, row in enumerate(matrix.tolist()[:-1])]
        return "/".join(lines) + ":" + "".join(str(OPS.index(op)) for op in ops[1:-1])

    def module_hash(self, arch: Architecture) -> str:
        """The key of the cell's row in the published table (`graph_util.hash_module`), 32 hex digits.

        Equal for isomorphic cells: a vertex's hash is that of its degrees and op, then, as often as there are
        vertices, that of its own and its neighbours' hashes.
        """
        spec = self._spec(arch)
        reads = rows(spec.columns)
        labels = [-1, *(OPS.index(op) for op in spec.ops), -2]
        hashes = [
            _md5((read.bit_count(), column.bit_count(), label))
            for read, column, label in zip(reads, spec.columns, labels, strict=True)
        ]
        for _ in labels:
            hashes = [
                _md5(f"{_joined(hashes, column)}|{_joined(hashes, read)}|{own}")
                for column, read, own in zip(spec.columns, reads, hashes, strict=True)
            ]
        return _md5(sorted(hashes))

    # --- sampling and changes ----------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Every edge between `vertices` vertices by a fair coin, every op uniform, until valid; then pruned.

        Valid: there is a path from the input to the output, and at most `edges` edges are on such paths.
        This is the published `random_spec`; it is uniform neither over written forms nor over networks.

        Raises:
            RuntimeError: of `TRIES` draws none is valid.
        """
        pairs = self.vertices * (self.vertices - 1) // 2
        forms = 2**pairs * len(OPS) ** (self.vertices - 2)

        def draw() -> Spec:
            digits, bits = divmod(int(rng.integers(forms)), 2**pairs)
            columns = [bits >> v * (v - 1) // 2 & (1 << v) - 1 for v in range(self.vertices)]
            ops = [OPS[digits // len(OPS) ** place % len(OPS)] for place in range(self.vertices - 2)]
            return Spec(tuple(columns), tuple(ops), (NEW,) * self.vertices)

        return self._founded(self._until_valid(draw))

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """One change: its kind uniform among the kinds that apply, then uniform within the kind.

        The kinds are those of `search_spaces.dag_cell.CHANGES`. What a change leaves on no path is pruned.
        """
        spec = self._spec(arch)
        kinds = list(dag_cell.CHANGES)
        while kinds:
            moves = kinds.pop(int(rng.integers(len(kinds))))(spec, self.vertices, OPS)
            while moves:
                child = moves.pop(int(rng.integers(len(moves))))().pruned()
                if self._is_valid(child):
                    return self._written(child, arch)
        raise NothingToChange("the space holds one architecture only: there is nothing to change")

    def neighbors(self, arch: Architecture) -> list[Architecture]:
        """All architectures one change away, as `mutate` makes them."""
        spec = self._spec(arch)
        moves = [move for change in dag_cell.CHANGES for move in change(spec, self.vertices, OPS)]
        children = [move().pruned() for move in moves]
        written = [self._written(child, arch) for child in children if self._is_valid(child)]
        return list(dict.fromkeys(written))  # one edge less may cut a vertex off, as another edge less does

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """Each vertex, with the edges into it, from either parent by a fair coin, until valid; then pruned.

        Vertices correspond by their place in the order, the outputs to each other.
        """
        mine, theirs = (self._spec(arch).padded(self.vertices, OPS[0]) for arch in (a, b))
        own = [*zip(mine.columns, (INPUT, *mine.ops, OUTPUT), mine.ids, strict=True)]
        other = [*zip(theirs.columns, (INPUT, *theirs.ops, OUTPUT), strict=True)]

        def draw() -> Spec:
            from_b = rng.integers(2, size=self.vertices).tolist()
            child = [
                (*y, NEW) if coin and x[:2] != y else x for x, y, coin in zip(own, other, from_b, strict=True)
            ]
            columns, ops, ids = zip(*child, strict=True)
            return Spec(columns, ops[1:-1], ids)

        return self._written(self._until_valid(draw), a, b)

    def _is_valid(self, spec: Spec) -> bool:
        return bool(spec.columns) and edges(spec.columns) <= self.edges

    def _until_valid(self, draw: Callable[[], Spec]) -> Spec:
        for _ in range(TRIES):
            spec = draw().pruned()
            if self._is_valid(spec):
                return spec
        raise RuntimeError(f"of {TRIES} cells drawn none has a path and at most {self.edges} edges")

    # --- the written form --------------------------------------------------------------------------

    def _founded(self, spec: Spec) -> Architecture:
        """In natural ids: three a vertex by its place, the last three the output's."""
        places = [*range(len(spec.columns) - 1), self.vertices - 1]
        ids = tuple([(3 * place - 2, 3 * place - 1, 3 * place) for place in places])
        return self._written(Spec(spec.columns, spec.ops, ids))

    def _written(self, spec: Spec, *parents: Architecture) -> Architecture:
        """The architecture of a cell; new nodes take ids that no parent has."""
        taken = {node.id for parent in parents for node in parent.graph("cell")}
        fresh = (i for i in count() if i not in taken)
        return Architecture(self.name, (("cell", Graph(tuple(dag_cell.nodes(spec, fresh)))),))

    def _spec(self, arch: Architecture) -> Spec:
        return self._specs(arch.graph("cell"))

    def _read(self, graph: Graph) -> Spec:
        spec = dag_cell.read(graph, OPS)
        self._check_limits(spec)
        return spec

    def _check_limits(self, spec: Spec) -> None:
        if len(spec.columns) > self.vertices or edges(spec.columns) > self.edges:
            raise InvalidArchitecture(
                f"a cell must have at most {self.vertices} vertices and {self.edges} edges, but got "
                f"{len(spec.columns)} and {edges(spec.columns)}"
            )

    def check_form(self, arch: Architecture) -> None:
        self._spec(arch)

    def _contracted(self, graph: Graph, site: Site) -> Graph:
        """The same cell, listed as the table lists it; there is nothing to leave out."""
        spec = self._specs(graph)
        order = first_listing(spec.columns, [OPS.index(op) for op in spec.ops])
        return graph if order == sorted(order) else Graph(tuple(dag_cell.nodes(spec.of(order), count())))

    # --- networks ----------------------------------------------------------------------------------

    def site(self, graph: str) -> Site:
        return Site(((self.width, *self.input_shape[1:]),), self.width)

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        graph = arch.graph("cell")
        x = self.place(plan, "stem", STEM, -1, kernel=3, stride=1, width=self.width)
        for stack in range(self.stacks):
            if stack:
                x = self.place(plan, f"downsample.{stack - 1}", DOWNSAMPLE, x)
            for copy in range(self.cells):
                name = f"cell.{stack * self.cells + copy}"
                x = self.place_graph(plan, name, graph, (x,), width=self.width * 2**stack)
        self.place(plan, "head", CLASSIFIER, x, classes=self.classes)
        return plan

    def _cell(self, graph: Graph, site: Site) -> tuple[Cell, tuple[int, ...]]:
        """As in `GraphSpace`, but each vertex has its own width."""
        spec = self._specs(graph)
        widths = {
            node_id: width
            for ids, width in zip(spec.ids, vertex_channels(spec.columns, site.width), strict=True)
            for node_id in ids
        }
        start = graph.nodes[0].id
        ends, shapes = {start: -1}, {start: site.inputs[0]}
        places: list[Placed] = []
        for node in graph.nodes[1:]:
            given = tuple([shapes[source] for source in node.inputs])
            fragment = fragment_of(self.operations, node, given, width=widths[node.id])
            places.append(Placed(f"n{node.id}", fragment, tuple([ends[source] for source in node.inputs])))
            ends[node.id], shapes[node.id] = len(places) - 1, fragment.shape
        return Cell(site.inputs, tuple(places), len(places) - 1), (0,)

    # --- encodings ---------------------------------------------------------------------------------

    def encode(self, arch: Architecture) -> NDArray[np.float64]:
        """Adjacency matrix and one-hot ops, see `search_spaces.encodings.adjacency`."""
        self._spec(arch)
        return encodings.adjacency(arch.graph("cell"), OPS, self.vertices)

    def encodings(self) -> dict[str, Encoding]:
        return {"adjacency": self.encode, "path": self._encode_paths}

    def _encode_paths(self, arch: Architecture) -> NDArray[np.float64]:
        self._spec(arch)
        return encodings.paths(arch.graph("cell"), OPS, self.vertices - 2)


def _joined(hashes: Sequence[str], vertices: int) -> str:
    return "".join(sorted([value for place, value in enumerate(hashes) if vertices >> place & 1]))


def _md5(value: object) -> str:
    return md5(str(value).encode(), usedforsecurity=False).hexdigest()
