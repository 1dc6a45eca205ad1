"""The diff of two programs: for every tensor of the child, which tensor of the parent it holds, and where.

Whether the child computes what its parent does follows from it, and is part of the result.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Channels = NDArray[np.int64]
"""For each channel of the child's tensor the parent's channel it holds, or `NEW`."""

NEW = -1
Widening = Literal["zero", "replicate"]

ZERO_AT_ZERO = frozenset({"relu", "relu6", "hard_swish", "silu", "gelu", "tanh"})
"""Activations that leave zeros as they are."""
NON_NEGATIVE = frozenset({"relu", "relu6", "sigmoid", "hard_sigmoid"})
ACTIVATIONS = ZERO_AT_ZERO | NON_NEGATIVE
WEIGHTLESS = ACTIVATIONS | {
    "max_pool",
    "avg_pool",
    "global_pool",
    "flatten",
    "shift",
    "resize",
    "narrow",
    "zero",
}
"""Kinds that are the same layer wherever they read the same tensor."""
ZERO_STAYS = ZERO_AT_ZERO | {
    "max_pool",
    "avg_pool",
    "global_pool",
    "flatten",
    "shift",
    "resize",
    "narrow",
    "zero",
}


class Step(Protocol):
    """One layer of a program, as `search_spaces.fragments.Layer` has it: inputs are indices, -1 the input."""

    name: str
    kind: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    bias: bool


Program = Sequence[Step]


@dataclass(frozen=True)
class Held:
    """What a tensor of the child holds of the parent.

    Attributes:
        terms: the parent's tensors, sorted, whose sum it is; empty if it is none.
        channels: see `Channels`; all `NEW` if it is none.
        eval_mode, train_mode: whether the values are equal in that mode, in channels that are not new.
        zero: it is all zeros.
        gate: the new batch norm that it comes through, which can make it zero; "" for none.
    """

    terms: tuple[int, ...]
    channels: Channels
    eval_mode: bool = True
    train_mode: bool = True
    zero: bool = False
    gate: str = ""


@dataclass(frozen=True)
class Copied:
    """A layer with weights of a layer of the parent: which of its output and input channels."""

    parent: str
    out: Channels
    into: Channels


@dataclass(frozen=True)
class Separated:
    """A convolution of the parent as a depthwise and a 1x1 one: which of its output and input channels."""

    parent: str
    pointwise: str
    out: Channels
    into: Channels


@dataclass(frozen=True)
class Inheritance:
    """What a child takes over.

    Attributes:
        copied: layer of the child -> where its weights come from.
        separated: new depthwise layer -> the convolution that it and a 1x1 one behind it stand for.
        identity: new layers that start as the identity.
        silent: new batch norms that start with gamma = beta = 0.
        kept: copied layers that give, in eval mode, what the parent's layer gives, in all their channels.
        eval_mode, train_mode: whether the child computes what the parent does, in that mode.
        share: of the child's parameters, how many come from the parent, 0 to 1.
    """

    copied: Mapping[str, Copied] = field(default_factory=dict)
    separated: Mapping[str, Separated] = field(default_factory=dict)
    identity: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    eval_mode: bool = False
    train_mode: bool = False
    share: float = 0.0


def diff(
    child: Program,
    parent: Program,
    features: int,
    importance: Mapping[str, NDArray[np.float64]],
    rng: np.random.Generator,
    widening: Widening = "zero",
) -> Inheritance:
    """What the child's layers take from the parent's; nothing is copied yet, `share` is 0.

    Args:
        features: channels of the network's input.
        importance: for layers of the parent, how much each output channel matters; others count alike.
        rng: chooses which channels are replicated.
        widening: "zero" for fresh new channels with zero outgoing weights, or "replicate".
    """
    walk = _Walk(child, parent, features, importance, rng, widening)
    while True:  # at most once for each batch norm of the child
        try:
            return walk.result()
        except _Silence as request:
            walk.silent.add(request.layer)


class _Silence(Exception):
    """A new batch norm must start at zero; the walk begins anew."""

    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        self.layer = layer


class _Walk:
    """One pass over the child's layers; `silent` is all that it keeps from the pass before."""

    def __init__(
        self,
        child: Program,
        parent: Program,
        features: int,
        importance: Mapping[str, NDArray[np.float64]],
        rng: np.random.Generator,
        widening: Widening,
    ) -> None:
        self.child, self.parent, self.features = child, parent, features
        self.importance, self.rng, self.widening = importance, rng, widening
        self.silent: set[str] = set()
        self.named = {step.name: index for index, step in enumerate(parent)}
        staying = {step.name for step in child}
        self.lost = [index for index, step in enumerate(parent) if step.name not in staying]
        self.terms: dict[int, tuple[int, ...]] = {-1: (-1,)}
        self.same: dict[tuple[object, ...], int] = {}
        for index, step in enumerate(parent):
            added = (term for source in step.inputs for term in self.terms[source])
            self.terms[index] = tuple(sorted(added)) if step.kind == "add" else (index,)
            first = self.same.setdefault(self._deed(step, self.terms[step.inputs[0]]), index)
            if (
                step.kind in WEIGHTLESS and parent[first].shape == step.shape
            ):  # done twice, it gives one tensor
                self.terms[index] = self.terms[first]
        self.groups = _channel_groups(child)
        self.maps: dict[tuple[int, int, int], Channels] = {}

    @staticmethod
    def _deed(step: Step, terms: tuple[int, ...]) -> tuple[object, ...]:
        """What a weightless layer does to which tensor."""
        return (step.kind, step.kernel, step.stride, step.shape[1:], terms)

    def result(self) -> Inheritance:
        self.copied: dict[str, Copied] = {}
        self.separated: dict[str, Separated] = {}
        self.halves: dict[str, tuple[str, int, Held]] = {}
        self.identity: set[str] = set()
        self.held: dict[int, Held] = {-1: Held((-1,), np.arange(self.features))}
        for index, step in enumerate(self.child):
            self.held[index] = self._held(index, step)
        last = self.held[len(self.child) - 1]
        same = last.terms == self.terms[len(self.parent) - 1] and np.array_equal(
            last.channels, np.arange(self.parent[-1].shape[0])
        )
        return Inheritance(
            self.copied,
            self.separated,
            frozenset(self.identity),
            frozenset(self.silent),
            frozenset(step.name for index, step in enumerate(self.child) if self._keeps(index, step)),
            same and last.eval_mode,
            same and last.train_mode,
        )

    def _keeps(self, index: int, step: Step) -> bool:
        held = self.held[index]
        return step.name in self.copied and bool(held.terms) and held.eval_mode and NEW not in held.channels

    def _held(self, index: int, step: Step) -> Held:
        inputs = [self.held[source] for source in step.inputs]
        old = self.named.get(step.name)
        if old is not None and (self.parent[old].kind, len(self.parent[old].shape)) != (
            step.kind,
            len(step.shape),
        ):
            old = None
        if step.kind in ("conv", "linear"):
            return self._weighted(index, step, inputs[0], old)
        if step.kind == "batch_norm":
            return self._batch_norm(step, inputs[0], old)
        if step.kind == "add":
            return self._add(step, inputs, old)
        if step.kind == "concat":
            return self._concat(step, inputs, old)
        if step.kind == "scale":
            return self._scale(step, inputs, old)
        return self._weightless(step, inputs[0], old)

    # --- which of the parent's tensors the input is ---

    def _aligned(self, held: Held, old: int) -> Held | None:
        """What `held` holds of the tensor that the parent's layer `old` reads; None if it is another one."""
        source = self.parent[old].inputs[0]
        if held.terms == self.terms[source]:
            return held
        if held.terms and source >= 0 and self.parent[source].kind == "concat":  # a slice is left of it
            offset = 0
            for part in self.parent[source].inputs:
                if self.terms[part] == held.terms:
                    channels = np.where(held.channels == NEW, NEW, held.channels + offset)
                    return replace(held, terms=(source,), channels=channels)
                offset += self._width(part)
        return None

    def _width(self, tensor: int) -> int:
        """Channels of one of the parent's tensors."""
        return self.features if tensor < 0 else self.parent[tensor].shape[0]

    def _by_position(self, held: Held, tensor: int) -> Held:
        """As if `held` were the parent's tensor, channel by channel in order, with other values."""
        places = np.arange(len(held.channels))
        channels = np.where(places < self._width(tensor), places, NEW)
        return Held(self.terms[tensor], channels, False, False)

    def _read(self, held: Held, old: int) -> Held:
        found = self._aligned(held, old)
        return self._by_position(held, self.parent[old].inputs[0]) if found is None else found

    def _resized(self, index: int, step: Step, old: int) -> Channels:
        """Which of the parent's channels each channel of a layer takes when it became wider or narrower."""
        before, after = self.parent[old].shape[0], step.shape[0]
        if before == after:
            return np.arange(after)
        group = self.groups[index] if after < before else -1
        known = self.maps.get((before, after, group))
        if known is None:
            if after < before:
                known = np.sort(np.argsort(-self._group_importance(group, before), kind="stable")[:after])
            elif self.widening == "zero":
                known = np.concatenate([np.arange(before), np.full(after - before, NEW)])
            else:
                known = np.concatenate([np.arange(before), self.rng.integers(before, size=after - before)])
            self.maps[before, after, group] = known
        return known

    def _group_importance(self, group: int, width: int) -> NDArray[np.float64]:
        total = np.zeros(width)
        for index, step in enumerate(self.child):
            of_layer = self.importance.get(step.name)
            if self.groups[index] == group and of_layer is not None and len(of_layer) == width:
                total += of_layer
        return total

    # --- layers ---

    def _weighted(self, index: int, step: Step, x: Held, old: int | None) -> Held:
        width, after = len(x.channels), step.shape[0]
        fresh = Held((), np.full(after, NEW), zero=x.zero and step.kind == "conv" and not step.bias)
        depthwise = step.groups > 1 and step.groups == width == after
        if old is None:
            half = self._separated(index, step, x, depthwise)
            if half is not None:
                return half
            if x.terms and width == after and step.groups in (1, width) and set(step.stride) <= {1}:
                self.identity.add(step.name)
                return replace(x, gate="")
            return fresh
        before = self.parent[old]
        old_width = self._width(before.inputs[0])
        was_depthwise = before.groups > 1 and before.groups == old_width == before.shape[0]
        if depthwise != was_depthwise or (
            not depthwise and step.groups > 1 and (before.groups, old_width) != (step.groups, width)
        ):
            return fresh
        held = self._read(x, old)
        into = held.channels
        if step.kind == "linear" and len(into) != width:
            return fresh
        if depthwise:
            out = into
        elif step.groups > 1 and not np.array_equal(into, np.arange(width)):
            return fresh
        else:
            out = self._resized(index, step, old)
        whole = depthwise or len(np.unique(into[into != NEW])) == old_width
        kept = (
            whole
            and step.stride == before.stride
            and all(k >= was for k, was in zip(step.kernel, before.kernel, strict=True))
            and (step.dilation == before.dilation or set(before.kernel) == {1})
        )
        self.copied[step.name] = Copied(before.name, out, into)
        return Held((old,), out, kept and held.eval_mode, kept and held.train_mode)

    def _reads(self, old: int, kind: str, x: Held) -> bool:
        """Whether the parent's layer `old` is of that kind and reads the tensor that `x` holds."""
        step = self.parent[old]
        return step.kind == kind and self.terms[step.inputs[0]] == x.terms

    def _separated(self, index: int, step: Step, x: Held, depthwise: bool) -> Held | None:
        """What a new depthwise or 1x1 convolution gives where both stand for a lost one of their node."""
        node = node_of(step.name)
        if depthwise:
            for old in self.lost:
                before = self.parent[old]
                alike = (before.groups, before.stride, before.dilation) == (1, step.stride, step.dilation)
                if self._reads(old, "conv", x) and node_of(before.name) == node and alike:
                    self.halves[node] = (step.name, old, x)
                    return Held((), np.full(step.shape[0], NEW))
            return None
        if node not in self.halves or step.groups > 1 or set(step.kernel) != {1}:
            return None
        name, old, read = self.halves.pop(node)
        out = self._resized(index, step, old)
        self.separated[name] = Separated(self.parent[old].name, step.name, out, read.channels)
        return Held((old,), out, False, False)

    def _batch_norm(self, step: Step, x: Held, old: int | None) -> Held:
        if step.name in self.silent:
            return Held((), np.full(len(x.channels), NEW), zero=True, gate=step.name)
        if old is not None and x.terms:
            held = self._read(x, old)
            self.copied[step.name] = Copied(self.parent[old].name, held.channels, held.channels)
            return replace(held, terms=(old,), zero=False, gate="")
        if old is None and x.terms:
            same = next((i for i in self.lost if self._reads(i, "batch_norm", x)), None)
            if same is not None:  # the parent's own, under another name
                self.copied[step.name] = Copied(self.parent[same].name, x.channels, x.channels)
                return replace(x, terms=(same,), gate="")
            self.identity.add(step.name)
            return replace(x, train_mode=False, gate=step.name)
        return Held((), np.full(len(x.channels), NEW), zero=x.zero, gate=step.name)

    def _weightless(self, step: Step, x: Held, old: int | None) -> Held:
        gate = x.gate if step.kind in ZERO_STAYS else ""
        fresh = Held((), np.full(step.shape[0], NEW), zero=x.zero and step.kind in ZERO_STAYS, gate=gate)
        if not x.terms:
            return fresh
        same = self.same.get(self._deed(step, x.terms))
        if same is not None:
            held, old = x, same
        elif old is None:
            redundant = step.kind in ("relu", "relu6") and self._non_negative(x.terms)
            return x if redundant else fresh
        else:
            held = replace(self._read(x, old), eval_mode=False, train_mode=False)
        channels = held.channels
        source = self._width(self.parent[old].inputs[0])
        if step.kind == "flatten":
            size = step.shape[0] // len(channels)
            if size * source != self.parent[old].shape[0]:
                return self._by_position(fresh, old)
            spread = channels[:, None] * size + np.arange(size)
            channels = np.where(channels[:, None] == NEW, NEW, spread).ravel()
        elif step.kind == "narrow":
            channels = channels[: step.shape[0]]
            channels = np.where(channels < self.parent[old].shape[0], channels, NEW)
        return replace(held, terms=self.terms[old], channels=channels)

    def _non_negative(self, terms: tuple[int, ...]) -> bool:
        for term in terms:
            if term < 0:
                return False
            step = self.parent[term]
            if step.kind in NON_NEGATIVE:
                continue
            if step.kind not in WEIGHTLESS | {"concat"} or step.kind in ACTIVATIONS:
                return False
            if not all(self._non_negative(self.terms[source]) for source in step.inputs):
                return False
        return True

    def _add(self, step: Step, inputs: list[Held], old: int | None) -> Held:
        live = [held for held in inputs if not held.zero]
        if not live:
            return replace(inputs[0], gate=inputs[0].gate if len({held.gate for held in inputs}) == 1 else "")
        wanted = Counter(self.terms[old]) if old is not None else None
        gated = [held for held in live if held.gate]
        firm = [held for held in live if not held.gate]
        known = Counter(term for held in firm for term in held.terms)
        if gated and all(held.terms for held in firm) and (known == wanted if wanted is not None else firm):
            raise _Silence(gated[0].gate)
        channels = live[0].channels
        if all(held.terms and np.array_equal(held.channels, channels) for held in live):
            return Held(
                tuple(sorted(term for held in live for term in held.terms)),
                channels,
                all(held.eval_mode for held in live),
                all(held.train_mode for held in live),
            )
        blank = Held((), np.full(len(channels), NEW))
        return blank if old is None else self._by_position(blank, old)

    def _concat(self, step: Step, inputs: list[Held], old: int | None) -> Held:
        if old is None:
            kept = next((held for held in inputs if held.terms and not held.gate), None)
            parts = [held.channels if held is kept else np.full(len(held.channels), NEW) for held in inputs]
            channels = np.concatenate(parts)
            return Held((), channels) if kept is None else replace(kept, channels=channels)
        offsets: dict[tuple[int, ...], list[int]] = {}
        offset = 0
        for source in self.parent[old].inputs:
            offsets.setdefault(self.terms[source], []).append(offset)
            offset += self._width(source)
        parts = []
        eval_mode = train_mode = True
        for held in inputs:
            places = offsets.get(held.terms, [])
            if not places:
                parts.append(np.full(len(held.channels), NEW))
                continue
            parts.append(np.where(held.channels == NEW, NEW, held.channels + places.pop(0)))
            eval_mode &= held.eval_mode
            train_mode &= held.train_mode
        return Held((old,), np.concatenate(parts), eval_mode, train_mode)

    def _scale(self, step: Step, inputs: list[Held], old: int | None) -> Held:
        x, by = inputs
        if old is not None:
            sources = [self.terms[source] for source in self.parent[old].inputs]
            exact = [x.terms, by.terms] == sources and np.array_equal(x.channels, by.channels)
            if x.terms == sources[0]:
                return replace(
                    x,
                    terms=(old,),
                    eval_mode=exact and x.eval_mode and by.eval_mode,
                    train_mode=exact and x.train_mode and by.train_mode,
                )
        return Held((), np.full(len(x.channels), NEW), zero=x.zero, gate=x.gate)


def node_of(layer: str) -> str:
    """The node that a layer belongs to: "net.n3.block.conv" is of "net.n3".

    Example:
        >>> node_of("normal.0.n3.depthwise.conv"), node_of("head.linear")
        ('normal.0.n3', 'head')
    """
    parts = layer.split(".")
    places = [i for i, part in enumerate(parts) if re.fullmatch(r"n\d+", part)]
    return ".".join(parts[: places[-1] + 1] if places else parts[:-1])


def _channel_groups(program: Program) -> dict[int, int]:
    """For each tensor a number that it shares with those whose channels must stay the same ones."""
    group = {-1: -1}

    def root(tensor: int) -> int:
        while group[tensor] != tensor:
            tensor = group[tensor]
        return tensor

    for index, step in enumerate(program):
        group[index] = index
        keeps = step.kind not in ("conv", "linear", "concat", "flatten", "narrow") or (
            step.kind == "conv" and step.groups == step.shape[0] > 1
        )
        if keeps:
            for source in step.inputs:
                group[root(source)] = root(index)
    return {tensor: root(tensor) for tensor in group}
