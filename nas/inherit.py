"""A child's weights from its parent's: Net2Net and network morphisms, read off the diff of two programs.

Mutation knows nothing of weights: it keeps the ids of the nodes that stay, so parent and child share the
names of their layers. One walk over the child's layers finds, for every tensor of the child, which tensor
of the parent it holds, channel by channel, and the weights follow:

- the same layer is copied; where it became wider, new channels either start fresh and meet zero weights, or
  replicate old ones, whose outgoing weights are divided (Net2WiderNet, Chen et al. 2016, section 3.1);
- a larger kernel is the old one in a frame of zeros;
- a new branch into a sum ends in a batch norm with gamma = 0, so it adds nothing, in eval and train mode;
- a new slice of a concat meets zero weights;
- a new layer in series is the identity where it can be (Net2DeeperNet, section 3.2): with batch norm in eval
  mode only;
- what became narrower keeps its most important channels (largest L1 norm, Li et al. 2017);
- everything else starts fresh.

Whether the child computes what its parent does is known from the walk, and part of its result.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

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
class Inheritance:
    """What a child takes over.

    Attributes:
        copied: layer of the child -> where its weights come from.
        identity: new layers that start as the identity.
        silent: new batch norms that start with gamma = beta = 0.
        eval_mode, train_mode: whether the child computes what the parent does, in that mode.
        share: of the child's parameters, how many come from the parent, 0 to 1.
    """

    copied: Mapping[str, Copied] = field(default_factory=dict)
    identity: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    eval_mode: bool = False
    train_mode: bool = False
    share: float = 0.0


# --- the walk ----------------------------------------------------------------------------------------


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
            frozenset(self.identity),
            frozenset(self.silent),
            same and last.eval_mode,
            same and last.train_mode,
        )

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

    def _batch_norm(self, step: Step, x: Held, old: int | None) -> Held:
        if step.name in self.silent:
            return Held((), np.full(len(x.channels), NEW), zero=True, gate=step.name)
        if old is not None and x.terms:
            held = self._read(x, old)
            self.copied[step.name] = Copied(self.parent[old].name, held.channels, held.channels)
            return replace(held, terms=(old,), zero=False, gate="")
        if old is None and x.terms:
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


# --- the weights -------------------------------------------------------------------------------------


def inherit(
    child: nn.Module,
    parent: nn.Module,
    rng: np.random.Generator,
    widening: Widening = "zero",
    noise: float = 0.0,
) -> Inheritance:
    """Gives `child` what it can take over from `parent`, in place; the parent is left as it is.

    Args:
        child, parent: networks with `program` and `features` (see `search_spaces.modules.Network`); between
            others all tensors of the same name and shape are copied.
        widening: see `diff`.
        noise: standard deviation of what is added to replicated weights, relative to theirs: without it
            replicas stay equal for ever.

    Returns:
        What was taken over, and whether the child computes the same (before noise).
    """
    weights, old = child.state_dict(), parent.state_dict()
    programs = getattr(child, "program", None), getattr(parent, "program", None)
    features: Any = getattr(parent, "features", None)
    if programs[0] is None or programs[1] is None:
        return _inherit_by_name(child, weights, old)
    importance = {
        name.removesuffix(".weight"): tensor.flatten(1).abs().sum(1).double().cpu().numpy()
        for name, tensor in old.items()
        if tensor.ndim > 1
    }
    found = diff(programs[0], programs[1], features, importance, rng, widening)
    child.load_state_dict(carried(weights, old, found))
    for step in programs[0]:
        module = child.get_submodule(step.name)
        if step.name in found.identity:
            _make_identity(module)
        elif step.name in found.silent:
            module.get_parameter("weight").data.zero_()
    if noise:
        _add_noise(child, found, noise, rng)
    counted = sum(
        _overlap(weights[f"{name}.{kind}"], old[f"{copied.parent}.{kind}"], copied)
        for name, copied in found.copied.items()
        for kind in ("weight", "bias")
        if f"{name}.{kind}" in weights and f"{copied.parent}.{kind}" in old
    )
    return replace(found, share=counted / max(1, sum(p.numel() for p in child.parameters())))


def carried(fresh: Mapping[str, Tensor], old: Mapping[str, Tensor], found: Inheritance) -> dict[str, Tensor]:
    """The child's tensors: the parent's where they are inherited, `fresh` elsewhere.

    The same map carries an optimizer's momentum: `fresh` is then zeros, and both hold momentum by parameter.
    """
    tensors = {name: tensor.clone() for name, tensor in fresh.items()}
    for layer, copied in found.copied.items():
        for name in [n for n in tensors if n.rpartition(".")[0] == layer]:
            source = old.get(f"{copied.parent}.{name.rpartition('.')[2]}")
            if source is not None:
                _carry(tensors[name], source.to(tensors[name].device), copied)
    return tensors


def _carry(target: Tensor, source: Tensor, copied: Copied) -> None:
    """Writes what `target` inherits into it: a vector by channel, or weights by output and input channel."""
    import torch

    if target.ndim == 0:
        target.copy_(source)
        return
    out = torch.from_numpy(copied.out)
    rows = torch.nonzero(out != NEW).ravel()
    if target.ndim == 1:
        target[rows] = source[out[rows]]
        return
    frame = tuple(
        slice((new - min(new, was)) // 2, (new - min(new, was)) // 2 + min(new, was))
        for new, was in zip(target.shape[2:], source.shape[2:], strict=True)
    )
    core = tuple(
        slice((was - min(new, was)) // 2, (was - min(new, was)) // 2 + min(new, was))
        for new, was in zip(target.shape[2:], source.shape[2:], strict=True)
    )
    block = source[(slice(None), slice(None), *core)]
    target[rows] = 0.0  # the frame of a larger kernel, and what meets new channels
    if target.shape[1] != len(copied.into):  # grouped: the inputs of each group stay
        place: Any = (rows, slice(None), *frame)
        target[place] = block[out[rows]]
        return
    into = torch.from_numpy(copied.into)
    columns = torch.nonzero(into != NEW).ravel()
    replicas = torch.bincount(into[columns], minlength=source.shape[1]).clamp(min=1)
    shared = replicas[into[columns]].to(block.dtype).view(1, -1, *(1 for _ in frame))
    values = block[out[rows]][:, into[columns]] / shared
    place = (rows[:, None], columns[None, :], *frame)
    target[place] = values


def _overlap(target: Tensor, source: Tensor, copied: Copied) -> int:
    """How many numbers of `target` come from `source`."""
    rows = int((copied.out != NEW).sum())
    if target.ndim == 1:
        return rows
    columns = int((copied.into != NEW).sum()) if target.shape[1] == len(copied.into) else target.shape[1]
    sides = (min(new, was) for new, was in zip(target.shape[2:], source.shape[2:], strict=True))
    return rows * columns * math.prod(sides)


def _make_identity(module: nn.Module) -> None:
    """Makes a square convolution or linear layer, or in eval mode a batch norm, pass its input on."""
    import torch
    from torch import nn

    with torch.no_grad():
        weight = module.get_parameter("weight")
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            weight.fill_((1 + module.eps) ** 0.5)
            return
        weight.zero_()
        centre = tuple(side // 2 for side in weight.shape[2:])
        for channel in range(weight.shape[0]):
            weight[(channel, channel if weight.shape[1] > 1 else 0, *centre)] = 1.0
        if getattr(module, "bias", None) is not None:
            module.get_parameter("bias").zero_()


def _add_noise(child: nn.Module, found: Inheritance, noise: float, rng: np.random.Generator) -> None:
    """Tells replicas apart."""
    import torch

    for layer, copied in found.copied.items():
        weight = child.get_submodule(layer).get_parameter("weight")
        if weight.ndim == 1:
            continue
        twins = np.isin(
            copied.out, [c for c, n in Counter(copied.out.tolist()).items() if n > 1 and c != NEW]
        )
        rows = torch.from_numpy(np.flatnonzero(twins))
        drawn = torch.from_numpy(rng.standard_normal((len(rows), *weight.shape[1:])))
        with torch.no_grad():
            weight[rows] += (noise * weight[rows].std() if len(rows) else 0.0) * drawn.to(weight.dtype)


def _inherit_by_name(child: nn.Module, weights: dict[str, Tensor], old: Mapping[str, Tensor]) -> Inheritance:
    """Tensors of the same name and shape, where nothing is known of the layers."""
    same = {name for name, tensor in weights.items() if name in old and old[name].shape == tensor.shape}
    child.load_state_dict({name: old[name] if name in same else weights[name] for name in weights})
    params = dict(child.named_parameters())
    share = sum(params[name].numel() for name in same & set(params)) / max(
        1, sum(p.numel() for p in params.values())
    )
    return Inheritance(share=share)
