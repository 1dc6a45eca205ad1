"""Cells as vectors of fixed length, for surrogates: adjacency matrix and paths (White et al. 2021).

Both see a cell as its steps: the nodes whose op is one of `ops`. Nodes of other ops (sums, concatenations,
projections) are passed through. What stands for the end of the cell is a vertex of its own, the output.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Graph
from search_spaces.graph_space import INPUT


def adjacency(graph: Graph, ops: Sequence[str], vertices: int) -> NDArray[np.float64]:
    """The upper triangle of the adjacency matrix, row by row, then the one-hot op of each vertex between.

    Inputs and steps stand in the order in which they are listed, the output last; vertices that the graph
    has not are zeros.

    Args:
        graph: a cell with one input node.
        ops: names of the steps' ops.
        vertices: most vertices of a cell, input and output included.

    Returns:
        `float64[vertices * (vertices - 1) / 2 + (vertices - 2) * len(ops)]`.

    Raises:
        ValueError: the cell has more vertices.
    """
    matrix = np.zeros((vertices, vertices))
    one_hot = np.zeros((vertices - 2, len(ops)))
    ends: dict[int, list[int]] = {}  # the vertices whose values reach a node's readers
    steps = 0
    for node in graph:
        below = sorted({vertex for source in node.inputs for vertex in ends[source]})
        if node.op == INPUT:
            ends[node.id] = [0]
        elif node.op in ops:
            steps += 1
            if steps > vertices - 2:
                raise ValueError(f"a cell must have at most {vertices - 2} steps, but got more")
            matrix[below, steps] = 1
            one_hot[steps - 1, ops.index(node.op)] = 1
            ends[node.id] = [steps]
        else:
            ends[node.id] = below
    matrix[ends[graph.output.id], -1] = 1
    return np.concatenate([matrix[np.triu_indices(vertices, 1)], one_hot.ravel()])


def paths(graph: Graph, ops: Sequence[str], longest: int, zeros: Collection[str] = ()) -> NDArray[np.float64]:
    """Which sequences of ops lie on a path from the input to the output (BANANAS, White et al. 2021, 3.1).

    A path of the ops number o_0, o_1, … of `ops`, from the input on, has the index sum of k^i (o_i + 1),
    k = len(ops): the direct path has index 0, and shorter paths come first, so that a slice is the
    truncated path encoding. Equal for isomorphic cells.

    Args:
        graph: the cell; each of its input nodes starts paths.
        ops: names of the steps' ops.
        longest: most steps of a path.
        zeros: ops that no path crosses.

    Returns:
        `float64[sum of k^i for i = 0 … longest]`, 1 for each path that there is.

    Raises:
        ValueError: the cell has a longer path.
    """
    encoding = np.zeros(sum(len(ops) ** length for length in range(longest + 1)))
    found: dict[int, set[tuple[int, int]]] = {}  # length and index of the paths from the input to a node
    for node in graph:
        reaching = {path for source in node.inputs for path in found[source]}
        if node.op == INPUT:
            reaching = {(0, 0)}
        elif node.op in zeros:
            reaching = set()
        elif node.op in ops:
            digit = ops.index(node.op) + 1
            reaching = {(length + 1, index + digit * len(ops) ** length) for length, index in reaching}
        found[node.id] = reaching
    for length, index in found[graph.output.id]:
        if length > longest:
            raise ValueError(f"a path must have at most {longest} steps, but got one of {length}")
        encoding[index] = 1
    return encoding
