"""A chain of blocks: variable depth, block type, kernel, width, expansion, places of strides, optional skips.

    input -> stem 3x3 -> block -> block (+ skip) -> … -> head 1x1 -> mean over space -> linear

A skip is an "add" (or "gated_add") node behind a block that also reads an earlier value of the same shape.
What a change makes impossible is repaired: a skip whose shapes no longer agree is dropped, a stride too many
becomes 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node, Scalar
from nas.protocols import NothingToChange
from search_spaces.fragments import Shape
from search_spaces.graph_space import INPUT, GraphSpace, Site
from search_spaces.operations import BLOCKS, CLASSIFIER, JOINS, STEM, WIDE_CLASSIFIER
from search_spaces.plan import Placed


@dataclass(frozen=True, slots=True)
class Block:
    """One place of the chain, and the skip behind it.

    Attributes:
        id, add_id: ids of the block's node and of its add node (None without a skip).
        skip: the value that is added: -1 for the stem's output, else what place `skip` passes on.
        kernel, expand: None where the op has none.
    """

    id: int
    op: str
    width: int
    stride: int
    kernel: int | None = None
    expand: int | None = None
    add_id: int | None = None
    skip: int | None = None


Chain = tuple[Block, ...]
Change = Callable[[Chain], Iterator[Chain]]


class ChainSpace(GraphSpace):
    """Chains over a choice of blocks.

    Args:
        input_shape: (channels, height, width), or (channels, length) for series.
        classes: number of classes.
        depth: smallest and largest number of blocks.
        ops: block types, of conv, sepconv, mbconv, identity (a 1x1 projection where the shape changes).
        kernels: kernel sizes, odd.
        widths: output channels of a block.
        expands: expansion factors of MBConv blocks.
        strides: largest number of blocks with stride 2 (no more than there are blocks).
        skips: whether a block may be followed by an addition of an earlier value of the same shape.
        gated: whether what is skipped comes through a batch norm of its own. A skip that a child has more
            than its parent then starts at zero, and keeps the function.
        stem: channels of the stem.
        head: channels of the 1x1 convolution before the pooling; 0 for none.

    Raises:
        ValueError: an argument is senseless, or the input is too small for so many strides.
    """

    name = "chain"
    operations: ClassVar = {**BLOCKS, "add": JOINS["add"], "gated_add": JOINS["gated_add"]}
    axes = (1, 2)

    def __init__(
        self,
        input_shape: Shape = (1, 8, 8),
        classes: int = 10,
        depth: Sequence[int] = (2, 6),
        ops: Sequence[str] = ("conv", "sepconv", "mbconv", "identity"),
        kernels: Sequence[int] = (3, 5),
        widths: Sequence[int] = (8, 16, 24, 32),
        expands: Sequence[int] = (2, 4),
        strides: int = 2,
        skips: bool = True,
        gated: bool = False,
        stem: int = 16,
        head: int = 64,
    ) -> None:
        super().__init__(input_shape, classes)
        if any(type(number) is not int for number in (*depth, strides, stem, head)):
            raise ValueError(
                "depth, strides, stem and head must be integers, but got "
                f"{depth=}, {strides=}, {stem=}, {head=}"
            )
        if len(depth) != 2 or not 1 <= depth[0] <= depth[1]:
            raise ValueError(f"`1 <= smallest depth <= largest depth` must hold, but got depth={depth}")
        if not ops or set(ops) - set(BLOCKS) or len(set(ops)) < len(ops):
            raise ValueError(f"ops must be different ones of {sorted(BLOCKS)}, but got {list(ops)}")
        for choice, values in (("kernels", kernels), ("widths", widths), ("expands", expands)):
            if (
                not values
                or len(set(values)) < len(values)
                or any(type(v) is not int or v < 1 for v in values)
            ):
                raise ValueError(f"{choice} must be different positive integers, but got {list(values)}")
        if any(kernel % 2 == 0 for kernel in kernels):
            raise ValueError(f"kernels must be odd, but got {list(kernels)}")
        if stem < 1 or head < 0:
            raise ValueError(f"`stem >= 1 and head >= 0` must hold, but got {stem=}, {head=}")
        strides = min(strides, depth[1])
        if strides < 0 or 2**strides > min(self.input_shape[1:]):
            raise ValueError(
                f"`0 <= strides` and `2^strides <= {min(self.input_shape[1:])}` (the input's smaller side) "
                f"must hold, but got {strides=}"
            )
        self.depth = (depth[0], depth[1])
        self.ops, self.kernels = tuple(ops), tuple(kernels)
        self.widths, self.expands = tuple(widths), tuple(expands)
        self.strides, self.skips, self.stem, self.head = strides, skips, stem, head
        self.join = "gated_add" if gated else "add"

    def size(self) -> int:
        """Number of written forms."""

        @cache
        def tails(depth: int, strides: int, values: frozenset[tuple[int, int]]) -> int:
            """Ways to go on with so many blocks and strides left; `values`: how many of each width to add."""
            if not depth:
                return 1
            total = 0
            for width in self.widths:
                ways = sum(
                    prod(len(choices) for name, choices in self._choices(op) if name != "width")
                    for op in self.ops
                )
                for stride in (1, 2)[: 1 + (strides > 0)]:
                    known = dict(values) if stride == 1 else {}
                    sources = known.get(width, 0) if self.skips else 0
                    known[width] = known.get(width, 0) + 1
                    rest = tails(depth - 1, strides - (stride == 2), frozenset(known.items()))
                    total += ways * (1 + sources) * rest
            return total

        depths = range(self.depth[0], self.depth[1] + 1)
        return sum(tails(depth, self.strides, frozenset({(self.stem, 1)})) for depth in depths)

    # --- sampling ----------------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Depth, number and places of strides, each block's choices, then each skip: uniform in turn."""
        depth = int(rng.integers(self.depth[0], self.depth[1] + 1))
        count = int(rng.integers(min(self.strides, depth) + 1))
        strided = set(rng.choice(depth, size=count, replace=False).tolist())
        chain: Chain = tuple(
            self._random_block(rng, place + 1, 2 if place in strided else 1) for place in range(depth)
        )
        for place in range(depth):
            sources = [None, *self._skip_sources(chain, place)]
            skip = sources[int(rng.integers(len(sources)))]
            chain = self._with_skip(chain, place, skip)
        return self._write(chain)

    def _random_block(self, rng: np.random.Generator, node_id: int, stride: int) -> Block:
        op = self.ops[int(rng.integers(len(self.ops)))]
        block = Block(node_id, op, self.widths[int(rng.integers(len(self.widths)))], stride)
        for name, values in self._choices(op):
            if name != "width":
                block = _set(block, name, values[int(rng.integers(len(values)))])
        return block

    def _choices(self, op: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        """What is free to choose in a block of this type, stride aside."""
        for name, values in (("width", self.widths), ("kernel", self.kernels), ("expand", self.expands)):
            if name in BLOCKS[op].params:
                yield name, values

    # --- one change --------------------------------------------------------------------------------

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """One change: its kind uniform among the kinds that apply, then uniform within the kind."""
        chain = self._read(arch)
        kinds = list(self._changes().values())
        for kind in rng.permutation(len(kinds)):
            found = list(kinds[kind](chain))
            if found:
                return self._write(found[int(rng.integers(len(found)))], arch)
        raise NothingToChange("the space holds one architecture only: there is nothing to change")

    def neighbors(self, arch: Architecture) -> list[Architecture]:
        """All architectures one change away, as `mutate` makes them."""
        chain = self._read(arch)
        return [self._write(other, arch) for change in self._changes().values() for other in change(chain)]

    def _changes(self) -> dict[str, Change]:
        return {
            "op": self._change_op,
            "width": lambda chain: self._change_choice(chain, "width"),
            "kernel": lambda chain: self._change_choice(chain, "kernel"),
            "expand": lambda chain: self._change_choice(chain, "expand"),
            "stride": self._change_stride,
            "skip": self._change_skip,
            "add_layer": self._add_layer,
            "remove_layer": self._remove_layer,
        }

    def _change_op(self, chain: Chain) -> Iterator[Chain]:
        """Another type; kernel and expansion are kept where both types have them, else the smallest."""
        for place, block in enumerate(chain):
            for op in self.ops:
                if op != block.op:
                    other = replace(block, op=op, kernel=None, expand=None)
                    for name, values in self._choices(op):
                        other = _set(other, name, getattr(block, name) or min(values))
                    yield self._put(chain, place, other)

    def _change_choice(self, chain: Chain, name: str) -> Iterator[Chain]:
        for place, block in enumerate(chain):
            for choice, values in self._choices(block.op):
                for value in values if choice == name else ():
                    if value != getattr(block, name):
                        yield self._put(chain, place, _set(block, name, value))

    def _change_stride(self, chain: Chain) -> Iterator[Chain]:
        """A stride is added or removed, or moves to the block before or behind."""
        for place, block in enumerate(chain):
            if block.stride == 2:
                without = self._put(chain, place, replace(block, stride=1))
                yield without
                for other in (place - 1, place + 1):
                    if 0 <= other < len(chain) and chain[other].stride == 1:
                        yield self._put(without, other, replace(without[other], stride=2))
            elif sum(b.stride == 2 for b in chain) < self.strides:
                yield self._put(chain, place, replace(block, stride=2))

    def _change_skip(self, chain: Chain) -> Iterator[Chain]:
        for place, block in enumerate(chain):
            for source in (None, *self._skip_sources(chain, place)):
                if source != block.skip:
                    yield self._with_skip(chain, place, source)

    def _add_layer(self, chain: Chain) -> Iterator[Chain]:
        """A block that keeps the shape where the widths allow it, of any type and kernel."""
        if len(chain) == self.depth[1]:
            return
        for place in range(len(chain) + 1):
            width = chain[place - 1].width if place else self.stem
            width = width if width in self.widths else min(self.widths, key=lambda w: abs(w - width))
            for op in self.ops:
                blocks = [Block(_fresh_id(chain), op, width, 1)]
                for name, values in self._choices(op):
                    if name != "width":
                        blocks = [_set(b, name, value) for b in blocks for value in values]
                for block in blocks:
                    yield self._shifted(chain, place, (block,), place)

    def _remove_layer(self, chain: Chain) -> Iterator[Chain]:
        if len(chain) > self.depth[0]:
            for place in range(len(chain)):
                yield self._shifted(chain, place, (), place + 1)

    # --- crossover ---------------------------------------------------------------------------------

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """One-point: the first blocks of `a` and the last ones of `b`, which get new ids."""
        head, tail = self._read(a), self._read(b)
        smallest, largest = self.depth
        cuts = [
            (i, j)
            for i in range(len(head) + 1)
            for j in range(len(tail) + 1)
            if smallest <= i + len(tail) - j <= largest
        ]
        i, j = cuts[int(rng.integers(len(cuts)))]
        fresh = _fresh_id((*head, *tail))
        taken = []
        for block in tail[j:]:
            skip = None if block.skip is None else block.skip - j + i if block.skip >= j else block.skip
            taken.append(replace(block, id=fresh, add_id=fresh + 1, skip=skip))
            fresh += 2
        return self._write(self._repaired((*head[:i], *taken)), a)

    # --- shapes and repairs ------------------------------------------------------------------------

    def _shapes(self, chain: Chain) -> list[tuple[int, int]]:
        """(width, number of strides so far) behind the stem (entry 0) and behind each block."""
        shapes = [(self.stem, 0)]
        for block in chain:
            shapes.append((block.width, shapes[-1][1] + (block.stride == 2)))
        return shapes

    def _skip_sources(self, chain: Chain, place: int) -> list[int]:
        """The values that can be added behind the block at `place`."""
        if not self.skips:
            return []
        shapes = self._shapes(chain)
        return [source for source in range(-1, place) if shapes[source + 1] == shapes[place + 1]]

    def _with_skip(self, chain: Chain, place: int, skip: int | None) -> Chain:
        block = chain[place]
        add_id = block.add_id if skip is not None else None
        if skip is not None and add_id is None:
            add_id = _fresh_id(chain)
        return self._put(chain, place, replace(block, skip=skip, add_id=add_id))

    def _put(self, chain: Chain, place: int, block: Block) -> Chain:
        return self._repaired((*chain[:place], block, *chain[place + 1 :]))

    def _shifted(self, chain: Chain, start: int, new: Chain, end: int) -> Chain:
        """`chain` with the blocks from `start` to `end` replaced; later skips follow what they read."""
        moved = len(new) - (end - start)
        later = tuple(
            replace(b, skip=b.skip if b.skip is None or b.skip < start else max(b.skip + moved, -1))
            for b in chain[end:]
        )
        return self._repaired((*chain[:start], *new, *later))

    def _repaired(self, chain: Chain) -> Chain:
        """Strides beyond the largest number become 1, skips between unequal shapes go."""
        strides = 0
        blocks = []
        for block in chain:
            strides += block.stride == 2
            blocks.append(replace(block, stride=1) if block.stride == 2 and strides > self.strides else block)
        repaired = tuple(blocks)
        return tuple(
            block
            if block.skip is not None and block.skip in self._skip_sources(repaired, place)
            else replace(block, skip=None, add_id=None)
            if block.skip is not None or block.add_id is not None
            else block
            for place, block in enumerate(repaired)
        )

    # --- the written form --------------------------------------------------------------------------

    def _write(self, chain: Chain, parent: Architecture | None = None) -> Architecture:
        """The architecture of `chain`; its input node keeps the id it has in `parent`, if that is free."""
        input_id = parent.graph().nodes[0].id if parent else 0
        if input_id in {node_id for block in chain for node_id in (block.id, block.add_id)}:
            input_id = _fresh_id(chain)
        nodes = [Node(input_id, INPUT)]
        ends = [input_id]  # id of the value behind the stem, then behind each block
        for block in chain:
            params: dict[str, Scalar] = {name: getattr(block, name) for name in BLOCKS[block.op].params}
            nodes.append(Node(block.id, block.op, (ends[-1],), tuple(sorted(params.items()))))
            ends.append(block.id)
            if block.skip is not None and block.add_id is not None:
                nodes.append(Node(block.add_id, self.join, (block.id, ends[block.skip + 1])))
                ends[-1] = block.add_id
        return Architecture(self.name, (("net", Graph(tuple(nodes))),))

    def _read(self, arch: Architecture) -> Chain:
        """Raises `InvalidArchitecture`, naming the node, unless `arch` is written as `_write` writes it."""
        first, *nodes = arch.graph()
        if first != Node(first.id, INPUT):
            raise InvalidArchitecture(
                f"node {first.id} ({first.op}): the first node must be the input, without parameters"
            )
        ends = [first.id]
        chain: list[Block] = []
        for node in nodes:
            if node.op == self.join:
                chain[-1:] = [self._read_skip(chain, node, ends)]
                ends[-1] = node.id
            else:
                chain.append(self._read_block(node, ends[-1]))
                ends.append(node.id)
        if not self.depth[0] <= len(chain) <= self.depth[1]:
            raise InvalidArchitecture(
                f"a chain must have {self.depth[0]} to {self.depth[1]} blocks, but got {len(chain)}"
            )
        if sum(block.stride == 2 for block in chain) > self.strides:
            raise InvalidArchitecture(f"at most {self.strides} blocks must have stride 2")
        return tuple(chain)

    def _read_block(self, node: Node, before: int) -> Block:
        if node.op not in self.ops:
            raise InvalidArchitecture(
                f"node {node.id}: a block must be one of {', '.join(self.ops)}, but got {node.op!r}"
            )
        if node.inputs != (before,):
            raise InvalidArchitecture(
                f"node {node.id} ({node.op}): a block must read node {before}, but got {node.inputs}"
            )
        if {name for name, _ in node.params} != set(BLOCKS[node.op].params):
            raise InvalidArchitecture(
                f"node {node.id} ({node.op}): its parameters must be {BLOCKS[node.op].params}, but got "
                f"{dict(node.params)}"
            )
        allowed = {**dict(self._choices(node.op)), "stride": (1, 2)}
        for name, value in node.params:
            if type(value) is not int or value not in allowed[name]:
                raise InvalidArchitecture(
                    f"node {node.id} ({node.op}): {name} must be one of {allowed[name]}, but got {value!r}"
                )
        return Block(node.id, node.op, **{name: int(value) for name, value in node.params})

    def _read_skip(self, chain: list[Block], node: Node, ends: list[int]) -> Block:
        if not self.skips:
            raise InvalidArchitecture(f"node {node.id} ({node.op}): this space has no skips")
        if not chain or len(node.inputs) != 2 or node.inputs[0] != chain[-1].id or ends[-1] != chain[-1].id:
            raise InvalidArchitecture(
                f"node {node.id} ({node.op}): a skip must follow a block and read it first, but got "
                f"{node.inputs}"
            )
        if node.params:
            raise InvalidArchitecture(f"node {node.id} ({node.op}): it must have no parameters")
        if node.inputs[1] not in ends[:-1]:
            raise InvalidArchitecture(
                f"node {node.id} ({node.op}): a skip must read the end of an earlier place, one of "
                f"{ends[:-1]}, but got {node.inputs[1]}"
            )
        return replace(chain[-1], add_id=node.id, skip=ends.index(node.inputs[1]) - 1)

    # --- views -------------------------------------------------------------------------------------

    def encode(self, arch: Architecture) -> NDArray[np.float64]:
        """For each place one-hot op, width, kernel, expansion, the stride and one-hot skip source; 0 beyond.

        `float64[d]`, d = largest depth x (choices + 1 + largest depth).
        """
        rows = []
        for place, block in enumerate(self._read(arch)):
            row = [float(block.op == op) for op in self.ops]
            row += [float(block.width == width) for width in self.widths]
            row += [float(block.kernel == kernel) for kernel in self.kernels]
            row += [float(block.expand == expand) for expand in self.expands]
            row += [float(block.stride == 2)]
            row += [
                float(block.skip is not None and place - block.skip == 1 + i) for i in range(self.depth[1])
            ]
            rows.append(row)
        encoded = np.zeros((self.depth[1], len(rows[0])))
        encoded[: len(rows)] = rows
        return encoded.ravel()

    def check_form(self, arch: Architecture) -> None:
        self._read(arch)

    def site(self, graph: str) -> Site:
        return Site(((self.stem, *self.input_shape[1:]),))

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        stem = self.place(plan, "stem", STEM, -1, kernel=3, stride=1, width=self.stem)
        net = self.place_graph(plan, "net", arch.graph(), (stem,))
        if self.head:
            self.place(plan, "head", WIDE_CLASSIFIER, net, width=self.head, classes=self.classes)
        else:
            self.place(plan, "head", CLASSIFIER, net, classes=self.classes)
        return plan


def _set(block: Block, name: str, value: int) -> Block:
    changed: dict[str, Any] = {name: value}
    return replace(block, **changed)


def _fresh_id(chain: Chain) -> int:
    return 1 + max((max(block.id, block.add_id or 0) for block in chain), default=0)
