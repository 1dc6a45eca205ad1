"""Where the boxes and lines of a graph are drawn: from top to bottom, deep graphs in columns.

In its layer a box stands where its lines are straightest: least squares, with the order and the gaps kept.
The spine, the longest way to the output, goes straight down as far as it can. Units are pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from nas.report.layers import Inputs, Slots

ROWS, MORE = 12, 3  # layers of a column, and how many more it may have
GAP, LINE_GAP = 16, 12  # between boxes of a layer, and between a line and what is beside it
PORT_GAP, FEW = 15, 3  # between the ends of lines at one box, and up to how many make room for the spine's
LANE = 9.0  # between lines from one column to the next
LEAST, MOST, SLOPE = 24, 52, 0.06  # between layers, and how much more for each pixel that a line goes aside
SWEEPS = 40
STRAIGHT, SPINE = 8.0, 1e4  # pull of a whole line on its points, and of the spine; a line's end pulls with 1

Point = tuple[float, float]
Ports = Sequence[Sequence[float]]
"""For each slot where its inputs arrive, from its middle."""

HEAD = "m-3.5-5l3.5 5l3.5-5"


@dataclass(frozen=True)
class Line:
    """A line, or the part of it between two layers.

    Attributes:
        path: SVG path data, with a head where it ends at a box.
        to: the nodes that it leads to.
    """

    path: str
    to: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """A graph's places, from (0, 0) to (width, height).

    Attributes:
        centres: of the boxes.
        ports: for each node the points on its upper edge where its inputs arrive, from left to right.
    """

    width: float
    height: float
    centres: tuple[Point, ...]
    ports: tuple[tuple[Point, ...], ...]
    lines: tuple[Line, ...]


def layout(sizes: Sequence[Point], inputs: Inputs, ordered: Sequence[bool]) -> Layout:
    """Places for boxes of these sizes.

    Args:
        sizes: (width, height) of each node.
        ordered: whether the order of a node's inputs means something, and is kept; else they may arrive in
            any order.
    """
    slots = Slots.of(inputs, ordered)
    points = len(slots.layer) - slots.nodes
    all_sizes = [*sizes, *[(0.0, 0.0)] * points]
    ports = [_ports(slots, slot, all_sizes[slot][0]) for slot in range(len(all_sizes))]
    columns = _columns(slots)
    x = [0.0] * len(all_sizes)
    for column in columns:
        places = _Places(slots, column, [width for width, _ in all_sizes], ports).found()
        left = min(place - all_sizes[slot][0] / 2 for slot, place in places.items())
        for slot, place in places.items():
            x[slot] = place - left
    return _Drawing(slots, columns, all_sizes, ports, x).done()


def _ports(slots: Slots, slot: int, width: float) -> tuple[float, ...]:
    """Where the inputs arrive, from the middle of the box; the spine in the middle if they are few."""
    sources = slots.above[slot]
    middle = (len(sources) - 1) / 2
    if slot in slots.spine and len(sources) <= FEW:
        middle = next((port for port, source in enumerate(sources) if source in slots.spine), middle)
    farthest = max(middle, len(sources) - 1 - middle)
    step = min(PORT_GAP, (width / 2 - 7) / farthest) if farthest else 0.0
    return tuple((port - middle) * step for port in range(len(sources)))


def _columns(slots: Slots) -> list[range]:
    """Layers cut into the fewest columns of `ROWS`, where few lines are cut and the columns about even."""
    rows = len(slots.rows)
    count = math.ceil(rows / ROWS)
    cut = [len({source for slot in row for source in slots.above[slot]}) for row in slots.rows] + [0]
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, (0,))}  # end of the last column -> cost, ends
    for column in range(1, count + 1):
        reached: dict[int, tuple[float, tuple[int, ...]]] = {}
        for start, (cost, ends) in best.items():
            for end in range(start + 1, min(start + ROWS + MORE, rows) + 1):
                uneven = abs(end - column * rows / count) / ROWS
                entry = (cost + cut[end] + uneven, (*ends, end))
                reached[end] = min(entry, reached.get(end, entry))
        best = reached
    return [range(start, end) for start, end in pairwise(best[rows][1])]


# --- places in a layer -------------------------------------------------------------------------------


class _Places:
    """The middle of each slot of a column, found layer after layer; then whole lines are straightened.

    Attributes:
        x: of each slot; 0 on the spine.
    """

    def __init__(self, slots: Slots, column: range, widths: Sequence[float], ports: Ports) -> None:
        self.slots, self.column, self.ports = slots, column, ports
        self.x: dict[int, float] = {}
        self.gaps: dict[int, float] = {}  # from the slot to the left
        self.offsets: dict[int, float] = {}  # from the first slot of the layer, at the least
        for layer in column:
            row = slots.rows[layer]
            self.x[row[0]] = self.offsets[row[0]] = 0.0
            for left, right in pairwise(row):
                gap = GAP if left < slots.nodes and right < slots.nodes else LINE_GAP
                self.gaps[right] = (widths[left] + widths[right]) / 2 + gap
                self.x[right] = self.offsets[right] = self.offsets[left] + self.gaps[right]
        self.lines = self._lines()
        self.line = {slot: line for line in self.lines for slot in line}

    def _lines(self) -> list[list[int]]:
        """The points of each line that passes layers, from top to bottom; a fork ends one."""
        lines: dict[int, list[int]] = {}
        for layer in self.column:
            for slot in self.slots.rows[layer]:
                if slot >= self.slots.nodes:
                    line = lines.pop(self.slots.above[slot][0], [])
                    lines[slot] = [*line, slot]
        return list(lines.values())

    def found(self) -> dict[int, float]:
        for sweep in range(SWEEPS):
            for layer in self.column if sweep % 2 == 0 else reversed(self.column):
                self._settle(self.slots.rows[layer])
        for _ in range(2):
            for line in self.lines:
                self._straighten(line)
        return self.x

    def _pulls(self, slot: int) -> list[tuple[float, float]]:
        """(where a line to a layer beside would be straight, weight)."""
        pulls = []
        if self.slots.layer[slot] > self.column.start:
            pulls = [
                (self.x[source] - self.ports[slot][port], self._weight(slot, source))
                for port, source in enumerate(self.slots.above[slot])
            ]
        if self.slots.layer[slot] + 1 < self.column.stop:
            pulls += [
                (self.x[reader] + self.ports[reader][port], self._weight(slot, reader))
                for reader, port in self.slots.below[slot]
            ]
        return pulls

    def _weight(self, a: int, b: int) -> float:
        return 1.0 if a < self.slots.nodes and b < self.slots.nodes else 2.0

    def _wanted(self, slot: int) -> tuple[float, float]:
        """(where a slot would like to be, weight)."""
        if slot in self.slots.spine:
            return 0.0, SPINE
        pulls = self._pulls(slot) or [(self.x[slot], 0.1)]
        if slot >= self.slots.nodes:
            line = self.line[slot]
            pulls.append((sum(self.x[point] for point in line) / len(line), STRAIGHT))
        total = sum(weight for _, weight in pulls)
        return sum(place * weight for place, weight in pulls) / total, total

    def _settle(self, row: Sequence[int]) -> None:
        """Moves a layer to where its lines are straightest, with the order and the gaps kept."""
        wanted = [self._wanted(slot) for slot in row]
        rising = _rising([(x - self.offsets[slot], w) for slot, (x, w) in zip(row, wanted, strict=True)])
        for slot, place in zip(row, rising, strict=True):
            self.x[slot] = place + self.offsets[slot]

    def _straighten(self, line: Sequence[int]) -> None:
        """Makes a line straight, in as few pieces as there is room for."""
        piece: list[int] = []
        low, high = -math.inf, math.inf
        for slot in line:
            least, most = self._room(slot)
            if piece and max(low, least) > min(high, most):
                self._move(piece, low, high)
                piece, low, high = [], -math.inf, math.inf
            piece.append(slot)
            low, high = max(low, least), min(high, most)
        self._move(piece, low, high)

    def _room(self, slot: int) -> tuple[float, float]:
        """Between its neighbours."""
        row = self.slots.rows[self.slots.layer[slot]]
        place = row.index(slot)
        low = self.x[row[place - 1]] + self.gaps[slot] if place else -math.inf
        right = row[place + 1 : place + 2]
        return low, self.x[right[0]] - self.gaps[right[0]] if right else math.inf

    def _move(self, piece: Sequence[int], low: float, high: float) -> None:
        middle = sum(self.x[slot] for slot in piece) / len(piece)
        for slot in piece:
            self.x[slot] = min(max(middle, low), high)


def _rising(wanted: Sequence[tuple[float, float]]) -> list[float]:
    """The numbers that never fall and are closest to (number, weight), in weighted least squares.

    >>> _rising([(1.0, 1.0), (4.0, 1.0), (2.0, 3.0)])
    [1.0, 2.5, 2.5]
    """
    pools: list[tuple[float, float, int]] = []  # (number, weight, how many)
    for value, weight in wanted:
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            number, heavy, many = pools.pop()
            total = heavy + pool[1]
            pool = ((number * heavy + pool[0] * pool[1]) / total, total, many + pool[2])
        pools.append(pool)
    return [number for number, _, many in pools for _ in range(many)]


# --- lines -------------------------------------------------------------------------------------------


class _Drawing:
    """Columns side by side, and the lines between their boxes.

    Attributes:
        lanes: first layer of a column -> what leads there from the one before, the shortest way first.
        edges: first layer of a column -> right edge of the one before.
        ceiling: the upper edge of the first boxes; lines from column to column run above.
    """

    def __init__(
        self, slots: Slots, columns: Sequence[range], sizes: Sequence[Point], ports: Ports, x: Sequence[float]
    ) -> None:
        self.slots = slots
        self.lanes = {
            column.start: sorted(
                {source for slot in slots.rows[column.start] for source in slots.above[slot]},
                key=lambda source: -x[source],
            )
            for column in columns[1:]
        }
        self.ceiling = LANE * (1 + max((len(lane) for lane in self.lanes.values()), default=-1))
        self.edges: dict[int, float] = {}
        self.width = 0.0
        self.x, self.y = list(x), [0.0] * len(x)
        self.tops, self.bottoms = [0.0] * len(slots.rows), [0.0] * len(slots.rows)
        for column in columns:
            if column.start:
                self.edges[column.start] = self.width
                self.width += LANE * (len(self.lanes[column.start]) + 3)
            self._place(column, sizes)
        self.heights = [height for _, height in sizes]
        self.ports = [
            tuple((self.x[slot] + port, self.y[slot] - self.heights[slot] / 2) for port in arrivals)
            for slot, arrivals in enumerate(ports)
        ]

    def _place(self, column: range, sizes: Sequence[Point]) -> None:
        """Puts a column to the right of what is there, its layers further apart where lines go far aside."""
        left, bottom = self.width, self.ceiling
        for layer in column:
            row = self.slots.rows[layer]
            for slot in row:
                self.x[slot] += left
                self.width = max(self.width, self.x[slot] + sizes[slot][0] / 2)
            if layer > column.start:
                aside = max(abs(self.x[slot] - self.x[s]) for slot in row for s in self.slots.above[slot])
                bottom += min(LEAST + SLOPE * aside, MOST)
            self.tops[layer], bottom = bottom, bottom + max(sizes[slot][1] for slot in row)
            self.bottoms[layer] = bottom
            for slot in row:
                self.y[slot] = (self.tops[layer] + bottom) / 2

    def done(self) -> Layout:
        targets = self.slots.targets()
        lines = [
            Line(self._path(source, slot, port), targets[slot])
            for slot, sources in enumerate(self.slots.above)
            for port, source in enumerate(sources)
        ]
        floor = [self._below(start, len(lane) - 1) for start, lane in self.lanes.items()]
        nodes = self.slots.nodes
        centres = tuple(zip(self.x[:nodes], self.y[:nodes], strict=True))
        return Layout(
            self.width, max([*self.bottoms, *floor]), centres, tuple(self.ports[:nodes]), tuple(lines)
        )

    def _below(self, start: int, lane: int) -> float:
        """How far down a line to the column that starts at this layer goes."""
        return self.bottoms[start - 1] + LANE * (lane + 1)

    def _path(self, source: int, slot: int, port: int) -> str:
        """From a slot to one in the layer below, perhaps in the next column."""
        layer, (x, y) = self.slots.layer[slot], self.ports[slot][port]
        head = HEAD if slot < self.slots.nodes else ""
        top = (
            self.tops[layer - 1] if source >= self.slots.nodes else self.y[source] + self.heights[source] / 2
        )
        start = (self.x[source], top)
        if layer not in self.lanes:
            return _curve(start, self.bottoms[layer - 1], self.tops[layer], (x, y)) + head
        lane = self.lanes[layer].index(source)
        aside, below = self.edges[layer] + LANE * (lane + 1.5), self._below(layer, lane)
        over = self.ceiling - LANE * (len(self.lanes[layer]) - lane)
        corners = [(start[0], below), (aside, below), (aside, over), (x, over)]
        return _rounded([start, *corners, (x, y)]) + head


def coordinate(value: float) -> str:
    """In tenths of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def _point(x: float, y: float) -> str:
    return f"{coordinate(x)} {coordinate(y)}"


def _curve(start: Point, leave: float, arrive: float, end: Point) -> str:
    """Straight down out of one layer, an S to the next, and straight down into it."""
    if abs(start[0] - end[0]) < 0.5:
        return f"M{_point(*start)}V{coordinate(end[1])}"
    middle = (leave + arrive) / 2
    bend = f"C{_point(start[0], middle)} {_point(end[0], middle)} {_point(end[0], arrive)}"
    return f"M{_point(*start)}V{coordinate(leave)}{bend}V{coordinate(end[1])}"


def _rounded(points: Sequence[Point], radius: float = 8.0) -> str:
    """Straight lines with round corners."""
    path = f"M{_point(*points[0])}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        near, far = _towards(corner, before, radius), _towards(corner, after, radius)
        path += f"L{_point(*near)}Q{_point(*corner)} {_point(*far)}"
    return f"{path}L{_point(*points[-1])}"


def _towards(point: Point, other: Point, distance: float) -> Point:
    """From a point towards another, half of the way at most."""
    length = math.dist(point, other)
    share = min(distance / length, 0.5) if length else 0.0
    return point[0] + share * (other[0] - point[0]), point[1] + share * (other[1] - point[1])
