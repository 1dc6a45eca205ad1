"""Directed acyclic graphs with one input and one output, as the columns of their adjacency matrix.

Vertex 0 is the input, the last one the output, and every edge leads to a later vertex. Bit u of column v
says that there is an edge u -> v; column 0 is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

Columns = tuple[int, ...]

Tail = tuple[tuple[int, ...], int]
"""The end of a listing, and the vertices left to list, as bits."""


def edges(columns: Columns) -> int:
    """Number of edges."""
    return sum([column.bit_count() for column in columns])


def pruned(columns: Columns) -> list[int]:
    """The vertices on a path from the input to the output, in order; empty where there is no path."""
    last = len(columns) - 1
    reached = 1
    for vertex, column in enumerate(columns):
        if column & reached:
            reached |= 1 << vertex
    if not reached >> last & 1:
        return []
    leading = 1 << last
    for vertex in range(last, 0, -1):
        if leading >> vertex & 1:
            leading |= columns[vertex]
    on_a_path = reached & leading
    return [vertex for vertex in range(last + 1) if on_a_path >> vertex & 1]


def relisted(columns: Columns, order: Sequence[int]) -> Columns:
    """The graph of the vertices `order`, in this order; edges of all others are left out."""
    places = [(source, 1 << place) for place, source in enumerate(order)]
    return tuple([sum([bit for source, bit in places if columns[target] >> source & 1]) for target in order])


def rows(columns: Columns) -> list[int]:
    """Bit v of row u says that there is an edge u -> v."""
    return [
        sum([1 << target for target, column in enumerate(columns) if column >> source & 1])
        for source in range(len(columns))
    ]


def first_listing(columns: Columns, labels: Sequence[int]) -> list[int]:
    """The order of the vertices in which the graph comes first among all orders.

    Listings are compared by their columns from the last to the first, then by their labels. Two graphs are
    isomorphic exactly if their first listings are equal.

    Args:
        columns: every vertex is on a path from the input to the output.
        labels: of the vertices between input and output, in order.
    """
    last = len(columns) - 1
    reads = rows(columns)
    between = (1 << last) - 2
    tails: list[Tail] = [((last,), between)]
    for _ in labels:
        grown: dict[int, list[Tail]] = {0: [], 1: []}
        for tail, left in tails:
            ready = [v for v in range(last - 1, 0, -1) if left >> v & 1 and not reads[v] & left]
            twins: dict[tuple[int, int], int] = {}
            for vertex in ready:  # of those that may change places, the one of largest label stands last
                place = columns[vertex], reads[vertex]
                if place not in twins or labels[vertex - 1] > labels[twins[place] - 1]:
                    twins[place] = vertex
            for vertex in twins.values():
                grown[columns[last] >> vertex & 1].append(((vertex, *tail), left ^ 1 << vertex))
        tails = grown[0] or grown[1]
    orders = [[0, *tail] for tail, _ in tails]
    if len(orders) == 1:
        return orders[0]
    return min(
        orders,
        key=lambda order: (relisted(columns, order)[::-1], [labels[vertex - 1] for vertex in order[1:-1]]),
    )


def listings(vertices: int, most: int) -> int:
    """Number of graphs of so many vertices, all on paths from input to output, with at most `most` edges."""
    ways = {(0, 0): 1}  # the vertices that lead on, edges -> number of choices of the columns so far
    for vertex in range(1, vertices):
        grown: dict[tuple[int, int], int] = {}
        for (leading, used), number in ways.items():
            for column in range(1, 1 << vertex):
                state = leading | column, used + column.bit_count()
                if state[1] <= most:
                    grown[state] = grown.get(state, 0) + number
        ways = grown
    return sum(number for (leading, _), number in ways.items() if leading == (1 << vertices - 1) - 1)
