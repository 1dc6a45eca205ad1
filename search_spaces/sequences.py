"""Spaces of chains: lists of layers of variable length, whose rules are an automaton.

    input -> layer -> layer -> … -> layer

A subclass says in which state a chain starts, which layers may come in a state, which state follows, and
where a chain may end. Counting, uniform sampling, mutation, crossover, neighbours, encoding and the check of
what was written by hand follow.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node, Params, Scalar
from nas.protocols import NothingToChange
from search_spaces.fragments import Shape
from search_spaces.graph_space import INPUT, REMEMBERED, GraphSpace, Site

Layer = tuple[str, Params]
"""Op and parameters of one node of a chain, see `layer`."""

State = Hashable
"""All that the rules want to know of the layers so far."""

Choices = tuple[tuple[Layer, ...], ...]

Edit = tuple[int, int, Choices]
"""(start, stop, choices): the layers from `start` to `stop` become one of `choices`."""

Differs = Literal["op", "params", "anything"]

Fits = Callable[[State, int], bool]
"""(state, place) -> whether the layers of a chain from `place` on can come in `state` and end there."""


def layer(op: str, **params: Scalar) -> Layer:
    """One layer, its parameters sorted by name."""
    return op, tuple(sorted(params.items()))


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain as the rules see it.

    Attributes:
        layers: in order.
        states: before each layer, and behind the last one.
    """

    layers: tuple[Layer, ...]
    states: tuple[State, ...]


class SequenceSpace(GraphSpace):
    """Chains that an automaton accepts.

    The rules must be such that every chain they allow can be built.

    Args:
        input_shape, classes: as in `GraphSpace`.
        depth: smallest and largest number of layers.

    Raises:
        ValueError: an argument is senseless.
    """

    def __init__(self, input_shape: Shape, classes: int, depth: Sequence[int]) -> None:
        super().__init__(input_shape, classes)
        if (
            len(depth) != 2
            or any(type(number) is not int for number in depth)
            or not 0 <= depth[0] <= depth[1]
        ):
            raise ValueError(
                f"depth must be two integers, `0 <= smallest <= largest`, but got {tuple(depth)}"
            )
        self.depth = (depth[0], depth[1])

    def _remember(self) -> None:
        super()._remember()
        self._own: dict[Layer, Layer] = {}  # one object a layer, so that reading can compare by identity
        self._moves = cache(self._find_moves)
        self._ways = cache(self._count_ways)
        self._branches = cache(self._find_branches)
        self._others = cache(self._find_others)
        self._columns = cache(self._find_columns)
        self._chains = lru_cache(REMEMBERED)(self._read)

    # --- what a space says -------------------------------------------------------------------------

    @abstractmethod
    def start(self) -> State:
        """The state before the first layer."""

    @abstractmethod
    def layers(self, state: State) -> Sequence[Layer]:
        """The layers that may come next, all different, always in one order."""

    @abstractmethod
    def step(self, state: State, layer: Layer) -> State:
        """The state behind one of the layers that may come."""

    def may_end(self, state: State) -> bool:
        """Whether a chain may end here."""
        return True

    def refusal(self, state: State, layer: Layer) -> str:
        """Which rule keeps `layer` from coming here; a space may say it better."""
        op, params = layer
        allowed = [dict(other) for known, other in self._moves(state) if known == op]
        if allowed:
            return f"its parameters must be one of {allowed} here, but got {dict(params)}"
        ops = ", ".join(dict.fromkeys(known for known, _ in self._moves(state)))
        return f"a layer here must be one of {ops or 'none'}, but got {op!r}"

    def site(self, graph: str) -> Site:
        return Site((self.input_shape,))

    # --- counting and sampling ---------------------------------------------------------------------

    def size(self) -> int:
        """Number of written forms."""
        return sum(self._ways(self.start(), depth) for depth in self._depths())

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Uniform over the written forms: where longer chains are more, most are long."""
        start = self.start()
        bounds = tuple(accumulate(self._ways(start, depth) for depth in self._depths()))
        if not bounds[-1]:
            raise ValueError(f"the rules must allow a chain of {self._depth_text()} layers, but allow none")
        place, rank = _located(bounds, _below(bounds[-1], rng))
        state, layers = start, []
        for left in reversed(range(self.depth[0] + place)):
            moves, bounds = self._branches(state, left)
            place, rank = _located(bounds, rank)
            chosen, state = moves[place]
            layers.append(chosen)
        return self._write(layers, range(len(layers) + 1))

    def _depths(self) -> range:
        return range(self.depth[0], self.depth[1] + 1)

    def _depth_text(self) -> str:
        return f"{self.depth[0]} to {self.depth[1]}"

    def _find_moves(self, state: State) -> Mapping[Layer, State]:
        found = self.layers(state)
        moves = {
            self._own.setdefault(following, following): self.step(state, following) for following in found
        }
        if len(moves) < len(found):
            raise ValueError(f"the layers that may come in state {state!r} must differ, but got {found}")
        return moves

    def _count_ways(self, state: State, left: int) -> int:
        """Number of ways to end a chain with so many more layers."""
        if not left:
            return int(self.may_end(state))
        return sum(self._ways(after, left - 1) for after in self._moves(state).values())

    def _find_branches(
        self, state: State, left: int
    ) -> tuple[tuple[tuple[Layer, State], ...], tuple[int, ...]]:
        """The moves, and the ways to end with `left` layers behind them, summed up move by move."""
        moves = tuple(self._moves(state).items())
        return moves, tuple(accumulate(self._ways(after, left) for _, after in moves))

    # --- one change --------------------------------------------------------------------------------

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """One change: its kind uniform among those that apply, then uniform over the chains it can give.

        The kinds: another op for one layer, with any parameters; other parameters; a layer more; one less.
        """
        chain = self._chain(arch)
        kinds = self._edits(chain)
        for kind in rng.permutation(len(kinds)):
            edits = list(kinds[kind])
            if edits:
                bounds = tuple(accumulate(len(choices) for _, _, choices in edits))
                place, rank = _located(bounds, int(rng.integers(bounds[-1])))
                start, stop, choices = edits[place]
                return self._edited(arch, chain, start, stop, choices[rank])
        raise NothingToChange("no other chain is one change away: there is nothing to change")

    def neighbors(self, arch: Architecture) -> list[Architecture]:
        """All architectures that `mutate` can give, each chain once."""
        chain = self._chain(arch)
        return [
            self._edited(arch, chain, start, stop, new)
            for edits in self._edits(chain)
            for start, stop, choices in edits
            for new in choices
        ]

    def _edits(self, chain: Chain) -> tuple[Iterator[Edit], ...]:
        """The edits of each kind that keep to the rules."""
        fits = self._fitting(chain.layers)
        return (
            self._replacements(chain, fits, "op"),
            self._replacements(chain, fits, "params"),
            self._insertions(chain, fits),
            self._removals(chain, fits),
        )

    def _fitting(self, layers: Sequence[Layer]) -> Fits:
        @cache
        def fits(state: State, place: int) -> bool:
            if place == len(layers):
                return self.may_end(state)
            moves = self._moves(state)
            return layers[place] in moves and fits(moves[layers[place]], place + 1)

        return fits

    def _replacements(self, chain: Chain, fits: Fits, differs: Differs) -> Iterator[Edit]:
        for place, old in enumerate(chain.layers):
            for after, choices in self._others(chain.states[place], old, differs):
                if fits(after, place + 1):
                    yield place, place + 1, choices

    def _insertions(self, chain: Chain, fits: Fits) -> Iterator[Edit]:
        """Beside equal layers only before the first: the other places give the same chain."""
        if len(chain.layers) == self.depth[1]:
            return
        for place, state in enumerate(chain.states):
            before = chain.layers[place - 1] if place else None
            for after, choices in self._others(state, before, "anything"):
                if fits(after, place):
                    yield place, place, choices

    def _removals(self, chain: Chain, fits: Fits) -> Iterator[Edit]:
        """Of equal layers in a row only the first."""
        if len(chain.layers) == self.depth[0]:
            return
        for place, old in enumerate(chain.layers):
            if not (place and chain.layers[place - 1] == old) and fits(chain.states[place], place + 1):
                yield place, place + 1, ((),)

    def _find_others(
        self, state: State, layer: Layer | None, differs: Differs
    ) -> tuple[tuple[State, Choices], ...]:
        """What may come in `state` and differs from `layer` in this, by the state behind it."""
        found: dict[State, list[tuple[Layer, ...]]] = {}
        for new, after in self._moves(state).items():
            same_op = layer is not None and new[0] == layer[0]
            if new != layer and (differs == "anything" or same_op == (differs == "params")):
                found.setdefault(after, []).append((new,))
        return tuple([(after, tuple(choices)) for after, choices in found.items()])

    def _edited(
        self, arch: Architecture, chain: Chain, start: int, stop: int, new: tuple[Layer, ...]
    ) -> Architecture:
        """A layer that becomes another keeps its id; a layer more takes a new one."""
        ids = [node.id for node in arch.graph()]
        if stop == start:
            ids.insert(start + 1, _fresh_id(ids))
        elif not new:
            del ids[start + 1]
        return self._write((*chain.layers[:start], *new, *chain.layers[stop:]), ids)

    # --- crossover ---------------------------------------------------------------------------------

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """One-point: the first layers of `a` and the last ones of `b`, which get new ids.

        Uniform over all pairs of cuts that give a chain of this space, those that give a parent included.
        """
        head, tail = self._chain(a), self._chain(b)
        fits = self._fitting(tail.layers)
        cuts = [
            (i, j)
            for i, state in enumerate(head.states)
            for j in range(len(tail.layers) + 1)
            if self.depth[0] <= i + len(tail.layers) - j <= self.depth[1] and fits(state, j)
        ]
        i, j = cuts[int(rng.integers(len(cuts)))]
        ids = [node.id for node in a.graph()]
        fresh = _fresh_id([*ids, *(node.id for node in b.graph())])
        taken = tail.layers[j:]
        return self._write((*head.layers[:i], *taken), (*ids[: i + 1], *range(fresh, fresh + len(taken))))

    # --- the written form --------------------------------------------------------------------------

    def check_form(self, arch: Architecture) -> None:
        """Raises `InvalidArchitecture`, naming node and rule, unless `arch` is a chain of this space."""
        self._chain(arch)

    def _write(self, layers: Sequence[Layer], ids: Sequence[int]) -> Architecture:
        """The architecture of these layers; `ids` are those of the input and of each layer."""
        nodes = [Node(ids[0], INPUT)]
        for place, (op, params) in enumerate(layers):
            nodes.append(Node(ids[place + 1], op, (ids[place],), params))
        return Architecture(self.name, (("net", Graph(tuple(nodes))),))

    def _chain(self, arch: Architecture) -> Chain:
        if arch.params:
            raise InvalidArchitecture(f"its parameters must be (), but got {dict(arch.params)}")
        return self._chains(arch.graph())

    def _read(self, graph: Graph) -> Chain:
        first, *nodes = graph
        if first != Node(first.id, INPUT):
            raise InvalidArchitecture(
                f"node {first.id} ({first.op}): the first node must be the input, without parameters"
            )
        layers: list[Layer] = []
        states = [self.start()]
        before = first.id
        for node in nodes:
            if node.inputs != (before,):
                raise InvalidArchitecture(
                    f"node {node.id} ({node.op}): a layer must read node {before}, but got {node.inputs}"
                )
            before = node.id
            moves = self._moves(states[-1])
            written = (node.op, node.params)
            if written not in moves or not _same_types(node.params, self._own[written][1]):
                raise InvalidArchitecture(f"node {node.id} ({node.op}): {self.refusal(states[-1], written)}")
            layers.append(self._own[written])
            states.append(moves[written])
        last = graph.output
        if not self.depth[0] <= len(layers) <= self.depth[1]:
            raise InvalidArchitecture(
                f"node {last.id} ({last.op}): a chain must have {self._depth_text()} layers, but it ends "
                f"after {len(layers)}"
            )
        if not self.may_end(states[-1]):
            raise InvalidArchitecture(f"node {last.id} ({last.op}): a chain must not end here")
        return Chain(tuple(layers), tuple(states))

    # --- views -------------------------------------------------------------------------------------

    def encode(self, arch: Architecture) -> NDArray[np.float64]:
        """For each place one-hot op and one-hot value of each parameter; 0 beyond the end.

        `float64[d]`, d = largest depth x (ops + values of all parameters).
        """
        width, columns = self._columns()
        encoded = np.zeros((self.depth[1], width))
        for place, written in enumerate(self._chain(arch).layers):
            encoded[place, columns[written]] = 1.0
        return encoded.ravel()

    def _find_columns(self) -> tuple[int, Mapping[Layer, Sequence[int]]]:
        """Number of columns a place, and those in which each layer has a 1."""
        states = seen = {self.start(): None}
        found: dict[Layer, None] = {}
        for _ in range(self.depth[1]):
            moves = [self._moves(state) for state in states]
            found |= dict.fromkeys(known for of_state in moves for known in of_state)
            states = {after: None for of_state in moves for after in of_state.values() if after not in seen}
            seen = seen | states
        names: dict[Hashable, int] = {}
        columns = {
            (op, params): [names.setdefault(name, len(names)) for name in (op, *params)]
            for op, params in found
        }
        return len(names), columns


def _located(bounds: Sequence[int], rank: int) -> tuple[int, int]:
    """The first place whose bound is above `rank`, and how far above the bound before it the rank is."""
    place = bisect_right(bounds, rank)
    return place, rank - bounds[place - 1] if place else rank


def _below(total: int, rng: np.random.Generator) -> int:
    """A uniform integer from 0 to `total` - 1, however large."""
    bits = (total - 1).bit_length()
    count = -(-bits // 8)
    while True:
        drawn = int.from_bytes(rng.bytes(count), "little") >> (8 * count - bits)
        if drawn < total:
            return drawn


def _fresh_id(ids: Sequence[int]) -> int:
    return 1 + max(ids)


def _same_types(written: Params, own: Params) -> bool:
    """Whether equal parameters are of equal types: 1, 1.0 and True are three."""
    return written is own or all(type(a) is type(b) for (_, a), (_, b) in zip(written, own, strict=True))
